package session

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

const (
	aliceUID = 1879048200
	bobUID   = 1879048201
)

// kernel is a process table and the signals that change it.
type kernel struct {
	list     []proc.Process
	stubborn map[int]bool // survives HUP
	waits    map[int]bool // in the kernel, where no signal reaches it
	sent     map[int][]unix.Signal
	spawn    func(k *kernel, round int)
	after    func(k *kernel) // once a scan has been made
	listed   func(k *kernel) // before ids are listed
	scans    int
	swept    []uint32
	slices   bool            // persons have slices
	held     map[uint32]bool // those that are stopped
	holds    int
	locked   int // how often a release fails
}

func (k *kernel) Hold(uid uint32) (bool, error) {
	if k.slices {
		k.held[uid] = true
		k.holds++
	}
	return k.slices, nil
}

func (k *kernel) Held(uid uint32) bool { return k.held[uid] }

func (k *kernel) Release(uid uint32) error {
	if k.locked > 0 {
		k.locked--
		return unix.EMFILE
	}
	delete(k.held, uid)
	return nil
}

func (k *kernel) PIDs() ([]int, error) {
	if k.listed != nil {
		k.listed(k)
	}
	pids := left(k)
	slices.Sort(pids)
	return pids, nil
}

func (k *kernel) Sweep(uid uint32) error {
	k.swept = append(k.swept, uid)
	return nil
}

func (k *kernel) All() ([]proc.Process, error) {
	k.scans++
	if k.spawn != nil {
		k.spawn(k, k.scans)
	}
	seen := slices.Clone(k.list)
	if k.after != nil {
		k.after(k)
	}
	return seen, nil
}

func (k *kernel) Read(pid int) (proc.Process, error) {
	for _, p := range k.list {
		if p.PID == pid {
			return p, nil
		}
	}
	return proc.Process{}, os.ErrNotExist
}

func (k *kernel) Signal(pid int, sig unix.Signal, same func() bool) error {
	if !same() {
		return nil
	}
	k.sent[pid] = append(k.sent[pid], sig)
	if k.waits[pid] {
		return nil
	}
	if sig == unix.SIGSTOP {
		for i := range k.list {
			if k.list[i].PID == pid {
				k.list[i].State = 'T'
			}
		}
		return nil
	}
	if sig == unix.SIGKILL || !k.stubborn[pid] {
		k.list = slices.DeleteFunc(k.list, func(p proc.Process) bool { return p.PID == pid })
	}
	return nil
}

func uids(u uint32) [4]uint32 { return [4]uint32{u, u, u, u} }

func process(pid int, uid, login uint32, title string) proc.Process {
	return proc.Process{PID: pid, PPID: 1, Session: pid, Start: uint64(pid), State: 'S', UIDs: uids(uid), LoginUID: login, Title: title, Comm: "x", Exe: "/bin/x"}
}

func sshdProcess(pid int, uid, login uint32, title string) proc.Process {
	p := process(pid, uid, login, title)
	p.Comm, p.Exe = "sshd", "/usr/sbin/sshd"
	return p
}

func world(t *testing.T) (*kernel, *Ender, string) {
	t.Helper()
	run := t.TempDir()
	k := &kernel{held: map[uint32]bool{}, sent: map[int][]unix.Signal{}, stubborn: map[int]bool{}}
	k.list = []proc.Process{
		process(1, 0, proc.NoLogin, "init"),
		process(50, 0, aliceUID, "sally agent root"), // restarted by an administrator: ourselves
		sshdProcess(60, 0, aliceUID, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"),
		sshdProcess(100, 0, aliceUID, "sshd: alice [priv]"),
		sshdProcess(101, aliceUID, aliceUID, "sshd: alice@pts/0"),
		process(102, aliceUID, aliceUID, "-bash"),
		process(103, 0, aliceUID, "sudo sleep"),
		process(104, bobUID, aliceUID, "sleep as bob"),
		process(105, aliceUID, proc.NoLogin, "daemonised, loginuid lost"),
		process(106, 0, aliceUID, "nginx: master process"),
		process(107, 0, aliceUID, "sh left behind as root"),
		process(200, bobUID, bobUID, "-bash of bob"),
		process(300, 0, proc.NoLogin, "cron"),
		process(301, 1000, 1000, "local person"),
	}
	zombie := process(108, aliceUID, aliceUID, "")
	zombie.State = 'Z'
	k.list = append(k.list, zombie)
	if err := os.MkdirAll(filepath.Join(run, "nginx"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(run, "nginx", "nginx.pid"), []byte("106\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := New(Config{Root: t.TempDir(), Processes: k, Signaller: k, Holder: k, Daemons: run, Terminals: t.TempDir(), ProcFolder: t.TempDir(), Wait: func(context.Context, time.Duration) {}, Self: 50})
	return k, e, run
}

func left(k *kernel) []int {
	var pids []int
	for _, p := range k.list {
		pids = append(pids, p.PID)
	}
	return pids
}

func TestEnd_EverythingOfTheLoginAndNothingElse(t *testing.T) {
	k, e, _ := world(t)
	k.stubborn[107] = true
	n, err := e.End(context.Background(), []Target{{UID: aliceUID, Message: "bye"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{1, 50, 60, 106, 200, 300, 301, 108}; !slices.Equal(left(k), want) {
		t.Fatalf("left %v, want %v", left(k), want)
	}
	if !slices.Equal(n, []Outcome{{Met: 7, Swept: true}}) {
		t.Fatalf("met %v processes", n)
	}
	if !slices.Equal(k.sent[107], []unix.Signal{unix.SIGHUP, unix.SIGKILL}) {
		t.Fatalf("signals %v", k.sent[107])
	}
	// sshd has the grace to carry the message.
	if !slices.Equal(k.sent[100], []unix.Signal{unix.SIGKILL}) || !slices.Equal(k.sent[101], []unix.Signal{unix.SIGKILL}) {
		t.Fatalf("signals to sshd: %v %v", k.sent[100], k.sent[101])
	}
}

// TestEnd_SweepsWhatNoScanSees: of everything of a person, and of nothing less.
func TestEnd_SweepsWhatNoScanSees(t *testing.T) {
	k, e, _ := world(t)
	mine := []Origin{{PID: 100, Start: 100}}
	targets := []Target{{UID: aliceUID}, {UID: bobUID, Elevated: true}, {UID: bobUID, Origins: mine}, {UID: bobUID, Spare: mine}}
	if _, err := e.End(t.Context(), targets); err != nil || !slices.Equal(k.swept, []uint32{aliceUID}) {
		t.Fatalf("swept %v, %v", k.swept, err)
	}
}

func TestEndElevated_LeavesTheSession(t *testing.T) {
	k, e, _ := world(t)
	if _, err := e.End(context.Background(), []Target{{UID: aliceUID, Elevated: true, Message: "bye"}}); err != nil {
		t.Fatal(err)
	}
	if want := []int{1, 50, 60, 100, 101, 102, 105, 106, 200, 300, 301, 108}; !slices.Equal(left(k), want) {
		t.Fatalf("left %v, want %v", left(k), want)
	}
}

func TestEnd_ProcessesThatAppearMeanwhile(t *testing.T) {
	k, e, _ := world(t)
	k.spawn = func(k *kernel, round int) {
		if round < 10 {
			k.list = append(k.list, process(1000+round, aliceUID, aliceUID, "fork"))
		}
	}
	if _, err := e.End(context.Background(), []Target{{UID: aliceUID}}); err != nil {
		t.Fatal(err)
	}
	for _, p := range k.list {
		if p.Has(aliceUID) && p.State != 'Z' {
			t.Fatalf("process %d is left", p.PID)
		}
	}
}

func TestEnd_ForkBombIsReported(t *testing.T) {
	k, e, _ := world(t)
	k.spawn = func(k *kernel, round int) { k.list = append(k.list, process(1000+round, aliceUID, aliceUID, "fork")) }
	if _, err := e.End(context.Background(), []Target{{UID: aliceUID}}); err == nil {
		t.Fatal("no error although processes are left")
	}
}

// TestEnd_SaysWhatIsLeft: a process that no signal ends is left of its own target,
// and the others are done.
func TestEnd_SaysWhatIsLeft(t *testing.T) {
	k, e, _ := world(t)
	k.waits = map[int]bool{102: true}
	for i := range k.list {
		if k.list[i].PID == 102 {
			k.list[i].State = 'D'
		}
	}
	waited := time.Duration(0)
	e.cfg.Wait = func(_ context.Context, d time.Duration) { waited += d }
	n, err := e.End(t.Context(), []Target{{UID: aliceUID}, {UID: bobUID}})
	if waited > 2*time.Second || k.scans > 150 { // others' endings wait for this one
		t.Errorf("%s, %d looks", waited, k.scans)
	}
	if err == nil || !slices.Equal(n, []Outcome{{Met: 7, Left: true, Swept: true}, {Met: 1, Swept: true}}) || !slices.Contains(k.swept, bobUID) {
		t.Fatalf("%v %+v, swept %v", err, n, k.swept)
	}
}

// TestEnd_WithoutACatchAllIsLeft: what could not be looked for may be there.
func TestEnd_WithoutACatchAllIsLeft(t *testing.T) {
	k, e, _ := world(t)
	k.slices, k.waits = true, map[int]bool{102: true}
	e.cfg.Processes = blind{k}
	if n, err := e.End(t.Context(), []Target{{UID: aliceUID}, {UID: bobUID}}); err == nil || !n[0].Left || !n[1].Left {
		t.Fatalf("%v %+v", err, n)
	}
}

// TestEnd_UsedAgainProcessIDIsNotSignalled: the process that was seen has ended
// and its id is somebody else's.
func TestEnd_UsedAgainProcessIDIsNotSignalled(t *testing.T) {
	k, e, _ := world(t)
	seen, _ := k.Read(102)
	for i := range k.list {
		if k.list[i].PID == 102 {
			k.list[i] = process(102, bobUID, bobUID, "bob's")
			k.list[i].Start = 999
		}
	}
	if err := e.signal(seen, unix.SIGKILL, func(proc.Process) bool { return true }); err != nil || k.sent[102] != nil {
		t.Fatalf("%v %v", err, k.sent[102])
	}
}

func TestPresent_ListsWhoIsHere(t *testing.T) {
	_, e, _ := world(t)
	s, err := e.Look()
	if got := s.Present(aliceUID, bobUID); err != nil || !slices.Equal(got, []uint32{aliceUID, bobUID}) {
		t.Fatalf("%v %v", got, err)
	}
}

func TestPidfd_SignalsARealProcess(t *testing.T) {
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if err := (Pidfd{}).Signal(p.Pid, unix.SIGKILL, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := (Pidfd{}).Signal(p.Pid, unix.SIGKILL, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(); err != nil || st.Success() {
		t.Fatalf("%v %v", st, err)
	}
}

// TestEnd_SparesWhoIsNotedMeanwhile: in every round, and what would end all of the
// person at once is not done then.
func TestEnd_SparesWhoIsNotedMeanwhile(t *testing.T) {
	for _, at := range []int{1, 2, 3} {
		k, e, _ := world(t)
		var noted []Origin
		k.spawn = func(k *kernel, round int) {
			if round == at {
				k.list = append(k.list, login(1200, "8", "pts/1", child(1202, aliceUID, "bash"))...)
				noted = []Origin{{PID: 1200, Start: 1200, Audit: "8"}}
			}
		}
		n, err := e.End(t.Context(), []Target{{UID: aliceUID, Noted: func() []Origin { return noted }}})
		if want := []int{1, 50, 60, 106, 200, 300, 301, 108, 1202, 1200, 1201}; err != nil || !slices.Equal(left(k), want) || k.swept != nil || n[0].Swept || n[0].Left {
			t.Errorf("%d: %v left %v, %+v, swept %v", at, err, left(k), n, k.swept)
		}
	}
}

// TestEnd_LoginThatShowsNobodyYet: without audit sessions the process that lets
// somebody in is root's until the person's own begins.
func TestEnd_LoginThatShowsNobodyYet(t *testing.T) {
	k, e, _ := world(t)
	k.list = []proc.Process{process(1, 0, proc.NoLogin, "init"), sshdProcess(900, 0, proc.NoLogin, "sshd: alice [priv]"), sshdProcess(910, 0, proc.NoLogin, "sshd: bob [priv]")}
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID, Logins: []Origin{{PID: 900, Start: 900}}}}); err != nil || !slices.Equal(left(k), []int{1, 910}) {
		t.Fatalf("%v, left %v", err, left(k))
	}
}

// TestEnd_CatchesWhatWaitsAnew: what waits in the kernel whenever it is seen, and is
// another process each time, is still caught.
func TestEnd_CatchesWhatWaitsAnew(t *testing.T) {
	k, e, _ := world(t)
	k.slices = true
	k.spawn = func(k *kernel, round int) {
		p := process(1000+round, aliceUID, aliceUID, "fork")
		p.State = 'D'
		k.list = append(k.list, p)
	}
	if _, err := e.End(t.Context(), []Target{{UID: aliceUID}}); err == nil || k.holds < 10 {
		t.Fatalf("%v, held %d times", err, k.holds)
	}
}
