package resource

import (
	"context"
	"errors"

	"sallyport/internal/fault"
)

// Aside works out, while nobody holds the store, what a write needs and what takes
// long, as the hash of a password. The write is tried first without it and taken
// back, and done when everything that was asked for is there. The nil Aside works at
// once. It is of one write and not for use by several goroutines.
type Aside struct {
	known map[string]string
	due   map[string]func() (string, error)
	trial bool // nothing will be stored
}

// errAside takes a write back that asked for what was not there yet.
var errAside = errors.New("something is worked out first")

// asideTries is how often a write is tried because what it read had changed, and
// with it what it asks for.
const asideTries = 4

// Work returns what f makes. key says of what it is made, all of it. ready is false
// where that is not known yet; the caller then goes on as if it were good: nothing
// of this try will be stored.
func (a *Aside) Work(key string, f func() (string, error)) (value string, ready bool, err error) {
	if a == nil {
		value, err = f()
		return value, true, err
	}
	if value, ready = a.known[key]; !ready {
		if a.due == nil {
			a.due = map[string]func() (string, error){}
		}
		a.due[key] = f
	}
	return value, ready, nil
}

// Make is Work for what is only stored. A write that is tried and taken back does not
// have it made.
func (a *Aside) Make(key string, f func() (string, error)) (string, error) {
	if a != nil && a.trial {
		return "", nil
	}
	value, _, err := a.Work(key, f)
	return value, err
}

// work makes what was asked for.
func (a *Aside) work(ctx context.Context, turn chan struct{}) error {
	for key, f := range a.due {
		if err := ctx.Err(); err != nil { // whoever asked has gone
			return err
		}
		value, err := inTurn(ctx, turn, f)
		if err != nil {
			return err
		}
		if a.known == nil {
			a.known = map[string]string{}
		}
		a.known[key] = value
	}
	return nil
}

// inTurn makes one thing when nobody else makes one: a template full of passwords has
// one processor at most, and who asks for one hash waits for one of each other asker.
func inTurn(ctx context.Context, turn chan struct{}, f func() (string, error)) (string, error) {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
		return f()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// writeAside is a write that may ask for something to be worked out. The function
// runs more than once. One that asks for something else each time, as a template whose
// passwords are made of an id that it makes itself, is refused: it would have
// hundreds of hashes made while everybody waits for the store.
func (e *Engine) writeAside(ctx context.Context, a *Aside, f func(Tx, *Aside) error) error {
	for range asideTries {
		if err := a.work(ctx, e.turn); err != nil {
			return err
		}
		err := e.cfg.Write(ctx, func(tx Tx) error {
			a.due = nil
			if err := f(tx, a); err != nil && !errors.Is(err, errTaken) || len(a.due) == 0 {
				return err
			}
			return errAside
		})
		if !errors.Is(err, errAside) {
			return err
		}
	}
	return unsettled()
}

func unsettled() error {
	return fault.New(fault.Invalid, "InvalidParameter", "what is hashed, a password for example, was another one each time that the write was tried; nothing was changed").
		WithRemedy("Give a password that does not depend on what the same template makes.")
}
