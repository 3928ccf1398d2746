package root

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// audited makes the deployment list an audit key, and returns what shows the
// machine a head of its log.
func audited(t *testing.T, r *rig) (show func(sequence int64, hash string), key ed25519.PrivateKey) {
	t.Helper()
	key = newKey(t)
	r.manifest.Version++
	r.manifest.Keys = append(r.manifest.Keys, listed(t, protocol.Audit, key))
	if err := r.Manifest(r.signManifest(r.manifest)); err != nil {
		t.Fatal(err)
	}
	return func(sequence int64, hash string) {
		t.Helper()
		h, err := protocol.SignHead(rand.Reader, key, audit.Head{Writer: "server-1", Sequence: sequence, Hash: []byte(hash)})
		if err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(time.Minute)
		if err := r.deliver(func(d *protocol.SnapshotDocument) {
			d.AuditHead, d.AuditKeyID, d.AuditSig = &h.Head, h.KeyID, h.Signature
		}); err != nil {
			t.Fatal(err)
		}
	}, key
}

func (r *rig) alarms() (list []string) {
	answer, err := r.Control(r.t.Context(), true, control.Request{Op: control.OpEvents, Generation: -1})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range answer.Events {
		if e.Type == "auditHead.fail" {
			list = append(list, e.Detail["reason"])
		}
	}
	return list
}

func (r *rig) witnessed() (list []int64) {
	for _, h := range r.Status().Witnessed {
		list = append(list, h.Head.Sequence)
	}
	return list
}

// A head that goes back or contradicts one that was seen is told, also after a
// restart, and does not take the place of what was seen. The snapshot counts all
// the same: nobody is locked out by a fault of the log.
func TestWitness_TellsARewrittenLog(t *testing.T) {
	r := newRig(t)
	show, _ := audited(t, r)
	show(10, "ten")
	show(10, "ten")
	show(20, "twenty")
	if got := r.witnessed(); !slices.Equal(got, []int64{10, 20}) || len(r.alarms()) != 0 || r.Status().AuditAlarm != "" {
		t.Fatal(got, r.alarms())
	}
	version := r.doc.Version
	show(15, "fifteen")
	show(15, "fifteen") // once is enough
	if got := r.alarms(); len(got) != 1 || !strings.Contains(got[0], "is behind 20") || r.Status().Version != version+2 {
		t.Fatal(got, r.Status().Version)
	}
	r.restart()
	show(20, "other")
	show(10, "another")
	if got := r.alarms(); len(got) != 3 || !strings.Contains(got[1], "rewritten") || !strings.Contains(got[2], "rewritten") {
		t.Fatal(got)
	}
	if got := r.witnessed(); !slices.Equal(got, []int64{10, 20}) || !strings.Contains(r.Status().AuditAlarm, "rewritten") {
		t.Fatal(got, r.Status().AuditAlarm)
	}
	show(30, "thirty")
	if got := r.witnessed(); !slices.Equal(got, []int64{10, 20, 30}) || r.Status().AuditAlarm == "" {
		t.Fatal("an alarm is not forgotten because the log goes on", got)
	}
	// The manifest key has raised the epoch: restored from a backup.
	r.manifest.Epoch, r.manifest.Version = 2, 1
	if err := r.Manifest(r.signManifest(r.manifest)); err != nil {
		t.Fatal(err)
	}
	r.doc.Epoch = 2
	show(12, "twelve")
	if got := r.alarms(); len(got) != 3 || len(r.witnessed()) != 4 {
		t.Fatal(got)
	}
}

func TestWitness_RefusesWhatTheAuditKeyDidNotSign(t *testing.T) {
	r := newRig(t)
	show, key := audited(t, r)
	show(1, "one")
	for name, change := range map[string]func(*protocol.SnapshotDocument){
		"another key": func(d *protocol.SnapshotDocument) {
			h, _ := protocol.SignHead(rand.Reader, newKey(t), *d.AuditHead)
			d.AuditKeyID, d.AuditSig = h.KeyID, h.Signature
		},
		"the snapshot key": func(d *protocol.SnapshotDocument) {
			h, _ := protocol.SignHead(rand.Reader, r.snapshotKey, *d.AuditHead)
			d.AuditKeyID, d.AuditSig = h.KeyID, h.Signature
		},
		"another number": func(d *protocol.SnapshotDocument) { d.AuditHead.Sequence = 7 },
		"a writer that paints": func(d *protocol.SnapshotDocument) {
			h, _ := protocol.SignHead(rand.Reader, key, audit.Head{Writer: "\x1b[2J", Sequence: 3, Hash: []byte("x")})
			d.AuditHead, d.AuditKeyID, d.AuditSig = &h.Head, h.KeyID, h.Signature
		},
	} {
		before := r.doc
		head := *r.doc.AuditHead
		r.now = r.now.Add(time.Minute)
		if err := r.deliver(func(d *protocol.SnapshotDocument) { h := head; d.AuditHead = &h; change(d) }); err != nil {
			t.Fatal(name, err)
		}
		if got := r.witnessed(); !slices.Equal(got, []int64{1}) || !strings.Contains(r.Status().AuditAlarm, "is refused") {
			t.Errorf("%s: %v %v", name, got, r.alarms())
		}
		before.Version, before.IssuedAt = r.doc.Version, r.doc.IssuedAt
		r.doc = before
		r.doc.AuditHead = &head
	}
}

// What is kept does not grow without end and still reaches back to the first.
func TestWitness_KeepsAFewOverAllTime(t *testing.T) {
	r := newRig(t)
	show, _ := audited(t, r)
	for i := range int64(200) {
		show(i+1, "h")
	}
	got := r.witnessed()
	if len(got) > witnessKept || len(got) < witnessKept/2 || got[0] != 1 || got[len(got)-1] != 200 || got[len(got)-2] != 199 || !slices.IsSorted(got) {
		t.Fatal(got)
	}
	info, err := os.Stat(r.at(witnessPath))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
}
