package credential

import (
	"context"
	"encoding/base32"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"sallyport/internal/address"
	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// The lives of passwords that somebody else has seen.
const (
	OneTimeLife   = 24 * time.Hour     // of a generated one
	TemporaryLife = 7 * 24 * time.Hour // of one that an administrator set to be changed
)

// Password is a stored password.
type Password struct {
	UserID     string
	Hash       string // PHC string
	MustChange bool
	ExpiresAt  time.Time // zero: never
	ChangedAt  time.Time
}

// Status is the outcome of a check. The zero value proves nothing.
type Status uint8

// The statuses. Whether an account is disabled or its password is due is told
// only to who knows the password.
const (
	Wrong      Status = iota // unknown name, no password, or not this one
	OK                       // proven
	Locked                   // too many failures; not checked at all
	MustChange               // right, but of no use until it is changed
	Expired                  // right, but its life is over
	Disabled                 // right, but the account is disabled
)

// Result is a Status with its user; UserID is empty for Wrong and Locked.
type Result struct {
	Status      Status
	UserID      string
	LockedUntil time.Time // for Locked
}

// Verify checks a user's password. An unknown user id costs what a wrong
// password costs.
func (s *Service) Verify(ctx context.Context, by audit.By, userID, password string) (Result, error) {
	u, _ := s.cfg.Directory.Index().User(userID)
	r, _, err := s.verify(ctx, by, u, userID, password, "")
	return r, err
}

// VerifyUPN checks the password of whoever has the name, in any case. Use it
// wherever a person types a name: it treats names that nobody has like others,
// lock-out included. shown is what Remember gave the browser, if anything.
func (s *Service) VerifyUPN(ctx context.Context, by audit.By, upn, password, shown string) (Result, error) {
	upn = strings.ToLower(upn)
	u, _ := s.cfg.Directory.Index().UserByUPN(upn)
	r, _, err := s.verify(ctx, by, u, upn, password, shown)
	return r, err
}

// verify returns the stored password that was proven beside the result. u is
// the zero User for an unknown name.
func (s *Service) verify(ctx context.Context, by audit.By, u directory.User, name, password, shown string) (Result, Password, error) {
	t := try{userID: u.ID, name: u.ID, place: address.Network(by.Address)}
	if u.ID == "" {
		t.name = "?" + s.keyed("attempts", name)
	}
	// Who is locked out is told so before anything is written or waited for.
	var until time.Time
	err := s.cfg.Read(ctx, func(tx Tx) error {
		stored, _, err := tx.PasswordOf(u.ID)
		if err != nil {
			return err
		}
		if nonce, since, ok := s.deviceOf(u.ID, shown, tx.Now()); ok && !since.Before(stored.ChangedAt.Truncate(time.Second)) {
			t.place, t.device = "device "+nonce, true
		}
		st, err := t.stand(tx)
		until = st.lockedUntil(tx.Now())
		return err
	})
	if err != nil {
		return Result{}, Password{}, err
	}
	if !until.IsZero() {
		return s.locked(ctx, by, u.ID, until)
	}
	// A try that is turned away for want of a slot must not count either.
	release, err := s.cfg.Slots.Acquire(ctx, address.Network(by.Address), signInPatience)
	if err != nil {
		return Result{}, Password{}, err
	}
	defer release()
	var stored Password
	var now time.Time
	err = s.cfg.Write(ctx, func(tx Tx) error {
		now, until = tx.Now(), time.Time{}
		st, err := t.stand(tx)
		if err != nil {
			return err
		}
		if until = st.lockedUntil(now); !until.IsZero() {
			return nil
		}
		if stored, _, err = tx.PasswordOf(u.ID); err != nil {
			return err
		}
		return st.begin(tx, now)
	})
	if err != nil {
		return Result{}, Password{}, err
	}
	if !until.IsZero() {
		return s.locked(ctx, by, u.ID, until)
	}
	right, err := s.compare(stored, password)
	if err != nil {
		return Result{}, Password{}, err
	}
	r := Result{UserID: u.ID, Status: OK}
	switch {
	case !right || u.ID == "":
		r = Result{Status: Wrong}
	case !u.Enabled:
		r.Status = Disabled
	case !stored.ExpiresAt.IsZero() && !now.Before(stored.ExpiresAt):
		r.Status = Expired
	case stored.MustChange:
		r.Status = MustChange
	}
	return r, stored, s.conclude(ctx, by, t, r)
}

// locked records a try that was turned away unchecked.
func (s *Service) locked(ctx context.Context, by audit.By, userID string, until time.Time) (Result, Password, error) {
	e := event("signin.password", audit.Denied, userID, map[string]string{"reason": "locked"})
	if s.first(by, e) {
		if err := s.cfg.Write(ctx, func(tx Tx) error { return tx.Audit(by, e) }); err != nil {
			return Result{}, Password{}, err
		}
	}
	return Result{Status: Locked, LockedUntil: until}, Password{}, nil
}

// first reports whether a refusal gets a record of its own.
func (s *Service) first(by audit.By, e audit.Event) bool {
	return s.cfg.Repeats == nil || s.cfg.Repeats.First(by, e)
}

// compare always computes exactly one hash.
func (s *Service) compare(stored Password, password string) (bool, error) {
	if len(password) > MaxPassword { // the policy lets nobody have one
		stored.Hash, password = "", ""
	}
	if stored.Hash == "" {
		c := s.cfg.Cost
		argon2.IDKey([]byte(password), make([]byte, saltLength), c.Passes, c.MemoryKiB, c.Lanes, hashLength)
		return false, nil
	}
	h, err := parseHash(stored.Hash)
	if err != nil {
		return false, err
	}
	return h.matches(password), nil
}

// conclude records the outcome; a right password also takes the try back.
func (s *Service) conclude(ctx context.Context, by audit.By, t try, r Result) error {
	e := event("signin.password", audit.Denied, t.userID, nil)
	switch r.Status {
	case Wrong:
		e.Detail = map[string]string{"reason": "wrong name or password"}
	case Disabled:
		e.Detail = map[string]string{"reason": "account disabled"}
	case Expired:
		e.Detail = map[string]string{"reason": "one-time password expired"}
	case MustChange:
		e.Outcome, e.Detail = audit.Success, map[string]string{"mustChange": "true"}
	case OK, Locked:
		e.Outcome = audit.Success
	}
	told := e.Outcome == audit.Success || s.first(by, e)
	if !told && r.Status == Wrong {
		return nil
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		if r.Status != Wrong {
			if err := t.proven(tx, tx.Now()); err != nil {
				return err
			}
		}
		if !told {
			return nil
		}
		return tx.Audit(by, e)
	})
}

// A person who has waited longer to sign in has gone or tries again. Who sets a
// password has been let in, and scripts make many users at once.
const (
	signInPatience = 600 * time.Millisecond
	setPatience    = 10 * time.Second
)

// hash checks the policy and hashes, outside any transaction: it is slow.
func (s *Service) hash(ctx context.Context, by audit.By, password string, names ...string) (string, error) {
	if err := CheckPolicy(password, names...); err != nil {
		return "", err
	}
	release, err := s.cfg.Slots.Acquire(ctx, address.Network(by.Address), setPatience)
	if err != nil {
		return "", err
	}
	defer release()
	return makeHash(s.cfg.Rand, s.cfg.Cost, password)
}

// CreateUser creates a user with a password. With mustChange the password has
// to be changed at the first sign-in, within TemporaryLife.
func (s *Service) CreateUser(ctx context.Context, by audit.By, n directory.NewUser, password string, mustChange bool) (directory.User, error) {
	created := event("user.create", audit.Success, "", map[string]string{"userPrincipalName": directory.Shown(n.UPN)})
	if err := s.cfg.Directory.MayCreateUser(by); err != nil {
		return directory.User{}, s.cfg.Directory.Refuse(ctx, by, created, err)
	}
	hash, err := s.hash(ctx, by, password, n.UPN, n.DisplayName)
	if err != nil {
		return directory.User{}, err
	}
	var u directory.User
	err = s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		if u, err = s.cfg.Directory.CreateUserIn(tx, by, n); err != nil {
			return err
		}
		return tx.PutPassword(fresh(u.ID, hash, mustChange, tx.Now()))
	})
	return u, err
}

func fresh(userID, hash string, mustChange bool, now time.Time) Password {
	p := Password{UserID: userID, Hash: hash, MustChange: mustChange, ChangedAt: now}
	if mustChange {
		p.ExpiresAt = now.Add(TemporaryLife)
	}
	return p
}

// ResetPassword sets another person's password: an administrator's act, refused
// for who holds more rights than he. It ends the person's sessions, tokens and
// certificates and lifts a lock.
func (s *Service) ResetPassword(ctx context.Context, by audit.By, userID, password string, mustChange bool) error {
	u, ok := s.cfg.Directory.Index().User(userID)
	if !ok {
		u.ID = strings.ToLower(userID)
	}
	reset := event("user.resetPassword", audit.Success, u.ID, nil)
	allowed := s.cfg.Directory.MayResetPassword(by, u.ID)
	if u.ID == by.Principal {
		allowed = fault.New(fault.Forbidden, "Authorization_RequestDenied", "your own password is changed with the old one.").WithRemedy("Run: sally account password change")
	}
	if allowed != nil {
		return s.cfg.Directory.Refuse(ctx, by, reset, allowed)
	}
	hash, err := s.hash(ctx, by, password, u.UPN, u.DisplayName)
	if err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		if err := s.put(tx, fresh(u.ID, hash, mustChange, tx.Now())); err != nil {
			return err
		}
		return tx.Audit(by, reset)
	})
}

// put stores a password, ends what rests on the old one and lifts a lock.
func (s *Service) put(tx Tx, p Password) error {
	if err := s.cfg.Directory.RaiseNotBeforeIn(tx, p.UserID); err != nil {
		return err
	}
	if err := tx.PutPassword(p); err != nil {
		return err
	}
	return tx.ForgetAttemptsAt(p.UserID)
}

// ChangePassword changes the caller's own password; the old one is his proof.
// It ends his sessions, tokens and certificates.
func (s *Service) ChangePassword(ctx context.Context, by audit.By, upn, old, replacement string) error {
	u, _ := s.cfg.Directory.Index().UserByUPN(upn)
	r, proven, err := s.verify(ctx, by, u, strings.ToLower(upn), old, "")
	if err != nil {
		return err
	}
	if err := r.refusal(); err != nil {
		return err
	}
	if old == replacement {
		return fault.New(fault.Invalid, "Request_BadRequest", "the new password is the old one.").WithRemedy("Choose another.")
	}
	hash, err := s.hash(ctx, by, replacement, u.UPN, u.DisplayName)
	if err != nil {
		return err
	}
	return s.cfg.Write(ctx, func(tx Tx) error {
		now, ok, err := tx.PasswordOf(u.ID)
		if err != nil {
			return err
		}
		if !ok || now.Hash != proven.Hash {
			return fault.New(fault.Conflict, "PasswordChanged", "the password was changed in the meantime.").WithRemedy("Try again with the present one.")
		}
		if err := s.put(tx, fresh(u.ID, hash, false, tx.Now())); err != nil {
			return err
		}
		return tx.Audit(by, event("user.changePassword", audit.Success, u.ID, nil))
	})
}

// refusal is the sentence for a result that does not allow a change.
func (r Result) refusal() error {
	switch r.Status {
	case OK, MustChange:
		return nil
	case Locked:
		return fault.New(fault.Exhausted, "AccountLocked", "too many wrong passwords: this name cannot sign in from here for a while.").
			WithRemedy("Try again after %s.", r.LockedUntil.UTC().Format("15:04:05 MST"))
	case Expired:
		return fault.New(fault.Unauthenticated, "PasswordExpired", "the one-time password has expired.").WithRemedy("Ask an administrator for a new one.")
	case Disabled:
		return fault.New(fault.Forbidden, "AccountDisabled", "the account is disabled.").WithRemedy("Ask an administrator to enable it.")
	case Wrong:
	}
	return fault.New(fault.Unauthenticated, "InvalidCredentials", "the name or the password is wrong.").WithRemedy("Check both; after %d failures it cannot sign in from here for a while.", pairRule().after)
}

// OneTime is a generated password, to be shown once.
type OneTime struct {
	Text string
	hash string
}

// NewOneTime generates a password of 100 bits in five groups of letters and
// digits that cannot be taken for one another.
func (s *Service) NewOneTime() (OneTime, error) {
	raw, err := s.random(16)
	if err != nil {
		return OneTime{}, err
	}
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))[:20]
	text = text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:]
	hash, err := makeHash(s.cfg.Rand, s.cfg.Cost, text)
	return OneTime{Text: text, hash: hash}, err
}

// GiveOneTime makes the generated password a user's, inside a transaction of
// the caller's who has decided that it may: bootstrap, and the operator's
// recovery at the server itself. It lives for OneTimeLife and must be changed.
func (s *Service) GiveOneTime(tx Tx, by audit.By, userID string, o OneTime) error {
	p := Password{UserID: userID, Hash: o.hash, MustChange: true, ExpiresAt: tx.Now().Add(OneTimeLife), ChangedAt: tx.Now()}
	if err := s.put(tx, p); err != nil {
		return err
	}
	return tx.Audit(by, event("user.oneTimePassword", audit.Success, userID, nil))
}
