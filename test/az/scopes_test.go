//go:build e2e

package az

import (
	"strings"
	"testing"
)

// TestScopes: roles at every kind of scope, by name and by object id. A resource
// group's are in TestArticle, "/" is nobody's here as in Azure.
func TestScopes(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own = "Scopes"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--query", "id", "-o", "tsv")
	at := a.must(t, "network", "public-ip", "create", "-g", own, "-n", "place", "--query", "publicIp.id", "-o", "tsv")
	a.must(t, "ad", "user", "create", "--display-name", "scoped", "--user-principal-name", "scoped@"+domain, "--password", userPass)
	crew := a.must(t, "ad", "group", "create", "--display-name", "scoped-crew", "--mail-nickname", "scoped-crew", "--query", "id", "-o", "tsv")
	subscription, _, _ := strings.Cut(rg, "/resourceGroups/")
	for _, scope := range []string{"/providers/Microsoft.Management/managementGroups/" + a.w.tenant, subscription, at} {
		given := a.answer(t, "role", "assignment", "create", "--role", "Virtual Machine User Login", "--assignee", "scoped@"+domain, "--scope", scope)
		if text(given, "scope") != scope || text(given, "principalType") != "User" {
			t.Errorf("--assignee at %s: %v", scope, given)
		}
		given = a.answer(t, "role", "assignment", "create", "--role", "Reader", "--assignee-object-id", crew, "--assignee-principal-type", "Group", "--scope", scope)
		if text(given, "scope") != scope || text(given, "principalType") != "Group" {
			t.Errorf("--assignee-object-id at %s: %v", scope, given)
		}
		a.must(t, "role", "assignment", "delete", "--assignee", "scoped@"+domain, "--role", "Virtual Machine User Login", "--scope", scope)
	}
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}

// TestRest: what az has no command for. The extension connectedmachine is in no
// registry, so its requests are typed; so are those behind the article's PowerShell
// for the missing application.
func TestRest(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own, version = "Rest", "?api-version=2024-07-10"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--query", "id", "-o", "tsv")
	machine := rg + "/providers/Microsoft.HybridCompute/machines/m1"
	rest := func(method, url string, more ...string) []string {
		return append([]string{"rest", "--method", method, "--url", url}, more...)
	}
	a.must(t, rest("put", machine+version, "--body", `{"location":"`+place+`","tags":{"a":"b"},"properties":{}}`)...)
	a.must(t, rest("put", machine+"/extensions/AADSSHLoginForLinux"+version, "--body", `{"location":"`+place+`","properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux"}}`)...)
	if got := a.must(t, rest("get", rg+"/providers/Microsoft.HybridCompute/machines"+version, "--query", "value[].[name, properties.status, tags.a]", "-o", "tsv")...); strings.Join(strings.Fields(got), " ") != "m1 Disconnected b" {
		t.Errorf("machines: %q", got)
	}
	a.fails(t, 1, []string{"InvalidRequestContent", "color"}, rest("patch", machine+version, "--body", `{"properties":{"color":"red"}}`)...)
	a.must(t, rest("delete", machine+version)...)

	// Get-MgServicePrincipal -ConsistencyLevel eventual -Search, New-MgServicePrincipal -AppId.
	const app = "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0"
	graph := func(method, path string, more ...string) []string {
		return append(rest(method, "https://"+host+"/v1.0/servicePrincipals"+path, more...), "--resource", "https://"+host+"/")
	}
	if got := a.must(t, graph("get", `?$search="displayName:Azure Linux VM Sign-In"`, "--headers", "ConsistencyLevel=eventual", "--query", "value[].appId", "-o", "tsv")...); got != app {
		t.Errorf("the application: %q", got)
	}
	a.fails(t, 1, []string{"already in use"}, graph("post", "", "--body", `{"appId":"`+app+`"}`)...)

	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}
