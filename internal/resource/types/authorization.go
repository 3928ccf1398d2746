package types

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The scope-extension types and their actions.
const (
	RoleAssignment = "Microsoft.Authorization/roleAssignments"
	RoleDefinition = "Microsoft.Authorization/roleDefinitions"
)

// AuthorizationTx is what role assignments are written with.
type AuthorizationTx interface {
	resource.Events
	ResourceByID(key string) (resource.Resource, bool, error)
	PutRoleAssignment(rbac.Assignment) error
	DeleteRoleAssignment(id string) (existed bool, err error)
	rbac.StandingTx
	// CountRoleAssignmentsIn counts those at a scope and below it.
	CountRoleAssignmentsIn(scope.ID) (int, error)
	RoleDefinitionTx
}

// Principals knows who exists; *directory.Index does.
type Principals interface {
	User(id string) (directory.User, bool)
	Group(id string) (directory.Group, bool)
	ServicePrincipal(id string) (directory.ServicePrincipal, bool)
	GroupsOf(principalID string) []string
	Tenant() directory.Tenant
}

// Roles is the index of definitions and assignments; *rbac.Index is one.
type Roles interface {
	Assignment(id string) (rbac.Assignment, bool)
	Assignments(rbac.Filter) []rbac.Assignment
	Definition(id string) (rbac.Definition, bool)
	Definitions() []rbac.Definition
	// Encloses reports whether a scope is the other, or above it.
	Encloses(top, s scope.ID) bool
}

// Authorization answers for role definitions and role assignments at any scope.
// Directory roles are not its business: they are assigned through Graph.
type Authorization struct {
	Engine *resource.Engine
	Write  func(context.Context, func(AuthorizationTx) error) error
	Roles  Roles
	People Principals
}

// Definitions lists the roles that can be assigned at a scope.
func (a Authorization) Definitions(ctx context.Context, by audit.By, at scope.ID, filter string) ([]map[string]any, error) {
	if err := a.Engine.Authorize(ctx, by, RoleDefinition+"/read", at); err != nil {
		return nil, err
	}
	terms, err := ParseFilter(filter)
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	reach := a.assignable
	if slices.ContainsFunc(terms, func(t Term) bool { return t.Call && t.Name == "atscopeandbelow" }) {
		reach = a.near
	}
	for _, d := range a.Roles.Definitions() {
		keep := !d.Directory && reach(d, at)
		for _, t := range terms {
			switch {
			case t.Name == "rolename" && !t.Call:
				keep = keep && strings.EqualFold(t.Value, d.Name)
			case t.Name == "type" && !t.Call:
				keep = keep && strings.EqualFold(t.Value, "BuiltInRole") == d.BuiltIn && (d.BuiltIn || strings.EqualFold(t.Value, "CustomRole"))
			case t.Call && (t.Name == "atscopeandbelow" || t.Name == "atscope"):
			default:
				return nil, badFilter(filter)
			}
		}
		if keep {
			out = append(out, showDefinition(d, at))
		}
	}
	return out, nil
}

// Definition returns one role as seen at a scope.
func (a Authorization) Definition(ctx context.Context, by audit.By, at scope.ID, id string) (map[string]any, error) {
	if err := a.Engine.Authorize(ctx, by, RoleDefinition+"/read", at); err != nil {
		return nil, err
	}
	d, ok := a.Roles.Definition(id)
	if !ok || d.Directory || !a.near(d, at) {
		return nil, noRole(id)
	}
	return showDefinition(d, at), nil
}

func noRole(id string) error {
	if len(id) > 300 {
		id = id[:300]
	}
	return fault.New(fault.NotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", id).WithRemedy("See: sally role definition list")
}

// definitionID is a role's id as seen from a scope: below its subscription.
func definitionID(id string, at scope.ID) string {
	prefix := ""
	if s := at.SubscriptionID(); s != "" {
		prefix = "/subscriptions/" + s
	}
	return prefix + "/providers/" + RoleDefinition + "/" + id
}

func showDefinition(d rbac.Definition, at scope.ID) map[string]any {
	permissions := make([]rbac.Permission, 0, len(d.Permissions))
	for _, p := range d.Permissions {
		for _, list := range []*[]string{&p.Actions, &p.NotActions, &p.DataActions, &p.NotDataActions} {
			if *list == nil {
				*list = []string{}
			}
		}
		permissions = append(permissions, p)
	}
	properties := map[string]any{"roleName": d.Name, "type": "BuiltInRole", "description": d.Description, "assignableScopes": d.AssignableScopes, "permissions": permissions}
	if !d.BuiltIn {
		showCustom(d, properties)
	}
	return map[string]any{"id": definitionID(d.ID, at), "name": d.ID, "type": RoleDefinition, "properties": properties}
}

// assignmentProperties is the strict shape of a role assignment. A field that
// narrows a grant and is not understood would widen it, so all unknown ones are
// refused, and so are these two while they hold anything.
type assignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId"`
	PrincipalID      string `json:"principalId"`
	PrincipalType    string `json:"principalType"`
	Description      string `json:"description"`

	Condition        json.RawMessage `json:"condition"`
	ConditionVersion json.RawMessage `json:"conditionVersion"`
	Delegated        json.RawMessage `json:"delegatedManagedIdentityResourceId"`

	Scope     string `json:"scope"` // echoes: must be true, or are ignored
	CreatedOn any    `json:"createdOn"`
	UpdatedOn any    `json:"updatedOn"`
	CreatedBy any    `json:"createdBy"`
	UpdatedBy any    `json:"updatedBy"`
}

// authorize asks for a right over role assignments. Over the directory nobody has one
// here, and whoever looks for it there reads where it is.
func (a Authorization) authorize(ctx context.Context, by audit.By, verb string, at scope.ID) error {
	err := a.Engine.Authorize(ctx, by, RoleAssignment+"/"+verb, at)
	if at == scope.Directory() {
		return graphs()
	}
	return err
}

func graphs() error {
	return fault.New(fault.Forbidden, "AuthorizationFailed", "roles at '%s' are directory roles, which are assigned and listed through Graph, not here", scope.Directory()).
		WithRemedy("See: sally rest -m get -u /v1.0/roleManagement/directory/roleAssignments")
}

// PutAssignment gives a role. The caller needs the right to write assignments at
// exactly that scope.
func (a Authorization) PutAssignment(ctx context.Context, by audit.By, at scope.ID, name string, body []byte) (map[string]any, error) {
	if err := a.authorize(ctx, by, "write", at); err != nil {
		return nil, err
	}
	next, err := a.readAssignment(at, name, body)
	if err != nil {
		return nil, err
	}
	if err := a.Write(ctx, func(tx AuthorizationTx) error { return a.assign(tx, by, &next) }); err != nil {
		return nil, err
	}
	return showAssignment(next), nil
}

// assign writes an assignment that was read and checked.
func (a Authorization) assign(tx AuthorizationTx, by audit.By, next *rbac.Assignment) error {
	at := next.Scope
	if err := a.Engine.Standing(tx, by, RoleAssignment+"/write", at); err != nil {
		return err
	}
	next.CreatedAt, next.UpdatedAt, next.CreatedBy, next.UpdatedBy = tx.Now(), tx.Now(), by.Principal, by.Principal
	if err := scopeExists(tx, at); err != nil {
		return err
	}
	old, ok, err := tx.RoleAssignmentByID(next.ID)
	if err != nil {
		return err
	}
	if ok {
		if old.Scope.Key() != at.Key() || old.RoleID != next.RoleID || old.PrincipalID != next.PrincipalID {
			return fault.New(fault.Conflict, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.").WithRemedy("Delete the assignment and make another one.")
		}
		next.CreatedAt, next.CreatedBy = old.CreatedAt, old.CreatedBy
	} else if err := roomForAssignment(tx, at); err != nil {
		return err
	}
	if err := a.stillAssignable(tx, *next); err != nil {
		return err
	}
	if err := tx.PutRoleAssignment(*next); err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: "roleAssignment.write", Outcome: audit.Success, Target: at.String(), Detail: assignmentDetail(*next)})
}

// maxAssignments is how many role assignments a subscription holds, with all
// that is in it: Azure's limit.
const maxAssignments = 4000

const maxAssignmentText = 1024

func roomForAssignment(tx AuthorizationTx, at scope.ID) error {
	id := at.SubscriptionID()
	if id == "" {
		return nil
	}
	n, err := tx.CountRoleAssignmentsIn(scope.Subscription(id))
	if err == nil && n >= maxAssignments {
		err = fault.New(fault.Invalid, "RoleAssignmentLimitExceeded", "No more role assignments can be created (code: RoleAssignmentLimitExceeded): the subscription holds %d, and %d is the limit.", n, maxAssignments).
			WithRemedy("Assign roles to groups in the place of people, or delete assignments whose principal is gone: sally role assignment list --all")
	}
	return err
}

// stillAssignable asks the transaction for what the index has said about a
// custom role: that it exists and can be assigned at this scope.
func (a Authorization) stillAssignable(tx AuthorizationTx, next rbac.Assignment) error {
	if d, ok := a.Roles.Definition(next.RoleID); ok && d.BuiltIn {
		return nil
	}
	d, ok, err := tx.RoleDefinitionByID(next.RoleID)
	if err != nil {
		return err
	}
	if !ok {
		return noRole(next.RoleID)
	}
	return a.mustBeAssignable(d, next.Scope)
}

func (a Authorization) mustBeAssignable(d rbac.Definition, at scope.ID) error {
	if a.assignable(d, at) {
		return nil
	}
	return fault.New(fault.Invalid, "RoleAssignmentScopeNotAssignableToRoleDefinition", "The role '%s' cannot be assigned at scope '%s': none of its assignable scopes is there or above.", d.Name, at).
		WithRemedy("Assign it below one of: %s", clipTo(strings.Join(d.AssignableScopes, ", "), 600)).WithTarget("roleDefinitionId")
}

func assignmentDetail(a rbac.Assignment) map[string]string {
	return map[string]string{"id": a.ID, "role": a.RoleID, "principal": a.PrincipalID, "principalType": a.PrincipalType}
}

// scopeExists refuses a grant on a name that nothing bears yet: whoever creates
// it later would not know.
func scopeExists(tx AuthorizationTx, at scope.ID) error {
	if at == scope.Root() {
		return nil
	}
	r, ok, err := tx.ResourceByID(at.Key())
	switch {
	case err != nil:
		return err
	case !ok:
		return fault.New(fault.NotFound, "ResourceNotFound", "The scope '%s' does not exist.", at).WithRemedy("Create it first.")
	case r.State == resource.Deleting:
		return fault.New(fault.Conflict, "Conflict", "'%s' is being deleted.", at.Name())
	}
	return nil
}

func (a Authorization) readAssignment(at scope.ID, name string, body []byte) (rbac.Assignment, error) {
	var none rbac.Assignment
	if at == scope.Directory() {
		return none, graphs()
	}
	if _, ok := guid.Parse(name); !ok {
		return none, fault.New(fault.Invalid, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", clip(name))
	}
	var in struct {
		ID         any                   `json:"id"`
		Name       any                   `json:"name"`
		Type       any                   `json:"type"`
		Properties *assignmentProperties `json:"properties"`
	}
	if err := resource.Strict(body, &in, "role assignment"); err != nil {
		return none, err
	}
	p := in.Properties
	if p == nil {
		return none, fault.New(fault.Invalid, "BadRequestFormat", "a role assignment needs properties").WithTarget("properties")
	}
	for field, raw := range map[string]json.RawMessage{"condition": p.Condition, "conditionVersion": p.ConditionVersion, "delegatedManagedIdentityResourceId": p.Delegated} {
		if !empty(raw) {
			return none, fault.New(fault.Invalid, "InvalidRequestContent", "%q of a role assignment is not understood here, and an assignment without it would grant more; nothing was changed", field).
				WithRemedy("Leave it out, and assign a smaller role or scope instead.").WithTarget(field)
		}
	}
	if p.Scope != "" {
		if echo, err := scope.Parse(p.Scope); err != nil || echo.Key() != at.Key() {
			return none, fault.New(fault.Invalid, "InvalidScope", "the scope in the body is not the scope in the address").WithTarget("scope")
		}
	}
	role, err := a.role(p.RoleDefinitionID)
	if err != nil {
		return none, err
	}
	if err := a.mustBeAssignable(role, at); err != nil {
		return none, err
	}
	if len(p.Description) > maxAssignmentText {
		return none, longDescription(maxAssignmentText)
	}
	kind, err := a.principal(p)
	if err != nil {
		return none, err
	}
	return rbac.Assignment{ID: strings.ToLower(name), Scope: at, RoleID: role.ID, PrincipalID: strings.ToLower(p.PrincipalID), PrincipalType: kind, Description: p.Description}, nil
}

// role accepts a full id at any scope, or the GUID alone.
func (a Authorization) role(id string) (rbac.Definition, error) {
	name := id
	if strings.HasPrefix(id, "/") {
		full, err := scope.Parse(id)
		if err != nil || !strings.EqualFold(full.Type(), RoleDefinition) {
			return rbac.Definition{}, noRole(id)
		}
		name = full.Name()
	}
	d, ok := a.Roles.Definition(name)
	if !ok || d.Directory {
		return d, noRole(id)
	}
	return d, nil
}

// principal finds who is to hold the role, and checks the type when one is given.
func (a Authorization) principal(p *assignmentProperties) (string, error) {
	id := strings.ToLower(p.PrincipalID)
	kind := ""
	if _, ok := a.People.User(id); ok {
		kind = "User"
	} else if _, ok := a.People.Group(id); ok {
		kind = "Group"
	} else if _, ok := a.People.ServicePrincipal(id); ok {
		kind = "ServicePrincipal"
	}
	if kind == "" {
		return "", fault.New(fault.Invalid, "PrincipalNotFound", "Principal %s does not exist in the directory %s.", clip(p.PrincipalID), a.People.Tenant().ID).
			WithRemedy("Give the object id of a user, group or service principal: sally ad user list").WithTarget("principalId")
	}
	if p.PrincipalType != "" && !strings.EqualFold(p.PrincipalType, kind) {
		return "", fault.New(fault.Invalid, "UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s', which is different from specified PrincipalType '%s'.", id, kind, clip(p.PrincipalType)).WithTarget("principalType")
	}
	return kind, nil
}

// Assignment returns one assignment made at exactly this scope.
func (a Authorization) Assignment(ctx context.Context, by audit.By, at scope.ID, name string) (map[string]any, error) {
	if err := a.authorize(ctx, by, "read", at); err != nil {
		return nil, err
	}
	x, ok := a.Roles.Assignment(name)
	if !ok || x.Scope.Key() != at.Key() || at == scope.Directory() {
		return nil, fault.New(fault.NotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", clip(name))
	}
	return showAssignment(x), nil
}

// errGone ends a transaction that found nothing to delete.
var errGone = errors.New("no such role assignment at this scope")

// DeleteAssignment takes a role away; gone is true when there was nothing to
// take. The caller needs the right at the assignment's own scope.
func (a Authorization) DeleteAssignment(ctx context.Context, by audit.By, at scope.ID, name string) (was map[string]any, gone bool, err error) {
	if err := a.authorize(ctx, by, "delete", at); err != nil {
		return nil, false, err
	}
	err = a.Write(ctx, func(tx AuthorizationTx) error {
		if err := a.Engine.Standing(tx, by, RoleAssignment+"/delete", at); err != nil {
			return err
		}
		x, ok, err := tx.RoleAssignmentByID(name)
		if err != nil {
			return err
		}
		if !ok || x.Scope.Key() != at.Key() || at == scope.Directory() {
			return errGone
		}
		if _, err := tx.DeleteRoleAssignment(name); err != nil {
			return fmt.Errorf("delete role assignment: %w", err)
		}
		was = showAssignment(x)
		return tx.Audit(by, audit.Event{Type: "roleAssignment.delete", Outcome: audit.Success, Target: at.String(), Detail: assignmentDetail(x)})
	})
	if errors.Is(err, errGone) {
		return nil, true, nil
	}
	return was, false, err
}

// ListAssignments lists what is assigned at a scope, above it and below it;
// with atScope() not below it; with principalId only a principal's own; with
// assignedTo those that reach a principal, through its groups too.
func (a Authorization) ListAssignments(ctx context.Context, by audit.By, at scope.ID, filter string) ([]map[string]any, error) {
	if err := a.authorize(ctx, by, "read", at); err != nil {
		return nil, err
	}
	terms, err := ParseFilter(filter)
	if err != nil {
		return nil, err
	}
	f := rbac.Filter{Scope: at, Above: true, Below: true}
	for _, t := range terms {
		value := strings.ToLower(t.Value)
		switch {
		case t.Name == "atscope" && t.Call && value == "":
			f.Below = false
		case t.Name == "principalid" && !t.Call && f.Principals == nil:
			f.Principals = []string{value}
		case t.Name == "assignedto" && t.Call && value != "" && f.Principals == nil:
			f.Principals = append([]string{value}, a.People.GroupsOf(value)...)
		default:
			return nil, badFilter(filter)
		}
	}
	out := []map[string]any{}
	for _, x := range a.Roles.Assignments(f) {
		doc := showAssignment(x)
		if x.Scope.SubscriptionID() == "" { // as Azure: a role has the address that the list at this scope gives it
			doc["properties"].(map[string]any)["roleDefinitionId"] = definitionID(x.RoleID, at)
		}
		out = append(out, doc)
	}
	return out, nil
}

func showAssignment(a rbac.Assignment) map[string]any {
	prefix := a.Scope.String()
	if a.Scope == scope.Root() {
		prefix = ""
	}
	p := map[string]any{
		"roleDefinitionId": definitionID(a.RoleID, a.Scope), "principalId": a.PrincipalID, "principalType": a.PrincipalType, "scope": a.Scope.String(),
		"condition": nil, "conditionVersion": nil, "delegatedManagedIdentityResourceId": nil,
		"createdOn": a.CreatedAt.UTC().Format(time.RFC3339Nano), "updatedOn": a.UpdatedAt.UTC().Format(time.RFC3339Nano), "createdBy": a.CreatedBy, "updatedBy": a.UpdatedBy,
	}
	if a.Description != "" {
		p["description"] = a.Description
	}
	return map[string]any{"id": prefix + "/providers/" + RoleAssignment + "/" + a.ID, "name": a.ID, "type": RoleAssignment, "properties": p}
}
