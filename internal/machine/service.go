package machine

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// Tx is what this domain needs of a transaction.
type Tx interface {
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
	// PutJoinToken stores a new token.
	PutJoinToken(t Token) error
	// UseJoinToken consumes a token by compare-and-swap. ok is false when it is
	// unknown (zero Token), used before or expired (the stored Token).
	UseJoinToken(hash, thumbprint string, at time.Time) (t Token, ok bool, err error)
	// BindJoinToken notes which machine a token for a new one has made.
	BindJoinToken(hash, machineID string) error
	MachineTx
	FeedTx
	SessionTx
	InventoryTx
	RevocationTx
}

// FeedTx reads the change feed.
type FeedTx interface {
	// LastChange returns the position of the newest change of one of the kinds; 0
	// for none.
	LastChange(kinds []string) (int64, error)
	// ChangedKeys lists what changed in (after, to], each once. known is false when
	// the feed does not reach back that far, or there are more than limit.
	ChangedKeys(kinds []string, after, to int64, limit int) (keys []string, known bool, err error)
}

// MachineTx stores machine records. Writes add a change of kind "machine" with
// the machine's id as key.
type MachineTx interface {
	ManifestTx
	PutMachine(m Machine) error
	DropMachine(id string) error
	MachineByID(id string) (Machine, bool, error)
	MachineByKey(thumbprint string) (Machine, bool, error)
	// TakeMachineEvent reports whether this event id of the machine is new, and
	// remembers it.
	TakeMachineEvent(machineID, eventID string, at time.Time) (bool, error)
	// EventStream reads how far a machine's events have come; zero for none.
	EventStream(machineID string) (Stream, error)
	PutEventStream(machineID string, x Stream) error
	// PutWitness stores an audit head that the machine has seen; the signature was
	// verified.
	PutWitness(machineID string, w protocol.Witnessed) error
}

// ManifestTx stores which manifest each machine has in force.
type ManifestTx interface {
	AcknowledgedManifest(machineID string) (epoch, version int64, err error)
	AcknowledgeManifest(machineID string, epoch, version int64) error
}

// Feed is the change feed as the indexes have seen it.
type Feed interface {
	// Position is the newest change that every index holds.
	Position() int64
	// Moved returns a channel that is closed at the next change after the call.
	Moved() <-chan struct{}
}

// Config is what a Service stands on.
type Config struct {
	Write     func(ctx context.Context, f func(Tx) error) error
	Read      func(ctx context.Context, f func(Tx) error) error
	Machines  *Index
	Feed      Feed
	Directory Directory
	Roles     Roles
	Resources Resources
	Keys      Keys
	Issuer    HostIssuer
	Enroller  Enroller
	// Revoked lists revoked certificate serials; nil for none.
	Revoked func() []string
	// Offline, where set, is how long grants hold without the server, now; else
	// UserStale and AdminStale are.
	Offline func() (user, administrator time.Duration)
	// LongestSession is how old a session may become; nil or 0: there is no end.
	LongestSession func() time.Duration
	// Upgrade is the build that a machine is to run; nil for none.
	Upgrade func(machineID string) *protocol.UpgradeWish
	// GroupsOf returns the groups that a group is in, through others too; nil for
	// none.
	GroupsOf func(groupID string) []string
	// Held, where set, says why machines are given nothing new at this time: no
	// snapshot, no host certificate, no join. What they hold stays theirs.
	Held func() error
	// Behind is how long a poll waits for changes that the machine has from
	// another server; zero for a server that is alone.
	Behind time.Duration
	// HashKey keys the hashes of join tokens.
	HashKey []byte
	Rand    io.Reader
	Now     func() time.Time
	// UserStale and AdminStale are how long grants hold without the server;
	// zero means 24 hours and 1 hour.
	UserStale, AdminStale time.Duration
	// Resign is the age at which an unchanged snapshot is signed anew; zero
	// means 5 minutes.
	Resign time.Duration
}

// Service serves machines. It is safe for concurrent use.
type Service struct {
	cfg Config

	mu      sync.Mutex
	live    map[string]*live
	touches touches

	derivers *semaphore.Weighted // places of deep; each who waits has a channel of its own, see waiters
	waiters  waiters
	accounts accountTable
	shared   shared
}

// live is what this server knows of a machine's polls. It is rebuilt by the
// next poll after a start.
type live struct {
	digest       [32]byte
	version      int64
	issuedAt     time.Time
	lastSeen     time.Time
	acknowledged int64
	current      int64 // holds everything that concerns it up to this position
	derived      int64 // position that its document was last derived at, and when that was
	derivedAt    time.Time
	told         time.Time            // lastSeen as other servers know it
	toldVersion  int64                // and version
	elsewhere    Presence             // the latest word to another server
	accounts     int64                // version of the table of accounts that it holds; -1 for a machine that holds none apart
	manifest     [2]int64             // epoch and version that are stored as acknowledged
	head         protocol.SignedHead  // the last one that it was told
	witnessed    map[string]time.Time // by writer: when what it has seen was stored
	reports      chan struct{}        // has room for the one report that is being stored
}

// versions is the version of what was made for a machine and the one that it
// holds. Of accounts and grants both must be there: what is behind decides.
func (l *live) versions(newestAccounts int64) (version, acknowledged int64) {
	if l.accounts < 0 || newestAccounts < 0 {
		return l.version, l.acknowledged
	}
	version = max(l.version, newestAccounts)
	if l.acknowledged >= l.version && l.accounts >= newestAccounts {
		return version, version
	}
	return version, min(l.acknowledged, l.accounts)
}

// New makes a Service.
func New(cfg Config) *Service {
	if cfg.UserStale == 0 {
		cfg.UserStale = 24 * time.Hour
	}
	if cfg.AdminStale == 0 {
		cfg.AdminStale = time.Hour
	}
	if cfg.Resign == 0 {
		cfg.Resign = 5 * time.Minute
	}
	return &Service{cfg: cfg, live: map[string]*live{}, derivers: semaphore.NewWeighted(deepTogether), accounts: accountTable{last: -1}}
}

// staleness is how long grants hold without the server.
func (s *Service) staleness() (user, administrator time.Duration) {
	if s.cfg.Offline == nil {
		return s.cfg.UserStale, s.cfg.AdminStale
	}
	return s.cfg.Offline()
}

// resign is the age at which an unchanged snapshot is signed anew. A machine that
// hears from the server must never count as one that does not: it may miss one
// signing and a poll's wait.
func (s *Service) resign() time.Duration {
	user, administrator := s.staleness()
	return min(s.cfg.Resign, user/3, administrator/3)
}

func (s *Service) forget(machineID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, machineID)
}

// held asks why machines are given nothing new.
func (s *Service) held() error {
	if s.cfg.Held == nil {
		return nil
	}
	return s.cfg.Held()
}

// State returns what is known of a machine.
func (s *Service) State(machineID string) (State, bool) {
	m, ok := s.cfg.Machines.ByID(machineID)
	if !ok {
		return State{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Machine: m}
	if l := s.live[machineID]; l != nil {
		st.LastSeen = l.lastSeen
		st.Version, st.Acknowledged = l.versions(s.newestAccounts())
		if e := l.elsewhere; e.SeenAt.After(st.LastSeen) {
			st.LastSeen, st.Version, st.Acknowledged = e.SeenAt, e.Version, e.Acknowledged
		}
	}
	return st, true
}

// seen notes that a machine spoke.
func (s *Service) seen(machineID string) {
	at := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(machineID).lastSeen = at
}

// of returns the live entry; the caller holds mu.
func (s *Service) of(machineID string) *live {
	l := s.live[machineID]
	if l == nil {
		l = &live{accounts: -1, reports: make(chan struct{}, 1)}
		s.live[machineID] = l
	}
	return l
}
