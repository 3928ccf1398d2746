package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

// owned are objects with owners, and the flag that names one.
type owned struct {
	entities
	id flag
}

func ownedGroup() owned { return owned{groupsOf(), flagOfGroup()} }
func ownedApp() owned {
	return owned{appsOf(), flagID("Application id, object id or display name")}
}
func ownedPrincipal() owned {
	return owned{principalsOf(), flagID("Application id, service principal name or object id")}
}

// command makes a command on the owners of one; at is where they are.
func (k owned) command(a *app, name, short string, change bool, run func(ctx context.Context, s *client.Session, at string, in values) error) *cobra.Command {
	flags := []flag{k.id}
	if change {
		flags = append(flags, flag{name: "owner-object-id", required: true, usage: "Object id of the owner"})
	}
	return leafFor(name, short, flags, func(ctx context.Context, in values) error {
		if change && !isGUID(in.text("owner-object-id")) {
			return clientError{"argument --owner-object-id: it must be an object id (sally ad user show --id NAME --query id, or of a service principal: sally ad sp show --id APPID --query id)"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		doc, err := k.find(ctx, s, in.text(k.id.name))
		if err != nil {
			return err
		}
		return run(ctx, s, k.path+"/"+url.PathEscape(text(doc, "id"))+"/owners", in)
	})
}

func (k owned) list(a *app) *cobra.Command {
	return k.command(a, "list", "List owners.", false, func(ctx context.Context, s *client.Session, at string, _ values) error {
		items, err := s.List(ctx, graph(http.MethodGet, at))
		if err != nil {
			return err
		}
		return a.print(items)
	})
}

// add leaves an owner as he is, as az does.
func (k owned) add(a *app, short string) *cobra.Command {
	return k.command(a, "add", short, true, func(ctx context.Context, s *client.Session, at string, in values) error {
		items, err := s.List(ctx, graph(http.MethodGet, at))
		if err != nil {
			return err
		}
		for _, item := range items {
			doc, err := object(item)
			if err != nil || strings.EqualFold(text(doc, "id"), in.text("owner-object-id")) {
				return err
			}
		}
		c := graph(http.MethodPost, at+"/$ref")
		c.Body = map[string]any{"@odata.id": s.Server().URL() + "/v1.0/directoryObjects/" + in.text("owner-object-id")}
		return do(ctx, s, c, nil)
	})
}

func (k owned) remove(a *app) *cobra.Command {
	return k.command(a, "remove", "Remove an owner.", true, func(ctx context.Context, s *client.Session, at string, in values) error {
		return do(ctx, s, graph(http.MethodDelete, at+"/"+in.text("owner-object-id")+"/$ref"), nil)
	})
}

// ownerCommands returns the commands about who owns what and who is in what.
func (a *app) ownerCommands() map[string]*cobra.Command {
	const told = " An owner of a group is told and shown, and has no right by it: directory roles say who may change a group."
	add := ownedGroup().add(a, "Add an owner.")
	add.Long = add.Short + told
	return map[string]*cobra.Command{
		"ad group owner list": ownedGroup().list(a), "ad group owner add": add, "ad group owner remove": ownedGroup().remove(a),
		"ad app owner list": ownedApp().list(a), "ad app owner add": ownedApp().add(a, "Add an owner, who may change the application's secrets."), "ad app owner remove": ownedApp().remove(a),
		"ad sp owner list": ownedPrincipal().list(a), "ad signed-in-user list-owned-objects": a.ownedObjects(),
		"ad user get-member-groups": a.userMemberGroups(), "ad group get-member-groups": a.groupMemberGroups(),
	}
}

func (a *app) ownedObjects() *cobra.Command {
	return leafFor("list-owned-objects", "List what the signed-in user owns.", []flag{{name: "type", short: "t", usage: "Only this type: group, application, servicePrincipal"}}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		items, err := s.List(ctx, graph(http.MethodGet, "/me/ownedObjects"))
		if err != nil {
			return err
		}
		kept := []json.RawMessage{}
		for _, item := range items {
			doc, err := object(item)
			if err != nil {
				return err
			}
			kind, wanted := text(doc, "@odata.type"), in.text("type")
			if wanted == "" || strings.EqualFold(kind, wanted) || strings.EqualFold(kind, "#microsoft.graph."+wanted) {
				kept = append(kept, item)
			}
		}
		return a.print(kept)
	})
}

func flagSecurityEnabled() flag {
	return flag{name: "security-enabled-only", kind: 'b', usage: "Only security groups; every group is one"}
}

// memberGroups asks for the groups that something is in, through other groups too.
func memberGroups(ctx context.Context, s *client.Session, at string, in values) ([]string, error) {
	c := graph(http.MethodPost, at+"/getMemberGroups")
	c.Body = map[string]any{"securityEnabledOnly": in.on("security-enabled-only")}
	var answer struct {
		Value []string `json:"value"`
	}
	err := do(ctx, s, c, &answer)
	return answer.Value, err
}

func (a *app) userMemberGroups() *cobra.Command {
	return leafFor("get-member-groups", "List the groups that a user is in, through other groups too.", []flag{flagID("Object id or user principal name"), flagSecurityEnabled()}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		id, err := urlValue("id", s, in)
		if err != nil {
			return err
		}
		ids, err := memberGroups(ctx, s, "/users/"+id, in)
		if err != nil {
			return err
		}
		names := map[string]any{}
		for some := range slices.Chunk(ids, 1000) { // as many as the server takes at once
			c := graph(http.MethodPost, "/directoryObjects/getByIds")
			c.Body = map[string]any{"ids": some, "types": []string{"group"}}
			var found struct {
				Value []map[string]any `json:"value"`
			}
			if err := do(ctx, s, c, &found); err != nil {
				return err
			}
			for _, g := range found.Value {
				names[text(g, "id")] = g["displayName"]
			}
		}
		list := []any{}
		for _, g := range ids {
			list = append(list, map[string]any{"id": g, "displayName": names[g]})
		}
		return a.print(list)
	})
}

func (a *app) groupMemberGroups() *cobra.Command {
	return leafFor("get-member-groups", "List the groups that a group is in, through other groups too.", []flag{flagOfGroup(), flagSecurityEnabled()}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		doc, err := groupsOf().find(ctx, s, in.text("group"))
		if err != nil {
			return err
		}
		ids, err := memberGroups(ctx, s, "/groups/"+url.PathEscape(text(doc, "id")), in)
		if err != nil {
			return err
		}
		return a.print(listOfTexts(ids))
	})
}

// listOfTexts prints an empty list as [], not as nothing.
func listOfTexts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
