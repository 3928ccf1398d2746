package machine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// revoke is what a domain does: a change and its record in one transaction.
func (r *rig) revokeUser(id string) {
	r.t.Helper()
	if err := r.store.Write(r.t.Context(), func(tx *store.Tx) error {
		if err := tx.PutUser(directory.User{ID: id, UPN: id + "@corp.example", UID: 1879048200, NotBefore: r.clock()}); err != nil {
			return err
		}
		return tx.Audit(r.by("admin"), audit.Event{Type: "user.revokeSessions", Outcome: audit.Success, Target: id})
	}); err != nil {
		r.t.Fatal(err)
	}
	position := r.store.Position()
	r.mu.Lock()
	r.position = position - 1
	r.mu.Unlock()
	r.Touch(machine.Touch{Position: position, Account: true})
	r.change(nil)
}

// waits returns who has not acknowledged each revocation, newest first.
func (r *rig) waits() (list [][]string) {
	r.t.Helper()
	all, err := r.Revocations(r.t.Context(), machine.RevocationPlace{}, time.Time{}, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range all {
		list = append(list, p.Machines)
	}
	return list
}

// A machine has acknowledged a revocation when it asks for more and holds
// everything: not when it is sent, and not when another one does.
func TestRevocations_AcknowledgedByWhoHoldsThem(t *testing.T) {
	r := newRig(t)
	r.joined()
	if _, err := r.Join(t.Context(), audit.By{}, join(r.mint(otherID)), "other"); err != nil {
		t.Fatal(err)
	}
	held := map[string]*protocol.PollRequest{machineID: {Capability: 3, ManifestEpoch: 1, Manifest: 1}, otherID: {Capability: 3, ManifestEpoch: 1, Manifest: 1}}
	poll := func(id string) {
		t.Helper()
		q := held[id]
		a, err := r.Poll(t.Context(), r.by(id), *q)
		if err != nil {
			t.Fatal(err)
		}
		if a.Accounts != nil {
			q.AccountsEpoch, q.Accounts = 1, r.Position()
		}
		if a.Snapshot != nil {
			doc := r.opened(*a.Snapshot)
			q.Epoch, q.Version, q.IssuedAt = doc.Epoch, doc.Version, doc.IssuedAt
		}
	}
	r.revokeUser("alice")
	both := []string{machineID, otherID}
	if got := r.waits(); len(got) != 1 || !slices.Equal(got[0], both) {
		t.Fatalf("nobody has asked: %v", got)
	}
	poll(machineID)
	if got := r.waits(); !slices.Equal(got[0], both) {
		t.Fatalf("acknowledged by the answer that carries it: %v", got)
	}
	poll(machineID)
	if got := r.waits(); !slices.Equal(got[0], []string{otherID}) {
		t.Fatalf("held and asked for more: %v", got)
	}
	r.revokeUser("alice")
	if got := r.waits(); len(got) != 2 || !slices.Equal(got[0], both) || !slices.Equal(got[1], []string{otherID}) {
		t.Fatalf("%v", got)
	}
	for range 2 {
		poll(machineID)
		poll(otherID)
	}
	if got := r.waits(); len(got[0]) != 0 || len(got[1]) != 0 {
		t.Fatalf("%v", got)
	}
	// What another server was told counts, after a start too.
	told := r.Presences(time.Time{})
	again := newRig(t)
	again.Service = machine.New(machine.Config{Machines: r.index, Feed: r, Directory: r, Roles: r, Resources: r, Keys: r, Now: r.clock, Read: func(_ context.Context, f func(machine.Tx) error) error {
		return r.store.Read(t.Context(), func(tx *store.Tx) error { return f(tx) })
	}})
	if got := again.waits(); !slices.Equal(got[0], both) {
		t.Fatalf("%v", got)
	}
	again.Heard(told)
	if got := again.waits(); len(got[0]) != 0 {
		t.Fatalf("%v", got)
	}
}

func (r *rig) holds() error {
	err := r.heldBack
	if r.heldOnce {
		r.heldBack, r.heldOnce = nil, false
	}
	return err
}

// A machine that was told nothing has acknowledged nothing, also when it could have
// been told a moment later.
func TestRevocations_HeldBackMeanwhile(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.revokeUser("alice")
	r.heldBack, r.heldOnce = errors.New("not now"), true
	a, err := r.Poll(t.Context(), r.by(machineID), protocol.PollRequest{Capability: 3, ManifestEpoch: 1, Manifest: 1})
	if err != nil || a.Snapshot != nil || a.Accounts != nil {
		t.Fatalf("%+v %v", a, err)
	}
	if got := r.waits(); len(got) != 1 || !slices.Equal(got[0], []string{machineID}) {
		t.Fatalf("acknowledged what it was not told: %v", got)
	}
}

// TestRevokes: what takes something away is one, and what gives is none.
func TestRevokes(t *testing.T) {
	const vm = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
	const set = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachineScaleSets/set1"
	for _, c := range []struct {
		kind, target string
		detail       map[string]string
		reach        string
	}{
		{"user.delete", "U", nil, "all"}, {"user.update", "u", map[string]string{"properties": "displayName accountEnabled=false"}, "all"},
		{"user.update", "u", map[string]string{"properties": "accountEnabled=true"}, ""}, {"servicePrincipal.update", "u", map[string]string{"accountEnabled": "true"}, ""},
		{"group.removeMember", "G", map[string]string{"member": "u"}, "group:g"}, {"roleAssignment.delete", vm, nil, "scope:" + vm}, {"roleAssignment.write", vm, nil, ""},
		{"resource.delete", vm + "/extensions/AADSSHLoginForLinux", nil, "scope:" + vm}, {"resource.write", vm, map[string]string{"type": "x", "created": "false"}, "scope:" + vm},
		{"resource.write", vm, map[string]string{"created": "true"}, ""}, {"resource.write", "/subscriptions/s/resourceGroups/rg", nil, ""},
		{"resource.move", vm, map[string]string{"from": "old"}, "scope:" + vm}, {"resource.move", vm + "/extensions/x", nil, ""}, {"resource.move", "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/disks/d", nil, ""},
		{"resource.write", set, map[string]string{"created": "false"}, "scope:" + set}, {"resource.delete", set + "/virtualMachines/3", nil, "scope:" + set + "/virtualMachines/3"},
		{"resource.delete", set + "/virtualMachines/3/extensions/x", nil, "scope:" + set + "/virtualMachines/3"}, {"resource.move", set, map[string]string{"from": "old"}, "scope:" + set},
		{"subscription.move", "/subscriptions/s", nil, "scope:/subscriptions/s"}, {"certificate.revoke", "u", nil, "all"}, {"machineSession.end", vm, map[string]string{"machineId": "m"}, "machine:m"}, {"certificate.issue", "u", nil, ""},
	} {
		reach, _, ok := machine.Revokes(audit.Event{Type: c.kind, Outcome: audit.Success, Target: c.target, Detail: c.detail})
		if ok != (c.reach != "") || ok && reach != c.reach {
			t.Errorf("%s %s %v: %q %v", c.kind, c.target, c.detail, reach, ok)
		}
		if _, _, ok := machine.Revokes(audit.Event{Type: c.kind, Outcome: audit.Denied, Target: c.target, Detail: c.detail}); ok {
			t.Errorf("%s counts although it was refused", c.kind)
		}
	}
}
