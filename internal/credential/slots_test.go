package credential

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// waiters returns how many requests wait.
func (f *FairSlots) waiters() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, q := range f.waiting {
		n += len(q)
	}
	return n
}

func TestFairSlots_TurnsBetweenSources(t *testing.T) {
	f := NewFairSlots(1)
	held, err := f.Acquire(t.Context(), "x", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	start := func(source string) {
		before := f.waiters()
		wg.Go(func() {
			release, err := f.Acquire(context.Background(), source, time.Hour)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, source)
			mu.Unlock()
			release()
		})
		for f.waiters() == before { //nolint:revive // waits for the goroutine to stand in its queue
		}
	}
	for range 5 {
		start("flood")
	}
	start("person")
	held()
	wg.Wait()
	if len(order) != 6 || order[1] != "person" {
		t.Fatalf("order %v: the person waited for the flood", order)
	}
	if f.free != 1 || f.queued != 0 || len(f.turns) != 0 || len(f.waiting) != 0 {
		t.Fatalf("slots leaked: %+v", f)
	}
}

// Whoever signs in is before those who set passwords from the same address, also
// when these have taken all of its places, and all of them.
func TestFairSlots_TheLessPatientAreFirst(t *testing.T) {
	f := NewFairSlots(1)
	held, err := f.Acquire(t.Context(), "x", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var refused, served, before atomic.Int64
	set := func(source string) {
		wg.Go(func() {
			release, err := f.Acquire(context.Background(), source, time.Hour)
			if err != nil {
				refused.Add(1)
				return
			}
			served.Add(1)
			release()
		})
	}
	for range waitLimit {
		set("office")
		set("other")
	}
	for f.waiters() < waitTotal { //nolint:revive // waits for the goroutines to stand in their queues
	}
	wg.Go(func() {
		release, err := f.Acquire(context.Background(), "office", time.Minute)
		if err != nil {
			t.Errorf("a script keeps a person from signing in: %v", err)
			return
		}
		before.Store(served.Load())
		release()
	})
	for deadline := time.Now().Add(10 * time.Second); refused.Load() < 1; { //nolint:revive // waits for somebody to make room
		if time.Now().After(deadline) {
			break
		}
	}
	if _, err := f.Acquire(t.Context(), "office", time.Hour); !fault.Is(err, fault.Exhausted) {
		t.Error(err)
	}
	held()
	wg.Wait()
	if before.Load() > 1 || served.Load() != waitTotal-1 || refused.Load() != 1 {
		t.Errorf("%d were before, %d served, %d refused", before.Load(), served.Load(), refused.Load())
	}
	if f.free != 1 || f.queued != 0 || len(f.turns) != 0 || len(f.waiting) != 0 {
		t.Fatalf("slots leaked: %+v", f)
	}
}

// Nobody waits longer than a person would, and there is an end to who waits.
func TestFairSlots_TimeAndTotal(t *testing.T) {
	f := NewFairSlots(1)
	held, _ := f.Acquire(t.Context(), "x", time.Hour)
	if _, err := f.Acquire(t.Context(), "late", time.Millisecond); !fault.Is(err, fault.Exhausted) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range waitTotal {
		wg.Go(func() { _, _ = f.Acquire(ctx, strconv.Itoa(i), time.Hour) })
	}
	for f.waiters() < waitTotal { //nolint:revive // waits for the goroutines to stand in their queues
	}
	if _, err := f.Acquire(t.Context(), "one more", time.Hour); !fault.Is(err, fault.Exhausted) {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	held()
	if f.free != 1 || f.queued != 0 || len(f.turns) != 0 || len(f.waiting) != 0 {
		t.Fatalf("slots leaked: %+v", f)
	}
}

func TestFairSlots_LimitAndCancel(t *testing.T) {
	f := NewFairSlots(1)
	held, _ := f.Acquire(t.Context(), "x", time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range waitLimit {
		wg.Go(func() {
			if _, err := f.Acquire(ctx, "flood", time.Hour); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for f.waiters() < waitLimit { //nolint:revive // as above
	}
	if _, err := f.Acquire(t.Context(), "flood", time.Hour); !fault.Is(err, fault.Exhausted) {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	held()
	if f.free != 1 || len(f.turns) != 0 || len(f.waiting) != 0 {
		t.Fatalf("slots leaked: %+v", f)
	}
}

// Two who flood fill all the places to wait; a person still gets one.
func TestFairSlots_FloodMakesRoom(t *testing.T) {
	f := NewFairSlots(1)
	held, err := f.Acquire(t.Context(), "x", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var refused, served atomic.Int64
	start := func(source string) {
		wg.Go(func() {
			release, err := f.Acquire(context.Background(), source, time.Hour)
			if err != nil {
				refused.Add(1)
				return
			}
			served.Add(1)
			release()
		})
	}
	for range waitLimit {
		start("flood 1")
		start("flood 2")
	}
	for f.waiters() < waitTotal { //nolint:revive // waits for the goroutines to stand in their queues
	}
	start("person")
	for refused.Load() == 0 { //nolint:revive // waits for one of the flood to give way
	}
	f.mu.Lock()
	if len(f.waiting["person"]) != 1 || f.queued != waitTotal {
		t.Errorf("the person waits %d times, %d in all", len(f.waiting["person"]), f.queued)
	}
	f.mu.Unlock()
	held()
	wg.Wait()
	if refused.Load() != 1 || served.Load() != waitTotal || f.free != 1 || f.queued != 0 || len(f.turns) != 0 || len(f.waiting) != 0 {
		t.Fatalf("refused %d, served %d, left %+v", refused.Load(), served.Load(), f)
	}
}

// Who had to give way and ran out of time in the same moment gives no slot back
// that he never had.
func TestFairSlots_RefusedAndLate(t *testing.T) {
	f := NewFairSlots(1)
	w := &waiter{turn: make(chan struct{}), refused: true}
	f.abandon("flood", w)
	if f.free != 1 {
		t.Errorf("%d slots of one", f.free)
	}
}
