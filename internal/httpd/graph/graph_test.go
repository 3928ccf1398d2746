package graph_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/httpd"
	"sallyport/internal/httpd/graph"
	"sallyport/internal/rbac"
	"sallyport/internal/route"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

const base = "https://sally.corp.example"

// world is a Graph surface on a real store; a bearer token is an object id.
type world struct {
	t     *testing.T
	store *storetest.Store
	now   time.Time
	dir   *directory.Index
	rbac  *rbac.Index
	cred  *credential.Service
	http  *httpd.Server
	admin string
	pol   *conditional.Index
}

func (w *world) Bearer(_ context.Context, token string, _ route.Surface, _ time.Time) (audit.By, error) {
	token, permissions, limited := strings.Cut(token, "|") // an object id, and with | what its client was given
	by := audit.By{Principal: token, Type: audit.User, Groups: w.dir.GroupsOf(token), Client: "a-client", Permissions: []string{directory.AccessAsUser}}
	if _, ok := w.dir.ServicePrincipal(token); ok {
		by.Type, by.Permissions = audit.ServicePrincipal, w.dir.ApplicationPermissions(token)
	}
	if limited {
		by.Permissions = strings.Fields(permissions)
	}
	return by, nil
}

func (w *world) Machine(context.Context, string) (audit.By, error) {
	return audit.By{}, fault.New(fault.Unauthenticated, "X", "no machines here")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0).UTC(), dir: directory.NewIndex(), rbac: rbac.NewIndex(nil), pol: conditional.NewIndex()}
	w.store = storetest.New(t, func() time.Time { return w.now }, storetest.Index(w.dir.Refresh), storetest.Index(w.rbac.Refresh), storetest.Index(w.pol.Refresh))
	svc := directory.NewService(directory.Config{
		Write: storetest.Write[directory.Tx](w.store),
		Index: w.dir, Authority: rbac.NewDirectoryAuthority(w.rbac, w.dir), Rand: rand.Reader,
	})
	var err error
	w.cred, err = credential.NewService(credential.Config{
		Write:     storetest.Write[credential.Tx](w.store),
		Read:      storetest.Read[credential.Tx](w.store),
		Directory: svc, Slots: credential.NewFairSlots(2), Rand: rand.Reader, Key: make([]byte, 32), Cost: credential.Cost{MemoryKiB: 8, Passes: 1, Lanes: 1},
	})
	w.must(err)
	roles := rbac.NewDirectoryRoles(rbac.DirectoryRolesConfig{
		Write: storetest.Write[rbac.DirectoryTx](w.store),
		Index: w.rbac, Directory: w.dir, Rand: rand.Reader,
	})
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, u, err := svc.Bootstrap(tx, audit.By{Type: audit.Task}, directory.Bootstrap{DisplayName: "Corp", Domain: "corp.example", AdminUPN: "root@corp.example", AdminName: "Root"})
		if err != nil {
			return err
		}
		w.admin = u.ID
		return tx.PutRoleAssignment(rbac.Assignment{ID: "00000000-0000-4000-8000-000000000001", Scope: scope.Directory(), RoleID: rbac.GlobalAdministrator, PrincipalID: u.ID})
	}))
	mux := httpd.NewMux()
	policies := conditional.NewService(conditional.Config{Write: storetest.Write[conditional.Tx](w.store), Index: w.pol, People: w.dir, Rights: svc, Rand: rand.Reader,
		Role: func(id string) bool { return id == rbac.GlobalAdministrator }})
	graph.New(graph.Config{Directory: svc, Credentials: w.cred, Roles: roles, Policies: policies, URL: base + "/"}).Mount(mux)
	var rows []route.Row
	for _, r := range route.All() {
		if r.Surface == route.Graph {
			rows = append(rows, r)
		}
	}
	many := httpd.Limit{PerSecond: 1e6, Burst: 1e6}
	w.http, err = httpd.New(httpd.Config{Rows: rows, Mux: mux, Authenticator: w, Limits: map[string]httpd.Limit{"read": many, "write": many}, Authority: base + "/adfs",
		Now: func() time.Time { return w.now }, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	w.must(err)
	return w
}

// call sends a request as a principal.
func (w *world) call(as, method, path, body string) map[string]any {
	w.t.Helper()
	_, out := w.ask(as, method, path, body)
	return out
}

func (w *world) ask(as, method, path, body string) (*httptest.ResponseRecorder, map[string]any) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, strings.ReplaceAll(path, " ", "%20"), strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+as)
	rec := httptest.NewRecorder()
	w.http.ServeHTTP(rec, r)
	var out map[string]any
	if rec.Body.Len() > 0 {
		w.must(json.Unmarshal(rec.Body.Bytes(), &out))
	}
	heard.HearWhole(message(out))
	return rec, out
}

// do sends a request and wants a status.
func (w *world) do(as, method, path, body string, want int) map[string]any {
	w.t.Helper()
	rec, out := w.ask(as, method, path, body)
	if rec.Code != want {
		w.t.Fatalf("%s %s %s: %d %s", method, path, body, rec.Code, rec.Body)
	}
	if (want == 204) != (rec.Body.Len() == 0) {
		w.t.Errorf("%s %s: a %d with body %q", method, path, want, rec.Body)
	}
	return out
}

func (w *world) user(name string) string {
	w.t.Helper()
	o := w.do(w.admin, "POST", "/v1.0/users", `{"accountEnabled":true,"displayName":"`+name+`","mailNickname":"`+name+`","userPrincipalName":"`+name+`@corp.example","passwordProfile":{"password":"four unrelated words here","forceChangePasswordNextSignIn":false}}`, 201)
	return str(o, "id")
}

func str(o map[string]any, key string) string {
	s, _ := o[key].(string)
	return s
}

func values(o map[string]any) []map[string]any {
	var out []map[string]any
	list, _ := o["value"].([]any)
	for _, v := range list {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

func message(o map[string]any) string {
	e, _ := o["error"].(map[string]any)
	return str(e, "message")
}

func code(o map[string]any) string {
	e, _ := o["error"].(map[string]any)
	return str(e, "code")
}

// The requests are those of azure-cli 2.45.0, recorded: az role assignment
// create, az ad user list and show, az ad signed-in-user show, az ad sp show.
func TestGraph_RecordedAzureCLIRequests(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	list := values(w.do(w.admin, "GET", "/v1.0/users?$filter=userPrincipalName%20eq%20%27alice%40corp.example%27", "", 200))
	if len(list) != 1 || list[0]["id"] != alice {
		t.Fatal(list)
	}
	for _, p := range []string{"id", "userPrincipalName", "displayName", "mail", "givenName", "surname", "businessPhones", "jobTitle", "mobilePhone", "officeLocation", "preferredLanguage"} {
		if _, ok := list[0][p]; !ok {
			t.Errorf("users lack %s", p)
		}
	}
	if len(list[0]) != 11 {
		t.Errorf("more than Graph's default properties: %v", list[0])
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/users", "", 200)); len(got) != 2 {
		t.Error(got)
	}
	if o := w.do(alice, "GET", "/v1.0/me", "", 200); o["id"] != alice || o["@odata.context"] != base+"/v1.0/$metadata#users/$entity" {
		t.Error(o)
	}
	if o := w.do(alice, "GET", "/v1.0/users/ALICE@corp.example", "", 200); o["id"] != alice {
		t.Error(o)
	}
	sp := values(w.do(w.admin, "GET", "/v1.0/servicePrincipals?$filter=servicePrincipalNames%2Fany%28c%3Ac%20eq%20%27"+directory.LinuxSignIn+"%27%29", "", 200))
	if len(sp) != 1 || sp[0]["appId"] != directory.LinuxSignIn || sp[0]["servicePrincipalType"] != "Application" {
		t.Fatal(sp)
	}
	if o := w.do(w.admin, "GET", "/v1.0/servicePrincipals/"+str(sp[0], "id"), "", 200); o["displayName"] != "Azure Linux VM Sign-In" {
		t.Error(o)
	}
	got := values(w.do(w.admin, "POST", "/v1.0/directoryObjects/getByIds", `{"ids": ["`+str(sp[0], "id")+`", "`+alice+`", "99999999-9999-4999-8999-999999999999"], "types": ["user", "group", "servicePrincipal", "directoryObjectPartnerReference"]}`, 200))
	if len(got) != 2 || got[0]["@odata.type"] != "#microsoft.graph.servicePrincipal" || got[1]["@odata.type"] != "#microsoft.graph.user" {
		t.Fatal(got)
	}
	if got := values(w.do(w.admin, "POST", "/v1.0/directoryObjects/getByIds", `{"ids":["`+alice+`"],"types":["group"]}`, 200)); len(got) != 0 {
		t.Error(got)
	}
}

func TestGraph_UserLifeCycle(t *testing.T) {
	w := newWorld(t)
	id := w.user("alice")
	w.do(w.admin, "PATCH", "/v1.0/users/alice@corp.example", `{"jobTitle":"Engineer","accountEnabled":false,"id":"`+id+`","@odata.context":"y"}`, 204)
	for _, body := range []string{`{"jobTitle":"Clerk","id":"x"}`, `{"jobTitle":"Clerk","createdDateTime":"2020-01-01T00:00:00Z"}`} { // only the server sets them
		w.do(w.admin, "PATCH", "/v1.0/users/"+id, body, 400)
	}
	o := w.do(w.admin, "GET", "/v1.0/users/"+id+"?$select=id,jobTitle,accountEnabled", "", 200)
	if o["jobTitle"] != "Engineer" || o["accountEnabled"] != false || len(o) != 4 {
		t.Error(o)
	}
	w.do(w.admin, "PATCH", "/v1.0/users/"+id, `{"passwordProfile":{"password":"another secret phrase","forceChangePasswordNextSignIn":false},"accountEnabled":true}`, 204)
	if r, err := w.cred.VerifyUPN(t.Context(), audit.By{}, "alice@corp.example", "another secret phrase", ""); err != nil || r.Status != credential.OK {
		t.Error(r, err)
	}
	if o := w.do(w.admin, "POST", "/v1.0/users/"+id+"/invalidateAllRefreshTokens", "", 200); o["value"] != true {
		t.Error(o)
	}
	if o := w.do(w.admin, "POST", "/v1.0/users/"+id+"/revokeSignInSessions", "", 200); o["value"] != true {
		t.Error(o)
	}
	w.do(w.admin, "DELETE", "/v1.0/users/"+id, "", 204)
	if o := w.do(w.admin, "GET", "/v1.0/users/"+id, "", 404); code(o) != "Request_ResourceNotFound" {
		t.Error(o)
	}
}

func TestGraph_GroupsAndMembership(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	mk := func(name string) string {
		return str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"`+name+`","mailNickname":"`+name+`","mailEnabled":false,"securityEnabled":true,"description":null}`, 201), "id")
	}
	inner, outer := mk("inner"), mk("outer")
	ref := func(id string) string {
		return `{"@odata.id":"https://graph.microsoft.com/v1.0/directoryObjects/` + id + `"}`
	}
	w.do(w.admin, "POST", "/v1.0/groups/"+inner+"/members/$ref", ref(alice), 204)
	w.do(w.admin, "POST", "/v1.0/groups/"+outer+"/members/$ref", ref(inner), 204)
	if o := w.do(w.admin, "POST", "/v1.0/groups/"+inner+"/members/$ref", ref(alice), 400); !strings.Contains(str(o["error"].(map[string]any), "message"), "already exist") {
		t.Error(o)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/groups/"+outer+"/members", "", 200)); len(got) != 1 || got[0]["@odata.type"] != "#microsoft.graph.group" {
		t.Error(got)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/groups/"+outer+"/transitiveMembers?$filter=userPrincipalName eq 'alice@corp.example'", "", 200)); len(got) != 1 {
		t.Error(got)
	}
	if got := values(w.do(alice, "GET", "/v1.0/me/memberOf", "", 200)); len(got) != 1 || got[0]["id"] != inner {
		t.Error(got)
	}
	if got := values(w.do(alice, "GET", "/v1.0/users/"+alice+"/transitiveMemberOf", "", 200)); len(got) != 2 {
		t.Error(got)
	}
	o := w.do(alice, "POST", "/v1.0/directoryObjects/"+alice+"/checkMemberGroups", `{"groupIds":["`+outer+`","99999999-9999-4999-8999-999999999999"]}`, 200)
	if list, _ := o["value"].([]any); len(list) != 1 || list[0] != outer {
		t.Error(o)
	}
	o = w.do(alice, "POST", "/v1.0/users/"+alice+"/getMemberGroups", `{"securityEnabledOnly":true}`, 200)
	if list, _ := o["value"].([]any); len(list) != 2 {
		t.Error(o)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/groups?$filter=displayName eq 'INNER'", "", 200)); len(got) != 1 {
		t.Error(got)
	}
	w.do(w.admin, "DELETE", "/v1.0/groups/"+inner+"/members/"+alice+"/$ref", "", 204)
	w.do(w.admin, "DELETE", "/v1.0/groups/"+inner+"/members/"+alice+"/$ref", "", 404)
	w.do(w.admin, "PATCH", "/v1.0/groups/"+inner, `{"displayName":"renamed"}`, 204)
	w.do(w.admin, "DELETE", "/v1.0/groups/"+inner, "", 204)
}

// As az ad sp create-for-rbac and az ad sp credential reset go.
func TestGraph_CreateForRBAC(t *testing.T) {
	w := newWorld(t)
	app := w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"ci","keyCredentials":[],"signInAudience":"AzureADMyOrg"}`, 201)
	id, appID := str(app, "id"), str(app, "appId")
	sp := w.do(w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+appID+`","accountEnabled":"True"}`, 201)
	secret := w.do(w.admin, "POST", "/v1.0/applications/"+id+"/addPassword", `{"passwordCredential":{"displayName":"rbac","endDateTime":"2030-01-01T00:00:00Z","startDateTime":"2027-01-15T08:00:00Z"}}`, 200)
	if st, err := w.cred.VerifySecret(t.Context(), appID, str(secret, "secretText")); err != nil || st != credential.ClientOK {
		t.Fatal(st, err)
	}
	shown, _ := json.Marshal(w.do(w.admin, "GET", "/v1.0/applications/"+id, "", 200))
	if strings.Contains(string(shown), str(secret, "secretText")) || !strings.Contains(string(shown), str(secret, "keyId")) {
		t.Errorf("%s", shown)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/applications?$filter=appId eq '"+appID+"'", "", 200)); len(got) != 1 {
		t.Error(got)
	}
	w.do(w.admin, "POST", "/v1.0/applications/"+id+"/removePassword", `{"keyId":"`+str(secret, "keyId")+`"}`, 204)
	if st, _ := w.cred.VerifySecret(t.Context(), appID, str(secret, "secretText")); st != credential.ClientWrong {
		t.Error(st)
	}
	if o := w.do(w.admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+appID+`"}`, 409); code(o) != "Request_MultipleObjectsWithSameKeyValue" {
		t.Error(o)
	}
	if o := w.do(str(sp, "id"), "GET", "/v1.0/users", "", 403); code(o) != "Authorization_RequestDenied" {
		t.Error(o)
	}
	w.do(str(sp, "id"), "GET", "/v1.0/servicePrincipals/"+str(sp, "id"), "", 200)
	w.do(w.admin, "PATCH", "/v1.0/servicePrincipals/"+str(sp, "id"), `{"accountEnabled":false}`, 204)
	w.do(w.admin, "DELETE", "/v1.0/applications/"+id, "", 204)
	w.do(w.admin, "GET", "/v1.0/servicePrincipals/"+str(sp, "id"), "", 404)
}

func TestGraph_DirectoryRoles(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	body := `{"@odata.type":"#microsoft.graph.unifiedRoleAssignment","roleDefinitionId":"` + rbac.UserAdministrator + `","principalId":"` + alice + `","directoryScopeId":"/"}`
	if o := w.do(alice, "POST", "/v1.0/roleManagement/directory/roleAssignments", body, 403); code(o) != "Authorization_RequestDenied" {
		t.Error(o)
	}
	a := w.do(w.admin, "POST", "/v1.0/roleManagement/directory/roleAssignments", body, 201)
	if got := values(w.do(alice, "GET", "/v1.0/roleManagement/directory/roleAssignments?$filter=principalId eq '"+alice+"'", "", 200)); len(got) != 1 || got[0]["id"] != a["id"] {
		t.Error(got)
	}
	if got := values(w.do(alice, "GET", "/v1.0/directoryRoles/"+rbac.UserAdministrator+"/members", "", 200)); len(got) != 1 {
		t.Error(got)
	}
	if got := values(w.do(alice, "GET", "/v1.0/roleManagement/directory/roleDefinitions?$filter=displayName eq 'Global Reader'", "", 200)); len(got) != 1 {
		t.Error(got)
	}
	w.do(w.admin, "DELETE", "/v1.0/roleManagement/directory/roleAssignments/"+str(a, "id"), "", 204)
	w.do(w.admin, "POST", "/v1.0/roleManagement/directory/roleAssignments", strings.Replace(body, `"directoryScopeId":"/"`, `"directoryScopeId":"/administrativeUnits/x"`, 1), 400)
	w.do(w.admin, "POST", "/v1.0/roleManagement/directory/roleAssignments", strings.Replace(body, `"directoryScopeId":"/"`, `"condition":"@Resource == 1"`, 1), 400)
}

func TestGraph_PagingReachesEverythingOnce(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		w.user(n)
	}
	seen := map[string]bool{}
	path, pages := "/v1.0/users?$top=3&$count=true&$filter=accountEnabled%20eq%20true", 0
	for path != "" {
		o := w.do(w.admin, "GET", path, "", 200)
		pages++
		if o["@odata.count"] != float64(7) {
			t.Errorf("count %v", o["@odata.count"])
		}
		for _, u := range values(o) {
			if seen[str(u, "id")] {
				t.Errorf("%s twice", u["id"])
			}
			seen[str(u, "id")] = true
		}
		path = strings.TrimPrefix(str(o, "@odata.nextLink"), base)
	}
	if len(seen) != 7 || pages != 3 {
		t.Errorf("%d users on %d pages", len(seen), pages)
	}
}

func TestGraph_BadInputIsAnswered(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	create := func(extra string) string {
		return `{"accountEnabled":true,"displayName":"B","mailNickname":"b","userPrincipalName":"b@corp.example","passwordProfile":{"password":"four unrelated words here"}` + extra + `}`
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v1.0/users?$filter=secret eq 'x'", "", 400, "Request_UnsupportedQuery"},
		{"GET", "/v1.0/users?$filter=userPrincipalName", "", 400, "Request_UnsupportedQuery"},
		{"GET", "/v1.0/users?$orderby=displayName", "", 400, "Request_UnsupportedQuery"},
		{"GET", "/v1.0/users?$expand=manager", "", 400, "Request_UnsupportedQuery"},
		{"GET", "/v1.0/users?$search=alice", "", 400, "Request_UnsupportedQuery"},
		{"GET", "/v1.0/users?$top=0", "", 400, "Request_BadRequest"},
		{"GET", "/v1.0/users?$top=1&$top=2", "", 400, "Request_BadRequest"},
		{"GET", "/v1.0/users?$skiptoken=AAAA", "", 400, "Request_BadRequest"},
		{"GET", "/v1.0/users?$select=password", "", 400, "BadRequest"},
		{"GET", "/v1.0/users/" + alice + "?$filter=id eq 'x'", "", 400, "Request_UnsupportedQuery"},
		{"POST", "/v1.0/users", `{}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", `[]`, 400, "InvalidRequestContent"},
		{"POST", "/v1.0/users", `null`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", create(`,"uid":0`), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", create(`,"id":"11111111-1111-4111-8111-111111111111"`), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", create(`,"userType":"Guest"`), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", create(`,"passwordPolicies":"DisableStrongPassword"`), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", strings.Replace(create(""), "four unrelated words here", "Password123!", 1), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", strings.Replace(create(""), "b@corp.example", "b@other.example", 1), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", strings.Replace(create(""), `"B"`, `"B\u202e"`, 1), 400, "Request_BadRequest"},
		{"POST", "/v1.0/users", strings.Replace(create(""), `true`, `"true"`, 1), 400, "Request_BadRequest"},
		{"PATCH", "/v1.0/users/" + alice, `{"isAdmin":true}`, 400, "Request_BadRequest"},
		{"PATCH", "/v1.0/users/" + alice, `{"passwordProfile":{"forceChangePasswordNextSignIn":true}}`, 400, "Request_BadRequest"},
		{"PATCH", "/v1.0/users/nobody@corp.example", `{"jobTitle":"x"}`, 404, "Request_ResourceNotFound"},
		{"POST", "/v1.0/groups", `{"displayName":"x","members@odata.bind":["https://graph/v1.0/users/` + alice + `"]}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/groups", `{"displayName":"x","groupTypes":["DynamicMembership"],"membershipRule":"true"}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","web":{"implicitGrantSettings":{"enableAccessTokenIssuance":true}}}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","web":{"redirectUris":["http://evil.example"]}}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","signInAudience":"AzureADMultipleOrgs"}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","passwordCredentials":[{"secretText":"x"}]}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"AAAA"}]}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/applications", `{"displayName":"x","keyCredentials":[{"keyId":"99999999-9999-4999-8999-999999999999","type":"Symmetric"}]}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/servicePrincipals", `{"appId":"99999999-9999-4999-8999-999999999999"}`, 400, "Request_BadRequest"},
		{"POST", "/v1.0/directoryObjects/getByIds", `{"ids":["x"]}`, 400, "Request_BadRequest"},
		{"GET", "/v1.0/groups/99999999-9999-4999-8999-999999999999/members", "", 404, "Request_ResourceNotFound"},
	} {
		o := w.do(w.admin, tc.method, tc.path, tc.body, tc.status)
		if code(o) != tc.code {
			t.Errorf("%s %s %s: %v", tc.method, tc.path, tc.body, o)
		}
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/users", "", 200)); len(got) != 2 {
		t.Errorf("a refused request created something: %v", got)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/applications", "", 200)); len(got) != 6 {
		t.Errorf("a refused request created something: %v", got)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/groups", "", 200)); len(got) != 0 {
		t.Errorf("a refused request created something: %v", got)
	}
}

func TestGraph_OwnerCannotChangeOthers(t *testing.T) {
	w := newWorld(t)
	mallory, alice := w.user("mallory"), w.user("alice")
	w.do(mallory, "PATCH", "/v1.0/me", `{"mobilePhone":"+49 1"}`, 204)
	for path, body := range map[string]string{
		"/v1.0/me":             `{"displayName":"Root"}`,
		"/v1.0/users/" + alice: `{"passwordProfile":{"password":"four other long words"}}`,
	} {
		if o := w.do(mallory, "PATCH", path, body, 403); code(o) != "Authorization_RequestDenied" {
			t.Errorf("%s %s: %v", path, body, o)
		}
	}
	if o := w.do(w.admin, "PATCH", "/v1.0/me", `{"passwordProfile":{"password":"four other long words"}}`, 403); code(o) != "Authorization_RequestDenied" {
		t.Errorf("one's own password without the old one: %v", o)
	} else {
		handbooktest.Said(t, fmt.Sprint(o), "Authorization_RequestDenied.own")
	}
}
