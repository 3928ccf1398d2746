package server

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/labwire"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// tokens mints join tokens; *machine.Service does.
type tokens interface {
	MintJoinToken(ctx context.Context, by audit.By, machineID string, resource scope.ID) (string, error)
	Remove(ctx context.Context, by audit.By, machineID string) error
}

// labBackend runs machines in the lab.
type labBackend struct {
	lab     *labwire.Client
	tokens  tokens
	located func(machineID string) (scope.ID, bool) // the machine's resource
	now     func() time.Time
}

// Ensure makes the machine exist; a new one is started with a join token of its
// own.
func (b labBackend) Ensure(ctx context.Context, want types.NewMachine) (types.MachineState, error) {
	m, err := b.lab.Status(ctx, want.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return types.MachineState{}, err
	}
	if err == nil && m.State != labwire.StateAbsent {
		return machineState(m), nil
	}
	id, ok := b.located(want.ID)
	if !ok {
		return types.MachineState{}, fault.New(fault.Unavailable, "MachineNotKnown", "the machine's resource is not known yet")
	}
	token, err := b.tokens.MintJoinToken(ctx, b.by(), want.ID, id)
	if err != nil {
		return types.MachineState{}, err
	}
	// Both name systems and back ends alike; labwire refuses what is none.
	create := labwire.CreateRequest{MachineID: want.ID, Name: want.Name, JoinToken: token, Backend: labwire.Backend(want.Runner), System: labwire.System(want.System), PasswordHash: want.PasswordHash}
	if _, err := b.lab.Create(ctx, create); err != nil {
		return types.MachineState{}, err
	}
	m, err = b.lab.Start(ctx, want.ID)
	return machineState(m), err
}

// by is the server's own hand: the person's right was checked when the resource
// was written.
func (b labBackend) by() audit.By {
	return audit.By{Type: audit.Task, Name: "machine back end", CorrelationID: zeroID, At: b.now()}
}

// Power starts, stops or restarts.
func (b labBackend) Power(ctx context.Context, machineID, op string) error {
	var err error
	switch op {
	case types.PowerStart:
		_, err = b.lab.Start(ctx, machineID)
	case types.PowerStop:
		_, err = b.lab.Stop(ctx, machineID)
	case types.PowerRestart:
		_, err = b.lab.Restart(ctx, machineID)
	default:
		err = fault.New(fault.Invalid, "InvalidParameter", "a machine cannot %q", op)
	}
	return err
}

// Remove removes the machine, and its key from those that are known.
func (b labBackend) Remove(ctx context.Context, machineID string) error {
	if err := b.lab.Delete(ctx, machineID); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return b.tokens.Remove(ctx, b.by(), machineID)
}

// State says how the machine is.
func (b labBackend) State(ctx context.Context, machineID string) (types.MachineState, error) {
	m, err := b.lab.Status(ctx, machineID)
	if fault.Is(err, fault.NotFound) {
		return types.MachineState{Power: types.Absent}, nil
	}
	return machineState(m), err
}

func machineState(m labwire.Machine) types.MachineState {
	s := types.MachineState{Power: types.Absent, PrivateAddress: m.Address, Loopback: m.Loopback, SSHPort: m.SSHPort}
	switch m.State {
	case labwire.StateRunning:
		s.Power = types.Running
	case labwire.StateStopped:
		s.Power = types.Stopped
	case labwire.StateAbsent:
	}
	return s
}

// noBackend is a server without a lab: it knows machines and makes none.
type noBackend struct{}

func (noBackend) refuse() error {
	return fault.New(fault.Invalid, "NoMachineBackEnd", "this server has nothing to make machines with").
		WithRemedy("Start it with --lab-socket and run: sally lab serve")
}

func (n noBackend) Ensure(context.Context, types.NewMachine) (types.MachineState, error) {
	return types.MachineState{}, n.refuse()
}

func (n noBackend) Power(context.Context, string, string) error { return n.refuse() }

func (noBackend) Remove(context.Context, string) error { return nil }

func (noBackend) State(context.Context, string) (types.MachineState, error) {
	return types.MachineState{Power: types.Absent}, nil
}
