package rbac

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sallyport/internal/scope"
)

// company is 1,000,000 assignments for 100,000 principals on 110,000 scopes.
func company(b *testing.B) (*Index, []scope.ID) {
	b.Helper()
	root := scope.ManagementGroup("root")
	tr := tree{root.Key(): scope.Root()}
	x := NewIndex(tr)
	var machines []scope.ID
	n := 0
	add := func(s scope.ID) {
		x.add(Assignment{ID: fmt.Sprintf("a%d", n), Scope: s, RoleID: VMUserLogin, PrincipalID: objectID(n * 31 % 100_000)})
		n++
	}
	for s := range 100 {
		sub := scope.Subscription(objectID(s))
		tr[sub.Key()] = root
		for g := range 100 {
			rg := scope.ResourceGroup(sub.Name(), fmt.Sprintf("group%d", g))
			for range 10 {
				add(rg)
			}
			for m := range 10 {
				vm := at(b, fmt.Sprintf("%s/providers/Microsoft.Compute/virtualMachines/machine%d", rg, m))
				machines = append(machines, vm)
				for range 9 {
					add(vm)
				}
			}
		}
	}
	return x, machines
}

func objectID(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n*7919) }

// The bar with questions that nothing has asked before: a random person in
// seven groups at a random machine, read from the wire each time.
func BenchmarkCheck_Random(b *testing.B) {
	x, machines := company(b)
	random := rand.New(rand.NewPCG(1, 2))
	who := make([]string, 8)
	var each []time.Duration
	for b.Loop() {
		for i := range who {
			who[i] = objectID(random.IntN(100_000))
		}
		machine := at(b, machines[random.IntN(len(machines))].String())
		begin := time.Now()
		x.Check(Query{Principals: who, Scope: machine, Action: ActionLogin, Data: true})
		each = append(each, time.Since(begin))
	}
	slices.Sort(each)
	b.ReportMetric(float64(each[len(each)/2].Nanoseconds()), "ns-median")
}
