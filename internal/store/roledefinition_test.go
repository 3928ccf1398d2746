package store

import (
	"reflect"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

func TestRoleDefinitions_KeptChangedAndCounted(t *testing.T) {
	s := open4test(t)
	write := func(f func(tx *Tx) error) error { return s.Write(t.Context(), f) }
	const one, two = "c0000000-0000-4000-8000-00000000000a", "c0000000-0000-4000-8000-00000000000b"
	d := rbac.Definition{ID: one, Name: "Operator", Description: "d", AssignableScopes: []string{"/subscriptions/s"}, CreatedBy: "x", UpdatedBy: "y",
		Permissions: []rbac.Permission{{Actions: []string{"a/*"}, NotActions: []string{"a/b"}, DataActions: []string{"c/d"}, NotDataActions: []string{}}}}
	var before int64
	err := write(func(tx *Tx) error {
		d.CreatedAt, d.UpdatedAt = tx.Now(), tx.Now()
		return tx.PutRoleDefinition(d)
	})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(t.Context(), before, 10)
	if err != nil || len(changes) != 1 || changes[0].Kind != "roleDefinition" || changes[0].Key != one {
		t.Fatalf("feed: %+v %v", changes, err)
	}
	second := d
	second.ID, second.Name = two, "OPERATOR"
	if err := write(func(tx *Tx) error { return tx.PutRoleDefinition(second) }); !fault.Is(err, fault.Conflict) || fault.As(err).Code != "RoleDefinitionWithSameNameExists" {
		t.Errorf("a second of the name: %v", err)
	}
	err = write(func(tx *Tx) error {
		got, ok, err := tx.RoleDefinitionByID("C0000000-0000-4000-8000-00000000000A")
		if err != nil || !ok || !reflect.DeepEqual(got, d) {
			t.Errorf("%+v %v %v", got, ok, err)
		}
		for i, at := range []scope.ID{scope.Subscription("s"), scope.ResourceGroup("s", "g"), scope.Subscription("s0"), scope.Root()} {
			if err := tx.PutRoleAssignment(rbac.Assignment{ID: string(rune('1' + i)), Scope: at, RoleID: one, PrincipalID: "p"}); err != nil {
				return err
			}
		}
		if n, err := tx.CountRoleAssignmentsIn(scope.Subscription("S")); n != 2 || err != nil {
			t.Errorf("in the subscription: %d %v", n, err)
		}
		if n, err := tx.CountRoleDefinitions(); n != 1 || err != nil {
			t.Errorf("roles: %d %v", n, err)
		}
		list, err := tx.RoleAssignmentsOfRole(one)
		if len(list) != 4 {
			t.Errorf("assignments of the role: %d", len(list))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if err := write(func(tx *Tx) error {
			existed, err := tx.DeleteRoleDefinition(one)
			if existed != want {
				t.Errorf("deleted: %v", existed)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
