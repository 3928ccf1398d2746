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
