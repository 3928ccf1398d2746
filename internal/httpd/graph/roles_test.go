package graph_test

import (
	"testing"

	"sallyport/internal/rbac"
)

// Directory roles in all the shapes that clients know, by Entra's template ids.
func TestGraph_DirectoryRolesInEveryShape(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	for _, path := range []string{"/v1.0/directoryRoles", "/v1.0/directoryRoleTemplates", "/v1.0/roleManagement/directory/roleDefinitions"} {
		if n := len(values(w.do(alice, "GET", path, "", 200))); n != 6 {
			t.Errorf("%s: %d roles", path, n)
		}
		if o := w.do(alice, "GET", path+"/"+rbac.AuthenticationAdministrator, "", 200); str(o, "displayName") != "Authentication Administrator" {
			t.Errorf("%s: %v", path, o)
		}
		w.do(alice, "GET", path+"/"+rbac.Owner, "", 404)
		if got := values(w.do(alice, "GET", path+"?$filter=displayName eq 'Security Administrator'", "", 200)); len(got) != 1 || str(got[0], "id") != rbac.SecurityAdministrator {
			t.Errorf("%s by name: %v", path, got)
		}
	}
	w.do(w.admin, "POST", "/v1.0/directoryRoles", `{"roleTemplateId":"`+rbac.GlobalReader+`"}`, 409)
	members := "/v1.0/directoryRoles/" + rbac.GlobalReader + "/members"
	ref := `{"@odata.id":"` + base + `/v1.0/directoryObjects/` + alice + `"}`
	w.do(alice, "POST", members+"/$ref", ref, 403)
	w.do(w.admin, "POST", members+"/$ref", ref, 204)
	if got := values(w.do(alice, "GET", members, "", 200)); len(got) != 1 || str(got[0], "id") != alice {
		t.Errorf("members: %v", got)
	}
	w.do(alice, "DELETE", members+"/"+alice+"/$ref", "", 403)
	w.do(w.admin, "DELETE", members+"/"+alice+"/$ref", "", 204)
	w.do(w.admin, "DELETE", members+"/"+alice+"/$ref", "", 404)
	w.do(w.admin, "DELETE", "/v1.0/directoryRoles/"+rbac.GlobalAdministrator+"/members/"+w.admin+"/$ref", "", 409)
	w.do(w.admin, "POST", "/v1.0/directoryRoles/"+rbac.Owner+"/members/$ref", ref, 404)
}

func TestGraph_RoleAssignableGroup(t *testing.T) {
	w := newWorld(t)
	plain := w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"plain","mailEnabled":false,"mailNickname":"p","securityEnabled":true}`, 201)
	crew := w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"crew","mailEnabled":false,"mailNickname":"c","securityEnabled":true,"isAssignableToRole":true}`, 201)
	if crew["isAssignableToRole"] != true || plain["isAssignableToRole"] != nil {
		t.Errorf("%v %v", crew["isAssignableToRole"], plain["isAssignableToRole"])
	}
	role := func(group string) string {
		return `{"roleDefinitionId":"` + rbac.UserAdministrator + `","principalId":"` + group + `","directoryScopeId":"/"}`
	}
	const assignments = "/v1.0/roleManagement/directory/roleAssignments"
	w.do(w.admin, "POST", assignments, role(str(plain, "id")), 400)
	w.do(w.admin, "POST", assignments, role(str(crew, "id")), 201)
	w.do(w.admin, "PATCH", "/v1.0/groups/"+str(plain, "id"), `{"isAssignableToRole":true}`, 400)
	w.do(w.admin, "PATCH", "/v1.0/groups/"+str(crew, "id"), `{"isAssignableToRole":true,"description":"d"}`, 204)
	if o := w.do(w.admin, "GET", "/v1.0/groups/"+str(crew, "id"), "", 200); o["isAssignableToRole"] != true || str(o, "description") != "d" {
		t.Errorf("after a change: %v", o)
	}
}
