package types_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/store"
)

// refused checks that something was refused in the words of the page.
func (w *world) refused(err error, sentence string) {
	w.t.Helper()
	if err == nil {
		w.t.Errorf("%s: nothing was refused", sentence)
		return
	}
	handbooktest.Said(w.t, fault.As(heard.HearError(err)).Public(), sentence)
}

func (w *world) refusedPut(sentence, at, body string) {
	w.t.Helper()
	_, err := w.put(as(admin), at, body)
	w.refused(err, sentence)
}

func TestSentences_Groups(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	const root = "/providers/Microsoft.Management/managementGroups/"
	group := func(sentence, name, body string) {
		t.Helper()
		_, err := w.accounts.PutManagementGroup(t.Context(), as(admin), id(root+name), []byte(body))
		w.refused(err, sentence)
	}
	group("arm.InvalidManagementGroup.move", tenantID, `{"properties":{"details":{"parent":{"id":"`+root+`x"}}}}`)
	group("arm.InvalidManagementGroup.name", "x", `{"properties":{"displayName":"`+strings.Repeat("x", 257)+`"}}`)
	group("arm.InvalidResourceReference.type", "x", `{"properties":{"details":{"parent":{"id":"`+sub+`"}}}}`)
	_, err := w.accounts.SubscriptionUnder(t.Context(), as(admin), id(root+tenantID), id("/subscriptions/"+tenantID))
	w.refused(err, "arm.NotMember")
	value := "v"
	_, _, err = w.accounts.OfferTag(t.Context(), as(admin), id(sub), "env", &value)
	w.refused(err, "arm.TagNameNotFound")
	for _, v := range []*string{nil, &value} {
		_, _, err = w.accounts.OfferTag(t.Context(), as(admin), id(sub), "env", v)
		w.must(err)
	}
	w.refused(w.accounts.WithdrawTag(t.Context(), as(admin), id(sub), "env", nil), "arm.TagNameHasValues")
	w.mustPut(rg, `{"location":"southcentralus","tags":{"ENV":"v"}}`)
	w.refused(w.accounts.WithdrawTag(t.Context(), as(admin), id(sub), "env", &value), "arm.TagInUse")
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(sub)})
	w.refused(err, "arm.OperationNotAllowed.deleted")
	_, err = w.deploy(as(admin), `{"properties":{"mode":"Complete","template":{"resources":[]}}}`)
	w.refused(err, "arm.InvalidDeploymentMode.complete")
	_, err = w.deploy(as(admin), `{"properties":{"mode":"Whole","template":{"resources":[]}}}`)
	w.refused(err, "arm.InvalidDeploymentMode")
	_, err = w.deploy(as(admin), templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"a","properties":{}}`))
	w.refused(err, "arm.Deployment")
	_, err = w.deploy(as(admin), templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"a","location":"westeurope","tags":{"t":"[reference('`+pipID+`', '2024').ipAddress]"},"properties":{}}`))
	w.refused(err, "arm.ResourceNotFound.template")
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err = types.MayMint(w.engine, tx, as(admin), id(sub+"/resourceGroups/gone"))
		return nil
	}))
	w.refused(err, "arm.ResourceNotFound.token")
}

func TestSentences_Roles(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	w.must(w.define(as(admin), rg, role1, roleBody("R", readOnly, rg)))
	_, err := w.grant(as(admin), alice, role1, rg+"2")
	w.refused(err, "arm.RoleAssignmentScopeNotAssignable")
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 4999 {
			if err := tx.PutRoleDefinition(rbac.Definition{ID: fmt.Sprintf("00000000-0000-4000-9000-%012d", i), Name: fmt.Sprint("role ", i), AssignableScopes: []string{sub}}); err != nil {
				return err
			}
		}
		return nil
	}))
	w.refused(w.define(as(admin), rg, role2, roleBody("S", readOnly, rg)), "arm.RoleDefinitionLimitExceeded")
}

func TestSentences_Machines(t *testing.T) {
	w := newWorld(t).withNetwork()
	k := key(t)
	swap := func(old, next string) string { return strings.Replace(vmBody(k), old, next, 1) }
	w.refusedPut("arm.VMSize", vmID, swap("Standard_DS1_v2", "Sallyport_huge"))
	w.refusedPut("arm.InvalidIdentityType", vmID, swap(`{"type":"SystemAssigned"}`, `{"type":"Mine"}`))
	w.settle(time.Minute)
	w.mustPut(vmID, vmBody(k))
	w.settle(time.Minute)
	w.mustPut(nicID+"2", `{"location":"southcentralus","properties":{"ipConfigurations":[{"name":"ipconfigmyVM","properties":{"subnet":{"id":"`+rg+`/providers/Microsoft.Network/virtualNetworks/myVMVNET/subnets/myVMSubnet"}}}]}}`)
	w.refusedPut("arm.PropertyChangeNotAllowed.interface", vmID, swap("myVMVMNic", "myVMVMNic2"))
	w.refusedPut("arm.PropertyChangeNotAllowed.size", vmID, swap("Standard_DS1_v2", "Sallyport_nspawn"))
	w.refusedPut("arm.PropertyChangeNotAllowed.image", vmID, swap(`"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS"`, `"publisher":"Debian","offer":"debian-11","sku":"11-backports-gen2"`))
	_, err := w.engine.Act(t.Context(), as(admin), id(vmID), "powerOff")
	w.must(err)
	w.settle(time.Minute)
	_, err = w.engine.Act(t.Context(), as(admin), id(vmID), "restart")
	w.refused(err, "arm.OperationNotAllowed.restart")
	w.refusedPut("arm.OperationNotAllowed.extension", extID, extBody)
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(vmID)})
	w.must(err)
	_, err = w.engine.Act(t.Context(), as(admin), id(vmID), "start")
	w.refused(err, "arm.BeingDeleted.action")
	w.refusedPut("arm.BeingDeleted", vmID, vmBody(k))
}

func TestSentences_ScaleSets(t *testing.T) {
	w := withSet(t, "Manual", login)
	k, _ := dig(w.get(setID, false), "properties", "virtualMachineProfile", "osProfile", "linuxConfiguration", "ssh", "publicKeys", 0, "keyData").(string)
	swap := func(old, next string) string {
		return strings.Replace(setBody(2, "Manual", k, login, person), old, next, 1)
	}
	w.refusedPut("arm.PropertyChangeNotAllowed.set-account", setID, setBody(2, "Manual", key(t), login, person))
	w.refusedPut("arm.PropertyChangeNotAllowed.set-size", setID, swap("Standard_DS1_v2", "Sallyport_nspawn"))
	w.refusedPut("arm.PropertyChangeNotAllowed.set-image", setID, swap(`"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS"`, `"publisher":"Debian","offer":"debian-11","sku":"11-backports-gen2"`))
	_, err := w.do(setID, "manualupgrade", `{"instanceIds":["7"]}`)
	w.refused(err, "arm.NoInstance")

	_, err = w.do(setID, "powerOff", `{"instanceIds":["1"]}`)
	w.must(err)
	w.settle(time.Minute)
	_, err = w.do(setID, "manualupgrade", `{"instanceIds":["1"]}`)
	w.refused(err, "arm.OperationNotAllowed.model")

	// The model loses the extension and gets it back while instance 0 removes it.
	w.mustPut(setID, setBody(2, "Manual", k, "", person))
	_, err = w.do(setID, "manualupgrade", `{"instanceIds":["0"]}`)
	w.must(err)
	w.mustPut(setID, setBody(2, "Manual", k, login, person))
	_, err = w.do(setID, "manualupgrade", `{"instanceIds":["0"]}`)
	w.refused(err, "arm.ExtensionBeingRemoved")
}

// failed checks that a resource has failed in the words of the page.
func (w *world) failed(at, sentence string, meanings ...string) {
	w.t.Helper()
	r, err := w.engine.Find(w.t.Context(), as(admin), id(at))
	w.must(err)
	if r.State != resource.Failed || r.Error == nil {
		w.t.Fatalf("%s: %s is %s", sentence, at, r.State)
	}
	handbooktest.Said(w.t, r.Error.Message, sentence, meanings...)
}

// What ends while somebody waits for it says why.
func TestSentences_StoppedOnTheWay(t *testing.T) {
	w := newWorld(t).withMachine()
	w.lab.mute = true
	w.mustPut(extID, extBody)
	_, err := w.engine.Act(t.Context(), as(admin), id(vmID), "powerOff")
	w.must(err)
	w.settle(5 * time.Minute)
	w.failed(extID, "OperationNotAllowed")
}

// An operation whose resource is gone, or was wanted again, says what became of it.
func TestSentences_OvertakenOperations(t *testing.T) {
	w := newWorld(t).withMachine()
	said := func(r resource.Result, sentence string) {
		t.Helper()
		s := w.status(r.Operation)
		if s.Error == nil {
			t.Fatalf("%s: %+v", sentence, s)
		}
		handbooktest.Said(t, s.Error.Message, sentence)
	}
	remove := func(at string) resource.Result {
		t.Helper()
		r, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(at)})
		w.must(err)
		w.settle(time.Minute)
		return r
	}
	made := w.mustPut(extID, extBody)
	w.settle(time.Minute)
	w.loggedIn = func(context.Context, string) ([]string, error) { return []string{"alice@example.test"}, nil }
	kept := remove(extID)
	said(kept, "VMExtensionInUse")
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	said(kept, "arm.DeleteFailed")
	w.loggedIn = nil
	remove(extID)
	said(made, "arm.ResourceDeleted")
}

// A part is refused; or what a deployment made is gone before the deployment is done.
func TestSentences_FailedDeployments(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	r, err := w.deployments().Start(t.Context(), as(admin), resource.Request{ID: id(deployID), Body: []byte(templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"a?","location":"southcentralus","properties":{}}`))})
	w.must(err)
	text, _ := dig(r.Body, "properties", "error", "message").(string)
	handbooktest.Said(t, text, "arm.DeploymentFailed.refused")
	_, err = w.deploy(as(admin), templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"a","location":"southcentralus","properties":{}}`))
	w.must(err)
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(rg + "/providers/Microsoft.Network/publicIPAddresses/a")})
	w.must(err)
	w.settle(time.Minute)
	w.failed(deployID, "arm.DeploymentFailed.deleted")
}

func TestSentences_InstanceStoppedOnTheWay(t *testing.T) {
	w := withSet(t, "Manual", "")
	k, _ := dig(w.get(setID, false), "properties", "virtualMachineProfile", "osProfile", "linuxConfiguration", "ssh", "publicKeys", 0, "keyData").(string)
	w.mustPut(setID, setBody(2, "Manual", k, login, person))
	w.lab.mute = true
	_, err := w.do(setID, "manualupgrade", `{"instanceIds":["0"]}`)
	w.must(err)
	_, err = w.do(setID, "powerOff", `{"instanceIds":["0"]}`)
	w.must(err)
	w.settle(10 * time.Minute)
	w.failed(instanceID(0)+"/extensions/AADSSHLoginForLinux", "OperationNotAllowed.instance")
}

func TestSentences_BothVersionsInAModel(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.allowed.Store(true)
	w.mustPut(setID, setBody(1, "Manual", key(t), login+`,{"name":"AADLoginForLinux","properties":{"publisher":"Microsoft.Azure.ActiveDirectory.LinuxSSH","type":"AADLoginForLinux","typeHandlerVersion":"1.0"}}`, person))
	w.settle(2 * time.Minute)
	w.failed(instanceID(0)+"/extensions/AADLoginForLinux", "exit-23.instance")
	w.failed(setID, "arm.InstanceFailed")
}
