package root

import (
	"os"
	"slices"
	"strings"
	"testing"

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
