package rollout

import (
	"cmp"
	"context"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// ChangeKind is the kind of the feed's rows about upgrades; the key is the name.
const ChangeKind = "agentUpgrade"

// Reader reads what is stored.
type Reader interface {
	AgentUpgrade(name string) (Upgrade, bool, error)
	AgentUpgrades() ([]Upgrade, error)
}

// Tx is what this domain needs of a transaction. Writes add a change of ChangeKind.
type Tx interface {
	Reader
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
	PutAgentUpgrade(u Upgrade) error
	DropAgentUpgrade(name string) error
}

// Machines are those that there are.
type Machines interface {
	Members() []Member
	Member(id string) (Member, bool)
}

// Config is what a Service stands on.
type Config struct {
	Write    func(ctx context.Context, f func(Tx) error) error
	Machines Machines
	// Versions lists the versions that the server hands out; an error says why it
	// hands out none.
	Versions func() ([]string, error)
	Rand     io.Reader
	Now      func() time.Time
}

// Service upgrades fleets. It holds all upgrades in memory, follows the change feed
// and is safe for concurrent use.
type Service struct {
	cfg Config
	mu  sync.RWMutex
	all map[string]Upgrade
}

// New makes a Service; Load fills it.
func New(cfg Config) *Service { return &Service{cfg: cfg, all: map[string]Upgrade{}} }

// Load replaces the whole content.
func (s *Service) Load(r Reader) error {
	list, err := r.AgentUpgrades()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = map[string]Upgrade{}
	for _, u := range list {
		s.all[u.Name] = u
	}
	return nil
}

// Refresh follows one entry of the change feed.
func (s *Service) Refresh(r Reader, kind, key string) error {
	if kind != ChangeKind {
		return nil
	}
	u, found, err := r.AgentUpgrade(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.all, key); found {
		s.all[key] = u
	}
	return nil
}

// List returns all upgrades, the newest first.
func (s *Service) List() []Upgrade {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Upgrade
	for _, u := range s.all {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b Upgrade) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.Name, b.Name))
	})
	return list
}

// Get finds one.
func (s *Service) Get(name string) (Upgrade, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, found := s.all[strings.ToLower(name)]
	if !found {
		return u, errNone(name)
	}
	return u, nil
}

func errNone(name string) error {
	return fault.New(fault.NotFound, "UpgradeNotFound", "there is no upgrade %s", name).WithRemedy("List them with: sally machine upgrade list")
}

// Wish is what a machine is told now: the newest upgrade's word.
func (s *Service) Wish(machineID string) *protocol.UpgradeWish {
	s.mu.RLock()
	none := len(s.all) == 0
	s.mu.RUnlock()
	if none {
		return nil
	}
	m, ok := s.cfg.Machines.Member(machineID)
	if !ok {
		return nil
	}
	return s.List()[0].Wish(m)
}

// Told is what the wishes of all machines follow from, beside the machines: a change
// of an upgrade that leaves it as it is tells nobody anything. Whoever says now that
// he got through and now that he did not makes such changes without end.
type Told struct {
	ID   string
	Ring int
}

// Told returns it; the zero value while nobody is told anything.
func (s *Service) Told() Told {
	list := s.List()
	if len(list) == 0 || list[0].State != Running && list[0].State != Succeeded {
		return Told{}
	}
	return Told{list[0].ID, list[0].Ring}
}

// Members are the machines of the deployment.
func (s *Service) Members() []Member { return s.cfg.Machines.Members() }

var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })

// Create begins an upgrade. Only one may be open, and only the newest one counts.
func (s *Service) Create(ctx context.Context, by audit.By, u Upgrade) error {
	u.Name = strings.ToLower(u.Name)
	if !validName().MatchString(u.Name) {
		return invalid("name", "%q is no name for an upgrade", u.Name).WithRemedy("Use up to 63 letters, digits, dots, underscores and hyphens.")
	}
	if err := u.Check(); err != nil {
		return err
	}
	versions, err := s.cfg.Versions()
	if err != nil {
		return err
	}
	if !slices.Contains(versions, u.Version) {
		return invalid("version", "this server hands out no packages of version %s; it has %s", u.Version, cmp.Or(strings.Join(versions, ", "), "none")).
			WithRemedy("Put sallyport and sallyport-agent of that version into its folder of packages.")
	}
	if u.ID, err = guid.New(s.cfg.Rand); err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(t Tx) error {
		list, err := t.AgentUpgrades()
		if err != nil {
			return err
		}
		for _, other := range list {
			if other.Name == u.Name {
				return fault.New(fault.Conflict, "UpgradeExists", "the upgrade %s is there already", u.Name).WithRemedy("Use another name, or delete it: sally machine upgrade delete --name %s", u.Name)
			}
			if other.State.Open() {
				return fault.New(fault.Conflict, "UpgradeUnderWay", "the upgrade %s is not over: it is %s", other.Name, other.State).WithRemedy("Cancel it first: sally machine upgrade cancel --name %s", other.Name)
			}
		}
		at := t.Now()
		u.State, u.Reason, u.Ring, u.RingAt, u.DoneAt, u.CreatedAt, u.CreatedBy = Running, "", 0, at, time.Time{}, at, by.Principal
		if err := t.PutAgentUpgrade(u); err != nil {
			return err
		}
		return record(t, by, "agentUpgrade.create", u, audit.Success)
	})
}

// Pause, Resume and Cancel change the state; a state that is reached already is no
// error. What machines have begun comes to its end on the machine.
func (s *Service) Pause(ctx context.Context, by audit.By, name string) error {
	return s.turn(ctx, by, name, Paused, Running)
}

// Resume lets a paused upgrade go on, and one that stopped: machines that failed
// stay as they are, and count no more if MaxFailures is raised by their number.
func (s *Service) Resume(ctx context.Context, by audit.By, name string) error {
	return s.turn(ctx, by, name, Running, Paused, Stopped)
}

// Cancel ends an upgrade for good.
func (s *Service) Cancel(ctx context.Context, by audit.By, name string) error {
	return s.turn(ctx, by, name, Canceled, Running, Paused, Stopped)
}

func (s *Service) turn(ctx context.Context, by audit.By, name string, to State, from ...State) error {
	failed := s.failed(name)
	return s.cfg.Write(ctx, func(t Tx) error {
		u, found, err := t.AgentUpgrade(strings.ToLower(name))
		if err != nil {
			return err
		}
		switch {
		case !found:
			return errNone(name)
		case u.State == to:
			return nil
		case !slices.Contains(from, u.State):
			return fault.New(fault.Conflict, "UpgradeState", "the upgrade %s is %s", u.Name, u.State)
		}
		if u.State == Stopped && to == Running {
			u.MaxFailures = max(u.MaxFailures, failed)
		}
		u.State, u.Reason, u.DoneAt = to, "", time.Time{}
		if to == Running {
			u.RingAt = t.Now()
		}
		if err := t.PutAgentUpgrade(u); err != nil {
			return err
		}
		switch to {
		case Paused:
			return record(t, by, "agentUpgrade.pause", u, audit.Success)
		case Running:
			return record(t, by, "agentUpgrade.resume", u, audit.Success)
		}
		return record(t, by, "agentUpgrade.cancel", u, audit.Success)
	})
}

// failed counts the machines that have failed.
func (s *Service) failed(name string) (n int) {
	u, err := s.Get(name)
	if err != nil {
		return 0
	}
	for _, m := range s.Members() {
		if u.Stand(m, s.cfg.Now()) == Failed {
			n++
		}
	}
	return n
}

// Delete forgets an upgrade that is over.
func (s *Service) Delete(ctx context.Context, by audit.By, name string) error {
	return s.cfg.Write(ctx, func(t Tx) error {
		u, found, err := t.AgentUpgrade(strings.ToLower(name))
		if err != nil || !found {
			return err
		}
		if u.State.Open() {
			return fault.New(fault.Conflict, "UpgradeUnderWay", "the upgrade %s is not over: it is %s", u.Name, u.State).WithRemedy("Cancel it first: sally machine upgrade cancel --name %s", u.Name)
		}
		if err := t.DropAgentUpgrade(u.Name); err != nil {
			return err
		}
		return record(t, by, "agentUpgrade.delete", u, audit.Success)
	})
}

// Advance does what is due. Every server of a deployment may call it: a step is
// taken from the stored state that it was decided on, or not at all.
func (s *Service) Advance(ctx context.Context, by audit.By) error {
	s.mu.RLock()
	running := ""
	for name, u := range s.all {
		if u.State == Running {
			running = name
		}
	}
	u := s.all[running]
	s.mu.RUnlock()
	if running == "" {
		return nil
	}
	if _, changed := u.Next(s.Members(), s.cfg.Now()); !changed {
		return nil
	}
	return s.cfg.Write(ctx, func(t Tx) error {
		stored, found, err := t.AgentUpgrade(running)
		if err != nil || !found || stored.State != u.State || stored.Ring != u.Ring || !stored.DoneAt.Equal(u.DoneAt) || stored.ID != u.ID {
			return err
		}
		next, changed := stored.Next(s.Members(), t.Now())
		if !changed {
			return nil
		}
		if err := t.PutAgentUpgrade(next); err != nil {
			return err
		}
		switch {
		case next.State == Stopped:
			return record(t, by, "agentUpgrade.stop", next, audit.Failure)
		case next.State == Succeeded:
			return record(t, by, "agentUpgrade.finish", next, audit.Success)
		case next.Ring != stored.Ring:
			return record(t, by, "agentUpgrade.ring", next, audit.Success)
		}
		return nil
	})
}

func record(t Tx, by audit.By, kind string, u Upgrade, outcome audit.Outcome) error {
	detail := map[string]string{"id": u.ID, "version": u.Version, "ring": string(u.Rings[u.Ring]), "number": strconv.Itoa(u.Ring + 1), "rings": strconv.Itoa(len(u.Rings))}
	if u.Reason != "" {
		detail["reason"] = u.Reason
	}
	return t.Audit(by, audit.Event{Type: kind, Outcome: outcome, Target: u.Name, Detail: detail})
}
