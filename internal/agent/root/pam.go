package root

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/grants"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// wayOf says how a PAM service lets somebody in. A service that is not listed
// is no way in: nobody has thought about it.
func wayOf(service string) grants.Way {
	switch service {
	case "sshd":
		return grants.SSH
	case "sudo", "sudo-i":
		return grants.Elevate
	case "su", "su-l", "login", "cron", "crond", "atd", "systemd-user":
		return grants.Local
	}
	return grants.NoWay
}

// away is the sentence for a fault of our own: closed, with a reason.
const away = "Sallyport: the login service on this machine cannot decide now; ask an administrator of the machine to run: sally agent status"

// PAM answers the PAM module. An account question is decided, and decided again
// when sshd opens the session; the end of a session is only written down.
func (s *Service) PAM(ctx context.Context, peer shim.Peer, r shim.PAMRequest) shim.PAMAnswer {
	if visit := s.visiting(r.User); visit != nil {
		p, err := s.cfg.Processes.Read(peer.PID)
		if err != nil {
			return shim.PAMAnswer{Text: away}
		}
		parent, _ := s.cfg.Processes.Read(p.PPID) // none is nobody's
		return visit.pam(p, parent, r)
	}
	if (r.Phase == shim.PhaseAccount || r.Phase == shim.PhaseBegin) && !s.settled(ctx) {
		in, d := grants.Input{Way: wayOf(r.Service), Login: r.User}, grants.Decision{Reason: "starting", Text: starting}
		s.note(in, d, r)
		return shim.PAMAnswer{Text: d.Text}
	}
	var in grants.Input
	var d grants.Decision
	var err error
	switch {
	case r.Phase == shim.PhaseBegin:
		return s.beginApproval(ctx, peer, r)
	case r.Phase == shim.PhaseCheck:
		return s.checkApproval(ctx, peer, r)
	case r.Phase == shim.PhaseAccount:
		in, d, err = s.decide(peer, r)
	case r.Phase == shim.PhaseOpen && wayOf(r.Service) == grants.SSH:
		return s.open(peer, r)
	default:
		s.session(r, s.sessionOf(peer))
		s.lookSoon()
		return shim.PAMAnswer{Allow: true}
	}
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	s.note(in, d, r)
	return shim.PAMAnswer{Allow: d.Allow, Text: d.Text}
}

// decide gathers what is known and asks grants.Decide. A first login is kept
// before the answer: the name is this object's from then on.
func (s *Service) decide(peer shim.Peer, r shim.PAMRequest) (grants.Input, grants.Decision, error) {
	in, err := s.input(r)
	if err != nil {
		return in, grants.Decision{}, err
	}
	var seen record
	if in.Way == grants.SSH {
		in.Connection, seen = s.connection(peer, r.User)
	}
	d := grants.Decide(in)
	if d.Allow && in.Kept == "" {
		kept, err := s.names.Keep(in.Login, in.Person.ObjectID, in.Person.UID)
		if err != nil {
			return in, grants.Decision{}, err
		}
		if kept.ObjectID != in.Person.ObjectID {
			in.Kept = kept.ObjectID
			d = grants.Decide(in)
		}
	}
	if d.Allow && in.Connection != nil {
		seen.correlation = in.CorrelationID
		pid := peer.PID
		if m := seen.monitor; m.PID != 0 {
			pid, seen.start = m.PID, m.Start
		}
		s.conns.admit(pid, seen)
	}
	return in, d, nil
}

// open judges the same connection by what is held now. Between the account phase
// and this one the connection belongs to nobody, so that a snapshot that ends
// somebody's sessions cannot see it. Without the second look a login that is
// under way just then would outlive the revocation. The login is noted before
// what is held is read: whichever of the two comes first, one of them sees the other.
func (s *Service) open(peer shim.Peer, r shim.PAMRequest) shim.PAMAnswer {
	p, err := s.cfg.Processes.Read(peer.PID)
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	x, ok := s.conns.opened(p)
	login, err := s.begin(p, x, r)
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	in, err := s.input(r)
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	if ok && x.login == r.User {
		in.Connection = &grants.Connection{Certificate: x.certificate} // its age was judged when it was let in
	}
	d := grants.Decide(in)
	if !d.Allow {
		if err := s.register.Remove(login.ID); err != nil {
			s.cfg.Log("register of sessions: %v", err)
		}
		s.note(in, d, r)
		return shim.PAMAnswer{Text: d.Text}
	}
	s.session(r, login)
	s.lookSoon()
	return shim.PAMAnswer{Allow: true}
}

// identified reports whether the machine has what its extension needs: a managed
// identity, or nothing, which is what the preview needs.
func identified(d *protocol.SnapshotDocument) bool { return d.Identity || d.Preview }

func (s *Service) input(r shim.PAMRequest) (grants.Input, error) {
	id, err := s.guid()
	if err != nil {
		return grants.Input{}, err
	}
	in := grants.Input{Way: wayOf(r.Service), Login: r.User, CorrelationID: id, Now: s.cfg.Now(), MachineID: s.cfg.Pins.MachineID}
	s.mu.RLock()
	v, drift, coming, broken := s.view, s.reached.drift, s.coming, len(s.broken) > 0
	s.mu.RUnlock()
	in.State.Broken = broken
	if v.doc == nil {
		return in, nil
	}
	in.State = grants.State{Held: true, Broken: broken, LoginEnabled: v.doc.LoginEnabled, Identity: identified(v.doc), ResourceID: v.doc.ResourceID, GoodUntil: v.doc.GoodUntil,
		UserStale: time.Duration(v.doc.UserStale) * time.Second, AdminStale: time.Duration(v.doc.AdminStale) * time.Second,
		Revoked: func(serial string) bool { return v.revoked[serial] }, Drift: drift,
		Trusted: func(authority string) bool {
			return slices.ContainsFunc(v.userCAs, func(ca ssh.PublicKey) bool { return ssh.FingerprintSHA256(ca) == authority })
		}}
	in.Clock = s.clock(v, in.Now)
	in.Person, in.Local = v.people[r.User], v.local[r.User]
	if owner, ok := s.names.Owner(r.User); ok {
		in.Kept = owner.ObjectID
	}
	in.HomeUID = s.homeOwner(r.User)
	if coming != nil {
		in = stricter(in, *coming)
	}
	return in, nil
}

// connection finds the certificate that opened the connection which the asking
// process serves. Only an sshd of root has one, and only for the name that it
// was shown for.
func (s *Service) connection(peer shim.Peer, login string) (*grants.Connection, record) {
	p, err := s.cfg.Processes.Read(peer.PID)
	if err != nil {
		return nil, record{}
	}
	r, ok := s.conns.take(p)
	if !ok || r.login != login || !p.Privileged() || !p.SSHD() {
		return nil, record{}
	}
	_, elapsed := s.cfg.Boot()
	return &grants.Connection{Certificate: r.certificate, Age: elapsed - r.at}, r
}

// note writes the decision down for the audit.
func (s *Service) note(in grants.Input, d grants.Decision, r shim.PAMRequest) {
	area := map[grants.Way]string{grants.SSH: "login", grants.Elevate: "sudo", grants.Local: "local"}[in.Way]
	if area == "" {
		area = "login"
	}
	kind := area + ".deny"
	if d.Allow {
		kind = area + ".allow"
	}
	detail := from(r)
	detail["reason"] = d.Reason
	if in.Connection != nil {
		detail["serial"], detail["keyId"] = in.Connection.Certificate.Serial, in.Connection.Certificate.KeyID
	}
	objectID := ""
	if in.Person != nil {
		objectID = in.Person.ObjectID
	}
	s.event(kind, in.CorrelationID, objectID, r.User, detail)
}

// session writes down that a session began or ended.
func (s *Service) session(r shim.PAMRequest, l session.Login) {
	id, err := s.guid()
	if err != nil {
		return
	}
	objectID := ""
	if p := s.now().people[r.User]; p != nil {
		objectID = p.ObjectID
	}
	detail := from(r)
	if l.ID != "" {
		id, detail[protocol.FactSession] = l.CorrelationID, l.ID
	}
	if l.Serial != "" {
		detail["serial"], detail["keyId"] = l.Serial, l.KeyID
	}
	s.event("session."+string(r.Phase), id, objectID, r.User, detail)
}

// from is what PAM said about where somebody comes from: the words of the
// calling program, for the record only.
func from(r shim.PAMRequest) map[string]string {
	detail := map[string]string{"service": r.Service, "from": r.RHost, "tty": r.TTY, "by": r.RUser}
	maps.DeleteFunc(detail, func(_, v string) bool { return v == "" })
	for k, v := range detail {
		detail[k] = printable(v)
	}
	return detail
}

// printable cuts and cleans a text for a record.
func printable(v string) string { return readable(v, 256) }

func readable(v string, limit int) string {
	v = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, v)
	return v[:min(len(v), limit)]
}

// event spools one event; its own id makes a repeat harmless.
func (s *Service) event(kind, correlation, objectID, login string, detail map[string]string) {
	id, err := s.guid()
	if err != nil {
		s.cfg.Log("event %s of %s is lost: %v", kind, login, err)
		return
	}
	s.events.Add(protocol.MachineEvent{ID: id, Time: s.cfg.Now().UTC(), Type: kind, CorrelationID: correlation, ObjectID: objectID, LoginName: login, Detail: detail})
}

// queueEvent makes an event about the queue of events.
func (s *Service) queueEvent(kind string, detail map[string]string) (protocol.MachineEvent, error) {
	id, err := s.guid()
	if err != nil {
		return protocol.MachineEvent{}, err
	}
	correlation, err := s.guid()
	return protocol.MachineEvent{ID: id, Time: s.cfg.Now().UTC(), Type: kind, CorrelationID: correlation, Detail: detail}, err
}
