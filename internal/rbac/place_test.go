package rbac

import (
	"fmt"
	"testing"

	"sallyport/internal/scope"
)

// One scope with one grant, a few, many, and fewer again: Check finds exactly
// those that are there.
func TestPlace_FewManyAndFewAgain(t *testing.T) {
	x, r := NewIndex(corp()), stored{}
	where := scope.Subscription("s")
	can := func(i int) bool {
		return x.Check(Query{Principals: []string{"other", fmt.Sprint("P", i)}, Scope: at(t, vmText), Action: ActionLogin, Data: true}).Allowed
	}
	const most = 3 * few
	refresh := func(i int) {
		if err := x.Refresh(r, "roleAssignment", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	there := map[int]bool{}
	agree := func() {
		t.Helper()
		for i := range most {
			if can(i) != there[i] {
				t.Fatalf("with %d grants, p%d: %v", len(there), i, can(i))
			}
		}
		if n := len(x.WhoCan(where, ActionLogin, true)); n != len(there) {
			t.Fatalf("WhoCan knows %d of %d", n, len(there))
		}
	}
	for i := range most {
		r[fmt.Sprint(i)] = Assignment{ID: fmt.Sprint(i), Scope: where, RoleID: VMUserLogin, PrincipalID: fmt.Sprint("p", i)}
		there[i] = true
		refresh(i)
		agree()
	}
	for n := range most {
		i := n * 5 % most // in another order
		delete(r, fmt.Sprint(i))
		delete(there, i)
		refresh(i)
		agree()
	}
	if x.scopes.used != 0 {
		t.Error("an empty place is kept")
	}
}

// Two scopes, or two principals, whose hashes are equal are still two.
func TestPlace_EqualHashesAreCompared(t *testing.T) {
	x := loaded(t, NewIndex(corp()), Assignment{ID: "1", Scope: scope.Subscription("elsewhere"), RoleID: VMAdministratorLogin, PrincipalID: "p"})
	g := x.byID["1"]
	here := x.scopes.put(x.hash(scope.Subscription("s").Key()))
	here.add(x, x.hash("p"), g)     // as if the scopes' hashes were equal
	here.add(x, x.hash("other"), g) // as if the principals' were
	for _, who := range []string{"p", "other"} {
		if x.Check(Query{Principals: []string{who}, Scope: at(t, vmText), Action: ActionLogin, Data: true}).Allowed {
			t.Errorf("%s was let in by a hash", who)
		}
	}
	if n := len(x.WhoCan(scope.Subscription("s"), ActionLogin, true)); n != 0 {
		t.Errorf("WhoCan lists %d by a hash", n)
	}
	if n := len(x.Assignments(Filter{Scope: scope.Subscription("s")})); n != 0 {
		t.Errorf("Assignments lists %d by a hash", n)
	}
	other := scope.Subscription("elsewhere")
	l := x.scopes.find(x.hash(other.Key()))
	l.seen, l.who[0] = bit(x.hash("stranger")), brief(x.hash("stranger"))
	if x.Check(Query{Principals: []string{"stranger"}, Scope: other, Action: ActionLogin, Data: true}).Allowed {
		t.Error("a stranger was let in by parts of a hash")
	}
}

func TestCheck_AllocatesNothingToRefuse(t *testing.T) {
	x := loaded(t, NewIndex(corp()), Assignment{ID: "1", Scope: scope.Subscription("s"), RoleID: VMUserLogin, PrincipalID: "p"})
	q := Query{Principals: []string{"a", "b", "c"}, Scope: at(t, vmText), Action: ActionLogin, Data: true}
	if n := testing.AllocsPerRun(100, func() { x.Check(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
