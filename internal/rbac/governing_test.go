package rbac

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"sallyport/internal/scope"
)

// TestGoverning_SameAnswer: whatever is assigned where, WhoCan answers for a
// scope what it answers for the one that governs it, and scopes with nothing of
// their own share one.
func TestGoverning_SameAnswer(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	subscription := at(t, "/subscriptions/s")
	places := []scope.ID{at(t, vmText), at(t, vmText+"2"), at(t, "/subscriptions/s/resourceGroups/rg"), subscription, scope.ManagementGroup("root"), scope.Root()}
	roles := []string{VMUserLogin, VMAdministratorLogin, Owner, Reader}
	shared := 0
	for range 300 {
		var list []Assignment
		for range random.IntN(4) {
			list = append(list, Assignment{Scope: places[random.IntN(len(places))], RoleID: roles[random.IntN(len(roles))], PrincipalID: fmt.Sprint(random.IntN(3))})
		}
		x := loaded(t, NewIndex(corp()), list...)
		for _, s := range places {
			g := x.Governing(s)
			if !x.Encloses(g, s) {
				t.Fatalf("%s does not enclose %s", g, s)
			}
			if g != s {
				shared++
			}
			for _, action := range []string{ActionLogin, ActionLoginAsAdmin} {
				if got, want := x.WhoCan(g, action, true), x.WhoCan(s, action, true); !reflect.DeepEqual(got, want) {
					t.Fatalf("%v: %s governs %s and %s: %v, %v", list, g, s, action, got, want)
				}
			}
		}
	}
	if shared == 0 {
		t.Error("nothing is shared")
	}
}
