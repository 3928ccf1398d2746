package route

// graphRows is Microsoft Graph v1.0 as far as the directory goes. The services
// behind it enforce the actions: some rows need none for oneself, and more than
// the named one where the object holds rights of its own.
func graphRows() []Row {
	var g graph
	g.memberships()
	g.people()
	g.clients()
	g.roles()
	return g.rows
}

// graph collects rows.
type graph struct{ rows []Row }

func (g *graph) add(id, method, pattern, action, why string) {
	limiter := "read"
	if method != "GET" {
		limiter = "write"
	}
	g.rows = append(g.rows, Row{ID: "graph." + id, Method: method, Pattern: "/v1.0/" + pattern, Door: Caller, Surface: Graph, Action: action, Why: why, Limiter: limiter})
}

const whyMembers = "every member of the tenant reads the directory; the service asks more of other callers"

func (g *graph) read(id, pattern string) { g.add(id, "GET", pattern, "", whyMembers) }

func (g *graph) ask(id, pattern string) { g.add(id, "POST", pattern, "", whyMembers) }

func (g *graph) write(id, method, pattern, action string) {
	g.add(id, method, pattern, "microsoft.directory/"+action, "")
}

func (g *graph) memberships() {
	for _, s := range []struct{ set, prefix string }{{"users", "users/{id}/"}, {"me", "me/"}, {"groups", "groups/{id}/"}, {"servicePrincipals", "servicePrincipals/{id}/"}, {"directoryObjects", "directoryObjects/{id}/"}} {
		if s.set != "directoryObjects" {
			g.read(s.set+".memberOf", s.prefix+"memberOf")
			g.read(s.set+".transitiveMemberOf", s.prefix+"transitiveMemberOf")
		}
		g.ask(s.set+".getMemberGroups", s.prefix+"getMemberGroups")
		g.ask(s.set+".checkMemberGroups", s.prefix+"checkMemberGroups")
	}
}

func (g *graph) people() {
	g.read("users.list", "users")
	g.write("users.create", "POST", "users", "users/create")
	g.read("users.get", "users/{id}")
	g.write("users.update", "PATCH", "users/{id}", "users/basic/update")
	g.write("users.delete", "DELETE", "users/{id}", "users/delete")
	g.write("users.revokeSignInSessions", "POST", "users/{id}/revokeSignInSessions", "users/invalidateAllRefreshTokens")
	g.read("me.get", "me")
	g.add("me.update", "PATCH", "me", "", "the caller's own harmless properties; the service asks an action for the others")
	g.add("me.revokeSignInSessions", "POST", "me/revokeSignInSessions", "", "everybody may sign himself out")

	g.read("groups.list", "groups")
	g.write("groups.create", "POST", "groups", "groups/create")
	g.read("groups.get", "groups/{id}")
	g.write("groups.update", "PATCH", "groups/{id}", "groups/basic/update")
	g.write("groups.delete", "DELETE", "groups/{id}", "groups/delete")
	g.read("groups.members.list", "groups/{id}/members")
	g.read("groups.transitiveMembers.list", "groups/{id}/transitiveMembers")
	g.write("groups.members.add", "POST", "groups/{id}/members/$ref", "groups/members/update")
	g.write("groups.members.remove", "DELETE", "groups/{id}/members/{member}/$ref", "groups/members/update")
}

func (g *graph) clients() {
	for _, set := range []string{"applications", "servicePrincipals"} {
		g.read(set+".list", set)
		g.write(set+".create", "POST", set, set+"/create")
		g.read(set+".get", set+"/{id}")
		g.write(set+".update", "PATCH", set+"/{id}", set+"/basic/update")
		g.write(set+".delete", "DELETE", set+"/{id}", set+"/delete")
		g.read(set+".owners", set+"/{id}/owners")
		g.write(set+".addPassword", "POST", set+"/{id}/addPassword", set+"/credentials/update")
		g.write(set+".removePassword", "POST", set+"/{id}/removePassword", set+"/credentials/update")
	}
}

func (g *graph) roles() {
	g.ask("directoryObjects.getByIds", "directoryObjects/getByIds")
	g.read("directoryObjects.get", "directoryObjects/{id}")
	g.add("organization.list", "GET", "organization", "", "every caller may know the name of its own tenant")
	g.add("organization.get", "GET", "organization/{id}", "", "every caller may know the name of its own tenant")
	const assign = "roleAssignments/allProperties/allTasks"
	g.read("directoryRoleTemplates.list", "directoryRoleTemplates")
	g.read("directoryRoleTemplates.get", "directoryRoleTemplates/{id}")
	g.read("directoryRoles.list", "directoryRoles")
	g.add("directoryRoles.activate", "POST", "directoryRoles", "", "every role is active; nothing changes")
	g.read("directoryRoles.get", "directoryRoles/{id}")
	g.read("directoryRoles.members", "directoryRoles/{id}/members")
	g.write("directoryRoles.members.add", "POST", "directoryRoles/{id}/members/$ref", assign)
	g.write("directoryRoles.members.remove", "DELETE", "directoryRoles/{id}/members/{member}/$ref", assign)
	g.read("roleDefinitions.list", "roleManagement/directory/roleDefinitions")
	g.read("roleDefinitions.get", "roleManagement/directory/roleDefinitions/{id}")
	g.read("roleAssignments.list", "roleManagement/directory/roleAssignments")
	g.write("roleAssignments.create", "POST", "roleManagement/directory/roleAssignments", assign)
	g.read("roleAssignments.get", "roleManagement/directory/roleAssignments/{id}")
	g.write("roleAssignments.delete", "DELETE", "roleManagement/directory/roleAssignments/{id}", assign)
}
