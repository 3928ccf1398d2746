package machine_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

func numbered(n int64) protocol.MachineEvent {
	return protocol.MachineEvent{ID: fmt.Sprintf("0eeeeeee-0000-4000-8000-%012d", n), CorrelationID: tenantID, Type: "login.deny", LoginName: "alice@corp.example", Sequence: n}
}

func events(list ...protocol.MachineEvent) protocol.Report {
	p := report()
	p.Capability, p.Events = protocol.Capability, list
	return p
}

func (r *rig) mustReport(p protocol.Report) {
	r.t.Helper()
	if err := r.Report(r.t.Context(), r.by(machineID), p); err != nil {
		r.t.Fatal(err)
	}
}

// faults lists what the numbers of events said, oldest first.
func (r *rig) faults() (list []string) {
	for _, e := range slices.Backward(r.audited()) {
		if e.Type == "machine.eventGap" || e.Type == "machine.eventRewind" {
			list = append(list, fmt.Sprintf("%s %s-%s %s", strings.TrimPrefix(e.Type, "machine.event"), e.Detail["last"], e.Detail["next"], e.Detail["missing"]))
		}
	}
	return list
}

// TestReport_NumbersShowWhatDidNotCome: a number that is left out is told once,
// repeats and a lost answer are harmless, numbers that go back are told, and a
// machine that joined again begins anew.
func TestReport_NumbersShowWhatDidNotCome(t *testing.T) {
	r := newRig(t)
	r.joined()
	old := numbered(0)
	old.ID = eventID
	r.mustReport(events(old)) // of an agent that did not number
	r.mustReport(events(numbered(7), numbered(8)))
	r.mustReport(events(numbered(7), numbered(8), numbered(9))) // the answer was lost
	if got := r.faults(); got != nil {
		t.Fatalf("%v", got)
	}
	r.mustReport(events(numbered(12)))
	r.mustReport(events(numbered(12), numbered(13)))
	if got := r.faults(); !slices.Equal(got, []string{"Gap 9-12 2"}) {
		t.Fatalf("%v", got)
	}
	back := numbered(3)
	back.Sequence = 13
	r.mustReport(events(back))
	if got := r.faults(); !slices.Equal(got[1:], []string{"Rewind 13-13 "}) {
		t.Fatalf("%v", got)
	}
	if _, err := r.Join(t.Context(), audit.By{}, join(r.mint(machineID)), "another key"); err != nil {
		t.Fatal(err)
	}
	r.mustReport(events(numbered(1)))
	if got := r.faults(); len(got) != 2 {
		t.Fatalf("a machine that joined again counts from 1, and %v was told", got)
	}
	n := 0
	for _, e := range r.audited() {
		if e.Type == "machine.login.deny" {
			n++
		}
	}
	if n != 8 {
		t.Fatalf("%d events are in the log, 8 happened", n)
	}
}

// TestPoll_SignedAnewWithinAnyBound: a machine that hears from the server never
// counts as cut off, however short a time the tenant allows.
func TestPoll_SignedAnewWithinAnyBound(t *testing.T) {
	r := newRig(t)
	r.offline = [2]time.Duration{time.Minute, 30 * time.Second}
	r.joined()
	doc, _ := r.poll(protocol.PollRequest{})
	if doc.UserStale != 60 || doc.AdminStale != 30 || !doc.GoodUntil.Equal(doc.IssuedAt.Add(time.Minute)) {
		t.Fatalf("%+v", doc)
	}
	r.now = doc.IssuedAt.Add(9 * time.Second)
	if again, _ := r.poll(held(doc)); again != nil {
		t.Error("signed anew though fresh")
	}
	r.now = doc.IssuedAt.Add(11 * time.Second)
	next, _ := r.poll(held(doc))
	if next == nil || !next.IssuedAt.After(doc.IssuedAt) {
		t.Fatal("not signed anew after a third of the shortest time")
	}
	r.offline = [2]time.Duration{300 * time.Millisecond, 30 * time.Millisecond}
	changed, _ := r.poll(held(next))
	q := held(changed)
	q.WaitMillis = 60_000
	begin := time.Now()
	if _, _ = r.poll(q); time.Since(begin) > 20*time.Second {
		t.Error("a poll waited longer than a grant holds")
	}
}

// TestReport_WhoStandsBehindAnEvent: what the proven host key signed is recorded
// as such; what somebody else signed, or nobody, is recorded without it, and never
// refused: a host key is replaced before its successor is proven.
func TestReport_WhoStandsBehindAnEvent(t *testing.T) {
	r := newRig(t)
	r.joined()
	_, host, _ := ed25519.GenerateKey(rand.Reader)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	line, _ := ssh.NewPublicKey(host.Public())
	err := r.store.Write(t.Context(), func(tx *store.Tx) error {
		m, _, err := tx.MachineByID(machineID)
		m.ProvenKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))
		if err == nil {
			err = tx.PutMachine(m)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Read(t.Context(), func(tx *store.Tx) error { return r.index.Load(tx) }); err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	send := func(key ed25519.PrivateKey, change func(*protocol.EventsDocument, *protocol.Report)) error {
		n++
		d, p := protocol.EventsDocument{MachineID: machineID, Tenant: tenantID, Events: []protocol.MachineEvent{numbered(n)}}, events()
		if change != nil {
			change(&d, &p)
		}
		payload, _ := json.Marshal(d)
		e, err := protocol.Sign(rand.Reader, key, protocol.TypeEvents, payload)
		if err != nil {
			t.Fatal(err)
		}
		p.Batch = &e
		return r.Report(t.Context(), r.by(machineID), p)
	}
	proof := func() string { return r.audited()[0].Detail["proof"] }
	if err := send(host, nil); err != nil || proof() != "hostKey" {
		t.Fatalf("%v %s", err, proof())
	}
	if err := send(other, nil); err != nil || proof() != "none" {
		t.Fatalf("another key: %v %s", err, proof())
	}
	n++
	if r.mustReport(events(numbered(n))); proof() != "none" {
		t.Fatalf("unsigned: %s", proof())
	}
	for name, change := range map[string]func(*protocol.EventsDocument, *protocol.Report){
		"another machine's": func(d *protocol.EventsDocument, _ *protocol.Report) { d.MachineID = otherID },
		"others beside":     func(_ *protocol.EventsDocument, p *protocol.Report) { p.Events = []protocol.MachineEvent{numbered(99)} },
		"malformed":         func(d *protocol.EventsDocument, _ *protocol.Report) { d.Events[0].ID = "x" },
		"number":            func(d *protocol.EventsDocument, _ *protocol.Report) { d.Events[0].Sequence = -1 },
	} {
		if err := send(host, change); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
