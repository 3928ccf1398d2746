package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// put makes one entry of a process table.
func put(t *testing.T, dir string, pid int, stat, status string, files map[string]string) {
	t.Helper()
	d := filepath.Join(dir, fmt.Sprint(pid))
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	files2 := map[string]string{"stat": stat, "status": status}
	for k, v := range files {
		files2[k] = v
	}
	for name, text := range files2 {
		if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func stat(pid int, comm string, ppid, session, tty int, start uint64) string {
	return fmt.Sprintf("%d (%s) S %d %d %d %d -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", pid, comm, ppid, pid, session, tty, start)
}

func TestTable_Read(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, 42, stat(42, "a) S 1 (b", 7, 41, 34816, 12345), "Name:\tx\nUid:\t0\t1001\t0\t1001\nGid:\t0\t0\t0\t0\n",
		map[string]string{"loginuid": "1879048200", "sessionid": "9", "cmdline": "sshd: /usr/sbin/sshd -D\x00[listener]\x00"})
	if err := os.Symlink("/usr/sbin/sshd (deleted)", filepath.Join(dir, "42", "exe")); err != nil {
		t.Fatal(err)
	}
	p, err := Table{dir}.Read(42)
	if err != nil {
		t.Fatal(err)
	}
	want := Process{PID: 42, State: 'S', PPID: 7, Session: 41, TTY: 34816, Start: 12345, UIDs: [4]uint32{0, 1001, 0, 1001}, LoginUID: 1879048200, Audit: "9",
		Comm: "a) S 1 (b", Exe: "/usr/sbin/sshd (deleted)", Title: "sshd: /usr/sbin/sshd -D [listener]"}
	if p != want {
		t.Fatalf("got %+v", p)
	}
	if !p.SSHD() || !p.Privileged() || p.Root() || !p.Has(1001) || p.Has(7) || p.Listener() {
		t.Fatal("what it is was judged wrongly")
	}
	p.UIDs = [4]uint32{}
	if !p.Root() || !p.Listener() {
		t.Fatal("the listener was not known")
	}
}

func TestTable_ReadOfOddProcesses(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, 5, stat(5, "kthread", 2, 0, 0, 1), "Uid:\t0\t0\t0\t0\n", map[string]string{"loginuid": "4294967295", "sessionid": "4294967295"})
	p, err := Table{dir}.Read(5)
	if err != nil || p.LoginUID != NoLogin || p.Audit != "" || p.Exe != "" || p.Title != "" {
		t.Fatalf("%+v %v", p, err)
	}
	put(t, dir, 6, "6 (cut", "Uid:\t0\t0\t0\t0\n", nil)
	put(t, dir, 7, stat(7, "x", 1, 1, 0, 1), "Name: no uid line\n", nil)
	put(t, dir, 8, stat(8, "x", 1, 1, 0, 1), "Uid:\t0\t-1\t0\t0\n", nil)
	for _, pid := range []int{6, 7, 8, 9} {
		if _, err := (Table{dir}).Read(pid); err == nil {
			t.Errorf("process %d was read", pid)
		}
	}
	all, err := Table{dir}.All()
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
}

func TestProcess_SameComparesStartTimes(t *testing.T) {
	a := Process{PID: 3, Start: 1}
	if !a.Same(Process{PID: 3, Start: 1}) || a.Same(Process{PID: 3, Start: 2}) || a.Same(Process{PID: 4, Start: 1}) {
		t.Fatal("wrong")
	}
}

// What could not be looked at just now is not taken for gone; what the kernel lacks
// or will not show is no failure.
func TestTable_WhatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		file  string // that a folder stands for, which opens and cannot be read
		fails bool
	}{
		"stat": {"stat", true}, "status": {"status", true}, "loginuid": {"loginuid", true}, "sessionid": {"sessionid", true}, "exe": {"exe", false}, "cmdline": {"cmdline", false},
	} {
		dir := t.TempDir()
		for pid := 3; pid < 6; pid++ {
			put(t, dir, pid, stat(pid, "x", 1, 1, 0, 1), "Uid:\t7\t7\t7\t7\n", map[string]string{"loginuid": "7"})
		}
		path := filepath.Join(dir, "4", c.file)
		if err := errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o755)); err != nil {
			t.Fatal(err)
		}
		if all, err := (Table{dir}).All(); (err != nil) != c.fails || err == nil && len(all) != 3 {
			t.Errorf("%s: %d processes, %v", name, len(all), err)
		}
	}
	dir := t.TempDir()
	put(t, dir, 3, stat(3, "x", 1, 1, 0, 1), "Uid:\t7\t7\t7\t7\n", nil) // a kernel without audit
	put(t, dir, 4, stat(4, "x", 1, 1, 0, 1), "Uid:\t7\t7\t7\t7\n", map[string]string{"loginuid": "", "sessionid": "-1"})
	if err := os.Mkdir(filepath.Join(dir, "5"), 0o755); err != nil { // one that is just going
		t.Fatal(err)
	}
	if all, err := (Table{dir}).All(); err != nil || len(all) != 2 || all[0].LoginUID != NoLogin || all[1].LoginUID != NoLogin || all[0].Audit != "" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestUnknown(t *testing.T) {
	for err, want := range map[error]bool{nil: false, unix.ENOENT: false, unix.ESRCH: false, unix.EACCES: false, unix.EPERM: false, errShape: false,
		unix.ENOMEM: true, unix.EMFILE: true, unix.ENFILE: true, unix.EIO: true} {
		if err != nil {
			err = errors.Join(nil, err)
		}
		if Unknown(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// TestTable_AllOfThisComputer: nothing that a healthy machine runs fails the look.
func TestTable_AllOfThisComputer(t *testing.T) {
	for range 20 {
		if all, err := (Table{"/proc"}).All(); err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
	}
}
