package root

import (
	"context"
	"strconv"
	"sync"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/grants"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Control answers the control socket.
func (s *Service) Control(ctx context.Context, _ bool, r control.Request) (control.Answer, error) {
	answer, err := s.answer(ctx, r)
	if err != nil {
		s.refusedDocument(r.Op, err)
	}
	return answer, err
}

func (s *Service) answer(ctx context.Context, r control.Request) (control.Answer, error) {
	switch r.Op {
	case control.OpStatus:
		if r.WaitMillis > 0 {
			s.awaitManifest(ctx, time.Duration(r.WaitMillis)*time.Millisecond)
		}
		return control.Answer{Status: s.Status()}, nil
	case control.OpManifest:
		return control.Answer{}, s.Manifest(*r.Manifest)
	case control.OpAccounts:
		return control.Answer{}, s.Accounts(*r.Accounts)
	case control.OpSnapshot:
		return control.Answer{}, s.Snapshot(*r.Snapshot)
	case control.OpEvents:
		return s.takeEvents(ctx, r)
	case control.OpHostProof:
		e, err := s.proof()
		return control.Answer{Proof: e}, err
	case control.OpHostCertificate:
		return control.Answer{}, s.HostCertificate(r.Certificate)
	case control.OpDevices:
		return s.takeDevices(ctx, r), nil
	case control.OpDeviceCode:
		return control.Answer{}, s.deviceCode(r)
	case control.OpDeviceState:
		return control.Answer{}, s.deviceState(r)
	case control.OpHomes:
		return control.Answer{Homes: s.homes()}, nil
	case control.OpMembers:
		list, err := s.members()
		return control.Answer{Names: list}, err
	case control.OpAllow, control.OpDeny:
		return control.Answer{}, s.changeMember(r.Name, r.Op == control.OpAllow)
	case control.OpAdopt:
		return control.Answer{Text: r.Name + " owns the home now"}, s.adopt(r.Name)
	case control.OpArchive:
		to, err := s.archive(r.Name)
		return control.Answer{Text: to}, err
	case control.OpInventory:
		i, err := s.inventory(ctx)
		return control.Answer{Inventory: i}, err
	case control.OpSelfTest:
		return control.Answer{}, s.SelfTest(ctx)
	case control.OpTrial:
		return control.Answer{Trial: s.trial()}, nil
	case control.OpUpgrade:
		return s.takeUpgrade(ctx, r), nil
	case control.OpRelease:
		return control.Answer{}, s.deliverRelease(r)
	case control.OpPart:
		return control.Answer{}, s.deliverPart(r)
	case control.OpMissing:
		return control.Answer{}, s.deliverMissing(r)
	}
	return control.Answer{}, fault.New(fault.Invalid, "ControlRequestInvalid", "the request does not exist")
}

// refusalPause is the time between two events about refused documents of one
// kind: whoever brings them must not fill the queue with them.
const refusalPause = time.Minute

// refusals is what was refused lately, by kind of document.
type refusals struct {
	mu   sync.Mutex
	last map[control.Op]refusal
}

type refusal struct {
	at      time.Duration // boot clock
	repeats int           // since then
}

// due reports whether the refusal is to be told, and how many were not.
func (r *refusals) due(op control.Op, elapsed time.Duration) (repeats int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.last[op]
	if known && elapsed-was.at < refusalPause {
		was.repeats++
		r.last[op] = was
		return 0, false
	}
	if r.last == nil {
		r.last = map[control.Op]refusal{}
	}
	r.last[op] = refusal{at: elapsed}
	return was.repeats, true
}

// refusedDocument tells the server that the network part brought something that
// the right server would not have sent.
func (s *Service) refusedDocument(op control.Op, err error) {
	kind := map[control.Op]string{control.OpManifest: "manifest", control.OpAccounts: "accounts", control.OpSnapshot: "snapshot", control.OpHostCertificate: "host certificate",
		control.OpDeviceCode: "device code", control.OpDeviceState: "approval", control.OpRelease: "release", control.OpPart: "package"}[op]
	if kind == "" || !fault.Is(err, fault.Forbidden) {
		return
	}
	_, elapsed := s.cfg.Boot()
	repeats, ok := s.refusals.due(op, elapsed)
	if !ok {
		return
	}
	s.cfg.Log("%s: %v", kind, err)
	id, gerr := s.guid()
	if gerr != nil {
		return
	}
	detail := map[string]string{"document": kind, "reason": printable(fault.As(err).Text)}
	if repeats > 0 {
		detail["repeats"] = strconv.Itoa(repeats)
	}
	s.event("document.deny", id, "", "", detail)
}

// awaitManifest returns when the worker has put the held manifest into force, so
// that the next poll acknowledges it; a machine that needs longer says so with a
// later one. Without a snapshot there is nothing to do before one comes.
func (s *Service) awaitManifest(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		s.mu.RLock()
		v, r, worked := s.view, s.reached, s.worked
		s.mu.RUnlock()
		if v.doc == nil || r.manifest == [2]int64{v.held.ManifestEpoch, v.held.ManifestVersion} {
			return
		}
		select {
		case <-worked:
		case <-ctx.Done():
			return
		}
	}
}

// takeEvents waits until there are events or the status is another than the
// caller knows.
func (s *Service) takeEvents(ctx context.Context, r control.Request) (control.Answer, error) {
	wait, cancel := context.WithTimeout(ctx, time.Duration(r.WaitMillis)*time.Millisecond)
	defer cancel()
	have := r.Acknowledge
	s.upgradeHeard(have)
	for {
		events, changed := s.events.Take(have, r.Limit)
		have = nil
		if status := s.Status(); len(events) > 0 || status.Generation != r.Generation {
			return control.Answer{Events: events, Batch: s.signEvents(events), Status: status}, nil
		}
		select {
		case <-changed:
		case <-wait.Done():
			return control.Answer{Status: s.Status()}, nil
		}
	}
}

// until is when grants of the held snapshot stop to hold if nothing newer comes;
// zero when they do not hold now. It says what grants.Decide does.
func (s *Service) until(v view, c grants.Clock, stale int64) time.Time {
	now := s.cfg.Now()
	until := now.Add(time.Duration(stale)*time.Second - c.Age)
	if v.doc.GoodUntil.Before(until) {
		until = v.doc.GoodUntil
	}
	if c.Wrong != "" || !now.Before(until) {
		return time.Time{}
	}
	return until.UTC().Truncate(time.Second)
}

// Status is what this part holds and has reached.
func (s *Service) Status() *control.Status {
	// Whoever knows a generation knows all that was there before it, and what comes
	// while this is put together wakes him again.
	generation := s.events.News()
	s.mu.RLock()
	v, r, host, open := s.view, s.reached, s.host, s.seen
	s.mu.RUnlock()
	st := &control.Status{MachineID: s.cfg.Pins.MachineID, ResourceID: s.cfg.Pins.ResourceID, Tenant: s.cfg.Pins.Tenant, Manifest: &v.signed,
		AppliedEpoch: r.manifest[0], AppliedManifest: r.manifest[1], Version: v.held.Version, Epoch: v.held.Epoch, AccountsEpoch: v.table.Epoch, Accounts: v.table.Version, IssuedAt: v.held.Signed, Extension: r.wired, Drift: r.drift, Generation: generation,
		Revision: r.revision, Provisioned: r.provisioned, ExitCode: r.exitCode, Message: r.message, HostKeys: s.hostKeys(), HostRenew: host.renew(), HostUntil: host.validBefore}
	st.Witnessed, st.AuditAlarm = s.witness.tell()
	queue := s.events.State()
	st.EventsWaiting, st.EventsDropped, st.EventsTrouble = queue.Waiting, queue.Dropped, queue.Trouble
	st.MoreSessions = max(len(open)-protocol.MaxSessions, 0)
	for _, o := range open[st.MoreSessions:] {
		st.Sessions = append(st.Sessions, o.Session())
	}
	s.upgrade.mu.Lock()
	st.Speak, st.Upgrade = s.upgrade.speak, s.upgrade.state
	s.upgrade.mu.Unlock()
	st.Endpoint, st.Damage = s.ident.told(), s.damage()
	if v.doc == nil {
		// Counters stay, but nothing is held: ask for everything.
		st.Version, st.IssuedAt = 0, time.Time{}
		return st
	}
	c := s.clock(v, s.cfg.Now())
	st.UserStale, st.AdminStale = v.doc.UserStale, v.doc.AdminStale
	st.UserUntil, st.AdminUntil = s.until(v, c, v.doc.UserStale), s.until(v, c, min(v.doc.UserStale, v.doc.AdminStale))
	st.Preview = v.doc.Preview
	st.ResourceID, st.AgeSeconds, st.Clock, st.Principals = v.doc.ResourceID, int64(c.Age/time.Second), c.Wrong, len(v.people)
	for _, p := range v.people {
		if p.Access == protocol.Login || p.Access == protocol.Admin {
			st.Allowed++
		}
	}
	return st
}
