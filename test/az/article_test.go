//go:build e2e

package az

import (
	"os"
	"strings"
	"testing"
)

// The article's commands, typographical errors mended, as an administrator types
// them and a user after him.
func TestArticle(t *testing.T) {
	t.Parallel()
	a := admin()
	alice := user(t, "article")
	created := a.answer(t, "vm", "create", "--resource-group", group, "--name", "myVM", "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--generate-ssh-keys")
	if text(created, "powerState") != "VM running" || text(created, "identity", "systemAssignedIdentity") == "" || text(created, "publicIpAddress") == "" || text(created, "resourceGroup") != group {
		t.Errorf("vm create: %v", created)
	}
	extension := []string{"--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux"}
	set := a.answer(t, append([]string{"vm", "extension", "set", "--resource-group", group, "--vm-name", "myVM"}, extension...)...)
	if text(set, "provisioningState") != "Succeeded" || text(set, "typePropertiesType") != "AADSSHLoginForLinux" {
		t.Errorf("vm extension set: %v", set)
	}
	username := a.must(t, "account", "show", "--query", "user.name", "--output", "tsv")
	rg := a.must(t, "group", "show", "--resource-group", group, "--query", "id", "-o", "tsv")
	if username != adminUPN || !strings.HasSuffix(rg, "/resourceGroups/"+group) {
		t.Errorf("user %q, group %q", username, rg)
	}
	given := a.answer(t, "role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", username, "--scope", rg)
	if text(given, "principalType") != "User" || text(given, "scope") != rg {
		t.Errorf("role assignment create: %v", given)
	}
	object := a.must(t, "ad", "user", "list", "--filter", "userPrincipalName eq '"+alice.name+"'", "--query", "[0].id", "-o", "tsv")
	a.must(t, "role", "assignment", "create", "--role", "Virtual Machine User Login", "--assignee-object-id", object, "--assignee-principal-type", "User", "--scope", rg)
	a.must(t, "vm", "list", "-d", "-o", "table")
	one := a.inOne(t)
	t.Run("Machine", func(t *testing.T) { machineCommands(t, one, rg) })
	t.Run("Roles", func(t *testing.T) { roleCommands(t, one, alice, object, rg) })
	a.must(t, append([]string{"vm", "extension", "delete", "-g", group, "--vm-name", "myVM"}, extension[2:]...)...)
	if left := a.must(t, "vm", "extension", "list", "-g", group, "--vm-name", "myVM", "--query", "length(@)"); left != "0" {
		t.Errorf("%s extensions are left", left)
	}
	a.must(t, "vm", "delete", "-g", group, "-n", "myVM", "--yes")
	a.fails(t, 3, []string{"ResourceNotFound"}, "vm", "show", "-g", group, "-n", "myVM")
}

// machineCommands is what az vm has for a machine that is there.
func machineCommands(t *testing.T, a *somebody, rg string) {
	vm := []string{"-g", group, "-n", "myVM"}
	of := func(words ...string) []string { return append(words, vm...) }
	if id := a.must(t, append(of("vm", "show"), "--query", "id", "-o", "tsv")...); id != rg+"/providers/Microsoft.Compute/virtualMachines/myVM" {
		t.Errorf("vm show: %s", id)
	}
	shown := a.answer(t, of("vm", "show", "-d")...)
	if text(shown, "powerState") != "VM running" || text(shown, "privateIps") == "" {
		t.Errorf("vm show -d: %v", shown)
	}
	if ip := a.must(t, append(of("vm", "list-ip-addresses"), "--query", "[0].virtualMachine.network.publicIpAddresses[0].ipAddress", "-o", "tsv")...); ip != text(shown, "publicIps") {
		t.Errorf("list-ip-addresses: %q and %q", ip, text(shown, "publicIps"))
	}
	names := a.must(t, "vm", "extension", "image", "list", "-l", place, "-p", "Microsoft.Azure.ActiveDirectory", "--query", "[].name", "-o", "tsv")
	if !strings.Contains(names, "AADSSHLoginForLinux") {
		t.Errorf("extension image list: %s", names)
	}
	version := a.must(t, "vm", "extension", "image", "list-versions", "-l", place, "-p", "Microsoft.Azure.ActiveDirectory", "-n", "AADSSHLoginForLinux", "--query", "[-1].name", "-o", "tsv")
	a.must(t, "vm", "extension", "image", "show", "-l", place, "-p", "Microsoft.Azure.ActiveDirectory", "-n", "AADSSHLoginForLinux", "--version", version)
	if list := a.must(t, "vm", "extension", "show", "-g", group, "--vm-name", "myVM", "-n", "AADSSHLoginForLinux", "--query", "provisioningState", "-o", "tsv"); list != "Succeeded" {
		t.Errorf("extension show: %s", list)
	}
	old := a.must(t, append(of("vm", "identity", "show"), "--query", "principalId", "-o", "tsv")...)
	a.must(t, of("vm", "identity", "remove")...)
	now := a.answer(t, append(of("vm", "identity", "assign"), "--role", "Reader", "--scope", rg)...)
	if id := text(now, "systemAssignedIdentity"); id == "" || id == old {
		t.Errorf("identity assign: %v; before %s", now, old)
	}
	a.must(t, of("vm", "stop")...)
	if power := a.must(t, append(of("vm", "show", "-d"), "--query", "powerState", "-o", "tsv")...); power != "VM stopped" {
		t.Errorf("stopped: %q", power)
	}
	a.must(t, of("vm", "start")...)
	a.must(t, of("vm", "restart")...)
	if tags := a.must(t, append(of("vm", "update"), "--set", "tags.stage=test", "--query", "tags.stage", "-o", "tsv")...); tags != "test" {
		t.Errorf("vm update: %q", tags)
	}
}

// roleCommands: definitions and assignments.
func roleCommands(t *testing.T, a, alice *somebody, object, rg string) {
	if got := a.must(t, "role", "definition", "list", "--name", "Virtual Machine Administrator Login", "--query", "[0].permissions[0].dataActions", "-o", "tsv"); !strings.Contains(got, "Microsoft.Compute/virtualMachines/loginAsAdmin/action") {
		t.Errorf("role definition list: %s", got)
	}
	file := a.config + "/role.json"
	if err := os.WriteFile(file, []byte(`{"Name": "VM Watcher", "Description": "reads", "Actions": ["Microsoft.Compute/*/read"], "AssignableScopes": ["`+rg+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	a.must(t, "role", "definition", "create", "--role-definition", "@"+file)
	a.must(t, "role", "assignment", "create", "--role", "VM Watcher", "--assignee", alice.name, "--scope", rg)
	if got := a.must(t, "role", "assignment", "list", "--assignee", alice.name, "-g", group, "--query", "sort([].roleDefinitionName)", "-o", "tsv"); got != "VM Watcher\nVirtual Machine User Login" {
		t.Errorf("role assignment list: %q", got)
	}
	a.must(t, "role", "assignment", "delete", "--role", "VM Watcher", "--assignee-object-id", object, "-g", group)
	a.must(t, "role", "definition", "delete", "--name", "VM Watcher")
	alice.must(t, "login", "-u", alice.name, "-p", alice.password) // az learns the subscription that she has a role in now
	alice.fails(t, 1, []string{"AuthorizationFailed"}, "rest", "--method", "put", "--url", rg+"/providers/Microsoft.Network/virtualNetworks/mine?api-version=2022-01-01", "--body", `{"location":"`+place+`"}`)
}

// TestDeployment: the template that somebody wrote by hand, comments and all.
func TestDeployment(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own = "Templates"
	a.must(t, "group", "create", "-n", own, "-l", place)
	file := a.config + "/template.json"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
  "parameters": {"name": {"type": "string"}}, // of the address
  "variables": {"full": "[concat(parameters('name'), '-ip')]"},
  "resources": [{"type": "Microsoft.Network/publicIPAddresses", "apiVersion": "2022-01-01", "name": "[variables('full')]", "location": "[resourceGroup().location]", "properties": {}}],
  "outputs": {"id": {"type": "string", "value": "[resourceId('Microsoft.Network/publicIPAddresses', variables('full'))]"}}
}`)
	made := a.answer(t, "deployment", "group", "create", "-g", own, "-n", "d1", "--template-file", file, "--parameters", "name=web")
	if text(made, "properties", "provisioningState") != "Succeeded" || !strings.HasSuffix(text(made, "properties", "outputs", "id", "value"), "/publicIPAddresses/web-ip") {
		t.Errorf("deployment: %v", made)
	}
	if names := a.must(t, "deployment", "group", "list", "-g", own, "--query", "[].name", "-o", "tsv"); names != "d1" {
		t.Errorf("deployment group list: %q", names)
	}
	a.must(t, "deployment", "group", "show", "-g", own, "-n", "d1")
	write(`{"resources": [{"type": "Microsoft.Network/publicIPAddresses", "apiVersion": "2022-01-01", "name": "[nosuch('x')]", "location": "` + place + `"}], "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0"}`)
	a.fails(t, 1, []string{"InvalidTemplate", "nosuch"}, "deployment", "group", "create", "-g", own, "-n", "d2", "--template-file", file)
	a.must(t, "group", "delete", "-n", own, "--yes")
	a.fails(t, 3, []string{"ResourceGroupNotFound"}, "group", "show", "-n", own)
}

// TestMachines_Many: --count, which is a loop in the template, and a role for the
// identity in the template. Both at once az cannot: its template names a machine
// that is not in it.
func TestMachines_Many(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own = "Many"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--query", "id", "-o", "tsv")
	many := a.answer(t, "vm", "create", "-g", own, "-n", "node", "--count", "2", "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--generate-ssh-keys")
	list, _ := many.([]any)
	if len(list) != 2 || text(many, 0, "powerState") != "VM running" {
		t.Errorf("vm create --count: %v", many)
	}
	one := a.answer(t, "vm", "create", "-g", own, "-n", "reader", "--image", "UbuntuLTS", "--assign-identity", "--role", "Reader", "--scope", rg, "--admin-username", "azureuser", "--generate-ssh-keys")
	if text(one, "identity", "role") != "Reader" || text(one, "identity", "scope") != rg {
		t.Errorf("vm create --role --scope: %v", one)
	}
	a.must(t, "group", "delete", "-n", own, "--yes")
}
