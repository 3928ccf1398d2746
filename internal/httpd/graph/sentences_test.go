package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
)

// Refusals that no other test of this package asks for, in the words of
// docs/troubleshooting.md.
func TestGraph_Sentences(t *testing.T) {
	w := newWorld(t)
	alice, helpdesk := w.user("alice"), w.user("helpdesk")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.UserAdministrator, helpdesk)
	app, sp, appID := w.principal("deploy")
	group := func(name, more string) string {
		return str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"`+name+`","mailEnabled":false,"mailNickname":"`+name+`","securityEnabled":true`+more+`}`, 201), "id")
	}
	plain, strong := group("plain", ""), group("strong", `,"isAssignableToRole":true`)
	ref := func(id string) string { return `{"@odata.id":"` + base + `/v1.0/directoryObjects/` + id + `"}` }
	role := func(id, who string) string {
		return `{"roleDefinitionId":"` + id + `","principalId":"` + who + `","directoryScopeId":"/"}`
	}
	user := func(upn string) string {
		return `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"` + upn + `","passwordProfile":{"password":"four unrelated words here"}}`
	}
	password := func(name, more string) string {
		return `{"passwordCredential":{"displayName":"` + name + `"` + more + `}}`
	}
	const roles = "/v1.0/roleManagement/directory/roleAssignments"
	at := "/v1.0/applications/" + app
	w.do(w.admin, "POST", "/v1.0/groups/"+strong+"/members/$ref", ref(alice), 204)
	w.do(w.admin, "POST", at+"/owners/$ref", ref(alice), 204)
	w.do(w.admin, "POST", "/v1.0/groups/"+plain+"/owners/$ref", ref(alice), 204)
	w.do(w.admin, "POST", roles, role(rbac.GlobalReader, alice), 201)
	reading, _ := directory.PermissionOf(directory.GraphAppID, "User.Read.All")
	w.give(sp, "User.Read.All")
	cert := w.certificates()
	key := `{"keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"` + cert(1) + `"}]}`
	w.do(w.admin, "POST", "/v1.0/applications/"+app+"/addPassword", password("first", ""), 200)
	for _, c := range []struct {
		id, who, method, path, body string
		want                        int
	}{
		{"graph.Credential.end", w.admin, "POST", at + "/addPassword", password("x", `,"endDateTime":"2020-01-01T00:00:00Z"`), 400},
		{"graph.Denied.assignable", helpdesk, "PATCH", "/v1.0/users/" + alice, `{"passwordProfile":{"password":"four unrelated words here"}}`, 403},
		{"graph.Denied.assignable-group", helpdesk, "POST", "/v1.0/groups/" + strong + "/members/$ref", ref(helpdesk), 403},
		{"graph.Domain", w.admin, "POST", "/v1.0/users", user("x@elsewhere.example"), 400},
		{"graph.NameTaken", w.admin, "POST", "/v1.0/users", user("Alice@corp.example"), 400},
		{"graph.Me", sp, "GET", "/v1.0/me", "", 400},
		{"graph.Member.group", w.admin, "POST", "/v1.0/groups/" + strong + "/members/$ref", ref(plain), 400},
		{"graph.Member.itself", w.admin, "POST", "/v1.0/groups/" + plain + "/members/$ref", ref(plain), 400},
		{"graph.OwnAccount.delete", w.admin, "DELETE", "/v1.0/users/" + w.admin, "", 403},
		{"graph.OwnAccount.disable", w.admin, "PATCH", "/v1.0/users/" + w.admin, `{"accountEnabled":false}`, 403},
		{"graph.Owner.exists", w.admin, "POST", at + "/owners/$ref", ref(alice), 400},
		{"graph.Owner.group", w.admin, "POST", at + "/owners/$ref", ref(plain), 400},
		{"graph.Owner.last", w.admin, "DELETE", "/v1.0/groups/" + plain + "/owners/" + alice + "/$ref", "", 400},
		{"graph.Permission.exists", w.admin, "POST", "/v1.0/servicePrincipals/" + sp + "/appRoleAssignments", w.appRole(sp, reading.ApplicationID), 400},
		{"graph.Permission.role", w.admin, "POST", "/v1.0/servicePrincipals/" + sp + "/appRoleAssignments", w.appRole(sp, vmIdentity), 400},
		{"graph.Reference", w.admin, "POST", at + "/owners/$ref", `{"@odata.id":"alice"}`, 400},
		{"graph.RedirectURI.many", w.admin, "PATCH", at, `{"web":{"redirectUris":[` + strings.Repeat(`"https://a.example/",`, 256) + `"https://b.example/"]}}`, 400},
		{"graph.Role.exists", w.admin, "POST", roles, role(rbac.GlobalReader, alice), 400},
		{"graph.Role.unknown", w.admin, "POST", roles, role(rbac.Owner, alice), 400},
		{"graph.ServicePrincipal.exists", w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"` + appID + `"}`, 409},
	} {
		handbooktest.Said(t, message(w.do(c.who, c.method, c.path, c.body, c.want)), c.id)
	}
	w.do(w.admin, "PATCH", at, key, 204)
	handbooktest.Said(t, message(w.do(w.admin, "PATCH", at, strings.Replace(key, `}]`, `},{"type":"AsymmetricX509Cert","usage":"Verify","key":"`+cert(1)+`"}]`, 1), 400)), "graph.Credential.there")
	for i := range 200 {
		if o := w.call(w.admin, "POST", at+"/addPassword", password(fmt.Sprint(i), "")); code(o) != "" {
			handbooktest.Said(t, message(o), "graph.Credential.many")
			break
		}
	}
	for i := range 101 {
		if o := w.call(w.admin, "POST", at+"/owners/$ref", ref(w.user(fmt.Sprint("owner", i)))); code(o) != "" {
			handbooktest.Said(t, message(o), "graph.Owner.many")
			break
		}
	}
}
