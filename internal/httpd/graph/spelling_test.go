package graph_test

import (
	"strings"
	"testing"
)

// The spellings of OData that Microsoft's SDKs and PowerShell modules use.
func TestGraph_Spellings(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	app, sp, appID := w.principal("deploy")
	group := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"crew","mailEnabled":false,"mailNickname":"crew","securityEnabled":true}`, 201), "id")
	add := "/v1.0/groups/" + group + "/members/$ref"
	w.do(w.admin, "POST", add, `{"@odata.id":"https://graph.microsoft.com/v1.0/directoryObjects('`+sp+`')"}`, 204)
	w.do(w.admin, "POST", add, `{"@odata.id":"https://graph.microsoft.com/v1.0/users/`+alice+`"}`, 204)
	for path, id := range map[string]string{
		"applications(appId='" + appID + "')":                      app,
		"applications(appId=%27" + strings.ToUpper(appID) + "%27)": app,
		"servicePrincipals(appId='" + appID + "')":                 sp,
		"servicePrincipals('" + sp + "')":                          sp,
		"users('" + alice + "')":                                   alice,
		"users('alice@corp.example')":                              alice,
		"users(userPrincipalName='ALICE@corp.example')":            alice,
		"USERS/alice%40corp.example":                               alice,
	} {
		if got := w.do(w.admin, "GET", "/v1.0/"+path+"?$select=id", "", 200); str(got, "id") != id {
			t.Errorf("%s: %v, want %s", path, got, id)
		}
	}
	nobody := "99999999-9999-4999-8999-999999999999"
	for _, path := range []string{"applications(appId='" + nobody + "')", "applications(id='" + app + "')", "servicePrincipals(appId='" + nobody + "')", "servicePrincipals(appId='" + appID + "'x')", "users(userPrincipalName='nobody@corp.example')",
		"users(userPrincipalName='')", "users(userPrincipalName='" + alice + "')",
		"users(mail='alice@corp.example')", "groups(displayName='crew')", "users/" + alice + "/$count", "me/$count", "users/microsoft.graph.user", "users/" + alice + "/microsoft.graph.user", "groups/" + group + "/members/microsoft.graph.nosuch", "organization/$ref"} {
		w.do(w.admin, "GET", "/v1.0/"+path, "", 404)
	}
	// A script whose variable is empty does nothing to whoever runs it.
	w.do(w.admin, "PATCH", "/v1.0/users(userPrincipalName='')", `{"mobilePhone":"1"}`, 404)
	w.do(w.admin, "POST", "/v1.0/users(userPrincipalName='')/revokeSignInSessions", "", 404)
	// Another key is no way around a right: who may not change it by its id may not by that.
	for _, at := range []string{"applications/" + app, "applications(appId='" + appID + "')", "servicePrincipals(appId='" + appID + "')"} {
		w.do(alice, "POST", "/v1.0/"+at+"/addPassword", `{}`, 403)
		w.do(alice, "DELETE", "/v1.0/"+at, "", 403)
	}
	// A list cut down to one kind of members.
	members := "/v1.0/groups/" + group + "/members"
	for cast, id := range map[string]string{"microsoft.graph.user": alice, "graph.user": alice, "microsoft.graph.servicePrincipal": sp, "Microsoft.Graph.ServicePrincipal": sp} {
		if got := values(w.do(w.admin, "GET", members+"/"+cast, "", 200)); len(got) != 1 || str(got[0], "id") != id {
			t.Errorf("%s: %v", cast, got)
		}
	}
	if got := values(w.do(w.admin, "GET", members+"/microsoft.graph.group?$top=1", "", 200)); len(got) != 0 {
		t.Error(got)
	}
	if got := values(w.do(w.admin, "GET", "/v1.0/users/"+alice+"/transitiveMemberOf/microsoft.graph.group", "", 200)); len(got) != 1 || str(got[0], "id") != group {
		t.Error(got)
	}
	w.do(w.admin, "GET", "/v1.0/users/"+alice+"/transitiveMemberOf/microsoft.graph.directoryRole", "", 200)
	w.do(w.admin, "GET", "/v1.0/servicePrincipals/"+sp+"/appRoleAssignments/microsoft.graph.user", "", 404)
	if got := values(w.do(w.admin, "POST", "/v1.0/directoryObjects/microsoft.graph.getByIds?$select=id", `{"ids":["`+alice+`"]}`, 200)); len(got) != 1 || len(got[0]) != 2 {
		t.Error(got)
	}
	w.do(w.admin, "POST", "/v1.0/users/"+alice+"/microsoft.graph.revokeSignInSessions", "", 200)
	// Nobody reads a query option of a write.
	for _, path := range []string{"users/" + alice + "?$select=id", "users/" + alice + "?filter=x", "users/" + alice + "?%24expand=x"} {
		w.do(w.admin, "PATCH", "/v1.0/"+path, `{"jobTitle":"x"}`, 400)
	}
}
