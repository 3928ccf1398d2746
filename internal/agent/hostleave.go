package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/fault"
)

// HostLeave ends what a join began.
type HostLeave struct {
	Force bool // also when the server cannot be told
}

// leaving is a disconnect that has begun: what is needed when the files that said
// it are gone already.
type leaving struct {
	MachineID  string `json:"machineId"`
	ResourceID string `json:"resourceId"`
	URL        string `json:"url"`
	Told       bool   `json:"told"`
}

// Leaver undoes a join, step by step. Each step can be done again, and the mark of
// the disconnect goes last, so that a kill at any moment is finished by the next
// try.
type Leaver struct {
	Root  string
	Owner uint32
	// Tell gives up the machine's key at the server.
	Tell func(ctx context.Context) error
	// Stop ends both parts of the agent, and that they are started with the host.
	Stop func(ctx context.Context) error
	// End ends the sessions of everybody of ours.
	End func(ctx context.Context) error
	// Unwire puts sshd, PAM, sudo and the name service back; Hush takes the identity
	// service's address off.
	Unwire, Hush func(ctx context.Context) error
	// Step, where set, hears of each step; its error stops there, as a kill would.
	Step func(string) error
	Log  func(format string, args ...any)
}

// Leave disconnects this computer.
func (h Host) Leave(ctx context.Context, l HostLeave) error {
	if err := needRoot(); err != nil {
		return err
	}
	table := proc.Table{Dir: "/proc"}
	wired, daemon := wiring(table, nil)
	log := logger(h.Log, "disconnect")
	leaver := Leaver{Root: "/", Log: log, Tell: tellLeaving,
		Stop: func(ctx context.Context) error { return stopAgent(ctx, table, log) },
		End: func(ctx context.Context) error {
			return endEverybody(ctx, newEnder(table))
		},
		Unwire: func(ctx context.Context) error {
			if err := wired.Remove(ctx); err != nil {
				return err
			}
			if err := os.Remove(sshd.HostCertificatePath); err != nil {
				return ignoreMissing(err)
			}
			return daemon.Reload(ctx)
		},
		Hush: func(ctx context.Context) error { return identityEndpoint().Close(ctx) }}
	m, err := leaver.Run(ctx, l.Force)
	if err != nil {
		return err
	}
	fmt.Fprintf(h.Out, "This host is no machine of %s any more; its files are as they were.\n", m.URL)
	fmt.Fprintf(h.Out, "Homes of directory accounts stay, and who each belongs to is remembered for a later join.\nIts resource stays too; delete it with: sally machine delete --ids %s\n", m.ResourceID)
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (l Leaver) step(name string) error {
	if l.Step == nil {
		return nil
	}
	return l.Step(name)
}

// Run does everything that is left to do. With force an unreachable server does
// not stop it.
func (l Leaver) Run(ctx context.Context, force bool) (m leaving, err error) {
	if m, err = l.begun(); err != nil {
		return m, err
	}
	if !m.Told {
		if err := l.tell(ctx, m, force); err != nil {
			return m, err
		}
		m.Told = true
	}
	if err := l.mark(m); err != nil {
		return m, err
	}
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{{"stop the agent", l.Stop}, {"end sessions", l.End}, {"put the configuration back", l.Unwire}, {"take the identity service's address off", l.Hush}, {"remove files", l.forget}} {
		if err := l.step(s.name); err != nil {
			return m, err
		}
		if err := s.do(ctx); err != nil {
			return m, fault.Wrap(err, fault.As(err).Kind, fault.As(err).Code, "%s: %s", s.name, plainText(err)).WithRemedy("Run it again when that is mended: what was done stays done.")
		}
	}
	if err := l.step("unmark"); err != nil {
		return m, err
	}
	return m, durable.Remove(filepath.Join(l.Root, leavingPath))
}

func plainText(err error) string {
	if f := fault.As(plain(err)); f != nil {
		return f.Public()
	}
	return err.Error()
}

// begun reads what is being left: the mark of an earlier try, else the pins.
func (l Leaver) begun() (m leaving, err error) {
	b, err := durable.Read(filepath.Join(l.Root, leavingPath), l.Owner, 64<<10)
	if err == nil {
		return m, json.Unmarshal(b, &m)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	p, err := pin.Load(l.Root, l.Owner)
	return leaving{MachineID: p.MachineID, ResourceID: p.ResourceID, URL: p.URL}, err
}

func (l Leaver) mark(m leaving) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(l.Root, leavingPath), append(b, '\n'), 0o600)
}

// tell comes first, while everything is as it was: a server that cannot be reached
// leaves a machine that works.
func (l Leaver) tell(ctx context.Context, m leaving, force bool) error {
	if err := l.step("tell the server"); err != nil {
		return err
	}
	err := l.Tell(ctx)
	if err == nil {
		return nil
	}
	switch code := fault.As(err).Code; {
	case fault.Is(err, fault.Unauthenticated) && (code == "MachineUnknown" || code == "MachineGone"):
		l.Log("the server knew of no machine with this key any more")
	case force:
		l.Log("the server was not told: %v; delete the machine there: sally machine delete --ids %s", err, m.ResourceID)
	default:
		return fault.Wrap(err, fault.Unavailable, "ServerNotTold", "the server could not be told, and nothing was changed: %s", plainText(err)).
			WithRemedy("Try again, or use --force and delete the machine there: sally machine delete --ids %s", m.ResourceID)
	}
	return nil
}

// tellLeaving gives up the key at the server.
func tellLeaving(ctx context.Context) error {
	pins, err := pin.Load("/", 0)
	if err != nil {
		return err
	}
	_, manifest, err := pins.LoadManifest("/", 0)
	if err != nil {
		return err
	}
	uid, err := userID("/", networkUser)
	if err != nil {
		return err
	}
	key, err := LoadKey("/", uid)
	if err != nil {
		return err
	}
	c, err := newClient(clientConfig{URL: pins.URL, Address: pins.Address, Trust: manifest, Key: key, Pinned: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.call(ctx, "POST", "/machine/v1/leave", nil, nil)
}

// stopAgent ends both parts, whoever runs them.
func stopAgent(ctx context.Context, table proc.Table, log func(string, ...any)) error {
	if hasSystemd("/") {
		if err := disableUnits(ctx, "/", systemctl); err != nil {
			return err
		}
		if err := stopUnits(ctx, systemctl, networkUnit, rootUnit); err != nil {
			return err
		}
	}
	// From here on neither part starts: what they need is not there.
	if err := ignoreMissing(os.Rename(pin.MachinePath, pin.MachinePath+".left")); err != nil {
		return err
	}
	if hasSystemd("/") {
		if err := endUpgrade(ctx, "/", systemctl); err != nil {
			return err
		}
	}
	network, _ := userID("/", networkUser) // 0, which is root's, where the package is damaged
	return endParts(ctx, table, network, log)
}

// endParts ends every process of the agent.
func endParts(ctx context.Context, table proc.Table, network uint32, log func(string, ...any)) error {
	deadline := time.Now().Add(stopTime)
	for {
		all, err := table.All()
		if err != nil {
			return err
		}
		n := 0
		for _, p := range all {
			if ofAgent(p, network) && !elsewhere(table.Dir, p.PID) && p.PID != os.Getpid() && p.State != 'Z' {
				n++
				sig := unix.SIGTERM
				if time.Now().After(deadline) {
					sig = unix.SIGKILL
				}
				if err := (session.Pidfd{}).Signal(p.PID, sig, func() bool { now, err := table.Read(p.PID); return err == nil && now.Same(p) }); err != nil && !errors.Is(err, fs.ErrNotExist) {
					log("stop process %d: %v", p.PID, err)
				}
			}
		}
		if n == 0 {
			return nil
		}
		if wait(ctx, lookPause); ctx.Err() != nil || time.Now().After(deadline.Add(stopTime)) {
			return fault.New(fault.Unavailable, "AgentRuns", "%d processes of the agent do not end", n).WithRemedy("Stop whatever starts them.")
		}
	}
}

// endUpgrade ends an upgrade that is under way and what it left. Its supervisor
// would take the silence for a build that does not run: install the old packages,
// start the agent, and again for ever. An agent that it has just started may start
// it again, so that goes first; and what it wanted to start goes after it.
func endUpgrade(ctx context.Context, rootFolder string, control func(ctx context.Context, argv ...string) error) error {
	if upgrade.Armed(rootFolder) {
		for _, units := range [][]string{{networkUnit, rootUnit}, {upgrade.Unit}, {networkUnit, rootUnit}} {
			if err := stopUnits(ctx, control, units...); err != nil {
				return err
			}
		}
	}
	return upgrade.Forget(rootFolder)
}

// stopUnits stops units. A start that an upgrade's supervisor or a package asks for
// at the same moment takes the stop's place, and systemctl(1) calls it canceled; so
// it is asked again.
func stopUnits(ctx context.Context, control func(ctx context.Context, argv ...string) error, units ...string) error {
	var err error
	for try := range stopTries {
		if try > 0 {
			wait(ctx, lookPause)
		}
		if err = control(ctx, append([]string{"stop"}, units...)...); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

const stopTries = 10

// stopTime is how long a part gets to end by itself.
const stopTime = 10 * time.Second

// ofAgent reports whether a process is one of the two parts. Anybody may call
// himself so; root's and the network part's user are nobody else's.
func ofAgent(p proc.Process, network uint32) bool {
	f := strings.Fields(p.Title)
	return (p.Root() || p.UIDs == [4]uint32{network, network, network, network}) && len(f) >= 3 && filepath.Base(f[0]) == "sally" && f[1] == "agent" && (f[2] == "root" || f[2] == "run")
}

// elsewhere reports whether a process is a container's: a machine of its own, with
// an agent of its own.
func elsewhere(procFolder string, pid int) bool {
	theirs, err := os.Readlink(filepath.Join(procFolder, strconv.Itoa(pid), "ns/pid"))
	ours, err2 := os.Readlink(filepath.Join(procFolder, "self/ns/pid"))
	return err == nil && err2 == nil && theirs != ours
}

// disableUnits takes back what enableUnits did.
func disableUnits(ctx context.Context, rootFolder string, control func(ctx context.Context, argv ...string) error) error {
	path := filepath.Join(rootFolder, unitsPath)
	b, err := durable.Read(path, uint32(os.Geteuid()), 4096) //nolint:gosec // a uid
	if err != nil {
		return ignoreMissing(err)
	}
	var units []string
	if err := json.Unmarshal(b, &units); err != nil {
		return err
	}
	units = slices.DeleteFunc(units, func(u string) bool { return u != rootUnit && u != networkUnit })
	if len(units) > 0 {
		if err := control(ctx, append([]string{"disable"}, units...)...); err != nil {
			return err
		}
	}
	return durable.Remove(path)
}

// endEverybody ends the sessions of all uids of our range.
// disconnected is what people read whose sessions end because the machine leaves.
const disconnected = "Sallyport: this machine was disconnected from its directory by its administrator; your session ends."

func endEverybody(ctx context.Context, e *session.Ender) error {
	scene, err := e.Look()
	if err != nil {
		return err
	}
	var targets []session.Target
	for _, uid := range scene.Present(shim.IDMin, shim.UIDMax) {
		targets = append(targets, session.Target{UID: uid, Message: disconnected + "\n"})
	}
	if len(targets) == 0 {
		return nil
	}
	_, err = e.End(ctx, targets)
	return err
}

// forget removes every file that joining and the agent made. What stays is who
// each name belongs to: homes are people's, and a later join finds them.
func (l Leaver) forget(context.Context) error {
	for _, path := range append(root.StateFiles(), pin.KeyPath, pendingKey, "/var/lib/sallyport/nss.db", pin.ManifestPath, pin.MachinePath, pin.MachinePath+".left", unitsPath) {
		if err := ignoreMissing(os.Remove(filepath.Join(l.Root, path))); err != nil {
			return err
		}
	}
	for _, path := range []string{pin.KeyFolder, pin.Folder} {
		_ = os.Remove(filepath.Join(l.Root, path)) // it stays where somebody else put something into it
	}
	for _, path := range append(root.Sockets(l.Root), filepath.Join(l.Root, control.SocketPath)) {
		if err := ignoreMissing(os.Remove(path)); err != nil {
			return err
		}
	}
	return durable.SyncFolder(filepath.Join(l.Root, "/var/lib/sallyport"))
}
