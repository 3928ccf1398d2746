package repository

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// as changes the effective user of this thread and of no other.
func as(t *testing.T, uid int) {
	t.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		t.Fatal(errno)
	}
}

// TestOpen_WhatCannotBeRead: the server's user lacks a right to the folder, which
// root never does.
func TestOpen_WhatCannotBeRead(t *testing.T) {
	const nobody = 65534
	for words, mode := range map[string]os.FileMode{"the folder of packages": 0o300, "the package": 0o400} {
		g := newRig(t)
		folder, err := os.MkdirTemp("", "packages")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		for _, err := range []error{os.WriteFile(filepath.Join(folder, "a.deb"), nil, 0o600), os.Chown(folder, nobody, nobody), os.Chmod(folder, mode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		g.folder = folder
		runtime.LockOSThread()
		as(t, nobody)
		_, err = g.open()
		as(t, 0)
		runtime.UnlockOSThread()
		if err == nil || !strings.Contains(err.Error(), words+" "+folder) || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: %v", words, err)
		}
	}
}

func TestOpen_TooManyPackages(t *testing.T) {
	g := newRig(t)
	for i := range maxPackages {
		if err := os.Symlink("nowhere", filepath.Join(g.folder, fmt.Sprintf("p%d.deb", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.open(); err == nil || !strings.Contains(err.Error(), "packages; 1000 are the most") {
		t.Errorf("got %v", err)
	}
}
