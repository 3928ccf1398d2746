package resource

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

const (
	// leaseTime is how long a worker may hold a resource; reconciling is cut off
	// well before, so that two workers never hold the same.
	leaseTime     = 2 * time.Minute
	reconcileTime = 90 * time.Second
	// giveUp is how long an unavailable back end is asked again for one revision.
	giveUp     = 10 * time.Minute
	firstWait  = 100 * time.Millisecond
	longWait   = 10 * time.Second
	idlePeriod = 5 * time.Second
)

// Wake makes an idle worker look for work now. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Wait sleeps for a time, or until ctx ends or wake receives. The server gives
// the real one.
type Wait func(ctx context.Context, d time.Duration, wake <-chan struct{})

// Run works until ctx ends. Errors are reported to log; the work is tried again.
func (e *Engine) Run(ctx context.Context, workers int, wait Wait, log func(error)) {
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				worked, next, err := e.Step(ctx)
				switch {
				case err != nil && ctx.Err() == nil:
					log(err)
					wait(ctx, time.Second, nil)
				case worked:
					e.Wake() // there may be more: let a colleague look too
				default:
					wait(ctx, next, e.wake)
				}
			}
		})
	}
	group.Wait()
}

// Step leases one resource that is behind and due, reconciles it and stores what
// came of it. When there was none, next says after how long one may be.
func (e *Engine) Step(ctx context.Context) (worked bool, next time.Duration, err error) {
	var now, lease time.Time
	var r Resource
	var children []Resource
	// Looking costs no write: most looks find nothing.
	due, any := time.Time{}, false
	if err := e.cfg.Read(ctx, func(tx Tx) error {
		now = tx.Now()
		due, any, err = tx.NextDue()
		return err
	}); err != nil {
		return false, 0, err
	}
	if !any {
		return false, idlePeriod, nil
	}
	if due.After(now) {
		return false, min(due.Sub(now), idlePeriod), nil
	}
	found := false
	err = e.cfg.Write(ctx, func(tx Tx) error {
		now = tx.Now()
		lease = now.Add(leaseTime)
		if r, found, err = tx.LeaseResource(lease); err != nil || !found {
			return err
		}
		children, err = tx.ListResources(Range{Under: r.ID})
		return err
	})
	if err != nil || !found {
		return false, firstWait, err
	}
	progress := e.reconcile(ctx, Work{Resource: r, Children: children, Now: now})
	if ctx.Err() != nil {
		// Stopping: the lease ends by itself and another worker takes over.
		return true, 0, nil
	}
	return true, 0, e.settle(ctx, r, lease, progress)
}

// reconcile calls the type and turns an error into what to do about it: what
// may pass is tried again, what cannot pass is a failure.
func (e *Engine) reconcile(ctx context.Context, w Work) Progress {
	t, err := e.Type(w.Resource.ID.Type())
	if err != nil || t.Reconcile == nil {
		return Progress{Done: true}
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileTime)
	defer cancel()
	p, err := t.Reconcile(ctx, w)
	if err == nil {
		return p
	}
	f := fault.As(err)
	passes := f.Kind == fault.Unavailable || f.Kind == fault.Exhausted || f.Kind == fault.Internal
	// A deletion is never given up: what is left behind would live on unseen.
	if passes && (w.Resource.State == Deleting || w.Now.Sub(w.Resource.WantedAt) < giveUp) {
		return Progress{After: backoff(w)}
	}
	if w.Resource.State == Deleting {
		return Progress{After: longWait}
	}
	return Progress{Failure: &Failure{Code: f.Code, Message: f.Public()}}
}

// backoff waits a quarter of the time that has passed since the wish.
func backoff(w Work) time.Duration {
	return min(max(w.Now.Sub(w.Resource.WantedAt)/4, firstWait), longWait)
}

// settle stores the outcome, unless the lease was lost to another worker.
func (e *Engine) settle(ctx context.Context, seen Resource, lease time.Time, p Progress) error {
	over := p.Done || p.Failure != nil
	err := e.cfg.Write(ctx, func(tx Tx) error {
		due := tx.Now()
		if !over {
			due = due.Add(max(p.After, 50*time.Millisecond))
		}
		held, err := tx.SettleResource(seen.ID.Key(), lease, due)
		if err != nil || !held {
			return err
		}
		r, ok, err := tx.ResourceByID(seen.ID.Key())
		if err != nil || !ok {
			return err
		}
		return e.outcome(tx, seen, &r, p)
	})
	if err != nil {
		return fmt.Errorf("settle %s: %w", seen.ID, err)
	}
	if over {
		e.Wake()
	}
	return nil
}

func (e *Engine) outcome(tx Tx, seen Resource, r *Resource, p Progress) error {
	if p.Apply != nil {
		if err := p.Apply(tx); err != nil {
			return err
		}
	}
	if p.Done && seen.State == Deleting {
		if err := e.erase(tx, r.ID); err != nil {
			return err
		}
		return tx.Audit(task(tx), audit.Event{Type: "resource.deleted", Outcome: audit.Success, Target: r.ID.String()})
	}
	changed := false
	if p.Update != nil {
		before := *r
		if err := p.Update(r); err != nil {
			return err
		}
		changed = !Same(before.Private, r.Private) || !Same(before.Properties, r.Properties)
	}
	// What a write has settled since then is not overtaken by news of what was before.
	if (p.Done || p.Failure != nil) && r.Observed < seen.Revision {
		changed = true
		r.Observed = max(r.Observed, seen.Revision)
		if !r.Behind() {
			r.State, r.Error = Succeeded, nil
			if p.Failure != nil {
				r.State, r.Error = Failed, p.Failure
			}
		}
	}
	if !changed {
		return nil
	}
	r.Touch(tx.Now())
	if err := tx.PutResource(*r); err != nil {
		return err
	}
	if p.Failure != nil {
		return tx.Audit(task(tx), audit.Event{Type: "resource.reconcile", Outcome: audit.Failure, Target: r.ID.String(), Detail: map[string]string{"code": p.Failure.Code}})
	}
	return nil
}

// task is who acts when a worker writes.
func task(tx Tx) audit.By { return audit.By{Type: audit.Task, Name: "resource worker", At: tx.Now()} }

// Modify changes the private part or the properties of another resource, for a
// back end's news. It writes nothing when f changes nothing, and does nothing
// when the resource is gone.
func Modify(tx Tx, id scope.ID, f func(*Resource) error) error {
	r, ok, err := tx.ResourceByID(id.Key())
	if err != nil || !ok {
		return err
	}
	before := r
	if err := f(&r); err != nil {
		return err
	}
	if Same(before.Private, r.Private) && Same(before.Properties, r.Properties) {
		return nil
	}
	r.Touch(tx.Now())
	return tx.PutResource(r)
}
