package graph_test

import (
	"slices"
	"testing"

	"sallyport/internal/rbac"
)

func (w *world) crew(name, more string) string {
	w.t.Helper()
	return str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"`+name+`","mailEnabled":false,"mailNickname":"`+name+`","securityEnabled":true`+more+`}`, 201), "id")
}

func reference(id string) string {
	return `{"@odata.id":"https://graph.microsoft.com/v1.0/directoryObjects/` + id + `"}`
}

func idsOf(o map[string]any) []string {
	var ids []string
	for _, v := range values(o) {
		ids = append(ids, str(v, "id"))
	}
	return ids
}

func TestGroupOwners_ToldAndNoRight(t *testing.T) {
	w := newWorld(t)
	alice, bob, helpdesk := w.user("alice"), w.user("bob"), w.user("helpdesk")
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.UserAdministrator, helpdesk)
	_, sp, _ := w.principal("robot")
	g, strong := w.crew("g", ""), w.crew("strong", `,"isAssignableToRole":true`)
	at := "/v1.0/groups/" + g
	if got := idsOf(w.do(alice, "GET", at+"/owners", "", 200)); len(got) != 0 {
		t.Errorf("a new group belongs to %v", got)
	}
	w.do(helpdesk, "POST", at+"/owners/$ref", reference(alice), 204)
	w.do(w.admin, "POST", at+"/owners/$ref", reference(sp), 204)
	if got := idsOf(w.do(bob, "GET", at+"/owners", "", 200)); len(got) != 2 || !slices.Contains(got, alice) || !slices.Contains(got, sp) {
		t.Errorf("owners: %v", got)
	}
	for _, c := range []struct {
		what, who, method, path, body string
		want                          int
	}{
		// An owner has no right by it.
		{"members", alice, "POST", at + "/members/$ref", reference(alice), 403},
		{"name", alice, "PATCH", at, `{"displayName":"mine"}`, 403},
		{"owners", alice, "POST", at + "/owners/$ref", reference(bob), 403},
		{"leaving", alice, "DELETE", at + "/owners/" + alice + "/$ref", "", 403},
		{"deletion", alice, "DELETE", at, "", 403},
		{"owner that is an application", sp, "PATCH", at, `{"displayName":"mine"}`, 403},
		// Naming owners needs the role, the client's permission, and what the group gives.
		{"role-assignable group", helpdesk, "POST", "/v1.0/groups/" + strong + "/owners/$ref", reference(helpdesk), 403},
		{"client that reads", w.admin + "|Group.Read.All", "POST", at + "/owners/$ref", reference(bob), 403},
		{"client for members", w.admin + "|GroupMember.ReadWrite.All", "POST", at + "/owners/$ref", reference(bob), 403},
		{"client that reads no group", w.admin + "|User.Read.All", "GET", at + "/owners", "", 403},
		{"application that was given nothing", sp, "GET", at + "/owners", "", 403},
		{"twice", w.admin, "POST", at + "/owners/$ref", reference(alice), 400},
		{"group", w.admin, "POST", at + "/owners/$ref", reference(strong), 400},
		{"nobody", w.admin, "POST", at + "/owners/$ref", reference("99999999-9999-4999-8999-999999999999"), 404},
		{"no group", w.admin, "POST", "/v1.0/groups/" + alice + "/owners/$ref", reference(alice), 404},
		{"list of no group", w.admin, "GET", "/v1.0/groups/" + alice + "/owners", "", 404},
		{"who is none", w.admin, "DELETE", at + "/owners/" + bob + "/$ref", "", 404},
		{"the last person", w.admin, "DELETE", at + "/owners/" + alice + "/$ref", "", 400},
	} {
		if rec, _ := w.ask(c.who, c.method, c.path, c.body); rec.Code != c.want {
			t.Errorf("%s: %d %s", c.what, rec.Code, rec.Body)
		}
	}
	w.do(w.admin+"|Group.ReadWrite.All", "POST", at+"/owners/$ref", reference(bob), 204)
	w.do(w.admin, "DELETE", at+"/owners/"+alice+"/$ref", "", 204)
	w.do(w.admin, "DELETE", "/v1.0/users/"+bob, "", 204) // who is gone owns nothing
	if got := idsOf(w.do(w.admin, "GET", at+"/owners", "", 200)); !slices.Equal(got, []string{sp}) {
		t.Errorf("owners: %v", got)
	}
	w.do(w.admin, "DELETE", at+"/owners/"+sp+"/$ref", "", 204) // the last one that is no person may go
	w.do(w.admin, "POST", at+"/owners/$ref", reference(alice), 204)
	gone := w.crew("gone", "")
	w.do(w.admin, "POST", "/v1.0/groups/"+gone+"/owners/$ref", reference(alice), 204)
	w.do(w.admin, "DELETE", "/v1.0/groups/"+gone, "", 204)
	if got := idsOf(w.do(alice, "GET", "/v1.0/me/ownedObjects", "", 200)); !slices.Equal(got, []string{g}) {
		t.Errorf("alice owns %v", got)
	}
}

func TestOwnedObjects(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	app, sp, _ := w.principal("portal")
	w.principal("of another")
	g := w.crew("g", "")
	w.do(w.admin, "POST", "/v1.0/applications/"+app+"/owners/$ref", reference(alice), 204)
	for _, who := range []string{alice, sp} {
		w.do(w.admin, "POST", "/v1.0/groups/"+g+"/owners/$ref", reference(who), 204)
	}
	want := []string{app, sp, g}
	slices.Sort(want)
	for _, path := range []string{"/v1.0/me/ownedObjects", "/v1.0/users/" + alice + "/ownedObjects", "/v1.0/users/alice@corp.example/ownedObjects"} {
		if got := idsOf(w.do(alice, "GET", path, "", 200)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if got := values(w.do(bob, "GET", "/v1.0/users/"+alice+"/ownedObjects/microsoft.graph.application", "", 200)); len(got) != 1 || str(got[0], "displayName") != "portal" || str(got[0], "@odata.type") != "#microsoft.graph.application" {
		t.Errorf("applications: %v", got)
	}
	if got := idsOf(w.do(sp, "GET", "/v1.0/servicePrincipals/"+sp+"/ownedObjects", "", 200)); !slices.Equal(got, []string{g}) {
		t.Errorf("the application owns %v", got)
	}
	// What the client may not read is shown by its kind and id alone, and cannot be asked about.
	for permissions, named := range map[string]int{"User.Read": 0, "User.Read Group.Read.All": 1, "User.Read Application.Read.All": 2} {
		found := 0
		for _, o := range values(w.do(alice+"|"+permissions, "GET", "/v1.0/me/ownedObjects", "", 200)) {
			if _, shown := o["displayName"]; shown {
				found++
			} else if len(o) != 2 || str(o, "@odata.type") == "" {
				t.Errorf("%s: %v", permissions, o)
			}
		}
		if found != named {
			t.Errorf("%s shows %d of 3", permissions, found)
		}
	}
	if got := idsOf(w.do(alice+"|User.Read", "GET", "/v1.0/me/ownedObjects?$filter=displayName eq 'g'", "", 200)); len(got) != 0 {
		t.Errorf("a name that is not shown is found: %v", got)
	}
	w.do(alice+"|User.Read", "GET", "/v1.0/users/"+bob+"/ownedObjects", "", 403)
	w.do(sp, "GET", "/v1.0/users/"+alice+"/ownedObjects", "", 403)
	w.do(alice, "GET", "/v1.0/users/99999999-9999-4999-8999-999999999999/ownedObjects", "", 404)
	w.do(alice, "GET", "/v1.0/groups/"+g+"/ownedObjects", "", 404)
}

func TestMemberships_GroupsAndRoles(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	_, sp, _ := w.principal("robot")
	strong, inner, outer := w.crew("strong", `,"isAssignableToRole":true`), w.crew("inner", ""), w.crew("outer", "")
	for _, m := range [][2]string{{strong, alice}, {inner, alice}, {outer, inner}, {inner, sp}} {
		w.do(w.admin, "POST", "/v1.0/groups/"+m[0]+"/members/$ref", reference(m[1]), 204)
	}
	w.role("00000000-0000-4000-8000-0000000000a1", rbac.GlobalReader, alice)
	w.role("00000000-0000-4000-8000-0000000000a2", rbac.UserAdministrator, strong)
	set := func(ids ...string) []string { slices.Sort(ids); return ids }
	lists := func(who, path string, want []string) {
		t.Helper()
		if got := idsOf(w.do(who, "GET", path, "", 200)); !slices.Equal(got, want) {
			t.Errorf("%s %s: %v, want %v", who, path, got, want)
		}
	}
	answers := func(who, path, body string, want []string) {
		t.Helper()
		list, _ := w.do(who, "POST", path, body, 200)["value"].([]any)
		got := []string{}
		for _, v := range list {
			id, _ := v.(string)
			got = append(got, id)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s %s %s: %v, want %v", who, path, body, got, want)
		}
	}
	const all, secured = `{"securityEnabledOnly":false}`, `{"securityEnabledOnly":true}`
	at := "/v1.0/users/" + alice
	lists(bob, at+"/memberOf", set(strong, inner, rbac.GlobalReader))
	lists(bob, at+"/transitiveMemberOf", set(strong, inner, outer, rbac.GlobalReader, rbac.UserAdministrator))
	lists(bob, at+"/transitiveMemberOf/microsoft.graph.directoryRole", set(rbac.GlobalReader, rbac.UserAdministrator))
	lists(bob, at+"/transitiveMemberOf/microsoft.graph.group", set(strong, inner, outer))
	lists(alice, "/v1.0/me/memberOf?$filter=displayName eq 'Global Reader'&$select=id,roleTemplateId", set(rbac.GlobalReader))
	lists(bob, "/v1.0/groups/"+strong+"/memberOf", set(rbac.UserAdministrator))
	answers(bob, at+"/getMemberGroups", all, set(strong, inner, outer))
	answers(bob, at+"/getMemberObjects", all, set(strong, inner, outer, rbac.GlobalReader, rbac.UserAdministrator))
	answers(bob, at+"/getMemberObjects", secured, set(strong, inner, outer))
	answers(alice, "/v1.0/me/getMemberObjects", `{}`, set(strong, inner, outer, rbac.GlobalReader, rbac.UserAdministrator))
	answers(bob, "/v1.0/groups/"+inner+"/getMemberObjects", all, set(outer))
	asked := `{"ids":["` + outer + `","` + rbac.UserAdministrator + `","` + rbac.GlobalAdministrator + `"]}`
	answers(bob, "/v1.0/directoryObjects/"+alice+"/checkMemberObjects", asked, set(outer, rbac.UserAdministrator))
	answers(bob, "/v1.0/users/"+bob+"/checkMemberObjects", asked, set())
	answers(sp, "/v1.0/servicePrincipals/"+sp+"/getMemberObjects", all, set(inner, outer)) // itself
	w.do(bob, "POST", at+"/checkMemberObjects", `{"groupIds":["`+outer+`"]}`, 400)
	w.do(bob, "POST", at+"/checkMemberObjects", `{"ids":["nosuch"]}`, 400)

	// Who has a role is told to clients that may read it; the others are not told that there is none.
	groups := bob + "|Group.Read.All"
	lists(groups, at+"/transitiveMemberOf", set(strong, inner, outer))
	lists(groups+" RoleManagement.Read.Directory", at+"/memberOf", set(strong, inner, rbac.GlobalReader))
	answers(groups, at+"/getMemberObjects", secured, set(strong, inner, outer))
	w.do(groups, "POST", at+"/getMemberObjects", all, 403)
	w.do(groups, "POST", at+"/checkMemberObjects", asked, 403)
	w.do(bob+"|User.Read.All", "POST", at+"/getMemberObjects", secured, 403)
	w.do(sp, "POST", at+"/getMemberObjects", secured, 403)
	if o := w.do(bob, "GET", "/v1.0/directoryObjects/"+rbac.GlobalReader, "", 200); str(o, "@odata.type") != "#microsoft.graph.directoryRole" {
		t.Error(o)
	}
}
