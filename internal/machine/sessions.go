package machine

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

const (
	// endedFor is how long a machine is told of a session that was ended. What it
	// reports meanwhile changes nothing: whoever carries its reports could
	// otherwise take an end back before the part that carries it out has seen it.
	endedFor = 7 * 24 * time.Hour
	// EndingMemory is how long an ended session can be shown.
	EndingMemory = 30 * 24 * time.Hour
)

// Session is an open session with the machine that told of it.
type Session struct {
	protocol.Session
	MachineID string
	Ending    *Ending // somebody has ended it, and the machine has not yet
}

// Ending is a session that somebody ended.
type Ending struct {
	Session       protocol.Session // as it was then
	MachineID     string
	By            string // object id
	CorrelationID string
	At            time.Time
	GoneAt        time.Time // when the machine said that it is gone; zero before
	Processes     string    // how many were ended, in the machine's words
	Left          string    // what goes on running, in the machine's words
}

// SessionList is all that a machine says of its sessions.
type SessionList struct {
	Sessions []protocol.Session
	More     int    // those left out
	Digest   string // "": the machine does not tell
}

// SessionQuery selects sessions; empty fields select everything. The answer is
// ordered by machine and id.
type SessionQuery struct {
	MachineID, SessionID, ObjectID string
	AfterMachine, AfterID          string // behind this one
	Limit                          int
}

// SessionTx stores sessions.
type SessionTx interface {
	// SessionDigest returns the digest of the stored list; "" for none.
	SessionDigest(machineID string) (string, error)
	// PutSessions replaces the list.
	PutSessions(machineID string, l SessionList, at time.Time) error
	Sessions(q SessionQuery) ([]Session, error)
	EndingTx
}

// EndingTx stores ended sessions. A new one is a change of kind
// "machineSession" with the machine's id as key.
type EndingTx interface {
	PutEnding(e Ending) error
	// EndingGone notes that the machine has carried an end out. Only the first
	// word counts for the time; a text replaces an empty one.
	EndingGone(machineID, sessionID string, at time.Time, processes, left string) error
	EndingsOf(machineID string) ([]Ending, error)
	EndingsByID(sessionID string) ([]Ending, error)
}

func errNoSession(id string) error {
	return fault.New(fault.NotFound, "SessionNotFound", "there is no session %s", id).WithRemedy("List them with: sally session list")
}

// Sessions lists open sessions.
func (s *Service) Sessions(ctx context.Context, q SessionQuery) (list []Session, err error) {
	err = s.cfg.Read(ctx, func(t Tx) error {
		list, err = t.Sessions(q)
		return err
	})
	return list, err
}

// SessionByID finds a session that is open, or was ended lately. Machines make
// their own ids: where two tell of the same one, machineID says which is meant.
func (s *Service) SessionByID(ctx context.Context, machineID, id string) (found Session, open bool, err error) {
	id = strings.ToLower(id)
	var list []Session
	var ended []Ending
	err = s.cfg.Read(ctx, func(t Tx) error {
		if list, err = t.Sessions(SessionQuery{MachineID: machineID, SessionID: id, Limit: 2}); err != nil {
			return err
		}
		ended, err = t.EndingsByID(id)
		return err
	})
	ended = slices.DeleteFunc(ended, func(e Ending) bool { return machineID != "" && e.MachineID != machineID })
	switch {
	case err != nil:
		return found, false, err
	case len(list) > 1 || len(list) == 0 && len(ended) > 1:
		return found, false, fault.New(fault.Conflict, "SessionAmbiguous", "more than one machine tells of a session %s", id).WithRemedy("Say which one is meant: --machine ID.")
	case len(list) == 1:
		return list[0], true, nil
	case len(ended) == 1:
		e := ended[0]
		return Session{Session: e.Session, MachineID: e.MachineID, Ending: &e}, false, nil
	}
	return found, false, errNoSession(id)
}

// EndSession ends an open session. Whether by may do that is the caller's
// question, and has been answered. To end it twice is to end it once.
func (s *Service) EndSession(ctx context.Context, by audit.By, machineID, id string) error {
	m, ok := s.cfg.Machines.ByID(machineID)
	if !ok {
		return errNoSession(id)
	}
	now := s.cfg.Now()
	return s.cfg.Write(ctx, func(t Tx) error {
		list, err := t.Sessions(SessionQuery{MachineID: machineID, SessionID: id, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errNoSession(id)
		}
		ended, err := t.EndingsOf(machineID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ended, func(e Ending) bool { return e.Session.ID == id && e.told(now) }) {
			return nil
		}
		// Whoever ends his own leaves room to those who end them for him.
		room := protocol.MaxSessions
		if list[0].ObjectID == by.Principal {
			room /= 2
		}
		if n := len(slices.DeleteFunc(ended, func(e Ending) bool { return !e.told(now) })); n >= room {
			return fault.New(fault.Conflict, "TooManyEnded", "%d sessions of this machine were ended one by one within %d days", n, endedFor/(24*time.Hour)).
				WithRemedy("End everything of a person: sally account session revoke --all --user NAME.")
		}
		e := Ending{Session: list[0].Session, MachineID: machineID, By: by.Principal, CorrelationID: by.CorrelationID, At: t.Now()}
		if err := t.PutEnding(e); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: EventSessionEnd, Outcome: audit.Success, Target: m.ResourceID.String(), Detail: map[string]string{
			"machineId": machineID, "session": id, "objectId": e.Session.ObjectID, "login": e.Session.LoginName}})
	})
}

// EventSessionEnd is the type of the record of who ended a session.
const EventSessionEnd = "machineSession.end"

// told reports whether the machine is told of an end.
func (e Ending) told(now time.Time) bool { return now.Sub(e.At) < endedFor }

// reportedSessions are the sessions of a report.
func reportedSessions(r protocol.Report) (SessionList, error) {
	if r.Capability < 3 {
		return SessionList{}, nil
	}
	l := SessionList{Sessions: slices.Clone(r.Sessions), More: r.MoreSessions}
	slices.SortFunc(l.Sessions, func(a, b protocol.Session) int { return strings.Compare(a.ID, b.ID) })
	text, err := json.Marshal(l)
	if err != nil {
		return l, fmt.Errorf("sessions: %w", err)
	}
	sum := sha256.Sum256(text)
	l.Digest = base64.RawStdEncoding.EncodeToString(sum[:])
	return l, nil
}

// stands reads what is stored of a machine, and its list of sessions, if that is
// another one now: a machine that does not tell of sessions any more has none that
// are known. The index does not say yet what another server has just stored.
func (s *Service) stands(ctx context.Context, machineID string, r protocol.Report) (m Machine, l SessionList, fresh bool, err error) {
	if l, err = reportedSessions(r); err != nil {
		return m, l, false, err
	}
	var digest string
	err = s.cfg.Read(ctx, func(t Tx) error {
		if m, _, err = t.MachineByID(machineID); err != nil {
			return err
		}
		digest, err = t.SessionDigest(machineID)
		return err
	})
	return m, l, err == nil && digest != l.Digest, err
}

// putSessions stores a list, and that ended sessions which are not in it are gone.
func putSessions(t Tx, machineID string, l SessionList) error {
	if err := t.PutSessions(machineID, l, t.Now()); err != nil || l.More > 0 || l.Digest == "" {
		return err
	}
	ended, err := t.EndingsOf(machineID)
	if err != nil {
		return err
	}
	for _, e := range ended {
		open := slices.ContainsFunc(l.Sessions, func(n protocol.Session) bool { return n.ID == e.Session.ID })
		if !open && e.GoneAt.IsZero() {
			if err := t.EndingGone(machineID, e.Session.ID, t.Now(), "", ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// sessionEnded notes what a machine tells of an end that it has carried out.
func sessionEnded(t Tx, machineID string, e protocol.MachineEvent) error {
	id := e.Detail[protocol.FactSession]
	if e.Type != protocol.EventSessionEnd || id == "" {
		return nil
	}
	return t.EndingGone(machineID, id, t.Now(), e.Detail[protocol.FactProcesses], e.Detail[protocol.FactLeft])
}
