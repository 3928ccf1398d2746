package types

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// hybridProperties is the strict shape of a machine that joined from elsewhere
// (Azure Arc's Microsoft.HybridCompute/machines): almost everything about it is
// what it says of itself, so that little can be written.
type hybridProperties struct {
	LocationData like[place]    `json:"locationData,omitzero"`
	OSProfile    like[hybridOS] `json:"osProfile,omitzero"`

	// Refused unless empty: each would promise something.
	ClientPublicKey            json.RawMessage `json:"clientPublicKey,omitempty"`
	PrivateLinkScopeResourceID json.RawMessage `json:"privateLinkScopeResourceId,omitempty"`
	ParentClusterResourceID    json.RawMessage `json:"parentClusterResourceId,omitempty"`
	AgentUpgrade               json.RawMessage `json:"agentUpgrade,omitempty"`
	LicenseProfile             json.RawMessage `json:"licenseProfile,omitempty"`
	ServiceStatuses            json.RawMessage `json:"serviceStatuses,omitempty"`
	MSSQLDiscovered            json.RawMessage `json:"mssqlDiscovered,omitempty"`
	OSType                     string          `json:"osType,omitempty"` // linux

	// Read-only echoes, dropped.
	VMID               any `json:"vmId,omitempty"`
	VMUUID             any `json:"vmUuid,omitempty"`
	Status             any `json:"status,omitempty"`
	LastStatusChange   any `json:"lastStatusChange,omitempty"`
	ErrorDetails       any `json:"errorDetails,omitempty"`
	DisplayName        any `json:"displayName,omitempty"`
	MachineFQDN        any `json:"machineFqdn,omitempty"`
	DNSFQDN            any `json:"dnsFqdn,omitempty"`
	DomainName         any `json:"domainName,omitempty"`
	ADFQDN             any `json:"adFqdn,omitempty"`
	OSName             any `json:"osName,omitempty"`
	OSSKU              any `json:"osSku,omitempty"`
	OSVersion          any `json:"osVersion,omitempty"`
	AgentVersion       any `json:"agentVersion,omitempty"`
	AgentConfiguration any `json:"agentConfiguration,omitempty"`
	DetectedProperties any `json:"detectedProperties,omitempty"`
	CloudMetadata      any `json:"cloudMetadata,omitempty"`
	NetworkProfile     any `json:"networkProfile,omitempty"`
	Extensions         any `json:"extensions,omitempty"`
	ProvisioningState  any `json:"provisioningState,omitempty"`
}

// hybridPrivate is what the server knows of such a machine.
type hybridPrivate struct {
	MachineID string `json:"machineId"`
	// Expired says since when and why the machine must join again before it counts
	// as one; nil while its key is good, or it never had one.
	Expired *expired `json:"expired,omitempty"`
}

type expired struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// The states of a machine that joined from elsewhere, with Azure's words.
const (
	StatusConnected    = "Connected"
	StatusDisconnected = "Disconnected"
	StatusExpired      = "Expired"
)

// Why a machine's key is good for nothing.
const (
	WhyQuarantined = "it was quarantined"
	WhyLeft        = "it was disconnected on the machine"
)

// awayAfter is how long an agent may be silent: twice its longest poll.
const awayAfter = 2 * time.Minute

func isHybrid(id scope.ID) bool { return strings.EqualFold(id.Type(), HybridMachine) }

func isMachine(id scope.ID) bool {
	return strings.EqualFold(id.Type(), VirtualMachine) || isHybrid(id) || isInstance(id)
}

func isExtension(id scope.ID) bool {
	return strings.EqualFold(id.Type(), Extension) || strings.EqualFold(id.Type(), HybridExtension) || strings.EqualFold(id.Type(), ScaleSetExtension)
}

func (m machines) hybridMachine() resource.Type {
	return resource.Type{Name: HybridMachine, Title: "machine", Located: true, Identity: true, Entered: true, Shape: hybridProperties{}, Top: []string{"kind"}, Embed: HybridExtension,
		Check: checkHybrid, Store: m.storeHybrid, Reconcile: m.reconcileHybrid, Show: m.showHybrid,
		Actions: map[string]resource.Action{"quarantine": m.quarantine},
	}
}

func badMachineName(name string) error {
	return fault.New(fault.Invalid, "InvalidParameter", "%q cannot be the name of a machine", clip(name)).
		WithRemedy("A name has 1 to 54 letters, digits and - _ . ( ), among them a letter or digit.").WithTarget("name")
}

func checkHybrid(d *resource.Draft) error {
	if name := d.ID.Name(); len(name) > 54 || hostname(name) == "" {
		return badMachineName(name)
	}
	var p hybridProperties
	return checked(d, &p, "properties of a machine", func() error {
		for field, raw := range map[string]json.RawMessage{"privateLinkScopeResourceId": p.PrivateLinkScopeResourceID, "parentClusterResourceId": p.ParentClusterResourceID,
			"agentUpgrade": p.AgentUpgrade, "licenseProfile": p.LicenseProfile, "serviceStatuses": p.ServiceStatuses, "mssqlDiscovered": p.MSSQLDiscovered} {
			if !empty(raw) {
				return noEffect(field, "machines of this server have none")
			}
		}
		if p.OSType != "" && !strings.EqualFold(p.OSType, "linux") {
			return noEffect("osType", "machines run Linux")
		}
		if !empty(p.ClientPublicKey) {
			return fault.New(fault.Invalid, "InvalidParameter", "a machine's key is not written into its resource: the machine proves that it has it").
				WithRemedy("Make a join token with: sally machine token create, and run on the machine: sally machine join").WithTarget("clientPublicKey")
		}
		p = hybridProperties{LocationData: p.LocationData, OSProfile: p.OSProfile}
		return nil
	})
}

// storeHybrid gives a new machine its id.
func (m machines) storeHybrid(_ resource.Tx, _ audit.By, c *resource.Change) error {
	if c.New == nil || c.Old != nil {
		return nil
	}
	id, err := guid.New(m.cfg.Rand)
	if err != nil {
		return fmt.Errorf("machine id: %w", err)
	}
	return c.New.WritePrivate(hybridPrivate{MachineID: id})
}

// quarantine gives the resource another machine id: everything that was issued to
// the old one names a machine that no longer exists, its key, the snapshots and
// the host certificates alike; and what its identity was given is revoked. Who it
// was joins again with a new token.
//
// The key goes with the same write: a machine that is known and has no resource
// would be told that nobody is let in any more, which is for deleted ones.
func (m machines) quarantine(tx resource.Tx, by audit.By, r *resource.Resource, _ []byte) error {
	var p hybridPrivate
	if err := r.ReadPrivate(&p); err != nil {
		return err
	}
	id, err := guid.New(m.cfg.Rand)
	if err != nil {
		return fmt.Errorf("machine id: %w", err)
	}
	if err := m.cfg.Retire(tx, by, p.MachineID); err != nil {
		return err
	}
	if err := revokeIdentity(tx, by, r.Identity); err != nil {
		return err
	}
	p.MachineID, p.Expired = id, &expired{At: r.WantedAt, Why: WhyQuarantined}
	return r.WritePrivate(p)
}

// revokeIdentity ends the tokens and certificates that a managed identity has been
// given until now.
func revokeIdentity(tx resource.Tx, by audit.By, i *resource.Identity) error {
	if i == nil {
		return nil
	}
	p, ok, err := tx.ServicePrincipalByID(i.PrincipalID)
	if err != nil || !ok {
		return err
	}
	p.NotBefore = tx.Now()
	if err := tx.PutServicePrincipal(p); err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: "servicePrincipal.revokeSessions", Outcome: audit.Success, Target: p.ID})
}

// reconcileHybrid retires the key of a machine that is deleted. While its agent is
// there, it gets the time to put its configuration back first.
func (m machines) reconcileHybrid(_ context.Context, w resource.Work) (resource.Progress, error) {
	var p hybridPrivate
	if err := w.Resource.ReadPrivate(&p); err != nil {
		return resource.Progress{}, err
	}
	if w.Resource.State != resource.Deleting {
		return resource.Progress{Done: true}, nil
	}
	agent, ok := m.cfg.Agents.Agent(p.MachineID)
	away := !ok || agent.LastSeen.IsZero() || w.Now.Sub(agent.LastSeen) > awayAfter || w.Now.Sub(w.Resource.WantedAt) > updateWait
	if !away && agent.Reached < w.Resource.Revision {
		return resource.Progress{After: pollWait}, nil
	}
	return resource.Progress{Done: true, Apply: func(tx resource.Tx) error { return m.cfg.Retire(tx, audit.By{}, p.MachineID) }}, nil
}

func editHybrid(r *resource.Resource, f func(*hybridPrivate)) error {
	var p hybridPrivate
	if err := r.ReadPrivate(&p); err != nil {
		return err
	}
	f(&p)
	return r.WritePrivate(p)
}

// HybridStatus is how such a machine stands: Azure's word, since when, and what
// a person should know about it.
type HybridStatus struct {
	Status string
	Since  time.Time
	Note   string
}

// HybridStatusOf judges a row by its agent's last word; ok is false for anything
// that is no machine that joined from elsewhere.
func HybridStatusOf(r resource.Resource, agent AgentState, joined bool, now time.Time) (s HybridStatus, ok bool) {
	var p hybridPrivate
	if !isHybrid(r.ID) || r.ReadPrivate(&p) != nil {
		return s, false
	}
	switch {
	case p.Expired != nil:
		s = HybridStatus{Status: StatusExpired, Since: p.Expired.At, Note: "its key is good for nothing, because " + p.Expired.Why + "; it joins again with a token that names it: sally machine token create"}
	case !joined:
		s = HybridStatus{Status: StatusDisconnected, Since: r.CreatedAt, Note: "it has not joined yet: sally machine token create, and on the machine: sally machine join"}
	case agent.LastSeen.IsZero():
		s = HybridStatus{Status: StatusDisconnected, Since: agent.JoinedAt, Note: "its agent has not asked since this server started"}
	case now.Sub(agent.LastSeen) > awayAfter:
		s = HybridStatus{Status: StatusDisconnected, Since: agent.LastSeen, Note: "its agent is silent; on the machine: sally agent status"}
	default:
		s = HybridStatus{Status: StatusConnected, Since: agent.JoinedAt}
	}
	if agent.Replaced != "" {
		s.Note = strings.TrimPrefix(s.Note+"; it joined again on "+agent.ReplacedAt.UTC().Format(time.RFC3339)+", and the key "+agent.Replaced+" that it had before is dead", "; ")
	}
	return s, true
}

// showHybrid is what Azure's clients read of a machine.
func (m machines) showHybrid(_ context.Context, v resource.View) (map[string]any, error) {
	var private hybridPrivate
	if err := v.Resource.ReadPrivate(&private); err != nil {
		return nil, err
	}
	p := map[string]any{}
	if err := v.Resource.ReadProperties(&p); err != nil {
		return nil, err
	}
	agent, joined := m.cfg.Agents.Agent(private.MachineID)
	st, _ := HybridStatusOf(v.Resource, agent, joined, m.cfg.Now())
	p["vmId"], p["displayName"], p["osName"], p["osType"] = private.MachineID, v.Resource.ID.Name(), "linux", "linux"
	p["status"], p["lastStatusChange"] = st.Status, st.Since.UTC()
	if joined {
		p["osSku"], p["osVersion"], p["agentVersion"], p["machineFqdn"], p["dnsFqdn"] = agent.OS, osVersion(agent.OS), agent.Version, agent.Hostname, agent.Hostname
	}
	p["errorDetails"] = []map[string]any{}
	if st.Note != "" {
		p["errorDetails"] = []map[string]any{{"code": st.Status, "message": st.Note}}
	}
	if v.Expand {
		extensions := make([]map[string]any, 0, len(v.Children))
		for _, c := range v.Children {
			view := extensionView(c)
			view["status"] = provisioning(c)
			delete(view, "statuses")
			extensions = append(extensions, view)
		}
		p["extensions"] = extensions
	}
	return p, nil
}

// osVersion is the first word of a distribution's name that begins with a digit:
// "12" of "Debian GNU/Linux 12 (bookworm)".
func osVersion(pretty string) string {
	for _, word := range strings.Fields(pretty) {
		if word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return ""
}

// power is whether a machine runs. One that joined from elsewhere is nobody's to
// start: whether its agent is there is all that counts.
func (m machines) power(ctx context.Context, extension scope.ID, machineID string) (MachineState, error) {
	if strings.EqualFold(extension.Type(), HybridExtension) {
		return MachineState{Power: Running}, nil
	}
	return m.cfg.Backend.State(ctx, machineID)
}
