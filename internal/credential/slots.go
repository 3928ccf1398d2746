package credential

import (
	"context"
	"slices"
	"sync"
	"time"

	"sallyport/internal/fault"
)

// Slots bounds how many password hashes are computed at a time: each takes
// memory and a core.
type Slots interface {
	// Acquire waits for a slot, at most patience; release gives it back and is
	// called once. The source (an address, say) is what fairness is between.
	Acquire(ctx context.Context, source string, patience time.Duration) (release func(), err error)
}

// waitLimit is how many requests of one source may wait, waitTotal of all.
const (
	waitLimit = 32
	waitTotal = 64 // half of what token requests have room for: certificates go on
)

// FairSlots shares slots by turns between sources, so that one who asks a
// thousand times delays himself and not the others. Of one source the less patient
// are first: a script that sets passwords keeps nobody from signing in who comes from
// the same office. It is safe for concurrent use.
type FairSlots struct {
	mu      sync.Mutex
	free    int
	queued  int
	waiting map[string][]*waiter
	turns   []string // sources that wait, next first
}

// waiter is one request that waits. turn is closed when its wait is over: it
// has a slot then or, where refused is set, had to make room for somebody else.
type waiter struct {
	turn     chan struct{}
	refused  bool
	patience time.Duration
}

// NewFairSlots returns n slots.
func NewFairSlots(n int) *FairSlots {
	return &FairSlots{free: max(1, n), waiting: map[string][]*waiter{}}
}

func errBusy(text string) error {
	return fault.New(fault.Exhausted, "TooManyRequests", "%s", text).WithRemedy("Try again in a few seconds.")
}

// Acquire implements Slots. A source with too many waiting requests, a request
// beyond all that may wait, and one that has waited too long are refused with
// fault.Exhausted. When all places to wait are taken, the source with most gives
// its last one up to a source with fewer; and any source, to one of its own who is
// less patient.
func (f *FairSlots) Acquire(ctx context.Context, source string, patience time.Duration) (func(), error) {
	f.mu.Lock()
	if f.free > 0 {
		f.free--
		f.mu.Unlock()
		return f.release, nil
	}
	w := &waiter{turn: make(chan struct{}), patience: patience}
	if err := f.stand(source, w); err != nil {
		f.mu.Unlock()
		return nil, err
	}
	f.mu.Unlock()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-w.turn:
		if w.refused {
			return nil, errBusy("too many sign-ins from this address are in progress.")
		}
		return f.release, nil
	case <-waiting.Done():
		f.abandon(source, w)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, errBusy("too many sign-ins are in progress.")
	}
}

// stand puts a request into its source's queue, or says why there is no room.
func (f *FairSlots) stand(source string, w *waiter) error {
	text := ""
	switch {
	case len(f.waiting[source]) >= waitLimit:
		text = "too many sign-ins from this address are in progress."
	case f.queued >= waitTotal && !f.makeRoom(source):
		text = "too many sign-ins are in progress."
	}
	queue := f.waiting[source]
	n := len(queue)
	if text != "" {
		if n == 0 || queue[n-1].patience <= w.patience {
			return errBusy(text)
		}
		f.refuse(queue[n-1])
		queue = queue[:n-1]
	}
	at := slices.IndexFunc(queue, func(c *waiter) bool { return c.patience > w.patience })
	if at < 0 {
		at = len(queue)
	}
	f.queued++
	f.waiting[source] = slices.Insert(queue, at, w)
	if n == 0 {
		f.turns = append(f.turns, source)
	}
	return nil
}

// refuse ends a wait without a slot.
func (f *FairSlots) refuse(w *waiter) {
	f.queued--
	w.refused = true
	close(w.turn)
}

// makeRoom ends the last wait of the source that has most of them, if that
// still leaves it no fewer than the one who comes.
func (f *FairSlots) makeRoom(source string) bool {
	most := ""
	for s, queue := range f.waiting {
		if len(queue) > len(f.waiting[most]) {
			most = s
		}
	}
	queue := f.waiting[most]
	if len(queue) <= len(f.waiting[source])+1 {
		return false
	}
	f.waiting[most] = queue[:len(queue)-1] // never the only one, so the source keeps its turn
	f.refuse(queue[len(queue)-1])
	return true
}

func (f *FairSlots) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.turns) == 0 {
		f.free++
		return
	}
	source := f.turns[0]
	f.turns = f.turns[1:]
	queue := f.waiting[source]
	f.queued--
	close(queue[0].turn)
	if len(queue) == 1 {
		delete(f.waiting, source)
		return
	}
	f.waiting[source] = queue[1:]
	f.turns = append(f.turns, source)
}

// abandon takes a request out of its queue, or passes on the slot that it was
// given in the same moment.
func (f *FairSlots) abandon(source string, w *waiter) {
	f.mu.Lock()
	queue := f.waiting[source]
	for i, c := range queue {
		if c != w {
			continue
		}
		f.queued--
		if queue = append(queue[:i:i], queue[i+1:]...); len(queue) > 0 {
			f.waiting[source] = queue
		} else {
			delete(f.waiting, source)
			for j, s := range f.turns {
				if s == source {
					f.turns = append(f.turns[:j:j], f.turns[j+1:]...)
					break
				}
			}
		}
		f.mu.Unlock()
		return
	}
	refused := w.refused
	f.mu.Unlock()
	if !refused {
		f.release()
	}
}
