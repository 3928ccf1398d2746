package machine_test

import (
	"crypto"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// A table of accounts that is made before the index shows a stored change does
// not pass for one that has it: the change is told when the index shows it.
func TestPoll_AccountsNeverClaimWhatTheIndexLacks(t *testing.T) {
	r := newRig(t)
	r.joined()
	if err := r.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutUser(directory.User{ID: "alice", UPN: "alice@corp.example", UID: 1879048200})
	}); err != nil {
		t.Fatal(err)
	}
	stored := r.store.Position()
	r.position = stored - 1 // alice is disabled in the store and not yet in the index
	q := protocol.PollRequest{Capability: protocol.Capability, ManifestEpoch: 1, Manifest: 1}
	ask := func() (d protocol.AccountsDocument) {
		t.Helper()
		a, err := r.Poll(t.Context(), r.by(machineID), q)
		if err != nil || a.Accounts == nil {
			t.Fatalf("no accounts: %+v %v", a, err)
		}
		if d, err = protocol.OpenAccounts(*a.Accounts, []crypto.PublicKey{r.snapshotKey.Public()}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := ask()
	if d.Version >= stored || d.Changed[0].Disabled {
		t.Fatalf("%+v", d)
	}
	r.users[0].Enabled = false
	r.Touch(machine.Touch{Position: stored, Account: true})
	r.change(nil)
	q.AccountsEpoch, q.Accounts = 1, d.Version
	if d = ask(); d.Version != stored || len(d.Changed) != 1 || !d.Changed[0].Disabled {
		t.Fatalf("the change is lost: %+v", d)
	}
	q.Accounts = stored + 1
	if _, err := r.Poll(t.Context(), r.by(machineID), q); fault.As(err).Code != "SnapshotFromTheFuture" {
		t.Fatalf("accounts of a server that knew more: %v", err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "SnapshotFromTheFuture")
	}
}
