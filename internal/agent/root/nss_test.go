package root

import (
	"errors"
	"os"
	"testing"

	"sallyport/internal/agent/shim"
)

// TestHeal: whatever is done to the name service file, the next look repairs it;
// a repair that fails is tried again later.
func TestHeal(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	done := r.apply(t.Context(), attempt{})
	path := r.at(nssPath)
	good := r.file(nssPath)
	for name, damage := range map[string]func() error{
		"removed":   func() error { return os.Remove(path) },
		"truncated": func() error { return os.Truncate(path, 100) },
		"corrupt":   func() error { return os.WriteFile(path, make([]byte, len(good)), 0o644) },
		"mode":      func() error { return os.Chmod(path, 0o666) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if CheckNSS(r.root) == nil {
			t.Errorf("%s: doctor finds nothing", name)
		}
		r.heal(&done)
		if db, err := shim.ReadNSS(path); err != nil || len(db.Users) == 0 {
			t.Errorf("%s: not repaired: %v", name, err)
		}
	}
	before := r.nssMark()
	r.heal(&done)
	if r.nssMark() != before {
		t.Error("a good file was written again")
	}
}

func TestHeal_WhatCannotBeRepairedIsTriedAgain(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	done := r.apply(t.Context(), attempt{})
	path := r.at(nssPath)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path+"/x", 0o700); err != nil { // rename(2) cannot replace it
		t.Fatal(err)
	}
	r.heal(&done)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	for range healPause {
		r.heal(&done)
	}
	if CheckNSS(r.root) == nil {
		t.Fatal("it was tried again at once")
	}
	r.heal(&done)
	if err := CheckNSS(r.root); err != nil {
		t.Fatal(err)
	}
}

// TestApply_AnUnwrittenNameServiceFileIsNoDrift: a full disk does not close the
// machine for those who are known here already, and nobody reads that its
// configuration was changed.
func TestApply_AnUnwrittenNameServiceFileIsNoDrift(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	path := r.at(nssPath)
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(path+"/x", 0o700)); err != nil {
		t.Fatal(err)
	}
	r.wiring.wired = true
	r.apply(t.Context(), attempt{})
	if a := r.login(alice, aliceID); !a.Allow {
		t.Errorf("refused: %s", a.Text)
	}
	if r.reached.provisioned != "Failed" {
		t.Errorf("the server is told %q", r.reached.provisioned)
	}
}

// TestPAM_FirstLoginWithAFullDisk: whose the name is from now on cannot be kept,
// so the first login is refused with a sentence; whoever has been here is in.
func TestPAM_FirstLoginWithAFullDisk(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	if err := os.MkdirAll(r.at(namesPath)+".new/x", 0o700); err != nil { // nothing can be written beside it
		t.Fatal(err)
	}
	if a := r.login(alice, aliceID); !a.Allow {
		t.Errorf("who has been here is refused: %s", a.Text)
	}
	if a := r.login(bob, bobID); a.Allow || a.Text != away {
		t.Errorf("%+v", a)
	}
}
