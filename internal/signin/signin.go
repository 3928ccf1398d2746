package signin

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// How long a sign-in session lives: at most, and without use.
const (
	AbsoluteLife = 24 * time.Hour
	IdleLife     = 8 * time.Hour
	// touchEvery bounds the writes of a busy session.
	touchEvery = 10 * time.Minute
	// MaxTries is how many wrong device codes one session may enter.
	MaxTries = 10
)

// Password is the factor's name in sessions, tokens and certificates.
const Password = "pwd"

// Session is a signed-in browser.
type Session struct {
	ID         string
	UserID     string
	KeyHash    []byte // keyed hash of the cookie
	Address    string // that the sign-in came from
	Factors    map[string]time.Time
	SignedInAt time.Time
	SeenAt     time.Time
	Ends       time.Time
	Tries      int
}

// Passwords is credential's part; credential.Service satisfies it. A name that
// nobody has costs what a wrong password costs.
type Passwords interface {
	VerifyUPN(ctx context.Context, by audit.By, upn, password, shown string) (credential.Result, error)
	// Remember makes what a browser shows at the next sign-in of the user.
	Remember(userID, shown string, at time.Time) (string, error)
	ChangePassword(ctx context.Context, by audit.By, upn, old, replacement string) error
}

// Directory knows people.
type Directory interface {
	User(id string) (directory.User, bool)
}

// Tx is what sessions need of the store.
type Tx interface {
	PutSignInSession(Session) error
	SignInSession(keyHash []byte) (Session, bool, error)
	TouchSignInSession(id string, seenAt time.Time, tries int) error
	EndSignInSession(id string) error
	Audit(by audit.By, e audit.Event) error
}

// Config makes a Service. Hash is the key store's keyed hash.
type Config struct {
	Write     func(context.Context, func(Tx) error) error
	Read      func(context.Context, func(Tx) error) error
	Rand      io.Reader
	Hash      func(label, secret string) []byte
	Passwords Passwords
	Directory Directory
}

// Service is safe for concurrent use.
type Service struct{ cfg Config }

// New returns a Service.
func New(cfg Config) *Service { return &Service{cfg} }

// ErrWrong is the one answer for an unknown name, a wrong password and a locked
// account: three answers would tell a stranger which names exist.
func ErrWrong() *fault.Error {
	return fault.New(fault.Unauthenticated, "AADSTS50126", "The user name or password is wrong, or there were too many attempts.").
		WithRemedy("Check the spelling; if it stays refused, wait a few minutes, sign in where you did before, or ask a User Administrator to reset the password.")
}

// ErrMustChange says that the password was right and must be changed first.
func ErrMustChange() *fault.Error {
	return fault.New(fault.Forbidden, "AADSTS50055", "The password must be changed before this account can be used.").
		WithRemedy("Run: sally account password change; or sign in with a browser.")
}

// ErrDisabled says that the account is disabled; only who knows the password
// reads it.
func ErrDisabled() *fault.Error {
	return fault.New(fault.Forbidden, "AADSTS50057", "The user account is disabled.").WithRemedy("Ask a User Administrator to enable it.")
}

// ErrExpired says that a one-time password is too old.
func ErrExpired() *fault.Error {
	return fault.New(fault.Forbidden, "AADSTS50055", "The one-time password has expired.").WithRemedy("Ask a User Administrator for a new one.")
}

// Check proves a user by name and password. Every refusal is a *fault.Error made
// by one of the Err functions.
func (s *Service) Check(ctx context.Context, by audit.By, upn, password string) (directory.User, error) {
	return s.check(ctx, by, upn, password, "")
}

// CheckBrowser is Check for a browser, which shows what the last sign-in in it
// left, and keeps what is returned: nobody elsewhere can lock its user out of
// it. It proves no identity.
func (s *Service) CheckBrowser(ctx context.Context, by audit.By, upn, password, shown string) (user directory.User, remember string, err error) {
	if user, err = s.check(ctx, by, upn, password, shown); err != nil {
		return user, "", err
	}
	remember, err = s.cfg.Passwords.Remember(user.ID, shown, by.At)
	return user, remember, err
}

func (s *Service) check(ctx context.Context, by audit.By, upn, password, shown string) (directory.User, error) {
	result, err := s.cfg.Passwords.VerifyUPN(ctx, by, strings.ToLower(strings.TrimSpace(upn)), password, shown)
	if err != nil {
		return directory.User{}, err
	}
	user, found := s.cfg.Directory.User(result.UserID)
	switch result.Status {
	case credential.OK:
		if !found {
			return directory.User{}, ErrWrong()
		}
		if !user.Enabled {
			return directory.User{}, ErrDisabled()
		}
		return user, nil
	case credential.MustChange:
		return directory.User{}, ErrMustChange()
	case credential.Expired:
		return directory.User{}, ErrExpired()
	case credential.Disabled:
		return directory.User{}, ErrDisabled()
	default:
		return directory.User{}, ErrWrong()
	}
}

// ChangePassword changes a password for who knows the old one.
func (s *Service) ChangePassword(ctx context.Context, by audit.By, upn, old, replacement string) error {
	if old == "" || replacement == "" {
		return fault.New(fault.Invalid, "PasswordMissing", "the present and the new password are both needed")
	}
	return s.cfg.Passwords.ChangePassword(ctx, by, strings.ToLower(strings.TrimSpace(upn)), old, replacement)
}

// Begin opens a session for a user whose factors were proven now and returns the
// cookie's value. It is the caller's business to have checked the factors.
func (s *Service) Begin(ctx context.Context, by audit.By, user directory.User, factors ...string) (string, Session, error) {
	secret := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, secret); err != nil {
		return "", Session{}, fmt.Errorf("signin: %w", err)
	}
	id, err := guid.New(s.cfg.Rand)
	if err != nil {
		return "", Session{}, fmt.Errorf("signin: %w", err)
	}
	cookie := base64.RawURLEncoding.EncodeToString(secret)
	n := Session{
		ID: id, UserID: user.ID, Address: by.Address, KeyHash: s.cfg.Hash("sign-in session", cookie), Factors: map[string]time.Time{},
		SignedInAt: by.At, SeenAt: by.At, Ends: by.At.Add(AbsoluteLife),
	}
	for _, f := range factors {
		n.Factors[f] = by.At
	}
	by.Principal, by.Type, by.Name, by.Session = user.ID, audit.User, user.UPN, n.ID
	err = s.cfg.Write(ctx, func(tx Tx) error {
		if err := tx.PutSignInSession(n); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "signin.session", Outcome: audit.Success, Target: user.ID, Detail: map[string]string{"session": n.ID, "factors": strings.Join(factors, ",")}})
	})
	return cookie, n, err
}

// Current returns the session and user of a cookie. ok is false for a session
// that is unknown, over, or dead because its user is: deleted, disabled, or
// with everything before NotBefore withdrawn.
func (s *Service) Current(ctx context.Context, by audit.By, cookie string) (Session, directory.User, bool, error) {
	if len(cookie) != 43 {
		return Session{}, directory.User{}, false, nil
	}
	var n Session
	var found bool
	err := s.cfg.Read(ctx, func(tx Tx) error {
		var err error
		n, found, err = tx.SignInSession(s.cfg.Hash("sign-in session", cookie))
		return err
	})
	if err != nil || !found {
		return Session{}, directory.User{}, false, err
	}
	user, alive := s.cfg.Directory.User(n.UserID)
	if !alive || !user.Enabled || n.SignedInAt.Before(user.NotBefore) || !by.At.Before(n.Ends) || by.At.Sub(n.SeenAt) > IdleLife {
		return Session{}, directory.User{}, false, nil
	}
	if by.At.Sub(n.SeenAt) >= touchEvery {
		n.SeenAt = by.At
		err := s.cfg.Write(ctx, func(tx Tx) error {
			now, found, err := tx.SignInSession(n.KeyHash)
			if err != nil || !found {
				return err
			}
			return tx.TouchSignInSession(now.ID, by.At, now.Tries)
		})
		if err != nil {
			return Session{}, directory.User{}, false, err
		}
	}
	return n, user, true, nil
}

// Miss counts a wrong device code; after MaxTries the session is ended and over
// is true. The count is the store's, not n's: codes that are tried in parallel
// count each.
func (s *Service) Miss(ctx context.Context, by audit.By, n Session) (over bool, err error) {
	by.Principal, by.Type, by.Session = n.UserID, audit.User, n.ID
	err = s.cfg.Write(ctx, func(tx Tx) error {
		if err := tx.Audit(by, audit.Event{Type: "device.code", Outcome: audit.Denied, Target: n.UserID, Detail: map[string]string{"reason": "unknown code"}}); err != nil {
			return err
		}
		now, found, err := tx.SignInSession(n.KeyHash)
		if err != nil {
			return err
		}
		if over = !found || now.Tries+1 >= MaxTries; over {
			return tx.EndSignInSession(n.ID)
		}
		return tx.TouchSignInSession(n.ID, by.At, now.Tries+1)
	})
	return over, err
}

// End signs a browser out. A cookie that means nothing is not an error.
func (s *Service) End(ctx context.Context, by audit.By, cookie string) error {
	n, user, ok, err := s.Current(ctx, by, cookie)
	if err != nil || !ok {
		return err
	}
	by.Principal, by.Type, by.Name, by.Session = user.ID, audit.User, user.UPN, n.ID
	return s.cfg.Write(ctx, func(tx Tx) error {
		if err := tx.EndSignInSession(n.ID); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "signin.end", Outcome: audit.Success, Target: user.ID, Detail: map[string]string{"session": n.ID}})
	})
}
