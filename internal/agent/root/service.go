package root

import (
	"context"
	"crypto"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/names"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/spool"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// Places of this part, below Config.Root.
const (
	stateFolder  = "/var/lib/sallyport/root"
	heldPath     = stateFolder + "/held.json"
	accountsPath = stateFolder + "/accounts.json"
	namesPath    = stateFolder + "/names.json"
	eventsPath   = stateFolder + "/events.jsonl"
	adminPath    = stateFolder + "/administrator.json"
	sessionsPath = stateFolder + "/sessions.json"
	nssPath      = "/var/lib/sallyport/nss.db"
	homeFolder   = "/home"
	sshFolder    = "/etc/ssh"
)

// StateFiles lists what this part keeps of the machine that it is; the register of
// whose name is whose is not among them, because it outlives that.
func StateFiles() []string {
	return []string{heldPath, accountsPath, eventsPath, adminPath, sessionsPath, witnessPath, membersPath}
}

// Processes reads the kernel's process table. proc.Table satisfies it.
type Processes interface {
	Read(pid int) (proc.Process, error)
}

// Ender sees and ends sessions. *session.Ender satisfies it.
type Ender interface {
	Look() (session.Scene, error)
	End(ctx context.Context, targets []session.Target) ([]session.Outcome, error)
	Dismiss(ctx context.Context, uid uint32) error
	Warn(targets []session.Target) error
	Left(w session.Who) []string
}

// Wiring changes and checks the machine's configuration. *sshd.Wiring
// satisfies it.
type Wiring interface {
	Recover(ctx context.Context) error
	Apply(ctx context.Context, want sshd.Wanted) error
	Remove(ctx context.Context) error
	Tester
	Watcher
}

// Tester logs in to show that it can be done; the desk answers for the visitor.
type Tester interface {
	Seat(desk sshd.Desk)
	// Grace is how long sshd waits until somebody is let in.
	Grace(ctx context.Context) time.Duration
	SelfTest(ctx context.Context, want sshd.Wanted) error
}

// Watcher tells whether the configuration is in force.
type Watcher interface {
	Wired() bool
	Check(ctx context.Context, want sshd.Wanted) error
	Asks() error
	Mark() string
	Changes(ctx context.Context) <-chan struct{}
}

// Endpoint is the address of the identity service. *linklocal.Endpoint satisfies
// it.
type Endpoint interface {
	Open(ctx context.Context) (*net.TCPListener, error)
	Close(ctx context.Context) error
}

// Callers knows who owns the other end of a connection. caller.Sockets satisfies it.
type Callers interface {
	Owner(local, remote netip.AddrPort) (uint32, error)
}

// Command is one program to run: no shell, a fixed environment.
type Command struct {
	Argv  []string
	Stdin string
	As    *Credential // nil: as root
}

// Credential is another user to run as.
type Credential struct {
	UID, GID uint32
	Home     string
}

// Config is what a Service stands on.
type Config struct {
	Root      string // "/" on a machine
	Owner     uint32 // owner of files and sockets: 0 on a machine
	Pins      pin.Machine
	Now       func() time.Time
	Boot      func() (id string, elapsed time.Duration) // this boot, and the time since
	Rand      io.Reader
	Processes Processes
	Ender     Ender
	Wiring    Wiring
	Run       func(ctx context.Context, c Command) ([]byte, error)
	Reload    func(ctx context.Context) error // make sshd read its configuration again
	Log       func(format string, args ...any)
	// Inventory, where set, reads the machine for people who plan.
	Inventory func(ctx context.Context) protocol.Inventory
	// Gather is how long events are collected before the network part gets them;
	// zero hands them over at once.
	Gather time.Duration
	// Identity is where the identity service is asked; nil for nowhere.
	Identity Endpoint
	Callers  Callers
	// Upgrades is where another build of the agent is installed; nil for nowhere.
	Upgrades *upgrade.Machine
}

// Service is the root part. It is safe for concurrent use.
type Service struct {
	cfg     Config
	names   *names.Register
	events  *spool.Spool
	conns   connections
	witness *witness
	visitor atomic.Pointer[visit]
	tests   chan chan error // self-tests for the worker
	ident   *identity
	upgrade upgrading

	approvals *approvals
	refusals  refusals
	register  *session.Register
	looking   chan struct{}      // wakes guard
	swept     map[uint32]bool    // guard's own: people who may not be here and of whom nothing is left
	warned    map[string]bool    // guard's own: sessions that were told that they end soon
	stuck     stuck              // guard's own
	carried   carried            // guard's own: endings that are not taken out of the kept state yet
	came      map[*ending]uint64 // guard's own: the login that was noted last when an ending was seen first

	deliver    sync.Mutex // one delivery at a time
	collecting sync.Mutex // an inventory is being made

	mu      sync.RWMutex
	view    view
	coming  *view // a newer one that is not kept yet; nil: none
	reached reached
	broken  map[string]string // damaged parts of the kept state, each with how it is mended
	host    hostState
	seen    []session.Open // sessions as guard saw them last
	wake    chan struct{}  // the worker's
	worked  chan struct{}  // closed and replaced when the worker has brought something about
}

// reached is what the worker has brought about.
type reached struct {
	revision    int64
	provisioned string
	exitCode    int
	message     string
	wired       bool
	drift       string
	open        bool     // the drift is such that PAM would not ask
	checked     bool     // the configuration was looked at since the start
	manifest    [2]int64 // epoch and version of the manifest that is in force, sshd included
}

// hostState is the host certificate that is in place.
type hostState struct {
	validAfter, validBefore time.Time
	fresh                   bool // sshd has not read it yet
	foreign                 bool // its CA is not trusted any more: due at once
}

// New opens the kept state. What cannot be verified is not used; what cannot be
// read keeps ours out and stops nothing.
func New(cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, wake: make(chan struct{}, 1), looking: make(chan struct{}, 1), swept: map[uint32]bool{}, warned: map[string]bool{}, carried: carried{}, came: map[*ending]uint64{}, worked: make(chan struct{}), tests: make(chan chan error), ident: newIdentity(), approvals: newApprovals()}
	if err := durable.Folder(s.at(stateFolder), 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.events, err = spool.Open(spool.Config{Path: s.at(eventsPath), Owner: cfg.Owner, Gather: cfg.Gather, Make: s.queueEvent, Log: cfg.Log}); err != nil {
		return nil, err
	}
	s.openNames()
	if s.witness, err = openWitness(s.at(witnessPath), cfg.Owner, cfg.Now()); err != nil {
		cfg.Log("%v", err) // whoever is let in does not depend on it
	}
	bootID, _ := cfg.Boot()
	if s.register, err = session.OpenRegister(s.at(sessionsPath), cfg.Owner, bootID); err != nil {
		cfg.Log("%v", err)
	}
	s.view = s.restore()
	s.reached.wired = cfg.Wiring.Wired()
	cfg.Wiring.Seat(s)
	s.openUpgrade()
	s.host = s.readHost()
	s.poke()
	return s, nil
}

func (s *Service) at(path string) string { return filepath.Join(s.cfg.Root, path) }

// poke wakes the worker.
func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Service) now() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.view
}

func (s *Service) guid() (string, error) { return guid.New(s.cfg.Rand) }

// sshKeys turns keys into SSH's form.
func sshKeys(list []crypto.PublicKey) []ssh.PublicKey {
	var keys []ssh.PublicKey
	for _, k := range list {
		if key, err := ssh.NewPublicKey(k); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}
