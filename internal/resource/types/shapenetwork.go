package types

import (
	"net/netip"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// The shapes of what is kept of networks and read by nobody. Source: the models of
// Azure's REST reference for Microsoft.Network.

// addressSpace of a virtual network.
type addressSpace struct {
	Prefixes  []string `json:"addressPrefixes,omitempty"`
	IPAMPools any      `json:"ipamPoolPrefixAllocations,omitempty" kind:"none"`
}

func (a *addressSpace) form(path string) error {
	return prefixes(path+".addressPrefixes", a.Prefixes...)
}

type dhcpOptions struct {
	Servers []string `json:"dnsServers,omitempty"`
}

func (d *dhcpOptions) form(path string) error { return addresses(path+".dnsServers", d.Servers) }

// subnetProperties: what a subnet would do to traffic is a description, as its network
// is.
type subnetProperties struct {
	Prefix          string            `json:"addressPrefix,omitempty"`
	Prefixes        []string          `json:"addressPrefixes,omitempty"`
	SecurityGroup   *elsewhere        `json:"networkSecurityGroup,omitempty"`
	RouteTable      *elsewhere        `json:"routeTable,omitempty"`
	NATGateway      *elsewhere        `json:"natGateway,omitempty"`
	Endpoints       []serviceEndpoint `json:"serviceEndpoints,omitempty"`
	Policies        []elsewhere       `json:"serviceEndpointPolicies,omitempty"`
	Delegations     []delegation      `json:"delegations,omitempty"`
	Allocations     []elsewhere       `json:"ipAllocations,omitempty"`
	Private         string            `json:"privateEndpointNetworkPolicies,omitempty" one:"Enabled Disabled NetworkSecurityGroupEnabled RouteTableEnabled"`
	PrivateLink     string            `json:"privateLinkServiceNetworkPolicies,omitempty" one:"Enabled Disabled"`
	Sharing         string            `json:"sharingScope,omitempty" one:"Tenant DelegatedServices"`
	DefaultOutbound *bool             `json:"defaultOutboundAccess,omitempty"`

	IPAMPools any `json:"ipamPoolPrefixAllocations,omitempty" kind:"none"`
	Gateways  any `json:"applicationGatewayIPConfigurations,omitempty" kind:"none"`

	PrivateEndpoints  any `json:"privateEndpoints,omitempty" kind:"read"`
	Configurations    any `json:"ipConfigurations,omitempty" kind:"read"`
	Profiles          any `json:"ipConfigurationProfiles,omitempty" kind:"read"`
	NavigationLinks   any `json:"resourceNavigationLinks,omitempty" kind:"read"`
	AssociationLinks  any `json:"serviceAssociationLinks,omitempty" kind:"read"`
	Purpose           any `json:"purpose,omitempty" kind:"read"`
	ProvisioningState any `json:"provisioningState,omitempty" kind:"read"`
}

func (s *subnetProperties) form(path string) error {
	if s.Prefix != "" {
		if err := prefixes(path+".addressPrefix", s.Prefix); err != nil {
			return err
		}
	}
	return prefixes(path+".addressPrefixes", s.Prefixes...)
}

type serviceEndpoint struct {
	Service           string     `json:"service,omitempty"`
	Locations         []string   `json:"locations,omitempty"`
	Identifier        *elsewhere `json:"networkIdentifier,omitempty"`
	ProvisioningState any        `json:"provisioningState,omitempty" kind:"read"`
}

type delegation struct {
	ID         any    `json:"id,omitempty" kind:"read"`
	Name       string `json:"name,omitempty"`
	Type       any    `json:"type,omitempty" kind:"read"`
	ETag       any    `json:"etag,omitempty" kind:"read"`
	Properties *struct {
		Service           string `json:"serviceName,omitempty"`
		Actions           any    `json:"actions,omitempty" kind:"read"`
		ProvisioningState any    `json:"provisioningState,omitempty" kind:"read"`
	} `json:"properties,omitempty"`
}

// publicName of a public IP address: nobody looks it up here.
type publicName struct {
	Label   string `json:"domainNameLabel,omitempty"`
	Scope   string `json:"domainNameLabelScope,omitempty" one:"TenantReuse SubscriptionReuse ResourceGroupReuse NoReuse"`
	FQDN    string `json:"fqdn,omitempty"`
	Reverse string `json:"reverseFqdn,omitempty"`
}

func (n *publicName) form(path string) error {
	ok := n.Label == "" || len(n.Label) >= 3 && len(n.Label) <= 63 && n.Label[0] >= 'a' && n.Label[0] <= 'z' && n.Label[len(n.Label)-1] != '-' &&
		strings.Trim(n.Label, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && hostname(n.Label) == n.Label
	if !ok {
		return fault.New(fault.Invalid, "InvalidDomainNameLabel", "The domain name label %s is invalid. It must conform to the following regular expression: ^[a-z][a-z0-9-]{1,61}[a-z0-9]$.", clip(n.Label)).WithTarget(path + ".domainNameLabel")
	}
	return nil
}

type ddosSettings struct {
	Mode     string     `json:"protectionMode,omitempty" one:"VirtualNetworkInherited Enabled Disabled"`
	Coverage string     `json:"protectionCoverage,omitempty" one:"Basic Standard"`
	IP       *bool      `json:"protectedIP,omitempty"`
	Plan     *elsewhere `json:"ddosProtectionPlan,omitempty"`
}

type ipTag struct {
	Kind string `json:"ipTagType,omitempty"`
	Tag  string `json:"tag,omitempty"`
}

// interfaceNames are the DNS settings of a network interface.
type interfaceNames struct {
	Servers []string `json:"dnsServers,omitempty"`
	Label   string   `json:"internalDnsNameLabel,omitempty"`
	Applied any      `json:"appliedDnsServers,omitempty" kind:"read"`
	FQDN    any      `json:"internalFqdn,omitempty" kind:"read"`
	Suffix  any      `json:"internalDomainNameSuffix,omitempty" kind:"read"`
}

func (n *interfaceNames) form(path string) error {
	for _, server := range n.Servers {
		if server == "AzureProvidedDNS" {
			return nil // it is the only one then
		}
	}
	return addresses(path+".dnsServers", n.Servers)
}

// elsewhere is the id of something that this server does not have, or does not look
// at.
type elsewhere struct {
	ID string `json:"id,omitempty"`
}

func (e *elsewhere) form(path string) error {
	if _, err := scope.Parse(e.ID); err != nil && e.ID != "" {
		return fault.New(fault.Invalid, "LinkedInvalidPropertyId", "Property id '%s' at path '%s.id' is invalid. Expect fully qualified resource Id that start with '/subscriptions/{subscriptionId}' or '/providers/{resourceProviderNamespace}/'.", clip(e.ID), path).WithTarget(path + ".id")
	}
	return nil
}

// prefixes holds texts to the form of a network's address: 10.0.0.0/24.
func prefixes(path string, list ...string) error {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return fault.New(fault.Invalid, "InvalidAddressPrefixFormat", "Address prefix '%s' of '%s' is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.", clip(text), path).WithTarget(path)
		}
		if p != p.Masked() {
			return fault.New(fault.Invalid, "InvalidCIDRNotation", "The address prefix %s of '%s' has an invalid CIDR notation. For the given prefix length, the address prefix should be %s.", p, path, p.Masked()).WithTarget(path)
		}
	}
	return nil
}

func addresses(path string, list []string) error {
	for _, text := range list {
		if _, err := netip.ParseAddr(text); err != nil {
			return fault.New(fault.Invalid, "InvalidIPAddressFormat", "IP address '%s' of '%s' is not formatted correctly.", clip(text), path).WithTarget(path)
		}
	}
	return nil
}
