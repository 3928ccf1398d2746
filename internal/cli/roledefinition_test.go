package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const azRole = `{"Name":"VM Operator","IsCustom":true,"Description":"d","Actions":["Microsoft.Compute/virtualMachines/start/action"],"NotActions":[],"DataActions":["Microsoft.Compute/virtualMachines/login/action"],"AssignableScopes":["` + rg + `"]}`

// The document is the one of az's manual for "role definition create".
func TestRoleDefinition_CreateUpdateDelete(t *testing.T) {
	f, p := signedIn(t)
	file := filepath.Join(t.TempDir(), "role.json")
	if err := os.WriteFile(file, []byte(azRole), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"@" + file, file, azRole} {
		f.log = nil
		p.fails(3, []string{"ResourceNotFound"}, "role", "definition", "create", "--role-definition", value) // the fake knows no such GUID
		want := ` {"properties":{"assignableScopes":["` + rg + `"],"description":"d","permissions":[{"actions":["Microsoft.Compute/virtualMachines/start/action"],"dataActions":["Microsoft.Compute/virtualMachines/login/action"],"notActions":[],"notDataActions":[]}],"roleName":"VM Operator","type":"CustomRole"}}`
		if len(f.log) != 1 || !strings.HasPrefix(f.log[0], "PUT "+rg+definitionsURL+"/") || !strings.HasSuffix(f.log[0], want) {
			t.Fatalf("sent %q", f.log)
		}
	}
	item := `{"id":"` + rg + definitionsURL + `/` + appID + `","name":"` + appID + `","type":"Microsoft.Authorization/roleDefinitions","properties":{"roleName":"VM Operator","type":"CustomRole","description":"d","assignableScopes":["` + rg + `"],"permissions":[{"actions":["*/read"],"notActions":[],"dataActions":[],"notDataActions":[]}],"createdOn":"2026-11-22T12:00:00Z","createdBy":"x","updatedOn":"2026-11-22T12:00:00Z","updatedBy":"x"}}`
	f.routes["GET "+rg+definitionsURL] = `{"value":[` + item + `]}`
	f.routes["PUT "+rg+definitionsURL+"/"+appID] = "201 " + item
	f.routes["DELETE "+rg+definitionsURL+"/"+appID] = item
	if out := p.must("role", "definition", "update", "--role-definition", azRole, "--query", "[roleName, roleType, name]", "-o", "tsv"); out != "VM Operator\nCustomRole\n"+appID+"\n" {
		t.Errorf("updated: %q", out)
	}
	// What list prints goes back in, under another name.
	printed := p.must("role", "definition", "list", "-g", "RG", "--query", "[0]", "-o", "json")
	f.log = nil
	p.must("role", "definition", "update", "--role-definition", strings.Replace(printed, "VM Operator", "Renamed", 1))
	if len(f.log) != 1 || !strings.Contains(f.log[0], `"roleName":"Renamed"`) || !strings.Contains(f.log[0], `"*/read"`) {
		t.Errorf("sent %q", f.log)
	}
	f.log = nil
	p.must("role", "definition", "delete", "--name", "vm operator", "-g", "RG")
	if len(f.log) != 2 || !strings.HasPrefix(f.log[1], "DELETE "+rg+definitionsURL+"/"+appID) {
		t.Errorf("sent %q", f.log)
	}
	if r := p.run("role", "definition", "delete", "--name", "other", "-g", "RG"); r.code != 0 || !strings.Contains(r.err, "doesn't exist at") {
		t.Errorf("%v", r)
	}
	for _, bad := range []string{`{}`, `{"Name":"x"}`, `{"Name":"x","AssignableScopes":["/subscriptions/x"],"Deny":1}`, `nofile`, strings.Replace(azRole, "true", "false", 1),
		strings.Replace(azRole, `"Actions"`, `"Permissions":[],"Actions"`, 1)} {
		p.fails(1, []string{"--role-definition"}, "role", "definition", "create", "--role-definition", bad)
	}
}

// The assignment of a deleted principal is listed with an empty name, as az does.
func TestAssignmentList_Orphan(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET "+rg+definitionsURL] = `{"value":[]}`
	f.routes["GET "+rg+assignmentsURL] = `{"value":[{"id":"a","name":"a","properties":{"principalId":"` + machineID + `","principalType":"User","scope":"` + rg + `","roleDefinitionId":"x/y"}}]}`
	f.routes["POST /v1.0/directoryObjects/getByIds"] = `{"value":[]}`
	if out := p.must("role", "assignment", "list", "-g", "RG", "--query", "[0].[principalName, principalId, principalType]", "-o", "json"); strings.Join(strings.Fields(out), "") != `["","`+machineID+`","User"]` {
		t.Errorf("listed: %s", out)
	}
}
