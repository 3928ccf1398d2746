package resource

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/internal/fault"
)

// What a write asks for is never made while the store is held, however often it asks
// for something else.
func TestAside_MakesNothingWhileTheStoreIsHeld(t *testing.T) {
	held, made := false, 0
	e, err := New(Config{Write: func(_ context.Context, f func(Tx) error) error {
		held = true
		defer func() { held = false }()
		return f(nil)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(changes int) error {
		tries := 0
		return e.writeAside(t.Context(), &Aside{}, func(_ Tx, a *Aside) error {
			tries = min(tries+1, changes)
			_, _, err := a.Work(strconv.Itoa(tries), func() (string, error) {
				if made++; held {
					t.Error("made while the store is held")
				}
				return "x", nil
			})
			return err
		})
	}
	if err := ask(2); err != nil || made != 2 {
		t.Errorf("what changed once: %v, %d", err, made)
	}
	if err := ask(1000); !fault.Is(err, fault.Invalid) {
		t.Errorf("what changes each time: %v", err)
	}
}

// Many passwords of many people: one is hashed at a time, and whoever has gone does not
// wait for it.
func TestAside_OneAtATime(t *testing.T) {
	e, err := New(Config{Write: func(_ context.Context, f func(Tx) error) error { return f(nil) }})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var running, made atomic.Int32
	for range 8 {
		group.Go(func() {
			if err := e.writeAside(t.Context(), &Aside{}, func(_ Tx, a *Aside) error {
				for n := range 4 {
					if _, _, err := a.Work(strconv.Itoa(n), func() (string, error) {
						if running.Add(1) > 1 {
							t.Error("two at a time")
						}
						for range 200 {
							runtime.Gosched()
						}
						running.Add(-1)
						made.Add(1)
						return "", nil
					}); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	if group.Wait(); made.Load() != 32 {
		t.Errorf("%d were made", made.Load())
	}
	e.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	err = e.writeAside(ctx, &Aside{}, func(_ Tx, a *Aside) error {
		cancel()
		_, _, err := a.Work("x", func() (string, error) { t.Error("made for nobody"); return "", nil })
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
