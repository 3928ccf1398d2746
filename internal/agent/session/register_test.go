package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/machine/protocol"
)

const alice = "alice@corp.example"

// login is the processes of one ssh connection of alice: monitor, sshd of her
// own, and what they run.
func login(pid int, audit, shown string, below ...proc.Process) []proc.Process {
	list := []proc.Process{sshdProcess(pid, 0, aliceUID, "sshd: "+alice+" [priv]"), sshdProcess(pid+1, aliceUID, aliceUID, "sshd: "+alice+"@"+shown)}
	list[1].PPID = pid
	for _, p := range append(below, list...) {
		p.Audit = audit
		if p.PPID == 0 {
			p.PPID = pid + 1
		}
		list = append(list, p)
	}
	return list[2:]
}

func child(pid int, uid uint32, comm string) proc.Process {
	p := process(pid, uid, aliceUID, comm)
	p.Comm, p.PPID = comm, 0
	return p
}

func noted(pid int, audit, id string) Login {
	return Login{Origin: Origin{PID: pid, Start: uint64(pid), Audit: audit}, ID: id, ObjectID: "o", LoginName: alice, UID: aliceUID, Service: "sshd", Serial: id}
}

func sight(elapsed time.Duration) Sight {
	n := 0
	return Sight{Low: aliceUID, High: bobUID, Now: time.Unix(1e9, 0), Elapsed: elapsed,
		Person: func(uid uint32) (string, string, bool) { return fmt.Sprint("object ", uid), alice, uid == aliceUID },
		NewID:  func() (string, error) { n++; return fmt.Sprint("new ", n), nil }}
}

func nobodySpared(proc.Process) bool { return false }

func register(t *testing.T, path, boot string) *Register {
	t.Helper()
	r, err := OpenRegister(path, uint32(os.Geteuid()), boot)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUpdate_KindsOfSessions(t *testing.T) {
	for name, c := range map[string]struct {
		list     []proc.Process
		kind     protocol.SessionKind
		tty      string
		elevated int
	}{
		"terminal":            {login(100, "1", "pts/3", child(102, aliceUID, "bash"), child(103, 0, "sudo"), child(104, 0, "su")), protocol.SessionPTY, "pts/3", 2},
		"two terminals":       {login(100, "1", "pts/3,pts/4", child(102, aliceUID, "bash")), protocol.SessionPTY, "pts/3,pts/4", 0},
		"command":             {login(100, "1", "notty", child(102, aliceUID, "rsync")), protocol.SessionExec, "", 0},
		"file transfer":       {login(100, "1", "notty", child(102, aliceUID, "sftp-server")), protocol.SessionSFTP, "", 0},
		"transfer inside":     {login(100, "1", "internal-sftp"), protocol.SessionSFTP, "", 0},
		"forwarded port":      {login(100, "1", ""), protocol.SessionForward, "", 0},
		"left behind":         {login(100, "1", "notty", child(102, aliceUID, "sleep"), child(103, bobUID, "sleep"))[:2], protocol.SessionBackground, "", 1},
		"another's processes": {login(100, "2", "notty", child(102, aliceUID, "bash")), "", "", 0},
	} {
		r := register(t, filepath.Join(t.TempDir(), "s"), "boot")
		if err := r.Add(noted(100, "1", "one")); err != nil {
			t.Fatal(err)
		}
		open, err := r.Update(scene(c.list, nobodySpared), sight(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if c.kind == "" {
			if len(open) != 0 {
				t.Errorf("%s: %+v", name, open)
			}
			continue
		}
		if len(open) != 1 || open[0].Kind != c.kind || open[0].TTY != c.tty || open[0].Elevated != c.elevated || open[0].Processes != len(c.list) {
			t.Errorf("%s: %+v", name, open)
		}
	}
}

func TestRegister_SurvivesARestartAndNotABoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := register(t, path, "boot")
	for i, id := range []string{"one", "two"} {
		if err := r.Add(noted(100*(i+1), fmt.Sprint(i), id)); err != nil {
			t.Fatal(err)
		}
	}
	now := scene(slices.Concat(login(100, "0", "pts/1"), login(200, "1", "notty")), nobodySpared)
	open, err := register(t, path, "boot").Update(now, sight(time.Hour))
	if err != nil || len(open) != 2 || open[0].Serial != "one" || open[1].Serial != "two" {
		t.Fatalf("%+v %v", open, err)
	}
	if open, err = register(t, path, "another").Update(now, sight(time.Hour)); err != nil || len(open) != 0 {
		t.Fatalf("processes of another boot were taken for sessions: %+v %v", open, err)
	}
	if err := os.WriteFile(path, []byte(`{"boot":"boot","logins":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = OpenRegister(path, uint32(os.Geteuid()), "boot")
	if err == nil || r == nil {
		t.Fatal("a cut file was taken")
	}
	if open, err = r.Update(now, sight(time.Hour)); err != nil || len(open) != 0 {
		t.Fatalf("%+v %v", open, err)
	}
}

// A file that cannot be written keeps nobody out: the login counts.
func TestRegister_FullDisk(t *testing.T) {
	r := register(t, filepath.Join(t.TempDir(), "none", "s"), "boot")
	if r.Add(noted(100, "0", "one")) == nil {
		t.Error("the fault was not told")
	}
	if open, err := r.Update(scene(login(100, "0", "pts/1"), nobodySpared), sight(0)); err != nil || len(open) != 1 {
		t.Fatalf("%+v %v", open, err)
	}
}

func TestUpdate_AdoptsWhatNobodyToldOf(t *testing.T) {
	r := register(t, filepath.Join(t.TempDir(), "s"), "boot")
	manager := process(300, aliceUID, aliceUID, "/lib/systemd/systemd --user")
	manager.Comm, manager.Audit = "systemd", "9"
	s := scene(append(login(100, "1", "pts/0", child(102, aliceUID, "bash")), manager, process(400, bobUID, bobUID, "no audit session")), nobodySpared)
	at := sight(time.Hour)
	for _, d := range []time.Duration{0, adoptAfter - 1} {
		at.Elapsed = time.Hour + d
		if open, err := r.Update(s, at); err != nil || len(open) != 0 {
			t.Fatalf("after %s, when PAM may still be at it: %+v %v", d, open, err)
		}
	}
	at.Elapsed = time.Hour + adoptAfter
	open, err := r.Update(s, at)
	if err != nil || len(open) != 2 || open[0].PID != 100 || open[0].Kind != protocol.SessionPTY || open[0].Service != "sshd" || !open[0].Issued.IsZero() || open[1].Service != "systemd-user" || open[1].Kind != protocol.SessionLocal {
		t.Fatalf("%+v %v", open, err)
	}
	if age := at.Now.Sub(open[0].Since); age != time.Hour+adoptAfter-time.Second {
		t.Errorf("process of tick 100 began %s ago", age)
	}
	again, err := r.Update(s, at)
	if err != nil || !slices.EqualFunc(open, again, func(a, b Open) bool { return a.ID == b.ID }) {
		t.Fatalf("%+v %v", again, err)
	}
	// PAM told late after all: its word replaces the guess.
	if err := r.Add(noted(100, "1", "told")); err != nil {
		t.Fatal(err)
	}
	if open, err = r.Update(s, at); err != nil || len(open) != 2 || open[1].ID != "told" {
		t.Fatalf("%+v %v", open, err)
	}
}

func TestRegister_RemoveFindAndBound(t *testing.T) {
	r := register(t, filepath.Join(t.TempDir(), "s"), "boot")
	for i := range maxLogins + 5 {
		r.logins = append(r.logins, noted(i+1, fmt.Sprint(i), fmt.Sprint(i)))
	}
	err := errors.Join(r.Add(noted(9999, "x", "last")), r.Remove("100"))
	if got := r.Find(proc.Process{PID: 9999, Start: 9999}); err != nil || got.ID != "last" || len(r.logins) != maxLogins-1 || r.logins[0].ID == "0" {
		t.Fatalf("%v %+v, %d", err, got, len(r.logins))
	}
	if got := r.Find(proc.Process{PID: 9999, Start: 1}); got.ID != "" {
		t.Fatalf("another process with the same id: %+v", got)
	}
}

// One login of a person ends, by its audit session or, where there is none, by
// the process tree; his others stay.
func TestEnd_OneLoginOfAPerson(t *testing.T) {
	for _, audit := range []string{"7", ""} {
		k, e, _ := world(t)
		k.list = append(login(1100, audit, "pts/0", child(1102, aliceUID, "bash"), child(1103, 0, "sudo")), login(1200, "8", "pts/1", child(1202, aliceUID, "bash"))...)
		detached := child(1104, 0, "left behind")
		detached.PPID, detached.Audit = 1, audit
		k.list = append(k.list, detached)
		n, err := e.End(t.Context(), []Target{{UID: aliceUID, Origins: []Origin{{PID: 1100, Start: 1100, Audit: audit}}}})
		want, met := []int{1202, 1200, 1201}, 5
		if audit == "" { // the kernel tells less: what is detached stays
			want, met = append(want, 1104), 4
		}
		if err != nil || !slices.Equal(left(k), want) || n[0].Met != met {
			t.Errorf("audit session %q: %v left %v, met %v", audit, err, left(k), n)
		}
	}
}

func TestEnd_EverythingButANewerLogin(t *testing.T) {
	k, e, _ := world(t)
	k.list = append(login(1100, "7", "pts/0", child(1102, aliceUID, "bash")), login(1200, "8", "pts/1", child(1202, aliceUID, "bash"))...)
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID, Spare: []Origin{{PID: 1200, Start: 1200, Audit: "8"}}}}); err != nil || !slices.Equal(left(k), []int{1202, 1200, 1201}) {
		t.Fatalf("%v %v", left(k), err)
	}
}

// Many people lose their rights at once, and none waits for another.
func TestEnd_AllTargetsAtOnce(t *testing.T) {
	k, e, _ := world(t)
	waited := time.Duration(0)
	k.list, k.stubborn = nil, map[int]bool{}
	var targets []Target
	for i := range 50 {
		k.list = append(k.list, process(1000+i, aliceUID+uint32(i), aliceUID+uint32(i), "bash"))
		k.stubborn[1000+i] = true
		targets = append(targets, Target{UID: aliceUID + uint32(i)})
	}
	e.cfg.Wait = func(_ context.Context, d time.Duration) { waited += d }
	n, err := e.End(t.Context(), targets)
	if err != nil || len(k.list) != 0 || waited > 300*time.Millisecond || slices.ContainsFunc(n, func(o Outcome) bool { return o.Met == 0 || o.Left }) {
		t.Fatalf("%v, %d left, waited %s, met %v", err, len(k.list), waited, n)
	}
}

// What a person may have left with others is looked for since his first login,
// also when that has ended.
func TestRegister_StayOutlastsLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := register(t, path, "boot")
	first, second := noted(100, "0", "one"), noted(200, "1", "two")
	first.Since, first.Admin, second.Since = time.Unix(1000, 0), true, time.Unix(2000, 0)
	if err := errors.Join(r.Add(first), r.Add(second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(scene(login(200, "1", "pts/1"), nobodySpared), sight(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []string{"boot", "another"} {
		got, ok := register(t, path, boot).Stay(aliceUID)
		if ok != (boot == "boot") || ok && (!got.Since.Equal(time.Unix(1000, 0)) || !got.Admin) {
			t.Errorf("%s: %+v %t", boot, got, ok)
		}
	}
}

// TestAdd_ProcessIDUsedAgain: what an ended connection left in the background keeps
// its certificate when another login has the process id of that connection.
func TestAdd_ProcessIDUsedAgain(t *testing.T) {
	r := register(t, filepath.Join(t.TempDir(), "s"), "boot")
	next := noted(100, "2", "next")
	next.Start = 999
	if err := errors.Join(r.Add(noted(100, "1", "thief")), r.Add(next)); err != nil {
		t.Fatal(err)
	}
	again := sshdProcess(100, 0, aliceUID, "sshd: "+alice+" [priv]")
	again.Start, again.Audit = 999, "2"
	behind := child(102, aliceUID, "nc")
	behind.Audit, behind.PPID = "1", 1
	open, err := r.Update(scene([]proc.Process{again, behind}, nobodySpared), sight(0))
	if err != nil || len(open) != 2 || open[0].Serial != "thief" {
		t.Fatalf("%+v %v", open, err)
	}
}

// TestRegister_Since: what this process noted since, of one person; what was noted
// by another is never new.
func TestRegister_Since(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := register(t, path, "boot")
	bobs := noted(300, "3", "bob's")
	bobs.UID = bobUID
	if err := errors.Join(r.Add(noted(100, "1", "one")), r.Add(noted(200, "2", "two")), r.Add(bobs)); err != nil {
		t.Fatal(err)
	}
	for number, want := range [][]int{{100, 200}, {200}, nil, nil} {
		var got []int
		for _, o := range r.Since(aliceUID, uint64(number)) {
			got = append(got, o.PID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("since %d: %v", number, got)
		}
	}
	again := register(t, path, "boot")
	if err := again.Add(noted(400, "4", "four")); err != nil {
		t.Fatal(err)
	}
	if got := again.Since(aliceUID, 0); r.Noted() != 3 || again.Noted() != 1 || len(got) != 1 || got[0].PID != 400 {
		t.Errorf("%d, %v", r.Noted(), got)
	}
}
