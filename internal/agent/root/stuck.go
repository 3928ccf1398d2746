package root

import (
	"fmt"
	"time"
)

// How long an ending that does not succeed is not told again, after the first
// and at most.
const (
	firstTelling = time.Minute
	lastTelling  = 24 * time.Hour
)

// stuck is guard's memory of what it could not end: a process in the kernel's
// hands outlives every signal. It is told once, and then ever more seldom.
type stuck struct {
	rounds int // looks in a row that failed
	told   map[string]telling
}

type telling struct{ next, pause time.Duration } // next: of the boot clock

func (d due) key() string {
	return fmt.Sprintf("%d %s %s %v", d.UID, d.cause, d.session, d.Elevated)
}

// due reports whether an ending is to be told now. One that succeeded always is.
func (x *stuck) due(d due, failed bool, elapsed time.Duration) bool {
	if !failed {
		delete(x.told, d.key())
		return true
	}
	t, known := x.told[d.key()]
	if known && elapsed < t.next {
		return false
	}
	if x.told == nil {
		x.told = map[string]telling{}
	}
	pause := firstTelling
	if known {
		pause = min(2*t.pause, lastTelling)
	}
	x.told[d.key()] = telling{next: elapsed + pause, pause: pause}
	return true
}

// look forgets what is not to be ended any more, and says after how long an
// attempt that failed is repeated: each one costs many looks at all processes.
func (x *stuck) look(list []due, failed bool) time.Duration {
	wanted := make(map[string]bool, len(list))
	for _, d := range list {
		wanted[d.key()] = true
	}
	for key := range x.told {
		if !wanted[key] {
			delete(x.told, key)
		}
	}
	if !failed {
		x.rounds = 0
		return watchEvery
	}
	x.rounds++
	return min(again<<min(x.rounds-1, 8), watchEvery)
}
