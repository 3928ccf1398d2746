package types_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/store"
)

func (w *world) principal(id string) (p directory.ServicePrincipal, ok bool) {
	w.t.Helper()
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		var err error
		p, ok, err = tx.ServicePrincipalByID(id)
		return err
	}))
	return p, ok
}

func (w *world) patch(by string, body string) error {
	_, err := w.engine.Patch(w.t.Context(), as(by), resource.Request{ID: id(vmID), Body: []byte(body)})
	return err
}

// TestUserIdentity is its life: made, assigned beside the machine's own, kept by a
// client's read-modify-write, moved, taken away by name, and deleted.
func TestUserIdentity(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(uaiID, `{"location":"southcentralus","tags":{"a":"b"},"properties":{}}`)
	shown := w.get(uaiID, false)
	object, _ := dig(shown, "properties", "principalId").(string)
	p, ok := w.principal(object)
	if !ok || p.Type != directory.TypeManagedIdentity || p.AppID != dig(shown, "properties", "clientId") || p.ResourceID != uaiID || shown["identity"] != nil {
		t.Fatalf("%v %+v", shown, p)
	}
	w.mustPut(uaiID, `{"location":"southcentralus","properties":{"principalId":"`+admin+`"}}`)
	if got := dig(w.get(uaiID, false), "properties", "principalId"); got != object {
		t.Errorf("a body chose the principal: %v", got)
	}
	own := dig(w.get(vmID, false), "identity", "principalId")
	assign := `{"identity":{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + uaiID + `":{}}}}`
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: "00000000-0000-4000-8000-0000000000e1", Scope: id(sub), RoleID: rbac.Owner, PrincipalID: object, PrincipalType: "ServicePrincipal", CreatedAt: tx.Now(), UpdatedAt: tx.Now()})
	}))
	w.mustGrant(alice, rbac.Contributor, sub)
	w.refused(w.patch(alice, assign), "arm.AuthorizationFailed.identity")
	w.must(w.patch(admin, assign))
	w.settle(time.Minute)
	check := func(when string) {
		t.Helper()
		i := dig(w.get(vmID, false), "identity")
		if dig(i, "type") != "SystemAssigned, UserAssigned" || dig(i, "principalId") != own || dig(i, "userAssignedIdentities", uaiID, "principalId") != object || dig(i, "userAssignedIdentities", uaiID, "clientId") != p.AppID {
			t.Errorf("%s: %v", when, i)
		}
	}
	check("assigned")
	if want, _ := w.machines.Want(w.want().MachineID); len(want.Assigned) != 1 || want.Assigned[0].PrincipalID != object || want.PrincipalID != own {
		t.Errorf("%+v", want)
	}
	w.must(w.patch(alice, assign)) // what is there already is no gift
	w.must(w.patch(alice, `{"tags":{"a":"b"}}`))
	w.settle(time.Minute)
	check("kept")
	w.must(w.patch(admin, `{"identity":{"type":"SystemAssigned","userAssignedIdentities":{"`+uaiID+`":null}}}`))
	if i := dig(w.get(vmID, false), "identity"); dig(i, "type") != "SystemAssigned" || dig(i, "userAssignedIdentities") != nil || dig(i, "principalId") != own {
		t.Errorf("taken away: %v", i)
	}
	w.settle(time.Minute)
	w.must(w.patch(admin, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+uaiID+`":{}}}}`))
	w.settle(time.Minute)
	if _, ok := w.principal(own.(string)); ok {
		t.Error("the machine's own identity lives on")
	}
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	w.must(w.engine.Move(t.Context(), as(admin), resource.MoveRequest{Group: id(rg), Body: []byte(`{"resources":["` + uaiID + `"],"targetResourceGroup":"` + rg + `2"}`)}))
	moved := rg + "2/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai"
	if i := dig(w.get(vmID, false), "identity"); dig(i, "userAssignedIdentities", moved, "principalId") != object {
		t.Errorf("moved: %v", i)
	}
	if p, _ := w.principal(object); p.ResourceID != moved {
		t.Errorf("moved: %+v", p)
	}
	_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(moved)})
	w.must(err)
	if _, ok := w.principal(object); ok || w.get(vmID, false)["identity"] != nil {
		t.Errorf("deleted: %v", w.get(vmID, false))
	}
	if left := w.rights.Assignments(rbac.Filter{Principals: []string{object}}); len(left) > 0 {
		t.Errorf("its roles: %v", left)
	}
	w.refusedPut("arm.InvalidIdentityType.user", setID, setBody(1, "Manual", key(t), "", `,"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+uaiID+`":{}}}`))
}

// What goes with its group goes from every machine, too.
func TestUserIdentity_GroupGoes(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	var given []string
	for _, name := range []string{"a", "b"} {
		at := rg + "2/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
		w.mustPut(at, `{"location":"southcentralus"}`)
		given = append(given, `"`+at+`":{}`)
	}
	w.mustPut(uaiID, `{"location":"southcentralus"}`)
	w.must(w.patch(admin, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{`+strings.Join(append(given, `"`+uaiID+`":{}`), ",")+`}}}`))
	w.settle(time.Minute)
	_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(rg + "2")})
	w.must(err)
	w.settle(time.Minute)
	if left, _ := dig(w.get(vmID, false), "identity", "userAssignedIdentities").(map[string]any); len(left) != 1 || left[uaiID] == nil {
		t.Errorf("left: %v", left)
	}
	if want, _ := w.machines.Want(w.want().MachineID); len(want.Assigned) != 1 {
		t.Errorf("%+v", want.Assigned)
	}
}

// Who may change a machine's tags, or the machine, links nothing by that: it takes no
// right to its network interface.
func TestPatch_OfTagsLinksNothing(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustGrant(alice, rbac.Contributor, vmID)
	w.must(w.patch(alice, `{"tags":{"a":"b"}}`))
	tags, err := w.engine.ChangeTags(t.Context(), as(alice), id(vmID), resource.MergeTags(map[string]string{"c": "d"}))
	if err != nil || len(tags) != 2 {
		t.Errorf("%v %v", tags, err)
	}
	if err := w.patch(alice, `{"properties":{"userData":null}}`); !fault.Is(err, fault.Forbidden) {
		t.Errorf("what names properties may link: %v", err)
	}
}

// Each identity is an account on every machine, and whoever may write in one group
// makes them: there is an end to it.
func TestUserIdentity_Quota(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 799 {
			if err := tx.PutResource(resource.Resource{ID: id(uaiID + strconv.Itoa(i)), Revision: 1, Observed: 1, State: resource.Succeeded, CreatedAt: tx.Now(), ChangedAt: tx.Now(), WantedAt: tx.Now()}); err != nil {
				return err
			}
		}
		return nil
	}))
	w.mustPut(uaiID, `{"location":"southcentralus"}`)
	_, err := w.put(as(admin), uaiID+"-more", `{"location":"southcentralus"}`)
	w.refused(err, "arm.ResourceQuotaExceeded")
	w.mustPut(uaiID, `{"location":"southcentralus","tags":{"a":"b"}}`)
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	w.mustPut(rg+"2/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai", `{"location":"southcentralus"}`)
}
