package root

import (
	"os"
	"slices"
	"testing"
	"time"

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
