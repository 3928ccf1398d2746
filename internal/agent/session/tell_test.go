package session

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
)

// A message goes into a pipe that sshd reads, and into nothing else that a person
// made his standard error.
func TestTell_StandardErrorThatSSHDCarries(t *testing.T) {
	k, e, _ := world(t)
	dir := t.TempDir()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	own, ownWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	defer ownWriter.Close()
	file := filepath.Join(dir, "errors.txt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The fds of these processes are links to this test's own.
	e.cfg.ProcFolder = filepath.Join(dir, "proc")
	fd := func(pid, n int, to string) {
		at := filepath.Join(e.cfg.ProcFolder, fmt.Sprint(pid), "fd")
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(at, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	name := func(f *os.File) string {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	fd(1101, 9, name(reader))
	fd(1102, 2, name(writer))
	fd(1103, 2, file)
	fd(1104, 2, name(ownWriter))
	k.list = login(1100, "7", "notty", child(1102, aliceUID, "rsync"), child(1103, aliceUID, "x"), child(1104, aliceUID, "y"))
	s, err := e.Look()
	if err != nil {
		t.Fatal(err)
	}
	carried := e.carried(s.list)
	if !carried[name(reader)] || carried[name(ownWriter)] || len(carried) != 1 {
		t.Fatalf("sshd carries %v", carried)
	}
	// What the kernel resolves by itself below /proc is a plain link here.
	path := fmt.Sprintf("/proc/self/fd/%d", writer.Fd())
	if !write(path, 0o10000, inode(name(writer)), "the message\n") {
		t.Fatal("the pipe was not written to")
	}
	got := make([]byte, 100)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "the message\n" {
		t.Fatalf("%q %v", got[:n], err)
	}
	for what, wrote := range map[string]bool{
		"another pipe":   write(fmt.Sprintf("/proc/self/fd/%d", ownWriter.Fd()), 0o10000, inode(name(writer)), "x"),
		"a file":         write(file, 0o10000, inode(name(writer)), "x"),
		"a link":         write(fmt.Sprintf("/proc/self/fd/%d", ownWriter.Fd()), 0o10000, 0, "x"),
		"no such":        write(file+".none", 0o10000, 1, "x"),
		"not a terminal": write(file, 0o20000, 0, "x"),
	} {
		if wrote {
			t.Errorf("%s was written to", what)
		}
	}
	if b, _ := os.ReadFile(file); len(b) > 0 {
		t.Errorf("the person's file holds %q", b)
	}
}

func TestInode_OnlyOfPipes(t *testing.T) {
	for link, want := range map[string]uint64{"pipe:[42]": 42, "pipe:[042]": 0, "pipe:[42": 0, "pipe:[]": 0, "socket:[42]": 0, "/tmp/pipe:[42]": 0, "": 0, "pipe:[-1]": 0} {
		if got := inode(link); got != want {
			t.Errorf("%q: %d", link, got)
		}
	}
}

// A pipe that nobody reads and that is full does not hold the ending up.
func TestWrite_FullPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", writer.Fd()))
	path := fmt.Sprintf("/proc/self/fd/%d", writer.Fd())
	for range 100 {
		if !write(path, 0o10000, inode(link), strings.Repeat("x", 4096)) {
			return
		}
	}
	t.Fatal("a full pipe took more")
}

func TestLeft_TellsWhatEndingDoesNotReach(t *testing.T) {
	k, e, _ := world(t)
	manager := process(300, aliceUID, aliceUID, "/lib/systemd/systemd --user")
	manager.Comm, manager.Audit = "systemd", "9"
	k.list = append(login(1100, "7", "pts/0"), manager, process(301, aliceUID, aliceUID, "sleep"))
	since := time.Now().Add(-time.Hour)
	for _, path := range []string{"var/spool/cron/crontabs/" + alice, "var/lib/systemd/linger/" + alice, "run/systemd/transient/run-r1.service", "run/systemd/transient/old.service", "run/systemd/transient/session-4.scope", "run/systemd/transient/x.device"} {
		path = filepath.Join(e.cfg.Root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := since.Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(e.cfg.Root, "run/systemd/transient/old.service"), before, before); err != nil {
		t.Fatal(err)
	}
	who := Who{UID: aliceUID, LoginName: alice, Since: since, Others: []Origin{{PID: 1100, Start: 1100, Audit: "7"}}}
	got := strings.Join(e.Left(who), "; ")
	for _, want := range []string{"2 processes of the person, a service manager", "a crontab", "lingering"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told: %s", want, got)
		}
	}
	if strings.Contains(got, "run-r1") {
		t.Errorf("somebody who was never root: %s", got)
	}
	who.Admin = true
	if got := e.Left(who); !slices.Contains(got, "units that somebody gave the system's service manager since: run-r1.service") {
		t.Errorf("%q", got)
	}
	if got := e.Left(Who{UID: bobUID, LoginName: "nobody", Since: since}); got != nil {
		t.Errorf("%q", got)
	}
	if got := (Scene{list: k.list}).Managers(aliceUID); len(got) != 1 || got[0].Audit != "9" {
		t.Errorf("%v", got)
	}
}

func TestLeft_CountsJobsByOwner(t *testing.T) {
	k, e, _ := world(t)
	k.list = nil
	dir := filepath.Join(e.cfg.Root, "var/spool/cron/atjobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a0001"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := e.Left(Who{UID: uint32(os.Geteuid()), LoginName: "x"}); len(got) != 1 || !strings.HasPrefix(got[0], "1 at jobs") {
		t.Errorf("%q", got)
	}
	if got := e.Left(Who{UID: aliceUID, LoginName: "x"}); got != nil {
		t.Errorf("%q", got)
	}
}

func TestSpared_SessionThatOutlivesItsListener(t *testing.T) {
	for title, listener := range map[string]bool{"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups": true, "/usr/sbin/sshd -D": true, "sshd: " + alice + " [priv]": false, "sshd-session: " + alice + " [priv]": false} {
		p := sshdProcess(100, 0, proc.NoLogin, title)
		if p.Listener() != listener {
			t.Errorf("%s: %t", title, p.Listener())
		}
	}
}
