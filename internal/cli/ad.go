package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

func graph(method, path string) client.Call {
	return client.Call{Surface: client.Graph, Method: method, Path: path}
}

// entities are kinds of directory objects and how people name them.
type entities struct {
	path string // "/groups"
	what string
	// filters are tried in turn with the name in the place of %.
	filters []string
}

func groupsOf() entities {
	return entities{path: "/groups", what: "Group", filters: []string{"displayName eq '%'"}}
}
func appsOf() entities {
	return entities{path: "/applications", what: "Application", filters: []string{"appId eq '%'", "displayName eq '%'"}}
}
func principalsOf() entities {
	return entities{path: "/servicePrincipals", what: "Service principal", filters: []string{"servicePrincipalNames/any(c:c eq '%')"}}
}

// find returns the one object that name stands for: by object id, else by the
// filters. Two objects of one name are an error, not a choice.
func (k entities) find(ctx context.Context, s *client.Session, name string) (map[string]any, error) {
	for _, f := range k.filters {
		if isGUID(name) && strings.HasPrefix(f, "displayName") {
			continue
		}
		c := graph(http.MethodGet, k.path)
		c.Query = url.Values{"$filter": {strings.ReplaceAll(f, "%", strings.ReplaceAll(name, "'", "''"))}}
		found, err := s.List(ctx, c)
		if err != nil {
			return nil, err
		}
		if len(found) > 1 {
			return nil, fault.New(fault.Conflict, "Ambiguous", "%d objects are named '%s'", len(found), name).WithRemedy("Use the object id.")
		}
		if len(found) == 1 {
			return object(found[0])
		}
	}
	if !isGUID(name) && k.what == "Group" {
		return nil, clientError{"No group matches the name of '" + name + "'"}
	}
	if !isGUID(name) {
		return nil, &client.APIError{Status: http.StatusNotFound, Code: "Request_ResourceNotFound", Message: k.what + " '" + name + "' does not exist."}
	}
	return k.get(ctx, s, name)
}

// get reads one object by its id.
func (k entities) get(ctx context.Context, s *client.Session, id string) (map[string]any, error) {
	answer, err := s.Send(ctx, graph(http.MethodGet, k.path+"/"+url.PathEscape(id)))
	if err != nil {
		return nil, err
	}
	return object(answer.Body)
}

// showOf makes a command that shows one object.
func (a *app) showOf(k entities, name flag) *cobra.Command {
	return leafFor("show", "Show "+article(k.what)+".", []flag{name}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		doc, err := k.find(ctx, s, in.text(name.name))
		if err == nil && text(doc, "@odata.context") == "" {
			doc, err = k.get(ctx, s, text(doc, "id"))
		}
		if err != nil {
			return err
		}
		return a.print(doc)
	})
}

// deleteOf makes a command that deletes one object.
func (a *app) deleteOf(k entities, name flag) *cobra.Command {
	return leafFor("delete", "Delete "+article(k.what)+".", []flag{name}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		doc, err := k.find(ctx, s, in.text(name.name))
		if err != nil {
			return err
		}
		return do(ctx, s, graph(http.MethodDelete, k.path+"/"+url.PathEscape(text(doc, "id"))), nil)
	})
}

func article(what string) string {
	w := strings.ToLower(what)
	if strings.HasPrefix(w, "a") {
		return "an " + w
	}
	return "a " + w
}

func flagOfGroup() flag {
	return flag{name: "group", short: "g", required: true, usage: "Object id or display name of the group"}
}

func flagID(usage string) flag { return flag{name: "id", required: true, usage: usage} }

func (a *app) adGroupShow() *cobra.Command   { return a.showOf(groupsOf(), flagOfGroup()) }
func (a *app) adGroupDelete() *cobra.Command { return a.deleteOf(groupsOf(), flagOfGroup()) }
func (a *app) appShow() *cobra.Command {
	return a.showOf(appsOf(), flagID("Application id, object id or display name"))
}
func (a *app) appDelete() *cobra.Command {
	return a.deleteOf(appsOf(), flagID("Application id, object id or display name"))
}
func (a *app) spShow() *cobra.Command {
	return a.showOf(principalsOf(), flagID("Application id, service principal name or object id"))
}
func (a *app) spDelete() *cobra.Command {
	return a.deleteOf(principalsOf(), flagID("Application id, service principal name or object id"))
}

func flagMember() flag {
	return flag{name: "member-id", required: true, usage: "Object id of the member"}
}

// members makes a command on the members of a group.
func (a *app) members(name, short string, flags []flag, run func(ctx context.Context, s *client.Session, group string, in values) error) *cobra.Command {
	return leafFor(name, short, append([]flag{flagOfGroup()}, flags...), func(ctx context.Context, in values) error {
		if in.given("member-id") && !isGUID(in.text("member-id")) {
			return clientError{"argument --member-id: it must be an object id (of a user: sally ad user show --id NAME --query id, of a group: sally ad group show -g NAME --query id, of a service principal: sally ad sp show --id APPID --query id)"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		doc, err := groupsOf().find(ctx, s, in.text("group"))
		if err != nil {
			return err
		}
		return run(ctx, s, "/groups/"+url.PathEscape(text(doc, "id")), in)
	})
}

// groupCreate makes a group. As with az, one that has both names already is
// returned as it is.
func (a *app) groupCreate() *cobra.Command {
	return leafFor("create", "Create a group.", []flag{
		{name: "display-name", required: true, usage: "Display name"}, {name: "mail-nickname", required: true, usage: "Mail alias"}, {name: "description", usage: "Description"},
		{name: "force", kind: 'b', usage: "Make another group although one has these names"},
		{name: "is-assignable-to-role", kind: 'b', usage: "Directory roles can be assigned to the group; only a Global Administrator makes one"},
	}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if !in.on("force") {
			c := graph(http.MethodGet, "/groups")
			quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
			c.Query = url.Values{"$filter": {"displayName eq " + quote(in.text("display-name")) + " and mailNickname eq " + quote(in.text("mail-nickname"))}}
			found, err := s.List(ctx, c)
			if err != nil {
				return err
			}
			if len(found) > 1 {
				return clientError{"more than one group has this display name and mail nickname already. Delete them first, or make another one: --force"}
			}
			if len(found) > 0 {
				a.warn("A group with the same display name and mail nickname already exists, returning.")
				return a.print(found[0])
			}
		}
		c := graph(http.MethodPost, "/groups")
		c.Body = newGroup(in)
		answer, err := s.Send(ctx, c)
		if err != nil {
			return err
		}
		return a.print(json.RawMessage(answer.Body))
	})
}

func newGroup(in values) any {
	body := map[string]any{"displayName": in.text("display-name"), "mailNickname": in.text("mail-nickname"), "mailEnabled": false, "securityEnabled": true}
	if in.given("description") {
		body["description"] = in.text("description")
	}
	if in.on("is-assignable-to-role") {
		body["isAssignableToRole"] = true
	}
	return body
}

func (a *app) memberAdd() *cobra.Command {
	return a.members("add", "Add a member.", []flag{flagMember()}, func(ctx context.Context, s *client.Session, group string, in values) error {
		c := graph(http.MethodPost, group+"/members/$ref")
		c.Body = map[string]any{"@odata.id": s.Server().URL() + "/v1.0/directoryObjects/" + in.text("member-id")}
		return do(ctx, s, c, nil)
	})
}

func (a *app) memberRemove() *cobra.Command {
	return a.members("remove", "Remove a member.", []flag{flagMember()}, func(ctx context.Context, s *client.Session, group string, in values) error {
		return do(ctx, s, graph(http.MethodDelete, group+"/members/"+in.text("member-id")+"/$ref"), nil)
	})
}

func (a *app) memberList() *cobra.Command {
	return a.members("list", "List members.", nil, func(ctx context.Context, s *client.Session, group string, _ values) error {
		items, err := s.List(ctx, graph(http.MethodGet, group+"/members"))
		if err != nil {
			return err
		}
		return a.print(items)
	})
}

func (a *app) memberCheck() *cobra.Command {
	return a.members("check", "Say whether somebody is a member.", []flag{flagMember()}, func(ctx context.Context, s *client.Session, group string, in values) error {
		c := graph(http.MethodPost, "/directoryObjects/"+url.PathEscape(in.text("member-id"))+"/checkMemberGroups")
		c.Body = map[string]any{"groupIds": []string{group[strings.LastIndexByte(group, '/')+1:]}}
		var answer struct {
			Value []string `json:"value"`
		}
		if err := do(ctx, s, c, &answer); err != nil {
			return err
		}
		return a.print(map[string]any{"value": len(answer.Value) > 0})
	})
}

func (a *app) appCreate() *cobra.Command {
	return leafFor("create", "Register an application.", []flag{
		{name: "display-name", required: true, usage: "Display name"}, {name: "is-fallback-public-client", kind: 'b', usage: "A client without a secret"},
		{name: "public-client-redirect-uris", kind: 'l', usage: "Redirect addresses of a public client"}, {name: "web-redirect-uris", kind: 'l', usage: "Redirect addresses of a client with a secret"},
	}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		body := map[string]any{"displayName": in.text("display-name")}
		if in.given("is-fallback-public-client") {
			body["isFallbackPublicClient"] = in.on("is-fallback-public-client")
		}
		if in.given("public-client-redirect-uris") {
			body["publicClient"] = map[string]any{"redirectUris": in.list("public-client-redirect-uris")}
		}
		if in.given("web-redirect-uris") {
			body["web"] = map[string]any{"redirectUris": in.list("web-redirect-uris")}
		}
		doc, err := a.register(ctx, s, body)
		if err != nil {
			return err
		}
		return a.print(doc)
	})
}

func (a *app) spCreateForRBAC() *cobra.Command {
	cmd := leafFor("create-for-rbac", "Make a service principal with a secret, and give it a role.", []flag{
		{name: "display-name", short: "n", usage: "Display name", aliases: "name"}, flagRole(), {name: "scopes", kind: 'l', usage: "Space-separated scopes for the role"},
		{name: "years", def: "1", usage: "How long the secret is good, in years"},
	}, a.createForRBAC)
	cmd.Example = "  sally ad sp create-for-rbac --name deploy --role \"Virtual Machine User Login\" --scopes /subscriptions/ID/resourceGroups/GROUP"
	return cmd
}

func (a *app) createForRBAC(ctx context.Context, in values) error {
	if (in.text("role") == "") != (len(in.list("scopes")) == 0) {
		return clientError{"usage error: --role and --scopes go together"}
	}
	for _, at := range in.list("scopes") {
		if _, err := scopePath(at); err != nil {
			return err
		}
	}
	if _, err := yearsOf(in); err != nil { // before anything is made
		return err
	}
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	name := in.text("display-name")
	if name == "" {
		name = "sally-cli-" + a.cfg.Now().UTC().Format("2006-01-02-15-04-05")
	}
	app, sp, err := a.registered(ctx, s, name)
	if err != nil {
		return err
	}
	for _, at := range in.list("scopes") {
		if _, err := a.assign(ctx, s, assignment{principal: text(sp, "id"), kind: "ServicePrincipal", role: in.text("role"), scope: at}); err != nil {
			return err
		}
	}
	path := "/applications/" + url.PathEscape(text(app, "id"))
	password, err := a.addPassword(ctx, s, path, in)
	if err != nil {
		return err
	}
	// Of an application that was there already: whoever has another proof of it would have
	// the role, too.
	if err := a.endOthers(ctx, s, []proven{{path, app}, provenPrincipal(sp)}, in); err != nil {
		return err
	}
	a.warn(protectIt)
	return a.print(map[string]any{"appId": text(app, "appId"), "displayName": name, "password": password, "tenant": s.Account().TenantID})
}

const protectIt = "The output includes credentials that you must protect. Be sure that you do not include these credentials in your code or check the credentials into your source control."

// registered is an application of this name with its service principal.
func (a *app) registered(ctx context.Context, s *client.Session, name string) (app, sp map[string]any, err error) {
	if app, err = a.register(ctx, s, map[string]any{"displayName": name}); err != nil {
		return nil, nil, err
	}
	id, err := firstID(ctx, s, "/servicePrincipals", "servicePrincipalNames/any(c:c eq '"+text(app, "appId")+"')")
	if err != nil {
		return nil, nil, err
	}
	if id != "" {
		sp, err = principalsOf().get(ctx, s, id)
		return app, sp, err
	}
	c := graph(http.MethodPost, "/servicePrincipals")
	c.Body = map[string]any{"appId": text(app, "appId")}
	err = do(ctx, s, c, &sp)
	return app, sp, err
}

// addPassword makes a secret for an application and returns its text, which is
// shown this once.
func (a *app) addPassword(ctx context.Context, s *client.Session, path string, in values) (string, error) {
	years, err := yearsOf(in)
	if err != nil {
		return "", err
	}
	credential := map[string]any{"displayName": "rbac", "endDateTime": a.cfg.Now().UTC().AddDate(years, 0, 0).Format("2006-01-02T15:04:05Z")}
	if n := in.text("display-name"); n != "" && in.cmd.Name() == "reset" {
		credential["displayName"] = n
	}
	var made struct {
		Secret string `json:"secretText"`
	}
	c := graph(http.MethodPost, path+"/addPassword")
	c.Body = map[string]any{"passwordCredential": credential}
	if err := do(ctx, s, c, &made); err != nil {
		return "", err
	}
	if made.Secret == "" {
		return "", fault.New(fault.Unavailable, "BadAnswer", "the server made a secret but did not show it").WithRemedy("Run: sally ad sp credential reset --id APPID")
	}
	return made.Secret, nil
}

// yearsOf is how long a secret is good.
func yearsOf(in values) (int, error) {
	years := in.text("years")
	if len(years) != 1 || years[0] < '1' || years[0] > '9' {
		return 0, usageError{"argument --years: choose 1 to 9"}
	}
	return int(years[0] - '0'), nil
}

func (a *app) credentialReset() *cobra.Command {
	cmd := leafFor("reset", "Make a new secret, or register a certificate, and end the old ones.", []flag{
		flagID("Application id, service principal name or object id"), {name: "append", kind: 'b', usage: "Keep the old ones"}, flagCert(),
		{name: "display-name", usage: "Name of the secret or certificate"}, {name: "years", def: "1", usage: "How long it is good, in years"},
	}, a.resetCredential)
	cmd.Example = "  sally ad sp credential reset --id APPID\n  sally ad sp credential reset --id APPID --cert @cert.pem --append"
	return cmd
}

// resetCredential makes the new secret before it ends the old ones: whatever
// fails in between, one of them works.
func (a *app) resetCredential(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	sp, err := principalsOf().find(ctx, s, in.text("id"))
	if err != nil {
		return err
	}
	if sp, err = principalsOf().get(ctx, s, text(sp, "id")); err != nil { // a list does not say what proves it
		return err
	}
	owners := []proven{provenPrincipal(sp)}
	switch owner, err := appsOf().find(ctx, s, text(sp, "appId")); {
	case err == nil:
		owners = []proven{{"/applications/" + url.PathEscape(text(owner, "id")), owner}, owners[0]}
	case !client.IsNotFound(err):
		return err
	}
	var secret any
	if in.given("cert") {
		err = a.setCertificate(ctx, s, sp, in)
	} else {
		secret, err = a.addPassword(ctx, s, owners[0].path, in)
	}
	if err != nil {
		return err
	}
	if err := a.endOthers(ctx, s, owners, in); err != nil {
		return err
	}
	return a.printCredential(s, sp, secret)
}

// printCredential shows a secret; a certificate has none.
func (a *app) printCredential(s *client.Session, sp map[string]any, secret any) error {
	a.warn(protectIt)
	return a.print(map[string]any{"appId": text(sp, "appId"), "password": secret, "tenant": s.Account().TenantID})
}
