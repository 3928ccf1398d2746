package types

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// virtualNetworkProperties: a description only. Machines get their addresses
// from their back end.
type virtualNetworkProperties struct {
	AddressSpace           like[addressSpace] `json:"addressSpace,omitzero"`
	Subnets                []subnet           `json:"subnets,omitempty"`
	DHCPOptions            like[dhcpOptions]  `json:"dhcpOptions,omitzero"`
	FlowTimeoutInMinutes   any                `json:"flowTimeoutInMinutes,omitempty" kind:"number"`
	EnableDdosProtection   any                `json:"enableDdosProtection,omitempty" kind:"bool"`
	EnableVMProtection     any                `json:"enableVmProtection,omitempty" kind:"bool"`
	VirtualNetworkPeerings any                `json:"virtualNetworkPeerings,omitempty" kind:"none"`
	ResourceGUID           any                `json:"resourceGuid,omitempty"`      // read-only
	ProvisioningState      any                `json:"provisioningState,omitempty"` // read-only
}

type subnet struct {
	ID         string                 `json:"id,omitempty"`
	Name       string                 `json:"name"`
	Type       string                 `json:"type,omitempty"`
	ETag       string                 `json:"etag,omitempty"`
	Properties like[subnetProperties] `json:"properties,omitzero"`
}

func virtualNetworkType() resource.Type {
	return resource.Type{Name: VirtualNetwork, Title: "virtual network", Located: true, Shape: virtualNetworkProperties{}, Top: []string{"extendedLocation"},
		Check: func(d *resource.Draft) error {
			var p virtualNetworkProperties
			return checked(d, &p, "properties of a virtual network", func() error {
				p.ResourceGUID, p.ProvisioningState = nil, nil
				for i := range p.Subnets {
					s := &p.Subnets[i]
					id, err := scope.Parse(d.ID.String() + "/subnets/" + s.Name)
					if err != nil || s.Name == "" {
						return fault.New(fault.Invalid, "InvalidResourceName", "subnet %d needs a name of letters, digits and - _ .", i).WithTarget("subnets")
					}
					s.ID, s.Type, s.ETag = id.String(), "Microsoft.Network/virtualNetworks/subnets", ""
				}
				return nil
			})
		},
	}
}

type securityGroupProperties struct {
	SecurityRules        []securityRule `json:"securityRules,omitempty"`
	FlushConnection      any            `json:"flushConnection,omitempty" kind:"bool"`
	DefaultSecurityRules any            `json:"defaultSecurityRules,omitempty"` // read-only
	NetworkInterfaces    any            `json:"networkInterfaces,omitempty"`    // read-only
	Subnets              any            `json:"subnets,omitempty"`              // read-only
	ResourceGUID         any            `json:"resourceGuid,omitempty"`         // read-only
	ProvisioningState    any            `json:"provisioningState,omitempty"`    // read-only
}

type securityRule struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name"`
	Type       string `json:"type,omitempty"`
	ETag       string `json:"etag,omitempty"`
	Properties struct {
		Protocol                 string `json:"protocol"`
		SourcePortRange          string `json:"sourcePortRange,omitempty"`
		DestinationPortRange     string `json:"destinationPortRange,omitempty"`
		SourceAddressPrefix      string `json:"sourceAddressPrefix,omitempty"`
		DestinationAddressPrefix string `json:"destinationAddressPrefix,omitempty"`
		Access                   string `json:"access"`
		Priority                 int    `json:"priority"`
		Direction                string `json:"direction"`
		Description              string `json:"description,omitempty"`
		ProvisioningState        any    `json:"provisioningState,omitempty"`
		SourcePortRanges         []any  `json:"sourcePortRanges,omitempty" kind:"texts"`
		DestinationPortRanges    []any  `json:"destinationPortRanges,omitempty" kind:"texts"`
		SourceAddressPrefixes    []any  `json:"sourceAddressPrefixes,omitempty" kind:"texts"`
		DestinationPrefixes      []any  `json:"destinationAddressPrefixes,omitempty" kind:"texts"`
	} `json:"properties"`
}

// securityGroupType takes rules that let traffic pass. This server filters no
// packets, so a rule that keeps somebody out would promise what nobody keeps.
func securityGroupType() resource.Type {
	return resource.Type{Name: SecurityGroup, Title: "network security group", Located: true, Shape: securityGroupProperties{},
		Check: func(d *resource.Draft) error {
			var p securityGroupProperties
			return checked(d, &p, "properties of a network security group", func() error {
				p.DefaultSecurityRules, p.NetworkInterfaces, p.Subnets, p.ResourceGUID, p.ProvisioningState = nil, nil, nil, nil, nil
				for i := range p.SecurityRules {
					r := &p.SecurityRules[i]
					if !strings.EqualFold(r.Properties.Access, "Allow") || len(r.Properties.SourceAddressPrefixes) > 0 ||
						!slices.Contains([]string{"", "*", "internet", "0.0.0.0/0", "any"}, strings.ToLower(r.Properties.SourceAddressPrefix)) {
						return noEffect("securityRules/"+r.Name, "this server does not filter network traffic, so a rule that keeps somebody out would not hold")
					}
					id, err := scope.Parse(d.ID.String() + "/securityRules/" + r.Name)
					if err != nil || r.Name == "" {
						return fault.New(fault.Invalid, "InvalidResourceName", "security rule %d needs a name of letters, digits and - _ .", i).WithTarget("securityRules")
					}
					r.ID, r.Type, r.ETag, r.Properties.ProvisioningState = id.String(), "", "", nil
				}
				return nil
			})
		},
	}
}

type publicIPProperties struct {
	PublicIPAllocationMethod any                `json:"publicIPAllocationMethod,omitempty" kind:"text" one:"Static Dynamic"`
	PublicIPAddressVersion   any                `json:"publicIPAddressVersion,omitempty" kind:"text" one:"IPv4 IPv6"`
	DNSSettings              like[publicName]   `json:"dnsSettings,omitzero"`
	IdleTimeoutInMinutes     any                `json:"idleTimeoutInMinutes,omitempty" kind:"number"`
	DdosSettings             like[ddosSettings] `json:"ddosSettings,omitzero"`
	IPTags                   like[[]ipTag]      `json:"ipTags,omitzero"`
	DeleteOption             any                `json:"deleteOption,omitempty" kind:"text" one:"Delete Detach"`
	IPAddress                any                `json:"ipAddress,omitempty"`         // read-only
	IPConfiguration          any                `json:"ipConfiguration,omitempty"`   // read-only
	ResourceGUID             any                `json:"resourceGuid,omitempty"`      // read-only
	ProvisioningState        any                `json:"provisioningState,omitempty"` // read-only
}

// addressed is the private part of network interfaces and public addresses,
// filled in by the machine's back end.
type addressed struct {
	Address string `json:"address,omitempty"`
	Machine string `json:"machine,omitempty"` // resource id of the virtual machine that uses it
}

func publicIPType() resource.Type {
	return resource.Type{Name: PublicIP, Title: "public IP address", Located: true, Shape: publicIPProperties{}, Top: []string{"sku", "zones", "extendedLocation"},
		Check: func(d *resource.Draft) error {
			var p publicIPProperties
			return checked(d, &p, "properties of a public IP address", func() error {
				if err := echoed(d, p.IPAddress, "ipAddress"); err != nil {
					return err
				}
				p.IPAddress, p.IPConfiguration, p.ResourceGUID, p.ProvisioningState = nil, nil, nil, nil
				return nil
			})
		},
		Show: func(_ context.Context, v resource.View) (map[string]any, error) {
			p, a, err := shownWithAddress(v)
			if err == nil && a.Address != "" {
				p["ipAddress"] = a.Address
			}
			return p, err
		},
		Store: refuseInUse("PublicIPAddressInUse"),
	}
}

func shownWithAddress(v resource.View) (map[string]any, addressed, error) {
	p := map[string]any{}
	var a addressed
	if err := v.Resource.ReadProperties(&p); err != nil {
		return nil, a, err
	}
	return p, a, v.Resource.ReadPrivate(&a)
}

// echoed takes the address that is shown back from who has read it, and no other: the
// machine's back end gives addresses.
func echoed(d *resource.Draft, given any, field string) error {
	var a addressed
	if d.Old != nil {
		if err := d.Old.ReadPrivate(&a); err != nil {
			return err
		}
	}
	if given == nil || given == a.Address {
		return nil
	}
	return noEffect(field, "the machine's back end gives the address, and keeps it for the machine's life")
}

// alwaysPrimary takes the one value that "primary" can have where there is one of
// something: true, which az's templates spell as a text.
func alwaysPrimary(given any, field string) error {
	if text, ok := given.(string); given == nil || given == true || ok && strings.EqualFold(text, "true") {
		return nil
	}
	return noEffect(field, "there is one, which is the primary one")
}

// refuseInUse keeps what a machine uses from being deleted under it.
func refuseInUse(code string) func(resource.Tx, audit.By, *resource.Change) error {
	return func(tx resource.Tx, _ audit.By, c *resource.Change) error {
		if c.New != nil {
			return nil
		}
		var a addressed
		if err := c.Old.ReadPrivate(&a); err != nil || a.Machine == "" {
			return err
		}
		vm, err := scope.Parse(a.Machine)
		if err != nil {
			return err
		}
		if _, ok, err := tx.ResourceByID(vm.Key()); err != nil || !ok {
			return err
		}
		return fault.New(fault.Conflict, code, "'%s' is in use by virtual machine '%s'.", c.Old.ID.Name(), vm.Name()).WithRemedy("Delete the virtual machine first.")
	}
}

type networkInterfaceProperties struct {
	IPConfigurations            []ipConfiguration    `json:"ipConfigurations,omitempty"`
	NetworkSecurityGroup        *reference           `json:"networkSecurityGroup,omitempty"`
	EnableAcceleratedNetworking any                  `json:"enableAcceleratedNetworking,omitempty" kind:"bool"`
	EnableIPForwarding          any                  `json:"enableIPForwarding,omitempty" kind:"bool"`
	DNSSettings                 like[interfaceNames] `json:"dnsSettings,omitzero"`
	NICType                     any                  `json:"nicType,omitempty" kind:"text" one:"Standard Elastic"`
	HostedWorkloads             any                  `json:"hostedWorkloads,omitempty"`   // read-only, as all below
	TapConfigurations           any                  `json:"tapConfigurations,omitempty"` //
	MACAddress                  any                  `json:"macAddress,omitempty"`
	Primary                     any                  `json:"primary,omitempty"`
	VirtualMachine              any                  `json:"virtualMachine,omitempty"`
	VnetEncryptionSupported     any                  `json:"vnetEncryptionSupported,omitempty"`
	ResourceGUID                any                  `json:"resourceGuid,omitempty"`
	ProvisioningState           any                  `json:"provisioningState,omitempty"`
}

type ipConfiguration struct {
	ID         string                    `json:"id,omitempty"`
	Name       string                    `json:"name"`
	Type       string                    `json:"type,omitempty"`
	ETag       string                    `json:"etag,omitempty"`
	Properties ipConfigurationProperties `json:"properties"`
}

type ipConfigurationProperties struct {
	Primary                   any        `json:"primary,omitempty" kind:"flag"`
	PrivateIPAllocationMethod any        `json:"privateIPAllocationMethod,omitempty" kind:"text" one:"Dynamic Static"`
	PrivateIPAddressVersion   any        `json:"privateIPAddressVersion,omitempty" kind:"text" one:"IPv4 IPv6"`
	PrivateIPAddress          any        `json:"privateIPAddress,omitempty"`
	Subnet                    *reference `json:"subnet,omitempty"`
	PublicIPAddress           *reference `json:"publicIPAddress,omitempty"`
	ProvisioningState         any        `json:"provisioningState,omitempty"`
}

func networkInterfaceType() resource.Type {
	return resource.Type{Name: NetworkInterface, Title: "network interface", Located: true, Shape: networkInterfaceProperties{}, Top: []string{"extendedLocation"},
		Check: checkNetworkInterface, Links: networkInterfaceLinks, Show: showNetworkInterface, Store: refuseInUse("NicInUse")}
}

func checkNetworkInterface(d *resource.Draft) error {
	var p networkInterfaceProperties
	return checked(d, &p, "properties of a network interface", func() error {
		p.HostedWorkloads, p.TapConfigurations, p.MACAddress, p.Primary, p.VirtualMachine = nil, nil, nil, nil, nil
		p.VnetEncryptionSupported, p.ResourceGUID, p.ProvisioningState = nil, nil, nil
		if len(p.IPConfigurations) != 1 {
			return fault.New(fault.Invalid, "InvalidParameter", "a network interface has exactly one IP configuration here").WithTarget("ipConfigurations")
		}
		c := &p.IPConfigurations[0]
		id, err := scope.Parse(d.ID.String() + "/ipConfigurations/" + c.Name)
		if err != nil || c.Name == "" {
			return fault.New(fault.Invalid, "InvalidResourceName", "the IP configuration needs a name of letters, digits and - _ .").WithTarget("ipConfigurations")
		}
		if m, ok := c.Properties.PrivateIPAllocationMethod.(string); ok && strings.EqualFold(m, "Static") {
			return noEffect("privateIPAllocationMethod", "the machine's back end gives the address, and keeps it for the machine's life")
		}
		if err := alwaysPrimary(c.Properties.Primary, "ipConfigurations.primary"); err != nil {
			return err
		}
		if err := echoed(d, c.Properties.PrivateIPAddress, "ipConfigurations.privateIPAddress"); err != nil {
			return err
		}
		c.ID, c.Type, c.ETag = id.String(), "", ""
		c.Properties.Primary, c.Properties.ProvisioningState, c.Properties.PrivateIPAddress = true, nil, nil
		return nil
	})
}

func networkInterfaceLinks(raw json.RawMessage) ([]resource.Link, error) {
	var p networkInterfaceProperties
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	var out []resource.Link
	if p.NetworkSecurityGroup != nil {
		id, err := p.NetworkSecurityGroup.parse(SecurityGroup, "networkSecurityGroup.id")
		if err != nil {
			return nil, err
		}
		out = append(out, resource.Link{ID: id, Action: SecurityGroup + "/join/action"})
	}
	for _, c := range p.IPConfigurations {
		if c.Properties.Subnet != nil {
			id, err := c.Properties.Subnet.parse(VirtualNetwork+"/subnets", "subnet.id")
			if err != nil {
				return nil, err
			}
			vnet, _ := id.Parent() // a subnet lives inside its network's row
			out = append(out, resource.Link{ID: vnet, Action: VirtualNetwork + "/subnets/join/action"})
		}
		if c.Properties.PublicIPAddress != nil {
			id, err := c.Properties.PublicIPAddress.parse(PublicIP, "publicIPAddress.id")
			if err != nil {
				return nil, err
			}
			out = append(out, resource.Link{ID: id, Action: PublicIP + "/join/action"})
		}
	}
	return out, nil
}

func showNetworkInterface(_ context.Context, v resource.View) (map[string]any, error) {
	shown, a, err := shownWithAddress(v)
	if err != nil {
		return nil, err
	}
	var p networkInterfaceProperties
	if err := v.Resource.ReadProperties(&p); err != nil {
		return nil, err
	}
	if a.Address != "" {
		for i := range p.IPConfigurations {
			p.IPConfigurations[i].Properties.PrivateIPAddress = a.Address
		}
		shown["ipConfigurations"] = p.IPConfigurations
	}
	if a.Machine != "" {
		shown["virtualMachine"] = reference{ID: a.Machine}
	}
	shown["primary"] = true
	shown["macAddress"] = macAddress(v.Resource.ID)
	return shown, nil
}

// macAddress shows a stable, locally administered address for an interface: the
// field must hold one, and the machine's real one is its back end's affair.
func macAddress(id scope.ID) string {
	h := sha256.Sum256([]byte(id.Key()))
	return strings.ToUpper(fmt.Sprintf("%02x-%02x-%02x-%02x-%02x-%02x", h[0]&^1|2, h[1], h[2], h[3], h[4], h[5]))
}
