package types_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const (
	setID  = rg + "/providers/Microsoft.Compute/virtualMachineScaleSets/myVMSS"
	login  = `{"name":"AADSSHLoginForLinux","properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}`
	person = `,"identity":{"type":"SystemAssigned"}`
)

func instanceID(n int) string { return fmt.Sprintf("%s/virtualMachines/%d", setID, n) }

// setBody is what sally and az write: more is what stands at the top level.
func setBody(capacity int, mode, k, extensions, more string) string {
	return fmt.Sprintf(`{"location":"southcentralus"%s,"sku":{"name":"Standard_DS1_v2","capacity":%d},"properties":{"upgradePolicy":{"mode":%q},"overprovision":true,"singlePlacementGroup":true,"virtualMachineProfile":{
"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"},"osDisk":{"createOption":"FromImage","osType":"Linux"}},
"osProfile":{"computerNamePrefix":"myvmss","adminUsername":"azureuser","linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":[{"keyData":%q}]}}},
"networkProfile":{"networkInterfaceConfigurations":[{"name":"nic","properties":{"primary":true,"ipConfigurations":[{"name":"ip","properties":{"subnet":{"id":"%s/providers/Microsoft.Network/virtualNetworks/myVMVNET/subnets/myVMSubnet"}}}]}}]},
"extensionProfile":{"extensions":[%s]}}}}`, more, capacity, mode, k, rg, extensions)
}

// withSet makes a set of two instances.
func withSet(t *testing.T, mode, extensions string) *world {
	t.Helper()
	w := newWorld(t).withNetwork()
	w.mustPut(setID, setBody(2, mode, key(t), extensions, person))
	w.settle(2 * time.Minute)
	return w
}

func (w *world) do(at, verb, body string) (resource.Result, error) {
	return w.engine.ActWith(w.t.Context(), as(admin), resource.Request{ID: id(at), Body: []byte(body)}, verb)
}

func (w *world) wantAt(at string) types.Want {
	w.t.Helper()
	machineID, _ := w.machines.Machine(id(at).Key())
	x, _ := w.machines.Want(machineID)
	return x
}

// names lists the instances that there are.
func (w *world) names() string {
	w.t.Helper()
	page, err := w.engine.List(w.t.Context(), as(admin), resource.Query{Under: id(setID), Type: types.ScaleSetInstance})
	w.must(err)
	var out []string
	for _, x := range page.Value {
		out = append(out, x["name"].(string))
	}
	return strings.Join(out, " ")
}

func TestScaleSet_InstancesAreMachines(t *testing.T) {
	w := withSet(t, "Manual", "")
	if got := w.names(); got != "myVMSS_0 myVMSS_1" {
		t.Fatal(got)
	}
	set, one := w.get(setID, false), w.get(instanceID(1), true)
	for path, got := range map[string]any{
		"Succeeded": dig(set, "properties", "provisioningState"), "Uniform": dig(set, "properties", "orchestrationMode"), "2": fmt.Sprint(dig(set, "sku", "capacity")),
		"1": dig(one, "instanceId"), "myvmss000001": dig(one, "properties", "osProfile", "computerName"), "true": fmt.Sprint(dig(one, "properties", "latestModelApplied")),
		"PowerState/running": dig(one, "properties", "instanceView", "statuses", 1, "code"), instanceID(1) + "/networkInterfaces/nic": dig(one, "properties", "networkProfile", "networkInterfaces", 0, "id"),
	} {
		if path != got {
			t.Errorf("%q, want %q", got, path)
		}
	}
	if a, b := dig(set, "identity", "principalId"), dig(one, "identity", "principalId"); a == nil || a != b || w.wantAt(instanceID(0)).PrincipalID != a {
		t.Errorf("the identity: set %v, instance %v, machine %q", a, b, w.wantAt(instanceID(0)).PrincipalID)
	}
	if x := w.wantAt(instanceID(0)); x.LoginEnabled || !x.Identity || x.AdminName != "azureuser" || x.Name != "myvmss000000" || x.Size != "Standard_DS1_v2" {
		t.Errorf("wanted: %+v", x)
	}
	r, err := w.engine.Find(t.Context(), as(admin), id(instanceID(0)))
	w.must(err)
	nics, err := types.InstanceInterfaces(r)
	w.must(err)
	b, _ := json.Marshal(nics)
	if !strings.Contains(string(b), `"privateIPAddress":"10.77.0.2"`) || strings.Contains(string(b), "publicIP") {
		t.Errorf("interfaces: %s", b)
	}
}

// What az does: it reads the whole set, adds the extension, and writes all of it.
func TestScaleSet_NewModelReachesOldInstancesByUpgradeOnly(t *testing.T) {
	w := withSet(t, "Manual", "")
	body := w.get(setID, false)
	profile := dig(body, "properties", "virtualMachineProfile").(map[string]any)
	var x any
	w.must(json.Unmarshal([]byte(login), &x))
	profile["extensionProfile"] = map[string]any{"extensions": []any{x}}
	b, err := json.Marshal(body)
	w.must(err)
	w.mustPut(setID, string(b))
	w.settle(time.Minute)
	for n := range 2 {
		if w.wantAt(instanceID(n)).LoginEnabled || dig(w.get(instanceID(n), false), "properties", "latestModelApplied") != false {
			t.Errorf("instance %d has the new model without an upgrade", n)
		}
	}
	r, _ := w.engine.Find(t.Context(), as(admin), id(instanceID(0)))
	if f, ok := types.FactsOf(r); !ok || !f.OldModel || !f.NewLogin {
		t.Errorf("facts: %+v", f)
	}
	up, err := w.do(setID, "manualupgrade", `{"instanceIds":["0"]}`)
	w.must(err)
	w.settle(time.Minute)
	if st := w.status(up.Operation); st.Status != resource.Succeeded {
		t.Fatalf("%+v", st)
	}
	if !w.wantAt(instanceID(0)).LoginEnabled || w.wantAt(instanceID(1)).LoginEnabled {
		t.Error("the upgrade of 0 reached", w.wantAt(instanceID(0)), w.wantAt(instanceID(1)))
	}
	if got := dig(w.get(instanceID(0), false), "resources", 0, "properties", "provisioningState"); got != "Succeeded" {
		t.Error(got)
	}
	// A new instance has the model at once.
	w.mustPut(setID, `{"location":"southcentralus","sku":{"name":"Standard_DS1_v2","capacity":3}}`)
	w.settle(time.Minute)
	if w.names() != "myVMSS_0 myVMSS_1 myVMSS_2" || !w.wantAt(instanceID(2)).LoginEnabled || w.wantAt(instanceID(1)).LoginEnabled {
		t.Error(w.names(), w.wantAt(instanceID(2)))
	}
	_, err = w.do(setID, "manualupgrade", `{"instanceIds":["*"]}`)
	w.must(err)
	w.settle(time.Minute)
	if !w.wantAt(instanceID(1)).LoginEnabled || dig(w.get(instanceID(1), false), "properties", "latestModelApplied") != true {
		t.Error("an upgrade of all left one")
	}
	// What is not in the model any more goes with the next upgrade.
	w.mustPut(setID, strings.Replace(string(b), `"extensions":[`+compact(t, login)+`]`, `"extensions":[]`, 1))
	_, err = w.do(setID, "manualupgrade", `{"instanceIds":["*"]}`)
	w.must(err)
	w.settle(2 * time.Minute)
	if w.wantAt(instanceID(1)).LoginEnabled || dig(w.get(instanceID(1), false), "resources") != nil {
		t.Error("the extension stayed:", dig(w.get(instanceID(1), false), "resources"))
	}
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestScaleSet_AutomaticPolicy(t *testing.T) {
	w := withSet(t, "Automatic", "")
	_, err := w.do(setID, "powerOff", `{"instanceIds":["1"]}`)
	w.must(err)
	w.settle(time.Minute)
	patch := `{"properties":{"virtualMachineProfile":{"extensionProfile":{"extensions":[` + login + `]}}}}`
	_, err = w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(setID), Body: []byte(patch)})
	w.must(err)
	w.settle(time.Minute)
	if !w.wantAt(instanceID(0)).LoginEnabled || w.wantAt(instanceID(1)).LoginEnabled {
		t.Fatal("the running one must have it, the other not yet")
	}
	if _, err := w.do(setID, "manualupgrade", `{"instanceIds":["1"]}`); code(err) != "OperationNotAllowed" || !strings.Contains(err.Error(), "not running") {
		t.Error("a machine that is off took a model:", err)
	}
	_, err = w.engine.Act(t.Context(), as(admin), id(instanceID(1)), "start")
	w.must(err)
	w.settle(time.Minute)
	if !w.wantAt(instanceID(1)).LoginEnabled {
		t.Error("it does not have it after its start")
	}
}

// Without an identity the extension fails with the article's code, and with one
// and an upgrade it is set up. An identity that is taken away leaves all at once.
func TestScaleSet_Identity(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.mustPut(setID, setBody(1, "Manual", key(t), login, ""))
	w.settle(2 * time.Minute)
	failed := fmt.Sprint(dig(w.get(instanceID(0), true), "properties", "instanceView", "extensions", 0, "statuses", 0))
	handbooktest.Said(t, failed, "exit-22.instance", "WHAT", "--resource-group AzureADLinuxVM --name myVMSS --instance-ids 0")
	if s := dig(w.get(setID, false), "properties", "provisioningState"); s != "Failed" {
		t.Error(s)
	}
	patch := func(kind string) {
		t.Helper()
		_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(setID), Body: []byte(`{"identity":{"type":"` + kind + `"}}`)})
		w.must(err)
		w.settle(time.Minute)
	}
	patch("SystemAssigned")
	if w.wantAt(instanceID(0)).Identity {
		t.Error("an old instance has the new identity without an upgrade")
	}
	_, err := w.do(setID, "manualupgrade", `{"instanceIds":["*"]}`)
	w.must(err)
	w.settle(time.Minute)
	if x := w.wantAt(instanceID(0)); !x.Identity || !x.LoginEnabled {
		t.Errorf("%+v", x)
	}
	patch("None")
	if x := w.wantAt(instanceID(0)); x.Identity || x.PrincipalID != "" {
		t.Errorf("the identity stayed: %+v", x)
	}
}

// mustBeNobody checks that an instance on its way out has lost its set's identity
// before its back end has removed it.
func (w *world) mustBeNobody(at string) {
	w.t.Helper()
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		r, ok, err := tx.ResourceByID(id(at).Key())
		if x := types.Wanted(r, nil); !ok || r.State != resource.Deleting || x.MachineID == "" || x.Identity || strings.Contains(string(r.Top), "principalId") {
			w.t.Errorf("%s is deleted, and still somebody: %+v", at, r)
		}
		return err
	}))
}

// az vmss update and az vmss extension set leave the image out of what they send back.
func TestScaleSet_KeepsItsImage(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.mustPut(setID, setBody(1, "Manual", key(t), login, ""))
	w.settle(time.Minute)
	bare := w.get(setID, false)
	delete(dig(bare, "properties", "virtualMachineProfile", "storageProfile").(map[string]any), "imageReference")
	b, err := json.Marshal(bare)
	w.must(err)
	if _, err := w.put(as(admin), setID, string(b)); err != nil || dig(w.get(setID, false), "properties", "virtualMachineProfile", "storageProfile", "imageReference", "offer") == nil {
		t.Fatalf("%v %v", err, w.get(setID, false))
	}
}

func TestScaleSet_FewerInstances(t *testing.T) {
	w := withSet(t, "Manual", login)
	gone, err := w.do(setID, "delete", `{"instanceIds":["0"]}`)
	w.must(err)
	w.mustBeNobody(instanceID(0))
	w.settle(time.Minute)
	if st := w.status(gone.Operation); st.Status != resource.Succeeded {
		t.Errorf("%+v", st)
	}
	if got := w.names(); got != "myVMSS_1" || fmt.Sprint(dig(w.get(setID, false), "sku", "capacity")) != "1" || len(w.lab.power) != 1 {
		t.Fatal(got, dig(w.get(setID, false), "sku"), w.lab.power)
	}
	// A number is not used again: what was told about machine 0 is about that one.
	w.mustPut(setID, `{"location":"southcentralus","sku":{"capacity":3}}`)
	w.settle(time.Minute)
	if got := w.names(); got != "myVMSS_1 myVMSS_2 myVMSS_3" {
		t.Fatal(got)
	}
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(instanceID(2))})
	w.must(err)
	w.mustBeNobody(instanceID(2))
	w.settle(time.Minute)
	if got := w.names(); got != "myVMSS_1 myVMSS_3" || fmt.Sprint(dig(w.get(setID, false), "sku", "capacity")) != "2" {
		t.Fatal(got)
	}
	w.mustPut(setID, `{"location":"southcentralus","sku":{"capacity":1}}`)
	w.settle(time.Minute)
	if got := w.names(); got != "myVMSS_1" {
		t.Fatal("the newest goes first:", got)
	}
	principal := dig(w.get(setID, false), "identity", "principalId").(string)
	_, err = w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(setID)})
	w.must(err)
	w.settle(time.Minute)
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		list, err := tx.ListResources(resource.Range{Under: id(rg)})
		for _, r := range list {
			if strings.HasPrefix(r.ID.Key(), strings.ToLower(setID)) {
				t.Error("left:", r.ID)
			}
		}
		if _, found, _ := tx.ServicePrincipalByID(principal); found {
			t.Error("the set's identity lives on")
		}
		return err
	}))
	if len(w.lab.power) != 0 {
		t.Error("machines live on:", w.lab.power)
	}
}

// A role at the set opens its instances, which its holder can find; the set itself
// is for those who run it.
func TestScaleSet_Rights(t *testing.T) {
	w := withSet(t, "Manual", login)
	w.mustGrant(alice, rbac.VMUserLogin, setID)
	for _, n := range []int{0, 1} {
		if !w.rights.Check(rbac.Query{Principals: []string{alice}, Scope: id(instanceID(n)), Action: rbac.ActionLogin, Data: true}).Allowed {
			t.Errorf("instance %d does not inherit", n)
		}
		if _, err := w.engine.Get(t.Context(), as(alice), id(instanceID(n)), true); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.engine.Get(t.Context(), as(alice), id(setID), false); code(err) != "AuthorizationFailed" {
		t.Error("the set:", err)
	}
	for _, verb := range []string{"manualupgrade", "delete", "start", "powerOff", "deallocate", "restart"} {
		if _, err := w.engine.ActWith(t.Context(), as(alice), resource.Request{ID: id(setID), Body: []byte(`{"instanceIds":["*"]}`)}, verb); code(err) != "AuthorizationFailed" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := w.engine.Delete(t.Context(), as(alice), resource.Request{ID: id(instanceID(0))}); code(err) != "AuthorizationFailed" {
		t.Error("delete:", err)
	}
	if _, err := w.put(as(alice), setID, `{"location":"southcentralus","sku":{"capacity":0}}`); code(err) != "AuthorizationFailed" {
		t.Error("write:", err)
	}
	// Past the model nobody changes an instance.
	for _, at := range []string{instanceID(0), instanceID(7), instanceID(0) + "/extensions/other", instanceID(0) + "/extensions/AADSSHLoginForLinux"} {
		if _, err := w.put(as(admin), at, `{"location":"southcentralus","properties":{}}`); code(err) != "OperationNotAllowed" {
			t.Errorf("%s: %v", at, err)
		}
	}
	if _, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(instanceID(0) + "/extensions/AADSSHLoginForLinux")}); code(err) != "OperationNotAllowed" {
		t.Error("an extension was taken from an instance past its model:", err)
	}
}

func TestScaleSet_Refuses(t *testing.T) {
	w := newWorld(t).withNetwork()
	good := setBody(1, "Manual", key(t), login, person)
	for name, tc := range map[string]struct{ old, new, code string }{
		"rolling":       {`"mode":"Manual"`, `"mode":"Rolling"`, "InvalidParameter"},
		"flexible":      {`"overprovision":true`, `"orchestrationMode":"Flexible"`, "InvalidParameter"},
		"too many":      {`"capacity":1`, `"capacity":101`, "InvalidParameter"},
		"fewer than 0":  {`"capacity":1`, `"capacity":-1`, "InvalidParameter"},
		"no sku":        {`"sku":{"name":"Standard_DS1_v2","capacity":1},`, ``, "InvalidParameter"},
		"sku unknown":   {`"capacity":1}`, `"capacity":1,"colour":"red"}`, "InvalidRequestContent"},
		"public":        {`"subnet":{`, `"publicIPAddressConfiguration":{"name":"p"},"subnet":{`, "InvalidParameter"},
		"balancer":      {`"subnet":{`, `"loadBalancerBackendAddressPools":[{"id":"x"}],"subnet":{`, "InvalidParameter"},
		"password":      {`"adminUsername"`, `"adminPassword":"` + word + `","adminUsername"`, "InvalidParameter"},
		"one name":      {`"adminUsername"`, `"computerName":"x","adminUsername"`, "InvalidParameter"},
		"prefix":        {`"computerNamePrefix":"myvmss"`, `"computerNamePrefix":"-x y"`, "InvalidParameter"},
		"long prefix":   {`"computerNamePrefix":"myvmss"`, `"computerNamePrefix":"` + strings.Repeat("x", 58) + `"`, "InvalidParameter"},
		"image":         {`"UbuntuServer"`, `"Windows"`, "PlatformImageNotFound"},
		"two logins":    {login, login + "," + strings.Replace(login, "AADSSHLoginForLinux", "second", 1), "BadRequest"},
		"other handler": {`"type":"AADSSHLoginForLinux"`, `"type":"CustomScript"`, "ArtifactNotFound"},
		"unknown":       {`"overprovision":true`, `"colour":"red"`, "InvalidRequestContent"},
		"repairs":       {`"overprovision":true`, `"automaticRepairsPolicy":{"enabled":true}`, "InvalidParameter"},
		"subnet":        {"/subnets/myVMSubnet", "", "InvalidResourceReference"},
		"preview":       {`"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux"`, `"publisher":"Microsoft.Azure.ActiveDirectory.LinuxSSH","type":"AADLoginForLinux"`, "PreviewNotAllowed"},
	} {
		if !strings.Contains(good, tc.old) {
			t.Fatalf("%s: the body does not hold %s", name, tc.old)
		}
		if _, err := w.put(as(admin), setID, strings.Replace(good, tc.old, tc.new, 1)); code(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	w.mustPut(setID, good)
	w.settle(time.Minute)
	for name, change := range map[string][2]string{"image": {`"UbuntuServer","sku":"18.04-LTS"`, `"nothing","sku":"x"`}, "administrator": {"azureuser", "somebody"}, "runner": {"Standard_DS1_v2", types.SizeNspawn}} {
		if _, err := w.put(as(admin), setID, strings.Replace(good, change[0], change[1], 1)); err == nil {
			t.Errorf("%s changed", name)
		}
	}
	for _, body := range []string{``, `{}`, `{"instanceIds":[]}`, `{"instanceIds":["9"]}`, `{"instanceIds":["0"],"x":1}`, `[]`} {
		for _, verb := range []string{"manualupgrade", "delete"} {
			if _, err := w.do(setID, verb, body); err == nil {
				t.Errorf("%s %s was accepted", verb, body)
			}
		}
	}
	if got := w.names(); got != "myVMSS_0" {
		t.Error(got)
	}
}

// A set moves with its instances, which stay the machines that they are; roles
// that were given at it do not go along.
func TestScaleSet_Moves(t *testing.T) {
	w := withSet(t, "Manual", login)
	w.mustPut(otherRG, `{"location":"southcentralus"}`)
	w.settle(time.Minute)
	before := w.wantAt(instanceID(1))
	body := fmt.Sprintf(`{"resources":[%q],"targetResourceGroup":%q}`, setID, otherRG)
	w.must(w.engine.Move(t.Context(), as(admin), resource.MoveRequest{Group: id(rg), Body: []byte(body)}))
	at := strings.Replace(instanceID(1), rg, otherRG, 1)
	if got := w.wantAt(at); got.MachineID != before.MachineID || got.ResourceID.String() != at || !got.LoginEnabled || got.PrincipalID != before.PrincipalID {
		t.Errorf("moved: %+v, it was %+v", got, before)
	}
	if _, err := scope.Parse(at); err != nil || w.wantAt(instanceID(1)).MachineID != "" {
		t.Error("the old address still answers")
	}
	group, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(otherRG)})
	w.must(err)
	w.settle(time.Minute)
	if st := w.status(group.Operation); st.Status != resource.Succeeded || len(w.lab.power) != 0 {
		t.Errorf("the group's deletion: %+v, machines %v", st, w.lab.power)
	}
}
