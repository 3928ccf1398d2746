package machine_test

import (
	"crypto"
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
)

const (
	firstSession  = "0aaaaaaa-0000-4000-8000-0000000000a1"
	secondSession = "0aaaaaaa-0000-4000-8000-0000000000a2"
)

// tell reports the open sessions.
func (r *rig) tell(more int, ids ...string) {
	r.t.Helper()
	p := protocol.Report{Capability: 3, Agent: "sally 1", MoreSessions: more}
	for _, id := range ids {
		p.Sessions = append(p.Sessions, session(id))
	}
	if err := r.Report(r.t.Context(), r.by(machineID), p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) open() []string {
	r.t.Helper()
	list, err := r.Sessions(r.t.Context(), machine.SessionQuery{MachineID: machineID})
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []string
	for _, n := range list {
		if n.MachineID != machineID || n.LoginName != "alice@corp.example" || n.Kind != protocol.SessionPTY {
			r.t.Errorf("%+v", n)
		}
		ids = append(ids, n.ID)
	}
	return ids
}

// snapshot is what a machine of a capability is told that holds nothing.
func (r *rig) snapshot(capability int) protocol.SnapshotDocument {
	r.t.Helper()
	a, err := r.Poll(r.t.Context(), r.by(machineID), protocol.PollRequest{Capability: capability, ManifestEpoch: 1, Manifest: 1})
	if err != nil || a.Snapshot == nil {
		r.t.Fatalf("%+v %v", a, err)
	}
	return r.opened(*a.Snapshot)
}

func (r *rig) opened(e protocol.Envelope) protocol.SnapshotDocument {
	r.t.Helper()
	doc, err := protocol.OpenSnapshot(e, []crypto.PublicKey{r.snapshotKey.Public()})
	if err != nil {
		r.t.Fatal(err)
	}
	return doc
}

func TestSessions_AsTheMachineLastTold(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.tell(0, secondSession, firstSession)
	if got := r.open(); !slices.Equal(got, []string{firstSession, secondSession}) {
		t.Fatal(got)
	}
	records := len(r.audited())
	position := r.store.Position()
	r.tell(0, firstSession, secondSession)
	if r.store.Position() != position || len(r.audited()) != records {
		t.Error("the same list again is a change")
	}
	r.tell(0, secondSession)
	if got := r.open(); !slices.Equal(got, []string{secondSession}) {
		t.Fatal(got)
	}
	if err := r.Report(t.Context(), r.by(machineID), protocol.Report{Capability: 2, Agent: "sally 1"}); err != nil || r.open() != nil {
		t.Fatalf("a machine that does not tell of sessions has some: %v %v", r.open(), err)
	}
}

// An end is signed, for this machine, until long after its machine says that it
// is carried out: whoever carries the reports must not take it back.
// A machine that has waited too long reports anew, and the older report, still under
// way, is not stored after the newer one.
func TestReport_OneAtATime(t *testing.T) {
	r := newRig(t)
	r.joined()
	second := make(chan struct{})
	r.afterRead = func() {
		go func() { defer close(second); r.tell(0, firstSession, secondSession) }()
		select {
		case <-second:
		case <-time.After(200 * time.Millisecond): // it waits for its turn
		}
	}
	r.tell(0, firstSession)
	<-second
	if got := r.open(); !slices.Equal(got, []string{firstSession, secondSession}) {
		t.Fatalf("%v", got)
	}
}

func TestEndSession_SignedAndNotTakenBack(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.tell(0, firstSession, secondSession)
	for range 2 {
		if err := r.EndSession(t.Context(), r.by("admin"), machineID, firstSession); err != nil {
			t.Fatal(err)
		}
	}
	want := []protocol.EndedSession{{ID: firstSession, CorrelationID: otherID}}
	if got := r.snapshot(3); !slices.Equal(got.Ended, want) || got.Capability != 3 {
		t.Fatalf("told %+v", got)
	}
	if got := r.snapshot(2); got.Ended != nil || got.Capability != 0 {
		t.Fatalf("a machine that does not know the word is told %+v", got)
	}
	n, open, err := r.SessionByID(t.Context(), "", firstSession)
	if err != nil || !open || n.Ending == nil || n.Ending.By != "admin" {
		t.Fatalf("%+v %v %v", n, open, err)
	}
	r.tell(0, secondSession)
	if n, open, err = r.SessionByID(t.Context(), machineID, firstSession); err != nil || open || !n.Ending.GoneAt.Equal(r.now) {
		t.Fatalf("%+v %v %v", n, open, err)
	}
	p := protocol.Report{Capability: 3, Agent: "sally 1", Sessions: []protocol.Session{session(secondSession)}, Events: []protocol.MachineEvent{{ID: eventID, Type: protocol.EventSessionEnd, CorrelationID: tenantID, ObjectID: otherID,
		LoginName: "alice@corp.example", Detail: map[string]string{protocol.FactSession: firstSession, protocol.FactCause: protocol.CauseEnded, protocol.FactProcesses: "3", protocol.FactLeft: "nginx.service", "uid": "1", "message": "m"}}}}
	if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
		t.Fatal(err)
	}
	if n, _, err = r.SessionByID(t.Context(), "", firstSession); err != nil || n.Ending.Processes != "3" || n.Ending.Left != "nginx.service" {
		t.Fatalf("%+v %v", n, err)
	}
	if got := r.snapshot(3).Ended; !slices.Equal(got, want) {
		t.Fatalf("a report takes an end back: %v", got)
	}
	r.now = r.now.Add(8 * 24 * time.Hour)
	if got := r.snapshot(3).Ended; got != nil {
		t.Fatalf("told for ever: %v", got)
	}
	if types := r.types(); !slices.Contains(types, "machineSession.end success") || !slices.Contains(types, "machine.session.end success") {
		t.Fatalf("%v", types)
	}
}

func TestEndSession_WhatIsNotThere(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.tell(0, firstSession)
	for _, c := range [][2]string{{machineID, secondSession}, {otherID, firstSession}} {
		if err := r.EndSession(t.Context(), r.by("admin"), c[0], c[1]); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, _, err := r.SessionByID(t.Context(), "", secondSession); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	// What is left out of a list is not known to be gone.
	if err := r.EndSession(t.Context(), r.by("admin"), machineID, firstSession); err != nil {
		t.Fatal(err)
	}
	r.tell(5)
	if n, open, err := r.SessionByID(t.Context(), "", firstSession); err != nil || open || !n.Ending.GoneAt.IsZero() {
		t.Fatalf("%+v %v", n, err)
	}
	// Two machines that tell of one id: somebody has to say which.
	if _, err := r.Join(t.Context(), r.by(""), join(r.mint(otherID)), "other"); err != nil {
		t.Fatal(err)
	}
	p := protocol.Report{Capability: 3, Agent: "sally 1", Sessions: []protocol.Session{session(firstSession)}}
	r.tell(0, firstSession)
	if err := r.Report(t.Context(), r.by(otherID), p); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.SessionByID(t.Context(), "", firstSession); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
	if n, _, err := r.SessionByID(t.Context(), otherID, firstSession); err != nil || n.MachineID != otherID {
		t.Error(n, err)
	}
}

// Somebody who ends many of his own sessions leaves room to whoever ends one of
// his for him.
func TestEndSession_OwnOnesLeaveRoom(t *testing.T) {
	r := newRig(t)
	r.joined()
	var ids []string
	for i := range protocol.MaxSessions {
		ids = append(ids, fmt.Sprintf("0aaaaaaa-0000-4000-8000-%012d", i))
	}
	r.tell(0, ids...)
	ended := 0
	for _, id := range ids {
		if err := r.EndSession(t.Context(), r.by(otherID), machineID, id); fault.Is(err, fault.Conflict) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ended++
	}
	if ended != protocol.MaxSessions/2 {
		t.Errorf("ended %d of his own", ended)
	}
	if err := r.EndSession(t.Context(), r.by("admin"), machineID, ids[len(ids)-1]); err != nil {
		t.Errorf("his session cannot be ended: %v", err)
	}
}
