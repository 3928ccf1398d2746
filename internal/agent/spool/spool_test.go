package spool

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

func open(t *testing.T, path string, change func(*Config)) *Spool {
	t.Helper()
	made := 0
	c := Config{Path: path, Owner: uint32(os.Geteuid()), Make: func(kind string, detail map[string]string) (protocol.MachineEvent, error) {
		made++
		return protocol.MachineEvent{ID: fmt.Sprintf("made-%d", made), Type: kind, Detail: detail}, nil
	}}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// kill leaves a queue as a process that was killed does: nothing more is written.
func kill(s *Spool) *Spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s
}

func event(id, kind string) protocol.MachineEvent {
	return protocol.MachineEvent{ID: id, Type: kind, LoginName: "alice@corp.example", Detail: map[string]string{"reason": "r"}}
}

// drain takes everything, as a server that acknowledges each batch.
func drain(s *Spool) (list []protocol.MachineEvent) {
	var have []string
	for {
		batch, _ := s.Take(have, 0)
		if len(batch) == 0 {
			return list
		}
		list, have = append(list, batch...), nil
		for _, e := range batch {
			have = append(have, e.ID)
		}
	}
}

func ids(list []protocol.MachineEvent) (out []string) {
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}

// TestSpool_GathersBeforeItOffers: events wait for the gathering time, a full
// batch does not, and what comes during a report is gathered anew.
func TestSpool_GathersBeforeItOffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	s := open(t, path, func(c *Config) { c.Gather = 10 * time.Millisecond })
	take := func(have ...string) (int, <-chan struct{}) {
		events, changed := s.Take(have, 0)
		return len(events), changed
	}
	s.Add(event("a", "login.allow"))
	n, changed := take()
	if n == 0 {
		<-changed
	}
	if n, _ = take(); n != 1 {
		t.Fatalf("%d events after the gathering time", n)
	}
	s.Add(event("b", "login.allow")) // while the report of a is under way
	if n, changed = take("a"); n == 0 {
		<-changed
	}
	if n, _ = take(); n != 1 {
		t.Fatalf("%d events after the report", n)
	}
	if n, _ = take("b"); n != 0 {
		t.Fatalf("%d events are left", n)
	}
	s.cfg.Gather = time.Hour
	for range MaxBatch {
		s.Add(event("c", "login.allow"))
	}
	if n, _ = take(); n != MaxBatch {
		t.Fatalf("a full batch offers %d", n)
	}
	kill(s)
	if events, _ := open(t, path, nil).Take(nil, 0); len(events) != MaxBatch {
		t.Fatalf("after a restart %d events are offered", len(events))
	}
	if events, _ := s.Take(nil, 3); len(events) != 3 {
		t.Fatalf("%d events, 3 were asked for", len(events))
	}
}

// TestSpool_NumbersNeverComeTwice: also after everything was taken, and after a
// restart.
func TestSpool_NumbersNeverComeTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	want := int64(1)
	for round := range 3 {
		s := open(t, path, nil)
		for i := range 3 {
			s.Add(event(fmt.Sprint(round, i), "login.allow"))
		}
		for _, e := range drain(s) {
			if e.Sequence != want {
				t.Fatalf("number %d, want %d", e.Sequence, want)
			}
			want++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpool_GivesUpInOrder: repeated successes go first, then successes, then
// repeated refusals; a flood of one person's refusals does not cost another's;
// and the count is told.
func TestSpool_GivesUpInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	s := open(t, path, func(c *Config) { c.Events = 20 })
	s.Add(event("first-deny", "login.deny"))
	mallory := event("mallory", "sudo.deny")
	mallory.LoginName = "mallory@corp.example"
	s.Add(mallory)
	for i := range 30 {
		s.Add(event(fmt.Sprint("allow", i), "login.allow"))
	}
	s.flush() // what the timer does
	left := ids(drain(kill(open(t, path, func(c *Config) { c.Events = 1000 }))))
	if !slices.Contains(left, "first-deny") || !slices.Contains(left, "mallory") || !slices.Contains(left, "allow29") || slices.Contains(left, "allow1") || len(left) > 21 {
		t.Fatalf("%v", left)
	}
	for i := range 100 {
		s.Add(event(fmt.Sprint("deny", i), "login.deny"))
	}
	left = ids(drain(s))
	if !slices.Contains(left, "mallory") || !slices.Contains(left, "deny99") || slices.Contains(left, "first-deny") || slices.Contains(left, "allow29") {
		t.Fatalf("%v", left)
	}
	last := left[len(left)-1]
	if !strings.HasPrefix(last, "made-") {
		t.Fatalf("%s: what was given up is not told", last)
	}
}

// TestSpool_CountsWhatItGivesUp: the sum of what arrives and what is told as
// given up is what happened, also over a restart.
func TestSpool_CountsWhatItGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	small := func(c *Config) { c.Bytes = 4 << 10 }
	s := open(t, path, small)
	for i := range 500 {
		s.Add(event(fmt.Sprint(i), "session.open"))
	}
	if st := s.State(); st.Dropped == 0 || st.Waiting+int(st.Dropped) != 500 {
		t.Fatalf("%+v", st)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		s.flush() // what the timer does, unless it is at it
		info, err := os.Stat(path)
		if err == nil && info.Size() <= 5<<10 {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("%v, %v", info, err)
		}
	}
	kill(s)
	s = open(t, path, small)
	got := drain(s)
	fault := got[len(got)-1]
	if fault.Type != kindFault || fault.Detail["dropped"] != fmt.Sprint(500-len(got)+1) || !strings.HasPrefix(fault.Detail["kinds"], "session.open ") {
		t.Fatalf("%d came, and %+v", len(got)-1, fault)
	}
	if fault.Sequence != 501 || s.State() != (State{}) {
		t.Fatalf("%+v %+v", fault, s.State())
	}
}

// TestSpool_TornEnd: a line that a loss of power cut costs itself alone, and
// what is added next is not glued to it.
func TestSpool_TornEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	s := open(t, path, nil)
	for _, id := range []string{"a", "b", "c"} {
		s.Add(event(id, "login.allow"))
	}
	kill(s)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := from; cut < len(whole)-1; cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, path, nil)
		again.Add(event("d", "login.deny"))
		kill(again)
		got := drain(kill(open(t, path, nil)))
		want := []string{"a", "b", "d"}
		if cut > from {
			want = append(want, "made-1")
		}
		if !slices.Equal(ids(got), want) {
			t.Fatalf("cut at %d: %v", cut, ids(got))
		}
	}
	for _, text := range []string{"garbage\n", "\x00\x00\x00", `{"spool":9}` + "\n", "{}\n"} {
		if err := os.WriteFile(path, append([]byte(text), whole...), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ids(drain(kill(open(t, path, nil)))); !slices.Contains(got, "b") || !slices.Contains(got, "c") || !slices.Contains(got, "made-1") {
			t.Fatalf("%q: %v", text, got)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil { // somebody else may have written it
		t.Fatal(err)
	}
	if got := ids(drain(open(t, path, nil))); !slices.Equal(got, []string{"made-1"}) {
		t.Fatalf("%v", got)
	}
}

// TestSpool_FullDisk: what cannot be written is kept in memory and told, and it
// is on the disk when that takes something again. The disk is a file system of
// its own, so that it is really full.
func TestSpool_FullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("a file system of its own needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "events")
	s := open(t, path, nil)
	s.Add(event("a", "login.allow"))
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 500<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		s.Add(event(fmt.Sprint("b", i), "login.deny"))
	}
	if st := s.State(); st.Trouble == "" || st.Waiting != 202 {
		t.Fatalf("%+v", st)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	s.flush() // what the timer does
	if st := s.State(); st.Trouble != "" {
		t.Fatalf("%+v", st)
	}
	kill(s)
	got := drain(open(t, path, nil))
	told := slices.ContainsFunc(got, func(e protocol.MachineEvent) bool {
		return e.Type == kindFault && strings.Contains(e.Detail["reason"], "no space left")
	})
	if len(got) != 202 || !told {
		t.Fatalf("%d events, told %v", len(got), told)
	}
}

const killMode = "SALLY_SPOOL_KILL"

// TestSpool_Kill9: a process that dies at any moment loses no event that Add
// returned for.
func TestSpool_Kill9(t *testing.T) {
	if path := os.Getenv(killMode); path != "" {
		s, err := Open(Config{Path: path, Owner: uint32(os.Geteuid()), Events: 50, Make: func(kind string, d map[string]string) (protocol.MachineEvent, error) {
			return protocol.MachineEvent{ID: "x", Type: kind, Detail: d}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			id := fmt.Sprintf("%d-%d", os.Getpid(), i)
			s.Add(event(id, "login.deny"))
			fmt.Println("added", id)
			if i%7 == 6 {
				batch, _ := s.Take(nil, 5)
				s.Take(ids(batch), 0)
				fmt.Println("taken", strings.Join(ids(batch), " "))
			}
		}
	}
	path := filepath.Join(t.TempDir(), "events")
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSpool_Kill9$", "-test.v")
		cmd.Env = append(os.Environ(), killMode+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		added, taken := []string{}, []string{}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 60 {
				_ = cmd.Process.Kill()
			}
			if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == "added" {
				added = append(added, f[1])
			} else if len(f) > 1 && f[0] == "taken" {
				taken = append(taken, f[1:]...)
			}
		}
		_ = cmd.Wait()
		left := ids(drain(kill(open(t, path, nil))))
		lost := slices.DeleteFunc(added, func(id string) bool { return slices.Contains(taken, id) || slices.Contains(left, id) })
		// The last Take may have been done and not printed.
		if len(lost) > 5 {
			t.Fatalf("lost %v", lost)
		}
		if len(taken) == 0 {
			t.Fatal("nothing was taken, so nothing was tried")
		}
	}
}
