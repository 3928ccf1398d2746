package types

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The bounds of custom roles; those of the directory and of the texts are Azure's.
const (
	maxDefinitions = 5000
	maxRoleName    = 512
	maxRoleText    = 2048
	maxScopes      = 500
	maxBlocks      = 16
	maxPatterns    = 1000
)

// RoleDefinitionTx is what custom roles are written with.
type RoleDefinitionTx interface {
	PutRoleDefinition(rbac.Definition) error
	DeleteRoleDefinition(id string) (existed bool, err error)
	RoleDefinitionByID(id string) (rbac.Definition, bool, error)
	CountRoleDefinitions() (int, error)
	RoleAssignmentsOfRole(role string) ([]rbac.Assignment, error)
}

// definitionProperties is the strict shape of a custom role.
type definitionProperties struct {
	RoleName         string       `json:"roleName"`
	Type             string       `json:"type"`
	Description      string       `json:"description"`
	Permissions      []permission `json:"permissions"`
	AssignableScopes []string     `json:"assignableScopes"`

	CreatedOn any `json:"createdOn"` // echoes
	UpdatedOn any `json:"updatedOn"`
	CreatedBy any `json:"createdBy"`
	UpdatedBy any `json:"updatedBy"`
}

// permission is one block. A condition would narrow it, is not understood, and
// is therefore refused while it holds anything.
type permission struct {
	rbac.Permission
	Condition        json.RawMessage `json:"condition"`
	ConditionVersion json.RawMessage `json:"conditionVersion"`
}

// PutDefinition makes or changes a custom role. The caller needs the right to
// write role definitions at every scope where the role can be assigned, before
// and after, and at every scope where it is assigned. What an assigned role
// grants is changed only by who may write those assignments too: otherwise the
// holder of a role would widen it under himself.
func (a Authorization) PutDefinition(ctx context.Context, by audit.By, at scope.ID, name string, body []byte) (map[string]any, error) {
	if err := a.Engine.Authorize(ctx, by, RoleDefinition+"/write", at); err != nil {
		return nil, err
	}
	next, scopes, err := a.readDefinition(at, name, body)
	if err != nil {
		return nil, err
	}
	old, _ := a.Roles.Definition(next.ID)
	// Here a refusal is audited; in the transaction the same is asked again of
	// what is true then.
	err = definitionRights(old, next, a.Roles.Assignments(rbac.Filter{RoleID: next.ID}), func(action string, at scope.ID) error { return a.Engine.Authorize(ctx, by, action, at) })
	if err != nil {
		return nil, err
	}
	err = a.Write(ctx, func(tx AuthorizationTx) error {
		old, existed, err := tx.RoleDefinitionByID(next.ID)
		if err != nil {
			return err
		}
		if err := a.changeable(tx, by, old, next); err != nil {
			return err
		}
		next.CreatedAt, next.UpdatedAt, next.CreatedBy, next.UpdatedBy = tx.Now(), tx.Now(), by.Principal, by.Principal
		if existed {
			next.CreatedAt, next.CreatedBy = old.CreatedAt, old.CreatedBy
		} else if err := roomForRole(tx); err != nil {
			return err
		}
		for _, s := range scopes {
			if err := scopeExists(tx, s); err != nil && !slices.Contains(keys(old.AssignableScopes), s.Key()) {
				return err
			}
		}
		if err := tx.PutRoleDefinition(next); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "roleDefinition.write", Outcome: audit.Success, Target: definitionID(next.ID, scope.Root()), Detail: definitionDetail(next)})
	})
	if err != nil {
		return nil, err
	}
	return showDefinition(next, at), nil
}

func definitionDetail(d rbac.Definition) map[string]string {
	permissions, err := json.Marshal(d.Permissions)
	if err != nil {
		permissions = nil
	}
	text := string(permissions)
	if len(text) > 4000 {
		text = text[:4000] + "..."
	}
	return map[string]string{"name": d.Name, "assignableScopes": clipTo(strings.Join(d.AssignableScopes, " "), 4000), "permissions": text}
}

func clipTo(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

func roomForRole(tx AuthorizationTx) error {
	n, err := tx.CountRoleDefinitions()
	if err == nil && n >= maxDefinitions {
		err = fault.New(fault.Invalid, "RoleDefinitionLimitExceeded", "The role definition limit exceeded: a directory holds at most %d custom roles.", maxDefinitions).
			WithRemedy("Delete one that is not used: sally role definition list --custom-role-only")
	}
	return err
}

// changeable asks again, inside the transaction, for the caller's rights, and
// that every assignment of the role stays where the role can be assigned.
func (a Authorization) changeable(tx AuthorizationTx, by audit.By, old, next rbac.Definition) error {
	assigned, err := tx.RoleAssignmentsOfRole(next.ID)
	if err != nil {
		return err
	}
	for _, x := range assigned {
		if !a.assignable(next, x.Scope) {
			return fault.New(fault.Invalid, "RoleDefinitionHasAssignments", "the role is assigned at %s, and the new assignable scopes do not include that", x.Scope).
				WithRemedy("Keep the scope, or delete the assignment first.").WithTarget("assignableScopes")
		}
	}
	return definitionRights(old, next, assigned, func(action string, at scope.ID) error {
		return a.Engine.Standing(tx, by, action, at)
	})
}

// definitionRights asks permit for everything that a change of a role from old
// to next needs. old is zero for a new role, next for one that is to go.
func definitionRights(old, next rbac.Definition, assigned []rbac.Assignment, permit func(action string, at scope.ID) error) error {
	var places []scope.ID
	for _, text := range append(slices.Clone(old.AssignableScopes), next.AssignableScopes...) {
		s, err := scope.Parse(text)
		if err != nil {
			return err
		}
		places = append(places, s)
	}
	action := RoleDefinition + "/write"
	if next.ID == "" {
		action = RoleDefinition + "/delete"
	}
	for _, x := range assigned {
		places = append(places, x.Scope)
	}
	seen := map[string]bool{}
	for _, s := range places {
		if seen[s.Key()] {
			continue
		}
		seen[s.Key()] = true
		if err := permit(action, s); err != nil {
			return err
		}
	}
	if samePermissions(old.Permissions, next.Permissions) {
		return nil
	}
	for _, x := range assigned {
		if err := permit(RoleAssignment+"/write", x.Scope); err != nil {
			return err
		}
	}
	return nil
}

func samePermissions(a, b []rbac.Permission) bool {
	return slices.EqualFunc(a, b, func(x, y rbac.Permission) bool {
		return slices.Equal(x.Actions, y.Actions) && slices.Equal(x.NotActions, y.NotActions) && slices.Equal(x.DataActions, y.DataActions) && slices.Equal(x.NotDataActions, y.NotDataActions)
	})
}

func keys(scopes []string) []string {
	out := make([]string, 0, len(scopes))
	for _, s := range scopes {
		out = append(out, strings.ToLower(s))
	}
	return out
}

// assignable reports whether a role can be assigned at a scope.
func (a Authorization) assignable(d rbac.Definition, at scope.ID) bool {
	return d.BuiltIn || slices.ContainsFunc(d.AssignableScopes, func(text string) bool {
		s, err := scope.Parse(text)
		return err == nil && a.Roles.Encloses(s, at)
	})
}

// near reports whether a role can be assigned at, or somewhere below, a scope.
func (a Authorization) near(d rbac.Definition, at scope.ID) bool {
	return a.assignable(d, at) || slices.ContainsFunc(d.AssignableScopes, func(text string) bool {
		s, err := scope.Parse(text)
		return err == nil && a.Roles.Encloses(at, s)
	})
}

func (a Authorization) readDefinition(at scope.ID, name string, body []byte) (d rbac.Definition, scopes []scope.ID, err error) {
	id, ok := guid.Parse(name)
	if !ok {
		return d, nil, fault.New(fault.Invalid, "InvalidRoleDefinitionId", "The role definition ID '%s' is not valid. The role definition ID must be a GUID.", clip(name))
	}
	if known, ok := a.Roles.Definition(id); ok && known.BuiltIn {
		return d, nil, builtIn(known)
	}
	var in struct {
		ID         any                   `json:"id"`
		Name       any                   `json:"name"`
		Type       any                   `json:"type"`
		Properties *definitionProperties `json:"properties"`
	}
	if err := resource.Strict(body, &in, "role definition"); err != nil {
		return d, nil, err
	}
	p := in.Properties
	if p == nil {
		return d, nil, fault.New(fault.Invalid, "BadRequestFormat", "a role definition needs properties").WithTarget("properties")
	}
	if p.Type != "" && !strings.EqualFold(p.Type, "CustomRole") {
		return d, nil, fault.New(fault.Invalid, "InvalidRoleDefinitionType", "only roles of type CustomRole are made").WithTarget("type")
	}
	if err := a.roleTexts(p, id); err != nil {
		return d, nil, err
	}
	d = rbac.Definition{ID: id, Name: p.RoleName, Description: p.Description}
	if d.Permissions, err = a.permissions(p.Permissions); err != nil {
		return d, nil, err
	}
	if scopes, err = a.assignableScopes(p); err != nil {
		return d, nil, err
	}
	for _, s := range scopes {
		d.AssignableScopes = append(d.AssignableScopes, s.String())
	}
	if !a.near(d, at) {
		return d, nil, fault.New(fault.Invalid, "InvalidScope", "the scope in the address, %s, has nothing to do with the role's assignable scopes", at).
			WithRemedy("Use the first of its assignable scopes.").WithTarget("assignableScopes")
	}
	return d, scopes, nil
}

func builtIn(d rbac.Definition) error {
	return fault.New(fault.Invalid, "RoleDefinitionIsBuiltIn", "'%s' is a built-in role; it is neither changed nor deleted", d.Name).WithRemedy("Make a custom role with another GUID: sally role definition create")
}

// roleTexts checks name and description. Two roles of one name could be taken
// for one another, so a name is unique among built-in roles too.
func (a Authorization) roleTexts(p *definitionProperties, id string) error {
	switch {
	case strings.TrimSpace(p.RoleName) == "" || p.RoleName != strings.TrimSpace(p.RoleName) || len(p.RoleName) > maxRoleName || !shown(p.RoleName):
		return fault.New(fault.Invalid, "InvalidRoleDefinitionName", "a role needs a name of 1 to %d printable characters without spaces around it", maxRoleName).WithTarget("roleName")
	case len(p.Description) > maxRoleText:
		return longDescription(maxRoleText)
	}
	for _, other := range a.Roles.Definitions() {
		if strings.EqualFold(other.Name, p.RoleName) && other.ID != id {
			return fault.New(fault.Conflict, "RoleDefinitionWithSameNameExists", "A custom role with the same name already exists in this directory. Use a different name.").WithTarget("roleName")
		}
	}
	return nil
}

func longDescription(most int) error {
	return fault.New(fault.Invalid, "InvalidRequestContent", "a description has at most %d characters", most).WithTarget("description")
}

func shown(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd || r >= 0x80 && r < 0xa0 }) < 0
}

func (a Authorization) permissions(in []permission) ([]rbac.Permission, error) {
	if len(in) == 0 || len(in) > maxBlocks {
		return nil, fault.New(fault.Invalid, "InvalidRoleDefinitionPermissions", "a role has 1 to %d permissions", maxBlocks).WithTarget("permissions")
	}
	var out []rbac.Permission
	for _, p := range in {
		if !empty(p.Condition) || !empty(p.ConditionVersion) {
			return nil, fault.New(fault.Invalid, "InvalidRequestContent", "a condition of a permission is not understood here, and a permission without it would grant more; nothing was changed").
				WithRemedy("Leave it out, and grant less instead.").WithTarget("condition")
		}
		for _, list := range []struct {
			patterns []string
			data     bool
			field    string
		}{{p.Actions, false, "actions"}, {p.NotActions, false, "notActions"}, {p.DataActions, true, "dataActions"}, {p.NotDataActions, true, "notDataActions"}} {
			if len(list.patterns) > maxPatterns {
				return nil, fault.New(fault.Invalid, "InvalidRoleDefinitionPermissions", "%s holds more than %d entries", list.field, maxPatterns).WithTarget(list.field)
			}
			for _, pattern := range list.patterns {
				if err := a.action(pattern, list.data, list.field); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, p.Permission)
	}
	return out, nil
}

// assignableScopes reads them: management groups, subscriptions and resource
// groups. A role that logs people in is not made for the root management group,
// where it would reach every machine there is.
func (a Authorization) assignableScopes(p *definitionProperties) ([]scope.ID, error) {
	if len(p.AssignableScopes) == 0 || len(p.AssignableScopes) > maxScopes {
		return nil, fault.New(fault.Invalid, "MissingAssignableScopes", "a role needs 1 to %d assignable scopes", maxScopes).
			WithRemedy("Name subscriptions, resource groups or a management group.").WithTarget("assignableScopes")
	}
	data := slices.ContainsFunc(p.Permissions, func(x permission) bool { return len(x.DataActions) > 0 })
	root := scope.ManagementGroup(a.People.Tenant().ID)
	var out []scope.ID
	for _, text := range p.AssignableScopes {
		s, err := scope.Parse(text)
		kind := s.Type()
		switch {
		case err != nil || !slices.ContainsFunc([]string{resource.TypeManagementGroup, resource.TypeSubscription, resource.TypeGroup}, func(k string) bool { return strings.EqualFold(k, kind) }) || s == scope.Directory():
			return nil, fault.New(fault.Invalid, "InvalidAssignableScope", "'%s' cannot be an assignable scope of a custom role", clip(text)).
				WithRemedy("Use a management group, a subscription or a resource group.").WithTarget("assignableScopes")
		case data && s.Key() == root.Key():
			return nil, fault.New(fault.Invalid, "InvalidAssignableScope", "a role with data actions cannot be made for the root management group").
				WithRemedy("Use a management group below it, subscriptions or resource groups.").WithTarget("assignableScopes")
		case slices.ContainsFunc(out, func(o scope.ID) bool { return o.Key() == s.Key() }):
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// DeleteDefinition deletes a custom role that is not assigned anywhere; gone is
// true when there was none. The caller needs the right at every scope where it
// can be assigned.
func (a Authorization) DeleteDefinition(ctx context.Context, by audit.By, at scope.ID, name string) (was map[string]any, gone bool, err error) {
	if err := a.Engine.Authorize(ctx, by, RoleDefinition+"/delete", at); err != nil {
		return nil, false, err
	}
	old, ok := a.Roles.Definition(name)
	if ok && old.BuiltIn {
		return nil, false, builtIn(old)
	}
	if err := definitionRights(old, rbac.Definition{}, nil, func(action string, at scope.ID) error { return a.Engine.Authorize(ctx, by, action, at) }); err != nil {
		return nil, false, err
	}
	err = a.Write(ctx, func(tx AuthorizationTx) error {
		d, ok, err := tx.RoleDefinitionByID(name)
		if err != nil {
			return err
		}
		if !ok || !a.near(d, at) {
			return errGone
		}
		assigned, err := tx.RoleAssignmentsOfRole(d.ID)
		if err != nil {
			return err
		}
		if len(assigned) > 0 {
			return fault.New(fault.Invalid, "RoleDefinitionHasAssignments", "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments): %d, the first at %s.", len(assigned), assigned[0].Scope).
				WithRemedy("Delete them first: sally role assignment list --role \"%s\" --all", d.Name)
		}
		if err := definitionRights(d, rbac.Definition{}, nil, func(action string, at scope.ID) error {
			return a.Engine.Standing(tx, by, action, at)
		}); err != nil {
			return err
		}
		if _, err := tx.DeleteRoleDefinition(d.ID); err != nil {
			return err
		}
		was = showDefinition(d, at)
		return tx.Audit(by, audit.Event{Type: "roleDefinition.delete", Outcome: audit.Success, Target: definitionID(d.ID, scope.Root()), Detail: definitionDetail(d)})
	})
	if errors.Is(err, errGone) {
		return nil, true, nil
	}
	return was, false, err
}

// showCustom adds what only custom roles have.
func showCustom(d rbac.Definition, properties map[string]any) {
	properties["type"] = "CustomRole"
	properties["createdOn"], properties["updatedOn"] = d.CreatedAt.UTC().Format(time.RFC3339Nano), d.UpdatedAt.UTC().Format(time.RFC3339Nano)
	properties["createdBy"], properties["updatedBy"] = d.CreatedBy, d.UpdatedBy
}
