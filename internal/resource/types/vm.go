package types

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// vmPrivate is what the server knows of a machine beside its properties.
type vmPrivate struct {
	MachineID string `json:"machineId"`
	Power     string `json:"power"` // wanted: Running, Stopped or deallocated
	Restart   int64  `json:"restart,omitempty"`
	Restarted int64  `json:"restarted,omitempty"` // Restart as it was last done
	SeenPower string `json:"seenPower,omitempty"`
	Private   string `json:"privateAddress,omitempty"`
	Loopback  string `json:"loopback,omitempty"`
	SSHPort   int    `json:"sshPort,omitempty"`
	Provided  bool   `json:"provided,omitempty"` // the agent has reported once
	// PasswordHash is of the administrator's password, until the machine is Provided.
	PasswordHash string `json:"passwordHash,omitempty"`

	// Of an instance of a scale set: whose identity it has, and that its set has a
	// newer model than it.
	Principal string      `json:"principal,omitempty"`
	Stale     *staleModel `json:"stale,omitempty"`
}

// deallocated is stopped, in the word that Azure's clients show.
const deallocated = "deallocated"

type machines struct{ cfg Config }

func (m machines) virtualMachine() resource.Type {
	return resource.Type{Name: VirtualMachine, Title: "virtual machine", Located: true, Identity: true, Assignable: true, Entered: true, Shape: vmProperties{},
		Top: []string{"zones"}, Embed: Extension,
		Check: checkVirtualMachine, Links: virtualMachineLinks, Store: m.storeVM, Reconcile: m.reconcileVM, Show: m.showVM,
		Actions: map[string]resource.Action{
			"start":      power(Running),
			"powerOff":   power(Stopped),
			"deallocate": power(deallocated),
			"restart": func(_ resource.Tx, _ audit.By, r *resource.Resource, _ []byte) error {
				return editVM(r, func(p *vmPrivate) error {
					if p.Power != Running {
						return fault.New(fault.Conflict, "OperationNotAllowed", "'%s' is not running, so it cannot restart.", calledInstance(r.ID)).WithRemedy("Start it.")
					}
					p.Restart = r.Revision
					return nil
				})
			},
		},
	}
}

func power(want string) resource.Action {
	return func(_ resource.Tx, _ audit.By, r *resource.Resource, _ []byte) error {
		return editVM(r, func(p *vmPrivate) error { p.Power = want; return nil })
	}
}

func editVM(r *resource.Resource, f func(*vmPrivate) error) error {
	var p vmPrivate
	if err := r.ReadPrivate(&p); err != nil {
		return err
	}
	if err := f(&p); err != nil {
		return err
	}
	return r.WritePrivate(p)
}

// storeVM gives a new machine its id, and takes its network interfaces.
func (m machines) storeVM(tx resource.Tx, _ audit.By, c *resource.Change) error {
	if c.New == nil {
		return nil
	}
	if c.Old == nil {
		id, err := guid.New(m.cfg.Rand)
		if err != nil {
			return fmt.Errorf("machine id: %w", err)
		}
		hash, err := hashed(m.cfg.Rand, c)
		if err != nil {
			return err
		}
		if err := c.New.WritePrivate(vmPrivate{MachineID: id, Power: Running, PasswordHash: hash}); err != nil {
			return err
		}
	}
	nics, err := interfaces(c.New.Properties)
	if err != nil {
		return err
	}
	self := c.New.ID.String()
	for _, id := range nics {
		if err := attach(tx, id, self); err != nil {
			return err
		}
	}
	return nil
}

// attach binds an interface to a machine; one that another machine uses is
// refused, because that machine's addresses are read from it.
func attach(tx resource.Tx, nic scope.ID, self string) error {
	return resource.Modify(tx, nic, func(r *resource.Resource) error {
		var a addressed
		if err := r.ReadPrivate(&a); err != nil {
			return err
		}
		if a.Machine != "" && a.Machine != self {
			other, err := scope.Parse(a.Machine)
			if err != nil {
				return err
			}
			if _, ok, err := tx.ResourceByID(other.Key()); err != nil {
				return err
			} else if ok && other.Key() != keyOf(self) {
				return fault.New(fault.Conflict, "NicInUse", "Network interface '%s' is in use by virtual machine '%s'.", nic.Name(), other.Name()).WithRemedy("Create another interface.")
			}
		}
		a.Machine = self
		return r.WritePrivate(a)
	})
}

func keyOf(text string) string {
	id, err := scope.Parse(text)
	if err != nil {
		return ""
	}
	return id.Key()
}

// reconcileVM brings a machine to what is wanted: there or not, running or not,
// its addresses known, its agent at the revision.
func (m machines) reconcileVM(ctx context.Context, w resource.Work) (resource.Progress, error) {
	var p vmPrivate
	if err := w.Resource.ReadPrivate(&p); err != nil {
		return resource.Progress{}, err
	}
	if w.Resource.State == resource.Deleting {
		if err := m.cfg.Backend.Remove(ctx, p.MachineID); err != nil {
			return resource.Progress{}, err
		}
		return resource.Progress{Done: true, Apply: func(tx resource.Tx) error { return publish(tx, w.Resource, vmPrivate{}, "") }}, nil
	}
	state, err := m.drive(ctx, w.Resource, &p)
	if err != nil {
		return resource.Progress{}, err
	}
	out := resource.Progress{
		After: pollWait,
		Apply: func(tx resource.Tx) error { return publish(tx, w.Resource, p, w.Resource.ID.String()) },
		Update: func(r *resource.Resource) error {
			return editVM(r, func(now *vmPrivate) error {
				now.SeenPower, now.Private, now.Loopback, now.SSHPort = state.Power, p.Private, p.Loopback, p.SSHPort
				now.Restarted, now.Provided = p.Restarted, p.Provided
				if now.Provided {
					now.PasswordHash = ""
				}
				return nil
			})
		},
	}
	if (state.Power == Running) != (p.Power == Running) {
		return out, nil
	}
	if p.Power != Running {
		out.Done = true
		return out, nil
	}
	m.awaitAgent(w, &p, &out)
	return out, nil
}

// drive moves the back end one step towards what is wanted.
func (m machines) drive(ctx context.Context, r resource.Resource, p *vmPrivate) (MachineState, error) {
	b := m.cfg.Backend
	state, err := b.State(ctx, p.MachineID)
	if err != nil {
		return state, err
	}
	if state.Power == Absent {
		if state, err = b.Ensure(ctx, newMachine(*p, r)); err != nil {
			return state, err
		}
	}
	op := ""
	switch {
	case p.Power == Running && state.Power != Running:
		op = PowerStart
	case p.Power != Running && state.Power == Running:
		op = PowerStop
	case p.Power == Running && p.Restart > p.Restarted:
		op = PowerRestart
	}
	if op != "" {
		if err := b.Power(ctx, p.MachineID, op); err != nil {
			return state, err
		}
		if state, err = b.State(ctx, p.MachineID); err != nil {
			return state, err
		}
	}
	p.Restarted = p.Restart
	if state.PrivateAddress != "" {
		p.Private, p.Loopback, p.SSHPort = state.PrivateAddress, state.Loopback, state.SSHPort
	}
	return state, nil
}

// newMachine is what the back end makes of the resource.
func newMachine(p vmPrivate, r resource.Resource) NewMachine {
	var v vmProperties
	if err := r.ReadProperties(&v); err != nil {
		return NewMachine{ID: p.MachineID, Name: machineName(r), System: Debian12, Runner: Netns}
	}
	return NewMachine{ID: p.MachineID, Name: machineName(r), System: v.system(), Runner: v.runner(), PasswordHash: p.PasswordHash}
}

func machineName(r resource.Resource) string {
	var v vmProperties
	if err := r.ReadProperties(&v); err == nil && v.OSProfile != nil && v.OSProfile.ComputerName != "" {
		return hostname(v.OSProfile.ComputerName)
	}
	return hostname(r.ID.Name())
}

// awaitAgent decides whether a running machine is done. A new machine fails when
// its agent never comes; a change to an old one is done when the agent is away,
// because it holds on the server and the agent learns it when it comes back.
func (m machines) awaitAgent(w resource.Work, p *vmPrivate, out *resource.Progress) {
	agent, ok := m.cfg.Agents.Agent(p.MachineID)
	waited := w.Now.Sub(w.Resource.WantedAt)
	switch {
	case ok && agent.Reached >= w.Resource.Revision:
		p.Provided = true
		out.Done = true
	case !p.Provided && waited > agentWait:
		out.Failure = &resource.Failure{Code: "OSProvisioningTimedOut", Message: fault.Sentence(
			"OS Provisioning for VM '%s' did not finish in the allotted time: its agent did not report within %d seconds. Look at the machine's agent: sally agent doctor (on the machine), then repeat the request.",
			calledInstance(w.Resource.ID), int(agentWait/time.Second))}
	case p.Provided && waited > updateWait:
		out.Done = true
	}
}

// publish writes a machine's addresses to its network interface and public
// address, where Azure's clients look for them. An empty self clears them.
func publish(tx resource.Tx, vm resource.Resource, p vmPrivate, self string) error {
	nics, err := interfaces(vm.Properties)
	if err != nil {
		return err
	}
	for _, id := range nics {
		nic, ok, err := tx.ResourceByID(id.Key())
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := resource.Modify(tx, id, func(r *resource.Resource) error { return r.WritePrivate(addressed{p.Private, self}) }); err != nil {
			return err
		}
		var np networkInterfaceProperties
		if err := json.Unmarshal(nic.Properties, &np); err != nil {
			return err
		}
		for _, c := range np.IPConfigurations {
			if c.Properties.PublicIPAddress == nil {
				continue
			}
			pip, err := c.Properties.PublicIPAddress.parse(PublicIP, "publicIPAddress.id")
			if err != nil {
				return err
			}
			if err := resource.Modify(tx, pip, func(r *resource.Resource) error { return r.WritePrivate(addressed{p.Loopback, self}) }); err != nil {
				return err
			}
		}
	}
	return nil
}
