package repeat

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"sallyport/internal/audit"
)

type trail struct {
	broken bool
	by     []audit.By
	events []audit.Event
}

func (w *trail) Audit(by audit.By, e audit.Event) error {
	w.by, w.events = append(w.by, by), append(w.events, e)
	return nil
}

func (w *trail) counter() *Counter {
	return New(Config{Write: func(_ context.Context, f func(Tx) error) error {
		if w.broken {
			return errors.New("no store")
		}
		return f(w)
	}})
}

func start() time.Time { return time.Unix(1_800_000_000, 0).UTC() }

func refusal(address, target, reason string, at time.Time) (audit.By, audit.Event) {
	return audit.By{Address: address, At: at}, audit.Event{Type: "signin.password", Outcome: audit.Denied, Target: target, Detail: map[string]string{"reason": reason}}
}

// The first ones one by one, the others by number, and no number is lost when
// the store refuses.
func TestCounter_TellsAllByNumber(t *testing.T) {
	w := &trail{}
	c := w.counter()
	told := 0
	for i := range 12 {
		if c.First(refusal("192.0.2.1", "alice", "wrong", start().Add(time.Duration(i)*time.Second))) {
			told++
		}
	}
	if told != each {
		t.Fatalf("%d told", told)
	}
	for name, other := range map[string][3]string{"place": {"192.0.2.2", "alice", "wrong"}, "target": {"192.0.2.1", "bob", "wrong"}, "reason": {"192.0.2.1", "alice", "locked"}} {
		if !c.First(refusal(other[0], other[1], other[2], start())) {
			t.Errorf("another %s was taken for the same", name)
		}
	}
	by, e := refusal("192.0.2.1", "alice", "wrong", start())
	if by.Principal = "u1"; !c.First(by, e) {
		t.Error("another principal was taken for the same")
	}
	if err := c.Flush(t.Context(), start().Add(Window-1), false); err != nil || len(w.events) != 0 {
		t.Fatal("told before the window ended", err)
	}
	w.broken = true
	if err := c.Flush(t.Context(), start().Add(Window), false); err == nil {
		t.Fatal("no error")
	}
	c.First(refusal("192.0.2.1", "alice", "wrong", start().Add(Window)))
	w.broken = false
	if err := c.Flush(t.Context(), start().Add(2*Window), false); err != nil || len(w.events) != 1 {
		t.Fatal(err, w.events)
	}
	d := w.events[0].Detail
	if d["repeats"] != "8" || d["reason"] != "wrong" || w.events[0].Target != "alice" || w.by[0].Address != "192.0.2.1" || d["since"] != "2027-01-15T08:00:00Z" {
		t.Errorf("%v %v", w.by[0], w.events[0])
	}
	if err := c.Flush(t.Context(), start().Add(9*Window), true); err != nil || len(w.events) != 1 {
		t.Error("told twice")
	}
}

// Somebody who makes up targets gets no more records than his place has.
func TestCounter_OnePlaceIsBounded(t *testing.T) {
	c := (&trail{}).counter()
	told := 0
	for i := range 1000 {
		if c.First(refusal("2001:db8::"+strconv.Itoa(i), strconv.Itoa(i), "wrong", start())) {
			told++
		}
	}
	if told != onePlace {
		t.Fatal(told)
	}
}

// However many places and names a flood has, its records are bounded, and the
// numbers add up.
func TestCounter_FloodIsBounded(t *testing.T) {
	w := &trail{}
	c := w.counter()
	told, asked := 0, 3*maxKeys
	for i := range asked {
		if c.First(refusal(fmt.Sprintf("198.51.%d.%d", i>>8&0xff, i&0xff), strconv.Itoa(i), "wrong", start())) {
			told++
		}
	}
	if err := c.Flush(t.Context(), start(), true); err != nil {
		t.Fatal(err)
	}
	sum := told
	for _, e := range w.events {
		n, err := strconv.Atoi(e.Detail["repeats"])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if told > single || len(w.events) > named+1 || sum != asked {
		t.Fatalf("%d single records and %d summaries tell of %d of %d refusals", told, len(w.events), sum, asked)
	}
}

// A flood of strangers covers nothing that a known caller is refused: his first
// ones have records, and the sum of the rest his name.
func TestCounter_StrangersCoverNobody(t *testing.T) {
	w := &trail{}
	c := w.counter()
	for range 2 {
		for i := range 3 * maxKeys {
			c.First(refusal(fmt.Sprintf("198.51.%d.%d", i>>8&0xff, i&0xff), strconv.Itoa(i), "wrong", start()))
		}
	}
	by, e := refusal("192.0.2.1", "role", "escalation", start())
	by.Principal = "thief"
	told := 0
	for range 20 {
		if c.First(by, e) {
			told++
		}
	}
	if told != each {
		t.Errorf("%d records", told)
	}
	if err := c.Flush(t.Context(), start(), true); err != nil {
		t.Fatal(err)
	}
	if len(w.events) == 0 || w.by[0].Principal != "thief" || w.events[0].Detail["repeats"] != strconv.Itoa(20-each) || w.events[0].Target != "role" {
		t.Errorf("%+v", w.events[:min(1, len(w.events))])
	}
}
