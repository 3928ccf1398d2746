//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// box is a lab machine seen from its computer: its namespaces entered as root,
// its processes, and its sshd's system calls. Nothing in it depends on a login,
// so that it works in every state that a machine can be in.
type box struct {
	*vm
	pid  int      // of the machine's first process, as this computer counts
	ns   string   // its pid namespace
	user []string // nsenter's word for a user namespace of the machine's own
}

// enter finds the machine's first process: number 1 of its own pid namespace, in
// whose root is the machine's identity.
func (m *vm) enter(t *testing.T) *box {
	t.Helper()
	b := &box{vm: m}
	if err := until(20*time.Second, func() error {
		for _, pid := range processes() {
			if innerPID(pid) != 1 {
				continue
			}
			if who, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/sallyport/machine.json", pid)); err == nil && strings.Contains(string(who), m.machineID) {
				b.pid, b.ns = pid, namespace(pid, "pid")
				return nil
			}
		}
		return fmt.Errorf("the first process of %s is not found", m.name)
	}); err != nil {
		t.Fatal(err)
	}
	if namespace(b.pid, "user") != namespace(os.Getpid(), "user") {
		b.user = []string{"-U"}
	}
	return b
}

// namespace names a namespace of a process; "" if it is gone.
func namespace(pid int, kind string) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	return name
}

func processes() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	pids := make([]int, 0, len(dirs))
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// innerPID is a process's number in its innermost pid namespace; 0 if it is gone.
func innerPID(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "NSpid:" {
			n, _ := strconv.Atoi(f[len(f)-1])
			return n
		}
	}
	return 0
}

// running lists the machine's processes whose command line contains all words.
func (b *box) running(words ...string) []int {
	var list []int
	for _, pid := range processes() {
		if namespace(pid, "pid") != b.ns {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		text := strings.ReplaceAll(string(line), "\x00", " ")
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			list = append(list, pid)
		}
	}
	return list
}

// signal sends one signal to every process of the machine that running finds.
func (b *box) signal(sig syscall.Signal, words ...string) {
	for _, pid := range b.running(words...) {
		_ = syscall.Kill(pid, sig)
	}
}

// kill ends every process of the machine that running finds, and returns when
// none of them is left: a process that was killed still answers for a moment.
func (b *box) kill(t *testing.T, words ...string) {
	t.Helper()
	pids := b.running(words...)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := until(20*time.Second, func() error {
		for _, pid := range pids {
			if slices.Contains(b.running(words...), pid) {
				return fmt.Errorf("process %d does not end", pid)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// cgroupOfSSH joins the control group that the machine's sshd runs in, where the
// machine has a systemd: logind makes no session for a process of elsewhere.
const cgroupOfSSH = `for f in /proc/$1/root/sys/fs/cgroup/system.slice/ssh.service/cgroup.procs /proc/$1/root/sys/fs/cgroup/*/system.slice/ssh.service/cgroup.procs; do
	[ ! -e "$f" ] || echo $$ >"$f"; done; shift; exec "$@"`

// argv is a command for the machine's root, in all of its namespaces and with a
// plain environment.
func (b *box) argv(command ...string) []string {
	enter := append([]string{"/bin/sh", "-c", cgroupOfSSH, "enter", strconv.Itoa(b.pid), "nsenter", "-t", strconv.Itoa(b.pid), "-m", "-u", "-i", "-n", "-p"}, b.user...)
	return append(append(enter, "--", "/usr/bin/env", "-i", "-C", "/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb"), command...)
}

// sh runs a script as root in the machine; a failure ends the test.
func (b *box) sh(t *testing.T, script string) string {
	t.Helper()
	r := b.try(script)
	if r.code != 0 {
		t.Fatalf("in %s: %s: %s", b.name, script, r)
	}
	return strings.TrimSpace(r.out)
}

func (b *box) try(script string) result {
	argv := b.argv("/bin/sh", "-ec", script)
	return captureFor(exec.Command(argv[0], argv[1:]...), crowded(time.Minute))
}

// put writes a file into the machine.
func (b *box) put(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	argv := b.argv("/bin/sh", "-ec", fmt.Sprintf("mkdir -p %s; cat >%s; chmod %o %s", filepath.Dir(path), path, mode, path))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("write %s into %s: %v %s", path, b.name, err, out)
	}
}

// listener is sshd's own process, the one that accepts.
func (b *box) listener(t *testing.T) int {
	t.Helper()
	for _, pid := range b.running("sshd") {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasSuffix(exe, "/usr/sbin/sshd") && (strings.Contains(string(line), "-D") || strings.Contains(string(line), "[listener]")) {
			return pid
		}
	}
	t.Fatalf("no sshd listens in %s", b.name)
	return 0
}
