package cli

import (
	"strings"
	"testing"
)

// A grant that exists is widened, so that granting one permission takes no other
// away; without one it is made.
func TestPermissionGrant(t *testing.T) {
	const client, resource = "11111111-2222-4333-8444-555555555551", "11111111-2222-4333-8444-555555555552"
	const clientApp, api = "11111111-2222-4333-8444-555555555553", "00000003-0000-0000-c000-000000000000"
	f, p := signedIn(t)
	grants := "GET /v1.0/servicePrincipals/" + client + "/oauth2PermissionGrants"
	f.routes["GET /v1.0/servicePrincipals"] = `{"value":[]}`
	f.routes["GET /v1.0/servicePrincipals/"+clientApp] = `{"id":"` + client + `"}`
	f.routes["GET /v1.0/servicePrincipals/"+api] = `{"id":"` + resource + `"}`
	f.routes[grants] = `{"value":[]}`
	f.routes["POST /v1.0/oauth2PermissionGrants"] = `201 {"id":"g"}`
	args := []string{"ad", "app", "permission", "grant", "--id", clientApp, "--api", api, "--scope", "User.Read Group.Read.All"}
	p.must(args...)
	want := `POST /v1.0/oauth2PermissionGrants {"clientId":"` + client + `","consentType":"AllPrincipals","principalId":null,"resourceId":"` + resource + `","scope":"User.Read Group.Read.All"}`
	if last := f.log[len(f.log)-1]; strings.TrimSpace(last) != want {
		t.Errorf("made: %s", last)
	}
	f.routes[grants] = `{"value":[{"id":"other","clientId":"` + client + `","resourceId":"x","consentType":"AllPrincipals","scope":"a"},{"id":"g","resourceId":"` + resource + `","consentType":"AllPrincipals","principalId":null,"scope":"User.Read Directory.Read.All"}]}`
	f.routes["PATCH /v1.0/oauth2PermissionGrants/g"] = "204 "
	p.must(args...)
	if last := f.log[len(f.log)-1]; strings.TrimSpace(last) != `PATCH /v1.0/oauth2PermissionGrants/g {"scope":"Directory.Read.All Group.Read.All User.Read"}` {
		t.Errorf("widened: %s", last)
	}
	p.must("ad", "app", "permission", "list-grants", "--id", clientApp)
}
