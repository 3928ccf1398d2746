package server

import (
	"strings"
	"testing"

	"sallyport/internal/rbac"
)

// The owner of a subscription, or of a management group, does not take it away from
// those who govern the management group that it is in.
func TestEscalation_OutOfAManagementGroup(t *testing.T) {
	c := newCastle(t)
	sub := c.subscription()
	c.person("mallory")
	for _, name := range []string{"company", "mine"} {
		c.put(managementGroups+"/"+name, `{}`)
	}
	team := c.put(managementGroups+"/team", `{"properties":{"details":{"parent":{"id":"`+managementGroups+`/company"}}}}`)
	for _, at := range []string{sub, team, managementGroups + "/mine"} {
		c.assign(at, rbac.Owner, c.ids["mallory"])
	}
	away := versioned(managementGroups + "/mine" + sub)
	c.want(200, "mallory", "PUT", away, "") // out of the root management group, as in Azure
	c.want(200, "admin", "PUT", versioned(managementGroups+"/company"+sub), "")
	c.want(403, "mallory", "PUT", away, "")
	c.want(403, "mallory", "DELETE", versioned(managementGroups+"/company"+sub), "")
	c.want(403, "mallory", "PATCH", versioned(team), `{"parentGroupId":"`+managementGroups+`/mine"}`)
	c.want(403, "mallory", "PUT", versioned(team), `{"properties":{"details":{"parent":{"id":"`+managementGroups+`/mine"}}}}`)
	c.want(200, "mallory", "PATCH", versioned(team), `{"displayName":"mine"}`)
	if up := c.leaf(team, "properties.details.parent.name"); up != "company" {
		t.Errorf("the group is in %v", up)
	}
	if name := strings.TrimPrefix(sub, "/subscriptions/"); c.leaf(managementGroups+"/company/subscriptions/"+name, "name") != name {
		t.Error("the subscription is gone")
	}
	c.assign(managementGroups+"/company", rbac.Contributor, c.ids["mallory"])
	c.want(200, "mallory", "PUT", away, "")
	c.want(200, "mallory", "PATCH", versioned(team), `{"parentGroupId":"`+managementGroups+`/mine"}`)
}

// Nothing is made where nothing is, nor moved by another location in a PUT; names that
// only look like a location, or like what is there, are none.
func TestWriters_WhereNothingIs(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	nsg := sub + "/resourceGroups/RG/providers/Microsoft.Network/networkSecurityGroups/"
	for _, location := range []string{"nowhere", "westeurope2", "west", "", "*", "westeurope\u0130", "we\u017fteurope", "west-europe", "../westeurope"} {
		for _, at := range []string{nsg + "lost", sub + "/resourceGroups/Lost"} {
			got := c.send("PUT", versioned(at), map[string]any{"location": location}, nil)
			if !got.proper() || got.status != 400 || !strings.HasPrefix(got.code, "Location") {
				t.Errorf("%s at %q: %d %s", at, location, got.status, got.text)
			}
			if made := c.send("GET", versioned(at), nil, nil); made.status != 404 {
				t.Errorf("%s at %q: %d %s", at, location, made.status, made.text)
			}
		}
	}
	for _, at := range []string{nsg + "base", sub + "/resourceGroups/RG"} {
		if got := c.send("PUT", versioned(at), map[string]any{"location": "northeurope"}, nil); got.status != 409 || c.leaf(at, "location") != "westeurope" {
			t.Errorf("%s to another location: %d %s", at, got.status, got.text)
		}
		if got := c.send("PUT", versioned(at), map[string]any{"location": "West Europe"}, nil); !got.fine() {
			t.Errorf("%s as it is written elsewhere: %d %s", at, got.status, got.text)
		}
	}
}

// A body that names another subscription, another name or another type does not reach
// what it names: the address says it.
func TestWriters_TheAddressSaysIt(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	nsg := sub + "/resourceGroups/RG/providers/Microsoft.Network/networkSecurityGroups/"
	foreign := "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/RG"
	was := written(c.send("GET", versioned(nsg+"second"), nil, nil).body)
	for _, method := range []string{"PUT", "PATCH"} {
		body := map[string]any{"id": nsg + "second", "name": "second", "type": "Microsoft.Authorization/roleAssignments", "tags": map[string]any{"x": method}}
		if method == "PUT" {
			body["location"] = "westeurope"
		}
		got := c.send(method, versioned(nsg+"base"), body, nil)
		if id, _ := at(got.body, "id"); !got.fine() || id != nsg+"base" || c.leaf(nsg+"base", "type") != "Microsoft.Network/networkSecurityGroups" {
			t.Errorf("%s: %d %s", method, got.status, got.text)
		}
	}
	if now := written(c.send("GET", versioned(nsg+"second"), nil, nil).body); now != was {
		t.Errorf("another one changed: %s, was %s", now, was)
	}
	for what, got := range map[string]reply{
		"a move to another subscription": c.send("POST", versioned(sub+"/resourceGroups/RG/moveResources"), map[string]any{"resources": []any{nsg + "base"}, "targetResourceGroup": foreign}, nil),
		"a part of another subscription": c.send("PUT", versioned(sub+"/resourceGroups/RG/providers/Microsoft.Network/networkInterfaces/far"), parsed(`{"location":"westeurope","properties":{"ipConfigurations":[{"name":"a","properties":{"publicIPAddress":{"id":"`+foreign+`/providers/Microsoft.Network/publicIPAddresses/p"}}}]}}`), nil),
		"a group of groups elsewhere":    c.send("PUT", versioned(managementGroups+"/far"), parsed(`{"properties":{"details":{"parent":{"id":"`+foreign+`"}}}}`), nil),
		"a subscription that is none":    c.send("PUT", versioned(managementGroups+"/"+strings.TrimPrefix(c.leaf(managementGroups, "value[0].id").(string), managementGroups+"/")+"/subscriptions/11111111-2222-4333-8444-555555555555"), nil, nil),
		"an encoded slash":               c.send("PUT", versioned(nsg+"a%2Fb"), map[string]any{"location": "westeurope"}, nil),
		"a Turkish i":                    c.send("PUT", versioned(nsg+"f%C4%B0rewall"), map[string]any{"location": "westeurope"}, nil),
		"a Kelvin sign for a k":          c.send("PUT", versioned(nsg+"networ%E2%84%AA"), map[string]any{"location": "westeurope"}, nil),
		"a management group of the same": c.send("PUT", versioned(managementGroups+"/%C4%B1mpostor"), map[string]any{}, nil),
	} {
		if !got.proper() {
			t.Errorf("%s: %d %s", what, got.status, got.text)
		}
	}
}
