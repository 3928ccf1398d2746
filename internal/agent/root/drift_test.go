package root

import (
	"context"
	"errors"
	"testing"

	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// A look that says nothing changes no verdict, whichever it was, and is repeated
// although no file changes.
func TestDrift_UnsureLookKeepsTheVerdict(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	r.mustDeliver(nil)
	last := r.apply(ctx, attempt{})
	for i, c := range []struct {
		check error
		allow bool
	}{{context.DeadlineExceeded, true}, {errors.New("weak"), false}, {context.DeadlineExceeded, false}, {nil, true}} {
		r.wiring.check = c.check
		if i%2 == 0 {
			r.wiring.mark += "x"
		}
		if i == 1 && !last.unsure {
			t.Error("nobody looks again")
		}
		last = r.watch(ctx, last)
		if a := r.login(alice, aliceID); a.Allow != c.allow {
			t.Errorf("look %d: %+v", i+1, a)
		}
	}
	// The first look after a start has no verdict before it.
	r.restart()
	r.reached.checked = false
	r.wiring.apply, r.wiring.check = context.DeadlineExceeded, context.DeadlineExceeded
	last = r.watch(ctx, r.apply(ctx, attempt{}))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if a := r.PAM(gone, shim.Peer{PID: 100}, shim.PAMRequest{Phase: shim.PhaseAccount, Service: "sshd", User: alice}); a.Allow || a.Text != starting {
		t.Errorf("let in before anybody could look: %+v", a)
	}
	r.wiring.apply, r.wiring.check = nil, nil
	for len(r.wake) > 0 {
		<-r.wake
	}
	r.watch(ctx, last)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Error(a.Text)
	}
	if len(r.wake) == 0 {
		t.Error("what could not be tried is not tried again")
	}
}

// A change that failed and was undone leaves what was in force: that is looked at,
// and lets in who could log in before.
func TestDrift_UndoneChangeRefusesNobody(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	r.mustDeliver(nil)
	last := r.apply(ctx, attempt{})
	r.wiring.apply = errors.New("the self-test failed")
	if err := r.Manifest(r.renewed(listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.UserCA, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))); err != nil {
		t.Fatal(err)
	}
	last = r.apply(ctx, last)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Error(a.Text)
	}
	if st := r.Status(); st.Provisioned != "Failed" || st.AppliedManifest != 1 {
		t.Errorf("%+v", st)
	}
	if n := len(r.wiring.saw); n == 0 || len(r.wiring.saw[n-1].UserCAs) != 1 {
		t.Errorf("looked for %+v", r.wiring.saw)
	}
	r.wiring.check, r.wiring.mark = errors.New("weak"), "changed"
	last = r.watch(ctx, last)
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("let in on a machine that drifted after the change")
	}
	last = r.apply(ctx, last)
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("let in on a machine that has drifted")
	}
	r.wiring.check, r.wiring.mark = nil, "changed back"
	last = r.watch(ctx, last)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Error(a.Text)
	}
	r.wiring.apply = nil
	tried := len(r.wiring.want)
	r.apply(ctx, last)
	if st := r.Status(); st.Provisioned != "Succeeded" || st.AppliedManifest != 2 || len(r.wiring.want) == tried {
		t.Errorf("%+v", st)
	}
}
