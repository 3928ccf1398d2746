package server

import (
	"slices"
	"strings"
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/route"
)

func graphKinds(c *castle) []kind {
	_, client := c.application("client")
	_, other := c.application("other")
	graph, _ := at(c.want(200, "admin", "GET", "/v1.0/servicePrincipals?$filter=appId%20eq%20'00000003-0000-0000-c000-000000000000'", ""), "value[0].id")
	g, _ := graph.(string)
	group := c.group("ring", false)
	secret := map[string]string{"passwordProfile.password": "a password is written and never shown", "passwordProfile.forceChangePasswordNextSignIn": "as the password",
		"passwordProfile.forceChangePasswordNextSignInWithMfa": "false alone is taken", "passwordPolicies": "None alone is taken: one policy holds for all"}
	const one = "an application has one list of redirect addresses, those of a public client or others"
	return []kind{
		{name: "graph.users", path: "/v1.0/users", patch: "PATCH", silent: secret,
			body: `{"accountEnabled":true,"displayName":"A","givenName":"B","surname":"C","mail":"a{{n}}@corp.example","jobTitle":"D","mailNickname":"u{{n}}","mobilePhone":"1","userPrincipalName":"u{{n}}@corp.example","userType":"Member",
				"passwordPolicies":"None","businessPhones":[],"officeLocation":null,"passwordProfile":{"password":"` + castlePassword + `","forceChangePasswordNextSignIn":false,"forceChangePasswordNextSignInWithMfa":false}}`,
			other: map[string][]any{"userPrincipalName": {"other@corp.example"}, "mail": {"b@corp.example"}, "mailNickname": {"nick"}},
			moves: map[string]string{"passwordProfile signInSessionsValidFromDateTime": "another password ends the sign-ins with the old one", "accountEnabled signInSessionsValidFromDateTime": "who is disabled is signed out"}},
		{name: "graph.groups", path: "/v1.0/groups", patch: "PATCH",
			body:   `{"displayName":"g{{n}}","description":"d","mailEnabled":false,"mailNickname":"g{{n}}","securityEnabled":true,"isAssignableToRole":true,"groupTypes":[],"visibility":null}`,
			silent: map[string]string{"isAssignableToRole": "Graph shows true, or null for false"}},
		{name: "graph.applications", path: "/v1.0/applications", patch: "PATCH",
			body: `{"displayName":"a{{n}}","signInAudience":"AzureADMyOrg","isFallbackPublicClient":false,"web":{"redirectUris":["https://a.example/"],"homePageUrl":null,"logoutUrl":null,"implicitGrantSettings":{"enableAccessTokenIssuance":false,"enableIdTokenIssuance":false}},
				"publicClient":{"redirectUris":[]},"spa":{"redirectUris":[]},"identifierUris":[],"tags":[],"requiredResourceAccess":[],"appRoles":[],"api":{"oauth2PermissionScopes":[]},"passwordCredentials":[],"keyCredentials":[]}`,
			other: map[string][]any{"web.redirectUris[0]": {"https://b.example/"}, "publicClient.redirectUris": {[]any{"http://localhost"}}},
			moves: map[string]string{"isFallbackPublicClient publicClient": one, "isFallbackPublicClient web": one, "web publicClient": one, "publicClient web": one, "web isFallbackPublicClient": one, "publicClient isFallbackPublicClient": one}},
		{name: "graph.servicePrincipals", path: "/v1.0/servicePrincipals", patch: "PATCH", before: func(c *castle, n string) string {
			return c.text(c.want(201, "admin", "POST", "/v1.0/applications", `{"displayName":"p`+n+`"}`), "appId")
		}, body: `{"appId":"{{before}}","accountEnabled":true,"displayName":"d","tags":[],"servicePrincipalType":"Application"}`,
			silent: map[string]string{"displayName": "Graph takes it from the application, too"}},
		{name: "graph.oauth2PermissionGrants", path: "/v1.0/oauth2PermissionGrants", patch: "PATCH",
			before: func(c *castle, n string) string { _, p := c.application("c" + n); return p },
			body:   `{"clientId":"{{before}}","consentType":"AllPrincipals","principalId":null,"resourceId":"` + g + `","scope":"User.Read"}`,
			other:  map[string][]any{"scope": {"Directory.Read.All User.Read"}, "principalId": {c.ids["admin"]}, "clientId": {client}, "resourceId": {other}}},
		{name: "graph.roleAssignments", path: "/v1.0/roleManagement/directory/roleAssignments", before: func(c *castle, n string) string { return c.person("r" + n) },
			body:  `{"roleDefinitionId":"` + rbac.UserAdministrator + `","principalId":"{{before}}","directoryScopeId":"/"}`,
			other: map[string][]any{"roleDefinitionId": {rbac.GlobalReader}}},
		{name: "graph.conditionalAccessPolicies", path: "/v1.0/identity/conditionalAccess/policies", patch: "PATCH",
			body: `{"displayName":"p{{n}}","state":"disabled","conditions":{"clientAppTypes":["all"],"users":{"includeUsers":["` + c.ids["admin"] + `"],"excludeUsers":[],"includeGroups":[],"excludeGroups":["` + group + `"],"includeRoles":[],"excludeRoles":[]},
				"applications":{"includeApplications":["All"],"excludeApplications":[],"includeUserActions":[]}},"grantControls":null,
				"sessionControls":{"signInFrequency":{"value":1,"type":"hours","frequencyInterval":"timeBased","authenticationType":"primaryAndSecondaryAuthentication","isEnabled":true}}}`,
			other: map[string][]any{"state": {"enabledForReportingButNotEnforced"}, "conditions.users.includeUsers[0]": {"All"}, "grantControls": {map[string]any{"operator": "OR", "builtInControls": []any{"block"}}}},
			moves: map[string]string{"… modifiedDateTime": "it changes with each change"},
			nulls: map[string]string{"sessionControls.signInFrequency.authenticationType": "null is the default", "sessionControls.signInFrequency.frequencyInterval": "null is the default", "sessionControls.signInFrequency.isEnabled": "null is the default"}},
	}
}

// TestInputs_OfTheDirectory changes every input of what Microsoft Graph can write.
func TestInputs_OfTheDirectory(t *testing.T) {
	c := newCastle(t)
	kinds := graphKinds(c)
	// What is written in another way than by a body of its own.
	actions := []string{"graph.me.update", "graph.directoryRoles.activate", "graph.authorizationPolicy.update"}
	for _, row := range route.All() {
		if row.Surface != route.Graph || row.Method == "GET" || row.Method == "DELETE" || strings.HasSuffix(row.Pattern, "$ref") || strings.Contains(row.Pattern, "}/") && row.Method == "POST" || slices.Contains(actions, row.ID) ||
			strings.HasPrefix(row.Pattern, "/v1.0/me/") || row.ID == "graph.directoryObjects.getByIds" {
			continue
		}
		if !slices.ContainsFunc(kinds, func(k kind) bool { return strings.HasPrefix(row.ID, k.name+".") }) {
			t.Errorf("there is no sample for %s", row.ID)
		}
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.method, k.list = "POST", k.path
			x := &inputs{castle: c, t: t, kind: k, seen: record{}, used: map[string]bool{}}
			x.vary()
			x.settle()
			t.Logf("%d requests", x.asked)
		})
	}
}

// shown adds what the answers show beside the sample: each can be set, or is refused
// as what only the server sets.
func (x *inputs) shown(it thing, sample map[string]any) {
	x.t.Helper()
	answer := x.show(it)[0]
	for path, v := range leaves("", answer, map[string]any{}) {
		path, _, _ = strings.Cut(path, "[")
		if _, given := at(it.body, path); given || strings.HasPrefix(path, "@") {
			continue
		}
		if whole, _ := at(answer, path); whole != nil {
			v = whole
		}
		sample[path] = nil
		x.other(path, another(v))
	}
}

// rest holds a PATCH to what it names: everything else stays as it was.
func (x *inputs) rest(before, after any, path string) {
	x.t.Helper()
	top := step.FindString(path)
	was, is := before.(map[string]any), after.(map[string]any) //nolint:forcetypeassert // of a kind's own answers
	for name := range was {
		inner := func(o any) map[string]any {
			return leaves(name, o, map[string]any{})
		}
		if name != top {
			if written(was[name]) != written(is[name]) && !reason(x.kind.moves, top+" "+name, x.used) {
				x.t.Errorf("%s: PATCH of %s made %s of %s %s", x.kind.name, path, name, written(was[name]), written(is[name]))
			}
			continue
		}
		now := inner(is[name])
		for leaf, v := range inner(was[name]) {
			if !strings.HasPrefix(general(leaf), list(general(path))) && written(now[leaf]) != written(v) && !reason(x.kind.moves, path+" "+leaf, x.used) {
				x.t.Errorf("%s: PATCH of %s made %s of %s %s", x.kind.name, path, leaf, written(v), written(now[leaf]))
			}
		}
	}
}

// list is the path of the outermost list on the way to a leaf: a PATCH replaces it.
func list(path string) string {
	if i := strings.Index(path, "[]"); i >= 0 {
		return path[:i]
	}
	return path
}

// constantInGraph are leaves of the directory's answers that are the same whatever is
// put in. What is refused when it is put in is none of them.
func constantInGraph() map[string]string {
	return map[string]string{"@odata.context": "each kind is tested by itself"}
}
