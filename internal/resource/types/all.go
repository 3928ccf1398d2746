package types

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The type names.
const (
	VirtualNetwork   = "Microsoft.Network/virtualNetworks"
	SecurityGroup    = "Microsoft.Network/networkSecurityGroups"
	PublicIP         = "Microsoft.Network/publicIPAddresses"
	NetworkInterface = "Microsoft.Network/networkInterfaces"
	VirtualMachine   = "Microsoft.Compute/virtualMachines"
	Extension        = "Microsoft.Compute/virtualMachines/extensions"
	HybridMachine    = "Microsoft.HybridCompute/machines"
	HybridExtension  = "Microsoft.HybridCompute/machines/extensions"
	UserIdentity     = "Microsoft.ManagedIdentity/userAssignedIdentities"
)

// Backend is where machines run. Every method is idempotent.
type Backend interface {
	// Ensure makes the machine exist, running when it is new.
	Ensure(ctx context.Context, m NewMachine) (MachineState, error)
	// Power does one of PowerStart, PowerStop and PowerRestart.
	Power(ctx context.Context, machineID, op string) error
	// Remove removes the machine and all it holds.
	Remove(ctx context.Context, machineID string) error
	// State says how the machine is; a machine that does not exist is "absent".
	State(ctx context.Context, machineID string) (MachineState, error)
}

// NewMachine is what a back end needs to make a machine.
type NewMachine struct {
	ID     string
	Name   string // its host name
	System System
	Runner Runner
	// PasswordHash is what the administrator account gets in /etc/shadow, and the
	// sign that sshd takes passwords; "" for an account without one, and sshd
	// takes none.
	PasswordHash string
}

// The power operations and states.
const (
	PowerStart   = "start"
	PowerStop    = "stop"
	PowerRestart = "restart"

	Running = "running"
	Stopped = "stopped"
	Absent  = "absent"
)

// MachineState is what a back end knows about a machine.
type MachineState struct {
	Power          string // Running, Stopped or Absent
	PrivateAddress string
	Loopback       string // where this computer reaches its sshd, "" for nowhere
	SSHPort        int    // at Loopback
}

// Agents is what the machines' agents have reported.
type Agents interface {
	Agent(machineID string) (AgentState, bool)
}

// AgentUpgrade is what an agent says of a wish for another build.
type AgentUpgrade struct {
	Version string `json:"version"`
	From    string `json:"from"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
}

// AgentState is one agent's last word.
type AgentState struct {
	Upgrade      *AgentUpgrade // nil where there is no wish for another build
	LastSeen     time.Time
	Version      string
	OS           string
	OpenSSH      string
	Reached      int64  // revision of the virtual machine
	Provisioned  string // Succeeded, Failed, Transitioning
	ExitCode     int
	Message      string
	Snapshot     int64 // version of the newest grants snapshot made for it
	Acknowledged int64 // snapshot version that the machine holds
	Addresses    []string
	Hostname     string
	JoinedAt     time.Time
	// Replaced is the key that the machine had before it joined again, with when it
	// died; "" for none.
	Replaced   string
	ReplacedAt time.Time
}

// Config is what the types stand on.
type Config struct {
	Backend Backend
	Agents  Agents
	Rand    io.Reader // for machine ids
	// Server is the address that agents must reach, for people.
	Server string
	// LoggedIn, where set, lists who is logged in on a machine, as it last said.
	LoggedIn func(ctx context.Context, machineID string) ([]string, error)
	// PreviewAllowed says whether the preview version of the login extension may be
	// set; nil: it may not.
	PreviewAllowed func() bool
	Now            func() time.Time
	// Retire makes the keys of a machine that joined worth nothing, inside a
	// transaction. It is idempotent.
	Retire func(tx resource.Tx, by audit.By, machineID string) error
	// Stored reads a resource as it is stored.
	Stored func(ctx context.Context, id scope.ID) (resource.Resource, bool, error)
}

// How long the world is given to follow, before an operation ends without it.
const (
	// agentWait: a new machine's agent, or a wanted extension.
	agentWait = 90 * time.Second
	// updateWait: an agent that is away learns a change when it comes back; the
	// change itself holds on the server at once.
	updateWait = 20 * time.Second
	// logoutWait: people who have just logged out are reported gone.
	logoutWait = 8 * time.Second
	// pollWait is the time between two looks at an agent.
	pollWait = 50 * time.Millisecond
)

// All returns every type.
func All(cfg Config) []resource.Type {
	m := machines{cfg}
	return []resource.Type{
		subscriptionType(), managementGroupType(), groupType(),
		virtualNetworkType(), securityGroupType(), publicIPType(), networkInterfaceType(),
		m.deploymentType(), userIdentityType(),
		m.virtualMachine(), m.extension(), m.hybridMachine(), m.extensionOf(HybridExtension, "machine extension"),
		m.scaleSet(), m.instance(), m.instanceExtension(),
	}
}

// groupProperties: a group has none of its own.
type groupProperties struct {
	ProvisioningState any `json:"provisioningState,omitempty"` // read-only
}

func groupType() resource.Type {
	return resource.Type{Name: resource.TypeGroup, Title: "resource group", Located: true, Shape: groupProperties{},
		Top: []string{"managedBy"},
		Check: func(d *resource.Draft) error {
			var p groupProperties
			return checked(d, &p, "properties of a resource group", func() error { p.ProvisioningState = nil; return nil })
		},
		// A group is there once it is written, and its PUT says so (Azure's SDKs do not
		// wait for one); only what is in it takes time to go.
		Store: func(_ resource.Tx, _ audit.By, c *resource.Change) error {
			if c.New != nil {
				c.New.Observed, c.New.State = c.New.Revision, resource.Succeeded
			}
			return nil
		},
		Reconcile: func(_ context.Context, w resource.Work) (resource.Progress, error) {
			if w.Resource.State == resource.Deleting && len(w.Children) > 0 {
				return resource.Progress{After: pollWait}, nil
			}
			return resource.Progress{Done: true}, nil
		},
	}
}

// checked decodes a draft's properties strictly into p, validates them, and
// stores what was understood, without the read-only echoes that the check
// cleared. What is there and stays as it is need not have the shapes of today: an
// older server took it, and whoever gives a tag or an identity has not written it.
func checked(d *resource.Draft, p any, where string, check func() error) error {
	if err := resource.Strict(d.Properties, p, where); err != nil {
		return err
	}
	if err := ofKind(reflect.ValueOf(p), "properties"); err != nil && (d.Old == nil || !bytes.Equal(d.Old.Properties, d.Properties)) {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	d.Properties = b
	return nil
}

// reference is how properties point at another resource.
type reference struct {
	ID string `json:"id"`
}

// parse reads a reference that must be of a type.
func (r reference) parse(kind, field string) (scope.ID, error) {
	id, err := scope.Parse(r.ID)
	if err != nil || !strings.EqualFold(id.Type(), kind) {
		return scope.ID{}, fault.New(fault.Invalid, "InvalidResourceReference", "%s must be the id of a resource of type %s", field, kind).WithTarget(field)
	}
	return id, nil
}

// empty reports whether a JSON value is absent, null, or holds nothing.
func empty(raw json.RawMessage) bool {
	switch strings.TrimSpace(string(raw)) {
	case "", "null", "{}", "[]", `""`:
		return true
	}
	return false
}

// noEffect refuses a field that this server would not act on.
func noEffect(field, why string) error {
	return fault.New(fault.Invalid, "InvalidParameter", "%q would have no effect here: %s; nothing was changed", field, why).WithRemedy("Leave it out.").WithTarget(field)
}
