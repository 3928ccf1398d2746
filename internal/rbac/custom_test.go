package rbac

import (
	"slices"
	"testing"

	"sallyport/internal/scope"
)

// kept is a store of roles and assignments in memory.
type kept struct {
	stored
	roles map[string]Definition
}

func (k kept) EachRoleDefinition(f func(Definition) error) error {
	for _, d := range k.roles {
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}

func (k kept) RoleDefinitionByID(id string) (Definition, bool, error) {
	d, ok := k.roles[id]
	return d, ok, nil
}

const custom = "c0000000-0000-4000-8000-000000000001"

func TestCustomRoles_LoadedChangedAndGone(t *testing.T) {
	k := kept{stored{"a": {ID: "a", Scope: scope.Subscription("s"), RoleID: custom, PrincipalID: "p"}},
		map[string]Definition{custom: {ID: custom, Name: "Custom", Permissions: []Permission{{DataActions: []string{ActionLogin}}}},
			Reader: {ID: Reader, Name: "forged", Permissions: []Permission{{Actions: []string{"*"}}}}}}
	x := NewIndex(corp())
	if err := x.Load(k); err != nil {
		t.Fatal(err)
	}
	if d, _ := x.Definition(Reader); d.Name != "Reader" {
		t.Error("a stored role took the place of a built-in one")
	}
	can := func(action string, data bool) bool {
		q := Query{Principals: []string{"p"}, Scope: at(t, vmText), Action: action, Data: data}
		d := x.Check(q)
		if got := slices.ContainsFunc(x.Consider(q), func(c Considered) bool { return c.Counts }); got != d.Allowed || len(x.WhoCan(q.Scope, action, data)) > 0 != d.Allowed {
			t.Fatalf("Check, Consider and WhoCan disagree about %s", action)
		}
		return d.Allowed
	}
	if !can(ActionLogin, true) || can(ActionLoginAsAdmin, true) {
		t.Error("as loaded")
	}
	before := x.Check(Query{Principals: []string{"p"}, Scope: at(t, vmText), Action: ActionLogin, Data: true})
	refresh := func(kind, key string) {
		t.Helper()
		if err := x.Refresh(k, kind, key); err != nil {
			t.Fatal(err)
		}
	}
	k.roles[custom] = Definition{ID: custom, Name: "Custom", Permissions: []Permission{{Actions: []string{"*"}, NotActions: []string{"*/write"}}}}
	refresh("roleDefinition", custom)
	if can(ActionLogin, true) || !can("Microsoft.Compute/virtualMachines/read", false) || can("Microsoft.Compute/virtualMachines/write", false) {
		t.Error("as changed")
	}
	if len(before.Role.Permissions[0].DataActions) != 1 {
		t.Error("an answer given before has changed")
	}
	k.roles[Reader] = Definition{ID: Reader, Permissions: []Permission{{Actions: []string{"*"}}}}
	refresh("roleDefinition", Reader)
	delete(k.roles, Owner)
	refresh("roleDefinition", Owner)
	if d, ok := x.Definition(Owner); !ok || !d.BuiltIn {
		t.Error("a built-in role went away")
	}
	if d, _ := x.Definition(Reader); d.Permissions[0].Actions[0] != "*/read" {
		t.Error("a built-in role changed")
	}
	delete(k.roles, custom)
	refresh("roleDefinition", custom)
	if can("Microsoft.Compute/virtualMachines/read", false) || len(x.Definitions()) != len(BuiltIns()) {
		t.Error("a role that is gone grants something")
	}
}

func TestConsider_EveryReason(t *testing.T) {
	minus := Definition{ID: custom, Name: "Minus", Permissions: []Permission{{DataActions: []string{"*"}, NotDataActions: []string{ActionLogin}}}}
	x := newIndex(corp(), append(BuiltIns(), minus))
	loaded(t, x, Assignment{ID: "1", Scope: scope.Root(), RoleID: Owner, PrincipalID: "p"}, Assignment{ID: "2", Scope: scope.Subscription("s"), RoleID: custom, PrincipalID: "g"},
		Assignment{ID: "3", Scope: scope.ResourceGroup("s", "other"), RoleID: VMUserLogin, PrincipalID: "p"}, Assignment{ID: "4", Scope: at(t, vmText), RoleID: VMUserLogin, PrincipalID: "p"},
		Assignment{ID: "5", Scope: at(t, vmText), RoleID: VMUserLogin, PrincipalID: "stranger"})
	want := map[string]string{
		"1": "the role has no data actions: it manages and does not log in",
		"2": "the role's notDataActions take " + ActionLogin + " away",
		"3": "its scope is neither " + vmText + " nor above it",
		"4": "the role grants the data action " + ActionLogin,
	}
	list := x.Consider(Query{Principals: []string{"p", "g"}, Scope: at(t, vmText), Action: ActionLogin, Data: true})
	if len(list) != len(want) {
		t.Fatalf("%d assignments", len(list))
	}
	for _, c := range list {
		if c.Why != want[c.Assignment.ID] || c.Counts != (c.Assignment.ID == "4") || c.Applies != (c.Assignment.ID != "3") {
			t.Errorf("%s: %+v", c.Assignment.ID, c)
		}
	}
	list = x.Consider(Query{Principals: []string{"p"}, Scope: at(t, vmText), Action: ActionLoginAsAdmin, Data: true})
	if i := slices.IndexFunc(list, func(c Considered) bool { return c.Assignment.ID == "4" }); list[i].Why != "no data action of the role matches "+ActionLoginAsAdmin {
		t.Errorf("%+v", list[i])
	}
}

// A custom role covers another only as far as all its text shows.
func TestIncludes_CustomRoles(t *testing.T) {
	def := func(n, action string) Definition {
		return Definition{ID: custom[:35] + n, Permissions: []Permission{{Actions: []string{action}}}}
	}
	x := newIndex(nil, append(BuiltIns(), def("2", "a/*/b/*"), def("3", "a/*"), def("4", "*/b/c"), def("5", "a/x*z/b/q"), def("6", "a/*/*/b/q")))
	id := func(n string) string { return custom[:35] + n }
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{id("3"), id("2"), true}, {id("2"), id("3"), false}, {id("2"), id("5"), true}, {id("5"), id("2"), false}, {id("4"), id("2"), false},
		{id("2"), id("6"), true}, {Owner, id("4"), true}, {Contributor, id("4"), false}, {id("4"), Reader, false}, {"none", id("3"), false}, {id("3"), "none", false},
	} {
		if got := x.includes(tc.a, tc.b); got != tc.want {
			t.Errorf("%s includes %s: %v", tc.a, tc.b, got)
		}
	}
}
