package types

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// vmProperties is the strict shape of a virtual machine: what this server acts
// on is typed, what is harmless is kept, the rest is refused.
type vmProperties struct {
	HardwareProfile *hardwareProfile `json:"hardwareProfile,omitempty"`
	StorageProfile  *storageProfile  `json:"storageProfile,omitempty"`
	OSProfile       *osProfile       `json:"osProfile,omitempty"`
	NetworkProfile  *networkProfile  `json:"networkProfile,omitempty"`

	DiagnosticsProfile      like[diagnostics]     `json:"diagnosticsProfile,omitzero"`
	AvailabilitySet         like[elsewhere]       `json:"availabilitySet,omitzero"`
	ProximityPlacementGroup like[elsewhere]       `json:"proximityPlacementGroup,omitzero"`
	AdditionalCapabilities  like[capabilities]    `json:"additionalCapabilities,omitzero"`
	ApplicationProfile      like[applications]    `json:"applicationProfile,omitzero"`
	BillingProfile          like[billing]         `json:"billingProfile,omitzero"`
	Priority                any                   `json:"priority,omitempty" kind:"text" one:"Regular Low Spot"`
	EvictionPolicy          any                   `json:"evictionPolicy,omitempty" kind:"text" one:"Deallocate Delete"`
	LicenseType             any                   `json:"licenseType,omitempty" kind:"text"`
	ExtensionsTimeBudget    any                   `json:"extensionsTimeBudget,omitempty" kind:"text"`
	PlatformFaultDomain     any                   `json:"platformFaultDomain,omitempty" kind:"number"`
	ScheduledEventsProfile  like[scheduledEvents] `json:"scheduledEventsProfile,omitzero"`

	// Refused unless empty: each would promise something.
	SecurityProfile json.RawMessage `json:"securityProfile,omitempty"`
	UserData        json.RawMessage `json:"userData,omitempty"`

	// Read-only echoes, dropped.
	VMID              any `json:"vmId,omitempty"`
	InstanceView      any `json:"instanceView,omitempty"`
	ProvisioningState any `json:"provisioningState,omitempty"`
	TimeCreated       any `json:"timeCreated,omitempty"`
}

type hardwareProfile struct {
	VMSize           string               `json:"vmSize,omitempty"`
	VMSizeProperties like[sizeProperties] `json:"vmSizeProperties,omitzero"`
}

type storageProfile struct {
	ImageReference     *imageReference `json:"imageReference,omitempty"`
	OSDisk             like[osDisk]    `json:"osDisk,omitzero"`
	DataDisks          json.RawMessage `json:"dataDisks,omitempty"`
	DiskControllerType any             `json:"diskControllerType,omitempty" kind:"text" one:"SCSI NVMe"`
}

type imageReference struct {
	Publisher    string          `json:"publisher,omitempty"`
	Offer        string          `json:"offer,omitempty"`
	SKU          string          `json:"sku,omitempty"`
	Version      string          `json:"version,omitempty"`
	ExactVersion string          `json:"exactVersion,omitempty"`
	ID           json.RawMessage `json:"id,omitempty"`
}

type osProfile struct {
	ComputerName       string              `json:"computerName,omitempty"`
	AdminUsername      string              `json:"adminUsername,omitempty"`
	LinuxConfiguration *linuxConfiguration `json:"linuxConfiguration,omitempty"`

	AllowExtensionOperations    *bool `json:"allowExtensionOperations,omitempty"`
	RequireGuestProvisionSignal *bool `json:"requireGuestProvisionSignal,omitempty"`

	// Write-only: never stored here, see password.go.
	AdminPassword string `json:"adminPassword,omitempty"`

	// Refused unless empty.
	CustomData           json.RawMessage `json:"customData,omitempty"`
	Secrets              json.RawMessage `json:"secrets,omitempty"`
	WindowsConfiguration json.RawMessage `json:"windowsConfiguration,omitempty"`
}

type linuxConfiguration struct {
	DisablePasswordAuthentication *bool         `json:"disablePasswordAuthentication,omitempty"`
	SSH                           *sshKeys      `json:"ssh,omitempty"`
	ProvisionVMAgent              *bool         `json:"provisionVMAgent,omitempty"`
	PatchSettings                 like[patches] `json:"patchSettings,omitzero"`
	PlatformUpdates               any           `json:"enableVMAgentPlatformUpdates,omitempty" kind:"bool"`
}

type sshKeys struct {
	PublicKeys []sshKey `json:"publicKeys,omitempty"`
}

type sshKey struct {
	Path    string `json:"path,omitempty"`
	KeyData string `json:"keyData"`
}

type networkProfile struct {
	NetworkInterfaces       []networkReference `json:"networkInterfaces,omitempty"`
	NetworkAPIVersion       any                `json:"networkApiVersion,omitempty" kind:"text"`
	InterfaceConfigurations json.RawMessage    `json:"networkInterfaceConfigurations,omitempty"`
}

type networkReference struct {
	reference
	Properties like[interfaceUse] `json:"properties,omitzero"`
}

func checkVirtualMachine(d *resource.Draft) error {
	if name := d.ID.Name(); len(name) > 64 || hostname(name) == "" {
		return fault.New(fault.Invalid, "InvalidParameter", "%q cannot be the name of a virtual machine", name).
			WithRemedy("A name has 1 to 64 characters, among them a letter or digit, and becomes the host name.").WithTarget("name")
	}
	var p vmProperties
	return checked(d, &p, "properties of a virtual machine", func() error {
		p.VMID, p.InstanceView, p.ProvisioningState, p.TimeCreated = nil, nil, nil, nil
		if err := p.refuse(); err != nil {
			return err
		}
		if p.NetworkProfile == nil || len(p.NetworkProfile.NetworkInterfaces) != 1 {
			return fault.New(fault.Invalid, "InvalidParameter", "a virtual machine has exactly one network interface here").
				WithRemedy("Create one and name its id in networkProfile.networkInterfaces.").WithTarget("networkProfile.networkInterfaces")
		}
		if d.Old != nil {
			var was vmProperties
			if err := d.Old.ReadProperties(&was); err != nil {
				return err
			}
			p.StorageProfile = keepImage(p.StorageProfile, was.StorageProfile)
		}
		if err := p.image(d.Location); err != nil {
			return err
		}
		if err := p.HardwareProfile.check(); err != nil {
			return err
		}
		var err error
		if d.Old != nil {
			d.Secret, err = p.keepProfile(d)
		} else {
			d.Secret, err = p.OSProfile.check(d.ID.Name(), false)
		}
		return err
	})
}

// refuse names what would have no effect.
func (p *vmProperties) refuse() error {
	var security struct {
		SecurityType string `json:"securityType"`
	}
	if !empty(p.SecurityProfile) {
		if err := resource.Strict(p.SecurityProfile, &security, "securityProfile"); err != nil || !strings.EqualFold(security.SecurityType, "Standard") {
			return noEffect("securityProfile", "machines of this server have no trusted launch and no host encryption")
		}
	}
	p.SecurityProfile = nil
	if !empty(p.UserData) {
		return noEffect("userData", "nothing in the machine would read it")
	}
	p.UserData = nil
	if s := p.StorageProfile; s != nil {
		if !empty(s.DataDisks) {
			return noEffect("storageProfile.dataDisks", "machines of this server have one disk")
		}
		s.DataDisks = nil
		if os := s.OSDisk.member("osType"); os != "" && !strings.EqualFold(os, "Linux") {
			return fault.New(fault.Invalid, "InvalidParameter", "operating system %q is not offered; machines run Linux", os).WithTarget("storageProfile.osDisk.osType")
		}
	}
	if n := p.NetworkProfile; n != nil && !empty(n.InterfaceConfigurations) {
		return noEffect("networkProfile.networkInterfaceConfigurations", "an interface is a resource of its own")
	}
	return nil
}

// image checks the reference against what is offered and fixes the version.
func (p *vmProperties) image(location string) error {
	if p.StorageProfile == nil || p.StorageProfile.ImageReference == nil {
		return fault.New(fault.Invalid, "InvalidParameter", "a virtual machine needs storageProfile.imageReference").WithRemedy("See the images with: sally vm image list").WithTarget("storageProfile.imageReference")
	}
	r := p.StorageProfile.ImageReference
	if !empty(r.ID) {
		return fault.New(fault.Invalid, "InvalidParameter", "images by id do not exist here").WithRemedy("Name publisher, offer, sku and version.").WithTarget("storageProfile.imageReference.id")
	}
	r.ID, r.ExactVersion = nil, ""
	im, ok := findImage(r.Publisher, r.Offer, r.SKU)
	if !ok || (!strings.EqualFold(r.Version, "latest") && r.Version != im.Version) {
		return fault.New(fault.NotFound, "PlatformImageNotFound", "The platform image '%s:%s:%s:%s' is not available in location '%s'.", r.Publisher, r.Offer, r.SKU, r.Version, location).
			WithRemedy("Use one of the aliases: %s.", strings.Join(aliasNames(), ", ")).WithTarget("imageReference")
	}
	r.ExactVersion = im.Version
	return nil
}

// keepImage takes the image that something was made from where a body names none:
// az vm update and az vmss update send back what they read without it.
func keepImage(now, was *storageProfile) *storageProfile {
	switch {
	case was == nil || (now != nil && now.ImageReference != nil):
	case now == nil:
		return was
	default:
		now.ImageReference = was.ImageReference
	}
	return now
}

// keepProfile holds a new body to the administrator account that the machine
// was made with: it exists once, inside the machine. It returns the password that
// the body repeats.
func (p *vmProperties) keepProfile(d *resource.Draft) (password string, err error) {
	var was vmProperties
	var private vmPrivate
	if err := firstError(d.Old.ReadProperties(&was), d.Old.ReadPrivate(&private)); err != nil {
		return "", err
	}
	if p.OSProfile == nil {
		p.OSProfile = was.OSProfile
	}
	if password, err = p.OSProfile.check(d.ID.Name(), was.OSProfile.passwords()); err != nil {
		return "", err
	}
	_ = ofKind(reflect.ValueOf(&was), "") // as a body is kept now: an older server kept more of it
	a, errA := json.Marshal(was.OSProfile)
	b, errB := json.Marshal(p.OSProfile)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		return "", fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing property 'osProfile' is not allowed.").
			WithRemedy("The administrator account is made once, with the machine.").WithTarget("osProfile")
	}
	if err := samePassword(d.Aside, private.PasswordHash, password); err != nil {
		return "", err
	}
	if was.system() != p.system() {
		return "", fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing property 'imageReference' is not allowed.").
			WithRemedy("Delete the machine and create it again.").WithTarget("imageReference")
	}
	if was.runner() != p.runner() {
		return "", fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing the size between those of one back end and those of another is not allowed.").
			WithRemedy("Delete the machine and create it again.").WithTarget("hardwareProfile.vmSize")
	}
	if was.NetworkProfile != nil && !strings.EqualFold(was.NetworkProfile.NetworkInterfaces[0].ID, p.NetworkProfile.NetworkInterfaces[0].ID) {
		return "", fault.New(fault.Conflict, "PropertyChangeNotAllowed", "Changing the network interface of a machine is not allowed.").WithTarget("networkProfile")
	}
	return password, nil
}

// check validates the profile and takes the password out of it. had says whether
// what is there was made with one, which a new body need not repeat.
func (o *osProfile) check(name string, had bool) (password string, err error) {
	if o == nil {
		return "", nil
	}
	password, o.AdminPassword = o.AdminPassword, ""
	if err := o.refuse(); err != nil {
		return "", err
	}
	if err := o.names(name); err != nil {
		return "", err
	}
	if err := o.checkPassword(password, had); err != nil {
		return "", err
	}
	return password, o.LinuxConfiguration.check(o.AdminUsername, password == "" && !had)
}

// refuse names what would have no effect.
func (o *osProfile) refuse() error {
	switch {
	case !empty(o.CustomData):
		return noEffect("osProfile.customData", "nothing in the machine would read it")
	case !empty(o.Secrets):
		return noEffect("osProfile.secrets", "this server installs no secrets on machines")
	case !empty(o.WindowsConfiguration):
		return noEffect("osProfile.windowsConfiguration", "machines run Linux")
	case o.AllowExtensionOperations != nil && !*o.AllowExtensionOperations:
		return noEffect("osProfile.allowExtensionOperations", "every machine takes its extension")
	}
	o.CustomData, o.Secrets, o.WindowsConfiguration = nil, nil, nil
	return nil
}

// names checks the host's name and the account's.
func (o *osProfile) names(name string) error {
	if o.ComputerName == "" {
		o.ComputerName = name
	}
	if hostname(o.ComputerName) == "" || len(o.ComputerName) > 64 {
		return fault.New(fault.Invalid, "InvalidParameter", "%q cannot be a host name", clip(o.ComputerName)).WithRemedy("It has 1 to 64 letters, digits and hyphens, and not hyphens alone.").WithTarget("osProfile.computerName")
	}
	if o.AdminUsername != "" && !adminName(o.AdminUsername) {
		return fault.New(fault.Invalid, "InvalidParameter", "The Admin Username specified is not allowed: %q.", clip(o.AdminUsername)).
			WithRemedy("It has 1 to 32 lower-case letters, digits, - and _, begins with a letter, and is no system account such as root.").WithTarget("osProfile.adminUsername")
	}
	return nil
}

// check validates the administrator's keys, of which there must be one unless the
// account has a password.
func (l *linuxConfiguration) check(admin string, needKey bool) error {
	if l == nil {
		if admin != "" && needKey {
			return keyMissing(admin)
		}
		return nil
	}
	if l.ProvisionVMAgent != nil && !*l.ProvisionVMAgent {
		return noEffect("linuxConfiguration.provisionVMAgent", "a machine without the agent could not be reached")
	}
	if admin == "" {
		return nil
	}
	if l.SSH == nil || len(l.SSH.PublicKeys) == 0 {
		if needKey {
			return keyMissing(admin)
		}
		return nil
	}
	for i := range l.SSH.PublicKeys {
		k := &l.SSH.PublicKeys[i]
		if k.Path != "" && k.Path != "/home/"+admin+"/.ssh/authorized_keys" {
			return fault.New(fault.Invalid, "InvalidParameter", "Destination path for SSH public keys is currently limited to its default value /home/%s/.ssh/authorized_keys.", admin).WithTarget("linuxConfiguration.ssh.publicKeys.path")
		}
		text, err := normalKey(k.KeyData)
		if err != nil {
			return err
		}
		k.KeyData, k.Path = text, "/home/"+admin+"/.ssh/authorized_keys"
	}
	return nil
}

func keyMissing(admin string) error {
	return fault.New(fault.Invalid, "InvalidParameter", "administrator account %q has no SSH public key and no password, so nobody could use it", admin).
		WithRemedy("Give a key: --ssh-key-values or --generate-ssh-keys.").WithTarget("linuxConfiguration.ssh.publicKeys")
}

// normalKey returns exactly one public key as an authorized_keys line without
// options and comment: this line is written into the machine.
func normalKey(text string) (string, error) {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "InvalidParameter", "the value of ssh.publicKeys.keyData is not usable: %s", why).
			WithRemedy("Give one line as in ~/.ssh/id_ed25519.pub.").WithTarget("linuxConfiguration.ssh.publicKeys.keyData")
	}
	pub, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(text)))
	switch {
	case err != nil:
		return "", bad("it is no OpenSSH public key")
	case len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return "", bad("it is more than one key, or has options")
	case strings.Contains(pub.Type(), "-cert-"):
		return "", bad("it is a certificate")
	case pub.Type() == "ssh-dss": //nolint:staticcheck // the name is what is refused
		return "", bad("DSA keys are no longer secure")
	}
	if c, ok := pub.(ssh.CryptoPublicKey); ok && pub.Type() == ssh.KeyAlgoRSA {
		if k, ok := c.CryptoPublicKey().(interface{ Size() int }); !ok || k.Size() < 256 {
			return "", bad("RSA keys have at least 2048 bits")
		}
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), nil
}

// adminName holds the account's name to what useradd, sudo and sshd read
// literally, without the accounts that exist on every machine.
func adminName(s string) bool {
	if len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	system := " root admin administrator daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody sshd systemd-network systemd-resolve messagebus _apt sudo adm wheel "
	return !strings.Contains(system, " "+s+" ") && !strings.HasPrefix(s, "sallyport")
}

// hostname makes a host name (RFC 1123 label) of a name, "" when nothing is left.
func hostname(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			b[i] = '-'
		}
	}
	if len(b) > 63 {
		b = b[:63]
	}
	return strings.Trim(string(b), "-")
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return s
}

func virtualMachineLinks(raw json.RawMessage) ([]resource.Link, error) {
	nics, err := interfaces(raw)
	if err != nil {
		return nil, err
	}
	out := make([]resource.Link, 0, len(nics))
	for _, id := range nics {
		out = append(out, resource.Link{ID: id, Action: NetworkInterface + "/join/action"})
	}
	return out, nil
}

// interfaces returns the ids of a machine's network interfaces.
func interfaces(raw json.RawMessage) ([]scope.ID, error) {
	var p vmProperties
	if err := json.Unmarshal(raw, &p); err != nil || p.NetworkProfile == nil {
		return nil, err
	}
	var out []scope.ID
	for _, n := range p.NetworkProfile.NetworkInterfaces {
		id, err := n.parse(NetworkInterface, "networkInterfaces.id")
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}
