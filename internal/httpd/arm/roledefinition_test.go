package arm_test

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/resource/types"
)

// The calls and the answers of az role definition create, list and delete.
func TestRoleDefinitions_OnTheWire(t *testing.T) {
	s := newServer(t)
	const sub = "/subscriptions/" + subID
	const definition = sub + "/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-4000-8000-0000000000e1"
	const body = `{"properties":{"roleName":"VM Operator","description":"d","permissions":[{"actions":["Microsoft.Compute/virtualMachines/start/action"],"notActions":[],"dataActions":[],"notDataActions":[]}],"assignableScopes":["` + sub + `"]}}`
	if a, _ := s.call(nobody, "PUT", definition+version, body); a.StatusCode != http.StatusForbidden {
		t.Errorf("anybody makes roles: %d", a.StatusCode)
	}
	a, v := s.call(admin, "PUT", definition+version, body)
	if a.StatusCode != http.StatusCreated || dig(v, "properties", "type") != "CustomRole" || dig(v, "id") != definition || dig(v, "properties", "createdBy") != admin {
		t.Fatalf("%d %v", a.StatusCode, v)
	}
	_, v = s.call(admin, "GET", sub+"/providers/Microsoft.Authorization/roleDefinitions"+version+"&$filter="+strings.ReplaceAll("type eq 'CustomRole'", " ", "%20"), "")
	if dig(v, "value", 0, "properties", "roleName") != "VM Operator" || dig(v, "value", 1) != nil {
		t.Errorf("listed: %v", v)
	}
	if a, v := s.call(admin, "PUT", sub+"/providers/Microsoft.Authorization/roleDefinitions/"+rbac.Owner+version, body); a.StatusCode != http.StatusBadRequest || dig(v, "error", "code") != "RoleDefinitionIsBuiltIn" {
		t.Errorf("Owner changed: %d %v", a.StatusCode, v)
	}
	s.give(nobody, "00000000-0000-4000-8000-0000000000e1", sub, "00000000-0000-4000-8000-0000000000a1")
	if a, v := s.call(admin, "DELETE", definition+version, ""); a.StatusCode != http.StatusBadRequest || dig(v, "error", "code") != "RoleDefinitionHasAssignments" {
		t.Errorf("deleted while assigned: %d %v", a.StatusCode, v)
	}
	s.call(admin, "DELETE", sub+"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-0000000000a1"+version, "")
	if a, v := s.call(admin, "DELETE", definition+version, ""); a.StatusCode != http.StatusOK || dig(v, "properties", "roleName") != "VM Operator" {
		t.Errorf("%d %v", a.StatusCode, v)
	}
	if a, _ := s.call(admin, "DELETE", definition+version, ""); a.StatusCode != http.StatusNoContent {
		t.Errorf("deleted twice: %d", a.StatusCode)
	}
}

// Every action that a row asks for can be granted by a custom role.
func TestRoleDefinitions_KnowEveryActionOfTheRows(t *testing.T) {
	s := newServer(t)
	a := types.Authorization{Engine: s.engine, Roles: rbac.NewIndex(nil)}
	for _, r := range rows() {
		if r.Action != "" && !a.Operation(r.Action) {
			t.Errorf("%s asks for %s, which no custom role can name", r.ID, r.Action)
		}
	}
}
