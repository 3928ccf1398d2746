package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// A certificate that has ended is found by what the machines say of its session,
// also when another machine lies about its serial.
func TestCertificateBySerial_LyingMachineHidesNothing(t *testing.T) {
	const liar, honest, keyID, who = "00000000-0000-4000-8000-000000000001", "f0000000-0000-4000-8000-000000000001", "0aaaaaaa-0000-4000-8000-0000000000a1", "0aaaaaaa-0000-4000-8000-0000000000a2"
	now := time.Unix(1_800_000_000, 0).UTC()
	s := storetest.New(t, func() time.Time { return now })
	by := audit.By{Principal: who, Type: audit.User, CorrelationID: keyID, At: now}
	open := func(key string) machine.SessionList {
		return machine.SessionList{Digest: "d", Sessions: []protocol.Session{{ID: keyID, ObjectID: who, Since: now, Kind: protocol.SessionPTY, Serial: "77", KeyID: key}}}
	}
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.Audit(by, audit.Event{Type: "certificate.issue", Outcome: audit.Success, Target: who, Detail: map[string]string{"serial": "77", "keyId": keyID, "validBefore": now.Format(time.RFC3339)}}); err != nil {
			return err
		}
		if err := tx.PutSessions(liar, open("made up"), now); err != nil {
			return err
		}
		if _, found, err := tx.CertificateBySerial("77", "", now); found || err != nil {
			t.Errorf("a liar alone leads to it: %v", err)
		}
		return tx.PutSessions(honest, open(keyID), now)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		r, found, err := tx.CertificateBySerial("77", "", now)
		if !found || r.Principal != who {
			t.Errorf("%v %+v", found, r)
		}
		if err != nil {
			return err
		}
		// One who searches his own finds no other's, dead or alive.
		for principal, want := range map[string]bool{who: true, liar: false} {
			for _, after := range []time.Time{now, now.Add(-time.Hour)} {
				if _, found, err := tx.CertificateBySerial("77", principal, after); err != nil || found != want {
					t.Errorf("%s after %s: %v %v", principal, after, found, err)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Everything that is kept under a machine's id goes with the machine, whatever
// table comes; what a server heard of it a moment before is not stored again. The
// heads that it has seen stay: they are evidence.
func TestDropMachine_LeavesNothing(t *testing.T) {
	const gone, stays, vm = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/"
	now := time.Unix(1_800_000_000, 0).UTC()
	s := storetest.New(t, func() time.Time { return now })
	presence := []machine.Presence{{MachineID: gone, SeenAt: now}, {MachineID: stays, SeenAt: now}}
	session := protocol.Session{ID: gone, ObjectID: gone, Since: now, Kind: protocol.SessionPTY}
	must := func(errs ...error) error { return errors.Join(errs...) }
	rows := func() map[string]int {
		n := map[string]int{}
		if err := s.Dump(t.Context(), func(table string, columns []string, values []any) error {
			if at := slices.Index(columns, "machine_id"); at >= 0 && values[at] == gone || table == "machines" && values[0] == gone {
				n[table]++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	write := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := s.Write(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	write(func(tx *store.Tx) error {
		for i, id := range []string{gone, stays} {
			at, err := scope.Parse(vm + id)
			if err := must(err, tx.PutMachine(machine.Machine{ID: id, ResourceID: at, Thumbprint: id}), tx.PutJoinToken(machine.Token{Hash: id, MachineID: id, ResourceID: at, ExpiresAt: now.Add(time.Hour)}),
				tx.AcknowledgeManifest(id, 1, 1), tx.PutEventStream(id, machine.Stream{Thumbprint: id, Sequence: int64(i) + 1}), tx.PutSessions(id, machine.SessionList{Digest: "d", Sessions: []protocol.Session{session}}, now),
				tx.PutEnding(machine.Ending{MachineID: id, Session: session, By: id, At: now}), tx.PutWitness(id, protocol.Witnessed{SignedHead: protocol.SignedHead{Head: audit.Head{Writer: "w", Sequence: 1}}, Epoch: 1})); err != nil {
				return err
			}
			if _, err := tx.TakeMachineEvent(id, id, now); err != nil {
				return err
			}
			if err := tx.PutInventoryPart(id, "system", []byte("{}"), now); err != nil {
				return err
			}
		}
		return tx.PutPresences(presence)
	})
	before := rows()
	for _, table := range []string{"machines", "join_tokens", "machine_events", "machine_inventory", "machine_manifest", "machine_stream", "machine_session", "machine_session_list", "ended_session"} {
		if before[table] == 0 {
			t.Errorf("the test leaves no row in %s", table)
		}
	}
	write(func(tx *store.Tx) error { return must(tx.DropMachine(gone), tx.PutPresences(presence)) })
	after := rows()
	delete(after, "audit_witness")
	if len(after) > 0 {
		t.Errorf("left behind: %v", after)
	}
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		list, err := tx.Presences() // no copy has them, so Dump does not either
		if len(list) != 1 || list[0].MachineID != stays {
			t.Errorf("presence: %+v", list)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
