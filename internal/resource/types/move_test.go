package types_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/store"
)

const (
	otherRG = sub + "/resourceGroups/Other"
	movedVM = otherRG + "/providers/Microsoft.Compute/virtualMachines/myVM"
)

func (w *world) moveBy(by audit.By, validate bool, to string, ids ...string) error {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"resources": ids, "targetResourceGroup": to})
	w.must(err)
	return w.engine.Move(w.t.Context(), by, resource.MoveRequest{Group: id(rg), Body: body, Validate: validate})
}

// twoGroups is a machine with its extension, and another group.
func twoGroups(t *testing.T) *world {
	t.Helper()
	w := newWorld(t).withMachine()
	w.mustPut(extID, extBody)
	w.mustPut(otherRG, `{"location":"southcentralus"}`)
	w.settle(time.Minute)
	return w
}

func (w *world) logsIn(who, at string) bool {
	return w.rights.Check(rbac.Query{Principals: []string{who}, Scope: id(at), Action: rbac.ActionLogin, Data: true}).Allowed
}

func TestMove_MachineWithWhatIsItsOwn(t *testing.T) {
	w := twoGroups(t)
	machineID := dig(w.get(vmID, false), "properties", "vmId").(string)
	principal := dig(w.get(vmID, false), "identity", "principalId").(string)
	op := w.mustPut(vmID, vmBody(dig(w.get(vmID, false), "properties", "osProfile", "linuxConfiguration", "ssh", "publicKeys", 0, "keyData").(string))).Operation
	w.settle(time.Minute)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutMachine(machine.Machine{ID: machineID, ResourceID: id(vmID), Thumbprint: "t"}); err != nil {
			return err
		}
		return tx.PutJoinToken(machine.Token{Hash: "old", MachineID: machineID, ResourceID: id(vmID), ExpiresAt: w.now().Add(time.Hour)})
	}))
	w.mustGrant(alice, rbac.VMUserLogin, vmID)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: "00000000-0000-4000-8000-0000000000f9", Scope: id(rg), RoleID: rbac.Reader, PrincipalID: principal, PrincipalType: "ServicePrincipal"})
	}))

	w.must(w.moveBy(as(admin), false, strings.ToLower(otherRG), strings.ToUpper(vmID[:15])+vmID[15:]))

	if _, err := w.engine.Get(t.Context(), as(admin), id(vmID), false); code(err) != "ResourceNotFound" {
		t.Errorf("the old id: %v", err)
	}
	moved := w.get(movedVM, false)
	if moved["id"] != movedVM || dig(moved, "properties", "vmId") != machineID || dig(moved, "identity", "principalId") != principal {
		t.Errorf("moved: %v", moved)
	}
	if got := dig(moved, "resources", 0, "id"); got != movedVM+"/extensions/AADSSHLoginForLinux" {
		t.Errorf("the extension is %v", got)
	}
	if got := dig(w.get(nicID, false), "properties", "virtualMachine", "id"); got != movedVM {
		t.Errorf("the interface is of %v", got)
	}
	if want, ok := w.machines.Want(machineID); !ok || want.ResourceID != id(movedVM) || !want.LoginEnabled {
		t.Errorf("wanted: %+v %v", want, ok)
	}
	if w.logsIn(alice, vmID) || w.logsIn(alice, movedVM) {
		t.Error("a role at the machine itself went along or stayed")
	}
	if len(w.rights.Assignments(rbac.Filter{Principals: []string{principal}})) != 1 {
		t.Error("the identity lost its role elsewhere")
	}
	if s := w.status(op); s.Status != resource.Succeeded || s.Resource != id(movedVM) {
		t.Errorf("the operation of before: %+v", s)
	}
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		p, _, err := tx.ServicePrincipalByID(principal)
		if p.ResourceID != movedVM || !slices.Equal(p.Names, []string{p.AppID, movedVM}) {
			t.Errorf("the identity: %+v", p)
		}
		if err != nil {
			return err
		}
		m, _, err := tx.MachineByID(machineID)
		if m.ResourceID != id(movedVM) {
			t.Errorf("the machine: %+v", m)
		}
		return err
	}))
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		if _, ok, err := tx.UseJoinToken("old", "x", w.now()); ok || err != nil {
			t.Errorf("a join token of before the move: %v %v", ok, err)
		}
		return nil
	}))
	// It works on: a change, and a machine of the old name.
	if _, err := w.engine.Act(t.Context(), as(admin), id(movedVM), "restart"); err != nil {
		t.Error(err)
	}
	w.settle(time.Minute)
	if got := dig(w.get(nicID, false), "properties", "ipConfigurations", 0, "properties", "privateIPAddress"); got == nil {
		t.Error("the interface has no address any more")
	}
	if _, err := w.put(as(admin), vmID, vmBody(key(t))); code(err) != "NicInUse" {
		t.Errorf("a second machine on the interface: %v", err)
	}
}

// What refers to something is changed with it, whatever moves: alone and together.
func TestMove_ReferencesFollow(t *testing.T) {
	w := twoGroups(t)
	vnet := "/providers/Microsoft.Network/virtualNetworks/myVMVNET"
	nic, pip := strings.TrimPrefix(nicID, rg), strings.TrimPrefix(pipID, rg)
	w.must(w.moveBy(as(admin), false, otherRG, nicID))
	if got := dig(w.get(vmID, false), "properties", "networkProfile", "networkInterfaces", 0, "id"); got != otherRG+nic {
		t.Errorf("the machine's interface is %v", got)
	}
	w.must(w.moveBy(as(admin), false, otherRG, rg+vnet, pipID, pipID))
	c := dig(w.get(otherRG+nic, false), "properties", "ipConfigurations", 0)
	if dig(c, "id") != otherRG+nic+"/ipConfigurations/ipconfigmyVM" || dig(c, "properties", "subnet", "id") != otherRG+vnet+"/subnets/myVMSubnet" || dig(c, "properties", "publicIPAddress", "id") != otherRG+pip {
		t.Errorf("the configuration: %v", c)
	}
	if got := dig(w.get(otherRG+vnet, false), "properties", "subnets", 0, "id"); got != otherRG+vnet+"/subnets/myVMSubnet" {
		t.Errorf("the subnet: %v", got)
	}
	if _, err := w.engine.Act(t.Context(), as(admin), id(vmID), "restart"); err != nil {
		t.Fatal(err)
	}
	w.settle(time.Minute)
	if dig(w.get(otherRG+pip, false), "properties", "ipAddress") == nil {
		t.Error("the public address is empty")
	}
}

func TestMove_Refusals(t *testing.T) {
	w := twoGroups(t)
	w.mustPut(otherRG+strings.TrimPrefix(pipID, rg), `{"location":"southcentralus"}`)
	position := w.store.Position()
	for _, c := range []struct {
		name, want, to string
		ids            []string
	}{
		{"nothing", "InvalidRequestContent", otherRG, nil},
		{"no group", "InvalidRequestContent", sub, []string{vmID}},
		{"the same group", "InvalidRequestContent", strings.ToLower(rg), []string{vmID}},
		{"a group that is not there", "ResourceGroupNotFound", sub + "/resourceGroups/nowhere", []string{vmID}},
		{"what is not there", "ResourceNotFound", otherRG, []string{vmID + "2"}},
		{"no id", "InvalidResourceId", otherRG, []string{"myVM"}},
		{"a child", "ResourceNotTopLevel", otherRG, []string{extID}},
		{"of another group", "ResourceNotTopLevel", otherRG, []string{strings.Replace(vmID, rg, otherRG, 1)}},
		{"a group", "ResourceNotTopLevel", otherRG, []string{rg}},
		{"a name that is taken, and one that is not", "ResourceAlreadyExists", otherRG, []string{vmID, pipID}},
		{"a type that is not there", "InvalidResourceType", otherRG, []string{rg + "/providers/A.B/c/d"}},
	} {
		if err := w.moveBy(as(admin), false, c.to, c.ids...); code(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := w.engine.Move(t.Context(), as(admin), resource.MoveRequest{Group: id(rg), Body: []byte(`{"resources":["` + vmID + `"],"targetResourceGroup":"` + otherRG + `","x":1}`)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a field that nobody knows: %v", err)
	}
	w.must(w.moveBy(as(admin), true, otherRG, vmID))
	if w.store.Position() != position {
		t.Error("a refusal or a validation changed something")
	}
}

// Whose operation runs does not move, and nothing that its worker knows by its id.
func TestMove_NotWhileAnOperationRuns(t *testing.T) {
	w := twoGroups(t)
	if _, err := w.engine.Act(t.Context(), as(admin), id(vmID), "restart"); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{vmID, nicID} {
		if err := w.moveBy(as(admin), false, otherRG, what); code(err) != "MoveCannotProceedWithResourcesNotInSucceededState" || !strings.Contains(err.Error(), "Updating") {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.settle(time.Minute)
	if _, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(otherRG)}); err != nil {
		t.Fatal(err)
	}
	if err := w.moveBy(as(admin), false, otherRG, vmID); code(err) != "ResourceGroupBeingDeleted" {
		t.Errorf("into a group that goes away: %v", err)
	}
}

// Both ends are asked, each right by itself, and a refusal is audited.
func TestEscalation_ThroughAMove(t *testing.T) {
	w := twoGroups(t)
	by := as(alice)
	refused := func(name, action, at string) {
		t.Helper()
		err := w.moveBy(by, false, otherRG, vmID)
		if !fault.Is(err, fault.Forbidden) {
			t.Fatalf("%s: %v", name, err)
		}
		w.wantRefused(err, action, at)
	}
	const move = "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action"
	refused("nobody", move, rg)
	there := w.mustGrant(alice, rbac.Contributor, otherRG)
	refused("a contributor of the target fetches", move, rg)
	w.must(w.unassign(otherRG, there))
	w.mustGrant(alice, rbac.Contributor, rg)
	refused("a contributor of the source gives away", "Microsoft.Resources/resourceGroups/write", otherRG)
	if err := w.moveBy(by, true, otherRG, vmID); !fault.Is(err, fault.Forbidden) {
		t.Errorf("validation: %v", err)
	}

	// At both ends, and the target has people of its own.
	w.mustGrant(alice, rbac.Contributor, otherRG)
	for _, role := range []string{rbac.VMUserLogin, rbac.VMAdministratorLogin, rbac.Owner} {
		for _, who := range []string{alice, crew} {
			gives := w.mustGrant(who, role, otherRG)
			refused("role "+role, "Microsoft.Authorization/roleAssignments/write", vmID)
			w.must(w.unassign(otherRG, gives))
		}
	}
	// Nobody gains: what Azure asks is enough. Login at the old group ends.
	w.mustGrant(crew, rbac.VMUserLogin, rg)
	w.must(w.moveBy(by, false, otherRG, vmID))
	if w.logsIn(crew, movedVM) {
		t.Error("a role at the old group reaches the machine")
	}
}

// Who may assign roles at the machine may also move it to people who then get in.
func TestMove_LetsInWhereThatMayBeGiven(t *testing.T) {
	w := twoGroups(t)
	w.mustGrant(alice, rbac.Owner, vmID)
	w.mustGrant(alice, rbac.Contributor, rg)
	w.mustGrant(alice, rbac.Contributor, otherRG)
	w.mustGrant(crew, rbac.VMUserLogin, otherRG)
	w.must(w.moveBy(as(alice), false, otherRG, vmID))
	if !w.logsIn(crew, movedVM) {
		t.Error("the target's people do not get in")
	}
	if w.rights.Check(rbac.Query{Principals: []string{alice}, Scope: id(movedVM), Action: "Microsoft.Authorization/roleAssignments/write"}).Allowed {
		t.Error("the mover's own role at the machine went along")
	}
}

// Whoever lost a right in the moment before the move is stored moves nothing,
// although the index still says that he may: the right to let people in, and the
// one to write what moves.
func TestMove_TheRightsAreCheckedInsideTheWrite(t *testing.T) {
	for _, lost := range []struct{ role, at string }{{rbac.Owner, vmID}, {rbac.Contributor, rg}, {rbac.Contributor, otherRG}} {
		w := twoGroups(t)
		rights := map[string]string{}
		for _, g := range []struct{ role, at string }{{rbac.Owner, vmID}, {rbac.Contributor, rg}, {rbac.Contributor, otherRG}} {
			rights[g.role+g.at] = w.mustGrant(alice, g.role, g.at)
		}
		w.mustGrant(crew, rbac.VMUserLogin, otherRG)
		// Behind the back of the indexes, as another server's commit is for a moment.
		w.must(w.store.Store.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.DeleteRoleAssignment(rights[lost.role+lost.at])
			return err
		}))
		if err := w.moveBy(as(alice), false, otherRG, vmID); code(err) != "AuthorizationChanged" {
			t.Errorf("%v: %v", lost, err)
		}
		if w.logsIn(crew, movedVM) && w.get(vmID, false)["id"] != vmID {
			t.Errorf("%v: it moved all the same", lost)
		}
	}
}

func (w *world) unassign(at, name string) error {
	_, _, err := w.auth.DeleteAssignment(w.t.Context(), as(admin), id(at), name)
	return err
}
