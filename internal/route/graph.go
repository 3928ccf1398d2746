package route

// graphRows is Microsoft Graph v1.0 as far as the directory goes. The services
// behind it enforce the actions: some rows need none for oneself, and more than
// the named one where the object holds rights of its own.
func graphRows() []Row {
	var g graph
	g.memberships()
	g.people()
	g.clients()
	g.consents()
	g.roles()
	g.conditionalAccess()
	return g.rows
}

// graph collects rows.
type graph struct{ rows []Row }

func (g *graph) add(id, method, pattern, action, scope, why string) {
	limiter := "read"
	if method != "GET" {
		limiter = "write"
	}
	if action != "" {
		action = directoryActions + action
	}
	g.rows = append(g.rows, Row{ID: "graph." + id, Method: method, Pattern: "/v1.0/" + pattern, Door: Caller, Surface: Graph, Action: action, Scope: directoryActions + scope, Why: why, Limiter: limiter})
}

const (
	directoryActions = "microsoft.directory/"
	whyMembers       = "every member of the tenant reads the directory, through a client that may; the service asks more of other callers"
)

// read is a GET that every member may do through a client that may ask for the
// action.
func (g *graph) read(id, pattern, scope string) { g.add(id, "GET", pattern, "", scope, whyMembers) }

// ask is the same by POST.
func (g *graph) ask(id, pattern, scope string) { g.add(id, "POST", pattern, "", scope, whyMembers) }

// write needs the action of the caller and of its client.
func (g *graph) write(id, method, pattern, action string) {
	g.add(id, method, pattern, action, action, "")
}

func (g *graph) memberships() {
	for _, s := range []struct{ set, prefix string }{{"users", "users/{id}/"}, {"me", "me/"}, {"groups", "groups/{id}/"}, {"servicePrincipals", "servicePrincipals/{id}/"}, {"directoryObjects", "directoryObjects/{id}/"}} {
		scope := s.set + "/memberOf/read"
		if s.set != "directoryObjects" {
			g.read(s.set+".memberOf", s.prefix+"memberOf", scope)
			g.read(s.set+".transitiveMemberOf", s.prefix+"transitiveMemberOf", scope)
		}
		g.ask(s.set+".getMemberGroups", s.prefix+"getMemberGroups", scope)
		g.ask(s.set+".checkMemberGroups", s.prefix+"checkMemberGroups", scope)
		g.ask(s.set+".getMemberObjects", s.prefix+"getMemberObjects", scope)
		g.ask(s.set+".checkMemberObjects", s.prefix+"checkMemberObjects", scope)
		if s.set != "directoryObjects" && s.set != "groups" { // a group owns nothing
			g.read(s.set+".ownedObjects", s.prefix+"ownedObjects", s.set+"/standard/read")
		}
	}
}

func (g *graph) people() {
	const users, groups, members = "users/standard/read", "groups/standard/read", "groups/members/read"
	g.read("users.list", "users", users)
	g.write("users.create", "POST", "users", "users/create")
	g.read("users.get", "users/{id}", users)
	g.add("users.update", "PATCH", "users/{id}", "users/basic/update", "users/update", "") // a password or a switch asks more, or other things
	g.write("users.delete", "DELETE", "users/{id}", "users/delete")
	g.write("users.revokeSignInSessions", "POST", "users/{id}/revokeSignInSessions", "users/invalidateAllRefreshTokens")
	g.read("me.get", "me", "me/standard/read")
	g.add("me.update", "PATCH", "me", "", "me/basic/update", "the caller's own harmless properties; the service asks an action for the others")
	g.add("me.revokeSignInSessions", "POST", "me/revokeSignInSessions", "", "me/invalidateAllRefreshTokens", "everybody may sign himself out")
	g.write("users.invalidateAllRefreshTokens", "POST", "users/{id}/invalidateAllRefreshTokens", "users/invalidateAllRefreshTokens")
	g.add("me.invalidateAllRefreshTokens", "POST", "me/invalidateAllRefreshTokens", "", "me/invalidateAllRefreshTokens", "everybody may sign himself out")

	g.read("groups.list", "groups", groups)
	g.write("groups.create", "POST", "groups", "groups/create")
	g.read("groups.get", "groups/{id}", groups)
	g.write("groups.update", "PATCH", "groups/{id}", "groups/basic/update")
	g.write("groups.delete", "DELETE", "groups/{id}", "groups/delete")
	g.read("groups.members.list", "groups/{id}/members", members)
	g.read("groups.transitiveMembers.list", "groups/{id}/transitiveMembers", members)
	g.write("groups.members.add", "POST", "groups/{id}/members/$ref", "groups/members/update")
	g.write("groups.members.remove", "DELETE", "groups/{id}/members/{member}/$ref", "groups/members/update")
	g.read("groups.owners.list", "groups/{id}/owners", "groups/owners/read")
	g.write("groups.owners.add", "POST", "groups/{id}/owners/$ref", "groups/owners/update")
	g.write("groups.owners.remove", "DELETE", "groups/{id}/owners/{owner}/$ref", "groups/owners/update")
}

func (g *graph) clients() {
	for _, set := range []string{"applications", "servicePrincipals"} {
		read := set + "/standard/read"
		g.read(set+".list", set, read)
		g.write(set+".create", "POST", set, set+"/create")
		g.read(set+".get", set+"/{id}", read)
		g.write(set+".update", "PATCH", set+"/{id}", set+"/basic/update")
		g.write(set+".delete", "DELETE", set+"/{id}", set+"/delete")
		g.read(set+".owners", set+"/{id}/owners", read)
		g.write(set+".owners.add", "POST", set+"/{id}/owners/$ref", set+"/owners/update")
		g.write(set+".owners.remove", "DELETE", set+"/{id}/owners/{owner}/$ref", set+"/owners/update")
		g.write(set+".addPassword", "POST", set+"/{id}/addPassword", set+"/credentials/update")
		g.write(set+".removePassword", "POST", set+"/{id}/removePassword", set+"/credentials/update")
	}
}

// consents are the permissions that applications were given.
func (g *graph) consents() {
	const delegated, application = "servicePrincipals/managePermissionGrantsForAll.microsoft-application-admin", "servicePrincipals/managePermissionGrantsForAll.microsoft-company-admin"
	const readGrants, readRoles, policy = "oAuth2PermissionGrants/standard/read", "appRoleAssignments/standard/read", "policies/authorizationPolicy"
	g.read("oauth2PermissionGrants.list", "oauth2PermissionGrants", readGrants)
	g.write("oauth2PermissionGrants.create", "POST", "oauth2PermissionGrants", delegated)
	g.read("oauth2PermissionGrants.get", "oauth2PermissionGrants/{id}", readGrants)
	g.write("oauth2PermissionGrants.update", "PATCH", "oauth2PermissionGrants/{id}", delegated)
	g.write("oauth2PermissionGrants.delete", "DELETE", "oauth2PermissionGrants/{id}", delegated)
	g.read("servicePrincipals.oauth2PermissionGrants", "servicePrincipals/{id}/oauth2PermissionGrants", readGrants)
	for _, set := range []string{"appRoleAssignments", "appRoleAssignedTo"} {
		g.read("servicePrincipals."+set, "servicePrincipals/{id}/"+set, readRoles)
		g.write("servicePrincipals."+set+".create", "POST", "servicePrincipals/{id}/"+set, application)
		g.write("servicePrincipals."+set+".delete", "DELETE", "servicePrincipals/{id}/"+set+"/{assignment}", application)
	}
	g.read("authorizationPolicy.get", policy, "authorizationPolicy/standard/read")
	g.write("authorizationPolicy.update", "PATCH", policy, "authorizationPolicy/basic/update")
}

// conditionalAccess is not for every member to read: it says how to get around it.
func (g *graph) conditionalAccess() {
	const policies, read = "identity/conditionalAccess/policies", "conditionalAccessPolicies/allProperties/read"
	g.write("conditionalAccessPolicies.list", "GET", policies, read)
	g.write("conditionalAccessPolicies.create", "POST", policies, "conditionalAccessPolicies/create")
	g.write("conditionalAccessPolicies.get", "GET", policies+"/{id}", read)
	g.write("conditionalAccessPolicies.update", "PATCH", policies+"/{id}", "conditionalAccessPolicies/basic/update")
	g.write("conditionalAccessPolicies.delete", "DELETE", policies+"/{id}", "conditionalAccessPolicies/delete")
}

func (g *graph) roles() {
	const assign, roles, assignments = "roleAssignments/allProperties/allTasks", "directoryRoles/standard/read", "roleAssignments/standard/read"
	g.ask("directoryObjects.getByIds", "directoryObjects/getByIds", "directoryObjects/standard/read")
	g.read("directoryObjects.get", "directoryObjects/{id}", "directoryObjects/standard/read")
	for _, row := range [][2]string{{"organization.list", "organization"}, {"organization.get", "organization/{id}"}} {
		g.add(row[0], "GET", row[1], "", "organization/standard/read", "every caller may know the name of its own tenant")
	}
	g.read("directoryRoleTemplates.list", "directoryRoleTemplates", roles)
	g.read("directoryRoleTemplates.get", "directoryRoleTemplates/{id}", roles)
	g.read("directoryRoles.list", "directoryRoles", roles)
	g.add("directoryRoles.activate", "POST", "directoryRoles", "", roles, "every role is active; nothing changes")
	g.read("directoryRoles.get", "directoryRoles/{id}", roles)
	g.read("directoryRoles.members", "directoryRoles/{id}/members", "directoryRoles/members/read")
	g.write("directoryRoles.members.add", "POST", "directoryRoles/{id}/members/$ref", assign)
	g.write("directoryRoles.members.remove", "DELETE", "directoryRoles/{id}/members/{member}/$ref", assign)
	g.read("roleDefinitions.list", "roleManagement/directory/roleDefinitions", "roleDefinitions/standard/read")
	g.read("roleDefinitions.get", "roleManagement/directory/roleDefinitions/{id}", "roleDefinitions/standard/read")
	g.read("roleAssignments.list", "roleManagement/directory/roleAssignments", assignments)
	g.write("roleAssignments.create", "POST", "roleManagement/directory/roleAssignments", assign)
	g.read("roleAssignments.get", "roleManagement/directory/roleAssignments/{id}", assignments)
	g.write("roleAssignments.delete", "DELETE", "roleManagement/directory/roleAssignments/{id}", assign)
}
