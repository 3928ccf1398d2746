package types

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// TestShapes: what nobody reads has Azure's shape all the same, and what an older
// server has stored is read.
func TestShapes(t *testing.T) {
	check := func(body string) (string, error) {
		at, err := scope.Parse("/subscriptions/7b1c4a2e-6c7e-4a53-8a2a-111111111111/resourceGroups/g/providers/" + VirtualNetwork + "/v")
		if err != nil {
			t.Fatal(err)
		}
		d := resource.Draft{ID: at, Location: "westeurope", Properties: json.RawMessage(body)}
		typ := virtualNetworkType()
		if strings.Contains(body, "domainNameLabel") {
			typ = publicIPType()
		}
		err = typ.Check(&d)
		return string(d.Properties), err
	}
	for body, want := range map[string]string{
		`{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]}}`:                                     "",
		`{"addressSpace":{"addressPrefixes":["10.0.0.1/16"]}}`:                                     "InvalidCIDRNotation",
		`{"addressSpace":{"addressPrefixes":["ten"]}}`:                                             "InvalidAddressPrefixFormat",
		`{"addressSpace":{"addressPrefixes":[10]}}`:                                                "InvalidRequestContent",
		`{"addressSpace":{"prefixes":[]}}`:                                                         "InvalidRequestContent",
		`{"addressSpace":{"ipamPoolPrefixAllocations":[{"id":"x"}]}}`:                              "InvalidParameter",
		`{"dnsSettings":{"domainNameLabel":"a-name","domainNameLabelScope":"noreuse"}}`:            "",
		`{"dnsSettings":{"domainNameLabel":"A"}}`:                                                  "InvalidDomainNameLabel",
		`{"dnsSettings":{"domainNameLabel":"a-name"},"publicIPAddressVersion":"IPv5"}`:             "InvalidParameter",
		`{"dhcpOptions":{"dnsServers":["nobody"]}}`:                                                "InvalidIPAddressFormat",
		`{"subnets":[{"name":"a","properties":{"addressPrefix":"10.0.0.0/33"}}]}`:                  "InvalidAddressPrefixFormat",
		`{"subnets":[{"name":"a","properties":{"natGateway":{"id":"x"}}}]}`:                        "LinkedInvalidPropertyId",
		`{"subnets":[{"name":"a","properties":{"privateEndpointNetworkPolicies":"x"}}]}`:           "InvalidParameter",
		`{"subnets":[{"name":"a","properties":{"delegations":[{"properties":{"nosuch":true}}]}}]}`: "InvalidRequestContent",
	} {
		if _, err := check(body); want == "" && err != nil || want != "" && (err == nil || fault.As(err).Code != want || fault.As(err).Kind != fault.Invalid) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	for given, want := range map[string]string{
		`{"terminateNotificationProfile":{"notBeforeTimeout":"PT5M","enable":"true"}}`: `{"terminateNotificationProfile":{"enable":true,"notBeforeTimeout":"PT5M"}}`, // as az vmss create writes it
		`{"terminateNotificationProfile":{"enable":"False"}}`:                          `{"terminateNotificationProfile":{"enable":false}}`,
		`{"terminateNotificationProfile":{"enable":"maybe"}}`:                          "",
	} {
		var l like[scheduledEvents]
		err := l.UnmarshalJSON([]byte(given))
		if err == nil {
			err = l.fit("p")
		}
		if is, _ := l.MarshalJSON(); (err == nil) != (want != "") || err == nil && string(is) != want {
			t.Errorf("%s is kept as %s (%v)", given, is, err)
		}
	}
	var off like[capabilities]
	if err := off.UnmarshalJSON([]byte(`{"enableFips1403Encryption":false}`)); err != nil || off.fit("p") != nil {
		t.Errorf("what is off: %v", off.fit("p"))
	}
	kept, err := check(`{"subnets":[{"name":"a","properties":{"addressPrefix":"10.0.0.0/24","privateEndpointNetworkPolicies":"disabled","provisioningState":"Succeeded","delegations":[{"name":"d","id":"x"}],"routeTable":null}}]}`)
	if err != nil || !strings.Contains(kept, `"properties":{"addressPrefix":"10.0.0.0/24","delegations":[{"name":"d"}],"privateEndpointNetworkPolicies":"disabled"}`) {
		t.Errorf("kept: %s (%v)", kept, err)
	}
	var old virtualNetworkProperties
	if err := json.Unmarshal([]byte(`{"addressSpace":7,"subnets":[{"name":"a","properties":{"nosuch":[1]}}]}`), &old); err != nil {
		t.Errorf("what an older server has taken: %v", err)
	}
	if again, err := json.Marshal(old); err != nil || !strings.Contains(string(again), `"nosuch":[1]`) {
		t.Errorf("it is shown as %s (%v)", again, err)
	}
}
