package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const (
	vmID          = "0aaaaaaa-0000-4000-8000-000000000002"
	correlationID = "0aaaaaaa-0000-4000-8000-000000000003"
)

// enrol makes a machine that has joined.
func (d *deployment) enrol(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.follow.run(ctx) }() // answers to writes wait for it
	t.Cleanup(func() { cancel(); <-ended })
	id, err := scope.Parse("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1")
	if err != nil {
		t.Fatal(err)
	}
	err = d.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutMachine(machine.Machine{ID: vmID, ResourceID: id, Thumbprint: "k", JoinedAt: tx.Now()})
	})
	if err == nil {
		err = d.store.Read(t.Context(), func(tx *store.Tx) error { return d.machineKeys.Load(tx) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// happen writes n events.
func (d *deployment) happen(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		err := d.store.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Audit(audit.By{Principal: "p", Type: audit.User, CorrelationID: fmt.Sprint("c", i), At: tx.Now()}, audit.Event{Type: "group.create", Outcome: audit.Success, Target: fmt.Sprint(i)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// seen is what a machine that polls is shown of the audit log.
func (d *deployment) seen(t *testing.T) protocol.Witnessed {
	t.Helper()
	answer, err := d.machines.Poll(t.Context(), audit.By{Principal: vmID, Type: audit.Machine}, protocol.PollRequest{Capability: 1})
	if err != nil || answer.Snapshot == nil {
		t.Fatal(err)
	}
	doc, err := protocol.OpenSnapshot(*answer.Snapshot, d.manifest.For(protocol.Snapshot))
	if err != nil || doc.AuditHead == nil {
		t.Fatal(err, "no head")
	}
	return protocol.Witnessed{SignedHead: protocol.SignedHead{Head: *doc.AuditHead, KeyID: doc.AuditKeyID, Signature: doc.AuditSig}, Epoch: doc.Epoch}
}

// Somebody with the server's store and even its audit key cuts the log and goes
// on. The server itself finds it through what a machine has reported, and names
// the first record that is gone.
func TestAudit_TruncatedAndSignedAnewIsFoundThroughAMachine(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	d := rig(t, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	d.enrol(t)
	d.happen(t, 6)
	seen := d.seen(t)
	if err := d.machines.Report(t.Context(), audit.By{Principal: vmID, Type: audit.Machine, CorrelationID: correlationID, At: d.cfg.Now()}, protocol.Report{Capability: 1, Witnessed: []protocol.Witnessed{seen}}); err != nil {
		t.Fatal(err)
	}
	d.happen(t, 2)
	verdict, err := auditor{d}.Verify(t.Context())
	if err != nil || verdict.Compared != 1 || verdict.Records < 8 {
		t.Fatal(verdict, err)
	}
	cut := seen.Head.Sequence - 2
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		t.Helper()
		if d.store, err = store.Open(t.Context(), d.cfg.storeConfig(d.meter)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.store.Close() })
	}
	tamper(t, d, fmt.Sprintf("DELETE FROM audit WHERE sequence > %d", cut))
	reopen()
	var broken *audit.Broken
	if _, err = (auditor{d}).Verify(t.Context()); !errors.As(err, &broken) || broken.Sequence != cut+1 || !strings.Contains(broken.Reason, "machine "+vmID) {
		t.Fatal(err)
	}
	d.happen(t, 9) // the chain is longer now than what the machine has seen
	if _, err = (auditor{d}).Verify(t.Context()); !errors.As(err, &broken) || broken.Sequence != seen.Head.Sequence || !strings.Contains(broken.Reason, "was replaced: machine "+vmID) {
		t.Fatal(err)
	}
	// The same in an export: the proof that the server signs now does not help.
	p, err := auditor{d}.Proof(t.Context())
	if err != nil || len(p.Heads) != 1 || len(p.Witnesses) != 1 {
		t.Fatal(p, err)
	}
	p.Witnesses = nil // even when the server hides what it was told
	var file bytes.Buffer
	records, _, err := auditor{d}.Follow(t.Context(), audit.Filter{}, audit.Cursor{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		line, err := proof.RecordLine(r)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(line)
	}
	line, err := proof.ProofLine(p)
	if err != nil {
		t.Fatal(err)
	}
	file.Write(line)
	open := func(m protocol.SignedManifest) (protocol.Manifest, error) { return m.Open(d.trust.pin) }
	if r, err := proof.Check(bytes.NewReader(file.Bytes()), open, nil); err != nil || !r.Signed || r.Records != int64(len(records)) {
		t.Fatal(r, err)
	}
	if _, err = proof.Check(bytes.NewReader(file.Bytes()), open, []proof.Witness{{MachineID: vmID, Witnessed: seen}}); !errors.As(err, &broken) {
		t.Fatal(err)
	}
}

// A machine's word counts only with the audit key's signature, and costs at most
// a row an hour.
func TestAudit_WitnessesAreVerifiedAndRare(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	d := rig(t, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	d.enrol(t)
	d.happen(t, 3)
	good := d.seen(t)
	forged := good
	forged.Head.Sequence = 99
	report := func(w protocol.Witnessed) int {
		t.Helper()
		mu.Lock()
		now = now.Add(10 * time.Minute)
		mu.Unlock()
		if err := d.machines.Report(t.Context(), audit.By{Principal: vmID, Type: audit.Machine, CorrelationID: correlationID, At: d.cfg.Now()}, protocol.Report{Capability: 1, Witnessed: []protocol.Witnessed{w}}); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
			return tx.EachWitness(func(string, protocol.Witnessed) error { n++; return nil })
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := report(forged); n != 0 {
		t.Fatal("a head that the audit key did not sign was kept")
	}
	if n := report(good); n != 1 {
		t.Fatal(n)
	}
	for i := range 7 {
		d.happen(t, 1)
		if n := report(d.seen(t)); n != 1+i/5 {
			t.Fatalf("%d heads after %d minutes", n, 10*(i+1))
		}
	}
}

// Who follows gets each record once, in order, while others write.
func TestAudit_FollowWhileOthersWrite(t *testing.T) {
	d := rig(t, time.Now)
	heads, err := auditor{d}.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cursor := audit.Cursor{}
	for _, h := range heads {
		cursor[h.Writer] = h.Sequence
	}
	next := heads[0].Sequence
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() { d.happen(t, 50) })
	}
	for got := 0; got < 200; {
		records, _, err := auditor{d}.Follow(t.Context(), audit.Filter{Type: "group.create"}, cursor, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if next++; r.Sequence != next {
				t.Fatalf("%d instead of %d", r.Sequence, next)
			}
			got++
		}
	}
	writers.Wait()
	if records, caughtUp, err := (auditor{d}).Follow(t.Context(), audit.Filter{}, cursor, 0); err != nil || !caughtUp || len(records) != 0 {
		t.Fatal(records, caughtUp, err)
	}
}
