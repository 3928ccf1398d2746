package audit

import (
	"testing"
	"time"
)

func TestChain_ShowsAlterationAndLoss(t *testing.T) {
	by := By{Principal: "u", Type: User, CorrelationID: "c", At: time.Unix(1000, 5000).UTC()}
	first := NewRecord(by, Event{Type: "a.b", Outcome: Success, Detail: map[string]string{"x": "1", "y": "2"}}).Seal("w", 1, nil)
	second := NewRecord(by, Event{Type: "a.c", Outcome: Denied}).Seal("w", 2, first.Hash)
	if err := first.Verify(Record{}); err != nil {
		t.Fatal(err)
	}
	if err := second.Verify(first); err != nil {
		t.Fatal(err)
	}
	altered := second
	altered.Outcome = Success
	if altered.Verify(first) == nil {
		t.Fatal("an altered record passed")
	}
	if second.Verify(Record{}) == nil {
		t.Fatal("a missing record passed")
	}
	moved := first
	moved.Detail = map[string]string{"x": "1y", "": "2"}
	if moved.Verify(Record{}) == nil {
		t.Fatal("fields can be shifted into each other")
	}
}

// A gap is nothing but what the record of a restore explains.
func TestVerify_GapOfARestore(t *testing.T) {
	last := NewRecord(By{}, Event{Type: "x", Outcome: Success}).Seal("w", 7, nil)
	restore := func(kind, says string, sequence int64, previous []byte) Record {
		return NewRecord(By{}, Event{Type: kind, Outcome: Success, Detail: map[string]string{LastSequence: says}}).Seal("w", sequence, previous)
	}
	for name, c := range map[string]struct {
		r    Record
		good bool
	}{
		"explained": {restore(Restored, "7", 1000, last.Hash), true}, "without a gap": {restore(Restored, "7", 8, last.Hash), true},
		"another end": {restore(Restored, "6", 1000, last.Hash), false}, "another type": {restore("tenant.create", "7", 1000, last.Hash), false},
		"another hash": {restore(Restored, "7", 1000, nil), false}, "back": {restore(Restored, "7", 6, last.Hash), false}, "same": {restore(Restored, "7", 7, last.Hash), false},
	} {
		if err := c.r.Verify(last); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
