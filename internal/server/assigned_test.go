package server

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
)

const armVersion = "?api-version=2024-07-01"

// withGroup makes a group with what a machine needs, a machine in it, and an
// identity; it returns their ids.
func (c *castle) withGroup(name string) (group, vm, identity string) {
	c.t.Helper()
	group = c.subscription() + "/resourceGroups/" + name
	network := group + "/providers/Microsoft.Network/"
	c.want(201, "admin", "PUT", group+armVersion, `{"location":"westeurope"}`)
	c.want(201, "admin", "PUT", network+"virtualNetworks/net"+armVersion, `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`)
	c.want(201, "admin", "PUT", network+"networkInterfaces/nic"+armVersion, `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"ip","properties":{"subnet":{"id":"`+network+`virtualNetworks/net/subnets/s"}}}]}}`)
	vm, identity = group+"/providers/Microsoft.Compute/virtualMachines/vm", group+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai"
	c.want(201, "admin", "PUT", vm+armVersion, `{"location":"westeurope","properties":{"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"}},"networkProfile":{"networkInterfaces":[{"id":"`+network+`networkInterfaces/nic"}]}}}`)
	c.want(201, "admin", "PUT", identity+armVersion, `{"location":"westeurope"}`)
	return group, vm, identity
}

func assigning(identity string) string {
	return `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + identity + `":{}}}}`
}

func (c *castle) principalOf(identity string) string {
	p, _ := c.want(200, "admin", "GET", identity+armVersion, "")["properties"].(map[string]any)
	return c.text(p, "principalId")
}

// Whoever is root on a machine may act as its identities: nobody assigns one to a
// machine that holds more than he does, whatever he may do with both.
func TestEscalation_StrongerIdentityOnAMachine(t *testing.T) {
	c := newCastle(t)
	group, vm, identity := c.withGroup("rg")
	mallory := c.person("mallory")
	c.assign(group, rbac.Contributor, mallory)
	grant := c.assign(c.subscription(), rbac.Owner, c.principalOf(identity))
	out := c.want(403, "mallory", "PATCH", vm+armVersion, assigning(identity))
	if e, _ := out["error"].(map[string]any); !strings.Contains(c.text(e, "message"), "holds roles that you do not hold") {
		t.Errorf("%v", out)
	}
	// In a template he is the same.
	out = c.want(201, "mallory", "PUT", group+"/providers/Microsoft.Resources/deployments/d"+armVersion, `{"properties":{"mode":"Incremental","template":{"$schema":"x","contentVersion":"1.0.0.0","resources":[{"type":"Microsoft.Compute/virtualMachines","apiVersion":"2024-07-01","name":"vm","location":"westeurope",
"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+identity+`":{}}},"properties":{"networkProfile":{"networkInterfaces":[{"id":"`+group+`/providers/Microsoft.Network/networkInterfaces/nic"}]}}}]}}}`)
	if p, _ := out["properties"].(map[string]any); p["provisioningState"] != "Failed" || !strings.Contains(fmt.Sprint(p["error"]), "holds roles that you do not hold") {
		t.Errorf("in a template: %v", out)
	}
	if shown := c.want(200, "admin", "GET", vm+armVersion, ""); shown["identity"] != nil {
		t.Fatalf("assigned all the same: %v", shown)
	}
	c.want(200, "admin", "PATCH", vm+armVersion, assigning(identity)) // who holds as much
	c.want(200, "admin", "PATCH", vm+armVersion, `{"identity":{"type":"None"}}`)
	// Weaker than he is, he may; without the right to assign it, nobody may.
	c.want(200, "admin", "DELETE", assignmentPath(c.subscription(), grant), "")
	c.want(200, "mallory", "PATCH", vm+armVersion, assigning(identity))
	c.want(200, "mallory", "PATCH", vm+armVersion, `{"identity":{"type":"None"}}`)
	// What it holds through groups, it holds.
	outer, inner := c.group("outer", false), c.group("inner", false)
	c.want(204, "admin", "POST", "/v1.0/groups/"+outer+"/members/$ref", ref(inner))
	c.want(204, "admin", "POST", "/v1.0/groups/"+inner+"/members/$ref", ref(c.principalOf(identity)))
	grant = c.assign(c.subscription(), rbac.Owner, outer)
	c.want(403, "mallory", "PATCH", vm+armVersion, assigning(identity))
	c.want(200, "admin", "DELETE", assignmentPath(c.subscription(), grant), "")
	operator := c.person("operator")
	c.assign(vm, rbac.Contributor, operator)
	c.want(403, "operator", "PATCH", vm+armVersion, assigning(identity))
	c.assign(identity, rbac.Contributor, operator)
	c.want(200, "operator", "PATCH", vm+armVersion, assigning(identity))
}

// A machine gets tokens of what is assigned to it and of nothing else, and an
// identity that is deleted is gone everywhere at once.
func TestIdentity_AssignedToAMachine(t *testing.T) {
	r := newRobot(t)
	_, _, identity := r.withGroup("other")
	other := strings.Replace(identity, "/uai", "/second", 1)
	r.want(201, "admin", "PUT", other+armVersion, `{"location":"westeurope"}`)
	assigned := func(at string) resource.Assigned {
		p, _ := r.want(200, "admin", "GET", at+armVersion, "")["properties"].(map[string]any)
		return resource.Assigned{ID: at, PrincipalID: r.text(p, "principalId"), ClientID: r.text(p, "clientId")}
	}
	one, two := assigned(identity), assigned(other)
	ask := func(q protocol.IdentityTokenRequest) (string, string) {
		q.Resource, q.Caller = "https://management.azure.com/", "root"
		answer, err := (identities{r.d}).IdentityToken(t.Context(), r.by, q)
		if err != nil {
			return "", fault.As(err).Text
		}
		return answer.ObjectID, answer.AccessToken
	}
	named := func(a resource.Assigned) protocol.IdentityTokenRequest {
		return protocol.IdentityTokenRequest{ClientID: strings.ToUpper(a.ClientID)}
	}
	own := &resource.Identity{Type: "SystemAssigned, UserAssigned", PrincipalID: robotID, Assigned: []resource.Assigned{one}}
	r.put(own)
	for want, q := range map[string]protocol.IdentityTokenRequest{robotID: {}, one.PrincipalID: {ResourceID: strings.ToLower(identity), ObjectID: one.PrincipalID}} {
		if id, text := ask(q); id != want {
			t.Errorf("%+v: %q %s", q, id, text)
		}
	}
	if names, _ := r.want(200, "admin", "GET", "/v1.0/servicePrincipals/"+one.PrincipalID, "")["alternativeNames"].([]any); len(names) != 2 || names[0] != "isExplicit=True" || names[1] != identity {
		t.Errorf("Graph tells it from a machine's own by %v", names)
	}
	if id, text := ask(named(one)); id != one.PrincipalID {
		t.Errorf("by client id: %q %s", id, text)
	}
	if id, text := ask(protocol.IdentityTokenRequest{ResourceID: r.vm}); id != robotID {
		t.Errorf("the machine's own by its id: %q %s", id, text)
	}
	for _, q := range []protocol.IdentityTokenRequest{named(two), {ObjectID: two.PrincipalID}, {ResourceID: other}, {ClientID: one.ClientID, ObjectID: robotID}, {ObjectID: r.ids["admin"]}} {
		if id, text := ask(q); id != "" || !strings.Contains(text, "Identity not found") {
			t.Errorf("%+v gives %q: %s", q, id, text)
		}
	}
	r.put(&resource.Identity{Type: "UserAssigned", Assigned: []resource.Assigned{one}})
	id, token := ask(protocol.IdentityTokenRequest{})
	if id != one.PrincipalID {
		t.Fatalf("the only one: %q %s", id, token)
	}
	r.put(&resource.Identity{Type: "UserAssigned", Assigned: []resource.Assigned{one, two}})
	if id, text := ask(protocol.IdentityTokenRequest{}); id != "" || !strings.Contains(text, "Multiple user assigned identities exist") {
		t.Errorf("two and none named: %q %s", id, text)
	}
	sub := r.subscription() + "?api-version=2022-12-01"
	r.assign(r.subscription(), rbac.Reader, one.PrincipalID)
	if code, body := r.ask(token, "GET", sub, ""); code != 200 {
		t.Errorf("with a role: %d %s", code, body)
	}
	r.want(200, "admin", "DELETE", identity+armVersion, "")
	if code, body := r.ask(token, "GET", sub, ""); code != 401 {
		t.Errorf("the identity is deleted: %d %s", code, body)
	}
	if id, text := ask(named(one)); id != "" {
		t.Errorf("a deleted identity: %q %s", id, text)
	}
	if w, ok := r.d.wanted.Want(robotMachine); !ok || len(w.Assigned) != 1 || w.Assigned[0].ID != other {
		t.Errorf("what is left: %+v", w.Assigned)
	}
	r.want(201, "admin", "PUT", identity+armVersion, `{"location":"westeurope"}`) // of the same name, another principal
	if again := r.principalOf(identity); again == one.PrincipalID || again == "" {
		t.Errorf("it came back: %s", again)
	}
}
