package rollout

import (
	"fmt"
	"time"

	"sallyport/internal/machine/protocol"
)

// Standing is how a machine stands in an upgrade.
type Standing string

// The standings.
const (
	Later   Standing = "later"   // its ring's turn has not come
	Waiting Standing = "waiting" // asked, and not through
	Through Standing = "through" // runs the build, proven by a login
	Failed  Standing = "failed"  // went back, or did not come to an end
	Left    Standing = "left"    // cannot be upgraded this way, or says nothing: left out
	Away    Standing = "away"    // not heard: follows when it is back
	Outside Standing = "outside" // in no ring
)

// awayAfter is how long a machine is not heard that counts as away; connected ones
// are heard every minute.
const awayAfter = 3 * time.Minute

// Stand says how a machine stands at a time.
func (u Upgrade) Stand(m Member, at time.Time) Standing {
	ring := u.RingOf(m)
	if ring < 0 {
		return Outside
	}
	said := m.Upgrade != nil && m.Upgrade.ID == u.ID
	away := at.Sub(m.LastSeen) > awayAfter
	switch {
	case said && m.Upgrade.State == protocol.UpgradeReturned:
		return Failed
	case said && m.Upgrade.State == protocol.UpgradeDone && m.Agent == u.Version:
		if away {
			return Waiting // got through and is silent now: that is what a ring is watched for
		}
		return Through
	case ring > u.Ring:
		return Later
	case said && m.Upgrade.State == protocol.UpgradeRefused:
		return Left
	case away && !(said && m.Upgrade.State == protocol.UpgradeTrying):
		return Away // one that is lost while it tries is what a ring is for: it is waited for, and fails
	case !said && at.Sub(u.RingAt) > u.Timeout:
		return Left
	case said && at.Sub(later(m.ReportedAt, u.RingAt)) > u.Timeout:
		return Failed
	}
	return Waiting
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Why is the reason that goes with a standing, in words.
func (u Upgrade) Why(m Member, s Standing) string {
	if m.Upgrade != nil && m.Upgrade.ID == u.ID {
		if m.Upgrade.Reason == "" && s == Failed {
			return "it did not come to an end in time"
		}
		return m.Upgrade.Reason
	}
	if s == Left {
		return "its agent says nothing about upgrades: it is too old to be asked"
	}
	return ""
}

// Next says what becomes of a running upgrade now. changed is false when nothing
// does. It is pure.
func (u Upgrade) Next(members []Member, at time.Time) (next Upgrade, changed bool) {
	if u.State != Running {
		return u, false
	}
	failed, waiting, through, reason := 0, 0, 0, ""
	for _, m := range members {
		switch s := u.Stand(m, at); s {
		case Failed:
			failed++
			if reason == "" {
				reason = fmt.Sprintf("%s: %s", m.ResourceID, u.Why(m, s))
			}
		case Waiting:
			waiting++
		case Through:
			if u.Rings[u.Ring].Holds(u.ID, m) {
				through++
			}
		}
	}
	next = u
	switch {
	case failed > u.MaxFailures:
		next.State, next.Reason, next.DoneAt = Stopped, fmt.Sprintf("%d machines have failed; the first: %s", failed, reason), time.Time{}
	case waiting > 0:
		next.Reason, next.DoneAt = "", time.Time{}
	case through == 0: // nobody proves the build, so that the next ring's turn does not come
		next.Reason, next.DoneAt = fmt.Sprintf("no machine of the ring %s runs version %s: those in it are away, left out or gone; what goes on is a machine that gets through, or: sally machine upgrade cancel", u.Rings[u.Ring], u.Version), time.Time{}
	case u.DoneAt.IsZero():
		next.Reason, next.DoneAt = "", at
	case at.Sub(u.DoneAt) < u.Soak:
	case u.Ring == len(u.Rings)-1:
		next.State = Succeeded
	default:
		next.Ring, next.RingAt, next.DoneAt = u.Ring+1, at, time.Time{}
	}
	return next, next.State != u.State || next.Ring != u.Ring || next.Reason != u.Reason || !next.DoneAt.Equal(u.DoneAt)
}

// Wish is what a machine is told, or nil. Machines that were away follow an upgrade
// that has succeeded.
func (u Upgrade) Wish(m Member) *protocol.UpgradeWish {
	ring := u.RingOf(m)
	if u.State != Running && u.State != Succeeded || ring < 0 || ring > u.Ring {
		return nil
	}
	return &protocol.UpgradeWish{ID: u.ID, Version: u.Version, WaitSeconds: int64(u.Wait / time.Second)}
}
