package types_test

import (
	"encoding/json"
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

// want is what the one machine is wanted to be.
func (w *world) want() types.Want {
	w.t.Helper()
	machine, _ := dig(w.get(vmID, false), "properties", "vmId").(string)
	got, ok := w.machines.Want(machine)
	if !ok {
		w.t.Fatal("the machine is not in the index")
	}
	return got
}

func TestVirtualMachine_LifeFromCreateToDelete(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.settle(time.Minute)
	r := w.mustPut(vmID, vmBody(key(t)))
	if !r.Created || r.Operation == nil || w.status(r.Operation).Status != resource.InProgress {
		t.Fatalf("create: %+v", r)
	}
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Succeeded {
		t.Fatalf("operation: %+v %+v", s, s.Error)
	}
	vm := w.get(vmID, true)
	if dig(vm, "properties", "provisioningState") != "Succeeded" || dig(vm, "identity", "tenantId") != tenantID || dig(vm, "properties", "storageProfile", "osDisk", "osType") != "Linux" ||
		dig(vm, "properties", "instanceView", "statuses", 1, "code") != "PowerState/running" || dig(vm, "properties", "vmId") == "" {
		t.Errorf("shown: %v", vm)
	}
	if got := dig(w.get(nicID, false), "properties", "ipConfigurations", 0, "properties", "privateIPAddress"); got != "10.77.0.2" {
		t.Errorf("private address: %v", got)
	}
	if got := dig(w.get(pipID, false), "properties", "ipAddress"); got != "127.77.0.2" {
		t.Errorf("public address: %v", got)
	}
	if w.lab.ensured != 1 || w.lab.ops[0] != "ensure myvm" {
		t.Errorf("back end: %v", w.lab.ops)
	}
	for _, step := range []struct{ verb, state string }{{"powerOff", "PowerState/stopped"}, {"start", "PowerState/running"}, {"deallocate", "PowerState/deallocated"}, {"start", "PowerState/running"}, {"restart", "PowerState/running"}} {
		r, err := w.engine.Act(t.Context(), as(admin), id(vmID), step.verb)
		w.must(err)
		w.settle(time.Minute)
		if got := dig(w.get(vmID, true), "properties", "instanceView", "statuses", 1, "code"); got != step.state || w.status(r.Operation).Status != resource.Succeeded {
			t.Errorf("%s: %v", step.verb, got)
		}
	}
	if got := strings.Join(w.lab.ops, ","); got != "ensure myvm,stop,start,stop,start,restart" {
		t.Errorf("back end did: %s", got)
	}
	del, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(vmID)})
	w.must(err)
	w.settle(time.Minute)
	if s := w.status(del.Operation); s.Status != resource.Succeeded || len(w.lab.power) != 0 {
		t.Errorf("delete: %+v %v", s, w.lab.power)
	}
	if again, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(vmID)}); err != nil || !again.Gone {
		t.Errorf("a second delete: %+v %v", again, err)
	}
	if got := dig(w.get(pipID, false), "properties", "ipAddress"); got != nil {
		t.Errorf("address kept: %v", got)
	}
}

func TestVirtualMachine_RefusesWhatWouldHaveNoEffect(t *testing.T) {
	w := newWorld(t).withNetwork()
	k := key(t)
	swap := func(old, next string) string { return strings.Replace(vmBody(k), old, next, 1) }
	for name, tc := range map[string]struct{ body, code, text string }{
		"password beside ssh":    {swap(`"adminUsername":"azureuser"`, `"adminUsername":"azureuser","adminPassword":"`+word+`"`), "InvalidParameter", "disablePasswordAuthentication is true"},
		"password sign-in":       {swap(`"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`), "InvalidParameter", "'adminPassword' is missing"},
		"no key":                 {swap(`{"path":"/home/azureuser/.ssh/authorized_keys","keyData":"`+k+` me@laptop"}`, ``), "InvalidParameter", "no SSH public key"},
		"key with options":       {swap(k, `command=\"id\" `+k), "InvalidParameter", "has options"},
		"two keys":               {swap(k, k+`\n`+k), "InvalidParameter", "more than one key"},
		"garbage key":            {swap(k, `ssh-rsa AAAA`), "InvalidParameter", "no OpenSSH public key"},
		"root":                   {strings.ReplaceAll(vmBody(k), "azureuser", "root"), "InvalidParameter", "Admin Username"},
		"option as account":      {strings.ReplaceAll(vmBody(k), "azureuser", "-oProxyCommand"), "InvalidParameter", "Admin Username"},
		"other path":             {swap("/home/azureuser/.ssh", "/root/.ssh"), "InvalidParameter", "Destination path"},
		"custom data":            {swap(`"computerName"`, `"customData":"aWQ=","computerName"`), "InvalidParameter", "customData"},
		"user data":              {swap(`"hardwareProfile"`, `"userData":"aWQ=","hardwareProfile"`), "InvalidParameter", "userData"},
		"trusted launch":         {swap(`"hardwareProfile"`, `"securityProfile":{"securityType":"TrustedLaunch"},"hardwareProfile"`), "InvalidParameter", "securityProfile"},
		"unknown image":          {swap("18.04-LTS", "99"), "PlatformImageNotFound", "aliases"},
		"windows":                {swap(`"createOption":"fromImage"`, `"osType":"Windows"`), "InvalidParameter", "Linux"},
		"unknown property":       {swap(`"hardwareProfile"`, `"sudoers":"ALL","hardwareProfile"`), "InvalidRequestContent", `"sudoers"`},
		"unknown top":            {swap(`"location"`, `"plan":{},"location"`), "InvalidRequestContent", `"plan"`},
		"user-assigned identity": {swap(`{"type":"SystemAssigned"}`, `{"type":"UserAssigned","userAssignedIdentities":{"x":{}}}`), "InvalidResourceId", "not a Resource Manager id"},
		"an identity by type":    {swap(`{"type":"SystemAssigned"}`, `{"type":"UserAssigned","userAssignedIdentities":{"`+nicID+`":{}}}`), "InvalidParameter", "is no user-assigned identity"},
		"no identity that is":    {swap(`{"type":"SystemAssigned"}`, `{"type":"UserAssigned","userAssignedIdentities":{"`+uaiID+`":{}}}`), "InvalidResourceReference", "was not found"},
		"none named":             {swap(`{"type":"SystemAssigned"}`, `{"type":"UserAssigned"}`), "InvalidParameter", "needs identities"},
		"named, and not meant":   {swap(`{"type":"SystemAssigned"}`, `{"type":"SystemAssigned","userAssignedIdentities":{"`+uaiID+`":{}}}`), "InvalidParameter", "the type is"},
		"no location":            {swap(`"location":"southcentralus",`, ``), "LocationRequired", "location"},
		"bad location":           {swap(`southcentralus`, `../x`), "LocationNotAvailableForResourceType", "location"},
		"missing interface":      {swap("myVMVMNic", "other"), "InvalidResourceReference", "was not found"},
		"no interface":           {swap(`{"id":"`+nicID+`"}`, ``), "InvalidParameter", "network interface"},
		"no json":                {`{"location"`, "InvalidRequestContent", "not valid JSON"},
		"two values":             {`{} {}`, "InvalidRequestContent", "more than one"},
		"null":                   {`null`, "InvalidRequestContent", "JSON object"},
		"bad tag":                {swap(`"location"`, `"tags":{"a<b":"c"},"location"`), "InvalidTagNameCharacters", "tag"},
	} {
		_, err := w.put(as(admin), vmID, tc.body)
		if code(err) != tc.code || !strings.Contains(fault.As(err).Public(), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.put(as(admin), rg+"/providers/Microsoft.Compute/virtualMachines/-oX", vmBody(k)); code(err) != "InvalidResourceName" {
		t.Errorf("name: %v", err)
	}
}

func TestVirtualMachine_AgentThatNeverComesIsADefinedFailure(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.lab.mute = true
	r := w.mustPut(vmID, vmBody(key(t)))
	w.settle(5 * time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Failed || s.Error.Code != "OSProvisioningTimedOut" {
		t.Fatalf("%+v %+v", s, s.Error)
	}
	w.failed(vmID, "OSProvisioningTimedOut")
}

func TestVirtualMachine_BackEndAwayIsTriedAgain(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.lab.down = fault.New(fault.Unavailable, "LabAway", "the lab does not answer")
	r := w.mustPut(vmID, vmBody(key(t)))
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.InProgress {
		t.Fatalf("%+v", s)
	}
	w.lab.down = nil
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Succeeded {
		t.Fatalf("%+v %+v", s, s.Error)
	}
	w.lab.down = fault.New(fault.Unavailable, "LabAway", "the lab does not answer")
	del, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(vmID)})
	w.must(err)
	w.settle(time.Hour)
	if s := w.status(del.Operation); s.Status != resource.InProgress {
		t.Fatalf("a deletion was given up: %+v", s)
	}
	w.lab.down = nil
	w.settle(time.Minute)
	if s := w.status(del.Operation); s.Status != resource.Succeeded {
		t.Fatalf("%+v", s)
	}
}

func TestVirtualMachine_BackEndThatRefusesIsAFailure(t *testing.T) {
	w := newWorld(t).withNetwork()
	w.lab.down = fault.New(fault.Conflict, "LabFull", "no address is left")
	r := w.mustPut(vmID, vmBody(key(t)))
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Failed || s.Error.Code != "LabFull" {
		t.Fatalf("%+v", s)
	}
}

func TestIdentity_NewPrincipalEachTimeAndItsGrantsDie(t *testing.T) {
	w := newWorld(t).withMachine()
	patch := func(body string) {
		t.Helper()
		_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(body)})
		w.must(err)
		w.settle(time.Minute)
	}
	first, _ := dig(w.get(vmID, false), "identity", "principalId").(string)
	if first == "" {
		t.Fatal("no identity")
	}
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: "x", Scope: id(sub), RoleID: rbac.Reader, PrincipalID: first, PrincipalType: "ServicePrincipal"})
	}))
	revision := w.want().Revision
	patch(`{"identity":{"type":"None"}}`)
	if want := w.want(); want.Identity || want.Revision <= revision {
		t.Fatalf("the machine is not told: %+v", want)
	}
	if _, ok := w.rights.Assignment("x"); ok {
		t.Fatal("a dead principal holds a role")
	}
	if dig(w.get(vmID, false), "identity") != nil {
		t.Fatal("still shown")
	}
	patch(`{"identity":{"type":"SystemAssigned"}}`)
	if second := dig(w.get(vmID, false), "identity", "principalId"); second == first || second == nil {
		t.Fatalf("the old principal came back: %v", second)
	}
	patch(`{"tags":{"a":"b"}}`)
	if dig(w.get(vmID, false), "identity") == nil || dig(w.get(vmID, false), "tags", "a") != "b" {
		t.Fatal("a patch of tags touched the identity")
	}
}

func TestVirtualMachine_AdministratorIsMadeOnce(t *testing.T) {
	w := newWorld(t).withMachine()
	if got := w.want(); got.AdminName != "azureuser" || len(got.AdminKeys) != 1 || strings.Contains(got.AdminKeys[0], "laptop") {
		t.Fatalf("%+v", got)
	}
	if _, err := w.put(as(admin), vmID, vmBody(key(t))); code(err) != "PropertyChangeNotAllowed" {
		t.Fatalf("%v", err)
	}
	b, err := json.Marshal(w.get(vmID, true)) // a client's read-modify-write
	w.must(err)
	if _, err := w.put(as(admin), vmID, string(b)); err != nil {
		t.Fatalf("what was shown is not taken back: %v", err)
	}
	// az vm update leaves the image out of what it sends back.
	bare := w.get(vmID, false)
	delete(dig(bare, "properties", "storageProfile").(map[string]any), "imageReference")
	bare["tags"] = map[string]any{"k": "v"}
	b, err = json.Marshal(bare)
	w.must(err)
	if _, err := w.put(as(admin), vmID, string(b)); err != nil || dig(w.get(vmID, false), "properties", "storageProfile", "imageReference", "offer") != "UbuntuServer" || dig(w.get(vmID, false), "tags", "k") != "v" {
		t.Fatalf("a machine without its image: %v %v", err, w.get(vmID, false))
	}
}

func TestVirtualMachine_InterfaceOfAnother(t *testing.T) {
	w := newWorld(t).withMachine()
	if _, err := w.put(as(admin), rg+"/providers/Microsoft.Compute/virtualMachines/other", vmBody(key(t))); code(err) != "NicInUse" {
		t.Fatalf("%v", err)
	}
	if _, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(nicID)}); code(err) != "NicInUse" {
		t.Fatalf("%v", err)
	}
}

func TestExtension_SetAndDelete(t *testing.T) {
	w := newWorld(t).withMachine()
	if w.want().LoginEnabled {
		t.Fatal("enabled before it was asked for")
	}
	r := w.mustPut(extID, extBody)
	if r.Operation == nil || !w.want().LoginEnabled {
		t.Fatalf("%+v", r)
	}
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Succeeded {
		t.Fatalf("%+v", s)
	}
	if dig(w.get(vmID, false), "resources", 0, "properties", "type") != "AADSSHLoginForLinux" {
		t.Error("not among the machine's resources")
	}
	if dig(w.get(vmID, true), "properties", "instanceView", "extensions", 0, "statuses", 0, "code") != "ProvisioningState/succeeded" {
		t.Error("not in the instance view")
	}
	if _, err := w.put(as(admin), vmID+"/extensions/second", extBody); code(err) != "BadRequest" {
		t.Errorf("a second one: %v", err)
	}
	del, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(extID)})
	w.must(err)
	w.settle(time.Minute)
	if s := w.status(del.Operation); s.Status != resource.Succeeded || w.want().LoginEnabled {
		t.Errorf("%+v", s)
	}
}

func TestExtension_WithoutIdentityIsExitCode22(t *testing.T) {
	w := newWorld(t).withMachine()
	_, err := w.engine.Patch(t.Context(), as(admin), resource.Request{ID: id(vmID), Body: []byte(`{"identity":{"type":"None"}}`)})
	w.must(err)
	w.settle(time.Minute)
	r := w.mustPut(extID, extBody)
	s := w.status(r.Operation)
	if s.Status != resource.Failed || s.Error.Code != "VMExtensionProvisioningError" {
		t.Fatalf("%+v %+v", s, s.Error)
	}
	handbooktest.Said(t, s.Error.Message, "exit-22")
	if w.want().LoginEnabled {
		t.Error("wired without an identity")
	}
}

func TestExtension_Refusals(t *testing.T) {
	w := newWorld(t).withMachine()
	for name, tc := range map[string]struct{ body, code string }{
		"another type": {strings.Replace(extBody, "AADSSHLoginForLinux", "CustomScript", 1), "ArtifactNotFound"},
		"settings":     {strings.Replace(extBody, `"typeHandlerVersion"`, `"settings":{"commandToExecute":"id"},"typeHandlerVersion"`, 1), "InvalidParameter"},
		"version":      {strings.Replace(extBody, `"1.0"`, `"9.0"`, 1), "ExtensionVersionNotFound"},
	} {
		if _, err := w.put(as(admin), extID, tc.body); code(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.put(as(admin), rg+"/providers/Microsoft.Compute/virtualMachines/none/extensions/x", extBody); code(err) != "ResourceNotFound" {
		t.Errorf("missing machine: %v", err)
	}
	_, err := w.engine.Act(t.Context(), as(admin), id(vmID), "powerOff")
	w.must(err)
	w.settle(time.Minute)
	_, err = w.put(as(admin), extID, extBody)
	w.refused(err, "arm.OperationNotAllowed.extension")
}

func TestExtension_AgentFailsOrStaysAway(t *testing.T) {
	w := newWorld(t).withMachine()
	w.lab.mute = true
	r := w.mustPut(extID, extBody)
	w.settle(5 * time.Minute)
	s := w.status(r.Operation)
	if s.Status != resource.Failed || s.Error.Code != "VMAgentStatusCommunicationError" {
		t.Fatalf("away: %+v", s)
	}
	handbooktest.Said(t, s.Error.Message, "VMAgentStatusCommunicationError")
	r = w.mustPut(extID, extBody)
	want := w.want()
	w.lab.agents[want.MachineID] = types.AgentState{LastSeen: w.now(), Reached: want.Revision, Provisioned: "Failed", ExitCode: 5, Message: "the name service module is missing"}
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Failed || !strings.Contains(s.Error.Message, "exit code 5") {
		t.Fatalf("failed: %+v", s)
	}
	w.failed(extID, "VMExtensionProvisioningError")
}

func TestGroup_DeleteTakesEverythingAndItsGrants(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	w.mustGrant(alice, rbac.VMUserLogin, vmID)
	w.mustGrant(alice, rbac.Reader, rg)
	kept := w.mustGrant(alice, rbac.Reader, sub)
	r, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(rg)})
	w.must(err)
	if _, err := w.put(as(admin), pipID, `{"location":"southcentralus"}`); code(err) != "ResourceGroupBeingDeleted" {
		t.Errorf("a group on its way out took something: %v", err)
	}
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Succeeded || len(w.lab.power) != 0 {
		t.Fatalf("%+v %v", s, w.lab.power)
	}
	if left := w.rights.Assignments(rbac.Filter{Principals: []string{alice}}); len(left) != 1 || left[0].ID != kept {
		t.Errorf("grants left: %v", left)
	}
	if r, err := w.put(as(admin), rg, `{"location":"southcentralus"}`); err != nil || r.Operation != nil || r.Body["properties"].(map[string]any)["provisioningState"] != resource.Succeeded {
		t.Errorf("a new group: %+v %v", r, err)
	}
	if page, err := w.engine.List(t.Context(), as(admin), resource.Query{Under: id(rg)}); err != nil || len(page.Value) != 0 {
		t.Errorf("a new group of the old name holds %v %v", page.Value, err)
	}
}

func TestEngine_ConditionsTagsAndPaging(t *testing.T) {
	w := newWorld(t)
	first := w.mustPut(rg, `{"location":"South Central US","tags":{"a":"1"}}`)
	if first.Body["location"] != "southcentralus" {
		t.Errorf("location: %v", first.Body["location"])
	}
	tag, _ := first.Body["etag"].(string)
	try := func(match, none string) string {
		_, err := w.engine.Put(t.Context(), as(admin), resource.Request{ID: id(rg), Body: []byte(`{"location":"southcentralus"}`), IfMatch: match, IfNoneMatch: none})
		return code(err)
	}
	if got := try("", "*"); got != "PreconditionFailed" {
		t.Errorf("If-None-Match: %s", got)
	}
	if got := try(`W/"old"`, ""); got != "PreconditionFailed" {
		t.Errorf("If-Match of another: %s", got)
	}
	w.mustPut(rg, `{"location":"southcentralus","tags":{"a":"2"}}`)
	if got := try(tag, ""); got != "PreconditionFailed" {
		t.Errorf("If-Match after somebody's change: %s", got)
	}
	if got := try("*", ""); got != "" {
		t.Errorf("If-Match *: %s", got)
	}
	if _, err := w.put(as(admin), rg, `{"location":"westeurope"}`); code(err) != "InvalidResourceLocation" {
		t.Errorf("moved: %v", err)
	}
	for i := range 7 {
		w.mustPut(rg+"/providers/Microsoft.Network/publicIPAddresses/ip"+string(rune('a'+i)), `{"location":"southcentralus","sku":{"name":"Basic"}}`)
	}
	var names []string
	q := resource.Query{Under: id(sub), Type: types.PublicIP, Top: 3}
	for {
		page, err := w.engine.List(t.Context(), as(admin), q)
		w.must(err)
		for _, x := range page.Value {
			names = append(names, x["name"].(string))
		}
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	if strings.Join(names, "") != "ipaipbipcipdipeipfipg" {
		t.Errorf("pages: %v", names)
	}
	if _, err := w.engine.List(t.Context(), as(admin), resource.Query{Under: id(sub), After: "%%"}); code(err) != "InvalidParameter" {
		t.Errorf("token: %v", err)
	}
}

func TestEngine_MissingParentsHaveTheirOwnCodes(t *testing.T) {
	w := newWorld(t)
	if _, err := w.put(as(admin), pipID, `{"location":"southcentralus"}`); code(err) != "ResourceGroupNotFound" {
		t.Errorf("%v", err)
	}
	if _, err := w.engine.Get(t.Context(), as(admin), id(vmID), false); code(err) != "ResourceGroupNotFound" {
		t.Errorf("%v", err)
	}
	w.mustPut(rg, `{"location":"southcentralus"}`)
	if _, err := w.engine.Get(t.Context(), as(admin), id(vmID), false); code(err) != "ResourceNotFound" {
		t.Errorf("%v", err)
	}
	if _, err := w.put(as(admin), "/subscriptions/none/resourceGroups/x", `{"location":"southcentralus"}`); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a subscription that nobody knows: %v", err)
	}
	if _, err := w.engine.Get(t.Context(), as(admin), id(rg+"/providers/A.B/c/d"), false); code(err) != "InvalidResourceType" {
		t.Errorf("%v", err)
	}
	if _, err := w.put(as(admin), sub, `{}`); code(err) != "OperationNotAllowed" {
		t.Errorf("%v", err)
	}
}

func TestConfig_IncompleteTypesAreRefused(t *testing.T) {
	if _, err := resource.New(resource.Config{Types: []resource.Type{{Name: "A/b"}}}); err == nil {
		t.Error("a type that checks nothing")
	}
	twice := resource.Type{Name: "A/b", ReadOnly: true}
	if _, err := resource.New(resource.Config{Types: []resource.Type{twice, twice}}); err == nil {
		t.Error("a type that exists twice")
	}
}
