package types_test

import (
	"testing"
)

// TestMove_KeepsCustomRolesInReach: as in Azure, nothing moves away from the management
// group whose custom role is assigned in it.
func TestMove_KeepsCustomRolesInReach(t *testing.T) {
	w := newWorld(t)
	const root, role = "/providers/Microsoft.Management/managementGroups/", "99999999-0000-4000-8000-00000000000a"
	group := func(name, parent string) error {
		_, err := w.accounts.PutManagementGroup(t.Context(), as(admin), id(root+name), []byte(`{"properties":{"details":{"parent":{"id":"`+root+parent+`"}}}}`))
		return err
	}
	move := func(to string) error {
		return w.accounts.MoveSubscription(t.Context(), as(admin), id(root+to), id(sub))
	}
	w.must(group("corp", tenantID))
	w.must(group("team", "corp"))
	w.must(group("elsewhere", tenantID))
	w.must(move("team"))
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.must(w.define(as(admin), root+"corp", role, roleBody("Reads corp", readOnly, root+"corp")))
	w.must(group("team", tenantID)) // nobody has the role
	w.must(group("team", "corp"))
	w.mustGrant(alice, role, rg)
	w.refused(move("elsewhere"), "arm.RoleDefinitionHasAssignments.move")
	w.refused(group("team", "elsewhere"), "arm.RoleDefinitionHasAssignments.move")
	w.must(move("corp")) // still below it
	w.must(move("team"))
	w.must(w.define(as(admin), root+"corp", role, roleBody("Reads corp", readOnly, root+"corp", sub)))
	w.must(move("elsewhere"))
	if !w.can(alice, "Microsoft.Resources/subscriptions/resourceGroups/read", rg, false) {
		t.Error("the assignment is worth nothing")
	}
}
