package types_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/store"
)

const (
	deployID    = rg + "/providers/Microsoft.Resources/deployments/d1"
	contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	owner       = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	reader      = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
)

func (w *world) deployments() types.Deployments {
	return types.Deployments{Engine: w.engine, Authorization: w.auth, Tenant: people{}.Tenant}
}

// deploy runs a template. A part that is refused is its error, too.
func (w *world) deploy(by audit.By, body string) (resource.Result, error) {
	w.t.Helper()
	r, err := w.deployments().Start(w.t.Context(), by, resource.Request{ID: id(deployID), Body: []byte(body)})
	details, _ := dig(r.Body, "properties", "error", "details").([]any)
	if err != nil || len(details) == 0 {
		return r, err
	}
	code, _ := dig(details[0], "code").(string)
	text, _ := dig(details[0], "message").(string)
	kind := fault.Invalid
	if code == "AuthorizationFailed" {
		kind = fault.Forbidden
	}
	return r, fault.New(kind, code, "%s", text)
}

// madeNothing reports whether there is no deployment, or one that says why it made
// nothing.
func (w *world) madeNothing() bool {
	w.t.Helper()
	if !w.exists(deployID) {
		return true
	}
	made, _ := dig(w.get(deployID, false), "properties", "outputResources").([]any)
	return dig(w.get(deployID, false), "properties", "provisioningState") == resource.Failed && len(made) == 0
}

func templateOf(resources string) string {
	return `{"properties":{"mode":"incremental","template":{"resources":[` + resources + `]}}}`
}

// recordedCreate is the body that azure-cli 2.91.0 sent for
// az vm create --image UbuntuLTS --assign-identity --admin-username azureuser --generate-ssh-keys.
func recordedCreate(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/az-2.91.0-vm-create.json")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(b), "PUBLIC KEY", key(t), 1)
}

func (w *world) exists(at string) bool {
	w.t.Helper()
	found := false
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) (err error) {
		_, found, err = tx.ResourceByID(id(at).Key())
		return err
	}))
	return found
}

func TestDeployment_WhatAzSends(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	r, err := w.deploy(as(admin), recordedCreate(t))
	w.must(err)
	if !r.Created || r.Operation == nil || w.status(r.Operation).Status != resource.InProgress {
		t.Fatalf("the deployment is not on its way: %+v", r)
	}
	w.settle(time.Minute)
	if s := w.status(r.Operation); s.Status != resource.Succeeded {
		t.Fatalf("the deployment: %+v", s)
	}
	shown := w.get(deployID, false)
	if dig(shown, "properties", "provisioningState") != "Succeeded" || len(dig(shown, "properties", "outputResources").([]any)) != 5 || dig(shown, "properties", "mode") != "Incremental" {
		t.Errorf("shown: %v", shown)
	}
	vm := w.get(vmID, false)
	if dig(vm, "identity", "principalId") == nil || dig(vm, "properties", "provisioningState") != "Succeeded" {
		t.Errorf("the machine: %v", vm)
	}
	page, err := w.engine.List(t.Context(), as(admin), resource.Query{Under: id(rg)})
	w.must(err)
	for _, item := range page.Value {
		if item["type"] == types.Deployment {
			t.Error("a deployment is among the group's resources")
		}
	}
}

// A Contributor who deploys himself Owner is refused as if he asked for it
// directly, and nothing that his template says before it is made.
func TestDeployment_TheCallersRightsToEachPart(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(sub+"/resourceGroups/Other", `{"location":"southcentralus"}`)
	other := sub + "/resourceGroups/Other/providers/Microsoft.Network/publicIPAddresses/theirs"
	w.mustPut(other, `{"location":"southcentralus","tags":{"t":"secret"},"properties":{}}`)
	w.mustGrant(alice, contributor, rg)
	const address = `{"type":"Microsoft.Network/publicIPAddresses","name":"first","location":"southcentralus","properties":{}}`
	for name, c := range map[string]struct{ resources, action string }{
		"owner of the group":              {address + `,{"type":"Microsoft.Authorization/roleAssignments","name":"[guid('x')]","properties":{"roleDefinitionId":"` + owner + `","principalId":"` + alice + `"}}`, "Microsoft.Authorization/roleAssignments/write"},
		"owner elsewhere":                 {address + `,{"type":"Microsoft.Authorization/roleAssignments","scope":"` + sub + `","name":"[guid('x')]","properties":{"roleDefinitionId":"` + owner + `","principalId":"` + alice + `"}}`, "Microsoft.Authorization/roleAssignments/write"},
		"another's resource":              {address + `,{"type":"Microsoft.Network/publicIPAddresses","name":"second","location":"southcentralus","tags":{"t":"[reference('` + other + `', '2024', 'Full').tags.t]"},"properties":{}}`, "Microsoft.Network/publicIPAddresses/read"},
		"another's in its name, by scope": {`{"type":"Microsoft.Network/publicIPAddresses","scope":"` + sub + `/resourceGroups/Other","name":"third","location":"southcentralus","properties":{}}`, "Microsoft.Network/publicIPAddresses/write"},
	} {
		_, err := w.deploy(as(alice), templateOf(c.resources))
		if f := fault.As(err); err == nil || f.Kind != fault.Forbidden || !strings.Contains(f.Text, c.action) {
			t.Errorf("%s: %v", name, err)
		}
		if w.exists(rg+"/providers/Microsoft.Network/publicIPAddresses/first") || !w.madeNothing() {
			t.Errorf("%s: something was made", name)
		}
	}
	if _, err := w.deploy(as(alice), templateOf(address)); err != nil {
		t.Errorf("what he may: %v", err)
	}
	if _, err := w.deploy(as(crew), templateOf(address)); err == nil {
		t.Error("somebody without a role deploys")
	}
}

// az vm create --assign-identity --role Reader --scope GROUP.
func TestDeployment_RoleOfAnIdentityThatItMakes(t *testing.T) {
	w := newWorld(t).withNetwork()
	var vm map[string]any
	w.must(json.Unmarshal([]byte(vmBody(key(t))), &vm))
	vm["type"], vm["name"] = "Microsoft.Compute/virtualMachines", "myVM"
	text, err := json.Marshal(vm)
	w.must(err)
	_, err = w.deploy(as(admin), templateOf(`{"name":"99999999-0000-4000-8000-000000000001","type":"Microsoft.Authorization/roleAssignments","apiVersion":"2015-07-01","dependsOn":["Microsoft.Compute/virtualMachines/myVM"],
		"properties":{"roleDefinitionId":"`+reader+`","principalId":"[reference('`+vmID+`', '2019-07-01', 'Full').identity.principalId]","scope":"`+rg+`"}},`+string(text)))
	w.must(err)
	principal, _ := dig(w.get(vmID, false), "identity", "principalId").(string)
	if !w.can(principal, "Microsoft.Compute/virtualMachines/read", vmID, false) {
		t.Error("the identity does not hold the role")
	}
}

// bombs is a deployment of a text, and of what is made of it.
func bombs(members, parameters string) string {
	return `{"properties":{"mode":"Incremental","parameters":` + parameters + `,"template":{"parameters":{"p":{"type":"string"}},"resources":[],` + members + `}}}`
}

func TestDeployment_RefusalsMakeNothingAndNameThePart(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	first := rg + "/providers/Microsoft.Network/publicIPAddresses/first"
	good := `{"type":"Microsoft.Network/publicIPAddresses","name":"first","location":"southcentralus","properties":{}}`
	for name, c := range map[string]struct{ body, says string }{
		"a property that nobody knows": {templateOf(good + `,{"type":"Microsoft.Network/virtualNetworks","name":"net","location":"southcentralus","properties":{"nosuch":1}}`), "'net'"},
		"a type that nobody knows":     {templateOf(good + `,{"type":"Microsoft.Storage/storageAccounts","name":"s","properties":{}}`), "Microsoft.Storage/storageAccounts"},
		"a deployment in it":           {templateOf(good + `,{"type":"Microsoft.Resources/deployments","name":"inner","properties":{}}`), "'inner'"},
		"complete":                     {strings.Replace(templateOf(good), "incremental", "Complete", 1), "Complete"},
		"no template":                  {`{"properties":{"mode":"Incremental"}}`, "no template"},
		"elsewhere":                    {`{"properties":{"mode":"Incremental","templateLink":{"uri":"https://example.test"}}}`, "templateLink"},
		"a function":                   {templateOf(good + `,{"type":"A.B/c","name":"[listKeys('x','y')]"}`), "listKeys"},
		"below another resource":       {templateOf(good + `,{"type":"Microsoft.Network/publicIPAddresses","scope":"` + first + `","name":"hidden","location":"southcentralus","properties":{}}`), "hidden"},
		"in no group":                  {templateOf(good + `,{"type":"Microsoft.Network/publicIPAddresses","scope":"` + sub + `","name":"hidden","location":"southcentralus","properties":{}}`), "hidden"},
		"a group inside of a group":    {templateOf(good + `,{"type":"Microsoft.Resources/resourceGroups","name":"hidden","location":"southcentralus","properties":{}}`), "hidden"},
		"more than is kept":            {bombs(`"outputs":{"o":{"type":"array","value":"[createArray(`+strings.Repeat("parameters('p'),", 60)+`1)]"}}`, `{"p":{"value":"`+strings.Repeat("x", 20_000)+`"}}`), "which are kept"},
		"a group":                      {templateOf(good + `,{"type":"Microsoft.Resources/subscriptions","name":"x","scope":"/"}`), ""},
	} {
		_, err := w.deploy(as(admin), c.body)
		if f := fault.As(err); err == nil || f.Kind == fault.Internal || !strings.Contains(f.Text+f.Target, c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if w.exists(first) || !w.madeNothing() {
			t.Errorf("%s: something was made", name)
		}
	}
	if _, err := w.deployments().Validate(t.Context(), as(admin), resource.Request{ID: id(deployID), Body: []byte(templateOf(good))}); err != nil || w.exists(first) {
		t.Errorf("validate: %v, made: %v", err, w.exists(first))
	}
}

// A machine that never comes up fails its deployment, which names it; what was
// made beside it stays, as in Azure.
func TestDeployment_FailsWithWhatItMade(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.lab.mute = true
	r, err := w.deploy(as(admin), recordedCreate(t))
	w.must(err)
	w.settle(10 * time.Minute)
	s := w.status(r.Operation)
	if s.Status != resource.Failed || s.Error.Code != "DeploymentFailed" || !strings.Contains(s.Error.Message, vmID) || !strings.Contains(s.Error.Message, "OSProvisioningTimedOut") {
		t.Fatalf("the deployment: %+v", s.Error)
	}
	w.failed(deployID, "arm.DeploymentFailed", "CODE", "OSProvisioningTimedOut")
	if !w.exists(nicID) {
		t.Error("the interface is gone")
	}
}

// Nothing that a template held in secret is kept.
func TestDeployment_KeepsNoSecret(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	_, err := w.deploy(as(admin), `{"properties":{"mode":"Incremental","parameters":{"p":{"value":"s3cret-value"}},"template":{"parameters":{"p":{"type":"securestring"}},"resources":[],"outputs":{"o":{"type":"securestring","value":"[parameters('p')]"}}}}}`)
	w.must(err)
	var kept resource.Resource
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) (err error) { kept, _, err = tx.ResourceByID(id(deployID).Key()); return err }))
	if all := string(kept.Properties) + string(kept.Private); strings.Contains(all, "s3cret") || !strings.Contains(all, `"p"`) {
		t.Errorf("kept: %s", all)
	}
}

// A list names a machine's extensions, and the machine itself shows them.
func TestList_NamesWhatIsEmbedded(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustPut(extID, extBody)
	w.settle(time.Minute)
	page, err := w.engine.List(t.Context(), as(admin), resource.Query{Under: id(rg), Type: types.VirtualMachine})
	w.must(err)
	list, _ := page.Value[0]["resources"].([]map[string]any)
	if len(list) != 1 || len(list[0]) != 1 || list[0]["id"] != extID {
		t.Errorf("listed: %v", page.Value[0]["resources"])
	}
	if dig(w.get(vmID, false), "resources", 0, "properties", "type") != "AADSSHLoginForLinux" {
		t.Error("the machine does not show its extension")
	}
}

// A group that has 775 deployments loses the oldest that have ended, as in Azure;
// one that runs stays, and so does what they have made.
func TestDeployment_HistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	at := func(group string, n int) string {
		return fmt.Sprintf("%s/providers/Microsoft.Resources/deployments/d%04d", group, n)
	}
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		for n := range 780 {
			observed := int64(1)
			if n == 3 {
				observed = 0 // still at work
			}
			for _, group := range []string{rg, rg + "2"} {
				when := w.now().Add(time.Duration(n-10_000) * time.Second)
				if err := tx.PutResource(resource.Resource{ID: id(at(group, n)), Revision: 1, Observed: observed, State: resource.Succeeded, Properties: json.RawMessage(`{}`), CreatedAt: when, WantedAt: when}); err != nil {
					return err
				}
			}
		}
		return tx.PutRoleAssignment(rbac.Assignment{ID: guid1, Scope: id(at(rg, 0)), RoleID: rbac.Reader, PrincipalID: alice, PrincipalType: "User"})
	}))
	count := func(group string) (n int) {
		w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
			list, err := tx.ListResources(resource.Range{Under: id(group), Type: types.Deployment})
			n = len(list)
			return err
		}))
		return n
	}
	deploy := func(n int) {
		t.Helper()
		_, err := w.deployments().Start(t.Context(), as(admin), resource.Request{ID: id(at(rg, n)), Body: []byte(templateOf(`{"type":"Microsoft.Network/publicIPAddresses","name":"kept","location":"westeurope","properties":{}}`))})
		w.must(err)
	}
	deploy(773) // again: its place in the history is a new one, and nothing is full
	if n := count(rg); n != 780 {
		t.Fatalf("%d deployments", n)
	}
	deploy(900)
	deploy(901)
	if n := count(rg); n > 775 || n < 750 {
		t.Errorf("%d deployments are kept", n)
	}
	if w.exists(at(rg, 0)) || !w.exists(at(rg, 3)) || !w.exists(at(rg, 773)) || !w.exists(at(rg, 900)) || !w.exists(rg+"/providers/Microsoft.Network/publicIPAddresses/kept") {
		t.Error("not the oldest that have ended were forgotten, or what they made")
	}
	if _, ok := w.rights.Assignment(guid1); ok {
		t.Error("a role at a deployment that is gone")
	}
	if n := count(rg + "2"); n != 780 {
		t.Errorf("%d deployments of another group", n)
	}
}
