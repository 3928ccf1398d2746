package rbac

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/scope"
)

type tree map[string]scope.ID

func (t tree) Above(id scope.ID) (scope.ID, bool) { up, ok := t[id.Key()]; return up, ok }

type stored map[string]Assignment

func (r stored) EachRoleDefinition(func(Definition) error) error { return nil }

func (r stored) RoleDefinitionByID(string) (Definition, bool, error) { return Definition{}, false, nil }

func (r stored) EachRoleAssignment(f func(Assignment) error) error {
	for _, a := range r {
		if err := f(a); err != nil {
			return err
		}
	}
	return nil
}

func (r stored) RoleAssignmentByID(id string) (Assignment, bool, error) {
	a, ok := r[id]
	return a, ok, nil
}

const vmText = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm"

func at(t testing.TB, text string) scope.ID {
	t.Helper()
	id, err := scope.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func corp() tree {
	root := scope.ManagementGroup("root")
	return tree{"/subscriptions/s": root, root.Key(): scope.Root()}
}

func loaded(t testing.TB, x *Index, as ...Assignment) *Index {
	t.Helper()
	r := stored{}
	for i, a := range as {
		if a.ID == "" {
			a.ID = fmt.Sprintf("a%d", i)
		}
		r[a.ID] = a
	}
	if err := x.Load(r); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestCheck_Table(t *testing.T) {
	const vmRead, vmWrite, assign = "Microsoft.Compute/virtualMachines/read", "Microsoft.Compute/virtualMachines/write", "Microsoft.Authorization/roleAssignments/write"
	for _, tc := range []struct {
		name, role, scope, where, action string
		data, want                       bool
	}{
		{"owner does not log in", Owner, "/", vmText, ActionLogin, true, false},
		{"owner does not log in as admin", Owner, "/", vmText, ActionLoginAsAdmin, true, false},
		{"contributor does not log in", Contributor, "/", vmText, ActionLogin, true, false},
		{"reader does not log in", Reader, "/", vmText, ActionLogin, true, false},
		{"a data action is no action", VMUserLogin, vmText, vmText, ActionLogin, false, false},
		{"owner writes", Owner, "/subscriptions/s", vmText, vmWrite, false, true},
		{"owner through the management group", Owner, "/providers/Microsoft.Management/managementGroups/root", vmText, vmWrite, false, true},
		{"owner through the root", Owner, "/", vmText, vmWrite, false, true},
		{"contributor writes", Contributor, "/subscriptions/s/resourceGroups/rg", vmText, vmWrite, false, true},
		{"contributor does not assign", Contributor, "/", vmText, assign, false, false},
		{"contributor does not delete history", Contributor, "/", vmText, "Microsoft.Authorization/auditRetention/write", false, false},
		{"contributor does not assign, other case", Contributor, "/", vmText, strings.ToUpper(assign), false, false},
		{"access administrator assigns", UserAccessAdministrator, "/", vmText, assign, false, true},
		{"access administrator does not write", UserAccessAdministrator, "/", vmText, vmWrite, false, false},
		{"reader reads", Reader, "/subscriptions/s", vmText, vmRead, false, true},
		{"reader does not write", Reader, "/subscriptions/s", vmText, vmWrite, false, false},
		{"user login", VMUserLogin, vmText, vmText, ActionLogin, true, true},
		{"user login is not admin", VMUserLogin, vmText, vmText, ActionLoginAsAdmin, true, false},
		{"admin login", VMAdministratorLogin, "/subscriptions/s/resourcegroups/RG", vmText, ActionLoginAsAdmin, true, true},
		{"admin login includes login", VMAdministratorLogin, vmText, vmText, ActionLogin, true, true},
		{"login roles read the machine", VMUserLogin, vmText, vmText, vmRead, false, true},
		{"login roles read what is below it", VMUserLogin, vmText, vmText + "/extensions/x", "Microsoft.Compute/virtualMachines/extensions/read", false, true},
		{"login roles do not write", VMUserLogin, vmText, vmText, vmWrite, false, false},
		{"a child's role does not reach up", VMUserLogin, vmText, "/subscriptions/s/resourceGroups/rg", ActionLogin, true, false},
		{"another group", VMUserLogin, "/subscriptions/s/resourceGroups/rg2", vmText, ActionLogin, true, false},
		{"a name that begins the same", VMUserLogin, "/subscriptions/s/resourceGroups/r", vmText, ActionLogin, true, false},
		{"a child through the parent", VMUserLogin, "/subscriptions/s", vmText + "/extensions/x", ActionLogin, true, true},
		{"unknown role", "00000000-0000-0000-0000-000000000000", "/", vmText, vmRead, false, false},
		{"a wildcard is no action", Owner, "/", vmText, "*", false, false},
		{"directory role outside the directory", GlobalAdministrator, "/", vmText, vmRead, false, false},
		{"owner is nobody in the directory", Owner, "/", "/microsoft.directory", "microsoft.directory/users/create", false, false},
		{"global administrator", GlobalAdministrator, "/microsoft.directory", "/microsoft.directory", "microsoft.directory/users/create", false, true},
		{"owner assigned in the directory", Owner, "/microsoft.directory", "/microsoft.directory", "microsoft.directory/users/create", false, false},
		{"global reader does not write", GlobalReader, "/microsoft.directory", "/microsoft.directory", "microsoft.directory/users/create", false, false},
		{"user administrator leaves applications alone", UserAdministrator, "/microsoft.directory", "/microsoft.directory", "microsoft.directory/applications/create", false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := loaded(t, NewIndex(corp()), Assignment{Scope: at(t, tc.scope), RoleID: tc.role, PrincipalID: "p"})
			q := Query{Principals: []string{"other", "p"}, Scope: at(t, tc.where), Action: tc.action, Data: tc.data}
			got := x.Check(q)
			if got.Allowed != tc.want {
				t.Fatalf("got %v", got.Allowed)
			}
			if got.Allowed != (got.Assignment != nil && got.Role != nil) {
				t.Fatal("a decision without its reason")
			}
			if n := len(x.WhoCan(q.Scope, q.Action, q.Data)); (n == 1) != tc.want {
				t.Fatalf("WhoCan disagrees: %d", n)
			}
			q.Principals = []string{"other"}
			if x.Check(q).Allowed {
				t.Fatal("somebody else was let in")
			}
		})
	}
}

func TestCheck_NotActionsSubtractInTheSameRoleOnly(t *testing.T) {
	x := loaded(t, NewIndex(corp()),
		Assignment{Scope: scope.Root(), RoleID: Contributor, PrincipalID: "p"},
		Assignment{Scope: scope.Root(), RoleID: UserAccessAdministrator, PrincipalID: "g"})
	q := Query{Principals: []string{"p", "g"}, Scope: at(t, vmText), Action: "Microsoft.Authorization/roleAssignments/write"}
	if d := x.Check(q); !d.Allowed || d.Role.ID != UserAccessAdministrator {
		t.Fatalf("got %+v", d)
	}
}

func TestCheck_EmptyQueriesAreDenied(t *testing.T) {
	x := loaded(t, NewIndex(corp()), Assignment{Scope: scope.Root(), RoleID: Owner, PrincipalID: "p"}, Assignment{Scope: scope.Root(), RoleID: Owner})
	for _, q := range []Query{{}, {Principals: []string{"p"}, Action: "a/read"}, {Principals: []string{"p"}, Scope: scope.Root()}, {Scope: scope.Root(), Action: "a/read"}} {
		if x.Check(q).Allowed {
			t.Errorf("%+v was allowed", q)
		}
	}
}

func TestRefresh_AddsReplacesAndRemoves(t *testing.T) {
	x, r := NewIndex(corp()), stored{}
	q := Query{Principals: []string{"p"}, Scope: at(t, vmText), Action: ActionLogin, Data: true}
	for i := range 40 { // past the limit where scopes are hashed
		id := fmt.Sprintf("a%d", i)
		r[id] = Assignment{ID: id, Scope: scope.ResourceGroup("s", fmt.Sprintf("g%d", i)), RoleID: VMUserLogin, PrincipalID: "p"}
		if err := x.Refresh(r, "roleAssignment", id); err != nil {
			t.Fatal(err)
		}
	}
	if x.Check(q).Allowed {
		t.Fatal("allowed too early")
	}
	r["b"] = Assignment{ID: "b", Scope: at(t, vmText), RoleID: VMUserLogin, PrincipalID: "p"}
	_ = x.Refresh(r, "user", "b")
	if x.Check(q).Allowed {
		t.Fatal("another kind was followed")
	}
	_ = x.Refresh(r, "roleAssignment", "b")
	if !x.Check(q).Allowed {
		t.Fatal("not followed")
	}
	moved := r["b"]
	moved.PrincipalID = "p2"
	r["b"] = moved
	_ = x.Refresh(r, "roleAssignment", "b")
	if x.Check(q).Allowed {
		t.Fatal("a replaced assignment still counts")
	}
	for id := range r {
		delete(r, id)
		_ = x.Refresh(r, "roleAssignment", id)
	}
	if len(x.Assignments(Filter{})) != 0 || len(x.principals) != 0 || x.scopes.used != 0 {
		t.Fatal("something is left")
	}
}

func TestAssignments_Filters(t *testing.T) {
	x := loaded(t, NewIndex(corp()),
		Assignment{ID: "top", Scope: scope.Root(), RoleID: Owner, PrincipalID: "p"},
		Assignment{ID: "sub", Scope: scope.Subscription("s"), RoleID: Reader, PrincipalID: "q"},
		Assignment{ID: "rg", Scope: scope.ResourceGroup("s", "rg"), RoleID: Reader, PrincipalID: "p"},
		Assignment{ID: "vm", Scope: at(t, vmText), RoleID: VMUserLogin, PrincipalID: "q"})
	for _, tc := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "top sub rg vm"},
		{Filter{Principals: []string{"P", "p"}}, "top rg"},
		{Filter{Principals: []string{}}, ""},
		{Filter{Scope: scope.Subscription("S")}, "sub"},
		{Filter{Scope: scope.Subscription("s"), Above: true}, "top sub"},
		{Filter{Scope: scope.Subscription("s"), Below: true}, "sub rg vm"},
		{Filter{Scope: scope.ManagementGroup("root"), Below: true}, "sub rg vm"},
		{Filter{Scope: at(t, vmText), Above: true, Principals: []string{"q"}}, "sub vm"},
		{Filter{RoleID: strings.ToUpper(Reader)}, "sub rg"},
	} {
		var got []string
		for _, a := range x.Assignments(tc.f) {
			got = append(got, a.ID)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%+v: %v, want %s", tc.f, got, tc.want)
		}
	}
}

func TestBuiltIns_AreAzures(t *testing.T) {
	x := NewIndex(nil)
	for id, name := range map[string]string{Owner: "Owner", Contributor: "Contributor", Reader: "Reader", UserAccessAdministrator: "User Access Administrator",
		VMAdministratorLogin: "Virtual Machine Administrator Login", VMUserLogin: "Virtual Machine User Login",
		GlobalAdministrator: "Global Administrator", UserAdministrator: "User Administrator", ApplicationAdministrator: "Application Administrator",
		AuthenticationAdministrator: "Authentication Administrator", SecurityAdministrator: "Security Administrator", GlobalReader: "Global Reader"} {
		if d, ok := x.Definition(strings.ToUpper(id)); !ok || d.Name != name || !d.BuiltIn {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if n := len(x.Definitions()); n != 12 {
		t.Errorf("%d roles", n)
	}
}

func TestMatcher_Table(t *testing.T) {
	for _, tc := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "a/b", true}, {"*/read", "a/b/read", true}, {"*/read", "a/b/reader", false}, {"*/read", "read", false},
		{"A.b/*/Delete", "a.b/x/delete", true}, {"a.b/*/delete", "a.b/x/y/delete", true}, {"a.b/*/delete", "a.b/delete", true}, {"a.b/*/delete", "a.bc/delete", false},
		{"a/*", "a/b/c", true}, {"a/*", "a", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a/b", "A/B", true}, {"a/b", "a/b/c", false}, {"", "a", false},
	} {
		m := newMatcher([]string{tc.pattern})
		if got := m.match(strings.ToLower(tc.action)); got != tc.want {
			t.Errorf("%s ~ %s: %v", tc.pattern, tc.action, got)
		}
	}
}

// The bar of DESIGN section 8: 1,000,000 assignments, 4 levels, <= 2 us median.
func BenchmarkCheck_Million(b *testing.B) {
	root := scope.ManagementGroup("root")
	tr := tree{root.Key(): scope.Root()}
	x := NewIndex(tr)
	var machines []scope.ID
	n := 0
	add := func(s scope.ID, p int) {
		x.add(Assignment{ID: fmt.Sprintf("a%d", n), Scope: s, RoleID: VMUserLogin, PrincipalID: fmt.Sprintf("p%06d", p)})
		n++
	}
	for s := range 100 {
		sub := scope.Subscription(fmt.Sprintf("00000000-0000-4000-8000-%012d", s))
		tr[sub.Key()] = root
		for g := range 100 {
			rg := scope.ResourceGroup(sub.Name(), fmt.Sprintf("group%d", g))
			add(rg, n%100000)
			for m := range 10 {
				vm := at(b, rg.String()+fmt.Sprintf("/providers/Microsoft.Compute/virtualMachines/machine%d", m))
				machines = append(machines, vm)
				for range 10 {
					add(vm, (n*7919)%100000)
				}
			}
		}
	}
	who := make([][]string, 1024)
	for i := range who {
		for k := range 8 {
			who[i] = append(who[i], fmt.Sprintf("p%06d", (i*8+k)%100000))
		}
	}
	b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
		i := 0
		var each []time.Duration
		for b.Loop() {
			i++
			begin := time.Now()
			x.Check(Query{Principals: who[i%len(who)], Scope: machines[(i*31)%len(machines)], Action: ActionLogin, Data: true})
			each = append(each, time.Since(begin))
		}
		slices.Sort(each)
		b.ReportMetric(float64(each[len(each)/2].Nanoseconds()), "ns-median")
	})
}

func TestCheck_CircleInTheTreeEnds(t *testing.T) {
	a, b := scope.ManagementGroup("a"), scope.ManagementGroup("b")
	x := NewIndex(tree{"/subscriptions/s": a, a.Key(): b, b.Key(): a})
	loaded(t, x, Assignment{Scope: b, RoleID: Reader, PrincipalID: "p"})
	const read = "Microsoft.Compute/virtualMachines/read"
	if !x.Check(Query{Principals: []string{"p"}, Action: read, Scope: at(t, vmText)}).Allowed {
		t.Error("a scope of the circle does not count")
	}
	if x.Check(Query{Principals: []string{"q"}, Action: read, Scope: at(t, vmText)}).Allowed {
		t.Error("the circle lets anybody in")
	}
}
