//go:build e2e

package lab

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

func newNspawnBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.backend = labwire.BackendNspawn
	return b
}

// TestNspawn_RootIsConfined: root of a machine with systemd, which may mount,
// gets at nothing of the computer either.
func TestNspawn_RootIsConfined(t *testing.T) {
	mounts, links := read(t, "/proc/self/mountinfo"), interfaces(t)
	canary, err := os.CreateTemp("/root", "sallyport-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(canary.Name()) })
	const secret = "the computer's secret"
	if _, err := canary.WriteString(secret); err != nil {
		t.Fatal(err)
	}
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	_, port, _ := net.SplitHostPort(open.Addr().String())
	b := newNspawnBench(t)
	client := b.login(b.machine(machineA, "web-1"))
	if out, code := b.run(client, "ps -p 1 -o comm= | grep -qx systemd && hostname | grep -qx web-1 && getent hosts web-1 && sudo -n true && loginctl --no-pager && mount -t tmpfs none /mnt"); code != 0 {
		t.Fatalf("the machine does not work (%d): %s", code, out)
	}
	name := filepath.Base(canary.Name())
	for _, tc := range []struct{ name, command string }{
		{"canary by path", "cat /root/" + name + " || cat /run/host/root/" + name},
		{"canary through proc", "cat /proc/[0-9]*/root/root/" + name + " /proc/[0-9]*/cwd/root/" + name},
		{"canary through a descriptor", "cat /proc/[0-9]*/fd/*/" + name},
		{"canary anywhere", "find / -name '" + name + "' -not -path '/proc/*' | grep ."},
		{"canary by file handle", "/usr/bin/sally probe-handle"},
		{"device node", "mknod /tmp/vda b 254 0 && cat /tmp/vda"},
		{"null device node", "mknod /tmp/null c 1 3"},
		{"null device node on a mount of its own", "mknod /mnt/null c 1 3"},
		{"the kernel's devices", "mount -t devtmpfs none /mnt"},
		{"a disk of the computer", "mknod /dev/vda b 254 0 || mount -t ext4 /dev/vda /mnt"},
		{"debugfs", "mount -t debugfs none /mnt"},
		{"tracefs", "mount -t tracefs none /mnt"},
		{"kernel settings", "mount -o remount,bind,rw /proc/sys; echo x > /proc/sys/kernel/core_pattern"},
		{"kernel settings in a fresh proc", "mount -t proc proc /mnt; echo x > /mnt/sys/kernel/core_pattern"},
		{"system request", "mount -o remount,bind,rw /proc/sysrq-trigger; echo h > /proc/sysrq-trigger"},
		{"sysfs", "mount -o remount,bind,rw /sys; echo 1 > /sys/kernel/uevent_seqnum || echo 0 > /sys/kernel/profiling"},
		{"groups above the machine's", "mount -t cgroup2 none /mnt && test -e /mnt/../sallyport* && mkdir /mnt/../x"},
		{"write the program", "mount -o remount,bind,rw /usr/bin/sally; echo >> /usr/bin/sally"},
		{"processes of the computer", "ps -ef | grep -E 'lab (serve|stage)|systemd-nspawn' | grep -v grep"},
		{"memory of the kernel", "head -c 1 /proc/kcore | grep -c ."},
		{"kernel log", "dmesg"},
		{"address of another", "ip addr add 10.77.0.99/24 dev eth0"},
		{"address of another, from a namespace of its own", "unshare -Ur ip addr add 10.77.0.99/24 dev eth0"},
		{"raw socket", "/usr/bin/sally probe-raw"},
		{"clock", "date -s 2001-01-01"},
		{"kernel programs", "grep -q '^Seccomp:\t0' /proc/1/status"},
		{"the computer's loopback", "nc -w 2 -z 127.0.0.1 " + port},
		{"the computer's loopback through the bridge", "nc -w 2 -z 10.77.0.1 " + port},
		{"outside", "nc -w 2 -z 192.0.2.1 53"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, code := b.run(client, tc.command)
			if code == 0 || code == 127 || strings.Contains(out, secret) {
				t.Errorf("%s: status %d: %s", tc.command, code, out)
			}
		})
	}
	if left := left(t, mounts); left != "" {
		t.Errorf("the computer has more mounts:\n%s", left)
	}
	if got := interfaces(t); len(got) != len(links) {
		t.Errorf("the computer's interfaces changed: %v", got)
	}
	for _, made := range []string{"/run/systemd/nspawn", "/run/machine"} {
		if _, err := os.Lstat(made); err == nil {
			t.Errorf("the computer has got %s", made)
		}
	}
	// Nobody of this computer, and none of the capabilities that could matter
	// even in a namespace of one's own.
	status, _ := b.run(client, "cat /proc/self/uid_map; grep CapBnd /proc/1/status")
	if f := strings.Fields(status); len(f) != 5 || f[1] != fmt.Sprint(idBase) || f[4] != "00000000f1ec85fb" {
		t.Errorf("ids and capabilities: %q", status)
	}
}

// TestNspawn_TakesNothingFromAnother: what the kernel counts by user, as instances of
// inotify, one machine cannot use up for the others, nor for this computer.
func TestNspawn_TakesNothingFromAnother(t *testing.T) {
	b := newNspawnBench(t)
	greedy, other := b.login(b.machine(machineA, "web-1")), b.login(b.machine(machineB, "web-2"))
	call := fmt.Sprintf("syscall(%d, 0)", unix.SYS_INOTIFY_INIT1)
	all := `perl -e '$n++ while $n < 100000 && ` + call + ` >= 0; open F, ">", "/tmp/took"; print F $n; close F; sleep 300' >/dev/null 2>&1 & for i in $(seq 100); do [ -s /tmp/took ] && break; sleep 0.1; done; cat /tmp/took`
	out, code := b.run(greedy, all)
	if n, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || code != 0 || n < 10 || n >= 100000 {
		t.Fatalf("%d %s", code, out)
	}
	if out, code := b.run(other, `perl -e 'exit(`+call+` < 0)'`); code != 0 {
		t.Errorf("nothing is left for another machine: %s", out)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatalf("nothing is left for this computer: %v", err)
	}
	_ = unix.Close(fd)
}

// TestNspawn_KeepsFilesAndRefusesLinks: what a machine's root left where the next
// start writes leads nowhere.
func TestNspawn_KeepsFilesAndRefusesLinks(t *testing.T) {
	b := newNspawnBench(t)
	m := b.machine(machineA, "web-1")
	target := filepath.Join(b.dir, "outside")
	if err := os.MkdirAll(target, 0o777); err != nil {
		t.Fatal(err)
	}
	client := b.login(m)
	b.run(client, "echo kept > /root/file; mkdir -p "+target+"; for f in /etc/hosts /etc/hostname; do rm -f $f; ln -s "+target+"/planted $f; done; echo x >/run/gone; sync")
	if out, code := b.run(client, "cat /var/lib/sallyport/join-token; stat -c '%a %U' /var/lib/sallyport/join-token /var/lib/sallyport"); code != 0 || out != "token-of-web-1\n600 root\n755 root\n" {
		t.Errorf("join token: %d %q", code, out)
	}
	again, err := b.client.Restart(t.Context(), machineA)
	if err != nil {
		t.Fatal(err)
	}
	if again.Address != m.Address || again.Loopback != m.Loopback {
		t.Errorf("address changed from %v to %v", m, again)
	}
	if out, code := b.run(b.login(again), "cat /root/file && test ! -e /run/gone && test ! -h /etc/hosts && grep -q web-1 /etc/hosts"); code != 0 || out != "kept\n" {
		t.Errorf("%d %q", code, out)
	}
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("the start wrote outside the machine: %v %v", left, err)
	}
}

// TestNspawn_EndsWithTheLab: neither kill -9 of the lab nor the machine's own
// power button nor delete leaves a process, a control group or a mount.
func TestNspawn_EndsWithTheLab(t *testing.T) {
	mounts := read(t, "/proc/self/mountinfo")
	b := newNspawnBench(t)
	m := b.machine(machineA, "web-1")
	b.run(b.login(m), "echo kept > /root/file; sync; setsid nohup sleep 1000 >/dev/null 2>&1 &")
	if b.machineProcesses() < 4 {
		t.Fatalf("the machine has %d processes", b.machineProcesses())
	}
	b.kill()
	eventually(t, "every process of the machine has ended", func() bool { return b.machineProcesses() == 0 })
	b.start()
	again, err := b.client.Status(t.Context(), machineA)
	if err != nil || again.State != labwire.StateRunning || again.Address != m.Address {
		t.Fatalf("the running machine: %v %v", again, err)
	}
	session, err := b.login(again).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	_ = session.Run("test -e /root/file && systemctl poweroff")
	eventually(t, "the machine is stopped", func() bool {
		m, err := b.client.Status(t.Context(), machineA)
		return err == nil && m.State == labwire.StateStopped
	})
	if _, err := b.client.Start(t.Context(), machineA); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Delete(t.Context(), machineA); err != nil {
		t.Fatal(err)
	}
	if n := b.machineProcesses(); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if left, err := os.ReadDir(filepath.Join(b.state, "machines")); err != nil || len(left) > 0 {
		t.Errorf("files left: %v %v", left, err)
	}
	if left := left(t, mounts); left != "" {
		t.Errorf("the computer has more mounts:\n%s", left)
	}
	g, err := openGroups(b.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.root.Stat(g.name); err == nil {
		t.Errorf("the control group %s is left", g.name)
	}
}

// machineProcesses counts the processes in the control groups of this lab's
// machines.
func (b *bench) machineProcesses() int {
	b.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		b.t.Fatal(err)
	}
	count := 0
	for _, path := range paths {
		if raw, err := os.ReadFile(path); err == nil && bytes.Contains(raw, []byte(groupName(b.state))) {
			count++
		}
	}
	return count
}

// TestLab_SystemNotOffered: a lab says which systems it has.
func TestLab_SystemNotOffered(t *testing.T) {
	b := newBench(t)
	_, err := b.client.Create(t.Context(), labwire.CreateRequest{MachineID: machineA, Name: "web-1", Backend: labwire.BackendNetns, System: labwire.SystemDebian13})
	if f := fault.As(err); !fault.Is(err, fault.Invalid) || !strings.Contains(f.Public(), "debian13") || !strings.Contains(f.Public(), "[debian12]") {
		t.Errorf("got %v", err)
	}
}
