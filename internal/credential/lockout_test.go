package credential_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/store"
)

// from tries a password from an address, in a browser that shows something.
func (w *world) from(address, upn, password, shown string) credential.Status {
	w.t.Helper()
	r, err := w.cred.VerifyUPN(w.t.Context(), audit.By{Address: address, At: w.now}, upn, password, shown)
	w.must(err)
	return r.Status
}

// attack guesses at a name from many places.
func (w *world) attack(upn string, places int) {
	w.t.Helper()
	for i := range places {
		w.from(fmt.Sprintf("198.51.100.%d", i), upn, "wrong", "")
	}
}

// Whoever guesses at a name slows down the places that its owner never used; he
// keeps him out of no place and browser that he did.
func TestLockout_NoWeaponAgainstThePerson(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice", false)
	w.want("at home", w.from("203.0.113.1", u.UPN, secret, ""), credential.OK)
	shown, err := w.cred.Remember(u.ID, "", w.now)
	w.must(err)
	w.attack(u.UPN, 60)
	w.want("anybody elsewhere is slowed down", w.from("192.0.2.50", u.UPN, secret, ""), credential.Locked)
	handbooktest.Said(t, fault.As(w.cred.ChangePassword(t.Context(), audit.By{Address: "192.0.2.50"}, u.UPN, secret, "another long secret")).Public(), "AccountLocked")
	w.want("at home", w.from("203.0.113.1", u.UPN, secret, ""), credential.OK)
	w.want("elsewhere in the known browser", w.from("192.0.2.50", u.UPN, secret, shown), credential.OK)
	for range 12 { // now from her very address, behind the same gateway
		w.from("203.0.113.1", u.UPN, "wrong", "")
	}
	w.want("her address is locked", w.from("203.0.113.1", u.UPN, secret, ""), credential.Locked)
	w.want("her browser is not", w.from("203.0.113.1", u.UPN, secret, shown), credential.OK)
	w.now = w.now.Add(61 * time.Second)
	w.want("elsewhere, a minute after the attack", w.from("192.0.2.50", u.UPN, secret, ""), credential.OK)
}

// All guesses at one name together are bounded, however many places they come
// from.
func TestLockout_ManyPlacesOneName(t *testing.T) {
	w := newWorld(t)
	for _, upn := range []string{w.user("alice", false).UPN, "nobody@corp.example"} {
		checked := 0
		for i := range 200 {
			if w.from(fmt.Sprintf("198.51.%d.%d", i/250, i%250), upn, "wrong", "") == credential.Wrong {
				checked++
			}
		}
		if checked != 50 {
			t.Errorf("%s: %d guesses in one moment", upn, checked)
		}
		for range 30 {
			w.now = w.now.Add(10 * time.Second)
			if w.from("192.0.2.77", upn, "wrong", "") == credential.Wrong {
				checked++
			}
		}
		if checked > 50+15 {
			t.Errorf("%s: %d guesses in five minutes more", upn, checked-50)
		}
	}
}

// One place that tries one password at many names is slowed down; who signed in
// there before is not.
func TestLockout_SprayingFromOnePlace(t *testing.T) {
	w := newWorld(t)
	u, other := w.user("alice", false), w.user("bob", false)
	w.want("the office", w.from("192.0.2.9", u.UPN, secret, ""), credential.OK)
	checked := 0
	for i := range 80 {
		if w.from("192.0.2.9", fmt.Sprintf("name%d@corp.example", i), secret, "") == credential.Wrong {
			checked++
		}
	}
	if checked != 50 {
		t.Errorf("%d names", checked)
	}
	w.want("a name that is new there", w.from("192.0.2.9", other.UPN, secret, ""), credential.Locked)
	w.want("who was there before", w.from("192.0.2.9", u.UPN, secret, ""), credential.OK)
	w.want("the new name elsewhere", w.from("192.0.2.10", other.UPN, secret, ""), credential.OK)
}

// A browser's token is its user's alone, dies with the password that it was
// given for, and is no proof.
func TestRemember_BoundToUserAndPassword(t *testing.T) {
	w := newWorld(t)
	u, other := w.user("alice", false), w.user("bob", false)
	w.now = w.now.Add(time.Second)
	shown, err := w.cred.Remember(u.ID, "", w.now)
	w.must(err)
	both, err := w.cred.Remember(other.ID, shown, w.now)
	w.must(err)
	w.want("no proof", w.from("192.0.2.1", u.UPN, "wrong", shown), credential.Wrong)
	w.attack(u.UPN, 60)
	w.attack(other.UPN, 60)
	w.want("two people, the first", w.from("192.0.2.1", u.UPN, secret, both), credential.OK)
	w.want("two people, the second", w.from("192.0.2.2", other.UPN, secret, both), credential.OK)
	w.want("another's token", w.from("192.0.2.1", other.UPN, secret, shown), credential.Locked)
	w.want("a forged one", w.from("192.0.2.1", other.UPN, secret, "AAAAAAAAAAAAAAAAAAAAAA.1800000000."+strings.Repeat("A", 43)), credential.Locked)
	stolen := w.now
	for range 10 {
		w.want("guessing with a stolen one", w.from("192.0.2.66", u.UPN, "wrong", shown), credential.Wrong)
	}
	w.want("ten guesses", w.from("192.0.2.66", u.UPN, secret, shown), credential.Locked)
	w.now = stolen.Add(2 * time.Second)
	w.must(w.cred.ResetPassword(t.Context(), w.by(w.admin.ID), u.ID, "other long phrase", false))
	w.attack(u.UPN, 60)
	w.want("after a reset", w.from("192.0.2.1", u.UPN, "other long phrase", shown), credential.Locked)
}

type counted struct {
	mu  sync.Mutex
	max int
	n   int
}

func (c *counted) First(audit.By, audit.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n <= c.max
}

// A flood of guesses leaves a bounded number of rows: records go through
// Repeats, counters are swept, locked tries write nothing.
func TestLockout_FloodLeavesFewRows(t *testing.T) {
	repeats := &counted{max: 3}
	w := newWorldWith(t, repeats)
	w.user("alice", false)
	for range 30 {
		w.from("198.51.100.1", "alice@corp.example", "wrong", "")
	}
	var denied int
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		records, err := tx.AuditRecords(store.AuditFilter{Type: "signin.password"})
		for _, r := range records {
			if r.Outcome == audit.Denied {
				denied++
			}
		}
		return err
	}))
	if denied != 3 || repeats.n != 30 {
		t.Errorf("%d records of %d refusals", denied, repeats.n)
	}
	w.now = w.now.Add(25 * time.Hour)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error { return tx.SweepAttempts(w.now.Add(-24*time.Hour), w.now) }))
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		for _, name := range []string{"alice", credential.Any} {
			if _, found, err := tx.AttemptsOf(name, "198.51.100.1"); found || err != nil {
				t.Error("a counter outlived its day", err)
			}
		}
		return nil
	}))
}
