package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWrite_ReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two and longer", ""} {
		if err := Write(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		b, err := Read(path, uint32(os.Geteuid()), 100)
		if err != nil || string(b) != text {
			t.Fatalf("%q %v", b, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Fatal(info.Mode(), err)
	}
}

// TestWrite_CVE_2026_31979_FollowsNoLink (CVE-2025-54882): a link in place of the new file or of
// the target leads nowhere.
func TestWrite_CVE_2026_31979_FollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "f")
	if err := os.WriteFile(victim, []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{path, path + ".new"} {
		if err := os.Symlink(victim, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "safe" {
		t.Fatal("the link was followed")
	}
}

func TestRead_RefusesWhatCannotBeTrusted(t *testing.T) {
	dir := t.TempDir()
	me := uint32(os.Geteuid())
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(link, me, 100); err == nil {
		t.Error("a link was read")
	}
	if _, err := Read(path, me+1, 100); err == nil {
		t.Error("another's file was read")
	}
	if _, err := Read(path, me, 3); err == nil {
		t.Error("a file over the limit was read")
	}
	if _, err := Read(dir, me, 100); err == nil {
		t.Error("a folder was read")
	}
	for _, mode := range []os.FileMode{0o620, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, me, 100); err == nil {
			t.Errorf("mode %o was read", mode)
		}
	}
}

func TestRemove_IsIdempotent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolder_RefusesALink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if err := Folder(filepath.Join(dir, "l"), 0o700); err == nil {
		t.Fatal("a link was taken for a folder")
	}
	if err := Folder(filepath.Join(dir, "new"), 0o711); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "new")); info.Mode().Perm() != 0o711 {
		t.Fatal(info.Mode())
	}
}
