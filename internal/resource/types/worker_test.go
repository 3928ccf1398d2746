package types_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport/internal/resource"
	"sallyport/internal/store"
)

func TestWorker_LeaseIsHeldByOneAndEndsByItself(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	_, err := w.engine.Delete(t.Context(), as(admin), resource.Request{ID: id(rg)})
	w.must(err)
	lease := func() (until time.Time, ok bool) {
		w.must(w.store.Store.Write(t.Context(), func(tx *store.Tx) error {
			var err error
			until = tx.Now().Add(time.Minute)
			_, ok, err = tx.LeaseResource(until)
			return err
		}))
		return until, ok
	}
	first, ok := lease()
	if _, again := lease(); !ok || again {
		t.Fatal("not exactly one worker got it")
	}
	w.advance(2 * time.Minute) // the first worker was killed, or is late
	second, ok := lease()
	if !ok {
		t.Fatal("a dead worker keeps its lease")
	}
	for _, end := range []struct {
		lease time.Time
		held  bool
	}{{first, false}, {second, true}, {second, false}} {
		w.must(w.store.Store.Write(t.Context(), func(tx *store.Tx) error {
			held, err := tx.SettleResource(id(rg).Key(), end.lease, tx.Now())
			if held != end.held {
				t.Errorf("a lease until %s was held: %v", end.lease, held)
			}
			return err
		}))
	}
}

// Several workers beside each other, while requests come in.
func TestWorker_ManyAtOnce(t *testing.T) {
	w := newWorld(t).withNetwork()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.engine.Run(ctx, 4, func(ctx context.Context, d time.Duration, wake <-chan struct{}) {
			d = min(d, time.Millisecond) // as the server waits, but shorter
			select {
			case <-ctx.Done():
			case <-wake:
			case <-time.After(d):
				w.advance(d)
			}
			w.follow()
		}, func(err error) { t.Error(err) })
	}()
	var ops []*resource.Operation
	for i := range 8 {
		name := fmt.Sprintf("vm%d", i)
		nic := rg + "/providers/Microsoft.Network/networkInterfaces/" + name
		w.mustPut(nic, `{"location":"southcentralus","properties":{"ipConfigurations":[{"name":"a"}]}}`)
		r := w.mustPut(rg+"/providers/Microsoft.Compute/virtualMachines/"+name, strings.Replace(vmBody(key(t)), nicID, nic, 1))
		ops = append(ops, r.Operation)
	}
	for _, op := range ops {
		for w.status(op).Status == resource.InProgress {
			runtime.Gosched()
		}
		if s := w.status(op); s.Status != resource.Succeeded {
			t.Errorf("%+v %+v", s, s.Error)
		}
	}
	stop()
	<-done
	if w.lab.ensured != 8 {
		t.Errorf("%d machines were made of 8", w.lab.ensured)
	}
}
