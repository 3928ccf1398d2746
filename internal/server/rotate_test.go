package server

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// ca is a deployment whose clock the test moves, with its follower running.
type ca struct {
	*deployment
	t   *testing.T
	now *testClock
}

// testClock is read by the server's goroutines while the test moves it.
type testClock struct{ at atomic.Pointer[time.Time] }

func (c *testClock) read() time.Time { return *c.at.Load() }

func (c *testClock) add(d time.Duration) {
	next := c.read().Add(d)
	c.at.Store(&next)
}

func newCA(t *testing.T) *ca {
	t.Helper()
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	clock := &testClock{}
	clock.at.Store(&begin)
	c := &ca{t: t, now: clock, deployment: rig(t, clock.read)}
	c.following()
	return c
}

func (c *ca) following() {
	ctx, cancel := context.WithCancel(c.t.Context())
	done, follow := make(chan error, 1), c.follow // the test may open another deployment
	go func() { done <- follow.run(ctx) }()
	c.t.Cleanup(func() { cancel(); <-done })
}

func joined(t *testing.T, id string) machine.Machine {
	t.Helper()
	at, err := scope.Parse("/subscriptions/0aaaaaaa-0000-4000-8000-000000000007/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm")
	if err != nil {
		t.Fatal(err)
	}
	return machine.Machine{ID: id, ResourceID: at, Thumbprint: "thumb-" + id}
}

func (c *ca) by() audit.By {
	return audit.By{Principal: "0aaaaaaa-0000-4000-8000-000000000001", Type: audit.User, CorrelationID: zeroID, At: c.now.read()}
}

func (c *ca) rotate(r arm.Rotation) error { return c.trust.Rotate(c.t.Context(), c.by(), r) }

func (c *ca) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// look is one look of the task.
func (c *ca) look() { c.t.Helper(); c.must(c.trust.advanceStored(c.t.Context())) }

func (c *ca) active(p protocol.Purpose) string {
	c.t.Helper()
	k, ok := c.trust.now().ring.Active(p)
	if !ok {
		return ""
	}
	signer, err := c.keys.Signer(p)
	c.must(err)
	if id, _ := protocol.Thumbprint(signer.Public()); id != k.ID {
		c.t.Fatalf("the ring says %s, the key store %s", k.ID, id)
	}
	return k.ID
}

// reopen is a kill -9 and a start: nothing but the folder goes over.
func (c *ca) reopen() {
	c.t.Helper()
	c.must(c.store.Close())
	st, err := store.Open(c.t.Context(), c.cfg.storeConfig(newMeter()))
	c.must(err)
	c.t.Cleanup(func() { _ = st.Close() })
	c.deployment = &deployment{cfg: c.cfg, store: st, meter: newMeter()}
	c.must(c.connect(c.t.Context()))
	c.following()
}

func (c *ca) files(p protocol.Purpose) int {
	c.t.Helper()
	names, err := filepath.Glob(filepath.Join(c.cfg.State, keysDir, string(p)+".*"))
	c.must(err)
	return len(names)
}

// Each purpose rotates to its end, with a kill after every step; the private half
// of the old key is gone afterwards, and everything still signs.
func TestRotate_ToTheEndWithAKillAfterEveryStep(t *testing.T) {
	c := newCA(t)
	for _, p := range keyring.Purposes() {
		old := c.active(p)
		c.must(c.rotate(arm.Rotation{Purpose: string(p)}))
		c.reopen()
		c.now.add(2 * time.Minute)
		c.look()
		c.reopen()
		fresh := c.active(p)
		if fresh == old || !c.trust.now().manifest.Lists(p, old) || !c.trust.now().manifest.Lists(p, fresh) {
			t.Fatalf("%s: the new key does not sign, or the old one is not trusted beside it", p)
		}
		if c.files(p) != 2 {
			t.Fatalf("%s: %d key files", p, c.files(p))
		}
		c.now.add(8 * 24 * time.Hour)
		c.look()
		c.reopen()
		if c.active(p) != fresh || c.trust.now().manifest.Lists(p, old) != (p == protocol.Audit) {
			t.Fatalf("%s: the old key is still trusted", p)
		}
		if c.files(p) != 1 {
			t.Fatalf("%s: the old private key is still there", p)
		}
		if err := c.trust.ready(); err != nil {
			t.Fatal(err)
		}
	}
}

// A kill between the making of a key and the transaction leaves a key that is
// used for nothing, and the next rotation goes on.
func TestRotate_KillBeforeTheTransaction(t *testing.T) {
	c := newCA(t)
	old := c.active(protocol.UserCA)
	_, err := c.keys.Make(protocol.UserCA)
	c.must(err)
	c.reopen()
	if c.active(protocol.UserCA) != old || len(c.trust.now().manifest.For(protocol.UserCA)) != 1 {
		t.Fatal("a key that nobody asked for is in use")
	}
	c.must(c.rotate(arm.Rotation{Purpose: "user-ca", Force: true}))
	if c.active(protocol.UserCA) == old {
		t.Fatal("not rotated")
	}
}

// A refused rotation leaves no key behind.
func TestRotate_Refused(t *testing.T) {
	c := newCA(t)
	c.must(c.rotate(arm.Rotation{Purpose: "token"}))
	if err := c.rotate(arm.Rotation{Purpose: "token"}); !fault.Is(err, fault.Conflict) || c.files(protocol.Token) != 2 {
		t.Fatalf("%v, %d files", err, c.files(protocol.Token))
	}
	for _, p := range []string{"", "manifest", "tls", "../x"} {
		if err := c.rotate(arm.Rotation{Purpose: p}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// A machine that has not taken over the manifest holds a rotation up, by name,
// until it does, is removed, or is not waited for.
func TestRotate_WaitsForMachines(t *testing.T) {
	c := newCA(t)
	old := c.active(protocol.UserCA)
	const id = "0aaaaaaa-0000-4000-8000-000000000009"
	c.must(c.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.PutMachine(joined(t, id)) }))
	c.must(c.rotate(arm.Rotation{Purpose: "user-ca"}))
	c.now.add(100 * 24 * time.Hour)
	c.look()
	if c.active(protocol.UserCA) != old {
		t.Fatal("it did not wait")
	}
	list, err := c.trust.Keys(t.Context())
	c.must(err)
	if list.Behind != 1 || len(list.Machines) != 1 || list.Machines[0].ID != id {
		t.Fatalf("%+v", list)
	}
	c.must(c.store.Write(t.Context(), func(tx *store.Tx) error { return tx.AcknowledgeManifest(id, 1, 2) }))
	c.look()
	if c.active(protocol.UserCA) == old {
		t.Fatal("it did not go on")
	}
	c.must(c.rotate(arm.Rotation{Purpose: "host-ca"}))
	held := c.active(protocol.HostCA)
	c.must(c.rotate(arm.Rotation{Purpose: "host-ca", Force: true}))
	if c.active(protocol.HostCA) == held {
		t.Fatal("--force did not end the waiting")
	}
}

// A compromised key is dropped, its file destroyed, and its successor signs, in
// one step; the record of a restart is the same.
func TestRotate_Compromised(t *testing.T) {
	c := newCA(t)
	for _, p := range keyring.Purposes() {
		old := c.active(p)
		c.must(c.rotate(arm.Rotation{Purpose: string(p), Compromised: true}))
		fresh := c.active(p)
		m := c.trust.now().manifest
		if fresh == old || fresh == "" || m.Lists(p, old) || !m.Withdrawn(old) || len(m.For(p)) != 1 || c.files(p) != 1 {
			t.Fatalf("%s: %+v", p, m)
		}
		c.reopen()
		if c.active(p) != fresh {
			t.Fatal("a start brought the old key back")
		}
	}
}

// With the manifest key elsewhere the server asks, another computer signs, and
// what comes back must be what was asked for.
func TestManifest_KeyOnAnotherComputer(t *testing.T) {
	c := newCA(t)
	path := filepath.Join(t.TempDir(), "manifest.pem")
	c.must(os.Rename(filepath.Join(c.cfg.State, keysDir, "manifest.pem"), path))
	c.reopen()
	if _, err := c.trust.Request(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Fatalf("nothing is asked for: %v", err)
	}
	old := c.active(protocol.UserCA)
	c.must(c.rotate(arm.Rotation{Purpose: "user-ca", Force: true}))
	if c.active(protocol.UserCA) != old {
		t.Fatal("a key signs that no manifest lists")
	}
	key, err := keystore.OpenManifestKey(path, nil)
	c.must(err)
	request, err := c.trust.Request(t.Context())
	c.must(err)
	if _, err := request.Check(c.trust.pin); err != nil {
		t.Fatal(err)
	}
	other := request.Next
	other.Keys = other.Keys[:len(other.Keys)-1]
	forged, err := protocol.SignManifest(rand.Reader, key, other)
	c.must(err)
	if err := c.trust.Apply(t.Context(), c.by(), forged); !fault.Is(err, fault.Conflict) {
		t.Fatalf("another list was taken: %v", err)
	}
	stranger, err := c.keys.Signer(protocol.Audit)
	c.must(err)
	foreign, err := protocol.SignManifest(rand.Reader, stranger, request.Next)
	c.must(err)
	if err := c.trust.Apply(t.Context(), c.by(), foreign); !fault.Is(err, fault.Invalid) {
		t.Fatalf("another key's signature was taken: %v", err)
	}
	signed, err := protocol.SignManifest(rand.Reader, key, request.Next)
	c.must(err)
	c.must(c.trust.Apply(t.Context(), c.by(), signed))
	c.must(c.trust.Apply(t.Context(), c.by(), signed)) // twice is once
	if c.active(protocol.UserCA) == old {
		t.Fatal("the new key does not sign")
	}
	c.must(c.rotate(arm.Rotation{Purpose: "user-ca", Compromised: true}))
	if err := c.trust.ready(); err == nil || !strings.Contains(err.Error(), "KeyWithdrawn") {
		t.Fatalf("a withdrawn key still signs: %v", err)
	}
	c.reopen() // it starts all the same: everything else works
}

// A restored store's epoch is higher than any before, and only the manifest key
// raises it.
func TestRaiseEpoch(t *testing.T) {
	c := newCA(t)
	_, before := c.trust.Manifest()
	c.must(c.follow.Write(t.Context(), func(tx *store.Tx) error {
		_, signed, err := raiseEpoch(tx, c.keys)
		if !signed {
			t.Error("not signed although the key is here")
		}
		return err
	}))
	_, after := c.trust.Manifest()
	if after.Epoch <= before.Epoch || after.Version <= before.Version || after.Epoch != c.now.read().Unix() {
		t.Fatalf("%d.%d after %d.%d", after.Epoch, after.Version, before.Epoch, before.Version)
	}
	path := filepath.Join(t.TempDir(), "manifest.pem")
	c.must(os.Rename(filepath.Join(c.cfg.State, keysDir, "manifest.pem"), path))
	c.reopen()
	var r protocol.ManifestRequest
	c.must(c.follow.Write(t.Context(), func(tx *store.Tx) (err error) {
		var signed bool
		if r, signed, err = raiseEpoch(tx, c.keys); signed {
			t.Error("signed without the key")
		}
		return err
	}))
	key, err := keystore.OpenManifestKey(path, nil)
	c.must(err)
	signed, err := protocol.SignManifest(rand.Reader, key, r.Next)
	c.must(err)
	c.must(c.follow.Write(t.Context(), func(tx *store.Tx) error { return acceptEpoch(tx, r, signed) }))
	if _, m := c.trust.Manifest(); m.Epoch != r.Next.Epoch {
		t.Fatal(m.Epoch)
	}
}

// A replica that lacks the active key's file signs nothing for that purpose, says
// so, and goes on when the file is there.
func TestAuthority_KeyFileComesLater(t *testing.T) {
	c := newCA(t)
	c.must(c.rotate(arm.Rotation{Purpose: "user-ca", Force: true}))
	id := c.active(protocol.UserCA)
	path := filepath.Join(c.cfg.State, keysDir, "user-ca."+id+".pem")
	c.must(os.Rename(path, path+".away"))
	other, err := keystore.Open(c.cfg.keyConfig())
	c.must(err)
	c.trust.cfg.Keys = other // as a replica that has followed the feed to here
	c.must(c.trust.again())
	if err := c.trust.ready(); err == nil || !strings.Contains(err.Error(), "KeyNotHeld") {
		t.Fatalf("%v", err)
	}
	if _, err := c.trust.Issue(sshca.Request{Type: sshca.User}); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v", err)
	}
	c.must(os.Rename(path+".away", path))
	c.must(c.trust.again())
	c.must(c.trust.ready())
}

// The answer to the commit of a rotation was lost: the key stays, because the
// store may name it. One that was refused leaves no file.
func TestRotate_KeyOfACommitInDoubtStays(t *testing.T) {
	c := newCA(t)
	count := func() int {
		files, err := filepath.Glob(filepath.Join(c.cfg.State, keysDir, "host-ca*.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	write := c.trust.cfg.Write
	c.must(write(t.Context(), func(tx *store.Tx) error { return tx.PutMachine(joined(t, zeroID)) })) // which the rotation waits for
	c.trust.cfg.Write = func(context.Context, func(*store.Tx) error) error {
		return fault.New(fault.Forbidden, "Refused", "no")
	}
	if err := c.rotate(arm.Rotation{Purpose: "host-ca"}); err == nil || count() != 1 {
		t.Fatalf("%v, %d files", err, count())
	}
	c.trust.cfg.Write = func(ctx context.Context, f func(*store.Tx) error) error {
		c.must(write(ctx, f))
		return fault.New(fault.Unavailable, store.CodeOutcomeUnknown, "nobody knows")
	}
	if err := c.rotate(arm.Rotation{Purpose: "host-ca"}); err == nil || count() != 2 {
		t.Fatalf("%v, %d files: the key that takes over is lost", err, count())
	}
}
