//go:build e2e

package operations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

const (
	// stepTime bounds one command on a computer with nothing else to do.
	stepTime = 2 * time.Minute
	// bootTime bounds the start of systemd.
	bootTime = 30 * time.Second
	// checkout is where a computer has what `make build` made, and packaging/.
	checkout = "/root/sallyport"
)

// computer is a root filesystem with systemd running in it, in namespaces of
// its own.
type computer struct {
	folder, name string
	boot         *exec.Cmd
	first        string // pid of its first process, as this computer counts
	ended        chan struct{}
}

// cache is where prepared root filesystems and older builds are kept.
func cache() string {
	if dir := os.Getenv("SALLY_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/sallyport"
}

// newComputer boots one, with a folder of this computer as /media/stick if one is
// named. A test that ends, in whatever way, ends it.
func newComputer(t *testing.T, stick string) *computer {
	t.Helper()
	return startComputer(t, output(t, "./rootfs.sh", cache()), stick, "")
}

// newHost boots one with sshd and what the package sallyport-agent lays down.
func newHost(t *testing.T, stick string) *computer {
	t.Helper()
	rootfs, b := output(t, "../../packaging/rootfs/prepare.sh", cache()), thisBuild()
	return startComputer(t, output(t, b.layer, rootfs, b.shim, cache())+":"+rootfs, stick, b.sally)
}

// startComputer boots one on a root filesystem, with a program in /usr/bin if one
// is named.
func startComputer(t *testing.T, rootfs, stick, program string) *computer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root: a computer is made of namespaces and mounts")
	}
	folder, err := os.MkdirTemp("/var/tmp", "sallyport-computer-")
	if err != nil {
		t.Fatal(err)
	}
	c := &computer{folder: folder, name: filepath.Base(folder), ended: make(chan struct{})}
	t.Cleanup(c.close)
	c.furnish(t)
	if program != "" {
		output(t, "install", "-D", "-m", "0755", program, filepath.Join(folder, "upper/usr/bin/sally"))
	}
	var said bytes.Buffer
	c.boot = exec.Command("./boot.sh", rootfs, folder, c.name, stick)
	c.boot.Stdout, c.boot.Stderr, c.boot.WaitDelay = &said, &said, time.Second
	c.boot.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.boot.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.boot.Wait(); close(c.ended) }()
	if err := until(bootTime, c.booted); err != nil {
		t.Fatalf("the computer does not start: %v\n%s", err, said.String())
	}
	return c
}

// furnish lays out/ and packaging/ over the root filesystem, as a checkout after
// `make build` has them.
func (c *computer) furnish(t *testing.T) {
	t.Helper()
	at := filepath.Join(c.folder, "upper", checkout)
	if err := os.MkdirAll(filepath.Join(at, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"chmod", "0755", c.folder}, {"chmod", "0700", filepath.Dir(at)}, {"cp", "../../out/sally", "../../out/sally-signer", at + "/out/"}, {"cp", "-r", "../../packaging", at + "/"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s (are out/sally and out/sally-signer there? run: make build)", args, err, out)
		}
	}
}

// wire puts the computers of a document on one network. The first is
// 192.0.2.1 and has a cable to each other, 192.0.2.N; they know each other by
// name.
func (c *computer) wire(t *testing.T, first *computer, n int) {
	t.Helper()
	if c == first {
		c.must(t, "ip address add 192.0.2.1/32 dev lo; echo '192.0.2.1 db.corp.example server-1.corp.example' >>/etc/hosts")
		return
	}
	address := fmt.Sprintf("192.0.2.%d", n)
	cable := fmt.Sprintf("nsenter -t %s -n ip link add to-%d type veth peer name eth0 netns %s", first.first, n, c.first)
	if out, err := exec.Command("sh", "-c", cable).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", cable, err, out)
	}
	// The first computer is the way from each of the others to each other.
	first.must(t, "echo 1 >/proc/sys/net/ipv4/ip_forward")
	first.must(t, fmt.Sprintf("ip address add 192.0.2.1 peer %s dev to-%d && ip link set to-%d up && echo '%s server-%d.corp.example' >>/etc/hosts", address, n, n, address, n))
	c.must(t, fmt.Sprintf("ip address add %s peer 192.0.2.1 dev eth0 && ip link set eth0 up && ip route add 192.0.2.0/24 via 192.0.2.1 && printf '192.0.2.1 db.corp.example server-1.corp.example\\n%s server-%d.corp.example\\n' >>/etc/hosts", address, address, n))
}

// booted finds the first process and asks it whether it has started everything.
func (c *computer) booted() error {
	select {
	case <-c.ended:
		return errors.New("it ended")
	default:
	}
	if c.first == "" {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.boot.Process.Pid, c.boot.Process.Pid))
		if err != nil {
			return err
		}
		pid := strings.TrimSpace(string(children))
		if comm, err := os.ReadFile("/proc/" + pid + "/comm"); pid == "" || err != nil || strings.TrimSpace(string(comm)) != "systemd" {
			return errors.New("systemd does not run yet")
		}
		c.first = pid
	}
	out, _, err := c.run(true, "systemctl is-system-running")
	if state := strings.TrimSpace(out); state != "running" {
		return fmt.Errorf("systemd says %q, %v", state, err)
	}
	return nil
}

// run runs a command of the documentation with bash and returns what it printed
// and its exit status.
func (c *computer) run(root bool, command string) (output string, exit int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), crowdtest.Limit(stepTime))
	defer cancel()
	args := []string{"-t", c.first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if root {
		args = append(args, "HOME=/root", "bash", "-c", "cd "+checkout+"\n"+command)
	} else {
		args = append(args, "HOME=/home/person", "setpriv", "--reuid", "person", "--regid", "person", "--init-groups", "bash", "-c", "cd\n"+command)
	}
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exited *exec.ExitError
	if errors.As(err, &exited) && ctx.Err() == nil {
		return string(out), exited.ExitCode(), nil
	}
	return string(out), 0, err
}

// must runs a command as root, which has to succeed.
func (c *computer) must(t *testing.T, command string) string {
	t.Helper()
	out, exit, err := c.run(true, command)
	if err != nil || exit != 0 {
		t.Fatalf("%s: exit %d %v\n%s", command, exit, err, out)
	}
	return out
}

// send copies a program onto the computer, whose mounts are its own.
func (c *computer) send(t *testing.T, from, to string) {
	t.Helper()
	file, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("nsenter", "-t", c.first, "-m", "-r", "-w", "--", "sh", "-c", `cat >"$0" && chmod 755 "$0"`, to)
	cmd.Dir, cmd.Stdin = "/", file
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v %s", from, err, out)
	}
}

// close ends every process of the computer with its first one, and removes it.
func (c *computer) close() {
	if c.boot != nil && c.boot.Process != nil {
		if pid, err := strconv.Atoi(c.first); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = c.boot.Process.Kill()
		<-c.ended
	}
	groups := filepath.Join(c.folder, "cgroup")
	_ = until(5*time.Second, func() error {
		return exec.Command("find", filepath.Join(groups, c.name), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
	})
	_ = syscall.Unmount(groups, syscall.MNT_DETACH)
	_ = os.RemoveAll(c.folder)
}

// until polls for a condition of the outside world, within the limit of a computer
// with nothing else to do.
func until(limit time.Duration, try func() error) error { return crowdtest.Until(limit, try) }
