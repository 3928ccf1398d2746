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
