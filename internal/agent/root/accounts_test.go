package root

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"sallyport/internal/agent/shim"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// table signs accounts with the rig's snapshot key.
func (r *rig) table(change func(*protocol.AccountsDocument)) protocol.Envelope {
	r.t.Helper()
	d := protocol.AccountsDocument{Tenant: tenant, Epoch: 1, Version: 20, Changed: []protocol.Account{
		{ObjectID: aliceID, LoginName: alice, UID: aliceUID, Name: "Alice"}, {ObjectID: bobID, LoginName: bob, UID: bobUID, Name: "Bob"}}}
	if change != nil {
		change(&d)
	}
	payload, err := json.Marshal(d)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, r.snapshotKey, protocol.TypeAccounts, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// changes continues version 20 with one change.
func changes(version int64, change func(*protocol.AccountsDocument)) func(*protocol.AccountsDocument) {
	return func(d *protocol.AccountsDocument) {
		d.From, d.Version, d.Changed = 20, version, nil
		change(d)
	}
}

// apart turns the rig's snapshot into one that has grants and demands accounts.
func apart(d *protocol.SnapshotDocument) {
	d.Principals, d.Accounts = nil, 20
	d.Grants = []protocol.Grant{{ObjectID: aliceID, Access: protocol.Login}, {ObjectID: bobID, Access: protocol.Admin}}
}

func (r *rig) takes(e protocol.Envelope) {
	r.t.Helper()
	if err := r.Accounts(e); err != nil {
		r.t.Fatal(err)
	}
	r.act()
}

// TestAccounts_TheSameAnswers: a change of an account reaches the next login and
// the sessions without a new snapshot.
func TestAccounts_TheSameAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.AccountsDocument)
		reason string
		ended  int
	}{
		"nothing for alice": {func(d *protocol.AccountsDocument) {
			d.Changed = []protocol.Account{{ObjectID: bobID, LoginName: bob, UID: bobUID}}
		}, "", 0},
		"disabled": {func(d *protocol.AccountsDocument) {
			d.Changed = []protocol.Account{{ObjectID: aliceID, LoginName: alice, UID: aliceUID, Disabled: true}}
		}, "disabled", 0},
		"sessions ended": {func(d *protocol.AccountsDocument) {
			d.Changed = []protocol.Account{{ObjectID: aliceID, LoginName: alice, UID: aliceUID, NotBefore: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}}
		}, "not-before", 1},
		"deleted": {func(d *protocol.AccountsDocument) { d.Removed = []string{aliceID} }, "unknown", 0},
		"another object under the name": {func(d *protocol.AccountsDocument) {
			d.Removed = []string{aliceID}
			d.Changed = []protocol.Account{{ObjectID: machineID, LoginName: alice, UID: aliceUID + 9}}
		}, "home-of-another", 0},
	} {
		r := newRig(t)
		r.takes(r.table(nil))
		r.mustDeliver(apart)
		if a := r.login(alice, aliceID); !a.Allow {
			t.Fatalf("%s: %+v", name, a)
		}
		r.reasons()
		if err := r.Accounts(r.table(changes(21, c.change))); err != nil {
			t.Fatal(err)
		}
		if got := len(r.Service.now().held.Endings); got != c.ended {
			t.Errorf("%s: %d endings", name, got)
		}
		id := aliceID
		if c.reason == "home-of-another" {
			id = machineID
		}
		a := r.login(alice, id)
		if got := r.reasons(); a.Allow != (c.reason == "") || c.reason != "" && c.reason != "unknown" && got[len(got)-1] != "login.deny "+c.reason {
			t.Errorf("%s: %+v %v", name, a, got)
		}
		st := r.Status()
		if st.Accounts != 21 || st.AccountsEpoch != 1 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestAccounts_OnlyWhatContinues: what is not signed for this, is older, or does
// not begin where the held table ends is refused, also after a restart.
func TestAccounts_OnlyWhatContinues(t *testing.T) {
	r := newRig(t)
	r.takes(r.table(nil))
	r.mustDeliver(apart)
	payload, _ := json.Marshal(protocol.AccountsDocument{Tenant: tenant, Epoch: 1, Version: 99})
	foreign, _ := protocol.Sign(rand.Reader, r.userCA, protocol.TypeAccounts, payload)
	passing, _ := protocol.Sign(rand.Reader, r.snapshotKey, protocol.TypeSnapshot, payload)
	check := func() {
		t.Helper()
		for name, e := range map[string]protocol.Envelope{
			"a key of another purpose": foreign, "a snapshot": passing,
			"another tenant": r.table(func(d *protocol.AccountsDocument) { d.Tenant = bobID }),
			"older":          r.table(func(d *protocol.AccountsDocument) { d.Version = 19 }),
			"lower epoch":    r.table(func(d *protocol.AccountsDocument) { d.Epoch, d.Version = 0, 99 }),
			"unknown epoch":  r.table(func(d *protocol.AccountsDocument) { d.Epoch = 2 }),
			"a gap":          r.table(changes(30, func(d *protocol.AccountsDocument) { d.From = 21 })),
			"an overlap":     r.table(changes(30, func(d *protocol.AccountsDocument) { d.From = 19 })),
			"backwards":      r.table(changes(19, func(*protocol.AccountsDocument) {})),
		} {
			if err := r.Accounts(e); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	check()
	r.restart()
	if a := r.login(alice, aliceID); !a.Allow {
		t.Errorf("after a restart: %+v", a)
	}
	check()
}

// TestAccounts_CannotBeWithheld: who carries snapshots but keeps accounts back,
// or puts an old table in their place, does not keep grants fresh.
func TestAccounts_CannotBeWithheld(t *testing.T) {
	r := newRig(t)
	if err := r.deliver(apart); !fault.Is(err, fault.Forbidden) {
		t.Errorf("without accounts: %v", err)
	}
	r.takes(r.table(nil))
	old, err := os.ReadFile(r.root + accountsPath)
	if err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(apart)
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Accounts = 21 }); !fault.Is(err, fault.Forbidden) {
		t.Errorf("with older accounts: %v", err)
	}
	r.takes(r.table(changes(21, func(d *protocol.AccountsDocument) { d.Removed = []string{bobID} })))
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Accounts = 21 }); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.root+accountsPath, old, 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if st := r.Status(); st.Accounts != 0 || st.Version != 0 {
		t.Errorf("an older table is used: %+v", st)
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("somebody was let in by an older table")
	}
	r.takes(r.table(func(d *protocol.AccountsDocument) { d.Version = 21 }))
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Accounts = 21 }); err != nil {
		t.Errorf("a whole table mends it: %v", err)
	}
}

// FuzzAccounts: whatever the server's key signed, nobody becomes an account that
// is not one of ours.
func FuzzAccounts(f *testing.F) {
	f.Add([]byte(`[{"id":"` + aliceID + `","login":"` + alice + `","uid":1879048200,"notBefore":"2026-11-22T12:00:00Z"}]`))
	f.Add([]byte(`[{"login":"root","uid":0}]`))
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	f.Fuzz(func(t *testing.T, list []byte) {
		payload := append(append([]byte(`{"tenant":"t","epoch":1,"from":0,"version":5,"changed":`), list...), '}')
		e, err := protocol.Sign(rand.Reader, key, protocol.TypeAccounts, payload)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := protocol.OpenAccounts(e, []crypto.PublicKey{key.Public()})
		if err != nil {
			return
		}
		tab := table{Epoch: 1, Version: 5, Accounts: map[string]protocol.Account{}}
		for _, a := range doc.Changed {
			tab.Accounts[a.ObjectID] = a
		}
		v := view{table: tab}.with(protocol.SnapshotDocument{Domains: []string{"corp.example"}, Accounts: 5, Grants: []protocol.Grant{{ObjectID: aliceID, Access: protocol.Admin}}}, nil)
		for name, p := range v.people {
			if p.UID < shim.IDMin || p.UID > shim.UIDMax || !shim.Ours(name, []string{"corp.example"}) || p.Access != protocol.None && p.ObjectID != aliceID {
				t.Fatalf("%+v", p)
			}
		}
	})
}

// TestAccounts_EndingsAreKeptFirst: a kill between the two files loses no ending.
// It would come when the table is written, and that fails here.
func TestAccounts_EndingsAreKeptFirst(t *testing.T) {
	r := newRig(t)
	r.takes(r.table(nil))
	r.mustDeliver(apart)
	if err := os.MkdirAll(r.root+accountsPath+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	notBefore := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := r.Accounts(r.table(changes(21, func(d *protocol.AccountsDocument) {
		d.Changed = []protocol.Account{{ObjectID: aliceID, LoginName: alice, UID: aliceUID, NotBefore: notBefore}}
	}))); err == nil {
		t.Fatal("the table was kept")
	}
	r.restart()
	if v := r.Service.now(); len(v.held.Endings) != 1 || v.held.AccountsVersion != 20 || v.doc == nil {
		t.Fatalf("%+v", v.held)
	}
	r.present = []uint32{aliceUID}
	if r.look(t.Context()); !slices.Equal(r.ends, []string{"all 1879048200"}) {
		t.Fatalf("%v", r.ends)
	}
}
