package types

import (
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// tree says which management group each group and subscription stands in, by key.
type tree map[string]string

func treeOf(tx AccountsTx) (tree, error) {
	out := tree{}
	for _, kind := range []string{resource.TypeManagementGroup, resource.TypeSubscription} {
		list, err := tx.ListResources(resource.Range{Type: kind})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			out[r.ID.Key()] = keyed(r.Above).Key()
		}
	}
	return out, nil
}

// encloses reports whether one scope is, or is above, another.
func (t tree) encloses(one, at scope.ID) bool {
	if one.Key() == at.Key() || strings.HasPrefix(at.Key(), one.Key()+"/") {
		return true
	}
	key := at.Key()
	if at.SubscriptionID() != "" {
		key = scope.Subscription(at.SubscriptionID()).Key()
	}
	for range len(t) + 1 {
		if key == one.Key() {
			return true
		}
		key = t[key]
	}
	return false
}

// keepsRoles refuses a move that takes assignments of a custom role out of where the
// role can be assigned, as Azure does ("Issues with breaking the role definition and
// assignment hierarchy path"): the role's owners could neither see them nor end them.
func keepsRoles(tx AccountsTx, moving, to scope.ID) error {
	var custom []rbac.Definition
	err := tx.EachRoleDefinition(func(d rbac.Definition) error {
		if slices.ContainsFunc(d.AssignableScopes, func(s string) bool { return strings.EqualFold(keyed(s).Type(), resource.TypeManagementGroup) }) {
			custom = append(custom, d)
		}
		return nil
	})
	if err != nil || len(custom) == 0 {
		return err
	}
	before, err := treeOf(tx)
	if err != nil {
		return err
	}
	after, err := treeOf(tx)
	if err != nil {
		return err
	}
	after[moving.Key()] = to.Key()
	for _, d := range custom {
		assigned, err := tx.RoleAssignmentsOfRole(d.ID)
		if err != nil {
			return err
		}
		reached := func(t tree, at scope.ID) bool {
			return slices.ContainsFunc(d.AssignableScopes, func(s string) bool { return t.encloses(keyed(s), at) })
		}
		for _, x := range assigned {
			if before.encloses(moving, x.Scope) && reached(before, x.Scope) && !reached(after, x.Scope) {
				return fault.New(fault.Conflict, "RoleDefinitionHasAssignments", "'%s' cannot move to '%s': the custom role '%s' is assigned at '%s', and could not be assigned there any more.", moving.Name(), to.Name(), clip(d.Name), x.Scope).
					WithRemedy("Add that scope to the role's assignable scopes, or delete the assignment first.")
			}
		}
	}
	return nil
}
