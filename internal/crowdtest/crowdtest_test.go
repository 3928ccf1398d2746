package crowdtest

import (
	"errors"
	"testing"
	"time"
)

var errNotYet = errors.New("not yet")

// TestUntil_LooksTwice: a first look that takes longer than the limit says nothing
// about the limit.
func TestUntil_LooksTwice(t *testing.T) {
	looks := 0
	err := Until(time.Nanosecond, func() error {
		if looks++; looks == 2 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
		return errNotYet
	})
	if err != nil || looks != 2 {
		t.Errorf("%d looks: %v", looks, err)
	}
}

// TestUntil_GivesUp: with the last error.
func TestUntil_GivesUp(t *testing.T) {
	looks := 0
	err := Until(time.Nanosecond, func() error { looks++; return errNotYet })
	if !errors.Is(err, errNotYet) || looks != 2 {
		t.Errorf("%d looks: %v", looks, err)
	}
}

func TestLimit_IsNeverShorter(t *testing.T) {
	if l := Limit(time.Second); l < time.Second {
		t.Error(l)
	}
}
