package store

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// Old changes go, in writes of a bounded size; the newest of each kind stays,
// and a reader that would miss one of those that went is told so.
func TestFeed_TrimmedRowsAreMissedByNobody(t *testing.T) {
	cfg := place4test(t)
	var days atomic.Int64
	cfg.Now = func() time.Time { return clock().AddDate(0, 0, int(days.Load())) }
	s, err := Create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	change := func(kind, key string) {
		t.Helper()
		if err := s.Write(t.Context(), func(tx *Tx) error { return tx.changed(kind, key) }); err != nil {
			t.Fatal(err)
		}
	}
	begun := s.Position()
	change("rare", "r")
	for i := range 20 {
		change("often", fmt.Sprint(i%3))
	}
	old := s.Position()
	days.Store(40)
	change("often", "new")
	if n, err := s.TrimFeed(t.Context(), cfg.Now().AddDate(0, 0, -30), 6); err != nil || n < 20 {
		t.Fatal(n, err)
	}
	if n, err := s.TrimFeed(t.Context(), cfg.Now().AddDate(0, 0, -30), 6); err != nil || n != 0 {
		t.Fatal("the second time", n, err)
	}
	for _, after := range []int64{begun, old - 1} {
		if _, err := s.Changes(t.Context(), after, 10); !fault.Is(err, fault.Conflict) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	changes, err := s.Changes(t.Context(), old, 10)
	if err != nil || len(changes) != 1 || changes[0].Key != "new" {
		t.Errorf("after what was trimmed: %v %v", changes, err)
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		if at, err := tx.LastChange([]string{"rare"}); err != nil || at != begun+1 {
			t.Errorf("the last change of a kind is %d, not %d: %v", at, begun+1, err)
		}
		if _, known, err := tx.ChangedKeys([]string{"often"}, old-1, s.Position(), 10); err != nil || known {
			t.Errorf("what was trimmed is known: %v", err)
		}
		keys, known, err := tx.ChangedKeys([]string{"often"}, old, s.Position(), 10)
		if err != nil || !known || !slices.Equal(keys, []string{"new"}) {
			t.Errorf("%v %v %v", keys, known, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
