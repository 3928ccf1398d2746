package machine

import (
	"sync"
	"sync/atomic"
	"testing"
)

// changes is a feed of a number that goes up.
type changes struct {
	mu    sync.Mutex
	moved chan struct{}
	at    atomic.Int64
}

func (c *changes) Position() int64 { return c.at.Load() }

func (c *changes) Moved() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved
}

func (c *changes) change() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at.Add(1)
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// Whoever waits hears of every change, however many come and whenever: each of
// many sees the last one, or this test does not end.
func TestWaiters_NobodyMissesAChange(t *testing.T) {
	const last = 500
	var w waiters
	feed := &changes{}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for {
				moved, leave := w.wait(feed)
				if feed.Position() == last {
					leave()
					return
				}
				<-moved
				leave()
			}
		})
	}
	for range last {
		feed.change()
	}
	all.Wait()
	if len(w.waiting) != 0 {
		t.Errorf("%d wait", len(w.waiting))
	}
}

// Who leaves before a change is not kept.
func TestWaiters_LeaveNothing(t *testing.T) {
	var w waiters
	feed := &changes{}
	for range 100 {
		_, leave := w.wait(feed)
		leave()
	}
	if len(w.waiting) != 0 {
		t.Errorf("%d wait", len(w.waiting))
	}
	moved, leave := w.wait(feed)
	feed.change()
	<-moved
	leave()
}
