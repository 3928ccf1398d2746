package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// castle is a whole deployment, asked over HTTP with tokens that it issued.
type castle struct {
	t      *testing.T
	d      *deployment
	doors  http.Handler
	tokens map[string]string // by person and surface
	ids    map[string]string // object ids by name
	serial int
}

const castlePassword = "four unrelated words here"

func newCastle(t *testing.T) *castle {
	t.Helper()
	c := &castle{t: t, d: rig(t, time.Now), tokens: map[string]string{}, ids: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.d.follow.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	var err error
	c.doors, err = c.d.doors()
	c.must(err)
	admin, _ := c.d.directory.UserByUPN("admin@corp.example")
	c.ids["admin"] = admin.ID
	once, err := c.d.credentials.NewOneTime()
	c.must(err)
	by := audit.By{Type: audit.Task, At: time.Now()}
	c.must(c.d.follow.Write(ctx, func(tx *store.Tx) error { return c.d.credentials.GiveOneTime(tx, by, admin.ID, once) }))
	c.must(c.d.credentials.ChangePassword(ctx, by, admin.UPN, once.Text, castlePassword))
	return c
}

func (c *castle) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// token signs somebody in for Resource Manager or Microsoft Graph, as az does.
func (c *castle) token(who, surface string) string {
	c.t.Helper()
	key := who + " " + surface
	if c.tokens[key] != "" {
		return c.tokens[key]
	}
	form := url.Values{"client_id": {directory.AzureCLI}, "grant_type": {"password"}, "username": {who + "@corp.example"}, "password": {castlePassword}, "scope": {"https://login.corp.example" + surface + "/.default"}}
	r := httptest.NewRequest("POST", "/organizations/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	c.doors.ServeHTTP(w, r)
	var answer struct {
		Token string `json:"access_token"`
	}
	if w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		c.t.Fatalf("%s: %d %s", who, w.Code, w.Body)
	}
	c.tokens[key] = answer.Token
	return answer.Token
}

// call sends a request with somebody's token for the surface that the path is of.
func (c *castle) call(who, method, path, body string) (int, map[string]any) {
	c.t.Helper()
	surface := "/arm"
	if strings.HasPrefix(path, "/v1.0/") {
		surface = ""
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+c.token(who, surface))
	w := httptest.NewRecorder()
	c.doors.ServeHTTP(w, r)
	out := map[string]any{}
	if w.Body.Len() > 0 {
		_ = json.Unmarshal(w.Body.Bytes(), &out)
	}
	return w.Code, out
}

// want calls and checks the status.
func (c *castle) want(status int, who, method, path, body string) map[string]any {
	c.t.Helper()
	got, out := c.call(who, method, path, body)
	if got != status {
		c.t.Errorf("%s: %s %s %s: %d %v, want %d", who, method, path, body, got, out, status)
	}
	return out
}

func (c *castle) text(o map[string]any, key string) string { s, _ := o[key].(string); return s }

// person makes a user who can sign in, with directory roles.
func (c *castle) person(name string, roles ...string) string {
	c.t.Helper()
	o := c.want(201, "admin", "POST", "/v1.0/users", `{"accountEnabled":true,"displayName":"`+name+`","mailNickname":"`+name+`","userPrincipalName":"`+name+`@corp.example","passwordProfile":{"password":"`+castlePassword+`","forceChangePasswordNextSignIn":false}}`)
	c.ids[name] = c.text(o, "id")
	for _, r := range roles {
		c.want(201, "admin", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"`+r+`","principalId":"`+c.ids[name]+`","directoryScopeId":"/"}`)
	}
	return c.ids[name]
}

func (c *castle) group(name string, assignable bool) string {
	c.t.Helper()
	more := ""
	if assignable {
		more = `,"isAssignableToRole":true`
	}
	c.ids[name] = c.text(c.want(201, "admin", "POST", "/v1.0/groups", `{"displayName":"`+name+`","mailEnabled":false,"mailNickname":"`+name+`","securityEnabled":true`+more+`}`), "id")
	return c.ids[name]
}

// application registers one with a service principal and returns both object ids.
func (c *castle) application(name string) (app, sp string) {
	c.t.Helper()
	a := c.want(201, "admin", "POST", "/v1.0/applications", `{"displayName":"`+name+`"}`)
	p := c.want(201, "admin", "POST", "/v1.0/servicePrincipals", `{"appId":"`+c.text(a, "appId")+`"}`)
	return c.text(a, "id"), c.text(p, "id")
}

func (c *castle) subscription() string {
	c.t.Helper()
	list, _ := c.want(200, "admin", "GET", "/subscriptions?api-version=2022-12-01", "")["value"].([]any)
	one, _ := list[0].(map[string]any)
	return c.text(one, "id")
}

func (c *castle) assignmentID() string {
	c.serial++
	const digits = "0123456789abcdef"
	return "00000000-0000-4000-8000-0000000000" + string(digits[c.serial/16]) + string(digits[c.serial%16])
}

func assignmentPath(at, id string) string {
	return strings.TrimSuffix(at, "/") + "/providers/Microsoft.Authorization/roleAssignments/" + id + "?api-version=2022-04-01"
}

func assignmentBody(role, principal string) string {
	return `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/` + role + `","principalId":"` + principal + `"}}`
}

// assign gives a role as the first administrator, who is Owner of everything.
func (c *castle) assign(at, role, principal string) string {
	c.t.Helper()
	id := c.assignmentID()
	c.want(201, "admin", "PUT", assignmentPath(at, id), assignmentBody(role, principal))
	return id
}

func ref(id string) string {
	return `{"@odata.id":"https://login.corp.example/v1.0/directoryObjects/` + id + `"}`
}

// A group that holds a role is not changed by who may change groups.
func TestEscalation_GroupThatHoldsARole(t *testing.T) {
	c := newCastle(t)
	sub := c.subscription()
	helpdesk := c.person("helpdesk", rbac.UserAdministrator)
	ops, inner, dir := c.group("ops", false), c.group("inner", false), c.group("admins", true)
	c.want(204, "admin", "POST", "/v1.0/groups/"+ops+"/members/$ref", ref(inner))
	c.assign(sub, rbac.Owner, ops)
	c.want(201, "admin", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"`+rbac.GlobalAdministrator+`","principalId":"`+dir+`","directoryScopeId":"/"}`)
	for _, g := range []string{ops, inner, dir} {
		c.want(403, "helpdesk", "POST", "/v1.0/groups/"+g+"/members/$ref", ref(helpdesk))
		c.want(403, "helpdesk", "DELETE", "/v1.0/groups/"+g, "")
		c.want(403, "helpdesk", "PATCH", "/v1.0/groups/"+g, `{"displayName":"x"}`)
	}
	c.want(403, "helpdesk", "GET", sub+"?api-version=2022-12-01", "")
}

// A credential, an owner or another redirect address is not put on what is
// stronger than who puts it.
func TestEscalation_CredentialOnAStrongerPrincipal(t *testing.T) {
	c := newCastle(t)
	appadmin := c.person("appadmin", rbac.ApplicationAdministrator)
	app, sp := c.application("deploy")
	weak, _ := c.application("weak")
	c.assign(c.subscription(), rbac.Owner, sp)
	secret := `{"passwordCredential":{"displayName":"x"}}`
	c.want(200, "appadmin", "POST", "/v1.0/applications/"+weak+"/addPassword", secret)
	for _, at := range []string{"/v1.0/applications/" + app, "/v1.0/servicePrincipals/" + sp} {
		c.want(403, "appadmin", "POST", at+"/addPassword", secret)
		c.want(403, "appadmin", "POST", at+"/owners/$ref", ref(appadmin))
		c.want(403, "appadmin", "DELETE", at, "")
		// There are no federated credentials, so nobody trusts a token of elsewhere.
		c.want(404, "appadmin", "POST", at+"/federatedIdentityCredentials", `{"name":"x","issuer":"https://evil.example","subject":"x","audiences":["x"]}`)
	}
	c.want(403, "appadmin", "PATCH", "/v1.0/applications/"+app, `{"web":{"redirectUris":["https://evil.example/"]}}`)
	c.want(403, "appadmin", "PATCH", "/v1.0/servicePrincipals/"+sp, `{"accountEnabled":false}`)
	// Not through ownership either: the owner of a stronger application adds nothing.
	c.want(204, "admin", "POST", "/v1.0/applications/"+app+"/owners/$ref", ref(appadmin))
	c.want(403, "appadmin", "POST", "/v1.0/applications/"+app+"/addPassword", secret)
}

// The password of an administrator is not reset by a lesser one, and his names
// are not taken.
func TestEscalation_PasswordAndNamesOfAnAdministrator(t *testing.T) {
	c := newCastle(t)
	c.person("helpdesk", rbac.UserAdministrator)
	c.person("methods", rbac.AuthenticationAdministrator)
	owner := c.person("owner")
	mallory := c.person("mallory")
	c.assign(c.subscription(), rbac.Owner, owner)
	password := `{"passwordProfile":{"password":"words that mallory knows","forceChangePasswordNextSignIn":false}}`
	for _, who := range []string{"helpdesk", "methods"} {
		for _, target := range []string{c.ids["admin"], owner, c.ids[map[string]string{"helpdesk": "methods", "methods": "helpdesk"}[who]], "ADMIN@corp.example"} {
			c.want(403, who, "PATCH", "/v1.0/users/"+target, password)
			c.want(403, who, "PATCH", "/v1.0/users/"+target, `{"userPrincipalName":"gone@corp.example"}`)
			c.want(403, who, "PATCH", "/v1.0/users/"+target, `{"accountEnabled":false}`)
			c.want(403, who, "DELETE", "/v1.0/users/"+target, "")
			c.want(403, who, "POST", "/v1.0/users/"+target+"/revokeSignInSessions", "")
		}
		c.want(204, who, "PATCH", "/v1.0/users/"+mallory, `{"passwordProfile":{"password":"`+castlePassword+`","forceChangePasswordNextSignIn":false}}`)
	}
	c.want(400, "helpdesk", "PATCH", "/v1.0/users/"+mallory, `{"userPrincipalName":"Admin@corp.example"}`)
	c.want(400, "helpdesk", "POST", "/v1.0/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"admin@corp.example","passwordProfile":{"password":"`+castlePassword+`"}}`)
	c.want(403, "mallory", "PATCH", "/v1.0/me", `{"userPrincipalName":"admin2@corp.example"}`)
	c.want(403, "mallory", "PATCH", "/v1.0/me", `{"mail":"admin@corp.example"}`)
	// An address is only a text: an administrator's in another's profile gives nothing.
	c.want(204, "helpdesk", "PATCH", "/v1.0/users/"+mallory, `{"mail":"admin@corp.example"}`)
	delete(c.tokens, "mallory ")
	delete(c.tokens, "mallory /arm")
	c.want(403, "mallory", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"`+rbac.GlobalAdministrator+`","principalId":"`+mallory+`","directoryScopeId":"/"}`)
}

// A Contributor does not become Owner, by no address, child or custom role.
func TestEscalation_ContributorMakesHimselfOwner(t *testing.T) {
	c := newCastle(t)
	sub := c.subscription()
	const api = "?api-version=2021-04-01"
	rg := sub + "/resourceGroups/rg"
	c.want(201, "admin", "PUT", rg+api, `{"location":"westeurope"}`)
	vnet := rg + "/providers/Microsoft.Network/virtualNetworks/v"
	me := c.person("contributor")
	c.assign(sub, rbac.Contributor, me)
	c.want(201, "contributor", "PUT", vnet+"?api-version=2022-01-01", `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]}}}`)
	for _, at := range []string{sub, rg, vnet, strings.ToUpper(rg), "", "/providers/Microsoft.Management/managementGroups/" + c.d.directory.Tenant().ID} {
		for _, role := range []string{rbac.Owner, rbac.VMAdministratorLogin} {
			c.want(403, "contributor", "PUT", assignmentPath(at, c.assignmentID()), assignmentBody(role, me))
		}
	}
	custom := "00000000-0000-4000-8000-00000000c001"
	role := `{"properties":{"roleName":"mine","type":"CustomRole","assignableScopes":["` + sub + `"],"permissions":[{"actions":["*"],"dataActions":["Microsoft.Compute/virtualMachines/loginAsAdmin/action"]}]}}`
	c.want(403, "contributor", "PUT", sub+"/providers/Microsoft.Authorization/roleDefinitions/"+custom+"?api-version=2022-04-01", role)
	// Nothing that would deploy, lock or elevate for him exists.
	for _, path := range []string{"/providers/Microsoft.Resources/deployments/d", "/providers/Microsoft.Authorization/locks/l", "/providers/Microsoft.Authorization/denyAssignments/" + custom, "/providers/Microsoft.Authorization/policyAssignments/p"} {
		if code, _ := c.call("contributor", "PUT", rg+path+api, `{"properties":{}}`); code < 400 || code >= 500 {
			t.Errorf("%s: %d", path, code)
		}
	}
	c.want(404, "contributor", "POST", "/providers/Microsoft.Authorization/elevateAccess?api-version=2016-07-01", "")
}

// Whoever may assign roles in one place makes no role that reaches another, and
// none with data actions is assigned beyond where he may assign.
func TestEscalation_CustomRoleBeyondOnesOwnPlace(t *testing.T) {
	c := newCastle(t)
	sub := c.subscription()
	rg := sub + "/resourceGroups/mine"
	c.want(201, "admin", "PUT", rg+"?api-version=2021-04-01", `{"location":"westeurope"}`)
	me := c.person("owner")
	c.assign(rg, rbac.Owner, me)
	role := func(scopes string) string {
		return `{"properties":{"roleName":"wide","type":"CustomRole","assignableScopes":[` + scopes + `],"permissions":[{"actions":["Microsoft.Compute/virtualMachines/read"],"dataActions":["Microsoft.Compute/virtualMachines/loginAsAdmin/action"]}]}}`
	}
	const id = "00000000-0000-4000-8000-00000000c002"
	at := func(scope string) string {
		return scope + "/providers/Microsoft.Authorization/roleDefinitions/" + id + "?api-version=2022-04-01"
	}
	c.want(403, "owner", "PUT", at(sub), role(`"`+sub+`"`))
	c.want(403, "owner", "PUT", at(rg), role(`"`+rg+`","`+sub+`"`))
	c.want(201, "owner", "PUT", at(rg), role(`"`+rg+`"`))
	c.want(403, "owner", "PUT", at(rg), role(`"`+rg+`","`+sub+`"`))
	c.want(403, "owner", "PUT", assignmentPath(sub, c.assignmentID()), assignmentBody(id, me))
	c.want(201, "owner", "PUT", assignmentPath(rg, c.assignmentID()), assignmentBody(id, me)) // there he could give himself any role
}

// Nobody gets rights above by a subscription or a management group of his own.
func TestEscalation_OwnSubscriptionAndManagementGroup(t *testing.T) {
	c := newCastle(t)
	sub, me := c.subscription(), c.person("mover")
	c.person("global", rbac.GlobalAdministrator)
	const api = "?api-version=2020-05-01"
	const groups = "/providers/Microsoft.Management/managementGroups/"
	root := groups + c.d.directory.Tenant().ID
	// Subscriptions are made by nobody over the wire.
	for _, path := range []string{"/subscriptions/00000000-0000-4000-8000-00000000d001", "/providers/Microsoft.Subscription/aliases/mine"} {
		for _, who := range []string{"mover", "admin"} {
			if code, o := c.call(who, "PUT", path+api, `{"properties":{"displayName":"mine"}}`); code < 400 || code >= 500 {
				t.Errorf("%s %s: %d %v", who, path, code, o)
			}
		}
	}
	c.want(403, "mover", "PUT", groups+"mine"+api, `{"properties":{"displayName":"mine"}}`)
	c.want(200, "admin", "PUT", groups+"mine"+api, `{"properties":{"displayName":"mine"}}`)
	c.assign(groups+"mine", rbac.Owner, me)
	c.want(403, "mover", "PUT", groups+"mine/subscriptions/"+strings.TrimPrefix(sub, "/subscriptions/")+api, "") // into his own group
	c.want(403, "mover", "PUT", root+api, `{"properties":{"displayName":"x"}}`)
	c.want(200, "mover", "PUT", groups+"mine"+api, `{"properties":{"displayName":"still mine"}}`)
	c.want(403, "mover", "GET", sub+"?api-version=2022-12-01", "")
	// A Global Administrator is not Owner of resources by that.
	c.want(403, "global", "GET", sub+"?api-version=2022-12-01", "")
	c.want(403, "global", "PUT", assignmentPath(sub, c.assignmentID()), assignmentBody(rbac.Owner, c.ids["global"]))
}

// The identity of a machine is the machine's: the directory's administrators
// neither prove themselves as it nor take it away.
func TestEscalation_ManagedIdentityOfAMachine(t *testing.T) {
	c := newCastle(t)
	c.person("appadmin", rbac.ApplicationAdministrator)
	const id, appID = "99999999-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000002"
	vm := c.subscription() + "/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm"
	c.must(c.d.follow.Write(t.Context(), func(tx *store.Tx) error {
		uid, err := tx.NextPOSIXID()
		if err != nil {
			return err
		}
		return tx.PutServicePrincipal(directory.ServicePrincipal{ID: id, AppID: appID, DisplayName: "vm", Type: directory.TypeManagedIdentity, ResourceID: vm, UID: uid, Enabled: true})
	}))
	for _, who := range []string{"appadmin", "admin"} {
		c.want(403, who, "POST", "/v1.0/servicePrincipals/"+id+"/addPassword", `{"passwordCredential":{"displayName":"x"}}`)
		c.want(403, who, "PATCH", "/v1.0/servicePrincipals/"+id, `{"accountEnabled":false}`)
		c.want(403, who, "DELETE", "/v1.0/servicePrincipals/"+id, "")
		c.want(404, who, "POST", "/v1.0/servicePrincipals/"+id+"/owners/$ref", ref(c.ids["appadmin"]))
		c.want(400, who, "POST", "/v1.0/servicePrincipals", `{"appId":"`+appID+`"}`)
	}
}

// The assignments of a deleted principal stay listed and are nobody's: not of
// who gets its name next.
func TestEscalation_NameOfADeletedPrincipal(t *testing.T) {
	c := newCastle(t)
	sub := c.subscription()
	old := c.person("bob")
	crew := c.group("crew", false)
	app, sp := c.application("robot")
	held := []string{c.assign(sub, rbac.Owner, old), c.assign(sub, rbac.Reader, crew), c.assign(sub, rbac.Reader, sp)}
	c.want(201, "admin", "POST", "/v1.0/roleManagement/directory/roleAssignments", `{"roleDefinitionId":"`+rbac.GlobalAdministrator+`","principalId":"`+old+`","directoryScopeId":"/"}`)
	c.want(204, "admin", "DELETE", "/v1.0/users/"+old, "")
	c.want(204, "admin", "DELETE", "/v1.0/groups/"+crew, "")
	c.want(204, "admin", "DELETE", "/v1.0/applications/"+app, "")
	again := c.person("bob")
	c.want(204, "admin", "POST", "/v1.0/groups/"+c.group("crew", false)+"/members/$ref", ref(again))
	_, spAgain := c.application("robot")
	if again == old || spAgain == sp {
		t.Fatal("an object id came back")
	}
	c.want(403, "bob", "GET", sub+"?api-version=2022-12-01", "")
	c.want(403, "bob", "POST", "/v1.0/users", `{"accountEnabled":true,"displayName":"x","mailNickname":"x","userPrincipalName":"x@corp.example","passwordProfile":{"password":"`+castlePassword+`"}}`)
	if c.d.roles.Check(rbac.Query{Principals: []string{spAgain}, Scope: scope.Directory(), Action: "microsoft.directory/users/standard/read"}).Allowed {
		t.Error("the new application has rights")
	}
	list, _ := c.want(200, "admin", "GET", sub+"/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01", "")["value"].([]any)
	for _, id := range held {
		found := false
		for _, one := range list {
			o, _ := one.(map[string]any)
			found = found || c.text(o, "name") == id
		}
		if !found {
			t.Errorf("the assignment %s of a deleted principal is not listed", id)
		}
	}
	if code, o := c.call("admin", "PUT", assignmentPath(sub, c.assignmentID()), assignmentBody(rbac.Reader, old)); code != 400 {
		t.Errorf("a new assignment to the deleted one: %d %v", code, o)
	}
}
