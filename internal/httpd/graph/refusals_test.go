package graph_test

import (
	"strings"
	"testing"
)

// Bodies and queries that say what this server would not act on.
func TestGraph_Refusals(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	app, sp, _ := w.principal("deploy")
	const someID = "99999999-9999-4999-8999-999999999999"
	apps, one := "/v1.0/applications", "/v1.0/applications/"+app
	ids := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"`+someID+`",`, n), ",") }
	filtered := func(filter string) string { return "/v1.0/users?$filter=" + filter }
	group := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"g","mailEnabled":false,"mailNickname":"g","securityEnabled":true}`, 201), "id")
	for _, c := range []struct{ method, path, body, code, words string }{
		{"POST", one + "/addPassword", `{"passwordCredential":{"startDateTime":"2028-01-01T00:00:00Z"}}`, "Request_BadRequest", "a secret begins now"},
		{"POST", apps, `{"displayName":"x","spa":{"redirectUris":["https://a.example/"]}}`, "Request_BadRequest", "redirect URIs of single-page applications are not supported"},
		{"POST", apps, `{"displayName":"x","isFallbackPublicClient":true,"web":{"redirectUris":["https://a.example/"]}}`, "Request_BadRequest", "an application is either a public client"},
		{"PATCH", one, `{"keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"not base64"}]}`, "Request_BadRequest", "the key is not base64."},
		{"PATCH", "/v1.0/policies/authorizationPolicy", `{"defaultUserRolePermissions":{"allowedToCreateApps":false}}`, "Request_BadRequest", "permissionGrantPoliciesAssigned is what can be changed"},
		{"PATCH", "/v1.0/users/" + alice, `{"passwordProfile":{"password":"four unrelated words here","forceChangePasswordNextSignInWithMfa":true}}`, "Request_BadRequest", "forceChangePasswordNextSignInWithMfa is not supported"},
		{"PATCH", "/v1.0/groups/" + group, `{"isAssignableToRole":true}`, "Request_BadRequest", "the property 'isAssignableToRole' of resource 'Group' cannot be changed"},
		{"POST", "/v1.0/servicePrincipals", `{"appId":"deploy"}`, "Request_BadRequest", "invalid value specified for property 'appId' of resource 'ServicePrincipal'"},
		{"POST", "/v1.0/servicePrincipals/" + sp + "/appRoleAssignments", strings.ReplaceAll(w.appRole(sp, someID), sp, someID), "Request_BadRequest", "the service principal of the address is neither principalId nor resourceId"},
		{"POST", "/v1.0/directoryObjects/getByIds", `{"ids":[],"types":["plane"]}`, "Request_BadRequest", "invalid value specified for property 'types': 'plane'"},
		{"POST", "/v1.0/directoryObjects/getByIds", `{"ids":[` + ids(1001) + `]}`, "Request_BadRequest", "too many ids: at most 1000 in one request."},
		{"POST", "/v1.0/users/" + alice + "/checkMemberGroups", `{"groupIds":[` + ids(21) + `]}`, "Request_BadRequest", "too many groupIds: at most 20 in one request."},
		{"GET", filtered("%zz"), "", "Request_BadRequest", "the query string cannot be read."},
		{"GET", filtered("displayName in 'x'"), "", "Request_UnsupportedQuery", "in needs a list in parentheses."},
		{"GET", filtered("startswith(displayName 'x')"), "", "Request_UnsupportedQuery", "startswith needs a property and a text."},
		{"GET", filtered("%ff"), "", "Request_UnsupportedQuery", "the filter is too long or not UTF-8."},
	} {
		o := w.do(w.admin, c.method, c.path, c.body, 400)
		if code(o) != c.code || !strings.Contains(message(o), c.words) {
			t.Errorf("%s %s: %v, want %s: %s", c.method, c.path, o, c.code, c.words)
		}
	}
}
