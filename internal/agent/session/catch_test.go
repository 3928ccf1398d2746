package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

const bombAudit = "77"

// bomb is a process of one login of alice's; as is whose it runs as.
func bomb(pid int, as uint32) proc.Process {
	p := process(pid, as, aliceUID, "bomb")
	p.Audit = bombAudit
	return p
}

func bombs(k *kernel) (list []int) {
	for _, p := range k.list {
		if p.Audit == bombAudit {
			list = append(list, p.PID)
		}
	}
	return list
}

// forks lets every bomb that runs have a child behind each scan, so that no scan
// has seen all, until the table is full.
func forks(k *kernel) {
	next := 5000
	const full = 64
	k.after = func(k *kernel) {
		for _, p := range slices.Clone(k.list) {
			if p.Audit == bombAudit && p.State != 'T' && !k.held[aliceUID] && len(bombs(k)) < full {
				next++
				k.list = append(k.list, bomb(next, p.UIDs[0]))
			}
		}
	}
}

// parts are the targets that are less than a person.
func parts() map[string]Target {
	return map[string]Target{
		"one login":           {UID: aliceUID, Origins: []Origin{{PID: 9999, Start: 1, Audit: bombAudit}}},
		"all but another":     {UID: aliceUID, Spare: []Origin{{PID: 102, Start: 102, Audit: "5"}}},
		"what runs as others": {UID: aliceUID, Elevated: true},
	}
}

// TestEnd_ForkBombOfAPart: one that forks without end is ended with the login, or
// the role, that it belongs to: in a slice that is stopped meanwhile, and without
// slices by stopping it first.
func TestEnd_ForkBombOfAPart(t *testing.T) {
	for name, target := range parts() {
		for _, sliced := range []bool{true, false} {
			k, e, _ := world(t)
			k.slices = sliced
			k.list = slices.DeleteFunc(k.list, func(p proc.Process) bool { return p.LoginUID == aliceUID || p.Has(aliceUID) })
			other := process(102, aliceUID, aliceUID, "-bash")
			other.Audit = "5"
			k.list = append(k.list, other, bomb(1000, bobUID), bomb(1001, bobUID))
			forks(k)
			if _, err := e.End(t.Context(), []Target{target}); err != nil {
				t.Errorf("%s, slices %v: %v", name, sliced, err)
			}
			if left := bombs(k); len(left) > 0 {
				t.Errorf("%s, slices %v: %d go on", name, sliced, len(left))
			}
			if _, err := k.Read(102); err != nil || k.sent[102] != nil {
				t.Errorf("%s, slices %v: the other login got %v, %v", name, sliced, k.sent[102], err)
			}
			if len(k.held) > 0 || sliced != (k.holds > 0) {
				t.Errorf("%s, slices %v: held are %v after %d times", name, sliced, k.held, k.holds)
			}
		}
	}
}

// TestEnd_ReleasesWhatItStopped, also when it cannot look.
func TestEnd_ReleasesWhatItStopped(t *testing.T) {
	k, e, _ := world(t)
	k.slices = true
	e.cfg.Processes = blind{k}
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID}}); err == nil || k.holds == 0 || len(k.held) > 0 {
		t.Fatalf("%v, held %d times, now %v", err, k.holds, k.held)
	}
}

// TestEnd_ReleasesUntilItGoesOn: a release that fails is tried again, for nobody
// else would let the person's slice go on.
func TestEnd_ReleasesUntilItGoesOn(t *testing.T) {
	k, e, _ := world(t)
	k.slices, k.locked = true, 3
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID}}); err != nil || k.holds == 0 || len(k.held) > 0 {
		t.Fatalf("%v, held %d times, now %v", err, k.holds, k.held)
	}
}

// blind is a process table that cannot be read while somebody is stopped.
type blind struct{ *kernel }

func (b blind) All() ([]proc.Process, error) {
	if len(b.held) > 0 {
		return nil, errors.New("out of memory")
	}
	return b.kernel.All()
}

// TestEnd_HuntsWhatNoScanSees: a process that is its own child again and again has
// another id each time that ids are listed.
func TestEnd_HuntsWhatNoScanSees(t *testing.T) {
	for name, target := range parts() {
		k, e, _ := world(t)
		hop := hops(k)
		n, err := e.End(t.Context(), []Target{target})
		if err != nil || len(bombs(k)) > 0 || !slices.Contains(k.sent[hop.PID], unix.SIGKILL) || n[0].Met == 0 {
			t.Errorf("%s: %v, left %v, sent %v, met %v", name, err, bombs(k), k.sent[hop.PID], n)
		}
	}
}

// hops lets one process be its own child, with another id each time that ids are
// listed; no scan of all sees it. What is returned is always the last.
func hops(k *kernel) *proc.Process {
	last := &proc.Process{PID: 7000}
	k.listed = func(k *kernel) {
		k.list = slices.DeleteFunc(k.list, last.Same)
		if k.sent[last.PID] != nil {
			return // killed before it had a child
		}
		*last = bomb(last.PID+1, bobUID)
		k.list = append(k.list, *last)
	}
	k.after = func(k *kernel) { k.list = slices.DeleteFunc(k.list, last.Same) }
	return last
}

// TestEnd_TellsOfWhatNoScanSaw: who loses only what runs elevated reads so also
// where no look saw it before it was caught; of what never ran nothing is said.
func TestEnd_TellsOfWhatNoScanSaw(t *testing.T) {
	for name, hopping := range map[string]bool{"a hop": true, "nothing": false} {
		k, e, _ := world(t)
		shell := process(102, aliceUID, aliceUID, "-bash")
		read := onTerminal(t, e, &shell)
		k.list = []proc.Process{shell}
		if hopping {
			hops(k)
		}
		none := Target{UID: bobUID, Elevated: true, Message: "not for alice"}
		_, err := e.End(t.Context(), []Target{none, {UID: aliceUID, Elevated: true, Message: "your role has gone"}})
		if said := read(); err != nil || strings.Count(said, "your role has gone") != len(k.sent) || strings.Contains(said, "not for") || hopping != (len(k.sent) == 1) {
			t.Errorf("%s: %v, read %q, sent %v", name, err, said, k.sent)
		}
	}
}

// TestEnd_TellsOfWhatACatchMet, also when that could not be seen out.
func TestEnd_TellsOfWhatACatchMet(t *testing.T) {
	k, e, _ := world(t)
	shell := process(102, aliceUID, aliceUID, "-bash")
	read := onTerminal(t, e, &shell)
	hop := bomb(7001, bobUID)
	k.list, k.slices, k.locked = []proc.Process{shell, hop}, true, 1000
	e.cfg.Processes = moving{k, hop}
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID, Elevated: true, Message: "your role has gone"}}); !errors.Is(err, unix.EMFILE) || strings.Count(read(), "your role has gone") != 1 || k.sent[hop.PID] == nil {
		t.Fatalf("%v, sent %v", err, k.sent)
	}
}

// moving is a process table in which one is not seen unless its person is stopped.
type moving struct {
	*kernel
	hop proc.Process
}

func (m moving) All() ([]proc.Process, error) {
	all, err := m.kernel.All()
	if !m.held[aliceUID] {
		all = slices.DeleteFunc(all, m.hop.Same)
	}
	return all, err
}

// onTerminal gives a process a terminal, and returns what that shows so far.
func onTerminal(t *testing.T, e *Ender, p *proc.Process) func() string {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(slave) })
	e.cfg.Terminals = "/dev/pts"
	p.TTY = int(unix.Mkdev(uint32(136+n/256), uint32(n%256)))
	return func() string {
		b := make([]byte, 4096)
		m, _ := unix.Read(fd, b) // EAGAIN: nothing was written
		return string(b[:max(m, 0)])
	}
}

// TestEnd_SaysThatTheHuntIsLost: one that has a child before each look goes on, and
// that is an error.
func TestEnd_SaysThatTheHuntIsLost(t *testing.T) {
	k, e, _ := world(t)
	pid, last := 7000, proc.Process{}
	k.listed = func(k *kernel) {
		k.list = slices.DeleteFunc(k.list, last.Same)
		pid++
		last = bomb(pid, bobUID)
		k.list = append(k.list, last)
	}
	k.after = func(k *kernel) { k.list = slices.DeleteFunc(k.list, last.Same) }
	if _, err := e.End(t.Context(), []Target{parts()["one login"]}); !errors.Is(err, errFaster) {
		t.Fatal(err)
	}
}

// TestEnd_HuntsOnlyWhatItCanLookAt: a process that could not be read just now has
// not gone, and nobody says that nothing is left.
func TestEnd_HuntsOnlyWhatItCanLookAt(t *testing.T) {
	k, e, _ := world(t)
	e.cfg.Processes = short{k}
	pid := 7000
	k.listed = func(k *kernel) {
		pid++
		k.list = append(slices.DeleteFunc(k.list, bomb(pid-1, bobUID).Same), bomb(pid, bobUID))
	}
	k.after = func(k *kernel) { k.list = slices.DeleteFunc(k.list, bomb(pid, bobUID).Same) }
	if _, err := e.End(t.Context(), []Target{parts()["one login"]}); !errors.Is(err, unix.ENOMEM) {
		t.Fatal(err)
	}
}

// short is a process table for which memory runs out at new processes.
type short struct{ *kernel }

func (s short) Read(pid int) (proc.Process, error) {
	if pid > 7000 {
		return proc.Process{}, unix.ENOMEM
	}
	return s.kernel.Read(pid)
}

// groupFolder is a hierarchy of control groups as systemd makes it.
func groupFolder(t *testing.T, slices ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, s := range slices {
		at := filepath.Join(dir, "user.slice", s)
		for file, text := range map[string]string{freezeFile: "0\n", eventsFile: "populated 1\nfrozen 0\n"} {
			if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, file), []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestSlices_HoldAndRelease(t *testing.T) {
	dir := groupFolder(t, "user-1879048200.slice", "user-1000.slice")
	own := filepath.Join(t.TempDir(), "cgroup")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	frozen := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, "user.slice", name, freezeFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:1])
	}
	write(own, "0::/system.slice/sallyport-agent-root.service\n")
	s := Slices{Folders: []string{filepath.Join(dir, "unified"), dir}, Self: own}
	if is, err := s.Hold(aliceUID); !is || err != nil || frozen("user-1879048200.slice") != "1" || frozen("user-1000.slice") != "0" || s.Held(aliceUID) {
		t.Fatal(is, err)
	}
	write(filepath.Join(dir, "user.slice/user-1879048200.slice", eventsFile), "populated 1\nfrozen 1\n")
	if !s.Held(aliceUID) {
		t.Error("the kernel says that it has stopped")
	}
	if err := s.Release(aliceUID); err != nil || frozen("user-1879048200.slice") != "0" {
		t.Error(err)
	}
	if is, err := s.Hold(bobUID); is || err != nil {
		t.Error("a slice that is not there:", is, err)
	}
	if err := s.Release(bobUID); err != nil {
		t.Error("a slice that has gone:", err)
	}
	// Who would stop himself stops nobody.
	write(own, "12:pids:/x\n0::/user.slice/user-1879048200.slice/session-4.scope\n")
	if is, err := s.Hold(aliceUID); is || err != nil || frozen("user-1879048200.slice") != "0" {
		t.Error("it would have stopped itself:", is, err)
	}
	// What is stopped goes on also when that can no longer be read.
	write(filepath.Join(dir, "user.slice/user-1879048200.slice", freezeFile), "1\n")
	s.Self = filepath.Join(dir, "none")
	if err := s.Release(aliceUID); err != nil || frozen("user-1879048200.slice") != "0" {
		t.Error("it stays stopped:", err)
	}
}

// TestSlices_ReleaseAll: what a killed agent left stopped goes on when the next one
// starts, if it is of our people.
func TestSlices_ReleaseAll(t *testing.T) {
	names := []string{"user-1879048200.slice", "user-1879048201.slice", "user-1000.slice", "user-1879048200x.slice"}
	dir := groupFolder(t, names...)
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, "user.slice", name, freezeFile), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := (Slices{Folders: []string{dir}}).ReleaseAll(aliceUID, bobUID); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, "user.slice", name, freezeFile))
		if err != nil || (b[0] == '0') != (i < 2) {
			t.Errorf("%s: %s %v", name, b, err)
		}
	}
}
