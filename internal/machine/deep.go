package machine

import (
	"context"
	"fmt"
	"runtime/debug"
)

// deepTogether is how many polls derive and sign at a time: more would not be
// done sooner, and each needs a stack of its own.
const deepTogether = 64

// deep runs f in a goroutine that ends with it. A poll waits for a minute in the
// goroutine that its request came in, and a stack that has grown once stays at
// four times what the waiting uses; what derives, encodes, signs and asks the
// store therefore grows another one. f always ends before deep returns; a panic
// of f is one of the caller.
func (s *Service) deep(ctx context.Context, f func() error) error {
	if err := s.derivers.Acquire(ctx, 1); err != nil {
		return err
	}
	var err error
	var panicked any
	done := make(chan struct{})
	go func() {
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			s.derivers.Release(1)
			close(done)
		}()
		err = f()
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	return err
}
