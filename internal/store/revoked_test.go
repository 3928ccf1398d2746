package store_test

import (
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
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
		if _, found, err := tx.CertificateBySerial("77", now); found || err != nil {
			t.Errorf("a liar alone leads to it: %v", err)
		}
		return tx.PutSessions(honest, open(keyID), now)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		r, found, err := tx.CertificateBySerial("77", now)
		if !found || r.Principal != who {
			t.Errorf("%v %+v", found, r)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
