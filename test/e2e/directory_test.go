//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestDirectory_MissingApplication is the article's troubleshooting entry with
// the real command line: without the service principal nobody gets a
// certificate, and reads how to mend it.
func TestDirectory_MissingApplication(t *testing.T) {
	const app = "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0"
	a := admin(t)
	cert := func() result { return a.run("ssh", "cert", "--file", filepath.Join(t.TempDir(), "id-cert.pub")) }
	if r := cert(); r.code != 0 {
		t.Fatalf("before: %s", r)
	}
	a.must(t, "ad", "sp", "delete", "--id", app)
	t.Cleanup(func() { a.run("ad", "sp", "create", "--id", app) })
	if r := cert(); r.code == 0 || !strings.Contains(r.err, "AADSTS500011") || !strings.Contains(r.err, "sally ad sp create --id "+app) {
		t.Errorf("without it: %s", r)
	}
	a.must(t, "ad", "sp", "create", "--id", app)
	if r := cert(); r.code != 0 {
		t.Errorf("made anew: %s", r)
	}
}

// TestDirectory_ApplicationPermissions: an application reads the directory when
// it was given the permission, and not before.
func TestDirectory_ApplicationPermissions(t *testing.T) {
	const graph, userReadAll = "00000003-0000-0000-c000-000000000000", "df021288-bdef-4463-88db-98f22de89214"
	a := admin(t)
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(a.must(t, "ad", "sp", "create-for-rbac", "--name", "reader")), &sp); err != nil {
		t.Fatal(err)
	}
	q := theWorld.person(sp.AppID, sp.Password)
	login := func() {
		q.must(t, "login", "--server", theWorld.address, "--service-principal", "-u", sp.AppID, "-p", sp.Password, "--tenant", sp.Tenant, "--allow-no-subscriptions")
	}
	login()
	if r := q.run("ad", "user", "list"); r.code == 0 || !strings.Contains(r.err, "insufficient privileges") {
		t.Errorf("before: %s", r)
	}
	id := a.must(t, "ad", "sp", "show", "--id", sp.AppID, "--query", "id", "-o", "tsv")
	resource := a.must(t, "ad", "sp", "show", "--id", graph, "--query", "id", "-o", "tsv")
	body := `{"principalId":"` + id + `","resourceId":"` + resource + `","appRoleId":"` + userReadAll + `"}`
	given := a.must(t, "rest", "-m", "post", "-u", "/v1.0/servicePrincipals/"+id+"/appRoleAssignments", "--body", body, "--query", "id", "-o", "tsv")
	login()
	q.must(t, "ad", "user", "list")
	if r := q.run("ad", "group", "list"); r.code == 0 {
		t.Errorf("more than it was given: %s", r)
	}
	a.must(t, "rest", "-m", "delete", "-u", "/v1.0/servicePrincipals/"+id+"/appRoleAssignments/"+given)
	if r := q.run("ad", "user", "list"); r.code == 0 {
		t.Errorf("afterwards, with the token that it has: %s", r)
	}
	a.must(t, "ad", "app", "permission", "grant", "--id", sp.AppID, "--api", graph, "--scope", "User.Read")
	a.must(t, "ad", "app", "permission", "grant", "--id", sp.AppID, "--api", graph, "--scope", "Group.Read.All")
	if got := a.must(t, "ad", "app", "permission", "list-grants", "--id", sp.AppID, "--query", "[0].scope", "-o", "tsv"); got != "Group.Read.All User.Read" {
		t.Errorf("granted: %q", got)
	}
}
