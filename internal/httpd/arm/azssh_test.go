package arm_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// recordings reads a file of recorded requests.
func recordings(t *testing.T, path string) (list []recorded) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// TestRecorded_AzSSHFindsTheMachine replays what `az ssh vm -g -n` (az 2.45.0, ssh
// 2.0.6) asks before it asks for a certificate, and checks every field that it
// reads (azure reference 11.6).
func TestRecorded_AzSSHFindsTheMachine(t *testing.T) {
	s := newServer(t)
	for _, r := range recordings(t, "testdata/az-2.45.0.jsonl") {
		if r.Method == http.MethodPut && strings.Count(r.Path, "/") < 9 {
			s.call(admin, r.Method, r.Path, r.Body)
			s.work()
		}
	}
	ask := func(r recorded) any {
		t.Helper()
		a, v := s.call(admin, r.Method, strings.ReplaceAll(r.Path, " ", "%20"), r.Body)
		if a.StatusCode != 200 {
			t.Fatalf("%s (%s): %d %v", r.Path, r.From, a.StatusCode, v)
		}
		return v
	}
	all := recordings(t, "testdata/az-ssh-2.0.6.jsonl")
	listed := ask(all[0])
	if kind, _ := dig(listed, "value", 0, "type").(string); !strings.EqualFold(kind, "Microsoft.Compute/virtualMachines") || dig(listed, "value", 0, "name") != "myVM" || dig(listed, "value", 1) != nil {
		t.Errorf("another item of the name would be ambiguous: %v", listed)
	}
	for _, r := range all[1:3] {
		vm := ask(r)
		nic, _ := dig(vm, "properties", "networkProfile", "networkInterfaces", 0, "id").(string)
		if dig(vm, "properties", "storageProfile", "osDisk", "osType") != "Linux" || !strings.EqualFold(nic, strings.Split(all[3].Path, "?")[0]) {
			t.Errorf("%v", vm)
		}
	}
	card := ask(all[3])
	public, _ := dig(card, "properties", "ipConfigurations", 0, "properties", "publicIPAddress", "id").(string)
	if private, _ := dig(card, "properties", "ipConfigurations", 0, "properties", "privateIPAddress").(string); private != "10.77.0.2" || !strings.EqualFold(public, strings.Split(all[4].Path, "?")[0]) {
		t.Errorf("%v", card)
	}
	if ip, _ := dig(ask(all[4]), "properties", "ipAddress").(string); ip != "127.77.0.2" {
		t.Errorf("%s", ip)
	}
	// The same in other letters, as people type names, and one that is not there.
	other := all[0]
	other.Path = strings.Replace(strings.Replace(other.Path, "AzureADLinuxVM", "azureadlinuxvm", 1), "'myVM'", "'MYVM'", 1)
	if v := ask(other); dig(v, "value", 0, "name") != "myVM" {
		t.Errorf("%v", v)
	}
	other.Path = strings.Replace(other.Path, "'MYVM'", "'nobody'", 1)
	if v := ask(other); dig(v, "value", 0) != nil {
		t.Errorf("%v", v)
	}
}
