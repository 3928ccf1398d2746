package names

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t *testing.T, path string) *Register {
	t.Helper()
	r, err := Open(path, uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegister_KeepsForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	r := open(t, path)
	if e, err := r.Keep("a@b.example", "one", 7); err != nil || e.ObjectID != "one" {
		t.Fatal(e, err)
	}
	if e, err := r.Keep("a@b.example", "two", 8); err != nil || e.ObjectID != "one" {
		t.Fatalf("the name changed hands by itself: %+v %v", e, err)
	}
	r = open(t, path)
	if e, ok := r.Owner("a@b.example"); !ok || e.ObjectID != "one" || e.UID != 7 {
		t.Fatalf("%+v", e)
	}
	if err := r.HandOver("a@b.example", "two", 8); err != nil {
		t.Fatal(err)
	}
	if e, _ := open(t, path).Owner("a@b.example"); e.ObjectID != "two" || len(e.Before) != 1 || e.Before[0] != "one" {
		t.Fatalf("%+v", e)
	}
}

func TestRegister_NotDurableIsNotKept(t *testing.T) {
	dir := t.TempDir()
	r := open(t, filepath.Join(dir, "gone", "names.json"))
	if _, err := r.Keep("a@b.example", "one", 7); err == nil {
		t.Fatal("kept in memory only")
	}
	if _, ok := r.Owner("a@b.example"); ok {
		t.Fatal("kept in memory only")
	}
}

func TestOpen_RefusesWhatOthersMayWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	for text, mode := range map[string]os.FileMode{"{}": 0o666, "{": 0o600, `{"a":{"id":"x","uid":1,"extra":2}}`: 0o600} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, uint32(os.Geteuid())); err == nil {
			t.Errorf("%s with mode %o was read", text, mode)
		}
	}
}

// A list that cannot be read is an error, and nothing is written in its place.
func TestOpen_WhatCannotBeReadStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path, uint32(os.Geteuid()))
	if err == nil || len(r.All()) != 0 {
		t.Fatalf("%v %v", r.All(), err)
	}
	if _, err := r.Keep("a@b.example", "one", 7); err == nil {
		t.Error("a name was given away although nobody knows whose it is")
	}
	if err := r.HandOver("a@b.example", "one", 7); err == nil {
		t.Error("a name was handed over")
	}
	if b, _ := os.ReadFile(path); string(b) != "{" {
		t.Errorf("the file is %q now", b)
	}
}

// TestOwner_WaitsForNoWrite: who is known logs in while the disk is waited for.
func TestOwner_WaitsForNoWrite(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "names.json"))
	if _, err := r.Keep("a@x.example", "id", 7); err != nil {
		t.Fatal(err)
	}
	r.writing.Lock() // as Keep does for somebody else
	defer r.writing.Unlock()
	done := make(chan bool)
	go func() {
		_, known := r.Owner("a@x.example")
		_, err := r.Keep("a@x.example", "id", 7)
		done <- known && err == nil && len(r.All()) == 1
	}()
	select {
	case ok := <-done:
		if !ok {
			t.Error("not known")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("who is known waits for the disk")
	}
}
