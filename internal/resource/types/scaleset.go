package types

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The types of scale sets. An instance is a machine like any other: it has a row
// of its own, made and changed by its set alone.
const (
	ScaleSet          = "Microsoft.Compute/virtualMachineScaleSets"
	ScaleSetInstance  = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"
	ScaleSetExtension = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/extensions"
)

// MaxCapacity is how many instances a scale set may have.
const MaxCapacity = 100

// The upgrade policies: instances take a new model when somebody says so, or at
// once.
const (
	manualUpgrade    = "Manual"
	automaticUpgrade = "Automatic"
)

// scaleSetProperties is the strict shape of a scale set. What this server acts on
// is typed, what is harmless is kept, the rest is refused.
type scaleSetProperties struct {
	UpgradePolicy *upgradePolicy `json:"upgradePolicy,omitempty"`
	Profile       *setProfile    `json:"virtualMachineProfile,omitempty"`
	Orchestration string         `json:"orchestrationMode,omitempty"`
	ScaleIn       *scaleInPolicy `json:"scaleInPolicy,omitempty"`

	Overprovision           any                `json:"overprovision,omitempty" kind:"bool"`
	NoExtensionsOnExtra     any                `json:"doNotRunExtensionsOnOverprovisionedVMs,omitempty" kind:"bool"`
	SinglePlacementGroup    any                `json:"singlePlacementGroup,omitempty" kind:"bool"`
	ZoneBalance             any                `json:"zoneBalance,omitempty" kind:"bool"`
	PlatformFaultDomains    any                `json:"platformFaultDomainCount,omitempty" kind:"number"`
	ProximityPlacementGroup like[elsewhere]    `json:"proximityPlacementGroup,omitzero"`
	AdditionalCapabilities  like[capabilities] `json:"additionalCapabilities,omitzero"`

	// Refused unless empty or off: each would promise something.
	AutomaticRepairs   *switched       `json:"automaticRepairsPolicy,omitempty"`
	SpotRestore        *switched       `json:"spotRestorePolicy,omitempty"`
	ResiliencyPolicy   json.RawMessage `json:"resiliencyPolicy,omitempty"`
	PriorityMix        json.RawMessage `json:"priorityMixPolicy,omitempty"`
	HostGroup          json.RawMessage `json:"hostGroup,omitempty"`
	ConstrainedMaximum *bool           `json:"constrainedMaximumCapacity,omitempty"`

	// Read-only echoes, dropped.
	UniqueID          any `json:"uniqueId,omitempty"`
	ProvisioningState any `json:"provisioningState,omitempty"`
	TimeCreated       any `json:"timeCreated,omitempty"`
}

type upgradePolicy struct {
	Mode        string               `json:"mode,omitempty"`
	Rolling     like[rollingUpgrade] `json:"rollingUpgradePolicy,omitzero"`
	AutomaticOS *struct {
		Enabled         bool `json:"enableAutomaticOSUpgrade,omitempty"`
		DisableRollback any  `json:"disableAutomaticRollback,omitempty" kind:"bool"`
		UseRolling      any  `json:"useRollingUpgradePolicy,omitempty" kind:"bool"`
		DeferralEnabled any  `json:"osRollingUpgradeDeferral,omitempty" kind:"bool"`
	} `json:"automaticOSUpgradePolicy,omitempty"`
}

type scaleInPolicy struct {
	Rules         []string `json:"rules,omitempty"`
	ForceDeletion any      `json:"forceDeletion,omitempty" kind:"bool"`
	Prioritize    any      `json:"prioritizeUnhealthyVMs,omitempty" kind:"bool"`
}

type switched struct {
	Enabled        bool `json:"enabled,omitempty"`
	GracePeriod    any  `json:"gracePeriod,omitempty" kind:"text"`
	RepairAction   any  `json:"repairAction,omitempty" kind:"text" one:"Replace Restart Reimage"`
	RestoreTimeout any  `json:"restoreTimeout,omitempty" kind:"text"`
}

// setProfile is the model: what every instance is made from.
type setProfile struct {
	StorageProfile   *storageProfile      `json:"storageProfile,omitempty"`
	OSProfile        *setOSProfile        `json:"osProfile,omitempty"`
	NetworkProfile   *setNetworkProfile   `json:"networkProfile,omitempty"`
	ExtensionProfile *setExtensionProfile `json:"extensionProfile,omitempty"`

	HardwareProfile        like[setHardware]     `json:"hardwareProfile,omitzero"`
	DiagnosticsProfile     like[diagnostics]     `json:"diagnosticsProfile,omitzero"`
	BillingProfile         like[billing]         `json:"billingProfile,omitzero"`
	Priority               any                   `json:"priority,omitempty" kind:"text" one:"Regular Low Spot"`
	EvictionPolicy         any                   `json:"evictionPolicy,omitempty" kind:"text" one:"Deallocate Delete"`
	LicenseType            any                   `json:"licenseType,omitempty" kind:"text"`
	ScheduledEventsProfile like[scheduledEvents] `json:"scheduledEventsProfile,omitzero"`
	ApplicationProfile     like[applications]    `json:"applicationProfile,omitzero"`

	// Refused unless empty.
	SecurityProfile json.RawMessage `json:"securityProfile,omitempty"`
	UserData        json.RawMessage `json:"userData,omitempty"`

	TimeCreated any `json:"timeCreated,omitempty"` // read-only
}

type setOSProfile struct {
	Prefix string `json:"computerNamePrefix,omitempty"`
	osProfile
}

type setNetworkProfile struct {
	Interfaces  []setInterface  `json:"networkInterfaceConfigurations,omitempty"`
	APIVersion  any             `json:"networkApiVersion,omitempty" kind:"text"`
	HealthProbe json.RawMessage `json:"healthProbe,omitempty"` // refused
}

type setInterface struct {
	Name       string                  `json:"name"`
	Tags       like[map[string]string] `json:"tags,omitzero"`
	Properties struct {
		Primary                     any            `json:"primary,omitempty" kind:"flag"`
		EnableAcceleratedNetworking any            `json:"enableAcceleratedNetworking,omitempty" kind:"bool"`
		DisableTCPStateTracking     any            `json:"disableTcpStateTracking,omitempty" kind:"bool"`
		EnableFPGA                  any            `json:"enableFpga,omitempty" kind:"bool"`
		EnableIPForwarding          any            `json:"enableIPForwarding,omitempty" kind:"bool"`
		DNSSettings                 like[setNames] `json:"dnsSettings,omitzero"`
		DeleteOption                any            `json:"deleteOption,omitempty" kind:"text" one:"Delete Detach"`
		AuxiliaryMode               any            `json:"auxiliaryMode,omitempty" kind:"text" one:"None AcceleratedConnections Floating MaxConnections"`
		AuxiliarySKU                any            `json:"auxiliarySku,omitempty" kind:"text" one:"None A1 A2 A4 A8"`
		SecurityGroup               *reference     `json:"networkSecurityGroup,omitempty"`
		IPConfigurations            []setAddress   `json:"ipConfigurations,omitempty"`
	} `json:"properties"`
}

type setAddress struct {
	Name       string `json:"name"`
	Properties struct {
		Primary        any        `json:"primary,omitempty" kind:"flag"`
		AddressVersion any        `json:"privateIPAddressVersion,omitempty" kind:"text" one:"IPv4 IPv6"`
		Subnet         *reference `json:"subnet,omitempty"`

		// Refused unless empty.
		Public         json.RawMessage `json:"publicIPAddressConfiguration,omitempty"`
		Balancers      json.RawMessage `json:"loadBalancerBackendAddressPools,omitempty"`
		NATPools       json.RawMessage `json:"loadBalancerInboundNatPools,omitempty"`
		Gateways       json.RawMessage `json:"applicationGatewayBackendAddressPools,omitempty"`
		SecurityGroups json.RawMessage `json:"applicationSecurityGroups,omitempty"`
	} `json:"properties"`
}

type setExtensionProfile struct {
	Extensions []setExtension `json:"extensions,omitempty"`
	TimeBudget any            `json:"extensionsTimeBudget,omitempty" kind:"text"`
}

type setExtension struct {
	ID         any             `json:"id,omitempty"`   // read-only
	Type       any             `json:"type,omitempty"` // read-only
	Name       string          `json:"name"`
	Properties json.RawMessage `json:"properties"`
}

// setSKU is a scale set's size, and how many there are of it.
type setSKU struct {
	Name     string `json:"name"`
	Tier     string `json:"tier,omitempty"`
	Capacity *int   `json:"capacity,omitempty"`
}

func isInstance(id scope.ID) bool { return strings.EqualFold(id.Type(), ScaleSetInstance) }

// calledInstance is what Azure calls an instance: SET_3.
func calledInstance(id scope.ID) string {
	if !isInstance(id) {
		return id.Name()
	}
	up, _ := id.Parent()
	return up.Name() + "_" + id.Name()
}

// checkScaleSet validates a body. What a body leaves out stays as it was: az
// scales a set by writing its location and its sku alone.
func checkScaleSet(d *resource.Draft) error {
	if name := d.ID.Name(); len(name) > 64 || hostname(name) == "" {
		return fault.New(fault.Invalid, "InvalidParameter", "%q cannot be the name of a scale set", name).
			WithRemedy("A name has 1 to 64 characters, among them a letter or digit, and becomes part of host names.").WithTarget("name")
	}
	var p, old scaleSetProperties
	if d.Old != nil {
		if err := d.Old.ReadProperties(&old); err != nil {
			return err
		}
		_ = ofKind(reflect.ValueOf(&old), "") // as a body is kept now: an older server kept more of it
	}
	return checked(d, &p, "properties of a scale set", func() error {
		p.UniqueID, p.ProvisioningState, p.TimeCreated = nil, nil, nil
		if p.UpgradePolicy == nil {
			p.UpgradePolicy = old.UpgradePolicy
		}
		if p.Profile == nil {
			p.Profile = old.Profile
		}
		if err := p.refuse(); err != nil {
			return err
		}
		if err := p.policy(); err != nil {
			return err
		}
		if p.Profile == nil {
			return fault.New(fault.Invalid, "InvalidParameter", "a scale set needs a virtualMachineProfile").WithTarget("virtualMachineProfile")
		}
		var err error
		d.Secret, err = p.Profile.check(d, old.Profile)
		return err
	})
}

func (p *scaleSetProperties) refuse() error {
	if p.Orchestration != "" && !strings.EqualFold(p.Orchestration, "Uniform") {
		return fault.New(fault.Invalid, "InvalidParameter", "orchestration mode %q is not offered: the instances of a scale set are all alike here", clip(p.Orchestration)).
			WithRemedy("Use --orchestration-mode Uniform.").WithTarget("orchestrationMode")
	}
	p.Orchestration = "Uniform"
	switch {
	case p.AutomaticRepairs != nil && p.AutomaticRepairs.Enabled:
		return noEffect("automaticRepairsPolicy", "nothing replaces instances by itself")
	case p.SpotRestore != nil && p.SpotRestore.Enabled:
		return noEffect("spotRestorePolicy", "no instance is taken away")
	case p.ConstrainedMaximum != nil && *p.ConstrainedMaximum:
		return noEffect("constrainedMaximumCapacity", "the limit is the same for every set")
	}
	for field, raw := range map[string]json.RawMessage{"resiliencyPolicy": p.ResiliencyPolicy, "priorityMixPolicy": p.PriorityMix, "hostGroup": p.HostGroup} {
		if !empty(raw) {
			return noEffect(field, "scale sets of this server have none")
		}
	}
	p.ResiliencyPolicy, p.PriorityMix, p.HostGroup = nil, nil, nil
	if p.ScaleIn != nil {
		for _, rule := range p.ScaleIn.Rules {
			if !strings.EqualFold(rule, "Default") && !strings.EqualFold(rule, "NewestVM") {
				return noEffect("scaleInPolicy.rules", "the newest instances go first")
			}
		}
	}
	return nil
}

// policy settles how instances get a new model.
func (p *scaleSetProperties) policy() error {
	if p.UpgradePolicy == nil {
		p.UpgradePolicy = &upgradePolicy{}
	}
	u := p.UpgradePolicy
	switch {
	case u.Mode == "", strings.EqualFold(u.Mode, manualUpgrade):
		u.Mode = manualUpgrade
	case strings.EqualFold(u.Mode, automaticUpgrade):
		u.Mode = automaticUpgrade
	default:
		return fault.New(fault.Invalid, "InvalidParameter", "upgrade policy %q is not offered: instances take a new model all at once, or when they are told", clip(u.Mode)).
			WithRemedy("Use --upgrade-policy-mode Automatic, or Manual and then: sally vmss update-instances").WithTarget("upgradePolicy.mode")
	}
	if u.AutomaticOS != nil && u.AutomaticOS.Enabled {
		return noEffect("upgradePolicy.automaticOSUpgradePolicy", "instances are not made anew from newer images")
	}
	return nil
}

// check validates the model, and keeps it to what exists once, inside instances. It
// returns the administrator's password where the body has one.
func (p *setProfile) check(d *resource.Draft, old *setProfile) (password string, err error) {
	p.TimeCreated = nil
	if old != nil {
		p.StorageProfile = keepImage(p.StorageProfile, old.StorageProfile)
	}
	v := vmProperties{StorageProfile: p.StorageProfile, SecurityProfile: p.SecurityProfile, UserData: p.UserData}
	if err := v.refuse(); err != nil {
		return "", err
	}
	p.SecurityProfile, p.UserData = nil, nil
	if err := v.image(d.Location); err != nil {
		return "", err
	}
	if p.OSProfile == nil && old != nil {
		p.OSProfile = old.OSProfile
	}
	had := old != nil && old.OSProfile != nil && old.OSProfile.passwords()
	if password, err = p.names(d.ID.Name(), had); err != nil {
		return "", err
	}
	if err := p.network(); err != nil {
		return "", err
	}
	if err := p.extensions(d); err != nil {
		return "", err
	}
	if old == nil {
		return password, nil
	}
	return password, p.keep(d, old, &v, password)
}

// names checks the host names' beginning and the administrator.
func (p *setProfile) names(set string, had bool) (password string, err error) {
	if p.OSProfile == nil {
		p.OSProfile = &setOSProfile{}
	}
	o := p.OSProfile
	if o.ComputerName != "" {
		return "", fault.New(fault.Invalid, "InvalidParameter", "instances cannot share one computerName").WithRemedy("Give computerNamePrefix.").WithTarget("osProfile.computerName")
	}
	if o.Prefix == "" {
		o.Prefix = hostname(set)
		o.Prefix = o.Prefix[:min(len(o.Prefix), 9)] // az's own length
	}
	if h := hostname(o.Prefix); h == "" || len(o.Prefix) > 57 || len(h) != len(o.Prefix) {
		return "", fault.New(fault.Invalid, "InvalidParameter", "%q cannot be the beginning of a host name", clip(o.Prefix)).
			WithRemedy("It has 1 to 57 letters, digits and hyphens, and begins and ends with a letter or digit.").WithTarget("osProfile.computerNamePrefix")
	}
	password, err = o.osProfile.check(set, had)
	o.ComputerName = "" // each instance has one of its own
	return password, err
}

// network is one interface with one private address.
func (p *setProfile) network() error {
	n := p.NetworkProfile
	if n == nil || len(n.Interfaces) != 1 || len(n.Interfaces[0].Properties.IPConfigurations) != 1 {
		return fault.New(fault.Invalid, "InvalidParameter", "an instance has exactly one network interface with one IP configuration here").
			WithRemedy("Describe it in networkProfile.networkInterfaceConfigurations.").WithTarget("networkProfile.networkInterfaceConfigurations")
	}
	if !empty(n.HealthProbe) {
		return noEffect("networkProfile.healthProbe", "nothing would ask the instances")
	}
	n.HealthProbe = nil
	nic := &n.Interfaces[0]
	a := &nic.Properties.IPConfigurations[0]
	for _, name := range []string{nic.Name, a.Name} {
		if _, err := scope.Parse("/providers/A/b/" + name); err != nil || name == "" {
			return fault.New(fault.Invalid, "InvalidResourceName", "network interfaces and their configurations need names of letters, digits and - _ .").WithTarget("networkInterfaceConfigurations")
		}
	}
	if !empty(a.Properties.Public) {
		return noEffect("publicIPAddressConfiguration", "instances of a scale set have private addresses alone")
	}
	for field, raw := range map[string]json.RawMessage{"loadBalancerBackendAddressPools": a.Properties.Balancers, "loadBalancerInboundNatPools": a.Properties.NATPools,
		"applicationGatewayBackendAddressPools": a.Properties.Gateways, "applicationSecurityGroups": a.Properties.SecurityGroups} {
		if !empty(raw) {
			return noEffect(field, "this server neither balances nor filters traffic")
		}
	}
	a.Properties.Public, a.Properties.Balancers, a.Properties.NATPools, a.Properties.Gateways, a.Properties.SecurityGroups = nil, nil, nil, nil, nil
	if err := alwaysPrimary(nic.Properties.Primary, "networkInterfaceConfigurations.primary"); err != nil {
		return err
	}
	if err := alwaysPrimary(a.Properties.Primary, "ipConfigurations.primary"); err != nil {
		return err
	}
	nic.Properties.Primary, a.Properties.Primary = true, true
	return nil
}

// extensions are the login extensions, each once.
func (p *setProfile) extensions(d *resource.Draft) error {
	if p.ExtensionProfile == nil {
		return nil
	}
	seen := map[string]string{}
	for i := range p.ExtensionProfile.Extensions {
		x := &p.ExtensionProfile.Extensions[i]
		x.ID, x.Type = nil, nil
		if _, err := scope.Parse("/providers/A/b/" + x.Name); err != nil || x.Name == "" {
			return fault.New(fault.Invalid, "InvalidResourceName", "extension %d needs a name of letters, digits and - _ .", i).WithTarget("extensionProfile")
		}
		inner := resource.Draft{ID: d.ID, Location: d.Location, Properties: x.Properties}
		if err := checkExtension(&inner); err != nil {
			return err
		}
		x.Properties = inner.Properties
		h := handlerOf(resource.Resource{Properties: x.Properties})
		for _, known := range []string{"name " + strings.ToLower(x.Name), h.String()} {
			if other, twice := seen[known]; twice {
				return fault.New(fault.Conflict, "BadRequest", "Multiple VMExtensions per handler not supported for OS type 'Linux'. VMExtension '%s' with handler '%s' already added or specified in input.", other, h).
					WithRemedy("Name each once.")
			}
			seen[known] = x.Name
		}
	}
	return nil
}

func scaleSetLinks(raw json.RawMessage) ([]resource.Link, error) {
	var p scaleSetProperties
	if err := json.Unmarshal(raw, &p); err != nil || p.Profile == nil || p.Profile.NetworkProfile == nil {
		return nil, err
	}
	var out []resource.Link
	for _, n := range p.Profile.NetworkProfile.Interfaces {
		if n.Properties.SecurityGroup != nil {
			id, err := n.Properties.SecurityGroup.parse(SecurityGroup, "networkSecurityGroup.id")
			if err != nil {
				return nil, err
			}
			out = append(out, resource.Link{ID: id, Action: SecurityGroup + "/join/action"})
		}
		for _, c := range n.Properties.IPConfigurations {
			if c.Properties.Subnet == nil {
				continue
			}
			id, err := c.Properties.Subnet.parse(VirtualNetwork+"/subnets", "subnet.id")
			if err != nil {
				return nil, err
			}
			vnet, _ := id.Parent()
			out = append(out, resource.Link{ID: vnet, Action: VirtualNetwork + "/subnets/join/action"})
		}
	}
	return out, nil
}

// readSKU reads a scale set's sku, which is kept at the top of its body. What a
// body leaves out of it is as it was.
func readSKU(r *resource.Resource, old *setSKU) (setSKU, error) {
	var top struct {
		SKU json.RawMessage `json:"sku"`
	}
	var s setSKU
	if len(r.Top) > 0 {
		if err := json.Unmarshal(r.Top, &top); err != nil {
			return s, err
		}
	}
	if len(top.SKU) > 0 {
		if err := resource.Strict(top.SKU, &s, "sku"); err != nil {
			return s, err
		}
	}
	if old != nil {
		if s.Name == "" {
			s.Name = old.Name
		}
		if s.Capacity == nil {
			s.Capacity = old.Capacity
		}
	}
	switch {
	case s.Name == "" || s.Capacity == nil:
		return s, fault.New(fault.Invalid, "InvalidParameter", "a scale set needs sku.name and sku.capacity").WithTarget("sku")
	case *s.Capacity < 0 || *s.Capacity > MaxCapacity:
		return s, fault.New(fault.Invalid, "InvalidParameter", "sku.capacity is %d, and a scale set has 0 to %d instances", *s.Capacity, MaxCapacity).
			WithRemedy("Create another scale set for more.").WithTarget("sku.capacity")
	case len(s.Name) > 64 || len(s.Tier) > 64:
		return s, fault.New(fault.Invalid, "InvalidParameter", "sku.name and sku.tier have at most 64 characters").WithTarget("sku")
	}
	if s.Tier == "" {
		s.Tier = "Standard"
	}
	return s, (&hardwareProfile{VMSize: s.Name}).check()
}

// writeTop keeps a value at the top level of a resource.
func writeTop(r *resource.Resource, name string, v any) error {
	top := map[string]json.RawMessage{}
	if len(r.Top) > 0 {
		if err := json.Unmarshal(r.Top, &top); err != nil {
			return err
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	top[name] = b
	if string(b) == "null" {
		delete(top, name)
	}
	r.Top, err = json.Marshal(top)
	return err
}

// computerName is the host name of an instance, in Azure's form: the prefix and
// the number in base 36, six digits wide.
func computerName(prefix string, number int) string {
	text := strconv.FormatInt(int64(number), 36)
	return prefix + strings.Repeat("0", max(0, 6-len(text))) + text
}
