package arm_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/internal/rbac"
)

const (
	mine  = "/subscriptions/" + subID + "/resourceGroups/mine"
	grant = "/providers/Microsoft.Authorization/roleAssignments/"
)

func assignment(role, principal string) string {
	return `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/` + role + `","principalId":"` + principal + `"}}`
}

// An owner of one resource group reaches no other, however the address is
// written: the decision is about the very id that is acted on.
func TestAbuse_OneGroupsOwnerReachesNoOther(t *testing.T) {
	s := newServer(t)
	for _, g := range []string{group, mine} {
		if a, v := s.call(admin, "PUT", g, `{"location":"southcentralus"}`); a.StatusCode != http.StatusCreated {
			t.Fatal(v)
		}
	}
	const id, theirs = "00000000-0000-4000-8000-0000000000b1", "00000000-0000-4000-8000-0000000000b2"
	if a, v := s.call(admin, "PUT", mine+grant+id, assignment(rbac.Owner, nobody)); a.StatusCode != http.StatusCreated {
		t.Fatal(v)
	}
	if a, v := s.call(admin, "PUT", group+grant+theirs, assignment(rbac.VMUserLogin, admin)); a.StatusCode != http.StatusCreated {
		t.Fatal(v)
	}
	vnet := "/providers/Microsoft.Network/virtualNetworks/v"
	body := `{"location":"southcentralus","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]}}}`
	if a, v := s.call(nobody, "PUT", "//SUBSCRIPTIONS/"+subID+"/resourcegroups/MINE"+vnet, body); a.StatusCode != http.StatusCreated {
		t.Fatalf("his own group: %v", v)
	}
	const refused, shape, unknown = http.StatusForbidden, http.StatusBadRequest, http.StatusNotFound
	up := strings.TrimPrefix(group, "/subscriptions/"+subID+"/resourceGroups")
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", group + vnet, body, refused},
		{"PUT", strings.ToUpper(group) + vnet, body, refused},
		{"DELETE", group, "", refused},
		{"PATCH", group, `{"tags":{"a":"b"}}`, refused},
		{"GET", group, "", refused},
		{"PUT", group + "2", `{"location":"southcentralus"}`, refused},
		{"PUT", mine + "2" + vnet, body, refused}, // a group whose name begins like his
		{"GET", mine + "/%2e%2e" + up, "", shape},
		{"GET", mine + "%2F.." + up, "", shape},
		{"GET", mine + "/../AzureADLinuxVM", "", shape},
		{"GET", mine + "%5c..%5cAzureADLinuxVM", "", shape},
		{"GET", mine + "%00", "", shape},
		{"GET", mine + "%20", "", shape},
		{"PUT", mine + "/providers/Microsoft.Network/virtualNetworks/a%2fb", body, shape},
		{"PUT", mine + "/providers/Microsoft.Network/virtualNetworks/providers", body, shape},
		{"PUT", mine + "/providers/Microsoft.Network/virtualNetworks/-oProxyCommand", body, shape},
		{"PUT", group + grant + id, assignment(rbac.Owner, nobody), refused},
		{"PUT", "/subscriptions/" + subID + grant + "00000000-0000-4000-8000-0000000000b3", assignment(rbac.Owner, nobody), refused},
		{"PUT", grant + "00000000-0000-4000-8000-0000000000b3", assignment(rbac.Owner, nobody), refused},
		{"PUT", "/microsoft.directory" + grant + "00000000-0000-4000-8000-0000000000b3", assignment(rbac.GlobalAdministrator, nobody), refused},
		{"PUT", "/providers/Microsoft.Management/managementGroups/" + tenantID + grant + "00000000-0000-4000-8000-0000000000b3", assignment(rbac.Owner, nobody), refused},
		{"DELETE", group + grant + theirs, "", refused},
		{"PUT", mine + grant + theirs, assignment(rbac.Owner, nobody), http.StatusConflict},      // another's assignment by its name, from his own scope
		{"PUT", mine + grant + theirs, assignment(rbac.VMUserLogin, admin), http.StatusConflict}, // the very same, moved to his scope
		{"PUT", mine + grant + "00000000-0000-4000-8000-0000000000f1", assignment(rbac.Owner, nobody), http.StatusConflict},
		{"DELETE", mine + grant + theirs, "", http.StatusNoContent}, // nothing there, says Azure, and nothing happens
		{"GET", mine + grant + theirs, "", unknown},
		{"PUT", mine + vnet + grant + "00000000-0000-4000-8000-0000000000b4", strings.Replace(assignment(rbac.Owner, nobody), `{"properties":{`, `{"properties":{"scope":"`+group+`",`, 1), shape},
		{"GET", "/providers/Sallyport.Access/auditRecords", "", refused},
		{"POST", "/providers/Sallyport.Access/verifyAudit", "", refused},
		{"GET", "/providers/Sallyport.Access/restore", "", refused},
		{"POST", "/providers/Sallyport.Access/confirmRestore", `{"restoreId":"r"}`, refused},
		{"PUT", "/providers/Microsoft.Management/managementGroups/x", `{"properties":{}}`, refused},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)) // some answers are no JSON
		r.Header.Set("Authorization", "Bearer "+nobody)
		w := httptest.NewRecorder()
		s.front.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, w.Code, w.Body, c.want)
		}
	}
	for path, want := range map[string]string{group + grant + theirs: rbac.VMUserLogin, "/providers/Microsoft.Management/managementGroups/" + tenantID + grant + "00000000-0000-4000-8000-0000000000f1": rbac.Owner} {
		a, v := s.call(admin, "GET", path, "")
		if role, _ := dig(v, "properties", "roleDefinitionId").(string); a.StatusCode != http.StatusOK || !strings.HasSuffix(role, want) {
			t.Errorf("%s: %d %v", path, a.StatusCode, v)
		}
	}
	if a, v := s.call(admin, "GET", group+vnet, ""); a.StatusCode != unknown {
		t.Errorf("it was made all the same: %v", v)
	}
}
