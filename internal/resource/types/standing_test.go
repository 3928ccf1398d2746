package types_test

import (
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/store"
)

// Whoever lost the right to assign in the moment before his write is stored
// assigns and deletes nothing, although the index still says that he may.
func TestAssignment_TheRightIsCheckedInsideTheWrite(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	right := w.mustGrant(alice, rbac.Owner, rg)
	given := w.mustGrant(alice, rbac.Reader, rg)
	// Behind the back of the indexes, as another server's commit is for a moment.
	if err := w.store.Store.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.DeleteRoleAssignment(right); return err }); err != nil {
		t.Fatal(err)
	}
	body := `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/` + rbac.Owner + `","principalId":"` + alice + `"}}`
	if _, err := w.auth.PutAssignment(t.Context(), as(alice), id(rg), "00000000-0000-4000-8000-00000000abcd", []byte(body)); code(err) != "AuthorizationChanged" {
		t.Errorf("assign: %v", err)
	}
	if _, _, err := w.auth.DeleteAssignment(t.Context(), as(alice), id(rg), given); code(err) == "" {
		t.Error("deleted without the right")
	}
	if err := w.store.Read(t.Context(), func(tx *store.Tx) error {
		if _, ok, err := tx.RoleAssignmentByID("00000000-0000-4000-8000-00000000abcd"); err != nil || ok {
			t.Errorf("it was assigned all the same: %v", err)
		}
		_, ok, err := tx.RoleAssignmentByID(given)
		if !ok {
			t.Error("it was deleted all the same")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// The same for custom roles, whose change is a change of everybody's rights who
// holds one.
func TestDefinition_TheRightIsCheckedInsideTheWrite(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	right := w.mustGrant(alice, rbac.Owner, rg)
	const name = "00000000-0000-4000-8000-00000000dddd"
	body := func(action string) []byte {
		return []byte(`{"properties":{"roleName":"Mine","permissions":[{"actions":["` + action + `"]}],"assignableScopes":["` + rg + `"]}}`)
	}
	if _, err := w.auth.PutDefinition(t.Context(), as(alice), id(rg), name, body("Microsoft.Compute/virtualMachines/read")); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Store.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.DeleteRoleAssignment(right); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.auth.PutDefinition(t.Context(), as(alice), id(rg), name, body("*")); code(err) != "AuthorizationChanged" {
		t.Errorf("changed: %v", err)
	}
	if _, _, err := w.auth.DeleteDefinition(t.Context(), as(alice), id(rg), name); code(err) == "" {
		t.Errorf("deleted: %v", err)
	}
}

// The same for moves between management groups, which bring the roles of the new place
// along: whoever is Owner there must not have been Owner of what moves until just now.
func TestMove_TheRightIsCheckedInsideTheWrite(t *testing.T) {
	w := newWorld(t)
	ctx, root := t.Context(), "/providers/Microsoft.Management/managementGroups/"
	for _, name := range []string{"mine", "team"} {
		_, err := w.accounts.PutManagementGroup(ctx, as(admin), id(root+name), []byte(`{}`))
		w.must(err)
	}
	w.mustGrant(alice, rbac.Owner, root+"mine")
	rights := []string{w.mustGrant(alice, rbac.Owner, sub), w.mustGrant(alice, rbac.Owner, root+"team")}
	lose := func(right string) {
		w.must(w.store.Store.Write(ctx, func(tx *store.Tx) error { _, err := tx.DeleteRoleAssignment(right); return err }))
	}
	lose(rights[0])
	if err := w.accounts.MoveSubscription(ctx, as(alice), id(root+"mine"), id(sub)); code(err) != "AuthorizationChanged" {
		t.Errorf("a subscription: %v", err)
	}
	lose(rights[1])
	if _, err := w.accounts.PutManagementGroup(ctx, as(alice), id(root+"team"), []byte(`{"properties":{"details":{"parent":{"id":"`+root+`mine"}}}}`)); code(err) != "AuthorizationChanged" {
		t.Errorf("a management group: %v", err)
	}
}
