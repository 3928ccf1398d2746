package credential

import "time"

// The lock-out: after this many failures in a row the name is locked, for a
// minute first and twice as long after each further failure. A day without a
// failure forgets them.
const (
	lockAfter  = 10
	lockFirst  = time.Minute
	lockLimit  = time.Hour
	forgetTime = 24 * time.Hour
)

// Attempts counts the failed tries on one subject: a user's object id, or a
// keyed hash of a name that nobody has, so that unknown names lock like known
// ones.
type Attempts struct {
	Subject     string
	Failures    int64
	LockedUntil time.Time
	LastAt      time.Time
}

// locked reports whether no try is allowed at the time.
func (a Attempts) locked(now time.Time) bool { return now.Before(a.LockedUntil) }

// begin counts a try as failed before it is made; a right password takes it
// back. Counting first keeps parallel guesses from passing the limit together.
func (a Attempts) begin(now time.Time) Attempts {
	if now.Sub(a.LastAt) > forgetTime {
		a.Failures = 0
	}
	a.Failures++
	a.LastAt = now
	if a.Failures >= lockAfter {
		life := lockLimit
		if doublings := a.Failures - lockAfter; doublings < 6 {
			life = min(lockLimit, lockFirst<<doublings)
		}
		a.LockedUntil = now.Add(life)
	}
	return a
}
