package keyring_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/keyring"
	"sallyport/internal/machine/protocol"
)

// world is a ring with its manifest, a clock and machines.
type world struct {
	t        *testing.T
	ring     keyring.Ring
	manifest protocol.Manifest
	now      time.Time
	machines map[string]int64 // the version in force on each
	offline  bool             // the manifest key is on another computer
}

func public(t *testing.T) crypto.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), machines: map[string]int64{"a": 1, "b": 1}}
	w.manifest = protocol.Manifest{Tenant: "t", Domains: []string{"corp.example"}, URL: "https://corp.example", Epoch: 1, Version: 1, IssuedAt: w.now}
	for _, p := range keyring.Purposes() {
		pub := public(t)
		id, err := protocol.Thumbprint(pub)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		w.manifest.Keys = append(w.manifest.Keys, protocol.Key{Purpose: p, ID: id, Public: der})
	}
	w.ring = keyring.Of(w.manifest, time.Hour)
	return w
}

// settle does what the server does: publish and step until nothing is due.
func (w *world) settle() {
	w.t.Helper()
	for range 20 {
		draft, differs := w.ring.Draft(w.manifest, w.now)
		if differs && !w.offline {
			w.manifest = draft
			w.ring = w.ring.Published(draft, w.now)
		}
		next, changed, err := w.ring.Step(keyring.View{At: w.now, Missing: func(v int64) (int, error) {
			n := 0
			for _, held := range w.machines {
				if held < v {
					n++
				}
			}
			return n, nil
		}})
		if err != nil {
			w.t.Fatal(err)
		}
		if !changed {
			return
		}
		w.ring = next
	}
	w.t.Fatal("it never comes to rest")
}

func (w *world) rotate(p protocol.Purpose, o keyring.Options) string {
	w.t.Helper()
	next, k, err := w.ring.Rotate(p, public(w.t), time.Hour, o, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ring = next
	w.settle()
	return k.ID
}

func (w *world) state(id string) keyring.State {
	for _, k := range w.ring.Keys {
		if k.ID == id {
			return k.State
		}
	}
	return ""
}

func (w *world) active(p protocol.Purpose) string {
	k, _ := w.ring.Active(p)
	return k.ID
}

func (w *world) wants(old, new string, states ...keyring.State) {
	w.t.Helper()
	if got := []keyring.State{w.state(old), w.state(new)}; !slices.Equal(got, states) {
		w.t.Fatalf("old and new are %v, want %v", got, states)
	}
}

// A planned rotation: listed, waits for every machine, signs, retires after the
// longest certificate, and never leaves a moment without exactly one signer.
func TestRotation_Planned(t *testing.T) {
	for _, p := range []protocol.Purpose{protocol.UserCA, protocol.HostCA, protocol.Snapshot, protocol.Audit} {
		w := newWorld(t)
		old := w.active(p)
		id := w.rotate(p, keyring.Options{})
		w.wants(old, id, keyring.Active, keyring.Next)
		if w.manifest.Version != 2 || !w.manifest.Lists(p, old) || !w.manifest.Lists(p, id) {
			t.Fatalf("%s: %+v", p, w.manifest)
		}
		w.now = w.now.Add(30 * 24 * time.Hour)
		w.settle()
		w.wants(old, id, keyring.Active, keyring.Next) // for ever, while a machine is missing
		w.machines["a"] = 2
		w.settle()
		w.wants(old, id, keyring.Active, keyring.Next)
		w.machines["b"] = 2
		w.settle()
		w.wants(old, id, keyring.Retiring, keyring.Active)
		if w.manifest.Version != 2 {
			t.Fatal("taking over needs no signature of the manifest")
		}
		life := map[protocol.Purpose]time.Duration{protocol.UserCA: time.Hour, protocol.HostCA: 7 * 24 * time.Hour, protocol.Snapshot: time.Hour, protocol.Audit: 24 * time.Hour}[p]
		w.now = w.now.Add(life)
		w.settle()
		if !w.manifest.Lists(p, old) {
			t.Fatalf("%s: dropped while what it signed may live", p)
		}
		w.now = w.now.Add(time.Minute)
		w.settle()
		w.wants(old, id, keyring.Retired, keyring.Active)
		if p == protocol.Audit {
			if w.manifest.Version != 2 || !w.manifest.Lists(p, old) {
				t.Fatal("what the old key has signed cannot be verified any more")
			}
			continue
		}
		if w.manifest.Version != 3 || w.manifest.Lists(p, old) || !w.manifest.Lists(p, id) {
			t.Fatalf("%s: %+v", p, w.manifest)
		}
	}
}

// A kill between any two steps changes nothing: the next look does the same from
// what was stored. Stored states are the results of single calls here.
func TestRotation_EveryStepStandsAlone(t *testing.T) {
	w := newWorld(t)
	old := w.active(protocol.UserCA)
	next, k, err := w.ring.Rotate(protocol.UserCA, public(t), time.Hour, keyring.Options{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.ring = next // killed: asked for, not listed
	w.wants(old, k.ID, keyring.Active, keyring.Next)
	draft, differs := w.ring.Draft(w.manifest, w.now)
	if !differs {
		t.Fatal("nothing to publish")
	}
	w.manifest = draft // killed: the manifest is signed, the ring does not know
	w.ring = w.ring.Published(w.manifest, w.now)
	w.machines = map[string]int64{"a": 2, "b": 2}
	w.settle()
	w.wants(old, k.ID, keyring.Retiring, keyring.Active)
	before := w.ring
	w.settle()
	if len(before.Keys) != len(w.ring.Keys) || w.manifest.Version != 2 {
		t.Fatal("a second look did something")
	}
}

func TestRotation_ForceAndAfter(t *testing.T) {
	w := newWorld(t)
	old := w.active(protocol.UserCA)
	id := w.rotate(protocol.UserCA, keyring.Options{After: time.Hour})
	w.now = w.now.Add(time.Hour - time.Second)
	w.settle()
	w.wants(old, id, keyring.Active, keyring.Next)
	w.now = w.now.Add(time.Second)
	w.settle()
	w.wants(old, id, keyring.Retiring, keyring.Active)
	third := w.rotate(protocol.UserCA, keyring.Options{})
	w.wants(id, third, keyring.Active, keyring.Next)
	if _, _, err := w.ring.Rotate(protocol.UserCA, public(t), time.Hour, keyring.Options{}, w.now); !fault.Is(err, fault.Conflict) {
		t.Fatalf("two rotations at once: %v", err)
	}
	ring, found := w.ring.Force(protocol.UserCA)
	if !found {
		t.Fatal("nothing to force")
	}
	w.ring = ring
	w.settle()
	w.wants(id, third, keyring.Retiring, keyring.Active)
	if n := len(w.ring.Trusted(protocol.UserCA, w.now)); n != 3 {
		t.Fatalf("%d keys are trusted; all three have certificates that live", n)
	}
}

// A compromised key is dropped in the same manifest that lists its successor,
// which signs at once; it is named as compromised for good.
func TestRotation_Compromised(t *testing.T) {
	for _, p := range keyring.Purposes() {
		w := newWorld(t)
		old := w.active(p)
		waiting := w.rotate(p, keyring.Options{})
		id := w.rotate(p, keyring.Options{Compromised: true})
		w.wants(old, id, keyring.Compromised, keyring.Active)
		if w.state(waiting) != keyring.Compromised {
			t.Fatal("a key that waited beside the compromised one is still trusted")
		}
		if w.manifest.Lists(p, old) || w.manifest.Lists(p, waiting) || !w.manifest.Lists(p, id) || !w.manifest.Withdrawn(old) || len(w.manifest.For(p)) != 1 {
			t.Fatalf("%+v", w.manifest)
		}
		w.rotate(p, keyring.Options{Forced: true})
		w.now = w.now.Add(400 * 24 * time.Hour)
		w.settle()
		if !w.manifest.Withdrawn(old) {
			t.Fatal("forgotten")
		}
	}
}

// With the manifest key on another computer each change of the list waits for
// its signature. A compromised key signs no more from the first moment.
func TestRotation_ManifestKeyElsewhere(t *testing.T) {
	w := newWorld(t)
	w.offline = true
	old, token := w.active(protocol.UserCA), w.active(protocol.Token)
	id := w.rotate(protocol.UserCA, keyring.Options{Forced: true})
	w.wants(old, id, keyring.Active, keyring.Next)
	w.offline = false // signed and brought back
	w.settle()
	w.wants(old, id, keyring.Retiring, keyring.Active)
	w.offline = true
	w.now = w.now.Add(48 * time.Hour)
	w.settle()
	w.wants(old, id, keyring.Retiring, keyring.Active)
	if !w.manifest.Lists(protocol.UserCA, old) {
		t.Fatal("dropped without a signature")
	}
	third := w.rotate(protocol.UserCA, keyring.Options{Compromised: true})
	w.wants(id, third, keyring.Compromised, keyring.Next)
	if w.active(protocol.UserCA) != "" {
		t.Fatal("a withdrawn key signs")
	}
	if fresh := w.rotate(protocol.Token, keyring.Options{Compromised: true}); w.active(protocol.Token) != fresh || w.state(token) != keyring.Compromised {
		t.Fatal("token keys are the server's own: nobody waits for the manifest")
	}
	w.offline = false
	w.settle()
	w.wants(old, third, keyring.Compromised, keyring.Active) // whatever was trusted beside it is withdrawn too
}

// A token key is shown before it signs and trusted until its tokens are over.
func TestRotation_Token(t *testing.T) {
	w := newWorld(t)
	w.machines["a"] = 0
	old := w.active(protocol.Token)
	id := w.rotate(protocol.Token, keyring.Options{})
	w.wants(old, id, keyring.Active, keyring.Next)
	w.now = w.now.Add(time.Minute)
	w.settle()
	w.wants(old, id, keyring.Retiring, keyring.Active)
	w.now = w.now.Add(time.Hour)
	w.settle()
	w.wants(old, id, keyring.Retiring, keyring.Active)
	w.now = w.now.Add(10 * time.Minute)
	w.settle()
	w.wants(old, id, keyring.Retired, keyring.Active)
}

// Allow remembers the longest certificate that a key may have signed.
func TestAllow_NeverForgets(t *testing.T) {
	w := newWorld(t)
	ring, changed := w.ring.Allow(2 * time.Hour)
	if !changed {
		t.Fatal("a longer life was not noted")
	}
	if ring, changed = ring.Allow(time.Minute); changed {
		t.Fatal("a shorter life made it forget")
	}
	if k, _ := ring.Active(protocol.UserCA); k.Longest != 2*time.Hour {
		t.Fatal(k.Longest)
	}
}

func TestRotate_Refusals(t *testing.T) {
	w := newWorld(t)
	known, err := w.ring.Keys[0].Parsed()
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"the manifest key": func() error {
			_, _, err := w.ring.Rotate("manifest", public(t), time.Hour, keyring.Options{}, w.now)
			return err
		},
		"no purpose": func() error {
			_, _, err := w.ring.Rotate("", public(t), time.Hour, keyring.Options{}, w.now)
			return err
		},
		"a key that was used before": func() error {
			_, _, err := w.ring.Rotate(protocol.HostCA, known, time.Hour, keyring.Options{}, w.now)
			return err
		},
		"a time without end": func() error {
			_, _, err := w.ring.Rotate(protocol.HostCA, public(t), time.Hour, keyring.Options{After: 1000 * 24 * time.Hour}, w.now)
			return err
		},
	} {
		if err := try(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
