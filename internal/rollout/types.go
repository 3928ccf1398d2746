package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// State of an upgrade.
type State string

// The states. Stopped stopped by itself.
const (
	Running   State = "Running"
	Paused    State = "Paused"
	Stopped   State = "Stopped"
	Canceled  State = "Canceled"
	Succeeded State = "Succeeded"
)

// Open says that the upgrade may still go on.
func (s State) Open() bool { return s == Running || s == Paused || s == Stopped }

// Upgrade is one build's way through the rings.
type Upgrade struct {
	Name        string // key, lower-case
	ID          string // GUID; machines do not begin one twice
	Version     string
	Rings       []Ring
	Soak        time.Duration // how long a ring is watched before the next one's turn
	Wait        time.Duration // what a new build has to prove itself in
	Timeout     time.Duration // after which a machine of the ring has failed, or is left out when it says nothing
	MaxFailures int           // more stop it
	State       State
	Reason      string
	Ring        int       // whose turn it is
	RingAt      time.Time // since when
	DoneAt      time.Time // since when all of the rings so far are through; zero: they are not
	CreatedAt   time.Time
	CreatedBy   string
}

// Bounds.
const (
	mostRings   = 16
	maxSoak     = 30 * 24 * time.Hour
	maxTimeout  = 30 * 24 * time.Hour
	mostAllowed = 10_000
)

// Ring says which machines belong to it, in words: "key=value" for a tag, "25%"
// for a part of all machines, "all".
type Ring string

// check refuses what is no ring.
func (r Ring) check() error {
	if r == "all" {
		return nil
	}
	if n, ok := r.percent(); ok && n >= 1 && n <= 100 {
		return nil
	}
	if key, value, ok := r.tag(); ok && key != "" && len(key)+len(value) <= 512 && strings.IndexFunc(string(r), func(c rune) bool { return c < ' ' || c == 0x7f }) < 0 {
		return nil
	}
	return invalid("rings", "%q is no ring", string(r)).WithRemedy("A ring is a tag (ring=1), a part of all machines (25%%), or all.")
}

func (r Ring) percent() (int, bool) {
	text, ok := strings.CutSuffix(string(r), "%")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil
}

func (r Ring) tag() (key, value string, ok bool) { return strings.Cut(string(r), "=") }

// Holds reports whether a machine belongs to a ring of the upgrade with this id. A
// part of all machines is always the same one for one upgrade, and another for the
// next: it is not always the same machines that go first.
func (r Ring) Holds(upgradeID string, m Member) bool {
	if r == "all" {
		return true
	}
	if n, ok := r.percent(); ok {
		sum := sha256.Sum256([]byte(upgradeID + " " + m.ID))
		return int(binary.BigEndian.Uint32(sum[:])%100) < n
	}
	key, value, _ := r.tag()
	for k, v := range m.Tags {
		if strings.EqualFold(k, key) && v == value {
			return true
		}
	}
	return false
}

// RingOf is the first ring that a machine belongs to; -1 for none.
func (u Upgrade) RingOf(m Member) int {
	for i, r := range u.Rings {
		if r.Holds(u.ID, m) {
			return i
		}
	}
	return -1
}

// Member is a machine as far as an upgrade goes.
type Member struct {
	ID         string
	ResourceID string
	Agent      string // the version that it says it runs
	Tags       map[string]string
	LastSeen   time.Time
	ReportedAt time.Time // when it last said something new
	Upgrade    *protocol.UpgradeState
}

func invalid(target, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "InvalidParameter", format, args...).WithTarget(target)
}

// Check refuses an upgrade that cannot be meant.
func (u Upgrade) Check() error {
	switch {
	case !protocol.ValidVersion(u.Version):
		return invalid("version", "%q is no version", u.Version)
	case len(u.Rings) == 0 || len(u.Rings) > mostRings:
		return invalid("rings", "an upgrade has 1 to %d rings", mostRings)
	case u.Soak < 0 || u.Soak > maxSoak:
		return invalid("soakSeconds", "a ring is watched for at most %s", maxSoak)
	case u.Wait < protocol.LeastUpgradeWait*time.Second || u.Wait > protocol.MostUpgradeWait*time.Second:
		return invalid("waitSeconds", "a new build has %d to %d seconds to prove itself", protocol.LeastUpgradeWait, protocol.MostUpgradeWait)
	case u.Timeout < time.Minute || u.Timeout > maxTimeout:
		return invalid("timeoutSeconds", "a machine has a minute to %s", maxTimeout)
	case u.MaxFailures < 0 || u.MaxFailures > mostAllowed:
		return invalid("maximumFailures", "at most %d machines may fail", mostAllowed)
	}
	seen := map[Ring]bool{}
	for _, r := range u.Rings {
		if err := r.check(); err != nil {
			return err
		}
		if seen[r] {
			return invalid("rings", "the ring %q is there twice", string(r))
		}
		seen[r] = true
	}
	return nil
}
