package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/store"
)

// index is a view of the store in memory that is brought up to date from the
// change feed.
type index interface {
	refresh(t *store.Tx, c store.Change) error
}

// again is the pause before a store that was away is asked again.
const again = 100 * time.Millisecond

// follower applies the change feed to the indexes, in order, and lets an answer
// to a write wait until its own change is visible.
type follower struct {
	store   *store.Store
	indexes []index
	log     *slog.Logger

	mu    sync.Mutex
	at    int64
	moved chan struct{}
}

func newFollower(st *store.Store, at int64, log *slog.Logger, indexes ...index) *follower {
	return &follower{store: st, indexes: indexes, log: log, at: at, moved: make(chan struct{})}
}

// run applies changes until the context ends.
func (f *follower) run(ctx context.Context) error {
	for {
		moved := f.store.Moved()
		if err := f.catchUp(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if fault.Is(err, fault.Unavailable) {
				// The store is away; what was applied twice is the same as once.
				wait(ctx, again, nil)
				continue
			}
			return fmt.Errorf("follow the change feed: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

// catchUp applies everything that is committed. An index that cannot be
// brought up to date must not answer, so the error ends the server.
func (f *follower) catchUp(ctx context.Context) error {
	for {
		changes, err := f.store.Changes(ctx, f.position(), 1000)
		if err != nil || len(changes) == 0 {
			return err
		}
		err = f.store.Read(ctx, func(t *store.Tx) error {
			for _, c := range changes {
				for _, x := range f.indexes {
					if err := x.refresh(t, c); err != nil {
						return fmt.Errorf("%s %s: %w", c.Kind, c.Key, err)
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		f.advance(changes[len(changes)-1].Position)
	}
}

func (f *follower) position() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// Position and Moved are the feed as the indexes have seen it: what derives
// from an index waits for these and not for the store's own.
func (f *follower) Position() int64 { return f.position() }

// Moved returns a channel that is closed at the next advance.
func (f *follower) Moved() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}

func (f *follower) advance(at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
	close(f.moved)
	f.moved = make(chan struct{})
}

// wait returns when the indexes have seen position.
func (f *follower) wait(ctx context.Context, position int64) error {
	for {
		f.mu.Lock()
		at, moved := f.at, f.moved
		f.mu.Unlock()
		if at >= position {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// Write is store.Write whose answer waits until this server's own indexes show
// the change: who has been told "done" sees it done.
func (f *follower) Write(ctx context.Context, run func(*store.Tx) error) error {
	if err := f.store.Write(ctx, run); err != nil {
		return err
	}
	if err := f.wait(ctx, f.store.Position()); err != nil {
		f.log.Warn("the caller left before its change was visible", "error", err.Error())
	}
	return nil
}
