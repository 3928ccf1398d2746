package arm_test

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
)

const (
	setPath = group + "/providers/Microsoft.Compute/virtualMachineScaleSets/myVMSS"
	setBody = `{"location":"southcentralus","sku":{"name":"Standard_DS1_v2","capacity":2},"identity":{"type":"SystemAssigned"},"properties":{"upgradePolicy":{"mode":"Manual"},"virtualMachineProfile":{
"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"},"osDisk":{"createOption":"FromImage"}},
"osProfile":{"computerNamePrefix":"x","linuxConfiguration":{}},
"networkProfile":{"networkInterfaceConfigurations":[{"name":"nic","properties":{"ipConfigurations":[{"name":"ip","properties":{}}]}}]}}}}`
	loginBody = `{"properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}`
)

// TestScaleSets_Wire: the exchanges of azure-wire-protocol.md 9.8, and those that
// azure-mgmt-compute makes of instances.
func TestScaleSets_Wire(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	s.work()
	step := func(method, path, body string, want int) any {
		t.Helper()
		answer, v := s.call(admin, method, path, body)
		if answer.StatusCode != want {
			t.Fatalf("%s %s: %d %v, want %d", method, path, answer.StatusCode, v, want)
		}
		if async := answer.Header.Get("Azure-AsyncOperation"); method != http.MethodGet && want != http.StatusNoContent && async == "" {
			t.Errorf("%s %s: no operation", method, path)
		}
		s.work()
		return v
	}
	made := step(http.MethodPut, setPath, setBody, 201)
	if dig(made, "properties", "provisioningState") != "Creating" || dig(made, "type") != "Microsoft.Compute/virtualMachineScaleSets" {
		t.Errorf("%v", made)
	}
	for path, want := range map[string]any{
		setPath: "myVMSS", setPath + "/virtualMachines/1": "myVMSS_1", setPath + "/virtualMachines/1/networkInterfaces/nic": "nic",
	} {
		if got := dig(step(http.MethodGet, path, "", 200), "name"); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	for path, n := range map[string]int{setPath + "/virtualMachines": 2, setPath + "/networkInterfaces": 2, setPath + "/virtualMachines/0/networkInterfaces": 1, setPath + "/extensions": 0,
		setPath + "/virtualMachines/0/extensions": 0, group + "/providers/Microsoft.Compute/virtualMachineScaleSets": 1, group + "/providers/Sallyport.Access/machines": 2} {
		if list, ok := dig(step(http.MethodGet, path, "", 200), "value").([]any); !ok || len(list) != n {
			t.Errorf("%s: %v, want %d", path, list, n)
		}
	}
	if got := dig(step(http.MethodGet, setPath+"/virtualMachines/1/instanceView", "", 200), "computerName"); got != "x000001" {
		t.Error(got)
	}
	step(http.MethodGet, setPath+"/virtualMachines/1/networkInterfaces/other", "", 404)
	step(http.MethodGet, setPath+"/extensions/AADSSHLoginForLinux", "", 404)
	step(http.MethodDelete, setPath+"/extensions/AADSSHLoginForLinux", "", 204)
	step(http.MethodPut, setPath+"/extensions/AADSSHLoginForLinux", loginBody, 201)
	step(http.MethodPut, setPath+"/extensions/AADSSHLoginForLinux", loginBody, 200)
	if got := dig(step(http.MethodGet, setPath+"/extensions/AADSSHLoginForLinux", "", 200), "properties", "type"); got != "AADSSHLoginForLinux" {
		t.Error(got)
	}
	facts := func(n string) any {
		return dig(step(http.MethodGet, setPath+"/virtualMachines/"+n+"/providers/Sallyport.Access/machines/default", "", 200), "properties")
	}
	if got := facts("0"); dig(got, "newModel", "loginEnabled") != true || dig(got, "snapshot", "loginEnabled") != false {
		t.Errorf("an old instance: %v", got)
	}
	step(http.MethodPost, setPath+"/manualupgrade", `{"instanceIds":["*"]}`, 202)
	if got := facts("0"); dig(got, "newModel") != nil || dig(got, "snapshot", "loginEnabled") != true {
		t.Errorf("an upgraded instance: %v", got)
	}
	if got := dig(step(http.MethodGet, setPath+"/virtualMachines/0/extensions/AADSSHLoginForLinux", "", 200), "properties", "provisioningState"); got != "Succeeded" {
		t.Error(got)
	}
	said(t, step(http.MethodGet, setPath+"/extensions/other", "", 404), "arm.ModelExtension")
	said(t, step(http.MethodGet, setPath+"/virtualMachines/0/networkInterfaces/other", "", 404), "arm.InstanceInterface")
	step(http.MethodPost, setPath+"/restart", "", 202)
	step(http.MethodPost, setPath+"/virtualMachines/0/restart", "", 202)
	step(http.MethodPost, setPath+"/delete", `{"instanceIds":["0"]}`, 202)
	step(http.MethodDelete, setPath+"/virtualMachines/1", "", 202)
	view := step(http.MethodGet, setPath+"/instanceView", "", 200)
	if dig(view, "statuses", 0, "code") != "ProvisioningState/succeeded" {
		t.Errorf("%v", view)
	}
	if got := dig(step(http.MethodGet, setPath, "", 200), "sku", "capacity"); got != float64(0) {
		t.Error(got)
	}
	step(http.MethodDelete, setPath+"/extensions/AADSSHLoginForLinux", "", 202)
	step(http.MethodDelete, setPath, "", 202)
	step(http.MethodGet, setPath, "", 404)
}

// said checks that an error is in the words of docs/troubleshooting.md.
func said(t *testing.T, answer any, id string) {
	t.Helper()
	text, _ := dig(answer, "error", "message").(string)
	handbooktest.Said(t, text, id)
}

// What is not understood of an extension is refused, and the model stays.
func TestScaleSets_ExtensionBodyIsStrict(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	s.work()
	s.call(admin, http.MethodPut, setPath, setBody)
	s.work()
	for _, body := range []string{``, `[]`, `{"x":1}`, `{"properties":{"publisher":"p","type":"t"}}`, strings.Replace(loginBody, `"properties":{`, `"properties":{"colour":"red",`, 1)} {
		if answer, v := s.call(admin, http.MethodPut, setPath+"/extensions/x", body); answer.StatusCode < 400 {
			t.Errorf("%s: %v", body, v)
		}
	}
}
