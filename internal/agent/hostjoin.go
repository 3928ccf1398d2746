package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/preflight"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// HostJoin is one attempt to make this computer a machine.
type HostJoin struct {
	Token       string
	Address     string // host:port to reach the server at; may be empty
	Name, Group string
	Tags        map[string]string
	EnableLogin bool
	Rejoin      bool // the computer is a machine already, and becomes one anew
}

// Host is this computer with what its commands say.
type Host struct {
	Version  string
	Out, Log io.Writer
}

// The units that run the two parts where there is systemd, first the root part.
const (
	rootUnit    = "sallyport-agent-root.service"
	networkUnit = "sallyport-agent.service"
	// unitsPath lists the units that joining enabled, so that leaving disables
	// those and no others.
	unitsPath = "/var/lib/sallyport/agent-units.json"
	// leavingPath marks a disconnect that has not ended.
	leavingPath = "/var/lib/sallyport/leaving.json"
	// deploymentPath is there where the computer is a server.
	deploymentPath = "/var/lib/sallyport/keys"
)

// How long a host that has joined is watched: until it holds a snapshot, and until
// sign-in is wired.
const (
	snapshotWait = 20 * time.Second
	wiringWait   = time.Minute
	lookPause    = 100 * time.Millisecond
)

// Join makes this computer a machine: it looks before it changes anything, joins,
// and starts the agent.
func (h Host) Join(ctx context.Context, j HostJoin) error {
	if err := needRoot(); err != nil {
		return err
	}
	if err := joinable("/", j.Rejoin); err != nil {
		return err
	}
	network, err := installed("/")
	if err != nil {
		return err
	}
	wired, _ := wiring(proc.Table{Dir: "/proc"}, nil)
	if err := wired.Present(); err != nil {
		return err
	}
	log := logger(h.Log, "join")
	m, err := Join(ctx, JoinConfig{Root: "/", Network: int(network), Token: j.Token, Address: j.Address, Facts: facts(ctx, h.Version), Wait: wait, Tries: 15, Log: log,
		Name: j.Name, Group: j.Group, Tags: j.Tags, EnableLogin: j.EnableLogin, Now: time.Now,
		Check: func(ctx context.Context, q preflight.Question) error {
			q.Ours = wired.Wired()
			return refusals(thisHost().Refusals(ctx, q))
		}})
	if err != nil {
		return err
	}
	fmt.Fprintf(h.Out, "This machine is %s\n(machine id %s) of %s.\n", m.ResourceID, m.MachineID, m.URL)
	return h.begin(ctx, j, beginning{root: "/", socket: control.SocketPath, systemctl: systemctl, snapshot: snapshotWait, wiring: wiringWait})
}

// installed returns the uid of the network part, where the package has made it.
func installed(rootFolder string) (network uint32, err error) {
	network, err = userID(rootFolder, networkUser)
	if err == nil {
		_, err = userID(rootFolder, helperUser)
	}
	if err == nil {
		return network, nil
	}
	return 0, fault.Wrap(err, fault.Precondition, "AgentNotInstalled", "the machine agent is not installed on this host: %s", fault.As(err).Text).WithRemedy("Install the package sallyport-agent, then join.")
}

// joinable refuses a host that is a machine already, or has not ceased to be one.
func joinable(rootFolder string, again bool) error {
	if _, err := os.Lstat(filepath.Join(rootFolder, leavingPath)); err == nil {
		return fault.New(fault.Conflict, "DisconnectUnfinished", "this host is being disconnected, and that has not ended").WithRemedy("Run: sally machine disconnect")
	}
	if _, err := os.Lstat(filepath.Join(rootFolder, deploymentPath)); err == nil {
		return fault.New(fault.Conflict, "ComputerIsServer", "this computer is a Sallyport server, whose deployment is in /var/lib/sallyport: a computer is a server or a machine, not both").
			WithRemedy("Join another computer. The server's own people log in to it with local accounts.")
	}
	if !pin.Joined(rootFolder) || again {
		return nil
	}
	m, err := pin.Load(rootFolder, 0)
	if err != nil {
		return fault.Wrap(err, fault.Conflict, "AlreadyJoined", "this host is a machine already, and its files cannot be read: %v", err).WithRemedy("Run: sally machine disconnect")
	}
	return fault.New(fault.Conflict, "AlreadyJoined", "this host is a machine already: %s of %s", m.ResourceID, m.URL).
		WithRemedy("Run sally machine disconnect first, or join again with --rejoin and a token that names the machine.")
}

// refusals is one error that says all of them.
func refusals(list []error) error {
	if len(list) == 0 {
		return nil
	}
	if len(list) == 1 {
		return list[0]
	}
	lines := []string{fmt.Sprintf("this host cannot join, for %d reasons; nothing was changed:", len(list))}
	for _, err := range list {
		lines = append(lines, "- "+fault.As(err).Public())
	}
	return fault.New(fault.Precondition, fault.As(list[0]).Code, "%s", strings.Join(lines, "\n"))
}

func thisHost() preflight.Host {
	return preflight.Host{Root: "/", Processes: proc.Table{Dir: "/proc"}.All,
		Run: func(ctx context.Context, argv ...string) ([]byte, error) { return run(ctx, root.Command{Argv: argv}) },
		Pidfd: func() error {
			fd, err := unix.PidfdOpen(os.Getpid(), 0)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		}}
}

// beginning is where the agent is started and watched, and for how long.
type beginning struct {
	root, socket     string
	systemctl        func(ctx context.Context, argv ...string) error
	snapshot, wiring time.Duration
}

// begin starts the two parts of the agent and says what became of it.
func (h Host) begin(ctx context.Context, j HostJoin, b beginning) error {
	if !hasSystemd(b.root) {
		fmt.Fprintf(h.Out, "There is no systemd here. Start both parts as root, and have them started with the host:\n  sally agent root\n  sally agent run\n")
		return nil
	}
	if err := enableUnits(ctx, b.root, b.systemctl); err != nil {
		return err
	}
	verb := "start"
	if j.Rejoin {
		verb = "restart"
	}
	if err := b.systemctl(ctx, verb, rootUnit, networkUnit); err != nil {
		return err
	}
	st, err := b.look(ctx, b.snapshot, func(st *control.Status) bool { return st.Version > 0 })
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "AgentSilent", "the host has joined, and its agent has not heard from the server yet: %v", err).WithRemedy("Run: sally agent doctor")
	}
	if j.EnableLogin {
		st, err = b.look(ctx, b.wiring, func(st *control.Status) bool { return st.Extension || st.Provisioned == "Failed" })
	}
	return h.became(st, err)
}

// became says in what state the host is.
func (h Host) became(st *control.Status, err error) error {
	switch {
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "AgentSilent", "the host has joined, and sign-in is not wired yet: %v", err).WithRemedy("Run: sally agent status")
	case st.Extension:
		fmt.Fprintln(h.Out, "Sign-in with directory accounts is on.")
	case st.Provisioned == "Failed":
		return fault.New(fault.Precondition, "SignInFailed", "the host has joined, and sign-in could not be turned on: exit code %d: %s", st.ExitCode, st.Message).WithRemedy("Run: sally agent doctor")
	default:
		fmt.Fprintf(h.Out, "Sign-in is off. Turn it on with: sally machine extension create --name AADSSHLoginForLinux\n")
	}
	return nil
}

// look asks the root part until what is waited for is there.
func (b beginning) look(ctx context.Context, limit time.Duration, there func(*control.Status) bool) (*control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		answer, err := control.Client{Path: b.socket}.Ask(ctx, control.Request{Op: control.OpStatus})
		if err == nil && there(answer.Status) {
			return answer.Status, nil
		}
		wait(ctx, lookPause)
		if ctx.Err() != nil {
			return nil, errors.Join(fault.New(fault.Unavailable, "Late", "not within %s", limit), err)
		}
	}
}

func hasSystemd(rootFolder string) bool {
	info, err := os.Lstat(filepath.Join(rootFolder, "/run/systemd/system")) // sd_booted(3)
	return err == nil && info.IsDir()
}

// systemctl runs it for its effect.
func systemctl(ctx context.Context, argv ...string) error {
	out, err := run(ctx, root.Command{Argv: append([]string{"systemctl"}, argv...)})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "SystemctlFailed", "systemctl %s: %s", strings.Join(argv, " "), ascii(strings.TrimSpace(string(out)))).
			WithRemedy("Are the units of the package sallyport-agent installed?")
	}
	return nil
}

// enableUnits enables what is not, and remembers that.
func enableUnits(ctx context.Context, rootFolder string, control func(ctx context.Context, argv ...string) error) error {
	var ours []string
	for _, unit := range []string{rootUnit, networkUnit} {
		if control(ctx, "is-enabled", "--quiet", unit) != nil {
			ours = append(ours, unit)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	// Before the change: what is disabled again for nothing costs nothing.
	b, err := json.Marshal(ours)
	if err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(rootFolder, unitsPath), b, 0o600); err != nil {
		return err
	}
	return control(ctx, append([]string{"enable"}, ours...)...)
}

// serverTime asks the server what time it is, over a connection that the manifest
// vouches for. before is what somebody answered without a voucher: it only serves
// the sentence for a clock with which no certificate is valid.
func (c JoinConfig) serverTime(ctx context.Context, t protocol.JoinToken, m protocol.Manifest, before time.Time) (time.Time, error) {
	trusted, err := newClient(clientConfig{URL: t.URL, Address: c.Address, Trust: m, Pinned: true})
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	trusted.date = &at
	var again protocol.SignedManifest
	if err := trusted.call(ctx, "GET", "/.well-known/sallyport/manifest", nil, &again); err != nil {
		if off := c.Now().Sub(before); expiredTLS(err) && off.Abs() > time.Minute {
			return time.Time{}, preflight.ClockWrong("makes the server's own certificate look expired or not yet valid, and is " + off.Abs().Round(time.Second).String() + " off what the server says")
		}
		return time.Time{}, err
	}
	if at.IsZero() {
		return time.Time{}, fault.New(fault.Unavailable, "NoServerTime", "the server does not say what time it is")
	}
	return at, nil
}
