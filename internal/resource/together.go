package resource

import (
	"context"
	"errors"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// Part is one of several things that are written together.
type Part struct {
	// ID is what is written; Action is the caller's right to it, "" for TYPE/write.
	ID     scope.ID
	Action string
	// Body makes the body of a PUT when its turn has come, so that it may read what
	// was written before it.
	Body func(Tx) ([]byte, error)
	// Put, where set, writes in Body's place what is no resource of the engine. It
	// asks for the caller's rights itself.
	Put func(Tx) error
}

// PutTogether puts parts in their order, and then req with the body that is made
// behind them, in one transaction: each as Put does, with the caller's rights to
// it, or none at all.
func (e *Engine) PutTogether(ctx context.Context, by audit.By, parts []Part, req Request, body func(Tx) ([]byte, error)) (Result, error) {
	if err := e.authorizeParts(ctx, by, parts); err != nil {
		return Result{}, err
	}
	put := e.together(by, parts)
	return e.write(ctx, by, req, writeAs{before: func(tx Tx, aside *Aside) ([]byte, error) {
		if err := put(tx, aside); err != nil {
			return nil, err
		}
		return body(tx)
	}})
}

// TryTogether does everything that PutTogether does before req, and takes it back.
func (e *Engine) TryTogether(ctx context.Context, by audit.By, parts []Part) error {
	if err := e.authorizeParts(ctx, by, parts); err != nil {
		return err
	}
	put := e.together(by, parts)
	err := e.writeAside(ctx, &Aside{trial: true}, func(tx Tx, aside *Aside) error {
		if err := put(tx, aside); err != nil {
			return err
		}
		return errTaken
	})
	if errors.Is(err, errTaken) {
		return nil
	}
	return e.deniedInside(ctx, by, err)
}

// errTaken rolls a try back.
var errTaken = errors.New("tried, and taken back")

// authorizeParts asks first and apart, so that a refusal is audited: what is
// audited inside of a transaction goes with it.
func (e *Engine) authorizeParts(ctx context.Context, by audit.By, parts []Part) error {
	for _, p := range parts {
		action := p.Action
		if action == "" {
			t, err := e.Type(p.ID.Type())
			if err != nil {
				return about(p.ID, err)
			}
			action = t.Name + "/write"
		}
		at := p.ID
		if p.Put != nil {
			at, _ = p.ID.Parent()
		}
		if err := e.Authorize(ctx, by, action, at); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) together(by audit.By, parts []Part) func(Tx, *Aside) error {
	return func(tx Tx, aside *Aside) error {
		for _, p := range parts {
			if err := e.putPart(tx, aside, by, p); err != nil {
				return about(p.ID, err)
			}
		}
		return nil
	}
}

func (e *Engine) putPart(tx Tx, aside *Aside, by audit.By, p Part) error {
	if p.Put != nil {
		return p.Put(tx)
	}
	body, err := p.Body(tx)
	if err != nil {
		return err
	}
	_, err = e.putIn(tx, aside, by, Request{ID: p.ID, Body: body})
	return err
}

// about names the part that an error is about; the error of a link stays what it
// is, for it is audited after the transaction.
func about(id scope.ID, err error) error {
	var l *linkDenied
	if errors.As(err, &l) {
		return err
	}
	f := fault.As(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	out := fault.Wrap(err, f.Kind, f.Code, "The resource '%s' of type '%s': %s", id.Name(), id.Type(), f.Text).WithTarget(id.String())
	if f.Remedy != "" {
		out = out.WithRemedy("%s", f.Remedy)
	}
	return out
}
