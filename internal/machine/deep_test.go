package machine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestDeep(t *testing.T) {
	s := New(Config{})
	if err := s.deep(t.Context(), func() error { return nil }); err != nil {
		t.Error(err)
	}
	mine := errors.New("mine")
	if err := s.deep(t.Context(), func() error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the error became %v", err)
	}
	func() {
		defer func() {
			if p, _ := recover().(string); !strings.Contains(p, "broken here") || !strings.Contains(p, "TestDeep") {
				t.Errorf("the panic became %q", p)
			}
		}()
		_ = s.deep(t.Context(), func() error { panic("broken here") })
		t.Error("a panic was lost")
	}()
	if !s.derivers.TryAcquire(deepTogether) {
		t.Error("places were not given back")
	}
}

// TestDeep_Bounded: no more than deepTogether run at a time, and who waits for a
// place goes when its poll ends.
func TestDeep_Bounded(t *testing.T) {
	s := New(Config{})
	var inside atomic.Int64
	full, leave := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range deepTogether {
		all.Go(func() {
			_ = s.deep(t.Context(), func() error {
				if inside.Add(1) == deepTogether {
					close(full)
				}
				<-leave
				return nil
			})
		})
	}
	<-full
	if s.derivers.TryAcquire(1) {
		t.Error("there is a place for one more")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for range 64 { // of two ways that are open, select takes any
		if err := s.deep(ended, func() error { t.Error("one too many"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	close(leave)
	all.Wait()
}
