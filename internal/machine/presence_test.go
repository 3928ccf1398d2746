package machine_test

import (
	"testing"
	"time"

	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
)

// What other servers are told between a machine's question and its answer is told
// again with what the answer has: the machine may not speak again for a minute.
func TestPresences_ToldAgainWithTheAnswer(t *testing.T) {
	r := newRig(t)
	r.joined()
	other := newRig(t)
	other.joined()
	tell := func() (told []machine.Presence) {
		told = r.Presences(time.Time{})
		other.Heard(told)
		return told
	}
	early := []machine.Presence{}
	r.afterRead = func() { early = tell() }
	d, _ := r.poll(protocol.PollRequest{})
	if d == nil || len(early) != 1 || early[0].Version == d.Version {
		t.Fatalf("told %v before the answer %+v", early, d)
	}
	late := tell()
	if s, _ := other.State(machineID); len(late) != 1 || s.Version != d.Version {
		t.Errorf("told %v, known is %d, and the machine was given %d", late, s.Version, d.Version)
	}
	if again := tell(); len(again) != 0 {
		t.Errorf("told twice: %v", again)
	}
}
