package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/route"
)

const rg = "/subscriptions/" + subID + "/resourceGroups/RG"

// TestVerbs_Calls: each row sends what az sends (azure-wire-protocol.md 9, 10).
func TestVerbs_Calls(t *testing.T) {
	const q = "?api-version=2022-09-01"
	users := "/v1.0/users"
	sends(t, []exchange{
		{"group create --name RG --location southcentralus --tags a=b c=", `{"id":"x"}`, "PUT " + rg + q + ` {"location":"southcentralus","tags":{"a":"b","c":""}}`},
		{"group show --resource-group RG", `{"id":"x"}`, "GET " + rg + q},
		{"group delete -n RG --yes", "202 ", "DELETE " + rg + q},
		{"group list", `{"value":[]}`, "GET /subscriptions/" + subID + "/resourceGroups" + q},
		{"resource move --destination-group To --ids " + vmPath, "204 ", "POST " + rg + "/moveResources" + q + ` {"resources":["` + vmPath + `"],"targetResourceGroup":"/subscriptions/` + subID + `/resourceGroups/To"}`},
		{"resource list -g RG", `{"value":[]}`, "GET " + rg + "/resources?%24expand=createdTime%2CchangedTime%2CprovisioningState&" + q[1:]},
		{"vm list", `{"value":[]}`, "GET /subscriptions/" + subID + "/providers/Microsoft.Compute/virtualMachines" + q},
		{"vm start -g RG -n myVM", "202 ", "POST " + vmPath + "/start" + q},
		{"vm stop --ids " + vmPath, "202 ", "POST " + vmPath + "/powerOff" + q},
		{"vm restart -g RG -n myVM --no-wait", "202 ", "POST " + vmPath + "/restart" + q},
		{"vm delete -g RG -n myVM -y", "204 ", "DELETE " + vmPath + q},
		{"vm identity show -g RG -n myVM", `{"identity":{"type":"SystemAssigned"}}`, "GET " + vmPath + q},
		{"vm extension show -g RG --vm-name myVM -n E --instance-view", `{}`, "GET " + vmPath + "/extensions/E?%24expand=instanceView&api-version=2022-09-01"},
		{"vm extension delete -g RG --vm-name myVM -n E", "204 ", "DELETE " + vmPath + "/extensions/E" + q},
		{"machine list -g RG", `{"value":[]}`, "GET " + rg + "/providers/Sallyport.Access/machines" + q},
		{"machine show -g RG -n myVM", `{}`, "GET " + vmPath + "/providers/Sallyport.Access/machines/default" + q},
		{"audit list --correlation-id X --result Denied --resource o'b --start-time 2026-11-22 --max-items 5", `{"value":[]}`, "GET /providers/Sallyport.Access/auditRecords?%24filter=correlationId%20eq%20%27X%27%20and%20outcome%20eq%20%27denied%27%20and%20target%20eq%20%27o%27%27b%27&%24top=5&api-version=2022-09-01&startTime=2026-11-22T00%3A00%3A00Z"},
		{"account session list", `{"value":[]}`, "GET /providers/Sallyport.Access/sessions" + q},
		{"account session list --user al@c", `{"value":[]}`, "GET /providers/Sallyport.Access/sessions" + q + "&principal=al%40c"},
		{"account session revoke --id " + subID, "204 ", "POST /providers/Sallyport.Access/sessions/" + subID + "/revoke" + q},
		{"account session revoke --id " + subID + " --user al@c", "204 ", "POST /providers/Sallyport.Access/sessions/" + subID + "/revoke" + q + "&principal=al%40c"},
		{"account session revoke --all --yes", `{"value":true}`, "POST /v1.0/me/revokeSignInSessions"},
		{"account session revoke --all --user al@c -y", `{"value":true}`, "POST /v1.0/users/al@c/revokeSignInSessions"},
		{"tenant update --longest-session 12h", `{}`, "PATCH /providers/Sallyport.Access/tenantSettings/default" + q + ` {"properties":{"longestSessionMinutes":720}}`},
		{"tenant update --offline-user 12h --offline-administrator 90s", `{}`, "PATCH /providers/Sallyport.Access/tenantSettings/default" + q + ` {"properties":{"offlineAdministratorSeconds":90,"offlineUserSeconds":43200}}`},
		{"tenant update --longest-session none", `{}`, "PATCH /providers/Sallyport.Access/tenantSettings/default" + q + ` {"properties":{"longestSessionMinutes":0}}`},
		{"session list", `{"value":[]}`, "GET /providers/Sallyport.Access/machineSessions" + q},
		{"session list --user al@c --ids " + vmPath, `{"value":[]}`, "GET /providers/Sallyport.Access/machineSessions" + q + "&machine=" + strings.ReplaceAll(vmPath, "/", "%2F") + "&principal=al%40c"},
		{"session show " + certID, `{}`, "GET /providers/Sallyport.Access/machineSessions/" + certID + q},
		{"session end " + certID + " --no-wait", `{"properties":{"state":"Ending"}}`, "POST /providers/Sallyport.Access/machineSessions/" + certID + "/end" + q},
		{"session end --id " + certID + " --machine " + machineID, `{"properties":{"state":"Ended"}}`, "POST /providers/Sallyport.Access/machineSessions/" + certID + "/end" + q + "&machine=" + machineID},
		{"cert list --user al@c", `{"value":[]}`, "GET /providers/Sallyport.Access/certificates" + q + "&principal=al%40c"},
		{"cert list --all", `{"value":[]}`, "GET /providers/Sallyport.Access/certificates?all=true&api-version=2022-09-01"},
		{"cert show --serial 7", `{}`, "GET /providers/Sallyport.Access/certificates/7" + q},
		{"cert revoke --key-id " + certID, `{}`, "POST /providers/Sallyport.Access/certificates/" + certID + "/revoke" + q},
		{"cert revoke --user al@c -y", `{"value":true}`, "POST /v1.0/users/al@c/revokeSignInSessions"},
		{"access revocation list", `{"value":[]}`, "GET /providers/Sallyport.Access/revocations" + q},
		{"access revocation show --id server-1-7", `{}`, "GET /providers/Sallyport.Access/revocations/server-1-7" + q},
		{"tenant show", `{}`, "GET /providers/Sallyport.Access/tenantSettings/default" + q},
		{"tenant update --allow-password-grant false", `{}`, "PATCH /providers/Sallyport.Access/tenantSettings/default" + q + ` {"properties":{"allowPasswordGrant":false}}`},
		{"audit retention update --days 90 --yes", `{"days":90}`, `PUT /providers/Sallyport.Access/auditRetention` + q + ` {"days":90}`},
		{"ad user list --upn o'b@c", `{"value":[]}`, "GET " + users + "?%24filter=userPrincipalName%20eq%20%27o%27%27b%40c%27"},
		{"ad user create --display-name A --user-principal-name al@c --password P --force-change-password-next-sign-in true", "201 {}", "POST " + users +
			` {"accountEnabled":true,"displayName":"A","mailNickname":"al","passwordProfile":{"forceChangePasswordNextSignIn":true,"password":"P"},"userPrincipalName":"al@c"}`},
		{"ad user update --id al@c --account-enabled false", "204 ", "PATCH " + users + `/al@c {"accountEnabled":false}`},
		{"ad user show --id al@c", `{"@odata.context":"x","id":"y"}`, "GET " + users + "/al@c"},
		{"ad user delete --id al@c", "204 ", "DELETE " + users + "/al@c"},
		{"ad signed-in-user show", `{}`, "GET /v1.0/me"},
		{"ad group create --display-name G --mail-nickname g --force", "201 {}", `POST /v1.0/groups {"displayName":"G","mailEnabled":false,"mailNickname":"g","securityEnabled":true}`},
		{"ad group create --display-name G --mail-nickname g --force --is-assignable-to-role", "201 {}", `POST /v1.0/groups {"displayName":"G","isAssignableToRole":true,"mailEnabled":false,"mailNickname":"g","securityEnabled":true}`},
		{"ad app permission delete-grant --id G", "204 ", "DELETE /v1.0/oauth2PermissionGrants/G"},
		{"ad sp list --all", `{"value":[]}`, "GET /v1.0/servicePrincipals"},
		{"ad sp list --show-mine", `{"value":[]}`, "GET /v1.0/me/ownedObjects/microsoft.graph.servicePrincipal"},
		{"ad app list --show-mine --display-name x", `{"value":[]}`, "GET /v1.0/me/ownedObjects/microsoft.graph.application"},
		{"ad signed-in-user list-owned-objects", `{"value":[]}`, "GET /v1.0/me/ownedObjects"},
		{"rest --url /subscriptions/{subscriptionId}/x?api-version=1 --method post --body {} --headers A=b", `{}`, "POST /subscriptions/" + subID + "/x?api-version=1 {}"},
		{"rest -u /v1.0/me", `{}`, "GET /v1.0/me"},
	})
}

// exchange is a command with the one request that it makes.
type exchange struct{ command, answer, sent string }

func sends(t *testing.T, list []exchange) {
	t.Helper()
	for _, c := range list {
		t.Run(c.command, func(t *testing.T) {
			f, p := signedIn(t)
			method, rest, _ := strings.Cut(c.sent, " ")
			path, _, _ := strings.Cut(rest, " ")
			path, _, _ = strings.Cut(path, "?")
			f.routes[method+" "+path] = c.answer
			f.log = nil
			p.must(strings.Fields(c.command)...)
			if len(f.log) != 1 || strings.TrimSpace(f.log[0]) != c.sent {
				t.Errorf("sent %q\nwant %q", f.log, c.sent)
			}
		})
	}
}

func TestShow_NotFoundIsThree(t *testing.T) {
	_, p := signedIn(t)
	p.fails(3, []string{"(ResourceNotFound)"}, "group", "show", "-n", "nowhere")
	p.fails(3, []string{"(ResourceNotFound)"}, "vm", "show", "-g", "RG", "-n", "nowhere")
	p.fails(3, []string{"(ResourceNotFound)"}, "vm", "start", "-g", "RG", "-n", "nowhere")
}

func TestRest_TokenStaysOnTheServer(t *testing.T) {
	_, p := signedIn(t)
	p.fails(1, []string{"page:ForeignLink"}, "rest", "--url", "https://evil.test/x")
	f, p := signedIn(t)
	f.routes["GET /subscriptions/"+subID+"/resourceGroups"] = `{"value":[],"nextLink":"https://evil.test/more"}`
	p.fails(1, []string{"no token is sent there"}, "group", "list")
	f.routes["POST "+vmPath+"/start"] = "202 async:https://evil.test/op {}"
	p.fails(1, []string{"no token is sent there"}, "vm", "start", "-g", "RG", "-n", "myVM")
}

func TestOperation_FailureIsTold(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET "+vmPath] = `{"id":"` + vmPath + `","location":"l"}`
	f.routes["PUT "+vmPath+"/extensions/AADSSHLoginForLinux"] = "201 async:~/op {}"
	f.routes["GET /op"] = `{"status":"Failed","error":{"code":"VMExtensionProvisioningError","message":"exit code 22: a system-assigned managed identity is required"}}`
	p.fails(1, []string{"ERROR: (VMExtensionProvisioningError) exit code 22"}, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux",
		"--resource-group", "RG", "--vm-name", "myVM", "--version", "1.0")
}

func TestExtensionSet_AsAz(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET "+vmPath] = `{"id":"` + vmPath + `","location":"southcentralus"}`
	types := "/subscriptions/" + subID + "/providers/Microsoft.Compute/locations/southcentralus/publishers/Microsoft.Azure.ActiveDirectory/artifacttypes/vmextension/types"
	f.routes["GET "+types+"/AADSSHLoginForLinux/versions"] = `[{"name":"1.0.9.1"},{"name":"1.0.1588.3"}]`
	id := vmPath + "/extensions/AADSSHLoginForLinux"
	f.routes["PUT "+id] = "201 async:~/op {}"
	f.routes["GET /op"] = `{"status":"Succeeded"}`
	f.routes["GET "+id] = `{"id":"` + id + `","name":"AADSSHLoginForLinux","type":"Microsoft.Compute/virtualMachines/extensions","properties":{"provisioningState":"Succeeded","type":"AADSSHLoginForLinux"}}`
	out := p.must("vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", "RG", "--vm-name", "myVM",
		"--query", "[provisioningState, typePropertiesType, resourceGroup]", "-o", "json")
	if strings.Join(strings.Fields(out), "") != `["Succeeded","AADSSHLoginForLinux","RG"]` {
		t.Errorf("out %s", out)
	}
	want := `"properties":{"autoUpgradeMinorVersion":true,"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0"}`
	if all := strings.Join(f.log, "\n"); !strings.Contains(all, want) {
		t.Errorf("sent %s", all)
	}
	// The machine has it under another name: that one is meant.
	f.routes["GET "+vmPath] = `{"id":"` + vmPath + `","location":"southcentralus","properties":{"instanceView":{"extensions":[{"name":"other","type":"P.AADSSHLoginForLinux"},{"name":"mine","type":"microsoft.azure.activedirectory.aadsshloginforlinux"}]}}}`
	f.routes["PUT "+vmPath+"/extensions/mine"] = "201 async:~/op {}"
	p.fails(0, []string{"WARNING: A AADSSHLoginForLinux extension with name mine already exists. Updating it with your settings..."}, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux",
		"--resource-group", "RG", "--vm-name", "myVM", "--version", "1.0", "--extension-instance-name", "yours", "--no-wait")
}

// machinesOf lets myVM be made, with its network.
func machinesOf(f *fake) {
	net := rg + "/providers/Microsoft.Network/"
	f.routes["GET "+rg] = `{"location":"southcentralus"}`
	for _, path := range []string{net + "virtualNetworks/myVMVNET", net + "networkSecurityGroups/myVMNSG", net + "publicIPAddresses/myVMPublicIP", net + "networkInterfaces/myVMVMNic"} {
		f.routes["PUT "+path] = "201 {}"
	}
	f.routes["PUT "+vmPath] = "201 async:~/op {}"
	f.routes["GET /op"] = `{"status":"Succeeded"}`
	f.routes["GET "+vmPath] = `{"id":"` + vmPath + `","name":"myVM","location":"southcentralus","identity":{"type":"SystemAssigned","principalId":"` + appID + `"},"properties":{
		"networkProfile":{"networkInterfaces":[{"id":"` + net + `networkInterfaces/myVMVMNic"}]},"instanceView":{"statuses":[{"code":"PowerState/running","displayStatus":"VM running"}]}}}`
	f.routes["GET "+net+"networkInterfaces/myVMVMNic"] = `{"properties":{"macAddress":"00-0D","ipConfigurations":[{"properties":{"privateIPAddress":"10.77.0.2","publicIPAddress":{"id":"` + net + `publicIPAddresses/myVMPublicIP"}}}]}}`
	f.routes["GET "+net+"publicIPAddresses/myVMPublicIP"] = `{"properties":{"ipAddress":"127.77.0.2"}}`
}

func TestVMCreate_Article(t *testing.T) {
	f, p := signedIn(t)
	machinesOf(f)
	out := p.must("vm", "create", "--resource-group", "RG", "--name", "myVM", "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--generate-ssh-keys",
		"--query", "[publicIpAddress,privateIpAddress,powerState,identity.systemAssignedIdentity,resourceGroup]", "-o", "tsv")
	if strings.Join(strings.Fields(out), " ") != "127.77.0.2 10.77.0.2 VM running "+appID+" RG" {
		t.Errorf("out %q", out)
	}
	key := filepath.Join(p.dir, ".ssh", "id_ed25519")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(key); info.Mode().Perm() != 0o600 {
		t.Errorf("key mode %v", info.Mode())
	}
	if _, err := ssh.ParsePrivateKey(before); err != nil {
		t.Error(err)
	}
	all := strings.Join(f.log, "\n")
	for _, want := range []string{`"identity":{"type":"SystemAssigned"}`, `"adminUsername":"azureuser"`, `"offer":"UbuntuServer"`, `"disablePasswordAuthentication":true`, `"path":"/home/azureuser/.ssh/authorized_keys"`} {
		if !strings.Contains(all, want) {
			t.Errorf("not sent: %s\n%s", want, all)
		}
	}
	p.must("vm", "create", "-g", "RG", "-n", "myVM", "--image", "UbuntuLTS", "--admin-username", "azureuser", "--generate-ssh-keys")
	if after, _ := os.ReadFile(key); string(after) != string(before) {
		t.Error("the key was replaced")
	}
	p.fails(2, []string{"--image"}, "vm", "create", "-g", "RG", "-n", "myVM", "--image", "nonsense", "--admin-username", "x")
	p.fails(1, []string{"cannot be root"}, "vm", "create", "-g", "RG", "-n", "myVM", "--image", "UbuntuLTS", "--admin-username", "root")
	// No such image is a mistake in the command line, and a server that refuses is none.
	urn := []string{"vm", "create", "-g", "RG", "-n", "myVM", "--image", "P:O:S:latest", "--admin-username", "x"}
	p.fails(2, []string{"was not found"}, urn...)
	f.routes["GET /subscriptions/"+subID+"/providers/Microsoft.Compute/locations/southcentralus/publishers/P/artifacttypes/vmimage/offers/O/skus/S/versions"] = `403 {"error":{"code":"Closed","message":"not today"}}`
	p.fails(1, []string{"not today"}, urn...)
}

func TestRoleAssignment_Article(t *testing.T) {
	f, p := signedIn(t)
	definition := "/subscriptions/" + subID + "/providers/Microsoft.Authorization/roleDefinitions/1c0163c0-47e6-4577-8991-ea5c82e286e4"
	f.routes["GET /v1.0/users"] = `{"value":[{"id":"` + aliceID + `"}]}`
	f.routes["GET "+rg+"/providers/Microsoft.Authorization/roleDefinitions"] = `{"value":[{"id":"` + definition + `","name":"1c0163c0-47e6-4577-8991-ea5c82e286e4","properties":{"roleName":"Virtual Machine Administrator Login"}}]}`
	name := "77777777-7777-4777-8777-777777777777"
	assignment := `{"id":"` + rg + `/a","name":"` + name + `","properties":{"principalId":"` + aliceID + `","roleDefinitionId":"` + definition + `","scope":"` + rg + `"}}`
	put := "PUT " + rg + "/providers/Microsoft.Authorization/roleAssignments/" + name
	f.routes[put] = "201 " + assignment
	create := []string{"role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", alice, "--scope", rg, "--name", name, "--query", "id", "-o", "tsv"}
	if out := p.must(create...); out != rg+"/a\n" {
		t.Errorf("out %q", out)
	}
	if want := `{"properties":{"principalId":"` + aliceID + `","principalType":"User","roleDefinitionId":"` + definition + `"}}`; !strings.HasSuffix(f.log[len(f.log)-1], want) {
		t.Errorf("sent %s", f.log[len(f.log)-1])
	}
	list := "GET " + rg + "/providers/Microsoft.Authorization/roleAssignments"
	f.routes[list] = `{"value":[` + assignment + `]}`
	f.routes[put] = `409 {"error":{"code":"RoleAssignmentExists","message":"The role assignment already exists."}}`
	if out := p.must(create...); out != rg+"/a\n" {
		t.Errorf("existing: %q", out)
	}
	f.routes["POST /v1.0/directoryObjects/getByIds"] = `{"value":[{"@odata.type":"#microsoft.graph.user","id":"` + aliceID + `","userPrincipalName":"` + alice + `"}]}`
	out := p.must("role", "assignment", "list", "--scope", rg, "-o", "table")
	if !strings.Contains(out, alice) || !strings.Contains(out, "Virtual Machine Administrator Login") {
		t.Errorf("table\n%s", out)
	}
	f.routes["DELETE "+rg+"/a"] = "204 "
	p.fails(3, []string{"is not a Resource Manager id"}, "role", "assignment", "delete", "--ids", "nonsense")
	p.fails(1, []string{"No matched assignments"}, "role", "assignment", "delete", "--role", "Owner", "--scope", rg)
	f.routes["GET /v1.0/users"], f.routes["GET /v1.0/servicePrincipals"] = `{"value":[]}`, `{"value":[]}`
	p.fails(1, []string{"Cannot find user or service principal"}, "role", "assignment", "create", "--role", "Owner", "--assignee", "nobody@contoso.test", "--scope", rg)
	p.fails(2, []string{"must be a GUID"}, "role", "assignment", "create", "--role", "Owner", "--assignee-object-id", "x", "--scope", rg)
	p.fails(2, []string{"--assignee-principal-type"}, "role", "assignment", "create", "--role", "Owner", "--assignee-object-id", aliceID, "--assignee-principal-type", "Robot", "--scope", rg)
}

// Everything of a service principal is ended by its object id, whatever it was
// named by; a group has no certificates.
func TestCertRevoke_Assignee(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/servicePrincipals"] = `{"value":[{"id":"` + aliceID + `"}]}`
	const all = "POST /providers/Sallyport.Access/certificates/revokeAll"
	f.routes[all] = "204 "
	p.must("cert", "revoke", "--assignee", appID, "--yes")
	if last := f.log[len(f.log)-1]; !strings.HasPrefix(last, all) || !strings.Contains(last, "principal="+aliceID) {
		t.Errorf("sent %s", last)
	}
	f.routes["GET /v1.0/servicePrincipals"] = `{"value":[]}`
	f.routes["POST /v1.0/directoryObjects/getByIds"] = `{"value":[{"@odata.type":"#microsoft.graph.group","id":"` + aliceID + `","displayName":"crew"}]}`
	p.fails(2, []string{"is a group"}, "cert", "revoke", "--assignee", aliceID, "--yes")
	p.fails(2, []string{"give one of"}, "cert", "revoke", "--assignee", aliceID, "--user", alice)
	p.fails(2, []string{"give one of"}, "cert", "revoke", "--assignee", aliceID, "--serial", "7")
}

func TestCreateForRBACAndReset(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/applications"], f.routes["GET /v1.0/servicePrincipals"] = `{"value":[]}`, `{"value":[]}`
	f.routes["POST /v1.0/applications"] = `201 {"id":"app-object","appId":"` + appID + `"}`
	f.routes["POST /v1.0/servicePrincipals"] = `201 {"id":"` + aliceID + `"}`
	f.routes["POST /v1.0/applications/app-object/addPassword"] = `{"secretText":"S1","keyId":"new"}`
	out := p.must("ad", "sp", "create-for-rbac", "--name", "deployer", "--query", "[appId, password, tenant]", "-o", "tsv")
	if strings.Join(strings.Fields(out), " ") != appID+" S1 "+tenantID {
		t.Errorf("out %q", out)
	}
	there := `{"id":"app-object","appId":"` + appID + `","displayName":"deployer","passwordCredentials":[{"keyId":"old"}],"keyCredentials":[{"keyId":"k0"}]}`
	f.routes["GET /v1.0/servicePrincipals"] = `{"value":[{"id":"sp-object","appId":"` + appID + `","passwordCredentials":[]}]}`
	f.routes["GET /v1.0/servicePrincipals/sp-object"] = `{"id":"sp-object","appId":"` + appID + `","passwordCredentials":[{"keyId":"second"}],"keyCredentials":[{"keyId":"k1"}]}`
	f.routes["GET /v1.0/applications"], f.routes["GET /v1.0/applications/app-object"] = `{"value":[`+there+`]}`, there
	for _, route := range []string{"PATCH /v1.0/servicePrincipals/sp-object", "POST /v1.0/servicePrincipals/sp-object/removePassword", "PATCH /v1.0/applications/app-object", "POST /v1.0/applications/app-object/removePassword"} {
		f.routes[route] = "204 "
	}
	for _, line := range [][]string{{"credential", "reset", "--id", appID}, {"create-for-rbac", "--name", "deployer"}} { // the second finds the application
		f.log = nil
		if out := p.must(append(append([]string{"ad", "sp"}, line...), "--query", "password", "-o", "tsv")...); out != "S1\n" {
			t.Errorf("%s: %q", line[0], out)
		}
		_, after, made := strings.Cut(strings.Join(f.log, "\n"), "addPassword")
		for _, ended := range []string{`applications/app-object/removePassword {"keyId":"old"}`, `PATCH /v1.0/applications/app-object {"keyCredentials":[]}`,
			`servicePrincipals/sp-object/removePassword {"keyId":"second"}`, `PATCH /v1.0/servicePrincipals/sp-object {"keyCredentials":[]}`} {
			if !made || !strings.Contains(after, ended) {
				t.Errorf("%s: not ended after the new secret was made: %s", line[0], ended)
			}
		}
	}
	f.log = nil
	p.must("ad", "sp", "credential", "reset", "--id", appID, "--append")
	if sent := strings.Join(f.log, "\n"); strings.Contains(sent, "removePassword") || strings.Contains(sent, "PATCH") {
		t.Errorf("--append ended some: %s", sent)
	}
	p.fails(1, []string{"--role and --scopes"}, "ad", "sp", "create-for-rbac", "--role", "Owner")
}

func TestGroupMembers(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/groups"] = `{"value":[{"id":"` + appID + `","displayName":"G"}]}`
	f.routes["POST /v1.0/groups/"+appID+"/members/$ref"] = "204 "
	f.routes["DELETE /v1.0/groups/"+appID+"/members/"+aliceID+"/$ref"] = "204 "
	f.routes["POST /v1.0/directoryObjects/"+aliceID+"/checkMemberGroups"] = `{"value":["` + appID + `"]}`
	p.must("ad", "group", "member", "add", "--group", "G", "--member-id", aliceID)
	if last := f.log[len(f.log)-1]; !strings.HasSuffix(last, `{"@odata.id":"`+f.web.URL+`/v1.0/directoryObjects/`+aliceID+`"}`) {
		t.Errorf("sent %s", last)
	}
	if out := p.must("ad", "group", "create", "--display-name", "G", "--mail-nickname", "g", "--query", "id", "-o", "tsv"); out != appID+"\n" {
		t.Errorf("a group that is there: %q", out)
	}
	p.must("ad", "group", "member", "remove", "-g", "G", "--member-id", aliceID)
	if out := p.must("ad", "group", "member", "check", "-g", "G", "--member-id", aliceID, "--query", "value"); out != "true\n" {
		t.Errorf("check %q", out)
	}
	p.fails(1, []string{"--member-id"}, "ad", "group", "member", "add", "--group", "G", "--member-id", "bob")
	p.fails(1, []string{"--member-id: it must be an object id"}, "ad", "group", "member", "remove", "--group", "G", "--member-id", "")
	f.routes["GET /v1.0/groups"] = `{"value":[{"id":"1"},{"id":"2"}]}`
	p.fails(1, []string{"2 objects are named 'G'"}, "ad", "group", "delete", "-g", "G")
	f.routes["GET /v1.0/groups"] = `{"value":[]}`
	p.fails(1, []string{"No group matches the name of 'G'"}, "ad", "group", "show", "-g", "G")
}

func TestToken_RenewedOnceAndCached(t *testing.T) {
	f, p := signedIn(t)
	p.must("account", "get-access-token")
	if len(f.forms) != 1 {
		t.Errorf("a cached token was not used: %v", f.forms)
	}
	p.must("account", "get-access-token", "--resource-type", "ms-graph")
	form := f.forms[len(f.forms)-1]
	if form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") != "refresh-1" || form.Get("scope") != f.web.URL+"/graph/.default offline_access openid profile" {
		t.Errorf("form %v", form)
	}
	f.tokenErr["refresh_token"] = `{"error":"invalid_grant","error_description":"AADSTS700082: The refresh token has expired.","error_codes":[700082]}`
	p.now = p.now.Add(2 * 3600e9)
	f.date = p.now
	p.fails(1, []string{"AADSTS700082", "sally login"}, "group", "list")
}

// TestVerbs_AreRoutes: every row, and every path that a Go file calls, is an
// operation of the server.
func TestVerbs_AreRoutes(t *testing.T) {
	var calls [][2]string
	for _, v := range verbs() {
		prefix := ""
		if v.surface == client.Graph {
			prefix = "/v1.0"
		}
		whole := prefix + v.url + v.suffix
		calls = append(calls, [2]string{v.method, strings.NewReplacer("[", "", "]", "", "{scope}", "/subscriptions/x").Replace(whole)})
		if before, rest, ok := strings.Cut(whole, "["); ok {
			_, after, _ := strings.Cut(rest, "]")
			calls = append(calls, [2]string{v.method, before + after})
		}
	}
	for _, c := range []string{
		"GET /subscriptions", "HEAD " + groupURL, "POST /sallyport/v1/password", "GET /.well-known/sallyport/manifest", "GET /organizations/v2.0/.well-known/openid-configuration",
		"PUT " + machineURL, "PATCH " + machineURL, "GET " + machineURL + accessMember, "PUT " + extensionURL, "POST /providers/Sallyport.Access/verifyAudit", "GET " + auditURL, "GET " + auditURL + "/follow", "GET /providers/Sallyport.Access/auditProof",
		"GET " + machineURL + "/providers/Sallyport.Access/explain", "GET /subscriptions/x/providers/Sallyport.Access/whoCanLogIn", "GET " + joinedURL + accessMember,
		"GET " + rg + definitionsURL, "PUT " + rg + definitionsURL + "/x", "DELETE " + rg + definitionsURL + "/x", "PUT " + rg + assignmentsURL + "/x", "DELETE " + rg + assignmentsURL + "/x", "PUT " + rg + "/providers/Microsoft.Network/networkInterfaces/x",
		"GET /v1.0/groups/x/members", "POST /v1.0/groups/x/members/$ref", "DELETE /v1.0/groups/x/members/y/$ref", "POST /v1.0/directoryObjects/getByIds", "POST /v1.0/applications",
		"POST /v1.0/applications/x/addPassword", "POST /v1.0/applications/x/removePassword", "DELETE /v1.0/servicePrincipals/x", "POST /v1.0/servicePrincipals/x/addPassword",
	} {
		method, path, _ := strings.Cut(c, " ")
		calls = append(calls, [2]string{method, path})
	}
	for _, c := range calls {
		if !slices.ContainsFunc(route.All(), func(r route.Row) bool { return r.Method == c[0] && matches(r.Pattern, c[1]) }) {
			t.Errorf("the server has no operation %s %s", c[0], c[1])
		}
	}
}

// matches compares a pattern with a path; {x} is one segment, {x...} several.
func matches(pattern, path string) bool {
	p, s := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, want := range p {
		if strings.HasSuffix(want, "...}") {
			for n := i + 1; n <= len(s); n++ {
				if matches(strings.Join(p[i+1:], "/"), strings.Join(s[n:], "/")) {
					return true
				}
			}
			return false
		}
		if i >= len(s) || !strings.HasPrefix(want, "{") && !strings.EqualFold(want, s[i]) {
			return false
		}
	}
	return len(p) == len(s)
}
