package root

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

// endsTold counts the events of ended sessions, and those that say that something
// could not be ended.
func (r *rig) endsTold() (told, unfinished int) {
	events, _ := r.events.Take(nil, 0)
	for _, e := range events {
		if e.Type == protocol.EventSessionEnd {
			told++
			if strings.Contains(e.Detail[protocol.FactLeft], unended) {
				unfinished++
			}
		}
	}
	return told, unfinished
}

// A process that no signal ends is tried again and again, told once, and then
// after pauses that double; what is ended at last is told.
func TestGuard_UnkillableIsToldOnce(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	r.endFails = errors.New("processes are left")
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None })
	if told, unfinished := r.endsTold(); told != 1 || unfinished != 1 {
		t.Fatalf("%d events, %d of them of something that is left", told, unfinished)
	}
	tries := len(r.ends)
	for range 30 {
		r.elapsed += time.Second
		if next := r.look(context.Background()); next > watchEvery {
			t.Fatalf("it is tried again after %s", next)
		}
	}
	if told, _ := r.endsTold(); told != 1 || len(r.ends) != tries+30 {
		t.Fatalf("%d events, %d tries", told, len(r.ends))
	}
	for range 24 * 60 {
		r.elapsed += time.Minute
		r.look(context.Background())
	}
	if told, _ := r.endsTold(); told < 8 || told > 12 {
		t.Fatalf("%d events in a day", told)
	}
	// Another person's ending is told all the same.
	before, _ := r.endsTold()
	r.present = append(r.present, bobUID)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.None })
	if told, _ := r.endsTold(); told != before+1 {
		t.Fatalf("%d events", told)
	}
	r.endFails = nil
	r.look(context.Background())
	if told, unfinished := r.endsTold(); told != before+3 || unfinished != before+1 {
		t.Fatalf("%d events, %d of them of something that is left", told, unfinished)
	}
}

// Attempts that fail become rarer, so that one process does not keep the machine
// busy, and go back to the beginning.
func TestStuck_Pauses(t *testing.T) {
	var x stuck
	list := []due{{cause: protocol.CauseAccess}}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, watchEvery, watchEvery} {
		if got := x.look(list, true); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
	if got := x.look(list, false); got != watchEvery {
		t.Error(got)
	}
	if got := x.look(list, true); got != time.Second {
		t.Error(got)
	}
}
