package rbac

import (
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// fakeStanding is what the store holds now.
type fakeStanding struct {
	assignments map[string]Assignment
	roles       map[string]Definition
	parents     map[string][]string
}

func (f fakeStanding) RoleAssignmentByID(id string) (Assignment, bool, error) {
	a, ok := f.assignments[id]
	return a, ok, nil
}

func (f fakeStanding) RoleDefinitionByID(id string) (Definition, bool, error) {
	d, ok := f.roles[id]
	return d, ok, nil
}

func (f fakeStanding) GroupsHolding(id string) ([]string, error) { return f.parents[id], nil }

func TestStands_OnlyWhileEverythingItRestsOnIsThere(t *testing.T) {
	const custom, other = "10000000-0000-4000-8000-000000000001", "10000000-0000-4000-8000-000000000002"
	held := Assignment{ID: "a1", Scope: scope.Directory(), RoleID: custom, PrincipalID: "outer"}
	allows := Definition{ID: custom, Permissions: []Permission{{Actions: []string{ActionAssign}}}}
	decision := Decision{Allowed: true, Assignment: &held, Role: &allows}
	by := audit.By{Principal: "alice"}
	chain := map[string][]string{"alice": {"inner", "circle"}, "inner": {"outer"}, "circle": {"circle"}}
	moved, changed, weaker := held, held, allows
	moved.PrincipalID, changed.RoleID = "bob", other
	weaker.Permissions = []Permission{{Actions: []string{"x/read"}}}
	for _, tc := range []struct {
		what string
		tx   fakeStanding
		d    Decision
		want bool
	}{
		{"all there", fakeStanding{map[string]Assignment{"a1": held}, map[string]Definition{custom: allows}, chain}, decision, true},
		{"assignment gone", fakeStanding{nil, map[string]Definition{custom: allows}, chain}, decision, false},
		{"another's now", fakeStanding{map[string]Assignment{"a1": moved}, map[string]Definition{custom: allows}, chain}, decision, false},
		{"another role now", fakeStanding{map[string]Assignment{"a1": changed}, map[string]Definition{custom: allows}, chain}, decision, false},
		{"role gone", fakeStanding{map[string]Assignment{"a1": held}, nil, chain}, decision, false},
		{"role grants less", fakeStanding{map[string]Assignment{"a1": held}, map[string]Definition{custom: weaker}, chain}, decision, false},
		{"left the inner group", fakeStanding{map[string]Assignment{"a1": held}, map[string]Definition{custom: allows}, map[string][]string{"alice": {"circle"}, "inner": {"outer"}}}, decision, false},
		{"left no trace", fakeStanding{map[string]Assignment{"a1": held}, map[string]Definition{custom: allows}, nil}, decision, false},
		{"denied", fakeStanding{map[string]Assignment{"a1": held}, map[string]Definition{custom: allows}, chain}, Decision{}, false},
	} {
		err := Stands(tc.tx, by, Query{Action: ActionAssign}, tc.d)
		if (err == nil) != tc.want || err != nil && !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}
