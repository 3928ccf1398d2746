package credential

import (
	"testing"
	"time"
)

// A failure that is shared with others is forgiven in its time, so that a name
// under slow fire is not held up for ever; one of a pair is not.
func TestRule_Forgives(t *testing.T) {
	at := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		rule  rule
		after time.Duration
		want  int64
	}{{nameRule(), 30 * time.Minute, 31}, {placeRule(), 30 * time.Minute, 31}, {nameRule(), 2 * time.Hour, 1}, {pairRule(), 30 * time.Minute, 61}, {pairRule(), forgetTime + 1, 1}} {
		if got := c.rule.begin(Attempts{Failures: 60, LastAt: at}, at.Add(c.after)).Failures; got != c.want {
			t.Errorf("%+v after %s: %d, want %d", c.rule, c.after, got, c.want)
		}
	}
}
