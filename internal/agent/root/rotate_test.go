package root

import (
	"context"
	"crypto/rand"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// renewed is the rig's manifest with other keys and the next version.
func (r *rig) renewed(keys ...protocol.Key) protocol.SignedManifest {
	r.manifest.Version++
	r.manifest.Keys = keys
	return r.signManifest(r.manifest)
}

// A user CA that is withdrawn ends every session of ours, once, also when the
// agent is killed in between; one that retires ends none.
func TestManifest_WithdrawnEndsEverySession(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	fresh, host, snapshot := listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey)
	old, gone := listed(t, protocol.UserCA, r.userCA), listed(t, protocol.Compromised, r.userCA)
	r.present = []uint32{aliceUID, bobUID}
	if err := r.Manifest(r.renewed(fresh, old, host, snapshot)); err != nil {
		t.Fatal(err)
	}
	r.act()
	if r.ends != nil {
		t.Fatalf("a new key ended sessions: %v", r.ends)
	}
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatalf("the old key beside the new one: %+v", a)
	}
	if err := r.Manifest(r.renewed(fresh, gone, host, snapshot)); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.act()
	if !slices.Equal(r.ends, []string{"all 1879048200", "all 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
	handbooktest.Said(t, r.messages[0], "session-key")
	r.restart()
	r.ends = nil
	r.act()
	if r.ends != nil {
		t.Fatalf("ended again: %v", r.ends)
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Fatal("a certificate of the withdrawn key opens the machine")
	}
	// A restored backup lists it again, and says nothing of what was.
	r.manifest.Epoch = 9
	if err := r.Manifest(r.renewed(old, host, snapshot)); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if a := r.login(alice, aliceID); a.Allow {
		t.Fatal("a restored list brought the withdrawn key back")
	}
}

// A kill between the new manifest and what it ends loses no ending.
func TestManifest_WithdrawnEndsSessionsAfterAKill(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	before, err := os.ReadFile(r.root + heldPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Manifest(r.renewed(listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.Compromised, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.root+heldPath, before, 0o600); err != nil {
		t.Fatal(err)
	}
	for want := range 2 {
		r.restart()
		r.ends = nil
		r.act()
		if got := len(r.ends); got != 1-want {
			t.Fatalf("start %d: %v", want+1, r.ends)
		}
	}
}

func TestManifest_RetiredEndsNothing(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID}
	fresh := listed(t, protocol.UserCA, newKey(t))
	if err := r.Manifest(r.renewed(fresh, listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))); err != nil {
		t.Fatal(err)
	}
	r.act()
	if r.ends != nil {
		t.Fatalf("%v", r.ends)
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Fatal("a certificate of the retired key opens the machine")
	}
}

// A login that has begun when its certificate's key goes does not get through.
func TestPAM_CertificateOfAWithdrawnKey(t *testing.T) {
	keys := func(r *rig, first protocol.Key) []protocol.Key {
		return []protocol.Key{first, listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey)}
	}
	r := newRig(t)
	r.mustDeliver(nil)
	monitor, helper := r.connect(100)
	if _, ok := r.Principals(context.Background(), helper, r.certificate(alice, aliceID, nil)); !ok {
		t.Fatal("no principal")
	}
	if err := r.Manifest(r.renewed(keys(r, listed(t, protocol.UserCA, newKey(t)))...)); err != nil {
		t.Fatal(err)
	}
	if a := r.account("sshd", alice, monitor); a.Allow {
		t.Error("between principals and account")
	}
	r = newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatalf("%+v", a)
	}
	if err := r.Manifest(r.renewed(keys(r, listed(t, protocol.UserCA, newKey(t)))...)); err != nil {
		t.Fatal(err)
	}
	if a := r.openSession(100, alice); a.Allow {
		t.Error("between account and session")
	}
	if got := r.reasons(); got[len(got)-1] != "login.deny authority-withdrawn" {
		t.Error(got)
	}
}

// A manifest is acknowledged when sshd has it too: not before the worker worked,
// and not when it could not.
func TestStatus_AppliedManifest(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if st := r.Status(); st.AppliedManifest != 1 || st.AppliedEpoch != 1 {
		t.Fatalf("%+v", st)
	}
	next := func() protocol.SignedManifest {
		return r.renewed(listed(t, protocol.UserCA, newKey(t)), listed(t, protocol.UserCA, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey))
	}
	if err := r.Manifest(next()); err != nil {
		t.Fatal(err)
	}
	if st := r.Status(); st.AppliedManifest != 1 {
		t.Fatal("acknowledged before sshd had it")
	}
	r.wiring.apply = context.DeadlineExceeded
	r.act()
	if st := r.Status(); st.AppliedManifest != 1 {
		t.Fatal("acknowledged although sshd could not be changed")
	}
	r.wiring.apply = nil
	r.act()
	if st := r.Status(); st.AppliedManifest != 2 {
		t.Fatalf("%+v", st)
	}
	if want := r.wiring.want[len(r.wiring.want)-1]; len(want.UserCAs) != 2 {
		t.Fatalf("sshd was given %v", want.UserCAs)
	}
	// Who delivers waits for nothing, because a snapshot comes behind it; who asks
	// for the status may wait until it is in force.
	m := next()
	if _, err := r.Control(t.Context(), true, control.Request{Op: control.OpManifest, Manifest: &m}); err != nil {
		t.Fatal(err)
	}
	told := make(chan int64, 1)
	go func() {
		a, _ := r.Control(t.Context(), true, control.Request{Op: control.OpStatus, WaitMillis: 60_000})
		told <- a.Status.AppliedManifest
	}()
	select {
	case <-told:
		t.Fatal("answered before it was in force")
	default:
	}
	r.act()
	if v := <-told; v != 3 {
		t.Fatalf("version %d is in force", v)
	}
}

// A host certificate whose CA is gone is due at once; one whose CA only has a
// successor beside it is not.
func TestHostCertificate_DueWhenItsCAIsGone(t *testing.T) {
	r := newRig(t)
	pub, err := ssh.NewPublicKey(r.host.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: pub, CertType: ssh.HostCert, Serial: 1, ValidPrincipals: []string{machineID + ".machine.corp.example"},
		ValidAfter: uint64(r.now.Add(-time.Minute).Unix()), ValidBefore: uint64(r.now.Add(time.Hour).Unix())}
	signer, err := ssh.NewSignerFromSigner(r.hostCA)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(nil)
	if err := r.HostCertificate(string(ssh.MarshalAuthorizedKey(c))); err != nil {
		t.Fatal(err)
	}
	user, snapshot, fresh := listed(t, protocol.UserCA, r.userCA), listed(t, protocol.Snapshot, r.snapshotKey), listed(t, protocol.HostCA, newKey(t))
	if err := r.Manifest(r.renewed(user, fresh, listed(t, protocol.HostCA, r.hostCA), snapshot)); err != nil {
		t.Fatal(err)
	}
	if r.Status().HostRenew.IsZero() {
		t.Fatal("renewed although its CA is trusted")
	}
	if err := r.Manifest(r.renewed(user, fresh, snapshot)); err != nil {
		t.Fatal(err)
	}
	if !r.Status().HostRenew.IsZero() {
		t.Fatal("not renewed although its CA is gone")
	}
	if r.file(sshd.HostCertificatePath) == "" {
		t.Fatal("taken away before its successor came")
	}
}
