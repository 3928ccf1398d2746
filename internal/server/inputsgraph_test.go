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
	return []kind{
		{name: "graph.users", path: "/v1.0/users", patch: "PATCH", silent: secret,
			body: `{"accountEnabled":true,"displayName":"A","givenName":"B","surname":"C","mail":"a{{n}}@corp.example","jobTitle":"D","mailNickname":"u{{n}}","mobilePhone":"1","userPrincipalName":"u{{n}}@corp.example","userType":"Member",
				"passwordPolicies":"None","businessPhones":[],"officeLocation":null,"passwordProfile":{"password":"` + castlePassword + `","forceChangePasswordNextSignIn":false,"forceChangePasswordNextSignInWithMfa":false}}`,
			other: map[string][]any{"userPrincipalName": {"other@corp.example"}, "mail": {"b@corp.example"}, "mailNickname": {"nick"}}},
		{name: "graph.groups", path: "/v1.0/groups", patch: "PATCH",
			body:   `{"displayName":"g{{n}}","description":"d","mailEnabled":false,"mailNickname":"g{{n}}","securityEnabled":true,"isAssignableToRole":true,"groupTypes":[],"visibility":null}`,
			silent: map[string]string{"isAssignableToRole": "Graph shows true, or null for false"}},
		{name: "graph.applications", path: "/v1.0/applications", patch: "PATCH",
			body: `{"displayName":"a{{n}}","signInAudience":"AzureADMyOrg","isFallbackPublicClient":false,"web":{"redirectUris":["https://a.example/"],"homePageUrl":null,"logoutUrl":null,"implicitGrantSettings":{"enableAccessTokenIssuance":false,"enableIdTokenIssuance":false}},
				"publicClient":{"redirectUris":[]},"spa":{"redirectUris":[]},"identifierUris":[],"tags":[],"requiredResourceAccess":[],"appRoles":[],"api":{"oauth2PermissionScopes":[]},"passwordCredentials":[],"keyCredentials":[]}`,
			other: map[string][]any{"web.redirectUris[0]": {"https://b.example/"}, "publicClient.redirectUris": {[]any{"http://localhost"}}}},
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
			other: map[string][]any{"state": {"enabledForReportingButNotEnforced"}, "conditions.users.includeUsers[0]": {"All"}}},
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

// constantInGraph are leaves of the directory's answers that are the same whatever is
// put in.
func constantInGraph() map[string]string {
	out := map[string]string{
		"@odata.context": "each kind is tested by itself", "createdDateTime": "a second holds them all", "renewedDateTime": "as createdDateTime", "modifiedDateTime": "as createdDateTime",
		"publisherDomain": "a tenant has one first domain", "appOwnerOrganizationId": "a deployment has one tenant", "signInAudience": "an application belongs to this tenant",
		"appRoleAssignmentRequired": "nobody is kept from signing in by it; conditional access is what does", "securityIdentifier": "a group has none: nothing here reads one", "deletedDateTime": "what is deleted is gone",
		"alternativeNames": "managed identities have some, see TestInputs_OfResources", "keyCredentials": "certificates, which TestApplications tests", "passwordCredentials": "addPassword makes them, which is no body of these",
		"oauth2PermissionScopes": "applications of this tenant offer none", "api.oauth2PermissionScopes": "applications of this tenant offer none", "appRoles": "applications of this tenant offer none",
	}
	for _, name := range []string{"businessPhones", "preferredLanguage", "mail", "proxyAddresses", "groupTypes", "description", "homepage", "tags", "replyUrls", "identifierUris", "requiredResourceAccess", "spa.redirectUris"} {
		out[name] = "it is not kept, and a value is refused"
	}
	return out
}
