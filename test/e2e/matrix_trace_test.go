//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traced is what strace is asked for: every way to reach a socket, to open a
// file and to become another program, and the family tree.
const traced = "trace=connect,sendto,sendmsg,open,openat,openat2,execve,clone,clone3,fork,vfork"

// strace runs a program and all that it starts. The kernel itself sorts out which
// calls are asked for (seccomp), so that the others cost nothing.
func (m *matrixVM) strace(file string, argv ...string) *exec.Cmd {
	cmd := exec.Command("strace", append([]string{"-f", "--seccomp-bpf", "-E", "LD_PRELOAD", "--pidns-translation", "-q", "-s", "256", "-e", traced, "-e", "signal=none", "-o", file}, argv...)...)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+m.privileges)
	return cmd
}

// doorkeeper makes the machine's ssh service one that only holds its place, so
// that the sshd of each state can be started by strace, in that place; undo gives
// the machine its own back. The service has begun when its program runs: only then
// is the folder there (/run/sshd) that systemd makes for it and sshd insists on.
func (m *matrixVM) doorkeeper(t *testing.T) (undo func()) {
	t.Helper()
	const unit = "/etc/systemd/system/ssh.service.d/matrix.conf"
	m.put(t, unit, "[Service]\nType=exec\nExecStartPre=\nExecStart=\nExecStart=/bin/sleep infinity\nExecReload=\n", 0o644)
	m.sh(t, "systemctl daemon-reload; systemctl restart ssh")
	return func() {
		m.sh(t, "rm "+unit+"; systemctl daemon-reload; systemctl restart ssh")
		m.listens(t, func() error { return nil })
	}
}

// listens waits until the machine's sshd answers, for as long as it lives.
func (m *matrixVM) listens(t *testing.T, lives func() error) {
	t.Helper()
	if err := until(20*time.Second, func() error {
		if err := lives(); err != nil {
			t.Fatalf("the sshd of %s: %v", m.name, err)
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(m.host, m.port), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, err = c.Read(make([]byte, 1))
		return err
	}); err != nil {
		t.Fatalf("the sshd of %s: %v", m.name, err)
	}
}

// sshd runs an sshd under strace. stop ends it with all of its sessions.
func (m *matrixVM) sshd(t *testing.T, file string) (listener int, stop func()) {
	t.Helper()
	cmd := m.strace(file, m.argv("/usr/sbin/sshd", "-D")...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	stop = func() {
		m.signal(syscall.SIGTERM, "sshd", "-D")
		select {
		case <-gone:
		case <-time.After(10 * time.Second): // somebody's session goes on
			m.signal(syscall.SIGKILL, "sshd")
			_ = cmd.Process.Kill()
			<-gone
		}
	}
	m.listens(t, func() error {
		select {
		case <-gone:
			return fmt.Errorf("it has ended: %s", said.String())
		default:
			return nil
		}
	})
	return m.listener(t), stop
}

// keepPrivileges makes a library that turns one call of strace's into nothing.
// Before it installs its filter, strace gives up that programs with the set-user-ID
// bit mean anything below it (prctl(2), PR_SET_NO_NEW_PRIVS), which sudo and su
// would notice. Root needs not do so (seccomp(2)).
func keepPrivileges(t *testing.T) string {
	t.Helper()
	const source = `#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int prctl(int option, ...)
{
	unsigned long a[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(list, unsigned long);
	va_end(list);
	return option == PR_SET_NO_NEW_PRIVS ? 0 : (int)syscall(SYS_prctl, option, a[0], a[1], a[2], a[3]);
}
`
	library := filepath.Join(t.TempDir(), "privileges.so")
	cc := exec.Command("cc", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC", "-x", "c", "-o", library, "-")
	cc.Stdin = strings.NewReader(source)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return library
}

// trace is a file of `strace -f -o`: who called what, and who is whose child.
type trace struct {
	parent map[string]string
	calls  map[string][]string // by pid, in order
	pids   []string
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(.*)$`)
	traceChild = regexp.MustCompile(`(?:clone3?|v?fork)(?:\(| resumed).* = (?:\d+ /\* )?(\d+)(?: in strace's PID NS \*/)?$`)
)

func readTrace(t *testing.T, path string) trace {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := trace{parent: map[string]string{}, calls: map[string][]string{}}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		m := traceLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		if !slices.Contains(tr.pids, m[1]) {
			tr.pids = append(tr.pids, m[1])
		}
		tr.calls[m[1]] = append(tr.calls[m[1]], m[2])
		if c := traceChild.FindStringSubmatch(m[2]); c != nil {
			tr.parent[c[1]] = m[1]
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// tree returns every call of the family of a process: of the child of top that
// it descends from, and all of that one's descendants. top itself, which serves
// everybody, is not in it.
func (tr trace) tree(pid, top string) []string {
	for tr.parent[pid] != "" && tr.parent[pid] != top {
		pid = tr.parent[pid]
	}
	var calls []string
	for _, p := range tr.pids {
		for up := p; up != ""; up = tr.parent[up] {
			if up == pid {
				calls = append(calls, tr.calls[p]...)
				break
			}
		}
	}
	return calls
}

// who returns a process that a word was an argument of, "" for none.
func (tr trace) who(word string) string {
	for _, p := range tr.pids {
		for _, c := range tr.calls[p] {
			if strings.HasPrefix(c, "execve(") && strings.Contains(c, word) {
				return p
			}
		}
	}
	return ""
}

func (tr trace) all() []string {
	var calls []string
	for _, p := range tr.pids {
		calls = append(calls, tr.calls[p]...)
	}
	return calls
}

// contacts returns the calls that reach for the agent, the server, or our state.
// allowed names a file that may be read.
func contacts(calls []string, allowed string) []string {
	var bad []string
	for _, c := range calls {
		ours := strings.Contains(c, "/run/sallyport") || strings.Contains(c, "/var/lib/sallyport") || strings.Contains(c, "/etc/sallyport/") ||
			strings.Contains(c, "10.77.0.1\"") || strings.Contains(c, "htons(443)") || strings.HasPrefix(c, "execve(") && strings.Contains(c, "sallyport-principals")
		if ours && (allowed == "" || !strings.Contains(c, fmt.Sprintf("%q, O_RDONLY", allowed))) {
			bad = append(bad, c)
		}
	}
	return bad
}
