package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/scope"
)

const (
	definitionsURL = "/providers/Microsoft.Authorization/roleDefinitions"
	assignmentsURL = "/providers/Microsoft.Authorization/roleAssignments"
)

func flagRole() flag { return flag{name: "role", usage: "Name or id of the role"} }
func flagScope(usage string) flag {
	return flag{name: "scope", usage: usage}
}

// assignment is a role for a principal at a scope, as a person names them.
type assignment struct {
	principal   string // object id
	kind        string // User, Group or ServicePrincipal; empty when unknown
	role        string // name, GUID or id
	scope       string
	name        string // GUID of the assignment; made here when empty
	description string
}

// isGUID reports whether s is a GUID, in any case.
func isGUID(s string) bool {
	_, ok := guid.Parse(s)
	return ok
}

// scopePath checks a scope and returns what goes before "/providers/...".
func scopePath(text string) (string, error) {
	id, err := scope.Parse(strings.TrimSpace(text))
	if err != nil { // as the server would say it
		return "", &client.APIError{Status: http.StatusBadRequest, Code: "InvalidResourceId", Message: sentence(err)}
	}
	return strings.TrimSuffix(id.String(), "/"), nil
}

// scopeOf chooses the scope: --scope, --resource-group, the subscription.
func scopeOf(s *client.Session, in values) (string, error) {
	if in.text("scope") != "" {
		if in.text("resource-group") != "" {
			return "", usageError{"usage error: --scope and --resource-group go one without the other"}
		}
		return scopePath(in.text("scope"))
	}
	subscription, err := subscriptionOf(s)
	if err != nil {
		return "", err
	}
	path := "/subscriptions/" + subscription
	if g := in.text("resource-group"); g != "" {
		path += "/resourceGroups/" + g
	}
	return scopePath(path)
}

// roleID finds a role by name, GUID or id.
func roleID(ctx context.Context, s *client.Session, at, role string) (string, error) {
	if strings.HasPrefix(role, "/") {
		return role, nil
	}
	if isGUID(role) {
		base := ""
		if parts := strings.Split(at, "/"); len(parts) > 2 && parts[1] == "subscriptions" {
			base = strings.Join(parts[:3], "/")
		}
		return base + definitionsURL + "/" + strings.ToLower(role), nil
	}
	c := call(http.MethodGet, at+definitionsURL)
	c.Query = url.Values{"$filter": {"roleName eq '" + strings.ReplaceAll(role, "'", "''") + "'"}}
	found, err := s.List(ctx, c)
	if err != nil {
		return "", err
	}
	var one struct {
		ID string `json:"id"`
	}
	if len(found) == 0 || json.Unmarshal(found[0], &one) != nil {
		return "", fault.New(fault.NotFound, "RoleNotFound", "Role '%s' doesn't exist.", role).WithRemedy("Run: sally role definition list -o table")
	}
	return one.ID, nil
}

// roleAtScope looks whether both were given, or neither, before anything is made.
func roleAtScope(in values) error {
	if (in.text("role") == "") != (in.text("scope") == "") {
		return usageError{"usage error: --role and --scope go together"}
	}
	return nil
}

// assign writes a role assignment. One that exists already is returned as it is.
func (a *app) assign(ctx context.Context, s *client.Session, want assignment) (map[string]any, error) {
	at, err := scopePath(want.scope)
	if err != nil {
		return nil, err
	}
	role, err := roleID(ctx, s, at, want.role)
	if err != nil {
		return nil, err
	}
	if want.name == "" {
		if want.name, err = guid.New(a.cfg.Rand); err != nil {
			return nil, err
		}
	}
	properties := map[string]any{"roleDefinitionId": role, "principalId": want.principal}
	if want.kind != "" {
		properties["principalType"] = want.kind
	}
	if want.description != "" {
		properties["description"] = want.description
	}
	body, err := s.Do(ctx, client.Call{Method: http.MethodPut, Path: at + assignmentsURL + "/" + url.PathEscape(want.name), Body: map[string]any{"properties": properties}})
	var exists *client.APIError
	if errors.As(err, &exists) && exists.Code == "RoleAssignmentExists" {
		return existing(ctx, s, at, role, want.principal, err)
	}
	if err != nil {
		return nil, err
	}
	doc, err := object(body)
	if err != nil {
		return nil, err
	}
	shownAssignment(doc)
	nulls(doc, "condition", "conditionVersion", "delegatedManagedIdentityResourceId", "description", "systemData")
	return doc, nil
}

// shownAssignment is a role assignment as az shows it.
func shownAssignment(doc map[string]any) map[string]any {
	flatten(doc)
	for _, m := range []string{"condition", "conditionVersion", "delegatedManagedIdentityResourceId", "description"} {
		if doc[m] == nil {
			delete(doc, m)
		}
	}
	azTimes(doc, "createdOn", "updatedOn")
	return doc
}

func existing(ctx context.Context, s *client.Session, at, role, principal string, conflict error) (map[string]any, error) {
	c := call(http.MethodGet, at+assignmentsURL)
	c.Query = url.Values{"$filter": {"principalId eq '" + principal + "'"}}
	all, err := s.List(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, item := range all {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		shownAssignment(doc)
		if strings.EqualFold(text(doc, "scope"), at) && strings.EqualFold(last(text(doc, "roleDefinitionId")), last(role)) && strings.EqualFold(text(doc, "principalId"), principal) {
			return doc, decorate(ctx, s, at, []map[string]any{doc})
		}
	}
	return nil, conflict
}

func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func assigneeFlags() []flag {
	return []flag{
		{name: "assignee", usage: "User principal name, application id or object id"}, {name: "assignee-object-id", usage: "Object id: nothing is looked up"},
		{name: "assignee-principal-type", usage: "User, Group or ServicePrincipal"},
	}
}

func assignmentColumns() []output.Column {
	return columns("Principal=principalName || principalId", "Role=roleDefinitionName", "Scope=scope")
}

func (a *app) assignmentCreate() *cobra.Command {
	role := flagRole()
	role.required = true
	flags := append(assigneeFlags(), role, flagScope("Scope: this or --resource-group"), optional(flagGroup()),
		flag{name: "name", short: "n", usage: "GUID of the assignment"}, flag{name: "description", usage: "Description"})
	cmd := leafFor("create", "Give somebody a role.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if in.text("scope") == "" && in.text("resource-group") == "" {
			return usageError{"the following arguments are required: --scope"}
		}
		want := assignment{role: in.text("role"), name: in.text("name"), description: in.text("description")}
		if want.scope, err = scopeOf(s, in); err != nil {
			return err
		}
		if want.principal, want.kind, err = a.assignee(ctx, s, in); err != nil {
			return err
		}
		doc, err := a.assign(ctx, s, want)
		if err != nil {
			return err
		}
		return a.print(doc)
	})
	cmd.Example = "  sally role assignment create --role \"Virtual Machine Administrator Login\" --assignee alice@example.com --scope $(sally group show -n GROUP --query id -o tsv)"
	return cmd
}

// assignee resolves who is meant, as az does.
func (a *app) assignee(ctx context.Context, s *client.Session, in values) (id, kind string, err error) {
	kind = in.text("assignee-principal-type")
	if kind != "" && !slices.Contains([]string{"User", "Group", "ServicePrincipal"}, kind) {
		return "", "", usageError{"argument --assignee-principal-type: choose User, Group or ServicePrincipal"}
	}
	if id = in.text("assignee-object-id"); id != "" {
		if in.text("assignee") != "" {
			return "", "", clientError{"usage error: --assignee and --assignee-object-id go one without the other"}
		}
		if !isGUID(id) {
			return "", "", usageError{"argument --assignee-object-id: it must be a GUID"}
		}
		return strings.ToLower(id), kind, nil
	}
	if in.text("assignee") == "" {
		return "", "", clientError{"usage error: --assignee STRING | --assignee-object-id GUID"}
	}
	if kind != "" {
		return "", "", usageError{"usage error: --assignee-principal-type goes with --assignee-object-id"}
	}
	return resolve(ctx, s, in.text("assignee"))
}

// resolve finds a principal in the directory: a user by name, a service
// principal by one of its names, anything by object id.
func resolve(ctx context.Context, s *client.Session, who string) (id, kind string, err error) {
	quoted := strings.ReplaceAll(who, "'", "''")
	if strings.Contains(who, "@") {
		if id, err = firstID(ctx, s, "/users", "userPrincipalName eq '"+quoted+"'"); id != "" || err != nil {
			return id, "User", err
		}
	}
	if id, err = firstID(ctx, s, "/servicePrincipals", "servicePrincipalNames/any(c:c eq '"+quoted+"')"); id != "" || err != nil {
		return id, "ServicePrincipal", err
	}
	if isGUID(who) {
		known, err := objects(ctx, s, []string{who})
		if err != nil {
			return "", "", err
		}
		if o, ok := known[strings.ToLower(who)]; ok {
			return strings.ToLower(who), o.kind, nil
		}
	}
	return "", "", fault.New(fault.NotFound, "PrincipalNotFound", "Cannot find user or service principal in graph database for '%s'.", who).
		WithRemedy("Check the name (sally ad user list), or give --assignee-object-id with --assignee-principal-type.")
}

func firstID(ctx context.Context, s *client.Session, path, filter string) (string, error) {
	found, err := s.List(ctx, client.Call{Surface: client.Graph, Method: http.MethodGet, Path: path, Query: url.Values{"$filter": {filter}}})
	if err != nil || len(found) == 0 {
		return "", err
	}
	var one struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(found[0], &one); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	return one.ID, nil
}

// known is what an object id stands for.
type known struct{ name, kind string }

// objects looks ids up, at most a thousand in one call.
func objects(ctx context.Context, s *client.Session, ids []string) (map[string]known, error) {
	found := map[string]known{}
	for chunk := range slices.Chunk(ids, 1000) {
		var answer struct {
			Value []struct {
				Type        string `json:"@odata.type"`
				ID          string `json:"id"`
				UPN         string `json:"userPrincipalName"`
				DisplayName string `json:"displayName"`
				AppID       string `json:"appId"`
			} `json:"value"`
		}
		c := client.Call{Surface: client.Graph, Method: http.MethodPost, Path: "/directoryObjects/getByIds",
			Body: map[string]any{"ids": chunk, "types": []string{"user", "group", "servicePrincipal", "directoryObjectPartnerReference"}}}
		if err := do(ctx, s, c, &answer); err != nil {
			return nil, err
		}
		for _, o := range answer.Value {
			k := known{name: o.DisplayName, kind: "Group"}
			switch o.Type {
			case "#microsoft.graph.user":
				k = known{name: o.UPN, kind: "User"}
			case "#microsoft.graph.servicePrincipal":
				k = known{name: o.AppID, kind: "ServicePrincipal"}
			}
			found[strings.ToLower(o.ID)] = k
		}
	}
	return found, nil
}

func (a *app) assignmentList() *cobra.Command {
	flags := []flag{
		assigneeFlags()[0], assigneeFlags()[1], flagRole(), flagScope("Scope; the subscription by default"), optional(flagGroup()),
		{name: "all", kind: 'b', usage: "All of the subscription"}, {name: "include-inherited", kind: 'b', usage: "Also assignments at scopes above"},
		{name: "include-groups", kind: 'b', usage: "Also assignments to groups of the assignee"},
	}
	return leafFor("list", "List role assignments.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if in.on("all") && (in.text("scope") != "" || in.text("resource-group") != "") {
			return clientError{"usage error: --all is of the whole subscription; leave --scope and --resource-group out"}
		}
		list, err := assignments(ctx, s, in)
		if err != nil {
			return err
		}
		return a.print(list, assignmentColumns()...)
	})
}

// assignments lists what the flags select, with the names of principals and
// roles.
func assignments(ctx context.Context, s *client.Session, in values) ([]map[string]any, error) {
	at, err := scopeOf(s, in)
	if err != nil {
		return nil, err
	}
	filter := "atScope()"
	if in.on("all") {
		filter = ""
	}
	if in.text("assignee") != "" || in.text("assignee-object-id") != "" {
		id, err := listedFor(ctx, s, in)
		if err != nil {
			return nil, err
		}
		if filter = "principalId eq '" + id + "'"; in.on("include-groups") {
			filter = "assignedTo('" + id + "')"
		}
	}
	c := call(http.MethodGet, at+assignmentsURL)
	if filter != "" {
		c.Query = url.Values{"$filter": {filter}}
	}
	items, err := s.List(ctx, c)
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, item := range items {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		shownAssignment(doc)
		if in.on("all") || in.on("include-inherited") || strings.EqualFold(strings.TrimSuffix(text(doc, "scope"), "/"), at) {
			list = append(list, doc)
		}
	}
	if err := decorate(ctx, s, at, list); err != nil {
		return nil, err
	}
	role := in.text("role")
	return slices.DeleteFunc(list, func(doc map[string]any) bool {
		return role != "" && !strings.EqualFold(role, text(doc, "roleDefinitionName")) && !strings.EqualFold(last(role), last(text(doc, "roleDefinitionId")))
	}), nil
}

// listedFor is the object id of whose assignments are listed.
func listedFor(ctx context.Context, s *client.Session, in values) (string, error) {
	who, id := in.text("assignee"), in.text("assignee-object-id")
	if who != "" && id != "" {
		return "", clientError{"Usage error: Provide only one of --assignee or --assignee-object-id."}
	}
	if id != "" {
		if !isGUID(id) {
			return "", usageError{"argument --assignee-object-id: it must be a GUID"}
		}
		return strings.ToLower(id), nil
	}
	id, _, err := resolve(ctx, s, who)
	return id, err
}

// decorate adds the names of roles and, where the directory may be read, of
// principals.
func decorate(ctx context.Context, s *client.Session, at string, list []map[string]any) error {
	definitions, err := s.List(ctx, call(http.MethodGet, at+definitionsURL))
	if err != nil {
		return err
	}
	roles := map[string]string{}
	for _, item := range definitions {
		doc, err := object(item)
		if err != nil {
			return err
		}
		roles[strings.ToLower(text(doc, "name"))] = text(doc, "properties", "roleName")
	}
	ids := []string{}
	for _, doc := range list {
		if id := text(doc, "principalId"); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	people := map[string]known{}
	if len(ids) > 0 {
		var api *client.APIError
		if people, err = objects(ctx, s, ids); err != nil && !errors.As(err, &api) {
			return err
		}
	}
	for _, doc := range list {
		doc["roleDefinitionName"] = roles[strings.ToLower(last(text(doc, "roleDefinitionId")))]
		doc["principalName"] = people[strings.ToLower(text(doc, "principalId"))].name
	}
	return nil
}

func (a *app) assignmentDelete() *cobra.Command {
	flags := []flag{
		assigneeFlags()[0], assigneeFlags()[1], flagRole(), flagScope("Scope; the subscription by default"), optional(flagGroup()),
		{name: "ids", kind: 'l', usage: "Ids of assignments"}, {name: "include-inherited", kind: 'b', usage: "Also assignments at scopes above"},
		{name: "yes", short: "y", kind: 'b', usage: "Do not ask for confirmation"},
	}
	return leafFor("delete", "Take roles away.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		ids, err := a.doomed(ctx, s, in)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := do(ctx, s, call(http.MethodDelete, id), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// doomed returns the ids of the assignments to delete.
func (a *app) doomed(ctx context.Context, s *client.Session, in values) ([]string, error) {
	if in.given("ids") {
		var ids []string
		for _, id := range in.list("ids") {
			path, err := scopePath(id)
			if api := (*client.APIError)(nil); errors.As(err, &api) {
				api.Status = http.StatusNotFound // there is nothing of that id
			}
			if err != nil {
				return nil, err
			}
			ids = append(ids, path)
		}
		return ids, nil
	}
	if in.text("assignee") == "" && in.text("assignee-object-id") == "" && in.text("role") == "" && in.text("scope") == "" && in.text("resource-group") == "" {
		if err := a.confirm(in.on("yes"), "This will delete all role assignments under the subscription. Are you sure?"); err != nil {
			return nil, err
		}
	}
	list, err := assignments(ctx, s, in)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.NotFound, "NoAssignment", "No matched assignments were found to delete, please provide correct --assignee, --role and --scope.")
	}
	var ids []string
	for _, doc := range list {
		ids = append(ids, text(doc, "id"))
	}
	return ids, nil
}
