package arm_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
	"sallyport/internal/httpd/arm"
)

// What people of Azure try next, and what they read here.
func TestNothing_SaysWhatThereIsInstead(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	const sub = "/subscriptions/" + subID
	for _, c := range []struct{ method, path, id, code, says string }{
		{"GET", sub + "/providers/Microsoft.Storage/storageAccounts", "arm.InvalidResourceNamespace", "InvalidResourceNamespace", "Microsoft.Compute"},
		{"GET", sub + "/providers/Microsoft.Storage", "arm.InvalidResourceNamespace", "InvalidResourceNamespace", "Microsoft.Compute"},
		{"PUT", group + "/providers/microsoft.compute/disks/d", "arm.InvalidResourceType", "InvalidResourceType", "one disk"},
		{"GET", sub + "/providers/Microsoft.Compute/skus", "arm.InvalidResourceType", "InvalidResourceType", "A size decides"},
		{"DELETE", group + "/providers/Microsoft.Compute/nosuch/x", "arm.InvalidResourceType", "InvalidResourceType", "az provider show --namespace Microsoft.Compute"},
		{"POST", group + "/providers/Microsoft.Compute/virtualMachines/vm/runCommand", "arm.InvalidAction", "InvalidAction", "sally ssh vm"},
		{"POST", group + "/providers/Microsoft.Compute/virtualMachines/vm/redeploy", "arm.InvalidAction", "InvalidAction", "az provider show"},
		{"GET", sub + "/providers/Microsoft.Insights/eventtypes/management/values", "arm.InvalidResourceNamespace", "InvalidResourceNamespace", "sally audit list"},
		{"POST", group + "/exportTemplate", "arm.InvalidAction", "InvalidAction", "written by hand"},
		{"PUT", group + "/providers/Microsoft.Authorization/locks/l", "arm.InvalidResourceType", "InvalidResourceType", "roles"},
		{"GET", "/providers/Microsoft.Authorization/providerOperations", "arm.InvalidResourceType", "InvalidResourceType", "provider show"},
		{"GET", group + "/providers/Microsoft.Compute/virtualMachines/vm/providers/Microsoft.Insights/metrics", "arm.InvalidResourceNamespace", "InvalidResourceNamespace", "audit"},
		{"GET", sub + "/providers/" + strings.Repeat("x", 5000) + "/y", "arm.InvalidResourceNamespace", "InvalidResourceNamespace", strings.Repeat("x", 80) + "'"},
	} {
		answer, v := s.call(admin, c.method, c.path, "")
		text, _ := dig(v, "error", "message").(string)
		if answer.StatusCode != 404 || dig(v, "error", "code") != c.code || !strings.Contains(text, c.says) || len(text) > 600 {
			t.Errorf("%s %.200s: %d %v", c.method, c.path, answer.StatusCode, v)
			continue
		}
		said(t, v, c.id)
	}
	for path, code := range map[string]string{sub + "/providers//": "", sub + "/nosuch/x": "InvalidResourcePath", "/subscriptions": ""} {
		if answer, v := s.call(admin, http.MethodGet, path, ""); dig(v, "error", "code") != code && (code != "" || answer.StatusCode != 200) {
			t.Errorf("%s: %d %v", path, answer.StatusCode, v)
		}
	}
}

// Whoever asks for what is not there has not signed in, and no limit has been asked yet.
func TestNothing_CostsLittle(t *testing.T) {
	nothing := arm.Nothing()
	for _, path := range []string{"subscriptions/s/providers/A.B/c", "subscriptions/s/providers/Microsoft.Compute/nosuch/x", "subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v/nosuch"} {
		if n := testing.AllocsPerRun(10, func() { _ = nothing(http.MethodPost, strings.Split(path, "/")) }); n > 100 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

// The images that az vm image list --all walks down to.
func TestCatalog_Images(t *testing.T) {
	s := newServer(t)
	at := "/subscriptions/" + subID + "/providers/Microsoft.Compute/locations/southcentralus/publishers/debian/artifacttypes/vmimage/offers"
	names := func(path string) (out []string) {
		_, v := s.call(admin, http.MethodGet, path, "")
		list, _ := v.([]any)
		for _, one := range list {
			out = append(out, fmt.Sprint(dig(one, "name")))
		}
		return out
	}
	if got := fmt.Sprint(names(at), names(at+"/DEBIAN-12/skus"), names(at+"/nope/skus"), names(strings.Replace(at, "debian", "nobody", 1))); got != "[debian-11 debian-12 debian-13] [12-gen2] [] []" {
		t.Error(got)
	}
	if _, v := s.call(admin, http.MethodGet, at+"/debian-12/skus/12-gen2/versions?$expand=properties/imageDeprecationStatus", ""); dig(v, 0, "properties", "imageDeprecationStatus", "imageState") != "Active" {
		t.Errorf("%v", v)
	}
}

// A part of a template that is refused: the deployment has failed and says why, and
// its operation, too. What its text has wrong, or somebody who may not deploy, is
// refused at once.
func TestDeployments_SayWhichPartIsRefused(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	at := group + "/providers/Microsoft.Resources/deployments/d"
	body := func(resources string) string {
		return `{"properties":{"mode":"Incremental","parameters":{"s":{"value":"hidden-word"}},"template":{"parameters":{"s":{"type":"securestring"}},"resources":[` + resources + `]}}}`
	}
	const good = `{"type":"Microsoft.Network/publicIPAddresses","name":"first","location":"southcentralus","properties":{}}`
	for name, c := range map[string]struct{ resources, code string }{
		"a property": {good + `,{"type":"Microsoft.Network/virtualNetworks","name":"net","location":"southcentralus","properties":{"nosuch":1}}`, "InvalidRequestContent"},
		"a name":     {good + `,{"type":"Microsoft.Network/virtualNetworks","name":"net!","location":"southcentralus","properties":{}}`, "InvalidResourceName"},
		"a type":     {good + `,{"type":"Microsoft.Storage/storageAccounts","name":"net","location":"southcentralus","properties":{}}`, "InvalidResourceType"},
	} {
		answer, v := s.call(admin, http.MethodPut, at, body(c.resources))
		if answer.StatusCode != 201 && answer.StatusCode != 200 || dig(v, "properties", "provisioningState") != "Failed" || dig(v, "properties", "error", "details", 0, "code") != c.code {
			t.Fatalf("%s: %d %v", name, answer.StatusCode, v)
		}
		ticket, _, _ := strings.Cut(strings.TrimPrefix(answer.Header.Get("Azure-AsyncOperation"), base), "?")
		_, op := s.call(admin, http.MethodGet, ticket, "")
		if dig(op, "status") != "Failed" || dig(op, "error", "code") != "DeploymentFailed" || dig(op, "error", "details", 0, "code") != c.code {
			t.Errorf("%s: the operation: %v", name, op)
		}
		if name == "a name" {
			said(t, map[string]any{"error": dig(op, "error", "details", 0)}, "arm.InvalidResourceName.template")
		}
		_, list := s.call(admin, http.MethodGet, strings.Replace(at, "/providers/Microsoft.Resources", "", 1)+"/operations", "")
		if dig(list, "value", 0, "properties", "statusMessage", "error", "code") != c.code || dig(list, "value", 0, "properties", "provisioningState") != "Failed" {
			t.Errorf("%s: its operations: %v", name, list)
		}
		if answer, _ := s.call(admin, http.MethodGet, group+"/providers/Microsoft.Network/publicIPAddresses/first", ""); answer.StatusCode != 404 {
			t.Errorf("%s: something was made: %d", name, answer.StatusCode)
		}
		if _, v := s.call(admin, http.MethodGet, at, ""); dig(v, "properties", "error", "code") != "DeploymentFailed" || strings.Contains(fmt.Sprint(v), "hidden-word") {
			t.Errorf("%s: %v", name, v)
		}
	}
	// What is refused may be a secret, and others read the deployment.
	for _, hidden := range []string{`{"type":"Microsoft.Network/publicIPAddresses","name":"first","location":"[parameters('s')]","properties":{}}`, `{"type":"Microsoft.Network/publicIPAddresses","name":"[concat(parameters('s'), '!')]","properties":{}}`} {
		s.call(admin, http.MethodPut, at, body(hidden))
		if _, v := s.call(admin, http.MethodGet, at, ""); dig(v, "properties", "error", "code") != "DeploymentFailed" || strings.Contains(fmt.Sprint(v), "hidden-word") {
			t.Errorf("%s: %v", hidden, v)
		} else {
			handbooktest.Said(t, fmt.Sprint(v), "arm.DeploymentFailed.secret")
		}
	}
	if answer, v := s.call(admin, http.MethodPut, at, body("")); answer.StatusCode != 200 || dig(v, "properties", "error") != nil {
		t.Errorf("the same, mended: %d %v", answer.StatusCode, v)
	}
	s.work()
	if _, v := s.call(admin, http.MethodGet, at, ""); dig(v, "properties", "provisioningState") != "Succeeded" || dig(v, "properties", "error") != nil {
		t.Errorf("mended: %v", v)
	}
	for name, c := range map[string]struct {
		who, body string
		status    int
	}{"text": {admin, body(`{"type":"A.B/c","name":"[nosuch('x')]"}`), 400}, "somebody else": {nobody, body(good), 403}} {
		if answer, v := s.call(c.who, http.MethodPut, at+"2", c.body); answer.StatusCode != c.status {
			t.Errorf("%s: %d %v", name, answer.StatusCode, v)
		}
		if answer, _ := s.call(admin, http.MethodGet, at+"2", ""); answer.StatusCode != 404 {
			t.Errorf("%s: it is there", name)
		}
	}
}
