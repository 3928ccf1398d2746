package types

import (
	"strings"
	"sync"

	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// Want is what a machine must know of its resources.
type Want struct {
	MachineID    string
	ResourceID   scope.ID
	Name         string // host name
	Identity     bool   // the system-assigned identity is on
	PrincipalID  string // of the identity
	Assigned     []resource.Assigned
	LoginEnabled bool // a login extension is wanted
	Preview      bool // it is the preview version
	Revision     int64
	AdminName    string
	AdminKeys    []string // authorized_keys lines
	Passwords    bool     // sshd takes the administrator's password
	Location     string
	Size         string
	Tags         map[string]string
}

// Wanted derives it. It is pure; children are the virtual machine's resources.
func Wanted(vm resource.Resource, children []resource.Resource) Want {
	var p vmPrivate
	var v vmProperties
	if vm.ReadPrivate(&p) != nil || vm.ReadProperties(&v) != nil {
		return Want{} // unreadable: nothing is wanted, nobody is let in
	}
	w := Want{MachineID: p.MachineID, ResourceID: vm.ID, Name: machineName(vm), PrincipalID: identityOf(vm, p), Revision: vm.Revision, Location: vm.Location, Tags: vm.Tags}
	if v.HardwareProfile != nil {
		w.Size = v.HardwareProfile.VMSize
	}
	w.Identity = w.PrincipalID != ""
	if vm.Identity != nil {
		w.Assigned = vm.Identity.Assigned
	}
	for _, c := range children {
		var e extensionPrivate
		if isExtension(c.ID) && c.ReadPrivate(&e) == nil && e.Enabled {
			w.LoginEnabled, w.Preview = true, e.Preview
		}
	}
	if isHybrid(vm.ID) {
		// One that is going is asked to put everything back first. Its accounts are
		// its own: there is no administrator that we made.
		w.LoginEnabled = w.LoginEnabled && vm.State != resource.Deleting
		return w
	}
	if o := v.OSProfile; o != nil && o.AdminUsername != "" {
		w.AdminName, w.Passwords = o.AdminUsername, o.passwords()
		if o.LinuxConfiguration != nil && o.LinuxConfiguration.SSH != nil {
			for _, k := range o.LinuxConfiguration.SSH.PublicKeys {
				w.AdminKeys = append(w.AdminKeys, k.KeyData)
			}
		}
	}
	return w
}

// identityOf is the principal that a machine is: its own, or for an instance its
// set's.
func identityOf(vm resource.Resource, p vmPrivate) string {
	if isInstance(vm.ID) {
		return p.Principal
	}
	return principalOf(vm.Identity)
}

// Facts is what the server knows of where a machine is.
type Facts struct {
	MachineID      string
	Power          string // as last seen
	PrivateAddress string
	Loopback       string
	SSHPort        int
	// Of an instance of a scale set: that its set has a newer model than it, and
	// whether that one has the login extension.
	OldModel, NewLogin bool
}

// FactsOf reads them from a machine's row; ok is false for anything else.
func FactsOf(vm resource.Resource) (Facts, bool) {
	var p vmPrivate
	if !isMachine(vm.ID) || vm.ReadPrivate(&p) != nil || p.MachineID == "" {
		return Facts{}, false
	}
	f := Facts{MachineID: p.MachineID, Power: p.SeenPower, PrivateAddress: p.Private, Loopback: p.Loopback, SSHPort: p.SSHPort, OldModel: p.Stale != nil}
	f.NewLogin = f.OldModel && p.Stale.Login
	return f, true
}

// Reader is what Machines loads itself from.
type Reader interface {
	ResourceByID(key string) (resource.Resource, bool, error)
	ListResources(resource.Range) ([]resource.Resource, error)
}

// Machines holds in memory what every machine is wanted to be. It follows the
// change feed and is safe for concurrent use.
type Machines struct {
	mu    sync.RWMutex
	byID  map[string]Want   // by machine id
	byKey map[string]string // resource key -> machine id
}

// NewMachines returns an empty index; Load fills it.
func NewMachines() *Machines {
	return &Machines{byID: map[string]Want{}, byKey: map[string]string{}}
}

// Load replaces the whole content.
func (m *Machines) Load(r Reader) error {
	list, err := listAll(r, resource.Range{}, VirtualMachine, HybridMachine, ScaleSetInstance)
	if err != nil {
		return err
	}
	extensions, err := listAll(r, resource.Range{}, Extension, HybridExtension, ScaleSetExtension)
	if err != nil {
		return err
	}
	inside := map[string][]resource.Resource{}
	for _, e := range extensions {
		vm, _ := e.ID.Parent()
		inside[vm.Key()] = append(inside[vm.Key()], e)
	}
	byID, byKey := make(map[string]Want, len(list)), make(map[string]string, len(list))
	for _, vm := range list {
		if w := Wanted(vm, inside[vm.ID.Key()]); w.MachineID != "" {
			byID[w.MachineID], byKey[vm.ID.Key()] = w, w.MachineID
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byID, m.byKey = byID, byKey
	return nil
}

func listAll(r Reader, at resource.Range, kinds ...string) (all []resource.Resource, err error) {
	for _, at.Type = range kinds {
		list, err := r.ListResources(at)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// Refresh follows one entry of the change feed: a machine, or an extension
// inside one. Other kinds and types are ignored.
func (m *Machines) Refresh(r Reader, kind, key string) error {
	if kind != "resource" {
		return nil
	}
	id, err := scope.Parse(key)
	if err != nil {
		return err
	}
	if isExtension(id) {
		id, _ = id.Parent()
	}
	if !isMachine(id) {
		return nil
	}
	vm, ok, err := r.ResourceByID(id.Key())
	if err != nil {
		return err
	}
	var children []resource.Resource
	if ok {
		if children, err = listAll(r, resource.Range{Under: id}, Extension, HybridExtension, ScaleSetExtension); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, had := m.byKey[id.Key()]; had {
		// One that was moved is wanted under its new id already.
		if m.byID[old].ResourceID.Key() == id.Key() {
			delete(m.byID, old)
		}
		delete(m.byKey, id.Key())
	}
	if w := Wanted(vm, children); ok && w.MachineID != "" {
		m.byID[w.MachineID], m.byKey[id.Key()] = w, w.MachineID
	}
	return nil
}

// Machine returns the machine that the resource with this key is, or lies in.
func (m *Machines) Machine(key string) (machineID string, ok bool) {
	id, err := scope.Parse(key)
	if err != nil {
		return "", false
	}
	if isExtension(id) {
		id, _ = id.Parent()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	machineID, ok = m.byKey[id.Key()]
	return machineID, ok
}

// Want returns what a machine is wanted to be; ok is false when no resource is
// that machine any more.
func (m *Machines) Want(machineID string) (Want, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	w, ok := m.byID[strings.ToLower(machineID)]
	return w, ok
}
