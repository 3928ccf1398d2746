package root

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/session"
	"sallyport/internal/machine/protocol"
)

// withdraw delivers a manifest that withdraws the user CA and lists another one.
func (r *rig) withdraw() {
	r.t.Helper()
	gone := listed(r.t, protocol.Compromised, r.userCA)
	r.userCA = newKey(r.t)
	if err := r.Manifest(r.renewed(listed(r.t, protocol.UserCA, r.userCA), gone, listed(r.t, protocol.HostCA, r.hostCA), listed(r.t, protocol.Snapshot, r.snapshotKey))); err != nil {
		r.t.Fatal(err)
	}
}

// The end of everybody is that of those who are here: whoever logs in days later
// keeps his session.
func TestEnding_OfEverybodyWhereNobodyIs(t *testing.T) {
	for name, restart := range map[string]func(*rig){"": func(*rig) {}, "restarted": (*rig).restart} {
		r := newRig(t)
		r.mustDeliver(nil)
		r.withdraw()
		restart(r)
		r.look(t.Context())
		restart(r)
		r.enter(100)
		r.look(t.Context())
		if len(r.ends) > 0 || len(r.Service.now().held.Endings) > 0 {
			t.Errorf("%s: ended %v, kept %v", name, r.ends, r.Service.now().held.Endings)
		}
	}
}

// A process that no signal ends keeps the end of its own person, and of nobody else.
func TestEnding_OfEverybodyButOne(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present, r.stays = []uint32{aliceUID, bobUID}, map[uint32]bool{bobUID: true}
	r.withdraw()
	if r.look(t.Context()); !slices.Equal(r.ends, []string{"all 1879048200", "all 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
	for range 2 {
		r.ends = nil
		if r.look(t.Context()); !slices.Equal(r.ends, []string{"all 1879048201"}) {
			t.Errorf("%v", r.ends)
		}
		r.restart()
	}
	events, _ := r.events.Take(nil, 0)
	if e := events[len(events)-1]; e.Detail[protocol.FactCause] != protocol.CauseKey || e.ObjectID != bobID {
		t.Errorf("%+v", e)
	}
	r.stays, r.ends = nil, nil
	for range 2 {
		r.look(t.Context())
	}
	if len(r.ends) != 1 || len(r.Service.now().held.Endings) > 0 {
		t.Errorf("ended %v, kept %v", r.ends, r.Service.now().held.Endings)
	}
}

// Who is an administrator again keeps his sudo, although a process that no signal
// ends is left of the time before.
func TestEnding_APromotionTakesItBack(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present, r.stays = []uint32{bobUID}, map[uint32]bool{bobUID: true}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login })
	if !slices.Equal(r.ends, []string{"elevated 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
	r.ends = nil
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Admin })
	r.restart()
	if r.look(t.Context()); len(r.ends) > 0 {
		t.Fatalf("%v", r.ends)
	}
}

// An ending that comes while an equal one is carried out is another one.
func TestEnding_IsItself(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{bobUID}
	r.during = func() {
		for _, access := range []protocol.Access{protocol.Admin, protocol.Login} {
			if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = access }); err != nil {
				t.Error(err)
			}
		}
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login })
	r.look(t.Context())
	if want := []string{"elevated 1879048201", "elevated 1879048201"}; !slices.Equal(r.ends, want) {
		t.Fatalf("%v", r.ends)
	}
}

// What has been ended is not ended again while its document cannot be kept.
func TestEnding_OnceOnAFullDisk(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{bobUID}
	if err := os.MkdirAll(r.root+heldPath+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if r.deliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login }) == nil {
		t.Fatal("the snapshot was kept")
	}
	for range 3 {
		r.look(t.Context())
	}
	if !slices.Equal(r.ends, []string{"elevated 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
}

// Nobody's end waits for a delivery that waits for the disk, and none is lost by that.
func TestEnding_WaitsForNoDelivery(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	r.now = r.now.Add(time.Second)
	if err := r.deliver(func(d *protocol.SnapshotDocument) {
		d.Principals[0].NotBefore, d.Principals[1].Access = r.now, protocol.Login // bob is not here
	}); err != nil {
		t.Fatal(err)
	}
	r.Service.deliver.Lock()
	looked := make(chan time.Duration)
	for range 2 {
		go func() { looked <- r.look(t.Context()) }()
		select {
		case next := <-looked:
			if next > again || !slices.Equal(r.ends, []string{"all 1879048200"}) || len(r.Service.now().held.Endings) != 2 {
				t.Errorf("ended %v, next look after %s", r.ends, next)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it waits")
		}
	}
	r.Service.deliver.Unlock()
	if r.look(t.Context()); len(r.ends) != 1 || len(r.Service.now().held.Endings) > 0 {
		t.Errorf("ended %v, kept %v", r.ends, r.Service.now().held.Endings)
	}
}

// What was not carried out yet outlasts the next snapshot.
func TestEnding_OutlastsTheNextSnapshot(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{bobUID}
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login }); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(nil)
	if !slices.Equal(r.ends, []string{"elevated 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
}

// noteLogin notes a login of alice, as it is when sshd opens its session.
func (r *rig) noteLogin(pid int, audit string) session.Origin {
	r.t.Helper()
	o := session.Origin{PID: pid, Start: uint64(pid), Audit: audit}
	if err := r.register.Add(session.Login{Origin: o, ID: fmt.Sprint(pid), ObjectID: aliceID, LoginName: alice, UID: aliceUID, Service: "sshd", Opened: r.elapsed, Issued: r.now}); err != nil {
		r.t.Fatal(err)
	}
	if _, ok := r.processes[pid]; !ok {
		r.processes[pid] = proc.Process{PID: pid, PPID: 1, Start: uint64(pid), State: 'S', UIDs: [4]uint32{aliceUID, aliceUID, aliceUID, aliceUID}, LoginUID: aliceUID, Audit: audit}
	}
	return o
}

// Who is let in while everything of him is ended was judged by what is newer, and
// stays. He was not swept then, so that he is looked at again when he loses his right.
func TestEnding_SparesWhoIsLetInMeanwhile(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	r.noteLogin(100, "1")
	var fresh session.Origin
	r.during = func() { fresh = r.noteLogin(200, "2") }
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None })
	if got := r.targets[0].Noted(); !slices.Equal(got, []session.Origin{fresh}) || r.targets[0].Whole() || r.swept[aliceUID] {
		t.Fatalf("spared %v, swept %v", got, r.swept)
	}
	// Still without a right, nobody who was noted before is spared.
	r.look(t.Context())
	if got := r.targets[1].Noted(); len(got) > 0 || !r.swept[aliceUID] {
		t.Fatalf("spared %v, swept %v", got, r.swept)
	}
}

// An ending that goes on because something is left ends no login that came after
// it, until that one loses its right itself.
func TestEnding_SparesWhoCameAfterIt(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present, r.stays = []uint32{aliceUID}, map[uint32]bool{aliceUID: true}
	r.noteLogin(100, "1")
	r.withdraw()
	r.look(t.Context())
	fresh := r.noteLogin(200, "2")
	r.targets = nil
	r.look(t.Context())
	if len(r.targets) != 1 || !slices.Equal(r.targets[0].Noted(), []session.Origin{fresh}) {
		t.Fatalf("%+v", r.targets)
	}
	r.targets = nil
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.LoginEnabled = false })
	if len(r.targets) != 1 || !r.targets[0].Whole() {
		t.Fatalf("%+v", r.targets)
	}
}

// A login that is being let in ends although nothing of it is the person's yet,
// and the person was swept before.
func TestEnding_OfALoginWithoutAnOwnProcess(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.connect(100)
	p := r.processes[100]
	p.UIDs, p.LoginUID = [4]uint32{}, proc.NoLogin
	r.processes = map[int]proc.Process{100: p}
	o := r.noteLogin(100, "")
	r.swept[aliceUID] = true
	r.withdraw()
	if r.look(t.Context()); len(r.targets) != 1 || !slices.Equal(r.targets[0].Logins, []session.Origin{o}) {
		t.Fatalf("%+v", r.targets)
	}
}

// A key that is withdrawn while a snapshot waits for the disk ends everybody once.
func TestEnding_OfEverybodyOnceOnAFullDisk(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	if err := os.MkdirAll(r.root+heldPath+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if r.deliver(nil) == nil {
		t.Fatal("the snapshot was kept")
	}
	gone := listed(t, protocol.Compromised, r.userCA)
	if r.Manifest(r.renewed(listed(t, protocol.UserCA, newKey(t)), gone, listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))) == nil {
		t.Fatal("the manifest was kept")
	}
	r.look(t.Context())
	if err := os.RemoveAll(r.root + heldPath + ".new"); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(nil)
	r.look(t.Context())
	if !slices.Equal(r.ends, []string{"all 1879048200"}) || len(r.Service.now().held.Endings) > 0 {
		t.Fatalf("ended %v, kept %v", r.ends, r.Service.now().held.Endings)
	}
}
