package graph_test

import (
	"strings"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/route"
)

// principal registers an application with a service principal and returns the
// ids of both and the client id.
func (w *world) principal(name string) (app, sp, appID string) {
	w.t.Helper()
	a := w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"`+name+`"}`, 201)
	p := w.do(w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+str(a, "appId")+`"}`, 201)
	return str(a, "id"), str(p, "id"), str(a, "appId")
}

func (w *world) graphPrincipal() string {
	p, _ := w.dir.ServicePrincipalByAppID(directory.GraphAppID)
	return p.ID
}

// give gives an application permission as the administrator does.
func (w *world) give(sp, permission string) string {
	w.t.Helper()
	p, ok := directory.PermissionOf(directory.GraphAppID, permission)
	if !ok {
		w.t.Fatal(permission)
	}
	return str(w.do(w.admin, "POST", "/v1.0/servicePrincipals/"+sp+"/appRoleAssignments", w.appRole(sp, p.ApplicationID), 201), "id")
}

func (w *world) appRole(sp, role string) string {
	return `{"principalId":"` + sp + `","resourceId":"` + w.graphPrincipal() + `","appRoleId":"` + role + `"}`
}

// Every row of Graph names the action that a client's permission must cover, some
// permission covers it, and a client that was given nothing gets nowhere, whoever
// the person behind it is.
func TestGraph_ClientWithoutPermissionGetsNothing(t *testing.T) {
	w := newWorld(t)
	g := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"g","mailEnabled":false,"mailNickname":"g","securityEnabled":true}`, 201), "id")
	rows := 0
	for _, row := range route.All() {
		if row.Surface != route.Graph {
			continue
		}
		rows++
		if !strings.HasPrefix(row.Scope, "microsoft.directory/") || row.Action != "" && row.Action != row.Scope && row.ID != "graph.users.update" {
			t.Errorf("%s: scope %q, action %q", row.ID, row.Scope, row.Action)
		}
		path := strings.NewReplacer("{id}", g, "{member}", g, "{owner}", g, "{assignment}", g).Replace(row.Pattern)
		if o := w.do(w.admin+"|openid", row.Method, path, `{}`, 403); code(o) != "Authorization_RequestDenied" {
			t.Errorf("%s: %v", row.ID, o)
		}
	}
	if rows < 70 {
		t.Errorf("%d rows", rows)
	}
	if _, ok := w.dir.Group(g); !ok {
		t.Error("something was deleted")
	}
}

// What a person may do through a client is what both may: the permission never
// lifts the person, and the role never lifts the client.
func TestGraph_DelegatedIsPersonAndClient(t *testing.T) {
	w := newWorld(t)
	alice, helpdesk := w.user("alice"), w.user("helpdesk")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.UserAdministrator, helpdesk)
	group := `{"displayName":"g","mailEnabled":false,"mailNickname":"g","securityEnabled":true}`
	for _, c := range []struct {
		who, permissions, method, path, body string
		want                                 int
	}{
		{alice, "User.Read", "GET", "/v1.0/me", "", 200},
		{alice, "User.Read", "GET", "/v1.0/users", "", 403},
		{alice, "User.Read", "GET", "/v1.0/users/" + alice, "", 200}, // herself, as in Graph
		{alice, "User.Read", "GET", "/v1.0/users/" + strings.ToUpper(alice), "", 200},
		{alice, "User.Read", "GET", "/v1.0/users/" + helpdesk, "", 403},
		{alice, "User.Read", "GET", "/v1.0/users/" + alice + "/memberOf", "", 403},
		{alice, "User.Read", "PATCH", "/v1.0/users/" + alice, `{"mobilePhone":"1"}`, 403},
		{alice, "openid", "GET", "/v1.0/users/" + alice, "", 403},
		{alice, "User.Read", "PATCH", "/v1.0/me", `{"mobilePhone":"1"}`, 403},
		{alice, "User.ReadWrite", "PATCH", "/v1.0/me", `{"mobilePhone":"1"}`, 204},
		{alice, "User.ReadWrite.All", "PATCH", "/v1.0/users/" + helpdesk, `{"displayName":"x"}`, 403}, // her client may, she may not
		{alice, "Group.ReadWrite.All", "POST", "/v1.0/groups", group, 403},
		{helpdesk, "Group.Read.All", "POST", "/v1.0/groups", group, 403}, // he may, his client may not
		{helpdesk, "Group.ReadWrite.All", "POST", "/v1.0/groups", group, 201},
		{helpdesk, "User.ReadWrite.All", "PATCH", "/v1.0/users/" + alice, `{"displayName":"x"}`, 204},
		{helpdesk, "User.ReadWrite.All", "PATCH", "/v1.0/users/" + alice, `{"passwordProfile":{"password":"four unrelated words here"}}`, 403},
		{helpdesk, "User-PasswordProfile.ReadWrite.All", "PATCH", "/v1.0/users/" + alice, `{"passwordProfile":{"password":"four unrelated words here"}}`, 204},
		{helpdesk, "User-PasswordProfile.ReadWrite.All", "PATCH", "/v1.0/users/" + alice, `{"displayName":"y"}`, 403},
		{helpdesk, "User-PasswordProfile.ReadWrite.All", "PATCH", "/v1.0/users/" + helpdesk, `{"mobilePhone":"1"}`, 403},
		{helpdesk, "Directory.ReadWrite.All", "PATCH", "/v1.0/users/" + alice, `{"accountEnabled":false}`, 403},
		{w.admin, "Directory.ReadWrite.All", "DELETE", "/v1.0/users/" + alice, "", 403},
		{w.admin, "Application.ReadWrite.All", "POST", "/v1.0/servicePrincipals", `{"appId":"` + directory.LinuxSignIn + `"}`, 409},
		{w.admin, "Application.Read.All", "POST", "/v1.0/servicePrincipals", `{"appId":"` + directory.LinuxSignIn + `"}`, 403},
		{w.admin, "Application.ReadWrite.All Directory.ReadWrite.All", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"` + rbac.GlobalReader + `","principalId":"` + alice + `","directoryScopeId":"/"}`, 403},
		{w.admin, "RoleManagement.ReadWrite.Directory", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"` + rbac.GlobalReader + `","principalId":"` + alice + `","directoryScopeId":"/"}`, 201},
		{w.admin, "Application.ReadWrite.All", "PATCH", "/v1.0/policies/authorizationPolicy", `{"defaultUserRolePermissions":{"permissionGrantPoliciesAssigned":[]}}`, 403},
	} {
		w.do(c.who+"|"+c.permissions, c.method, c.path, c.body, c.want)
	}
}

// An application does what it was given, and a right that it holds by no role
// ends with the permission.
func TestGraph_ApplicationPermissions(t *testing.T) {
	w := newWorld(t)
	_, sp, _ := w.principal("robot")
	alice := w.user("alice")
	w.do(sp, "GET", "/v1.0/servicePrincipals/"+sp, "", 200) // itself
	w.do(sp, "GET", "/v1.0/users", "", 403)
	id := w.give(sp, "User.Read.All")
	w.do(sp, "GET", "/v1.0/users", "", 200)
	w.do(sp, "GET", "/v1.0/groups", "", 403)
	w.do(sp, "PATCH", "/v1.0/users/"+alice, `{"displayName":"x"}`, 403)
	if got := values(w.do(w.admin, "GET", "/v1.0/servicePrincipals/"+sp+"/appRoleAssignments", "", 200)); len(got) != 1 || str(got[0], "resourceDisplayName") != "Microsoft Graph" {
		t.Errorf("%v", got)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/servicePrincipals/"+w.graphPrincipal()+"/appRoleAssignedTo", "", 200)); len(got) != 1 || str(got[0], "principalId") != sp {
		t.Errorf("%v", got)
	}
	w.do(w.admin, "DELETE", "/v1.0/servicePrincipals/"+sp+"/appRoleAssignments/"+id, "", 204)
	w.do(sp, "GET", "/v1.0/users", "", 403)
	w.give(sp, "RoleManagement.ReadWrite.Directory")
	w.do(sp, "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"`+rbac.GlobalReader+`","principalId":"`+alice+`","directoryScopeId":"/"}`, 201)
	// What it was given goes with it.
	w.do(w.admin, "DELETE", "/v1.0/servicePrincipals/"+sp, "", 204)
	if got := w.dir.ApplicationPermissions(sp); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Nobody makes himself stronger by giving permissions to applications.
func TestEscalation_ThroughApplicationPermissions(t *testing.T) {
	w := newWorld(t)
	appadmin := w.user("appadmin")
	w.role("00000000-0000-4000-8000-0000000000a2", rbac.ApplicationAdministrator, appadmin)
	strongApp, strong, _ := w.principal("strong")
	_, giver, _ := w.principal("giver")
	_, mine, _ := w.principal("mine")
	w.give(strong, "RoleManagement.ReadWrite.Directory")
	w.give(giver, "AppRoleAssignment.ReadWrite.All")
	owner := w.user("owner")
	const roles, ref = "/v1.0/roleManagement/directory/roleAssignments", `{"@odata.id":"` + base + `/v1.0/directoryObjects/`
	sovereign, _ := directory.PermissionOf(directory.GraphAppID, "RoleManagement.ReadWrite.Directory")
	reading, _ := directory.PermissionOf(directory.GraphAppID, "User.Read.All")
	for _, c := range []struct{ what, who, method, path, body string }{
		{"an Application Administrator gives Graph's permissions", appadmin, "POST", "/v1.0/servicePrincipals/" + mine + "/appRoleAssignments", w.appRole(mine, reading.ApplicationID)},
		{"through the resource's address", appadmin, "POST", "/v1.0/servicePrincipals/" + w.graphPrincipal() + "/appRoleAssignedTo", w.appRole(mine, sovereign.ApplicationID)},
		{"who may give permissions gives itself a stronger one", giver, "POST", "/v1.0/servicePrincipals/" + giver + "/appRoleAssignments", w.appRole(giver, sovereign.ApplicationID)},
		{"or one that it does not hold", giver, "POST", "/v1.0/servicePrincipals/" + mine + "/appRoleAssignments", w.appRole(mine, reading.ApplicationID)},
		{"secret on an application that holds a stronger permission", appadmin, "POST", "/v1.0/applications/" + strongApp + "/addPassword", `{"passwordCredential":{"displayName":"x"}}`},
		{"and on its service principal", appadmin, "POST", "/v1.0/servicePrincipals/" + strong + "/addPassword", `{"passwordCredential":{"displayName":"x"}}`},
		{"certificate", appadmin, "PATCH", "/v1.0/applications/" + strongApp, `{"keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"` + w.certificates()(1) + `"}]}`},
		{"and of its service principal", appadmin, "PATCH", "/v1.0/servicePrincipals/" + strong, `{"keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"` + w.certificates()(1) + `"}]}`},
		{"redirect", appadmin, "PATCH", "/v1.0/applications/" + strongApp, `{"web":{"redirectUris":["https://evil.example/"]}}`},
		{"owner", appadmin, "POST", "/v1.0/applications/" + strongApp + "/owners/$ref", ref + appadmin + `"}`},
		{"owner of the service principal", appadmin, "POST", "/v1.0/servicePrincipals/" + strong + "/owners/$ref", ref + appadmin + `"}`},
		{"permission to act for everybody, by a member", owner, "POST", "/v1.0/oauth2PermissionGrants", `{"clientId":"` + mine + `","consentType":"AllPrincipals","resourceId":"` + w.graphPrincipal() + `","scope":"Directory.AccessAsUser.All"}`},
		{"for somebody else", owner, "POST", "/v1.0/oauth2PermissionGrants", `{"clientId":"` + mine + `","consentType":"Principal","principalId":"` + w.admin + `","resourceId":"` + w.graphPrincipal() + `","scope":"User.Read"}`},
		{"the consent policy", appadmin, "PATCH", "/v1.0/policies/authorizationPolicy", `{"defaultUserRolePermissions":{"permissionGrantPoliciesAssigned":["ManagePermissionGrantsForSelf.microsoft-user-default-legacy"]}}`},
		{"a directory role by an application that may give permissions", giver, "POST", roles, `{"roleDefinitionId":"` + rbac.GlobalAdministrator + `","principalId":"` + giver + `","directoryScopeId":"/"}`},
	} {
		before := len(w.dir.ApplicationPermissions(mine)) + len(w.dir.ApplicationPermissions(giver))
		r := w.do(c.who, c.method, c.path, c.body, 403)
		if code(r) != "Authorization_RequestDenied" || before != len(w.dir.ApplicationPermissions(mine))+len(w.dir.ApplicationPermissions(giver)) {
			t.Errorf("%s: %v", c.what, r)
		}
	}
	// An owner adds credentials, until the application is stronger than he.
	mineApp := str(values(w.do(w.admin, "GET", "/v1.0/applications?$filter=displayName eq 'mine'", "", 200))[0], "id")
	w.do(w.admin, "POST", "/v1.0/applications/"+mineApp+"/owners/$ref", ref+owner+`"}`, 204)
	w.do(owner, "POST", "/v1.0/applications/"+mineApp+"/addPassword", `{"passwordCredential":{"displayName":"x"}}`, 200)
	w.give(mine, "Application.ReadWrite.All")
	w.do(owner, "POST", "/v1.0/applications/"+mineApp+"/addPassword", `{"passwordCredential":{"displayName":"x"}}`, 403)
	w.do(appadmin, "POST", "/v1.0/applications/"+mineApp+"/addPassword", `{"passwordCredential":{"displayName":"x"}}`, 200)
	w.do(w.admin, "DELETE", "/v1.0/applications/"+mineApp+"/owners/"+owner+"/$ref", "", 204)
}

func TestGraph_PermissionGrants(t *testing.T) {
	w := newWorld(t)
	_, sp, appID := w.principal("reports")
	alice := w.user("alice")
	appadmin := w.user("appadmin")
	w.role("00000000-0000-4000-8000-0000000000a2", rbac.ApplicationAdministrator, appadmin)
	body := func(kind, principal, scope string) string {
		return `{"clientId":"` + sp + `","consentType":"` + kind + `","principalId":` + principal + `,"resourceId":"` + w.graphPrincipal() + `","scope":"` + scope + `"}`
	}
	const grants = "/v1.0/oauth2PermissionGrants"
	all := w.do(appadmin, "POST", grants, body("AllPrincipals", "null", "User.Read openid"), 201)
	w.do(appadmin, "POST", grants, body("AllPrincipals", "null", "User.Read"), 409)
	own := w.do(appadmin, "POST", grants, body("Principal", `"`+alice+`"`, "User.Read.All"), 201)
	for _, bad := range []string{body("AllPrincipals", `"`+alice+`"`, "User.Read"), body("Principal", "null", "User.Read"), body("Principal", `"`+w.admin+`"`, "No.Such"), body("Everybody", "null", "User.Read")} {
		w.do(appadmin, "POST", grants, bad, 400)
	}
	if got := strings.Join(w.dir.Consented(appID, alice, directory.GraphAppID), " "); got != "User.Read User.Read.All" {
		t.Errorf("%s", got)
	}
	if got := strings.Join(w.dir.Consented(appID, w.admin, directory.GraphAppID), " "); got != "User.Read" {
		t.Errorf("%s", got)
	}
	w.do(appadmin, "PATCH", grants+"/"+str(all, "id"), `{"scope":"Group.Read.All"}`, 204)
	if got := values(w.do(alice, "GET", grants+"?$filter=clientId eq '"+sp+"'", "", 200)); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if got := values(w.do(alice, "GET", "/v1.0/servicePrincipals/"+sp+"/oauth2PermissionGrants", "", 200)); len(got) != 2 {
		t.Errorf("%v", got)
	}
	w.do(alice, "DELETE", grants+"/"+str(all, "id"), "", 403)
	w.do(alice, "DELETE", grants+"/"+str(own, "id"), "", 204) // her own
	w.do(appadmin, "DELETE", grants+"/"+str(all, "id"), "", 204)
	w.do(appadmin, "DELETE", grants+"/"+str(all, "id"), "", 404)
	// The resource says what it offers, with Microsoft's ids.
	o := w.do(alice, "GET", "/v1.0/servicePrincipals/"+w.graphPrincipal(), "", 200)
	if scopes, _ := o["oauth2PermissionScopes"].([]any); len(scopes) < 20 {
		t.Errorf("%d scopes", len(scopes))
	}
	if roles, _ := o["appRoles"].([]any); len(roles) < 15 {
		t.Errorf("%d roles", len(roles))
	}
	w.do(w.admin, "DELETE", "/v1.0/servicePrincipals/"+w.graphPrincipal(), "", 403)
	policy := `{"defaultUserRolePermissions":{"permissionGrantPoliciesAssigned":["ManagePermissionGrantsForSelf.microsoft-user-default-legacy"]}}`
	w.do(w.admin, "PATCH", "/v1.0/policies/authorizationPolicy", policy, 204)
	if !w.dir.ConsentPolicy().Users {
		t.Error("the policy did not change")
	}
	w.do(w.admin, "PATCH", "/v1.0/policies/authorizationPolicy", `{"defaultUserRolePermissions":{"permissionGrantPoliciesAssigned":["other"]}}`, 400)
	w.do(w.admin, "PATCH", "/v1.0/policies/authorizationPolicy", `{"defaultUserRolePermissions":{"allowedToCreateApps":true,"permissionGrantPoliciesAssigned":[]}}`, 400)
}

// A client that may give permissions gives no more than it has, whoever is behind
// it: not to itself, and not to an accomplice.
func TestEscalation_ClientGivesWhatItDoesNotHave(t *testing.T) {
	w := newWorld(t)
	_, sp, appID := w.principal("giver")
	const grants = "/v1.0/oauth2PermissionGrants"
	body := func(resource, scope string) string {
		return `{"clientId":"` + sp + `","consentType":"AllPrincipals","principalId":null,"resourceId":"` + resource + `","scope":"` + scope + `"}`
	}
	arm, _ := w.dir.ServicePrincipalByAppID(directory.ARMAppID)
	const gives = "DelegatedPermissionGrant.ReadWrite.All AppRoleAssignment.ReadWrite.All User.Read.All"
	weak := w.admin + "|" + gives
	for _, scope := range []string{"Directory.AccessAsUser.All", "RoleManagement.ReadWrite.Directory", "User.ReadWrite.All", "User.Read.All Directory.Read.All"} {
		if o := w.do(weak, "POST", grants, body(w.graphPrincipal(), scope), 403); code(o) != "Authorization_RequestDenied" {
			t.Errorf("%s: %v", scope, o)
		}
	}
	w.do(weak, "POST", grants, body(arm.ID, "user_impersonation"), 403)
	given := str(w.do(weak, "POST", grants, body(w.graphPrincipal(), "User.Read.All"), 201), "id")
	w.do(weak, "PATCH", grants+"/"+given, `{"scope":"User.Read.All Directory.AccessAsUser.All"}`, 403)
	w.do(weak, "PATCH", grants+"/"+given, `{"scope":"User.Read.All User.Read"}`, 204)
	role, _ := directory.PermissionOf(directory.GraphAppID, "RoleManagement.ReadWrite.Directory")
	w.do(weak, "POST", "/v1.0/servicePrincipals/"+sp+"/appRoleAssignments", w.appRole(sp, role.ApplicationID), 403)
	if got := strings.Join(w.dir.Consented(appID, w.admin, directory.GraphAppID), " "); got != "User.Read User.Read.All" || len(w.dir.ApplicationPermissions(sp)) != 0 {
		t.Errorf("%s, %v", got, w.dir.ApplicationPermissions(sp))
	}
	// What others gave stays when something is taken away.
	w.do(w.admin, "PATCH", grants+"/"+given, `{"scope":"User.Read.All Group.Read.All"}`, 204)
	w.do(weak, "PATCH", grants+"/"+given, `{"scope":"Group.Read.All"}`, 204)
}
