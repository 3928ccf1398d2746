package pin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// Places of the files, below the root folder.
const (
	Folder       = "/etc/sallyport"
	MachinePath  = Folder + "/machine.json"
	ManifestPath = Folder + "/manifest.json"
	KeyFolder    = "/var/lib/sallyport/agent"
	KeyPath      = KeyFolder + "/machine.key"
)

// Machine is the content of machine.json.
type Machine struct {
	URL           string `json:"url"`               // the server
	Address       string `json:"address,omitempty"` // host:port to dial instead of the URL's
	ManifestPin   string `json:"manifestPin"`       // thumbprint of the manifest key
	Tenant        string `json:"tenant"`
	MachineID     string `json:"machineId"`
	ResourceID    string `json:"resourceId"`
	KeyThumbprint string `json:"keyThumbprint"` // of the machine's own key
}

func (m Machine) check() error {
	u, err := url.Parse(m.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("the server's URL is not https")
	}
	if err := CheckAddress(m.Address); err != nil {
		return err
	}
	if m.ManifestPin == "" || m.KeyThumbprint == "" || m.ResourceID == "" || !guid.Valid(m.Tenant) || !guid.Valid(m.MachineID) {
		return errors.New("a pin or an id is missing")
	}
	return nil
}

// CheckAddress accepts "" or host:port.
func CheckAddress(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" {
		return fault.New(fault.Invalid, "InvalidAddress", "%q is not host:port", address)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if _, err := url.Parse("https://" + address + "/"); err != nil {
		return fault.New(fault.Invalid, "InvalidAddress", "%q is not host:port", address)
	}
	return nil
}

// ErrNotJoined is what Load returns when the machine has not joined.
func ErrNotJoined() error {
	return fault.New(fault.Precondition, "NotJoined", "this machine has not joined a server").
		WithRemedy("Join it: sally machine join --resource-group RG; a machine that the server made joins with: sally agent join --token-file FILE")
}

// Load reads machine.json below root; it must belong to owner (0 on a machine).
func Load(root string, owner uint32) (Machine, error) {
	b, err := durable.Read(filepath.Join(root, MachinePath), owner, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return Machine{}, ErrNotJoined()
	}
	if err != nil {
		return Machine{}, fmt.Errorf("read the machine's pins: %w", err)
	}
	var m Machine
	if err := protocol.Decode(b, &m); err != nil {
		return Machine{}, fmt.Errorf("%s: %w", MachinePath, err)
	}
	if err := m.check(); err != nil {
		return Machine{}, fmt.Errorf("%s: %w", MachinePath, err)
	}
	return m, nil
}

// Save writes machine.json below root.
func (m Machine) Save(root string) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("machine.json: %w", err)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Folder(filepath.Join(root, Folder), 0o755); err != nil {
		return err
	}
	return durable.Write(filepath.Join(root, MachinePath), append(b, '\n'), 0o644)
}

// LoadManifest reads and verifies the kept manifest.
func (m Machine) LoadManifest(root string, owner uint32) (protocol.SignedManifest, protocol.Manifest, error) {
	var s protocol.SignedManifest
	b, err := durable.Read(filepath.Join(root, ManifestPath), owner, protocol.MaxDocument)
	if err != nil {
		return s, protocol.Manifest{}, err
	}
	if err := protocol.Decode(b, &s); err != nil {
		return s, protocol.Manifest{}, fmt.Errorf("%s: %w", ManifestPath, err)
	}
	manifest, err := m.OpenManifest(s)
	return s, manifest, err
}

// OpenManifest verifies a manifest against the pin and the tenant.
func (m Machine) OpenManifest(s protocol.SignedManifest) (protocol.Manifest, error) {
	manifest, err := s.Open(m.ManifestPin)
	if err != nil {
		return protocol.Manifest{}, err
	}
	if manifest.Tenant != m.Tenant {
		return protocol.Manifest{}, fmt.Errorf("the manifest is of tenant %s, this machine joined %s", manifest.Tenant, m.Tenant)
	}
	return manifest, nil
}

// SaveManifest keeps a manifest that the caller has verified.
func SaveManifest(root string, s protocol.SignedManifest) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(root, ManifestPath), b, 0o644)
}

// Joined reports whether the pins are there.
func Joined(root string) bool {
	_, err := os.Lstat(filepath.Join(root, MachinePath))
	return err == nil
}
