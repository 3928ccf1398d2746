//go:build e2e

package wiring

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/crowdtest"
)

// TestMain lets the test program be what runs in a machine: its first process, and
// the agent's root part.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "machine":
			fmt.Fprintln(os.Stderr, first(os.Args[2], os.Args[3]))
			os.Exit(1)
		case "attributes":
			attributes(os.Args[2:])
			os.Exit(0)
		case "mark": // FILE with an extended attribute
			if err := unix.Setxattr(os.Args[2], "user.note", []byte("kept"), 0); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "agent":
			fmt.Fprintln(os.Stderr, agentMain())
			os.Exit(1)
		}
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make machines of namespaces and mounts, and need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// disk is the room of a machine for everything that it writes.
const disk = "48m"

// first is a machine's first process: it builds the root, says so, and reaps.
func first(lower, dir string) error {
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("disk", dir, "tmpfs", unix.MS_NODEV, "mode=0755,size="+disk) },
		func() error {
			return errors.Join(os.Mkdir(dir+"/upper", 0o755), os.Mkdir(dir+"/work", 0o755), os.Mkdir(dir+"/root", 0o755))
		},
		func() error {
			return unix.Mount("overlay", dir+"/root", "overlay", unix.MS_NODEV, "lowerdir="+lower+",upperdir="+dir+"/upper,workdir="+dir+"/work")
		},
		func() error { return bind(os.Getenv("TESTER"), dir+"/root/usr/bin/tester") },
		func() error { return bind(os.Getenv("SALLY"), dir+"/root/usr/bin/sally") },
		func() error { return unix.Mount("proc", dir+"/root/proc", "proc", 0, "") },
		func() error { return unix.Mount("run", dir+"/root/run", "tmpfs", 0, "mode=0755") },
		func() error {
			return unix.Mount("dev", dir+"/root/dev", "tmpfs", unix.MS_NOSUID, "mode=0755,size=64k")
		},
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		steps = append(steps, func() error { return bind("/dev/"+name, dir+"/root/dev/"+name) })
	}
	steps = append(steps,
		func() error { return os.Mkdir(dir+"/root/dev/pts", 0o755) },
		func() error {
			return unix.Mount("devpts", dir+"/root/dev/pts", "devpts", 0, "newinstance,gid=5,mode=0620,ptmxmode=0666")
		},
		func() error { return os.Symlink("pts/ptmx", dir+"/root/dev/ptmx") },
		func() error { return unix.Chroot(dir + "/root") },
		func() error { return os.Chdir("/") },
		func() error { return unix.Sethostname([]byte("box")) })
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("machine, step %d: %w", i, err)
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	fmt.Println("ready")
	for range ended {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}

func bind(from, to string) error {
	if err := os.WriteFile(to, nil, 0o755); err != nil {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}

// box is one machine.
type box struct {
	t     *testing.T
	suite string
	pid   int
}

var suites = []string{"bullseye", "bookworm", "trixie"}

// eachSystem runs a test on a machine of each system, side by side.
func eachSystem(t *testing.T, test func(t *testing.T, b *box)) {
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			test(t, newBox(t, suite))
		})
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// setUp makes what every machine has: host keys, a local person with a key and a
// password, one with sudo, and an sshd.
const setUp = `set -e
ip link set lo up
printf '127.0.0.1 localhost box\n' > /etc/hosts; echo box > /etc/hostname
mkdir -p /run/sshd /root/.ssh /var/lib/sallyport /etc/sallyport
ssh-keygen -q -A
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id
useradd -m -s /bin/sh local; echo 'local:Quartz-Lantern-83' | chpasswd
useradd -m -s /bin/sh -G sudo helper; usermod -p '*' helper
for u in local helper; do mkdir -p /home/$u/.ssh; cp /root/.ssh/id.pub /home/$u/.ssh/authorized_keys; chown -R $u: /home/$u/.ssh; done
cp /root/.ssh/id.pub /root/.ssh/authorized_keys
echo 'helper ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/helper; chmod 440 /etc/sudoers.d/helper
rm -f /run/nologin /etc/nologin
# From 9.8 on sshd shuts out an address with many failures, and here all have one.
/usr/sbin/sshd -T 2>/dev/null | grep -q ^persourcepenalties && sed -i '1i PerSourcePenalties no' /etc/ssh/sshd_config
/usr/sbin/sshd -E /var/log/sshd.log
`

// hup has sshd read its configuration, and waits until it has and accepts
// connections.
const hup = "n=$(grep -c 'Server listening' /var/log/sshd.log); kill -HUP $(cat /run/sshd.pid); for i in $(seq 300); do sleep 0.03; [ $(grep -c 'Server listening' /var/log/sshd.log) -gt $n ] && ssh-keyscan -T 5 127.0.0.1 2>/dev/null | grep -q ssh && break; done"

func newBox(t *testing.T, suite string) *box {
	t.Helper()
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	rootfs := output(t, "../../../packaging/rootfs/prepare.sh", cache, suite)
	layer := output(t, "../../../packaging/rootfs/layer.sh", rootfs, "../../../shim/out", cache)
	sally, err := filepath.Abs("../../../out/sally")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "machine", layer+":"+rootfs, t.TempDir())
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SALLY=" + sally, "TESTER=" + self}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if b := make([]byte, 5); !func() bool { n, _ := out.Read(b); return string(b[:n]) == "ready" }() {
		t.Fatal("the machine did not come up")
	}
	m := &box{t: t, suite: suite, pid: cmd.Process.Pid}
	m.must(setUp)
	return m
}

// command makes a command that runs as root in the machine.
func (b *box) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", fmt.Sprint(b.pid), "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"}, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	return cmd
}

// sh runs a script as root in the machine.
func (b *box) sh(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), crowdtest.Limit(time.Minute))
	defer cancel()
	cmd := b.command(ctx, "sh", "-c", script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// in makes a subtest the one that fails.
func (b *box) in(t *testing.T) *box {
	c := *b
	c.t = t
	return &c
}

func (b *box) must(script string) string {
	b.t.Helper()
	out, err := b.sh(script)
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

const sshOptions = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o ConnectTimeout=10 -o LogLevel=INFO -o KexAlgorithms=curve25519-sha256"

// localsComeIn fails unless root and a local person log in by key, one with sudo
// uses it, and su works.
func (b *box) localsComeIn(when string) {
	b.t.Helper()
	out, err := b.sh("ssh " + sshOptions + " -i /root/.ssh/id helper@127.0.0.1 'sudo -n whoami' && ssh " + sshOptions + " -i /root/.ssh/id root@127.0.0.1 'su local -c whoami'")
	if err != nil || !strings.Contains(out, "root") || !strings.Contains(out, "local") {
		b.t.Fatalf("%s: local people do not get in: %v\n%s\n%s", when, err, out, b.must("tail -20 /var/log/sshd.log"))
	}
}

// oneComesIn is the shortest form of localsComeIn: a local key login.
func (b *box) oneComesIn(when string) {
	b.t.Helper()
	if out, err := b.sh("ssh " + sshOptions + " -i /root/.ssh/id local@127.0.0.1 whoami"); err != nil || !strings.HasSuffix(out, "local") {
		b.t.Fatalf("%s: a local key login fails: %v\n%s\n%s", when, err, out, b.must("tail -20 /var/log/sshd.log"))
	}
}

// picture is everything below /etc that the test watches: names, kinds, modes,
// owners, extended attributes and content.
func (b *box) picture() string {
	b.t.Helper()
	return b.must(`cd /etc && find ssh pam.d sudoers sudoers.d nsswitch.conf security -printf '%p %y %m %U %G %l\n' | sort && find ssh pam.d sudoers sudoers.d nsswitch.conf security -type f | sort | xargs sha256sum && tester attributes $(find ssh pam.d sudoers sudoers.d nsswitch.conf -type f | sort)`)
}

// attributes prints the extended attributes of files.
func attributes(paths []string) {
	for _, p := range paths {
		names := make([]byte, 4096)
		n, err := unix.Llistxattr(p, names)
		if err != nil || n == 0 {
			continue
		}
		for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
			value := make([]byte, 4096)
			n, err := unix.Lgetxattr(p, name, value)
			fmt.Printf("%s %s %q %v\n", p, name, value[:max(n, 0)], err)
		}
	}
}

func pemText(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// difference is the lines that two pictures do not share.
func difference(before, after string) string {
	var out strings.Builder
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]++
	}
	for line := range strings.Lines(after) {
		count[line]--
	}
	for line, n := range count {
		switch {
		case n > 0:
			out.WriteString("- " + line)
		case n < 0:
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}
