package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

// Config says what a lab stands on.
type Config struct {
	// StateDir holds everything the lab keeps; root's alone.
	StateDir string
	// RootFS lists, for each system that the lab offers, the directories that its
	// machines are overlays of, topmost first: the layer of this build and the
	// prepared root filesystem.
	RootFS map[labwire.System][]string
	// Limits are of each machine; the zero ones are 4096 processes and 4 GiB.
	Limits Limits
	// ServerAddr is a loopback address with port of this computer that machines
	// reach as 10.77.0.1:443; empty opens nothing.
	ServerAddr string
	// Log receives what the lab's operator should know. No token goes there.
	Log *slog.Logger
}

// Lab is the set of machines. Its methods are safe for concurrent use; those
// about one machine wait for each other.
type Lab struct {
	cfg      Config
	lower    map[labwire.System][]string
	octet    int       // third byte of machines' loopback addresses
	claim    io.Closer // keeps it ours
	fabric   *fabric
	launcher *launcher
	nspawn   string // the program
	server   *forwarder

	// turns make operations on one machine wait for each other. Machines that
	// share one wait too, which costs time only.
	turns [64]sync.Mutex

	// groups opens the control groups of machines when the first starts.
	groups func() (*groups, error)

	mu      sync.Mutex // guards state and running
	state   *state
	running map[string]*process
}

// Open takes the state directory and starts the machines that ran when it was
// last used. The caller closes the lab.
func Open(ctx context.Context, cfg Config) (*Lab, error) {
	l := &Lab{cfg: cfg, lower: map[labwire.System][]string{}, launcher: newLauncher(), nspawn: nspawnProgram, running: map[string]*process{}}
	l.groups = sync.OnceValues(func() (*groups, error) { return openGroups(cfg.StateDir) })
	var err error
	for system, dirs := range cfg.RootFS {
		if l.lower[system], err = lowerLayers(dirs); err != nil {
			return nil, err
		}
	}
	if l.state, err = openState(cfg.StateDir); err != nil {
		return nil, err
	}
	if l.claim, err = claimOctet(l.state, reserveOctet(ctx)); err != nil {
		return nil, errors.Join(err, l.state.close())
	}
	l.octet = l.state.octet
	if l.fabric, err = newFabric(ctx); err != nil {
		return nil, errors.Join(err, l.claim.Close(), l.state.close())
	}
	if err := l.openServer(ctx); err != nil {
		return nil, errors.Join(err, l.fabric.close(), l.claim.Close(), l.state.close())
	}
	l.each(func(r record) {
		if _, err := l.groups(); err != nil && r.Backend == labwire.BackendNspawn { // removes what a killed lab left
			l.cfg.Log.Error("machines under nspawn cannot run", "error", err)
		}
		if !r.Run {
			return
		}
		if _, err := l.Start(ctx, r.ID); err != nil {
			l.cfg.Log.Error("a machine that ran before does not start", "machine", r.ID, "error", err)
		}
	})
	return l, nil
}

// Close stops every machine. They start again when the lab is opened again.
func (l *Lab) Close() error {
	l.each(func(r record) {
		defer l.hold(r.ID)()
		l.halt(context.Background(), r)
	})
	if l.server != nil {
		l.server.close()
	}
	return errors.Join(l.fabric.close(), l.claim.Close(), l.state.close())
}

// each runs do for all machines, a few at a time.
func (l *Lab) each(do func(record)) {
	l.mu.Lock()
	list := l.state.list()
	l.mu.Unlock()
	slots := make(chan struct{}, 4)
	var all sync.WaitGroup
	for _, r := range list {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			do(r)
		})
	}
	all.Wait()
}

// maxLayers keeps the overlay's options within the page that mount(2) takes.
const maxLayers = 4

// lowerLayers checks the directories that machines stand on.
func lowerLayers(dirs []string) ([]string, error) {
	if len(dirs) == 0 || len(dirs) > maxLayers {
		return nil, fault.New(fault.Invalid, "InvalidDirectory", "machines stand on 1 to %d directories, got %d", maxLayers, len(dirs))
	}
	var lower []string
	for _, dir := range dirs {
		var st unix.Stat_t
		switch err := unix.Stat(dir, &st); {
		case !filepath.IsAbs(dir) || strings.ContainsAny(dir, ":,\\"):
			return nil, fault.New(fault.Invalid, "InvalidDirectory", "the directory %q must be an absolute path without ':', ',' and '\\'", dir)
		case err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil, fault.Wrap(err, fault.Invalid, "InvalidDirectory", "there is no directory %s", dir).WithRemedy("prepare it with packaging/rootfs/prepare.sh and layer.sh")
		case int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0:
			return nil, fault.New(fault.Forbidden, "UnsafeDirectory", "others than root can change %s, which becomes the root of machines", dir)
		}
		lower = append(lower, filepath.Clean(dir))
	}
	return lower, nil
}

// hold gives the caller the machine alone; the result lets go.
func (l *Lab) hold(id string) func() {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(id))
	turn := &l.turns[sum.Sum32()%uint32(len(l.turns))]
	turn.Lock()
	return turn.Unlock
}

// lookup returns the machine's record, or NotFound.
func (l *Lab) lookup(id string) (record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.state.records[id]
	if !ok {
		return record{}, fault.New(fault.NotFound, "MachineNotFound", "the lab has no machine %s", id).WithRemedy("create it first")
	}
	return r, nil
}

func (l *Lab) store(r record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.put(r)
}

// describe tells what the machine of r is doing now.
func (l *Lab) describe(r record) labwire.Machine {
	m := labwire.Machine{MachineID: r.ID, Name: r.Name, Backend: r.Backend, System: r.System, State: labwire.StateStopped, Address: r.address()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.running[r.ID]; p != nil && p.alive() {
		m.State, m.Loopback, m.SSHPort = labwire.StateRunning, r.loopback(l.octet), p.sshPort
	}
	return m
}

// Create makes a stopped machine; see labwire.Client.Create for what it does
// with one that exists.
func (l *Lab) Create(_ context.Context, req labwire.CreateRequest) (labwire.Machine, error) {
	id, name := req.MachineID, req.Name
	defer l.hold(id)()
	l.mu.Lock()
	r, known := l.state.records[id]
	l.mu.Unlock()
	switch {
	case known && r.Name != name:
		return labwire.Machine{}, fault.New(fault.Conflict, "MachineExists", "the machine %s exists under the name %s", id, r.Name).WithRemedy("delete it first")
	case known && (r.System != req.System || r.Backend != req.Backend):
		return labwire.Machine{}, fault.New(fault.Conflict, "MachineExists", "the machine %s exists as %s under %s", id, r.System, r.Backend).WithRemedy("delete it first")
	case !known && req.Backend == labwire.BackendNspawn && needNspawn(l.nspawn) != nil:
		return labwire.Machine{}, needNspawn(l.nspawn)
	case !known && l.lower[req.System] == nil:
		return labwire.Machine{}, fault.New(fault.Invalid, "SystemNotOffered", "this lab has no root filesystem of %s; it has %v", req.System, slices.Sorted(maps.Keys(l.lower))).
			WithRemedy("start the lab with --rootfs %s=LAYER:ROOTFS", req.System)
	}
	if known && r.Booted {
		return l.describe(r), nil
	}
	err := l.makeFiles(req)
	if err == nil && req.Backend == labwire.BackendNspawn {
		err = l.state.giveAway(id)
	}
	if err != nil {
		return labwire.Machine{}, fmt.Errorf("make the machine's files: %w", err)
	}
	if !known {
		var err error
		if r, err = l.register(req); err != nil {
			return labwire.Machine{}, errors.Join(err, os.RemoveAll(l.state.machineDir(id)))
		}
	}
	return l.describe(r), nil
}

// register allocates the address and stores the machine in one step, so that
// no two machines get the same.
func (l *Lab) register(req labwire.CreateRequest) (record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	host, err := l.state.freeHost()
	if err != nil {
		return record{}, err
	}
	r := record{ID: req.MachineID, Name: req.Name, System: req.System, Backend: req.Backend, Host: host, Lower: l.lower[req.System]}
	return r, l.state.put(r)
}

// makeFiles makes a machine's directories afresh. Nothing has run in them, so
// paths below them are still ours; after the first start they are the
// machine's and the lab follows none.
func (l *Lab) makeFiles(req labwire.CreateRequest) error {
	id := req.MachineID
	if err := os.RemoveAll(l.state.machineDir(id)); err != nil {
		return err
	}
	for _, part := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(l.state.in(id, part), 0o700); err != nil {
			return err
		}
	}
	passwords := "no"
	if req.PasswordHash != "" {
		passwords = "yes"
	}
	upper := l.state.in(id, "upper")
	if err := place(upper, "etc/ssh/sshd_config.d/50-lab.conf", 0o644, "# Made with the machine (disablePasswordAuthentication).\nPasswordAuthentication "+passwords); err != nil {
		return err
	}
	if err := place(upper, "var/lib/sallyport/join-token", 0o600, req.JoinToken); err != nil {
		return err
	}
	return place(upper, "var/lib/sallyport/administrator-password", 0o600, req.PasswordHash)
}

// place writes a file of one line, or none where there is no line, and makes its
// folders. They give their modes to the machine's.
func place(upper, name string, mode os.FileMode, line string) error {
	folders, file := filepath.Split(name)
	dir := upper
	for _, part := range append([]string{""}, strings.Split(strings.TrimSuffix(folders, "/"), "/")...) {
		dir = filepath.Join(dir, part)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	if line == "" {
		return nil
	}
	if err := writeDurably(filepath.Join(dir, file), []byte(line+"\n")); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(dir, file), mode)
}

// Start boots a machine, if it does not run.
func (l *Lab) Start(ctx context.Context, id string) (labwire.Machine, error) {
	defer l.hold(id)()
	r, err := l.lookup(id)
	if err != nil {
		return labwire.Machine{}, err
	}
	return l.run(ctx, r)
}

func (l *Lab) run(ctx context.Context, r record) (labwire.Machine, error) {
	l.mu.Lock()
	p := l.running[r.ID]
	l.mu.Unlock()
	if p != nil && p.alive() {
		return l.describe(r), nil
	}
	l.halt(ctx, r) // what a machine that ended by itself left open
	r.Run, r.Booted = true, true
	if err := l.store(r); err != nil {
		return labwire.Machine{}, err
	}
	p, err := l.boot(ctx, r)
	if err != nil {
		return labwire.Machine{}, err
	}
	l.mu.Lock()
	l.running[r.ID] = p
	l.mu.Unlock()
	go l.watch(p, r)
	l.cfg.Log.Info("machine started", "machine", r.ID, "name", r.Name, "address", r.address(), "ssh", fmt.Sprintf("%s:%d", r.loopback(l.octet), p.sshPort))
	return l.describe(r), nil
}

// watch closes a machine's address when it ends by itself.
func (l *Lab) watch(p *process, r record) {
	<-p.gone
	p.ssh.close()
	l.cfg.Log.Info("machine ended", "machine", r.ID, "name", r.Name)
}

// halt ends the machine's process, if it has one.
func (l *Lab) halt(ctx context.Context, r record) {
	l.mu.Lock()
	p := l.running[r.ID]
	delete(l.running, r.ID)
	l.mu.Unlock()
	if p == nil {
		return
	}
	p.stop()
	l.fabric.detach(ctx, r)
	if groups, err := l.groups(); err == nil {
		groups.remove(r.ID)
	}
}

// Stop ends a machine's processes and keeps its files.
func (l *Lab) Stop(ctx context.Context, id string) (labwire.Machine, error) {
	defer l.hold(id)()
	r, err := l.lookup(id)
	if err != nil {
		return labwire.Machine{}, err
	}
	r.Run = false
	if err := l.store(r); err != nil {
		return labwire.Machine{}, err
	}
	l.halt(ctx, r)
	return l.describe(r), nil
}

// Restart stops and starts a machine.
func (l *Lab) Restart(ctx context.Context, id string) (labwire.Machine, error) {
	defer l.hold(id)()
	r, err := l.lookup(id)
	if err != nil {
		return labwire.Machine{}, err
	}
	l.halt(ctx, r)
	return l.run(ctx, r)
}

// Delete ends a machine and removes every trace of it.
func (l *Lab) Delete(ctx context.Context, id string) (labwire.Machine, error) {
	defer l.hold(id)()
	absent := labwire.Machine{MachineID: id, State: labwire.StateAbsent}
	r, err := l.lookup(id)
	if fault.Is(err, fault.NotFound) {
		return absent, nil
	}
	if err != nil {
		return labwire.Machine{}, err
	}
	r.Run = false // should we be killed half-way
	if err := l.store(r); err != nil {
		return labwire.Machine{}, err
	}
	l.halt(ctx, r)
	if err := os.RemoveAll(l.state.machineDir(id)); err != nil {
		return labwire.Machine{}, fmt.Errorf("remove the machine's files: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return absent, l.state.remove(id)
}

// Status tells what a machine is doing.
func (l *Lab) Status(id string) labwire.Machine {
	r, err := l.lookup(id)
	if err != nil {
		return labwire.Machine{MachineID: id, State: labwire.StateAbsent}
	}
	return l.describe(r)
}

// List tells what all machines are doing.
func (l *Lab) List() []labwire.Machine {
	l.mu.Lock()
	records := l.state.list()
	l.mu.Unlock()
	machines := make([]labwire.Machine, 0, len(records))
	for _, r := range records {
		machines = append(machines, l.describe(r))
	}
	return machines
}
