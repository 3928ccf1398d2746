package graph_test

import (
	"strings"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const (
	vmIdentity      = "99999999-0000-4000-8000-000000000001"
	vmIdentityAppID = "99999999-0000-4000-8000-000000000002"
)

func (w *world) role(id, role, principal string) {
	w.t.Helper()
	w.must(w.store.Write(w.t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: id, Scope: scope.Directory(), RoleID: role, PrincipalID: principal})
	}))
}

// Every way to become somebody with more rights, as requests: each is refused,
// and afterwards nothing has changed.
func TestGraph_TakeOverIsRefused(t *testing.T) {
	w := newWorld(t)
	helpdesk, appadmin, member, victim := w.user("helpdesk"), w.user("appadmin"), w.user("member"), w.user("victim")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.UserAdministrator, helpdesk)
	w.role("00000000-0000-4000-8000-0000000000a2", rbac.ApplicationAdministrator, appadmin)
	crew := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"crew","mailEnabled":false,"mailNickname":"crew","securityEnabled":true}`, 201), "id")
	inner := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"inner","mailEnabled":false,"mailNickname":"inner","securityEnabled":true}`, 201), "id")
	ref := func(id string) string { return `{"@odata.id":"` + base + `/v1.0/directoryObjects/` + id + `"}` }
	w.do(w.admin, "POST", "/v1.0/groups/"+crew+"/members/$ref", ref(inner), 204)
	w.role("00000000-0000-4000-8000-0000000000a3", rbac.GlobalAdministrator, crew)
	app := w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"strong"}`, 201)
	sp := w.do(w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+str(app, "appId")+`"}`, 201)
	w.role("00000000-0000-4000-8000-0000000000a4", rbac.GlobalAdministrator, str(sp, "id"))
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		uid, err := tx.NextPOSIXID()
		if err != nil {
			return err
		}
		return tx.PutServicePrincipal(directory.ServicePrincipal{ID: vmIdentity, AppID: vmIdentityAppID, DisplayName: "vm", Type: directory.TypeManagedIdentity, UID: uid, Enabled: true})
	}))
	password := `{"passwordProfile":{"password":"a password of the thief","forceChangePasswordNextSignIn":false}}`
	before := w.picture()
	for _, c := range []struct{ who, method, path, body string }{
		{helpdesk, "PATCH", "/v1.0/users/" + w.admin, password},
		{helpdesk, "PATCH", "/v1.0/users/ROOT@corp.example", password}, // by name, in capitals
		{helpdesk, "PATCH", "/v1.0/users/" + w.admin, `{"userPrincipalName":"gone@corp.example"}`},
		{helpdesk, "PATCH", "/v1.0/users/" + w.admin, `{"accountEnabled":false}`},
		{helpdesk, "DELETE", "/v1.0/users/" + w.admin, ""},
		{helpdesk, "POST", "/v1.0/users/" + w.admin + "/revokeSignInSessions", ""},
		{helpdesk, "POST", "/v1.0/users/" + w.admin + "/invalidateAllRefreshTokens", ""},
		{helpdesk, "POST", "/v1.0/groups/" + crew + "/members/$ref", ref(helpdesk)},
		{helpdesk, "POST", "/v1.0/groups/" + inner + "/members/$ref", ref(helpdesk)},
		{helpdesk, "POST", "/v1.0/groups/" + strings.ToUpper(inner) + "/members/$ref", ref(helpdesk)},
		{helpdesk, "DELETE", "/v1.0/groups/" + crew + "/members/" + inner + "/$ref", ""},
		{helpdesk, "DELETE", "/v1.0/groups/" + crew, ""},
		{helpdesk, "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"` + rbac.GlobalAdministrator + `","principalId":"` + helpdesk + `","directoryScopeId":"/"}`},
		{helpdesk, "DELETE", "/v1.0/roleManagement/directory/roleAssignments/00000000-0000-4000-8000-0000000000a3", ""},
		{appadmin, "POST", "/v1.0/applications/" + str(app, "id") + "/addPassword", `{"passwordCredential":{"displayName":"x"}}`},
		{appadmin, "POST", "/v1.0/servicePrincipals/" + str(sp, "id") + "/addPassword", `{"passwordCredential":{"displayName":"x"}}`},
		{appadmin, "PATCH", "/v1.0/applications/" + str(app, "id"), `{"publicClient":{"redirectUris":["https://evil.example/"]}}`},
		{appadmin, "DELETE", "/v1.0/applications/" + str(app, "id"), ""},
		{appadmin, "PATCH", "/v1.0/users/" + victim, password},
		{member, "PATCH", "/v1.0/users/" + victim, password},
		{member, "PATCH", "/v1.0/me", `{"userPrincipalName":"root2@corp.example"}`},
		{member, "POST", "/v1.0/applications", `{"displayName":"x","publicClient":{"redirectUris":["https://evil.example/"]}}`},
		{member, "POST", "/v1.0/groups/" + inner + "/members/$ref", ref(member)},
		// A machine's identity is changed by nobody but its resource.
		{w.admin, "DELETE", "/v1.0/servicePrincipals/" + vmIdentity, ""},
		{w.admin, "PATCH", "/v1.0/servicePrincipals/" + vmIdentity, `{"accountEnabled":false}`},
		{w.admin, "POST", "/v1.0/servicePrincipals/" + vmIdentity + "/addPassword", `{"passwordCredential":{"displayName":"x"}}`},
		{appadmin, "PATCH", "/v1.0/servicePrincipals/" + strings.ToUpper(vmIdentity), `{"accountEnabled":false}`},
	} {
		if o := w.do(c.who, c.method, c.path, c.body, 403); code(o) != "Authorization_RequestDenied" {
			t.Errorf("%s %s: %v", c.method, c.path, o)
		}
	}
	// No application stands behind a machine's identity, so none can be made of it.
	w.do(w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+vmIdentityAppID+`"}`, 400)
	if after := w.picture(); after != before {
		t.Errorf("a refused request changed something:\n%s\n%s", before, after)
	}
}

// picture is what the take-overs would have changed.
func (w *world) picture() string {
	w.t.Helper()
	var b strings.Builder
	for _, path := range []string{"/v1.0/users?$select=id,userPrincipalName,accountEnabled,signInSessionsValidFromDateTime", "/v1.0/groups", "/v1.0/applications", "/v1.0/servicePrincipals", "/v1.0/roleManagement/directory/roleAssignments"} {
		for _, o := range values(w.do(w.admin, "GET", path, "", 200)) {
			b.WriteString(str(o, "id") + str(o, "userPrincipalName") + str(o, "signInSessionsValidFromDateTime") + str(o, "appId") + str(o, "principalId"))
			if on, _ := o["accountEnabled"].(bool); on {
				b.WriteString(" on")
			}
			if list, _ := o["passwordCredentials"].([]any); len(list) > 0 {
				b.WriteString(" secret")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
