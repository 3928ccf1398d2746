package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/guid"
)

// SessionKind is what a session is used for, as far as the machine can tell.
type SessionKind string

// The kinds of sessions.
const (
	SessionPTY        SessionKind = "pty"        // a terminal
	SessionExec       SessionKind = "exec"       // a command without a terminal
	SessionSFTP       SessionKind = "sftp"       // file transfer
	SessionForward    SessionKind = "forward"    // forwarded ports alone
	SessionLocal      SessionKind = "local"      // a login that sshd did not open: the console, su
	SessionBackground SessionKind = "background" // what a login left behind when it ended
)

// MaxSessions bounds the sessions in one report, and the ended ones in a snapshot.
const MaxSessions = 1024

// Session is one login that is open on a machine, in the machine's words. Its id
// is made by the root part when the login is let in and means this one session
// for ever; nothing else about it decides anything.
type Session struct {
	ID            string      `json:"id"` // GUID
	ObjectID      string      `json:"objectId"`
	LoginName     string      `json:"login"`
	UID           uint32      `json:"uid"`
	Since         time.Time   `json:"since"`
	From          string      `json:"from,omitempty"` // address, as sshd says
	Service       string      `json:"service,omitempty"`
	Kind          SessionKind `json:"kind"`
	TTY           string      `json:"tty,omitempty"`
	Elevated      int         `json:"elevated,omitempty"` // processes that run as somebody else: sudo, su and what is below them
	Serial        string      `json:"serial,omitempty"`   // of the certificate that opened it, decimal
	KeyID         string      `json:"keyId,omitempty"`    // of the same
	CorrelationID string      `json:"correlationId"`      // of the decision that let it in
}

// EndedSession says that a session is to be ended. CorrelationID is the
// request's that ended it, for the sentence that its person reads.
type EndedSession struct {
	ID            string `json:"id"`
	CorrelationID string `json:"correlationId"`
}

// EventSessionEnd is the type of the event that tells that the machine has ended
// something: a session, or everything of a person. The Fact constants are its
// details.
const EventSessionEnd = "session.end"

// Facts of EventSessionEnd.
const (
	FactSession   = "session"   // id of the session, where it was one
	FactCause     = "cause"     // why: a Cause constant
	FactProcesses = "processes" // how many were ended
	FactLeft      = "left"      // what goes on running although the person began it, in words; absent when nothing does
	FactUID       = "uid"
	FactMessage   = "message" // what the person read
)

// Causes of an end.
const (
	CauseAccess      = "access"      // no role here any more, disabled, deleted, or sessions revoked
	CauseElevation   = "elevation"   // the administrator's role alone is gone
	CauseCertificate = "certificate" // the certificate that opened it was revoked
	CauseEnded       = "ended"       // somebody ended this session
	CauseAge         = "age"         // the longest age of a session was reached
	CauseKey         = "key"         // the key that signed the certificate was withdrawn
	CauseMachine     = "machine"     // the machine, its identity or its login extension is gone
)

// Check refuses a session that no machine of ours would tell of.
func (s Session) Check() error {
	if id, ok := guid.Parse(s.ID); !ok || id != s.ID {
		return errors.New("the id of a session is no GUID")
	}
	if id, ok := guid.Parse(s.ObjectID); !ok || id != s.ObjectID {
		return errors.New("the object id of a session is no GUID")
	}
	if !slices.Contains([]SessionKind{SessionPTY, SessionExec, SessionSFTP, SessionForward, SessionLocal, SessionBackground}, s.Kind) {
		return fmt.Errorf("the kind of session %s is not known", s.ID)
	}
	if s.Serial != "" {
		if n, err := strconv.ParseUint(s.Serial, 10, 64); err != nil || strconv.FormatUint(n, 10) != s.Serial {
			return fmt.Errorf("the serial of session %s is no decimal number", s.ID)
		}
	}
	// JSON has years of four digits only, also after another zone is taken for UTC.
	if year := s.Since.UTC().Year(); s.Elevated < 0 || s.Since.IsZero() || year < 1 || year > 9999 {
		return fmt.Errorf("session %s has no beginning, or less than no processes", s.ID)
	}
	for _, text := range []string{s.LoginName, s.From, s.Service, s.TTY, s.KeyID, s.CorrelationID} {
		if len(text) > 256 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("session %s has a text that is too long or not printable", s.ID)
		}
	}
	return nil
}
