package root

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// damaged writes garbage over a kept file and starts the root part anew, which
// must start.
func (r *rig) damaged(path string) {
	r.t.Helper()
	if err := os.WriteFile(r.root+path, []byte(`{"version":`), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.restart()
}

// refusesForDamage: ours read a sentence, the status names the file, the server
// hears of it.
func (r *rig) refusesForDamage(path string) {
	r.t.Helper()
	if a := r.login(alice, aliceID); a.Allow {
		r.t.Errorf("%s: somebody is let in", path)
	}
	if a := r.account("su", alice, shim.Peer{PID: 100}); a.Allow || !strings.Contains(a.Text, "is damaged") {
		r.t.Errorf("%s: %+v", path, a)
	}
	if d := r.Status().Damage; len(d) != 1 || !strings.Contains(d[0], path) {
		r.t.Errorf("%s: the status says %q", path, d)
	}
	if !slices.ContainsFunc(r.reasons(), func(s string) bool { return strings.HasPrefix(s, "state.fail") && strings.Contains(s, path) }) {
		r.t.Errorf("%s: the server does not hear of it: %q", path, r.reasons())
	}
}

// Counters that cannot be read stop nothing: ours are refused until the server
// has sent a snapshot, which must be a fresh one, for nothing else tells an old one.
func TestNew_LostCountersAreMadeAnew(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	old := r.snapshot()
	r.now = r.now.Add(time.Hour)
	r.mustDeliver(nil)
	r.damaged(heldPath)
	r.refusesForDamage(heldPath)
	if _, err := os.Stat(r.root + heldPath + putAside); err != nil {
		t.Error(err)
	}
	if v := r.Status().Version; v != 0 {
		t.Errorf("the server is told that version %d is held", v)
	}
	for range 2 { // a restart forgets nothing
		if err := r.Snapshot(old); err == nil || !strings.Contains(err.Error(), "only a fresh snapshot") {
			t.Fatalf("a snapshot of an hour ago: %v", err)
		}
		r.restart()
		r.refusesForDamage(heldPath)
	}
	// Other files that are written meanwhile do not hide it, nor does a kill between
	// putting the file aside and the next.
	if err := r.save(r.Service.now().held); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.refusesForDamage(heldPath)
	if err := os.Remove(r.root + heldPath); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.refusesForDamage(heldPath)
	if err := r.deliver(func(d *protocol.SnapshotDocument) { r.now = r.now.Add(time.Minute) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := r.login(alice, aliceID); !a.Allow || r.Status().Damage != nil {
			t.Fatalf("%+v %q", a, r.Status().Damage)
		}
		r.restart()
	}
	if err := r.Snapshot(old); err == nil {
		t.Error("the counters are not kept again")
	}
	if !slices.ContainsFunc(r.reasons(), func(s string) bool { return strings.HasPrefix(s, "state.heal") }) {
		t.Errorf("%q", r.reasons())
	}
}

// Whose the names are cannot be made anew: ours are refused until somebody mends
// it, and what is there stays as it is.
func TestNew_LostNamesRefuse(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	whole := r.file(namesPath)
	r.damaged(namesPath)
	r.refusesForDamage(namesPath)
	r.mustDeliver(nil)
	r.refusesForDamage(namesPath)
	if got := r.file(namesPath); got != `{"version":` {
		t.Errorf("it was written over: %s", got)
	}
	if err := os.WriteFile(r.root+namesPath, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if a := r.login(alice, aliceID); !a.Allow || r.Status().Damage != nil {
		t.Errorf("%+v %q", a, r.Status().Damage)
	}
}

// A manifest that cannot be read, or one that is older than one that was seen, is
// not used; the next one must be newer than what was seen.
func TestNew_LostManifestRefuses(t *testing.T) {
	r := newRig(t)
	older := r.signManifest(r.manifest)
	newest := r.renewed(r.manifest.Keys...)
	if err := r.Manifest(newest); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(nil)
	r.damaged(pin.ManifestPath)
	r.refusesForDamage(pin.ManifestPath)
	if err := pin.SaveManifest(r.root, older); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.refusesForDamage(pin.ManifestPath)
	if err := r.Manifest(older); err == nil {
		t.Error("an older manifest was taken")
	}
	if err := r.Manifest(newest); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if a := r.login(alice, aliceID); !a.Allow || r.Status().Damage != nil {
		t.Errorf("%+v %q", a, r.Status().Damage)
	}
}

// What was witnessed of the audit log decides nothing, so its loss is an alarm
// and no more.
func TestNew_LostTestimonyIsAnAlarm(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.damaged(witnessPath)
	if a := r.login(alice, aliceID); !a.Allow || !strings.Contains(r.Status().AuditAlarm, "could not be read") {
		t.Errorf("%+v %q", a, r.Status().AuditAlarm)
	}
	r.restart()
	if !strings.Contains(r.Status().AuditAlarm, "could not be read") {
		t.Error("the alarm was forgotten")
	}
}
