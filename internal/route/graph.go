package route

// graphRows is Microsoft Graph v1.0 as far as the directory goes. The services
// behind it enforce the actions: some rows need none for oneself, and more than
// the named one where the object holds rights of its own.
func graphRows() []Row {
	const (
		dir     = "microsoft.directory/"
		members = "every member of the tenant reads the directory; the service asks more of other callers"
	)
	var rows []Row
	add := func(id, method, pattern, action, why string) {
		limiter := "read"
		if method != "GET" {
			limiter = "write"
		}
		rows = append(rows, Row{ID: "graph." + id, Method: method, Pattern: "/v1.0/" + pattern, Door: Caller, Surface: Graph, Action: action, Why: why, Limiter: limiter})
	}
	read := func(id, pattern string) { add(id, "GET", pattern, "", members) }
	ask := func(id, pattern string) { add(id, "POST", pattern, "", members) }
	write := func(id, method, pattern, action string) { add(id, method, pattern, dir+action, "") }

	for _, s := range []struct{ set, prefix string }{{"users", "users/{id}/"}, {"me", "me/"}, {"groups", "groups/{id}/"}, {"servicePrincipals", "servicePrincipals/{id}/"}, {"directoryObjects", "directoryObjects/{id}/"}} {
		if s.set != "directoryObjects" {
			read(s.set+".memberOf", s.prefix+"memberOf")
			read(s.set+".transitiveMemberOf", s.prefix+"transitiveMemberOf")
		}
		ask(s.set+".getMemberGroups", s.prefix+"getMemberGroups")
		ask(s.set+".checkMemberGroups", s.prefix+"checkMemberGroups")
	}

	read("users.list", "users")
	write("users.create", "POST", "users", "users/create")
	read("users.get", "users/{id}")
	write("users.update", "PATCH", "users/{id}", "users/basic/update")
	write("users.delete", "DELETE", "users/{id}", "users/delete")
	write("users.revokeSignInSessions", "POST", "users/{id}/revokeSignInSessions", "users/invalidateAllRefreshTokens")
	read("me.get", "me")
	add("me.update", "PATCH", "me", "", "the caller's own harmless properties; the service asks an action for the others")
	add("me.revokeSignInSessions", "POST", "me/revokeSignInSessions", "", "everybody may sign himself out")

	read("groups.list", "groups")
	write("groups.create", "POST", "groups", "groups/create")
	read("groups.get", "groups/{id}")
	write("groups.update", "PATCH", "groups/{id}", "groups/basic/update")
	write("groups.delete", "DELETE", "groups/{id}", "groups/delete")
	read("groups.members.list", "groups/{id}/members")
	read("groups.transitiveMembers.list", "groups/{id}/transitiveMembers")
	write("groups.members.add", "POST", "groups/{id}/members/$ref", "groups/members/update")
	write("groups.members.remove", "DELETE", "groups/{id}/members/{member}/$ref", "groups/members/update")

	for _, set := range []string{"applications", "servicePrincipals"} {
		read(set+".list", set)
		write(set+".create", "POST", set, set+"/create")
		read(set+".get", set+"/{id}")
		write(set+".update", "PATCH", set+"/{id}", set+"/basic/update")
		write(set+".delete", "DELETE", set+"/{id}", set+"/delete")
		read(set+".owners", set+"/{id}/owners")
		write(set+".addPassword", "POST", set+"/{id}/addPassword", set+"/credentials/update")
		write(set+".removePassword", "POST", set+"/{id}/removePassword", set+"/credentials/update")
	}

	ask("directoryObjects.getByIds", "directoryObjects/getByIds")
	read("directoryObjects.get", "directoryObjects/{id}")
	add("organization.list", "GET", "organization", "", "every caller may know the name of its own tenant")
	add("organization.get", "GET", "organization/{id}", "", "every caller may know the name of its own tenant")
	read("directoryRoles.list", "directoryRoles")
	read("directoryRoles.members", "directoryRoles/{id}/members")
	read("roleDefinitions.list", "roleManagement/directory/roleDefinitions")
	read("roleDefinitions.get", "roleManagement/directory/roleDefinitions/{id}")
	read("roleAssignments.list", "roleManagement/directory/roleAssignments")
	write("roleAssignments.create", "POST", "roleManagement/directory/roleAssignments", "roleAssignments/allProperties/allTasks")
	read("roleAssignments.get", "roleManagement/directory/roleAssignments/{id}")
	write("roleAssignments.delete", "DELETE", "roleManagement/directory/roleAssignments/{id}", "roleAssignments/allProperties/allTasks")
	return rows
}
