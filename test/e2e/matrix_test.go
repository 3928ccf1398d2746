//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

// The limits of a cell. This computer has other things to do, so a cell that took
// too long is repeated alone: who waits for us waits again. If it is too slow then,
// and more programs want to run than there are processors, the limit grows in
// proportion.
const (
	othersLimit = 5 * time.Second
	oursLimit   = 6 * time.Second
	repeats     = 3
)

// What ours meet in a cell: they are in, or read this.
const (
	in     = "" // they are in
	either = "either: the agent is there in one moment and not in the next"
	away   = "the login service on this machine is not available" // PAM's own words: nobody answered
	sshd   = "machine's login service does not answer"            // sally ssh's, where sshd itself refuses
	old    = "this machine has not heard from the server for 25h"
	nobody = "nobody: " // cron: no job runs, and nobody is there to read why
	noName = "name: "   // the program itself finds no such account
)

// wantOurs is written by hand: what ours meet in each state, by each way.
var wantOurs = map[string]map[string]string{ //nolint:gochecknoglobals // a table
	"agent up":        {"ssh": in, "sudo": in, "su": in, "login": in, "cron": in},
	"agent stopped":   {"ssh": sshd, "sudo": away, "su": away, "login": away, "cron": nobody},
	"agent dead":      {"ssh": sshd, "sudo": away, "su": away, "login": away, "cron": nobody},
	"agent in a loop": {"ssh": either, "sudo": either, "su": either, "login": either, "cron": either},
	"disk full":       {"ssh": in, "sudo": in, "su": in, "login": in, "cron": in},
	"nss corrupt":     {"ssh": sshd, "sudo": noName, "su": noName, "login": noName, "cron": nobody},
	"nss truncated":   {"ssh": sshd, "sudo": noName, "su": noName, "login": noName, "cron": nobody},
	"nss missing":     {"ssh": sshd, "sudo": noName, "su": noName, "login": noName, "cron": nobody},
	"server away":     {"ssh": in, "sudo": in, "su": in, "login": in, "cron": in},
	"server garbage":  {"ssh": in, "sudo": in, "su": in, "login": in, "cron": in},
	"snapshot stale":  {"ssh": old, "sudo": old, "su": old, "login": old, "cron": nobody},
}

// whatNoNameSays is what sudo, su and login say of an account that the name
// service does not know. It is their text, not ours; the way out is doctor's.
var whatNoNameSays = map[string][]string{ //nolint:gochecknoglobals // a table
	"sudo": {"you do not exist in the passwd database", "unknown uid"}, "su": {"does not exist"}, "login": {"Authentication failure", "incorrect", "unknown"},
}

// mayRead is the one file of ours that a login of somebody else opens, and why:
// the name x@other.example has the shape of ours, and which domains are ours
// stands in the name service's file. It is read, never waited for.
var mayRead = map[string]string{foreignName: "/var/lib/sallyport/nss.db"} //nolint:gochecknoglobals // a table

func ways() map[string]way {
	return map[string]way{"ssh": sshWay, "sudo": sudoWay, "su": suWay, "login": loginWay}
}

// TestMatrix_NeverLockedOut walks through everything that can be wrong with
// Sallyport on a machine. In each state everybody comes in each way at once.
// The people that are not ours notice nothing: they are in, quickly, and strace
// shows that nothing of theirs reached for the agent, the server, or our files.
// Ours are in, or read the sentence of the table.
//
// No cell is left out. Where a person has nothing to show for a way, the way is
// the one that such a person has: root and the holder of a key log in on a
// terminal as a getty with --autologin does it, and cron asks nobody for a key.
func TestMatrix_NeverLockedOut(t *testing.T) { eachSystem(t, neverLockedOut) }

func neverLockedOut(t *testing.T, system string) {
	m := settle(t, system)
	ownSSHD := m.doorkeeper(t)
	for _, s := range matrixStates() {
		if !t.Run(s.name, func(t *testing.T) {
			undo := s.make(t, m)
			defer undo()
			began := time.Now()
			m.everybody(t, s.name)
			t.Logf("all cells took %s", time.Since(began).Round(10*time.Millisecond))
		}) && os.Getenv("SALLY_MATRIX_STOP") != "" {
			return
		}
	}
	ownSSHD()
	t.Run("nss repaired", m.repaired)
	t.Run("clock", m.clocks)
}

// repaired: what damages the name service file for good in the states above is
// otherwise gone before anybody has noticed.
func (m *matrixVM) repaired(t *testing.T) {
	const file = "/var/lib/sallyport/nss.db"
	for _, damage := range []string{"rm " + file, "truncate -s 100 " + file, "head -c 8192 /dev/urandom >" + file, "chmod 666 " + file} {
		m.sh(t, damage)
		if err := until(oursLimit, func() error {
			if r := m.try("getent passwd " + m.ours.name); r.code != 0 {
				return errors.New(r.String())
			}
			return nil
		}); err != nil {
			t.Errorf("after %s: %v", damage, err)
		}
	}
	if r := m.ours.sshIP(m.vm, proof); !strings.Contains(r.out, saw) {
		t.Errorf("ours do not log in after it: %s", r)
	}
}

// cell is one person coming in by one way.
type cell struct {
	name, way string
	result    result
	took      time.Duration
}

// everybody runs all cells of a state at once and judges them.
func (m *matrixVM) everybody(t *testing.T, state string) {
	t.Helper()
	people := []string{rootByKey, localByKey, localByWord, foreignName, m.ours.name}
	file := m.traceFile(state, "all", "ssh")
	listener, stop := m.sshd(t, file)
	defer stop()
	defer m.witness(t)()
	var cells []cell
	if state == "agent stopped" { // who waits needs no processor
		var all sync.WaitGroup
		var mu sync.Mutex
		for w, run := range ways() {
			all.Go(func() {
				these := atOnce(w, people, func(name string) seen { return run(m, state, name) })
				mu.Lock()
				defer mu.Unlock()
				cells = append(cells, these...)
			})
		}
		all.Wait()
	} else {
		for w, run := range ways() {
			cells = append(cells, atOnce(w, people, func(name string) seen { return run(m, state, name) })...)
		}
	}
	var byCron []cell
	for range repeats {
		byCron = m.startCron(t, state).finish(t, people)
		if !slices.ContainsFunc(byCron, func(c cell) bool { return c.took > othersLimit || c.took == 0 && c.name != m.ours.name }) {
			break
		}
		t.Logf("by cron: %+v", byCron)
	}
	for _, c := range append(cells, byCron...) {
		m.judge(t, state, c)
	}
	stop()
	m.unnoticed(t, state, file, listener)
}

// witness looks from outside, while it lasts, at what a machine waits for whose
// cells take far too long: before the first of them is ended.
func (m *matrixVM) witness(t *testing.T) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		select {
		case <-done:
		case <-time.After(crowded(hangs * 4 / 5)):
			t.Logf("what the machine waits for: %s", m.try("systemctl --no-pager list-jobs; loginctl --no-pager; ps -eo pid,ppid,user,stat,wchan:20,args --forest; journalctl --no-pager -n 60"))
		}
	})
	return func() { close(done); looking.Wait() }
}

// crowded is a limit as it is on this computer now.
func crowded(limit time.Duration) time.Duration { return crowdtest.Limit(limit) }

// atOnce lets everybody come in at the same time.
func atOnce(way string, people []string, run func(name string) seen) []cell {
	cells := make([]cell, len(people))
	var all sync.WaitGroup
	for i, name := range people {
		all.Go(func() {
			began := time.Now()
			r := run(name)
			cells[i] = cell{name, way, r.result, r.at.Sub(began)}
		})
	}
	all.Wait()
	return cells
}

// judge compares a cell with the table.
func (m *matrixVM) judge(t *testing.T, state string, c cell) {
	t.Helper()
	limit, want := othersLimit, in
	if c.name == m.ours.name {
		limit, want = oursLimit, wantOurs[state][c.way]
	}
	run := ways()[c.way]
	for range repeats {
		if c.took <= limit || run == nil {
			break
		}
		t.Logf("%s by %s took %s: %s", c.name, c.way, c.took, c.result)
		began := time.Now()
		r := run(m, state, c.name)
		c.result, c.took = r.result, r.at.Sub(began)
	}
	if c.took > crowded(limit) {
		t.Errorf("%s by %s took %s: %s", c.name, c.way, c.took, c.result)
	}
	text := c.result.out + c.result.err
	isIn := strings.Contains(text, saw)
	switch want {
	case in:
		if !isIn {
			t.Errorf("%s by %s is not in: %s", c.name, c.way, c.result)
		}
		return
	case either:
		// An agent that starts anew between two questions has other words than away.
		if !isIn && c.way != "cron" && !strings.Contains(text, "Sallyport: ") && !strings.Contains(text, sshd) {
			t.Errorf("%s by %s is not in and has read no sentence: %s", c.name, c.way, c.result)
		}
		return
	case nobody:
	case noName:
		if !slices.ContainsFunc(whatNoNameSays[c.way], func(w string) bool { return strings.Contains(text, w) }) {
			t.Errorf("%s by %s: %s", c.name, c.way, c.result)
		}
	default:
		says(t, text, want, "sally agent status")
	}
	if isIn {
		t.Errorf("%s by %s is in: %s", c.name, c.way, c.result)
	}
}

// unnoticed looks at the system calls of everybody who is not ours.
func (m *matrixVM) unnoticed(t *testing.T, state, sshFile string, listener int) {
	t.Helper()
	ssh := readTrace(t, sshFile)
	top := strconv.Itoa(listener)
	cron := readTrace(t, m.traceFile(state, "all", "cron"))
	for _, name := range []string{rootByKey, localByKey, localByWord, foreignName} {
		for way, calls := range map[string][]string{
			"ssh":   ssh.tree(ssh.who("cell="+name+"/ssh"), top),
			"cron":  cron.tree(cron.who("cell="+name+"/cron"), cron.daemon()),
			"sudo":  readTrace(t, m.traceFile(state, name, "sudo")).all(),
			"su":    readTrace(t, m.traceFile(state, name, "su")).all(),
			"login": readTrace(t, m.traceFile(state, name, "login")).all(),
		} {
			if len(calls) < 20 {
				t.Errorf("%s by %s: strace saw only %d calls", name, way, len(calls))
			}
			if bad := contacts(calls, mayRead[name]); len(bad) > 0 {
				t.Errorf("%s by %s noticed Sallyport:\n%s", name, way, strings.Join(bad, "\n"))
			}
		}
	}
	if state != "agent up" {
		return
	}
	// The instrument sees what it is to see: ours did ask.
	for way, calls := range map[string][]string{"ssh": ssh.all(), "sudo": readTrace(t, m.traceFile(state, m.ours.name, "sudo")).all(), "cron": cron.all()} {
		if !slices.ContainsFunc(calls, func(c string) bool {
			return strings.HasPrefix(c, "connect(") && strings.Contains(c, "/run/sallyport/pam.sock")
		}) {
			t.Errorf("strace does not show that ours asked the agent by %s", way)
		}
	}
}

// cronRun is a cron that was started in a state; its first act is to run
// everybody's job.
type cronRun struct {
	m     *matrixVM
	cmd   *exec.Cmd
	began time.Time
}

func (m *matrixVM) startCron(t *testing.T, state string) *cronRun {
	t.Helper()
	m.sh(t, "rm -rf /run/matrix /run/crond.reboot && mkdir -m 1777 /run/matrix")
	c := &cronRun{m: m, cmd: m.strace(m.traceFile(state, "all", "cron"), m.argv("cron", "-f")...), began: time.Now()}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// finish waits for the jobs of all who are not ours and, as long, for cron to
// be done with everybody's.
func (c *cronRun) finish(t *testing.T, people []string) []cell {
	t.Helper()
	took := map[string]time.Duration{}
	_ = until(2*othersLimit, func() error {
		list := c.m.try("cd /run/matrix && ls").out
		for _, name := range people {
			if took[name] == 0 && slices.Contains(strings.Fields(list), name) {
				took[name] = time.Since(c.began)
			}
		}
		ours := 0
		if took[c.m.ours.name] > 0 {
			ours = 1
		}
		if len(took)-ours < len(people)-1 || ours == 0 && len(c.m.running("CRON")) > 0 {
			return fmt.Errorf("%v", took)
		}
		return nil
	})
	for _, pid := range c.m.running("cron", "-f") {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	_ = c.cmd.Wait()
	var cells []cell
	for _, name := range people {
		r := result{err: "the job did not run"}
		if took[name] > 0 {
			r = result{out: saw}
		}
		cells = append(cells, cell{name, "cron", r, took[name]})
	}
	return cells
}

// daemon is cron itself in its trace: the last program that was begun as cron.
func (tr trace) daemon() string { return tr.who(`"/usr/sbin/cron", `) }
