package credential

import (
	"time"

	"sallyport/internal/address"
)

// Attempts counts the failed tries at one name from one place. The name is a
// user's object id, or a keyed hash of a name that nobody has, so that unknown
// names lock like known ones. Either may be Any.
type Attempts struct {
	Name        string
	Place       string
	Failures    int64
	LockedUntil time.Time
	LastAt      time.Time
}

// Any in the place of a name or place counts all of them together.
const Any = "*"

// rule says when a counter holds further tries up.
type rule struct {
	after        int64 // failures before the first delay
	first, limit time.Duration
	forgive      time.Duration // one failure is forgotten in this time; zero: none
}

// The rules. One place that fails at one name is locked out, longer each time.
// Tries at one name from places where its owner never signed in, and tries of
// one place at names that never signed in there, are only slowed down: a lock
// would be a weapon in the hands of whoever guesses. A day without a failure
// forgets everything.
const forgetTime = 24 * time.Hour

func pairRule() rule { return rule{after: 10, first: time.Minute, limit: time.Hour} }
func nameRule() rule {
	return rule{after: 50, first: time.Second, limit: time.Minute, forgive: time.Minute}
}
func placeRule() rule {
	return rule{after: 50, first: time.Second, limit: time.Minute, forgive: time.Minute}
}

// begin counts a try as failed before it is made; a right password takes it
// back. Counting first keeps parallel guesses from passing the limit together.
func (r rule) begin(a Attempts, now time.Time) Attempts {
	since := now.Sub(a.LastAt)
	switch {
	case a.Failures == 0:
	case since > forgetTime:
		a.Failures = 0
	case r.forgive > 0:
		a.Failures = max(0, a.Failures-int64(since/r.forgive))
	}
	a.Failures++
	a.LastAt = now
	if doublings := a.Failures - r.after; doublings >= 0 {
		life := r.limit
		if doublings < 12 {
			life = min(r.limit, r.first<<doublings)
		}
		a.LockedUntil = now.Add(life)
	}
	return a
}

// try is one attempt to prove to be somebody.
type try struct {
	userID string // empty for an unknown name
	name   string // as it is counted
	place  string // network, or the device that is known to belong to the user
	device bool
}

// counter is one count that a try stands under.
type counter struct {
	Attempts
	rule rule
}

// standing is what a try meets.
type standing struct {
	counters []counter
	familiar bool // the user signed in from there before
}

// counters: a place where the user signed in before answers for itself alone,
// so that nobody elsewhere can hold him up there.
func (t try) stand(tx PasswordTx) (standing, error) {
	s := standing{familiar: t.device}
	if t.userID != "" && !t.device {
		_, found, err := tx.FamiliarPlace(t.userID, t.place)
		if err != nil {
			return s, err
		}
		s.familiar = found
	}
	s.counters = []counter{{Attempts{Name: t.name, Place: t.place}, pairRule()}}
	if !s.familiar {
		s.counters = append(s.counters, counter{Attempts{Name: t.name, Place: Any}, nameRule()}, counter{Attempts{Name: Any, Place: t.place}, placeRule()})
	}
	for i, c := range s.counters {
		a, found, err := tx.AttemptsOf(c.Name, c.Place)
		if err != nil {
			return s, err
		}
		if found {
			s.counters[i].Attempts = a
		}
	}
	return s, nil
}

// lockedUntil is when the next try is allowed, the zero time for now.
func (s standing) lockedUntil(now time.Time) time.Time {
	var until time.Time
	for _, c := range s.counters {
		if now.Before(c.LockedUntil) && c.LockedUntil.After(until) {
			until = c.LockedUntil
		}
	}
	return until
}

// begin counts the try everywhere.
func (s standing) begin(tx PasswordTx, now time.Time) error {
	for _, c := range s.counters {
		if err := tx.PutAttempts(c.rule.begin(c.Attempts, now)); err != nil {
			return err
		}
	}
	return nil
}

// proven takes the try back: the place's own failures are forgotten, those that
// others share lose one. The place is remembered, at most once a day.
func (t try) proven(tx PasswordTx, now time.Time) error {
	s, err := t.stand(tx)
	if err != nil {
		return err
	}
	for _, c := range s.counters {
		if c.rule.forgive == 0 {
			c.Failures = 0
		} else {
			c.Failures = max(0, c.Failures-1)
		}
		if err := tx.PutAttempts(c.Attempts); err != nil {
			return err
		}
	}
	if t.device || t.userID == "" || t.place == address.Unknown {
		return nil
	}
	last, found, err := tx.FamiliarPlace(t.userID, t.place)
	if err != nil || found && now.Sub(last) < 24*time.Hour {
		return err
	}
	return tx.PutFamiliarPlace(t.userID, t.place, now)
}
