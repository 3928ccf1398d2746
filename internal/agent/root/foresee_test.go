package root

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// A disk that takes nothing keeps nobody in: what a snapshot takes away counts,
// what it gives does not.
func TestForesee_FullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.SnapshotDocument)
		ends   []string
		says   string // to alice, who logs in
	}{
		"role removed":     {func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None }, []string{"all 1879048200"}, "Azure role not assigned"},
		"deleted":          {func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] }, []string{"all 1879048200"}, "not an account"},
		"sessions revoked": {func(d *protocol.SnapshotDocument) { d.Principals[0].NotBefore = d.IssuedAt.AddDate(1, 0, 0) }, []string{"all 1879048200"}, "were ended"},
		"identity removed": {func(d *protocol.SnapshotDocument) { d.Identity = false }, []string{"all 1879048200"}, "managed identity"},
		"serial revoked":   {func(d *protocol.SnapshotDocument) { d.Revoked = []string{"1"} }, nil, "was revoked"},
		"role given":       {func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.Admin }, nil, ""},
	} {
		r := newRig(t)
		r.mustDeliver(nil)
		r.present = []uint32{aliceUID}
		// durable.Write cannot make its new file.
		if err := os.MkdirAll(r.root+heldPath+".new/full", 0o700); err != nil {
			t.Fatal(err)
		}
		if r.deliver(c.change) == nil {
			t.Fatalf("%s: the snapshot was kept", name)
		}
		r.look(t.Context())
		if !slices.Equal(r.ends, c.ends) {
			t.Errorf("%s: ended %v", name, r.ends)
		}
		if a := r.login(alice, aliceID); a.Allow != (c.says == "") || !strings.Contains(a.Text, c.says) {
			t.Errorf("%s: %+v", name, a)
		}
		if a := r.account("sudo", alice, shim.Peer{PID: 1}); a.Allow {
			t.Errorf("%s: a role that is not kept was believed", name)
		}
		if err := os.RemoveAll(r.root + heldPath + ".new"); err != nil {
			t.Fatal(err)
		}
		r.mustDeliver(nil)
		if a := r.account("sudo", alice, shim.Peer{PID: 1}); a.Allow != (name == "role given") {
			t.Errorf("%s: when it was kept: %+v", name, a)
		}
	}
}

// A manifest that finds no room on the disk withdraws a user CA all the same: who
// is here ends, once, and nobody comes in by the key, also when a later document
// finds room.
func TestForesee_ManifestOnAFullDisk(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	full := r.root + pin.ManifestPath + ".new/full"
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	m := r.renewed(listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.Compromised, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))
	for range 3 {
		if r.Manifest(m) == nil {
			t.Fatal("the manifest was kept")
		}
		r.look(t.Context())
	}
	if !slices.Equal(r.ends, []string{"all 1879048200"}) {
		t.Fatalf("ended %v", r.ends)
	}
	if got := r.Status().Manifest; got == nil || string(got.Envelope.Payload) == string(m.Envelope.Payload) {
		t.Error("what the manifest gives was believed before it was kept")
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("a certificate of the withdrawn key opens the machine")
	}
	r.mustDeliver(nil)
	r.restart()
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("the next snapshot brought the withdrawn key back")
	}
	if err := os.RemoveAll(full); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.root + pin.ManifestPath + ".new"); err != nil {
		t.Fatal(err)
	}
	if err := r.Manifest(m); err != nil {
		t.Fatal(err)
	}
	r.look(t.Context())
	if len(r.ends) != 1 {
		t.Errorf("ended again: %v", r.ends)
	}
}

// A snapshot key that is withdrawn opens nothing while the manifest is being kept,
// nor what it has signed and could not be kept.
func TestForesee_WithdrawnSnapshotKey(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	for _, path := range []string{pin.ManifestPath, heldPath} {
		if err := os.MkdirAll(r.root+path+".new/full", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if r.deliver(nil) == nil {
		t.Fatal("the snapshot was kept")
	}
	if r.Manifest(r.renewed(listed(t, protocol.UserCA, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Compromised, r.snapshotKey))) == nil {
		t.Fatal("the manifest was kept")
	}
	r.look(t.Context())
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("a snapshot of a withdrawn key lets in")
	}
	if r.deliver(nil) == nil {
		t.Error("a snapshot of a withdrawn key was taken")
	}
}
