package root

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// enter walks a whole login of alice in the sshd process pid, with an audit
// session of its own, and returns the session as it is listed.
func (r *rig) enter(pid int) protocol.Session {
	r.t.Helper()
	monitor, helper := r.connect(pid)
	p := r.processes[pid]
	p.UIDs, p.LoginUID, p.Audit, p.State = [4]uint32{}, aliceUID, fmt.Sprint(pid), 'S'
	r.processes[pid] = p
	delete(r.processes, pid+2)
	if _, ok := r.Principals(context.Background(), helper, r.certificate(alice, aliceID, nil)); !ok {
		r.t.Fatal("no principal")
	}
	for _, phase := range []shim.Phase{shim.PhaseAccount, shim.PhaseOpen} {
		if a := r.PAM(context.Background(), monitor, shim.PAMRequest{Phase: phase, Service: "sshd", User: alice, RHost: "192.0.2.7"}); !a.Allow {
			r.t.Fatalf("%s: %s", phase, a.Text)
		}
	}
	delete(r.processes, pid+1)
	r.processes[pid+1] = proc.Process{PID: pid + 1, PPID: pid, Start: uint64(pid + 1), State: 'S', UIDs: [4]uint32{aliceUID, aliceUID, aliceUID, aliceUID}, LoginUID: aliceUID, Audit: fmt.Sprint(pid), Exe: "/usr/sbin/sshd", Title: "sshd: " + alice + "@pts/0"}
	r.look(context.Background())
	for _, n := range r.Status().Sessions {
		if n.ID == r.register.Find(p).ID {
			return n
		}
	}
	r.t.Fatal("the session is not listed")
	return protocol.Session{}
}

func TestGuard_ListsSessionsAlsoAfterARestart(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	n := r.enter(100)
	if n.Check() != nil || n.Kind != protocol.SessionPTY || n.TTY != "pts/0" || n.From != "192.0.2.7" || n.Serial != "1" || n.KeyID != "key-id" || n.ObjectID != aliceID || !n.Since.Equal(r.now) {
		t.Fatalf("%v %+v", n.Check(), n)
	}
	r.restart()
	r.look(context.Background())
	if got := r.Status().Sessions; len(got) != 1 || got[0] != n {
		t.Fatalf("%+v", got)
	}
	generation := r.Status().Generation
	r.look(context.Background())
	if r.Status().Generation != generation {
		t.Error("nothing changed, and the server would be told")
	}
	delete(r.processes, 100)
	r.look(context.Background())
	if got := r.Status().Sessions; len(got) != 1 || got[0].Kind != protocol.SessionBackground || r.Status().Generation == generation {
		t.Fatalf("%+v", got)
	}
	delete(r.processes, 101)
	r.look(context.Background())
	if got := r.Status().Sessions; len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}

// What ends one session ends that one, and says why; another of the same person
// stays.
func TestGuard_EndsOneSession(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *rig, n protocol.Session, d *protocol.SnapshotDocument)
		cause  string
		says   string
		id     string // on the page
	}{
		"certificate": {func(_ *rig, n protocol.Session, d *protocol.SnapshotDocument) { d.Revoked = []string{n.Serial} }, protocol.CauseCertificate, "revoked", "session-revoked"},
		"ended": {func(_ *rig, n protocol.Session, d *protocol.SnapshotDocument) {
			d.Ended = []protocol.EndedSession{{ID: machineID, CorrelationID: "c1"}, {ID: n.ID, CorrelationID: bobID}}
		}, protocol.CauseEnded, bobID, "session-administrator"},
		"age": {func(r *rig, _ protocol.Session, d *protocol.SnapshotDocument) { d.SessionMax = 3600 }, protocol.CauseAge, "1h0m0s", "session-age"},
	} {
		r := newRig(t)
		r.mustDeliver(nil)
		first := r.enter(100)
		r.elapsed, r.now = r.elapsed+time.Hour, r.now.Add(time.Hour)
		second := r.enter(200)
		r.left = []string{"a crontab of the person"}
		r.mustDeliver(func(d *protocol.SnapshotDocument) { c.change(r, first, d) })
		if len(r.targets) != 1 || len(r.targets[0].Origins) != 1 || r.targets[0].Origins[0].PID != 100 || !strings.Contains(r.messages[0], c.says) {
			t.Errorf("%s: %+v", name, r.targets)
			continue
		}
		handbooktest.Said(t, r.messages[0], c.id)
		events, _ := r.events.Take(nil, 0)
		e := events[len(events)-1]
		if e.Type != protocol.EventSessionEnd || e.Detail[protocol.FactSession] != first.ID || e.Detail[protocol.FactCause] != c.cause || e.ObjectID != aliceID || e.LoginName != alice ||
			e.Detail[protocol.FactLeft] != "a crontab of the person" || e.Detail[protocol.FactProcesses] != "1" {
			t.Errorf("%s: %+v", name, e)
		}
		if name == "ended" && e.CorrelationID != bobID {
			t.Errorf("the event names %s", e.CorrelationID)
		}
		if others := r.asked[0].Others; len(others) != 1 || others[0].PID != 200 {
			t.Errorf("%s: %s's other session counts as left: %+v", name, second.ID, others)
		}
	}
}

// Sessions that began after the directory ended everything stay.
func TestGuard_NotBeforeSparesNewerSessions(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.enter(100)
	r.now = r.now.Add(time.Minute)
	ended := r.now
	r.now = r.now.Add(time.Minute)
	r.enter(200)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].NotBefore = ended })
	if !slices.Equal(r.ends, []string{"all but 1 logins of 1879048200", "1 logins of 1879048200"}) || r.targets[0].Spare[0].PID != 200 || r.targets[1].Origins[0].PID != 100 {
		t.Fatalf("%+v", r.targets)
	}
	handbooktest.Said(t, r.messages[0], "session-directory")
}

func TestGuard_ReadsTheSentenceOfTheNextLogin(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.SnapshotDocument)
		cause  string
		says   string
	}{
		"role removed": {func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None }, protocol.CauseAccess, "Azure role not assigned: " + alice},
		"disabled": {func(d *protocol.SnapshotDocument) {
			d.Principals[0].Access, d.Principals[0].Reason = protocol.None, protocol.ReasonDisabled
		}, protocol.CauseAccess, "is disabled"},
		"deleted":          {func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] }, protocol.CauseAccess, alice + " is not an account"},
		"identity removed": {func(d *protocol.SnapshotDocument) { d.Identity = false }, protocol.CauseMachine, "managed identity is removed"},
		"extension off":    {func(d *protocol.SnapshotDocument) { d.LoginEnabled = false }, protocol.CauseMachine, "switched off"},
	} {
		r := newRig(t)
		r.mustDeliver(nil)
		r.enter(100)
		r.mustDeliver(c.change)
		events, _ := r.events.Take(nil, 0)
		e := events[len(events)-1]
		if !slices.Equal(r.ends, []string{"all 1879048200"}) || !strings.Contains(r.messages[0], c.says) || e.Detail[protocol.FactCause] != c.cause || !strings.Contains(e.Detail[protocol.FactMessage], e.CorrelationID) {
			t.Errorf("%s: %v %q %+v", name, r.ends, r.messages, e)
		}
		handbooktest.Said(t, r.messages[0], "sessions-ended")
	}
}

// A server that is away ends nothing, however old the grants are: only what is
// new is refused.
func TestGuard_StaleEndsNothing(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.enter(100)
	r.present = []uint32{bobUID}
	r.now, r.elapsed = r.now.Add(48*time.Hour), r.elapsed+48*time.Hour
	r.look(context.Background())
	if r.ends != nil {
		t.Fatalf("%v", r.ends)
	}
	if a := r.account("sudo", bob, shim.Peer{PID: 1}); a.Allow || !strings.Contains(a.Text, "has not heard from the server") {
		t.Fatalf("%+v", a)
	}
}

func TestGuard_WarnsAMinuteBefore(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.SessionMax = 600 })
	r.enter(100)
	if next := r.look(t.Context()); next != 9*time.Minute && next != watchEvery {
		t.Errorf("looks again after %s", next)
	}
	r.elapsed += 9*time.Minute + time.Second
	for range 2 {
		if next := r.look(t.Context()); next > time.Minute {
			t.Errorf("looks again after %s", next)
		}
	}
	if len(r.warnings) != 1 || !strings.Contains(r.warnings[0], "is ended in 59s") || r.ends != nil {
		t.Fatalf("%q %v", r.warnings, r.ends)
	}
	handbooktest.Said(t, r.warnings[0], "session-warned")
	r.elapsed += time.Minute
	if r.look(t.Context()); len(r.ends) != 1 || len(r.warnings) != 1 {
		t.Fatalf("%v", r.ends)
	}
}

// Reading the process table takes a while on a busy machine. Who logs in meanwhile
// is not in it, and keeps his certificate: found again without it, he would be
// logged out with whoever's was revoked.
func TestGuard_LoginWhileItLooks(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Revoked = []string{"12345"} })
	r.meanwhile = func() { r.elapsed++; r.enter(100) }
	r.look(t.Context())
	for range 3 {
		r.look(t.Context())
		r.elapsed += 10 * time.Second
	}
	if got := r.Status().Sessions; len(got) != 1 || got[0].Serial != "1" || len(r.ends) != 0 {
		t.Fatalf("%+v, ended: %v", got, r.ends)
	}
}

// A session that an agent before this one let in may be the revoked one's.
func TestGuard_UnknownCertificateIsARevokedOne(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.enter(100)
	if err := os.Remove(r.root + sessionsPath); err != nil {
		t.Fatal(err)
	}
	r.restart()
	for range 2 {
		r.look(t.Context())
		r.elapsed += 10 * time.Second
	}
	if got := r.Status().Sessions; len(got) != 1 || got[0].Serial != "" || got[0].Check() != nil {
		t.Fatalf("%+v", got)
	}
	if r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Revoked = []string{"12345"} }); !slices.Equal(r.ends, []string{"1 logins of 1879048200"}) {
		t.Fatalf("%v", r.ends)
	}
}

// What could not be ended is tried again.
func TestGuard_TriesAgain(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{bobUID}
	r.endFails = errors.New("processes are left")
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login })
	if next := r.look(t.Context()); next != 2*again || len(r.ends) != 2 {
		t.Fatalf("%s %v", next, r.ends)
	}
	r.endFails = nil
	for range 2 {
		r.look(t.Context())
	}
	if !slices.Equal(r.ends, slices.Repeat([]string{"elevated 1879048201"}, 3)) {
		t.Fatalf("%v", r.ends)
	}
}

// A login that is refused when its session opens leaves no session behind.
func TestPAM_RefusedSessionIsNotListed(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Revoked = []string{"1"} }); err != nil {
		t.Fatal(err)
	}
	if a := r.openSession(100, alice); a.Allow {
		t.Fatal("a revoked certificate opened a session")
	}
	if l := r.register.Find(r.processes[100]); l.ID != "" {
		t.Fatalf("%+v", l)
	}
}

// Somebody who was here and whom no scan sees may run what forks without end: he
// is ended too when he loses his right, once for each time.
func TestGuard_EndsWhomNoScanSees(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.enter(100)
	clear(r.processes)
	r.look(context.Background())
	access := func(a protocol.Access) {
		t.Helper()
		r.ends = nil
		r.mustDeliver(func(d *protocol.SnapshotDocument) {
			for i := range d.Principals {
				if d.Principals[i].ObjectID == aliceID {
					d.Principals[i].Access = a
				}
			}
		})
		r.look(context.Background())
		r.look(context.Background())
	}
	want := []string{fmt.Sprintf("all %d", aliceUID)}
	for range 2 {
		if access(protocol.None); !slices.Equal(r.ends, want) {
			t.Fatalf("without access: %q", r.ends)
		}
		if access(protocol.Login); len(r.ends) != 0 {
			t.Fatalf("with access: %q", r.ends)
		}
	}
}

// What no signal ends keeps its own ending, and nobody else's.
func TestGuard_OneUnkillableKeepsNoOtherEnding(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present, r.stays = []uint32{aliceUID, bobUID}, map[uint32]bool{aliceUID: true}
	r.now = r.now.Add(time.Second)
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Principals[0].NotBefore, d.Principals[1].Access = r.now, protocol.Login
	})
	if told, unfinished := r.endsTold(); told != 2 || unfinished != 1 {
		t.Errorf("%d events, %d of them of something that is left", told, unfinished)
	}
	r.restart()
	r.ends = nil
	if r.look(t.Context()); !slices.Equal(r.ends, []string{"all 1879048200"}) {
		t.Fatalf("%v", r.ends)
	}
}
