package session

import (
	"context"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDismiss_AsksThenEnds: everything of the uid is asked once, what does not go
// is killed, and nobody else hears of it.
func TestDismiss_AsksThenEnds(t *testing.T) {
	const visitor = aliceUID + 100
	k, e, _ := world(t)
	k.list = append(k.list, process(400, visitor, visitor, "systemd --user"), process(401, visitor, visitor, "stubborn"))
	k.stubborn[401] = true
	if err := e.Dismiss(context.Background(), visitor); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(k.sent[400], []unix.Signal{unix.SIGTERM}) || k.sent[401][0] != unix.SIGTERM || !slices.Contains(k.sent[401], unix.SIGKILL) {
		t.Errorf("sent %v", k.sent)
	}
	for _, p := range k.list {
		if p.LoginUID == visitor {
			t.Errorf("%d is left", p.PID)
		}
	}
	if len(k.sent[100]) > 0 || len(k.sent[1]) > 0 {
		t.Errorf("others were signalled: %v", k.sent)
	}
	scans := k.scans
	if err := e.Dismiss(context.Background(), visitor); err != nil || k.scans != scans+1 {
		t.Errorf("with nobody there: %v, %d scans", err, k.scans-scans)
	}
}
