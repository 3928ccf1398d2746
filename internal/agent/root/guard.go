package root

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/agent/grants"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// guard ends what may not be here any more. It has a thread of its own, so that
// it waits neither for files to be written nor for sshd to be hung up. What it
// does follows from the view, the register and the process table, whenever it
// looks: a kill at any moment needs no special case.
func (s *Service) guard(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(min(s.look(ctx), watchEvery))
		select {
		case <-ctx.Done():
		case <-s.looking:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// lookNow wakes guard; lookSoon does when a login that begins or ends just now
// has settled.
func (s *Service) lookNow() {
	select {
	case s.looking <- struct{}{}:
	default:
	}
}

func (s *Service) lookSoon() { time.AfterFunc(s.cfg.Gather, s.lookNow) }

// again is when guard looks after an ending that did not succeed.
const again = time.Second

// look looks once, ends what is due, and says after how long something will be.
func (s *Service) look(ctx context.Context) time.Duration {
	v := s.strictest()
	// After the view: who is noted later was judged by one that is as new.
	noted := s.register.Noted()
	scene, open, err := s.see(v)
	if err != nil {
		s.cfg.Log("processes cannot be listed: %v", err)
		return again
	}
	list, next := s.due(v, noted, scene, open)
	failed := false
	if len(list) > 0 {
		failed = s.end(ctx, list, open) != nil
		if _, left, err := s.see(v); err == nil {
			open = left
		}
	}
	s.publish(open)
	next = min(next, s.stuck.look(list, failed))
	if !s.forget() {
		next = min(next, again)
	}
	return next
}

// see reads the process table and brings the register up to date with it.
func (s *Service) see(v view) (session.Scene, []session.Open, error) {
	_, elapsed := s.cfg.Boot() // reading takes a while, in which people log in
	scene, err := s.cfg.Ender.Look()
	if err != nil {
		return scene, nil, err
	}
	open, err := s.register.Update(scene, session.Sight{Low: shim.IDMin, High: visitorUID - 1, Now: s.cfg.Now(), Elapsed: elapsed, NewID: s.guid,
		Person: func(uid uint32) (string, string, bool) {
			p := v.person(uid)
			return p.ObjectID, p.LoginName, p.ObjectID != ""
		}})
	if err != nil {
		s.cfg.Log("register of sessions: %v", err)
	}
	return scene, open, nil
}

// person finds who has a uid; the zero Principal is nobody.
func (v view) person(uid uint32) protocol.Principal {
	for _, p := range v.people {
		if p.UID == uid {
			return *p
		}
	}
	return protocol.Principal{}
}

// publish keeps what is open for status and report.
func (s *Service) publish(open []session.Open) {
	s.mu.Lock()
	changed := !slices.EqualFunc(s.seen, open, func(a, b session.Open) bool { return a.Session() == b.Session() })
	s.seen = open
	s.mu.Unlock()
	if changed {
		s.events.Poke()
	}
}

// due is one thing to end, and what is told of it.
type due struct {
	session.Target
	cause       string
	correlation string
	objectID    string
	login       string
	session     string    // id, where it is one session
	since       time.Time // beginning of the oldest login that is ended
	admin       bool
	ending      *ending // what it carries out
	noted       uint64  // logins that were noted after this one stay
}

// due lists what is to be ended now: everything of people first, then single
// sessions of others. Nothing of somebody is listed twice.
func (s *Service) due(v view, noted uint64, scene session.Scene, open []session.Open) (list []due, next time.Duration) {
	present := s.here(scene, open)
	whole := map[uint32]bool{}
	add := func(d due) {
		if !whole[d.UID] {
			whole[d.UID] = d.Origins == nil && d.Spare == nil && !d.Elevated && d.noted == noted
			list = append(list, s.about(s.sparing(d, open), v, open))
		}
	}
	if v.doc != nil {
		for _, uid := range present {
			if d, ok := s.without(v, uid, open); ok {
				d.noted = noted
				add(d)
			}
		}
		for uid := range s.swept {
			if _, ok := s.without(v, uid, open); !ok {
				delete(s.swept, uid)
			}
		}
	}
	for _, e := range s.pending(v, noted, present) {
		if slices.Contains(present, e.UID) {
			d := e.due(open)
			d.noted = s.came[e]
			add(d)
		} else {
			s.carried[e] = nil
		}
	}
	if v.doc == nil {
		return list, watchEvery
	}
	next = watchEvery
	for _, o := range open {
		if whole[o.UID] {
			continue
		}
		if d, ok := s.single(v, scene, o, open); ok {
			add(d)
		} else if wait := s.aging(v, o); wait > 0 {
			next = min(next, wait)
		}
	}
	return list, next
}

// sparing fills in the logins of a person who loses more than single sessions:
// those that go although nothing says yet whose they are, where the kernel keeps no
// audit sessions, and those that stay because they were let in since.
func (s *Service) sparing(d due, open []session.Open) due {
	if d.Origins != nil {
		return d
	}
	for _, o := range open {
		if o.UID == d.UID && o.Audit == "" {
			d.Logins = append(d.Logins, o.Origin)
		}
	}
	uid, noted := d.UID, d.noted
	d.Noted = func() []session.Origin { return s.register.Since(uid, noted) }
	return d
}

// here are the people who have something here, or may.
func (s *Service) here(scene session.Scene, open []session.Open) []uint32 {
	present := scene.Present(shim.IDMin, visitorUID-1)
	// A login that is being let in may have no process yet that is the person's.
	for _, o := range open {
		if !slices.Contains(present, o.UID) {
			present = append(present, o.UID)
		}
	}
	// What forks and exits without end is not seen: who was here may still be.
	for _, uid := range s.register.Stays() {
		if !slices.Contains(present, uid) && !s.swept[uid] {
			present = append(present, uid)
		}
	}
	return present
}

// about fills in whom an ending concerns.
func (s *Service) about(d due, v view, open []session.Open) due {
	p := v.person(d.UID)
	d.objectID, d.login = p.ObjectID, p.LoginName
	d.since = s.cfg.Now()
	for _, o := range open {
		if o.UID != d.UID || d.Origins != nil && !slices.Contains(d.Origins, o.Origin) {
			continue
		}
		d.objectID, d.login = cmp.Or(d.objectID, o.ObjectID), cmp.Or(d.login, o.LoginName)
		d.admin = d.admin || o.Admin
		if o.Since.Before(d.since) {
			d.since = o.Since
		}
	}
	// What a person gave others to run may be of a login that has ended.
	if stay, ok := s.register.Stay(d.UID); ok && d.Origins == nil {
		d.admin = d.admin || stay.Admin
		if stay.Since.Before(d.since) {
			d.since = stay.Since
		}
	}
	if d.correlation == "" {
		d.correlation, _ = s.guid()
	}
	return d
}

// without ends everything of somebody who may not be here at all, with the
// sentence that his next login would read.
func (s *Service) without(v view, uid uint32, open []session.Open) (due, bool) {
	p := v.person(uid)
	here := v.doc.LoginEnabled && identified(v.doc)
	if here && (p.Access == protocol.Login || p.Access == protocol.Admin) {
		return due{}, false
	}
	d := due{Target: session.Target{UID: uid}, cause: protocol.CauseAccess}
	if !here {
		d.cause = protocol.CauseMachine
	}
	d = s.about(d, v, open)
	in := grants.Input{Way: grants.Local, Login: d.login, CorrelationID: d.correlation, Now: s.cfg.Now(), MachineID: s.cfg.Pins.MachineID,
		State: grants.State{Held: true, LoginEnabled: v.doc.LoginEnabled, Identity: identified(v.doc), ResourceID: v.doc.ResourceID}}
	if p.ObjectID != "" {
		in.Person = &p
	}
	d.Message = "Sallyport: your sessions on this machine are ended. " + grants.Decide(in).Text
	return d, true
}

// single ends one session whose certificate was revoked or replaced, that somebody
// ended, or that is too old.
func (s *Service) single(v view, scene session.Scene, o session.Open, open []session.Open) (due, bool) {
	d := due{Target: session.Target{UID: o.UID, Origins: []session.Origin{o.Origin}}, session: o.ID}
	_, elapsed := s.cfg.Boot()
	limit := time.Duration(v.doc.SessionMax) * time.Second
	ended := slices.IndexFunc(v.doc.Ended, func(e protocol.EndedSession) bool { return e.ID == o.ID })
	p := v.person(o.UID)
	switch {
	case v.revoked[o.Serial], o.Service == "sshd" && o.Issued.IsZero() && len(v.revoked) > 0:
		// A session whose certificate is not known may be the revoked one's.
		d.cause, d.Message = protocol.CauseCertificate, "Sallyport: the certificate that opened this session was revoked, and the session is ended. Sign in again: sally login"
		d.Origins = append(d.Origins, managers(scene, open, o)...)
	case !o.Issued.IsZero() && o.Issued.Before(p.NotBefore):
		d.cause, d.Message = protocol.CauseAccess, "Sallyport: your sessions were ended by the directory. Sign in again: sally login"
	case ended >= 0:
		d.cause, d.correlation = protocol.CauseEnded, v.doc.Ended[ended].CorrelationID
		d.Message = fmt.Sprintf("Sallyport: this session was ended by an administrator (correlation id %s).", d.correlation)
	case limit > 0 && o.Service == "sshd" && elapsed-o.Opened >= limit:
		d.cause = protocol.CauseAge
		d.Message = fmt.Sprintf("Sallyport: this session is ended: it has reached the age of %s, which is the longest here. Connect again.", limit)
	default:
		return due{}, false
	}
	return d, true
}

// managers returns the service managers of a person whose last login ends: a
// thief may have given them work. While others of his logins last, they stay.
func managers(scene session.Scene, open []session.Open, last session.Open) []session.Origin {
	if slices.ContainsFunc(open, func(o session.Open) bool { return o.UID == last.UID && o.ID != last.ID && o.Service != "systemd-user" }) {
		return nil
	}
	return scene.Managers(last.UID)
}

// warning is how long before its end a session is told that it ends.
const warning = time.Minute

// aging says after how long a session needs a look, and tells it once that it
// ends soon; 0: never.
func (s *Service) aging(v view, o session.Open) time.Duration {
	limit := time.Duration(v.doc.SessionMax) * time.Second
	if limit <= 0 || o.Service != "sshd" {
		return 0
	}
	_, elapsed := s.cfg.Boot()
	left := limit - (elapsed - o.Opened)
	if left > warning {
		return left - warning
	}
	if !s.warned[o.ID] {
		s.warned[o.ID] = true
		message := fmt.Sprintf("Sallyport: this session reaches the age of %s and is ended in %s.", limit, left.Round(time.Second))
		if err := s.cfg.Ender.Warn([]session.Target{{UID: o.UID, Origins: []session.Origin{o.Origin}, Message: message}}); err != nil {
			s.cfg.Log("session %s was not told that it ends: %v", o.ID, err)
		}
	}
	return max(left, time.Millisecond)
}

// end ends all that is due at the same time and writes down what it met.
func (s *Service) end(ctx context.Context, list []due, open []session.Open) error {
	targets := make([]session.Target, len(list))
	for i, d := range list {
		targets[i] = d.Target
	}
	outcomes, err := s.cfg.Ender.End(ctx, targets)
	_, elapsed := s.cfg.Boot()
	for i, d := range list {
		o := outcomes[i]
		var left error
		if o.Left {
			left = err
		}
		if o.Met > 0 && s.stuck.due(d, o.Left, elapsed) {
			s.tell(d, o.Met, open, left)
		}
		if !o.Left && d.ending != nil {
			s.carried[d.ending] = nil
		}
		if !o.Left && o.Swept {
			s.swept[d.UID] = true
		}
	}
	return err
}

// unended is said of an ending that signals did not bring about.
const unended = "what no signal ends (a process that waits in the kernel, say); the machine tries again"

// maxMessage is how much of a sentence an event holds.
const maxMessage = 1000

// tell writes down one ending, with what it did not reach; err is why something
// of it is left.
func (s *Service) tell(d due, met int, open []session.Open, err error) {
	who := session.Who{UID: d.UID, LoginName: d.login, Since: d.since, Admin: d.admin}
	stay := d.Spare
	if d.Noted != nil {
		stay = slices.Concat(d.Spare, d.Noted())
	}
	for _, o := range open {
		if o.UID == d.UID && (d.Elevated || d.Origins != nil && !slices.Contains(d.Origins, o.Origin) || slices.Contains(stay, o.Origin)) {
			who.Others = append(who.Others, o.Origin)
		}
	}
	detail := map[string]string{protocol.FactCause: d.cause, protocol.FactProcesses: fmt.Sprint(met), protocol.FactUID: fmt.Sprint(d.UID), protocol.FactMessage: readable(d.Message, maxMessage)}
	if d.session != "" && err == nil { // the server takes it for gone
		detail[protocol.FactSession] = d.session
	}
	left := s.cfg.Ender.Left(who)
	if err != nil {
		s.cfg.Log("sessions of uid %d could not be ended: %v", d.UID, err)
		left = append(left, unended)
	}
	if len(left) > 0 {
		detail[protocol.FactLeft] = readable(strings.Join(left, "; "), maxMessage)
	}
	s.event(protocol.EventSessionEnd, d.correlation, d.objectID, d.login, detail)
}

// begin notes a login before it is let in.
func (s *Service) begin(p proc.Process, x record, r shim.PAMRequest) (session.Login, error) {
	person := s.now().people[r.User]
	if person == nil {
		return session.Login{}, nil // refused in a moment
	}
	id, err := s.guid()
	if err != nil {
		return session.Login{}, err
	}
	_, elapsed := s.cfg.Boot()
	c := x.certificate
	l := session.Login{Origin: session.Origin{PID: p.PID, Start: p.Start, Audit: p.Audit}, ID: id, ObjectID: person.ObjectID, LoginName: r.User, UID: person.UID,
		Since: s.cfg.Now().UTC().Truncate(time.Microsecond), Opened: elapsed, From: printable(r.RHost), Service: r.Service, Serial: c.Serial, KeyID: printable(c.KeyID), Issued: c.IssuedAt.UTC(),
		CorrelationID: cmp.Or(x.correlation, id), Admin: person.Access == protocol.Admin}
	if err := s.register.Add(l); err != nil {
		s.cfg.Log("register of sessions: %v", err)
	}
	return l, nil
}

// sessionOf finds the session that a process of PAM's belongs to.
func (s *Service) sessionOf(peer shim.Peer) session.Login {
	p, err := s.cfg.Processes.Read(peer.PID)
	if err != nil {
		return session.Login{}
	}
	return s.register.Find(p)
}
