package root

import (
	"context"
	"slices"
	"sync"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// upgrading is the wish for another build of the agent, as far as it has come. The
// wish is the snapshot's and names a version; which bytes that is, is a release's,
// signed with the key for packages that the manifest lists. The network part
// brings both and the bytes; nothing that it brings is looked at unverified.
type upgrading struct {
	mu       sync.Mutex
	state    *protocol.UpgradeState
	speak    int // the capability that may be spoken at most; 0 for any
	releases map[string]protocol.ReleaseDocument
	manifest [2]int64 // that the releases were verified with
	fetch    *control.Fetch
	part     protocol.ReleasePackage // that fetch is of
	settled  string                  // wish that needs no more
	trial    string                  // event whose arrival at the server proves this build
	reported bool
	armed    bool
	looks    int           // at an upgrade whose supervisor has not begun
	news     chan struct{} // closed and replaced when there is something to fetch
	wake     chan struct{}
	parts    sync.Mutex // one part at a time
}

const (
	upgradeLook  = time.Second      // while one is under way
	upgradeAgain = time.Minute      // after what may pass
	upgradeTest  = 40 * time.Second // for the self-test before one begins
	upgradeLooks = 120              // at one whose supervisor does not begin, until it is over
)

// openUpgrade reads what was under way when the agent ended.
func (s *Service) openUpgrade() {
	s.upgrade.news, s.upgrade.wake = make(chan struct{}), make(chan struct{}, 1)
	if s.cfg.Upgrades == nil {
		return
	}
	if j, found, err := s.cfg.Upgrades.Journal(); err == nil && found && !j.Step.Final() {
		s.upgrade.speak = j.Capability
	}
	s.upgrade.poke()
}

func (u *upgrading) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// upgrades follows the wish until ctx ends.
func (s *Service) upgrades(ctx context.Context) {
	if s.cfg.Upgrades == nil {
		return
	}
	for {
		var later <-chan time.Time
		if pause := s.lookUpgrade(ctx); pause > 0 {
			t := time.NewTimer(pause)
			later = t.C
		}
		select {
		case <-ctx.Done():
			return
		case <-s.upgrade.wake:
		case <-later:
		}
	}
}

// lookUpgrade does what can be done now, and says when to look again; 0: when the
// wish changes.
func (s *Service) lookUpgrade(ctx context.Context) time.Duration {
	m := s.cfg.Upgrades
	j, found, err := m.Journal()
	if err != nil {
		s.cfg.Log("upgrade: %v", err)
		return upgradeAgain
	}
	if found {
		return s.underWay(ctx, j)
	}
	v := s.now()
	if v.doc == nil || v.doc.Upgrade == nil {
		s.unwish()
		return 0
	}
	wish := *v.doc.Upgrade
	if s.upgrade.isSettled(wish.ID) {
		return 0
	}
	state := protocol.UpgradeState{ID: wish.ID, Version: wish.Version, From: m.Build(), State: protocol.UpgradeFetching}
	if last, ok, err := m.Last(); err == nil && ok && last.ID == wish.ID {
		s.settle(last)
		return 0
	}
	fetch, part, err := s.prepare(ctx, v, wish)
	switch {
	case err != nil:
		s.refuseUpgrade(state, err)
		return upgradeAgain
	case wish.Version == m.Build():
		state.State, state.From = protocol.UpgradeDone, ""
		if err := m.Note(state); err != nil {
			s.cfg.Log("upgrade: %v", err)
		}
		s.settle(state)
		return 0
	case fetch != nil:
		s.tellUpgrade(&state, fetch, part)
		return 0
	}
	if err := s.beginUpgrade(ctx, v, wish); err != nil {
		s.refuseUpgrade(state, err)
		return upgradeAgain
	}
	return upgradeLook
}

// prepare says what is still to be fetched, and refuses what cannot be begun.
func (s *Service) prepare(ctx context.Context, v view, wish protocol.UpgradeWish) (*control.Fetch, protocol.ReleasePackage, error) {
	m, none := s.cfg.Upgrades, protocol.ReleasePackage{}
	switch order := protocol.CompareVersions(wish.Version, m.Build()); {
	case order < 0:
		return nil, none, fault.New(fault.Forbidden, "NeverDown", "version %s is older than %s, which runs: versions do not go down from afar", wish.Version, m.Build()).WithRemedy("Install the older packages on the machine.")
	case order == 0:
		return nil, none, s.provesItself(ctx)
	}
	by, err := m.Able(ctx)
	if err != nil {
		return nil, none, err
	}
	var all []protocol.ReleasePackage
	for _, version := range []string{wish.Version, m.Build()} {
		d, ok := s.release(v, version)
		if !ok {
			return &control.Fetch{Path: protocol.ReleasePath(version)}, none, nil
		}
		list, err := m.Packages(ctx, by, d)
		if err != nil {
			return nil, none, err
		}
		all = append(all, list...)
	}
	if err := m.Room(all); err != nil {
		return nil, none, err
	}
	for _, p := range all {
		if have, whole := m.Have(p); !whole {
			return &control.Fetch{Path: p.Path(), Offset: have, Length: p.Size - have}, p, nil
		}
	}
	return nil, none, m.Sweep(all)
}

// release returns a release that was verified with the keys of this manifest.
func (s *Service) release(v view, version string) (protocol.ReleaseDocument, bool) {
	u := &s.upgrade
	u.mu.Lock()
	defer u.mu.Unlock()
	d, ok := u.of(v)[version]
	return d, ok
}

// of returns the releases that a view's manifest vouches for; the lock is held.
func (u *upgrading) of(v view) map[string]protocol.ReleaseDocument {
	if now := [2]int64{v.held.ManifestEpoch, v.held.ManifestVersion}; u.manifest != now || u.releases == nil {
		u.manifest, u.releases = now, map[string]protocol.ReleaseDocument{}
	}
	return u.releases
}

// provesItself has a login made where people log in.
func (s *Service) provesItself(ctx context.Context) error {
	s.mu.RLock()
	wired := s.reached.wired
	s.mu.RUnlock()
	if !wired {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeTest)
	defer cancel()
	if err := s.SelfTest(ctx); err != nil {
		return fault.Wrap(err, fault.Precondition, "UpgradeNotHere", "a login fails here already: %s", fault.As(err).Public())
	}
	return nil
}

// beginUpgrade hands over to the supervisor; what it needs is here and verified.
func (s *Service) beginUpgrade(ctx context.Context, v view, wish protocol.UpgradeWish) error {
	if err := s.provesItself(ctx); err != nil {
		return err
	}
	m := s.cfg.Upgrades
	by, err := m.Able(ctx)
	if err != nil {
		return err
	}
	s.mu.RLock()
	j := upgrade.Journal{ID: wish.ID, From: m.Build(), To: wish.Version, Wait: wish.WaitSeconds, Wired: s.reached.wired, Capability: protocol.Capability, Manager: by}
	s.mu.RUnlock()
	for version, list := range map[string]*[]protocol.ReleasePackage{j.To: &j.New, j.From: &j.Old} {
		d, ok := s.release(v, version)
		if !ok {
			return fault.New(fault.Unavailable, "UpgradeNotHere", "the manifest has changed meanwhile")
		}
		if *list, err = m.Packages(ctx, by, d); err != nil {
			return err
		}
	}
	if j, err = m.Prepared(j); err != nil {
		return err
	}
	s.tellUpgrade(&protocol.UpgradeState{ID: j.ID, Version: j.To, From: j.From, State: protocol.UpgradeTrying}, nil, protocol.ReleasePackage{})
	if err := m.Begin(ctx, j); err != nil {
		return err
	}
	s.cfg.Log("upgrade from %s to %s begins", j.From, j.To)
	s.upgradeEvent("upgrade.begin", j)
	return nil
}

// underWay keeps the supervisor at work and takes note of its end.
func (s *Service) underWay(ctx context.Context, j upgrade.Journal) time.Duration {
	m, u := s.cfg.Upgrades, &s.upgrade
	if j.Step.Final() {
		state, err := m.Conclude(j)
		if err != nil {
			s.cfg.Log("upgrade: %v", err)
			return upgradeAgain
		}
		kind := "upgrade.fail"
		if j.Step == upgrade.Done {
			kind = "upgrade.done"
		}
		s.upgradeEvent(kind, j)
		u.mu.Lock()
		u.speak, u.trial, u.reported, u.armed = 0, "", false, false
		u.mu.Unlock()
		s.settle(state)
		return upgradeLook
	}
	u.mu.Lock()
	arm, try := !u.armed, u.trial == "" && j.To == m.Build()
	u.speak = j.Capability
	u.mu.Unlock()
	if arm {
		if err := m.Arm(ctx); err != nil {
			s.cfg.Log("upgrade: %v", err)
			return upgradeAgain
		}
	}
	if j.Starts > 0 || j.Step != upgrade.Install {
		u.looks = 0
	} else if u.looks++; u.looks > upgradeLooks {
		return s.unstarted(ctx)
	}
	trial := ""
	if try {
		trial = s.upgradeEvent("upgrade.try", j)
	}
	u.mu.Lock()
	u.armed = true
	if trial != "" {
		u.trial = trial
	}
	u.mu.Unlock()
	s.tellUpgrade(&protocol.UpgradeState{ID: j.ID, Version: j.To, From: j.From, State: protocol.UpgradeTrying, Reason: j.Reason}, nil, protocol.ReleasePackage{})
	return upgradeLook
}

// unstarted ends an upgrade that nobody sees through; if its supervisor has begun in
// this moment it is started anew.
func (s *Service) unstarted(ctx context.Context) time.Duration {
	u := &s.upgrade
	u.mu.Lock()
	u.armed, u.looks = false, 0
	u.mu.Unlock()
	if err := s.cfg.Upgrades.Unstarted(ctx); err != nil {
		s.cfg.Log("upgrade: %v", err)
		return upgradeAgain
	}
	return upgradeLook
}

// upgradeEvent tells the server of a step and returns the event's id.
func (s *Service) upgradeEvent(kind string, j upgrade.Journal) string {
	id, err := s.guid()
	if err != nil {
		s.cfg.Log("event %s is lost: %v", kind, err)
		return ""
	}
	detail := map[string]string{"from": j.From, "to": j.To}
	if j.Reason != "" {
		detail["reason"] = printable(j.Reason)
	}
	s.events.Add(protocol.MachineEvent{ID: id, Time: s.cfg.Now().UTC(), Type: kind, CorrelationID: j.ID, Detail: detail})
	return id
}

func (s *Service) refuseUpgrade(state protocol.UpgradeState, err error) {
	state.State, state.Reason = protocol.UpgradeRefused, printable(fault.As(err).Public())
	s.tellUpgrade(&state, nil, protocol.ReleasePackage{})
}

// unwish is the state without a wish: what became of the last one goes on being
// told, for the upgrade that it was part of may have stopped because of it.
func (s *Service) unwish() {
	s.upgrade.mu.Lock()
	s.upgrade.settled = ""
	s.upgrade.mu.Unlock()
	last, found, err := s.cfg.Upgrades.Last()
	if err != nil || !found {
		s.tellUpgrade(nil, nil, protocol.ReleasePackage{})
		return
	}
	s.tellUpgrade(&last, nil, protocol.ReleasePackage{})
}

// settle notes the end of a wish.
func (s *Service) settle(state protocol.UpgradeState) {
	s.upgrade.mu.Lock()
	s.upgrade.settled = state.ID
	s.upgrade.mu.Unlock()
	s.tellUpgrade(&state, nil, protocol.ReleasePackage{})
}

func (u *upgrading) isSettled(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.settled == id
}

// tellUpgrade sets what the server and the network part are told.
func (s *Service) tellUpgrade(state *protocol.UpgradeState, fetch *control.Fetch, part protocol.ReleasePackage) {
	u := &s.upgrade
	u.mu.Lock()
	changed := (u.state == nil) != (state == nil) || state != nil && *u.state != *state
	more := fetch != nil && (u.fetch == nil || *u.fetch != *fetch)
	u.state, u.fetch, u.part = state, fetch, part
	if more {
		close(u.news)
		u.news = make(chan struct{})
	}
	u.mu.Unlock()
	if changed {
		s.events.Poke()
	}
}

// takeUpgrade waits until there is something to fetch.
func (s *Service) takeUpgrade(ctx context.Context, r control.Request) control.Answer {
	wait, cancel := context.WithTimeout(ctx, time.Duration(r.WaitMillis)*time.Millisecond)
	defer cancel()
	for {
		s.upgrade.mu.Lock()
		fetch, news := s.upgrade.fetch, s.upgrade.news
		s.upgrade.mu.Unlock()
		if fetch != nil {
			return control.Answer{Fetch: fetch}
		}
		select {
		case <-news:
		case <-wait.Done():
			return control.Answer{}
		}
	}
}

// wantedNow returns what is being fetched; anything else is refused.
func (s *Service) wantedNow(path string) (protocol.ReleasePackage, error) {
	u := &s.upgrade
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fetch == nil || u.fetch.Path != path {
		return protocol.ReleasePackage{}, fault.New(fault.Conflict, "NotWanted", "%s is not what is wanted", printable(path))
	}
	return u.part, nil
}

// deliverRelease takes a release that the key for packages has signed.
func (s *Service) deliverRelease(r control.Request) error {
	if _, err := s.wantedNow(r.Name); err != nil {
		return err
	}
	v := s.now()
	versions := []string{s.cfg.Upgrades.Build()}
	if v.doc != nil && v.doc.Upgrade != nil {
		versions = append(versions, v.doc.Upgrade.Version)
	}
	at := slices.IndexFunc(versions, func(version string) bool { return protocol.ReleasePath(version) == r.Name })
	if at < 0 {
		return fault.New(fault.Conflict, "NotWanted", "%s is not what is wanted", printable(r.Name))
	}
	d, err := protocol.OpenRelease(*r.Release, v.keys(protocol.Repository), versions[at])
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "DocumentRefused", "the release is refused: %v", err)
	}
	s.upgrade.mu.Lock()
	s.upgrade.of(v)[versions[at]] = d // never a later manifest's: it may have withdrawn the key
	s.upgrade.mu.Unlock()
	s.refetch()
	return nil
}

// deliverPart takes bytes of the package that is wanted.
func (s *Service) deliverPart(r control.Request) error {
	p, err := s.wantedNow(r.Name)
	if err != nil {
		return err
	}
	s.upgrade.parts.Lock()
	defer s.upgrade.parts.Unlock()
	if err := s.cfg.Upgrades.Append(p, r.Offset, r.Data); err != nil {
		s.refetch()
		return err
	}
	if _, whole := s.cfg.Upgrades.Have(p); whole {
		s.refetch()
	}
	return nil
}

// refetch has what is wanted looked at anew: until then nothing is.
func (s *Service) refetch() {
	s.upgrade.mu.Lock()
	s.upgrade.fetch = nil
	s.upgrade.mu.Unlock()
	s.upgrade.poke()
}

// deliverMissing notes that the server has not got what is wanted.
func (s *Service) deliverMissing(r control.Request) error {
	if _, err := s.wantedNow(r.Name); err != nil {
		return err
	}
	u := &s.upgrade
	u.mu.Lock()
	state := u.state
	u.mu.Unlock()
	if state == nil {
		return nil
	}
	next := *state
	next.Reason = printable("the server has nothing at " + r.Name + ": the packages of the new version and of the one that runs both have to be in its folder")
	u.mu.Lock()
	fetch, part := u.fetch, u.part
	u.mu.Unlock()
	s.tellUpgrade(&next, fetch, part)
	return nil
}

// upgradeHeard notes that the server has got events.
func (s *Service) upgradeHeard(ids []string) {
	u := &s.upgrade
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trial != "" && slices.Contains(ids, u.trial) {
		u.reported = true
	}
}

// trial is how far this build has proven itself.
func (s *Service) trial() *control.Trial {
	t := &control.Trial{}
	if s.cfg.Upgrades != nil {
		t.Version = s.cfg.Upgrades.Build()
	}
	s.upgrade.mu.Lock()
	defer s.upgrade.mu.Unlock()
	t.Reported = s.upgrade.reported
	return t
}
