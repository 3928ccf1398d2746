//go:build pkcs11

package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"sallyport/internal/fault"
)

const (
	// sessions bounds how many are kept open for signing.
	sessions = 8
	// reopenEvery bounds how often a token that is gone is looked for.
	reopenEvery = time.Second
)

// Config names a token.
type Config struct {
	Module string // path of the PKCS#11 library
	Label  string // of the token
	PIN    func() (string, error)
	Now    func() time.Time
}

// Token is an opened token. It is safe for concurrent use.
type Token struct {
	cfg Config
	lib *pkcs11.Ctx

	// mu is held for reading while a session is used and for writing while the
	// token is opened again.
	mu         sync.RWMutex
	opened     bool
	generation int
	slot       uint
	anchor     pkcs11.SessionHandle // keeps the login
	idle       chan pkcs11.SessionHandle
	tried      time.Time
	refused    error // the PIN was, and is not tried again

	finding sync.Mutex
	handles map[string]pkcs11.ObjectHandle // private keys by label, since the last opening
}

// Open loads the library, finds the token and logs in.
func Open(c Config) (*Token, error) {
	lib := pkcs11.New(c.Module)
	if lib == nil {
		return nil, fault.New(fault.Invalid, "TokenModule", "%s cannot be loaded as a PKCS#11 library", c.Module).WithRemedy("Give the path of the token's library with --module.")
	}
	t := &Token{cfg: c, lib: lib}
	if err := t.open(); err != nil {
		lib.Destroy()
		return nil, err
	}
	return t, nil
}

// Close logs out and unloads the library.
func (t *Token) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut()
	t.lib.Destroy()
}

// open makes everything from the library's initialization to the login. The
// caller holds mu, or is the only one.
func (t *Token) open() error {
	if t.refused != nil {
		return t.refused
	}
	if err := t.lib.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return fault.Wrap(err, fault.Unavailable, "TokenModule", "the PKCS#11 library cannot be initialized: %v", err)
	}
	slot, err := t.find()
	if err == nil {
		err = t.login(slot)
	}
	if err != nil {
		_ = t.lib.Finalize() // the next try begins anew
		return err
	}
	t.slot, t.idle, t.handles = slot, make(chan pkcs11.SessionHandle, sessions), map[string]pkcs11.ObjectHandle{}
	t.opened = true
	t.generation++
	return nil
}

// shut forgets everything that a lost token has made worthless.
func (t *Token) shut() {
	if t.opened {
		_ = t.lib.CloseAllSessions(t.slot)
	}
	_ = t.lib.Finalize()
	t.opened = false
}

// find returns the slot of the one token with the label.
func (t *Token) find() (uint, error) {
	slots, err := t.lib.GetSlotList(true)
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "TokenAway", "the token %q does not answer: %v", t.cfg.Label, err)
	}
	var found []uint
	var labels []string
	for _, slot := range slots {
		info, err := t.lib.GetTokenInfo(slot)
		if err != nil {
			continue // a slot whose token cannot be read is none of ours
		}
		label := strings.TrimRight(info.Label, " \x00")
		labels = append(labels, fmt.Sprintf("%q", label))
		if label == t.cfg.Label {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fault.New(fault.Unavailable, "TokenAway", "there is no token with the label %q; there are: %s", t.cfg.Label, strings.Join(labels, ", "))
	}
	return 0, fault.New(fault.Conflict, "TokenAmbiguous", "%d tokens have the label %q", len(found), t.cfg.Label)
}

func (t *Token) login(slot uint) error {
	session, err := t.lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "TokenAway", "the token %q does not answer: %v", t.cfg.Label, err)
	}
	pin, err := t.cfg.PIN()
	if err != nil {
		return err
	}
	err = t.lib.Login(session, pkcs11.CKU_USER, pin)
	var code pkcs11.Error
	switch {
	case err == nil, errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
		t.anchor = session
		return nil
	case errors.As(err, &code) && (code == pkcs11.CKR_PIN_INCORRECT || code == pkcs11.CKR_PIN_LOCKED || code == pkcs11.CKR_PIN_LEN_RANGE || code == pkcs11.CKR_PIN_INVALID || code == pkcs11.CKR_PIN_EXPIRED):
		t.refused = fault.Wrap(err, fault.Forbidden, "PINRefused", "the token %q refuses the PIN (%v); it is not tried again, because tokens lock themselves", t.cfg.Label, err).
			WithRemedy("Put the right PIN into its file and start again.")
		return t.refused
	}
	return fault.Wrap(err, fault.Unavailable, "TokenAway", "the token %q lets nobody log in: %v", t.cfg.Label, err)
}

// reopen opens the token again, unless somebody else has since generation, or
// somebody has just tried.
func (t *Token) reopen(generation int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened && t.generation != generation {
		return nil
	}
	now := t.cfg.Now()
	if wait := reopenEvery - now.Sub(t.tried); !t.tried.IsZero() && wait > 0 && wait <= reopenEvery {
		return fault.New(fault.Unavailable, "TokenAway", "the token %q is gone and was looked for a moment ago", t.cfg.Label)
	}
	t.tried = now
	t.shut()
	return t.open()
}

// session lends a session to use.
func (t *Token) session(use func(pkcs11.SessionHandle) error) error {
	var s pkcs11.SessionHandle
	select {
	case s = <-t.idle:
	default:
		var err error
		if s, err = t.lib.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
			return err
		}
	}
	if err := use(s); err != nil {
		_ = t.lib.CloseSession(s) // whatever state it is in
		return err
	}
	select {
	case t.idle <- s:
	default:
		_ = t.lib.CloseSession(s)
	}
	return nil
}

// do runs use with a session, and once more with a token that is opened again
// when the first try failed: every failure can be a token that was taken out.
func (t *Token) do(use func(pkcs11.SessionHandle) error) error {
	generation, err := t.once(use)
	if err == nil {
		return nil
	}
	if again := t.reopen(generation); again != nil {
		return fault.Wrap(errors.Join(err, again), fault.Unavailable, "TokenAway", "the token %q does not answer: %v", t.cfg.Label, again)
	}
	if _, err = t.once(use); fault.KindOf(err) != fault.Internal {
		return err // it has a sentence
	} else if err != nil {
		return fault.Wrap(err, fault.Unavailable, "TokenAway", "the token %q does not sign: %v", t.cfg.Label, err)
	}
	return nil
}

func (t *Token) once(use func(pkcs11.SessionHandle) error) (generation int, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.opened {
		return t.generation, errors.New("the token is not open")
	}
	return t.generation, t.session(use)
}
