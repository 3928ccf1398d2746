package root

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/handbooktest"
)

const visitorName = "0bbbbbbb-0000-4000-8000-000000000001"

// TestVisit_IsNoWayIn: the visitor of a self-test is answered for to one sshd, for
// one certificate, in order, and to nobody before or after.
func TestVisit_IsNoWayIn(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	daemon, helper := r.connect(100)
	other, otherHelper := r.connect(200)
	request := r.certificate(visitorName, aliceID, nil)
	foreign := r.certificate(visitorName, aliceID, nil)
	blob, err := base64.StdEncoding.DecodeString(request.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(peer shim.Peer, q shim.PrincipalsRequest) string {
		id, _ := r.Principals(context.Background(), peer, q)
		return id
	}
	var refused []string
	account := func(peer shim.Peer, service string) bool {
		a := r.account(service, visitorName, peer)
		refused = append(refused, a.Text)
		return a.Allow
	}
	if ask(helper, request) != "" || account(daemon, "sshd") {
		t.Fatal("let in before the visit")
	}
	leave, err := r.Receive(sshd.Visitor{Login: visitorName, ObjectID: bobID, Certificate: blob, Daemon: r.processes[100]})
	if err != nil {
		t.Fatal(err)
	}
	if account(daemon, "sshd") {
		t.Error("PAM let the visitor in without a certificate")
	}
	if ask(otherHelper, request) != "" {
		t.Error("another sshd got the principal")
	}
	if ask(helper, foreign) != "" {
		t.Error("another certificate got the principal")
	}
	if ask(helper, request) != bobID {
		t.Fatal("the visitor got no principal")
	}
	if account(other, "sshd") || account(daemon, "sudo") || account(daemon, "login") {
		t.Error("let in by another way")
	}
	handbooktest.Said(t, strings.Join(refused, "\n"), "self-test")
	if !account(daemon, "sshd") {
		t.Error("the visitor is refused")
	}
	if asked := leave(); !asked.Principals || !asked.Account || asked.Session {
		t.Errorf("asked %+v", asked)
	}
	if !slices.Equal(r.dismissed, []uint32{visitorUID}) {
		t.Errorf("what ran as the visitor is left: %v", r.dismissed)
	}
	if ask(helper, request) != "" || account(daemon, "sshd") {
		t.Error("let in after the visit")
	}
}

// TestPrincipals_NotWherePAMDoesNotAsk: nothing opens sshd's door while the other
// one, PAM, is not there.
func TestPrincipals_NotWherePAMDoesNotAsk(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	for name, change := range map[string]func(){
		"PAM does not ask us": func() { r.wiring.asks = errors.New("no line") },
		"sshd does not ask PAM": func() {
			r.wiring.check, r.wiring.mark = openDrift(t), "x"
			r.watch(context.Background(), attempt{})
		},
		"not wired": func() { r.mu.Lock(); r.reached.wired = false; r.mu.Unlock() },
	} {
		change()
		if a := r.login(alice, aliceID); a.Allow || a.Text != "no principal" {
			t.Errorf("%s: %+v", name, a)
		}
		r.wiring.asks, r.wiring.check, r.wiring.mark = nil, nil, "y"
		r.watch(context.Background(), attempt{})
		r.mu.Lock()
		r.reached.wired = true
		r.mu.Unlock()
		if a := r.login(alice, aliceID); !a.Allow {
			t.Fatalf("%s, undone: %s", name, a.Text)
		}
	}
}

// openDrift is a real fault of the kind: a machine without anything.
func openDrift(t *testing.T) error {
	t.Helper()
	err := sshd.New(sshd.Config{Root: t.TempDir()}).Asks()
	if !sshd.Open(err) {
		t.Fatal(err)
	}
	return err
}

// TestDrift_IsTold: the beginning and the end, once each, and people read it.
func TestDrift_IsTold(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.reasons()
	r.wiring.check, r.wiring.mark = errors.New("x"), "2"
	last := r.watch(context.Background(), attempt{})
	r.watch(context.Background(), last)
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("let in on a machine that drifted")
	}
	r.wiring.check, r.wiring.mark = nil, "3"
	r.watch(context.Background(), last)
	n := map[string]int{}
	events, _ := r.events.Take(nil, 0)
	for _, e := range events {
		n[e.Type]++
	}
	if n["drift.fail"] != 1 || n["drift.heal"] != 1 {
		t.Errorf("events: %v", n)
	}
}

// TestPAM_WaitsForTheFirstLook: what was changed while no agent ran is not missed.
func TestPAM_WaitsForTheFirstLook(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.restart()
	r.reached.checked = false
	r.wiring.check, r.wiring.apply, r.wiring.mark = errors.New("weak"), errors.New("weak"), "5"
	done := make(chan shim.PAMAnswer)
	go func() { done <- r.login(alice, aliceID) }()
	r.apply(context.Background(), attempt{})
	if a := <-done; a.Allow {
		t.Error("let in before anybody looked")
	}
	r.restart()
	r.reached.checked = false
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if a := r.PAM(ctx, shim.Peer{PID: 100}, shim.PAMRequest{Phase: shim.PhaseAccount, Service: "sshd", User: alice}); a.Allow || a.Text != starting {
		t.Errorf("%+v", a)
	}
	handbooktest.Said(t, starting, "starting")
}
