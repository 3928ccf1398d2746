package root

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

// TestSpool_GathersBeforeItOffers: events wait for the gathering time, a full
// batch does not, and what comes during a report is gathered anew.
func TestSpool_GathersBeforeItOffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	s, err := openSpool(path, uint32(os.Geteuid()), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	add := func(id string) {
		t.Helper()
		if err := s.add(protocol.MachineEvent{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	take := func(have ...string) (int, <-chan struct{}) {
		t.Helper()
		events, changed, err := s.take(have)
		if err != nil {
			t.Fatal(err)
		}
		return len(events), changed
	}
	add("a")
	n, changed := take()
	if n == 0 {
		<-changed
	}
	if n, _ = take(); n != 1 {
		t.Fatalf("%d events after the gathering time", n)
	}
	add("b") // while the report of a is under way
	if n, changed = take("a"); n == 0 {
		<-changed
	}
	if n, _ = take(); n != 1 {
		t.Fatalf("%d events after the report", n)
	}
	if n, _ = take("b"); n != 0 {
		t.Fatalf("%d events are left", n)
	}
	s.gather = time.Hour
	for range maxBatch {
		add("c")
	}
	if n, _ = take(); n != maxBatch {
		t.Fatalf("a full batch offers %d", n)
	}
	again, err := openSpool(path, uint32(os.Geteuid()), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if events, _, _ := again.take(nil); len(events) != maxBatch {
		t.Fatalf("after a restart %d events are offered", len(events))
	}
}
