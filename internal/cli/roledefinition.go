package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

func (a *app) definitionList() *cobra.Command {
	flags := []flag{{name: "name", short: "n", usage: "Name or GUID of the role"}, flagScope("Scope; the subscription by default"), optional(flagGroup()),
		{name: "custom-role-only", kind: 'b', usage: "Only roles made here"}}
	return leafFor("list", "List role definitions.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		at, err := scopeOf(s, in)
		if err != nil {
			return err
		}
		items, err := s.List(ctx, call(http.MethodGet, at+definitionsURL))
		if err != nil {
			return err
		}
		list := []any{}
		for _, item := range items {
			doc, err := object(item)
			if err != nil {
				return err
			}
			definition(doc)
			n := in.text("name")
			if n != "" && !strings.EqualFold(n, text(doc, "roleName")) && !strings.EqualFold(n, text(doc, "name")) || in.on("custom-role-only") && text(doc, "roleType") != "CustomRole" {
				continue
			}
			list = append(list, doc)
		}
		return a.print(list, definitionColumns()...)
	})
}

func definitionColumns() []output.Column {
	return columns("Name=roleName", "Type=type", "Description=description")
}

// definition is a role definition as az shows it.
func definition(doc map[string]any) map[string]any {
	if properties, ok := doc["properties"].(map[string]any); ok {
		properties["roleType"] = properties["type"]
		delete(properties, "type")
	}
	flatten(doc)
	nulls(doc, "createdBy", "createdOn", "updatedBy", "updatedOn", "systemData")
	azTimes(doc, "createdOn", "updatedOn")
	permissions, _ := doc["permissions"].([]any)
	for _, p := range permissions {
		if one, ok := p.(map[string]any); ok {
			nulls(one, "condition", "conditionVersion")
		}
	}
	return doc
}

// roleFile is what --role-definition holds: the document of az's manual
// ("Name", "Actions", ...), or what "role definition list" prints. Names are
// read in any case.
type roleFile struct {
	Name             string           `json:"name"`
	RoleName         string           `json:"roleName"`
	Description      string           `json:"description"`
	Actions          []string         `json:"actions"`
	NotActions       []string         `json:"notActions"`
	DataActions      []string         `json:"dataActions"`
	NotDataActions   []string         `json:"notDataActions"`
	AssignableScopes []string         `json:"assignableScopes"`
	Permissions      []map[string]any `json:"permissions"`

	ID        any   `json:"id"`
	Type      any   `json:"type"`
	RoleType  any   `json:"roleType"`
	IsCustom  *bool `json:"isCustom"`
	CreatedOn any   `json:"createdOn"`
	CreatedBy any   `json:"createdBy"`
	UpdatedOn any   `json:"updatedOn"`
	UpdatedBy any   `json:"updatedBy"`
	Group     any   `json:"resourceGroup"`
	System    any   `json:"systemData"`
}

// readRole reads the document, or the file that is named in its place.
func (a *app) readRole(value string) (roleFile, error) {
	var f roleFile
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		data, err := readNamed(value, a.cfg.Stdin)
		if err != nil {
			return f, clientError{"argument --role-definition: it is neither JSON nor a file that can be read: " + err.Error()}
		}
		value = string(data)
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, clientError{"argument --role-definition: " + err.Error()}
	}
	switch {
	case f.Name == "" && f.RoleName == "":
		return f, clientError{"argument --role-definition: please provide role name"}
	case len(f.AssignableScopes) == 0:
		return f, clientError{"argument --role-definition: please provide 'assignableScopes'"}
	case f.IsCustom != nil && !*f.IsCustom:
		return f, clientError{"argument --role-definition: only custom roles are made and changed"}
	case f.Permissions != nil && (f.Actions != nil || f.NotActions != nil || f.DataActions != nil || f.NotDataActions != nil):
		return f, clientError{"argument --role-definition: 'permissions' and the lists of actions go one without the other"}
	}
	for _, p := range f.Permissions {
		for _, m := range []string{"condition", "conditionVersion"} {
			if p[m] == nil {
				delete(p, m)
			}
		}
	}
	if f.Permissions == nil {
		f.Permissions = []map[string]any{{"actions": orNone(f.Actions), "notActions": orNone(f.NotActions), "dataActions": orNone(f.DataActions), "notDataActions": orNone(f.NotDataActions)}}
	}
	return f, nil
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (a *app) definitionWrite(verb, short string, id func(context.Context, *client.Session, string, *roleFile) (string, error)) *cobra.Command {
	flags := []flag{{name: "role-definition", required: true, usage: "JSON document of the role; @FILE or FILE reads a file"}}
	cmd := leafFor(verb, short, flags, func(ctx context.Context, in values) error {
		f, err := a.readRole(in.text("role-definition"))
		if err != nil {
			return err
		}
		at, err := scopePath(f.AssignableScopes[0])
		if err != nil {
			return err
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		name, err := id(ctx, s, at, &f)
		if err != nil {
			return err
		}
		c := call(http.MethodPut, at+definitionsURL+"/"+name)
		c.Body = map[string]any{"properties": map[string]any{"roleName": f.RoleName, "type": "CustomRole", "description": f.Description, "permissions": f.Permissions, "assignableScopes": f.AssignableScopes}}
		var doc map[string]any
		if err := do(ctx, s, c, &doc); err != nil {
			return err
		}
		return a.print(definition(doc))
	})
	cmd.Example = "  sally role definition " + verb + " --role-definition @role.json"
	return cmd
}

func (a *app) definitionCreate() *cobra.Command {
	return a.definitionWrite("create", "Make a custom role.", func(_ context.Context, _ *client.Session, _ string, f *roleFile) (string, error) {
		if f.RoleName == "" {
			f.RoleName = f.Name
		}
		return guid.New(a.cfg.Rand)
	})
}

// definitionUpdate finds the role as az does: a document with a role name has
// its GUID in "name", any other is found by its name.
func (a *app) definitionUpdate() *cobra.Command {
	return a.definitionWrite("update", "Change a custom role.", func(ctx context.Context, s *client.Session, at string, f *roleFile) (string, error) {
		if f.RoleName != "" && isGUID(f.Name) {
			return strings.ToLower(f.Name), nil
		}
		if f.RoleName == "" {
			f.RoleName = f.Name
		}
		found, err := customRoles(ctx, s, at, f.RoleName)
		if err != nil {
			return "", err
		}
		return text(found[0], "name"), nil
	})
}

// customRoles finds custom roles by name or GUID at a scope and below it.
func customRoles(ctx context.Context, s *client.Session, at, name string) ([]map[string]any, error) {
	return roles(ctx, s, at, name, false)
}

// roles is customRoles, with the built-in ones where the server is to say that
// they stay.
func roles(ctx context.Context, s *client.Session, at, name string, builtIn bool) ([]map[string]any, error) {
	c := call(http.MethodGet, at+definitionsURL)
	c.Query = url.Values{"$filter": {"atScopeAndBelow()"}}
	items, err := s.List(ctx, c)
	if err != nil {
		return nil, err
	}
	var found []map[string]any
	for _, item := range items {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		definition(doc)
		if (builtIn || text(doc, "roleType") == "CustomRole") && (strings.EqualFold(name, text(doc, "roleName")) || strings.EqualFold(name, text(doc, "name"))) {
			found = append(found, doc)
		}
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "RoleNotFound", "Custom role '%s' doesn't exist at %s.", name, at).WithRemedy("Run: sally role definition list --custom-role-only")
	}
	return found, nil
}

func (a *app) definitionDelete() *cobra.Command {
	flags := []flag{{name: "name", short: "n", required: true, usage: "Name or GUID of the role"}, flagScope("Scope; the subscription by default"), optional(flagGroup()),
		{name: "custom-role-only", kind: 'b', usage: "Accepted for az's sake: built-in roles are not deleted"}}
	return leafFor("delete", "Delete a custom role.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		at, err := scopeOf(s, in)
		if err != nil {
			return err
		}
		found, err := roles(ctx, s, at, in.text("name"), !in.on("custom-role-only"))
		var none *fault.Error
		if errors.As(err, &none) && none.Code == "RoleNotFound" { // what is not there is deleted
			a.warn(sentence(err))
			return nil
		}
		if err != nil {
			return err
		}
		return do(ctx, s, call(http.MethodDelete, at+definitionsURL+"/"+text(found[0], "name")), nil)
	})
}
