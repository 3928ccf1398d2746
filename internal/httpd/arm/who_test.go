package arm_test

import (
	"net/http"
	"testing"

	domain "sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// access answers with what it was asked.
type access struct{}

func (access) WhoCanLogIn(at scope.ID) []domain.Entrant {
	return []domain.Entrant{{Principal: domain.Account{ID: nobody}, Access: protocol.Login, Through: domain.Through{Scope: at.String()}}}
}

func (access) Explain(q domain.Question) (domain.Explanation, error) {
	e := domain.Explanation{Principal: domain.Account{ID: q.Who}, Machine: q.ResourceID.String()}
	if !q.Visible(scope.Subscription(subID)) {
		e.Hidden = 1
	}
	return e, nil
}

// withMachine makes what az made in the recording, as far as a machine.
func (s *server) withMachine() {
	s.t.Helper()
	const net = group + "/providers/Microsoft.Network/"
	for _, put := range [][2]string{
		{group, `{"location":"westeurope"}`},
		{net + "virtualNetworks/v", `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`},
		{net + "networkInterfaces/n", `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"c","properties":{"subnet":{"id":"` + net + `virtualNetworks/v/subnets/s"}}}]}}`},
		{machine, `{"location":"westeurope","properties":{"hardwareProfile":{"vmSize":"Standard_DS1_v2"},"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"},"osDisk":{"createOption":"fromImage"}},"networkProfile":{"networkInterfaces":[{"id":"` + net + `networkInterfaces/n"}]}}}`},
	} {
		if a, body := s.call(admin, "PUT", put[0]+version, put[1]); a.StatusCode > 201 {
			s.t.Fatalf("%s: %d %v", put[0], a.StatusCode, body)
		}
		s.work()
	}
}

func (s *server) give(principal, role, at, name string) {
	s.t.Helper()
	body := `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/` + role + `","principalId":"` + principal + `"}}`
	if a, v := s.call(admin, "PUT", at+"/providers/Microsoft.Authorization/roleAssignments/"+name+version, body); a.StatusCode != http.StatusCreated {
		s.t.Fatalf("%d %v", a.StatusCode, v)
	}
}

const version = "?api-version=2022-09-01"

func TestWhoCanLogIn_OnlyWhoMayReadAssignments(t *testing.T) {
	s := newServer(t)
	s.withMachine()
	const who = "/providers/Sallyport.Access/whoCanLogIn" + version
	for _, tc := range []struct {
		caller, at string
		status     int
	}{
		{admin, machine, 200}, {admin, group, 200}, {admin, "/subscriptions/" + subID, 200}, {admin, "", 403}, {admin, machine + "2", 404}, {admin, "/providers/Microsoft.Management/managementGroups/" + tenantID, 200},
		{nobody, machine, 403}, {nobody, "", 403}, {"", machine, 401}, {admin, "/microsoft.directory", 400}, {admin, "/a/b", 400},
	} {
		a, body := s.call(tc.caller, "GET", tc.at+who, "")
		if a.StatusCode != tc.status {
			t.Errorf("%s at %q: %d %v", tc.caller, tc.at, a.StatusCode, body)
		}
		if a.StatusCode == 200 && dig(body, "value", 0, "through", "scope") != tc.at {
			t.Errorf("%s: %v", tc.at, body)
		}
	}
}

func TestExplain_OneselfOrWithTheRight(t *testing.T) {
	s := newServer(t)
	s.withMachine()
	explain := func(caller, who string) (int, any) {
		a, body := s.call(caller, "GET", machine+"/providers/Sallyport.Access/explain"+version+"&principal="+who, "")
		return a.StatusCode, body
	}
	if code, _ := explain(nobody, ""); code != 403 {
		t.Errorf("without any right on the machine: %d", code)
	}
	if code, body := explain(admin, "al@example.test"); code != 200 || dig(body, "properties", "principal", "id") != "al@example.test" || dig(body, "properties", "hiddenAssignments") != 0.0 {
		t.Errorf("%d %v", code, body)
	}
	s.give(nobody, rbac.VMUserLogin, machine, "00000000-0000-4000-8000-0000000000a1")
	if code, body := explain(nobody, ""); code != 200 || dig(body, "properties", "principal", "id") != nobody || dig(body, "properties", "hiddenAssignments") != 0.0 {
		t.Errorf("oneself: %d %v", code, body)
	}
	if code, body := explain(nobody, "U@example.test"); code != 200 || dig(body, "properties", "principal", "id") != nobody {
		t.Errorf("oneself by name: %d %v", code, body)
	}
	if code, _ := explain(nobody, admin); code != 403 {
		t.Errorf("another: %d", code)
	}
	s.give(nobody, rbac.UserAccessAdministrator, machine, "00000000-0000-4000-8000-0000000000a2")
	if code, body := explain(nobody, admin); code != 200 || dig(body, "properties", "hiddenAssignments") != 1.0 {
		t.Errorf("with the right here and not above: %d %v", code, body)
	}
	if a, _ := s.call(admin, "GET", group+"/providers/Sallyport.Access/explain"+version, ""); a.StatusCode != 400 {
		t.Errorf("a group is a machine: %d", a.StatusCode)
	}
}
