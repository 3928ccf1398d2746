package rbac

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The table against a map, with hashes that lie anywhere, that crowd together at
// both ends, and that are equal to their neighbours but for one.
func TestTable_AgainstAMap(t *testing.T) {
	for name, hash := range map[string]func(*rand.Rand) uint64{
		"anywhere": func(r *rand.Rand) uint64 { return r.Uint64N(400) * 0x9e3779b97f4a7c15 },
		"low":      func(r *rand.Rand) uint64 { return r.Uint64N(400) },
		"high":     func(r *rand.Rand) uint64 { return ^r.Uint64N(400) },
		"both":     func(r *rand.Rand) uint64 { return r.Uint64N(400) - 200 },
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			var is table
			want := map[uint64]*place{}
			for step := range 20_000 {
				h := hash(random)
				if grows := step/4000%2 == 0; random.IntN(4) == 0 == grows { // more come than go, and then more go
					is.drop(h)
					delete(want, h)
				} else {
					l := is.put(h)
					if l.hash != h || want[h] != nil && want[h] != l.place {
						t.Fatalf("step %d: put gave another line", step)
					}
					want[h] = l.place
				}
				agrees(t, &is, want, hash(random))
			}
			if !slices.IsSortedFunc(slices.DeleteFunc(slices.Clone(is.lines), func(l line) bool { return l.place == nil }), func(a, b line) int {
				if a.hash < b.hash {
					return -1
				}
				return 1
			}) {
				t.Error("not sorted")
			}
		})
	}
}

func agrees(t *testing.T, is *table, want map[uint64]*place, h uint64) {
	t.Helper()
	l := is.find(h)
	if (l != nil) != (want[h] != nil) || l != nil && (l.hash != h || l.place != want[h]) {
		t.Fatalf("%x is %v, and should be %v", h, l, want[h])
	}
	if is.used != len(want) || is.used > 0 && is.lines[len(is.lines)-1].place != nil {
		t.Fatalf("%d used of %d, the last one %v", is.used, len(want), is.lines[len(is.lines)-1])
	}
}

// The index against the sentence that Check is: some assignment of one of the
// principals, at the scope or above it, whose role grants the action. Scopes
// come and go, and have none, few and many grants.
func TestCheck_AgainstTheNaiveModel(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	places := []string{"/", "/providers/Microsoft.Management/managementGroups/root", "/subscriptions/s", "/subscriptions/other"}
	for g := range 8 {
		rg := fmt.Sprintf("/subscriptions/s/resourceGroups/g%d", g)
		places = append(places, rg)
		for m := range 4 {
			places = append(places, fmt.Sprintf("%s/providers/Microsoft.Compute/virtualMachines/m%d", rg, m))
		}
	}
	roles := []string{VMUserLogin, VMAdministratorLogin, Owner, Reader, Contributor}
	x, r := NewIndex(corp()), stored{}
	seen := map[bool]int{}
	for step := range 12_000 {
		id := fmt.Sprint(random.IntN(600))
		delete(r, id)
		if grows := step/3000%2 == 0; random.IntN(5) == 0 != grows {
			where := pick(places)
			if random.IntN(3) == 0 {
				where = places[2+random.IntN(3)] // some get many
			}
			r[id] = Assignment{ID: id, Scope: at(t, where), RoleID: pick(roles), PrincipalID: mixed(random, fmt.Sprint("p", random.IntN(60)))}
		}
		if err := x.Refresh(r, "roleAssignment", id); err != nil {
			t.Fatal(err)
		}
		q := Query{Scope: at(t, mixed(random, pick(places))), Action: ActionLogin, Data: true}
		if random.IntN(2) == 0 {
			q.Action, q.Data = "Microsoft.Compute/virtualMachines/write", false
		}
		for range random.IntN(4) {
			q.Principals = append(q.Principals, mixed(random, fmt.Sprint("p", random.IntN(60))))
		}
		want, got := naive(x, r, q), x.Check(q)
		seen[want]++
		if got.Allowed != want {
			t.Fatalf("step %d, %d assignments: %+v: %v, and should be %v", step, len(r), q, got.Allowed, want)
		}
		if want && !naive(x, stored{"": *got.Assignment}, q) {
			t.Fatalf("step %d: %+v does not allow %+v", step, *got.Assignment, q)
		}
	}
	if seen[true] < 1000 || seen[false] < 1000 {
		t.Errorf("one answer is rare: %v", seen)
	}
}

// mixed writes some of the letters as capitals.
func mixed(random *rand.Rand, s string) string {
	if random.IntN(2) == 0 {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.Replace(s[1:], "m", "M", 1)
}

func naive(x *Index, all stored, q Query) bool {
	for _, a := range all {
		above := false
		for s, ok := q.Scope, true; ok; {
			above = above || s.Key() == a.Scope.Key()
			next, inside := s.Parent()
			if !inside {
				next, inside = x.tree.Above(s)
			}
			s, ok = next, inside
		}
		mine := slices.ContainsFunc(q.Principals, func(p string) bool { return strings.EqualFold(p, a.PrincipalID) })
		if above && mine && x.roles[a.RoleID].allows(strings.ToLower(q.Action), q.Data) {
			return true
		}
	}
	return false
}
