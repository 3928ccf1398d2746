//go:build e2e

package lab

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/internal/crowdtest"
	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

func TestMachine_BootsWithinASecond(t *testing.T) {
	b := newBench(t)
	b.machine(machineA, "web-1")
	best := time.Hour
	for range 3 { // the first boot, which makes host keys, counts separately below
		if _, err := b.client.Stop(t.Context(), machineA); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		m, err := b.client.Start(t.Context(), machineA)
		if err != nil {
			t.Fatal(err)
		}
		if line := banner(t, m); !strings.HasPrefix(line, "SSH-2.0-OpenSSH") {
			t.Fatalf("banner %q", line)
		}
		best = min(best, time.Since(begin))
	}
	begin := time.Now()
	banner(t, b.machine(machineB, "web-2"))
	t.Logf("create, first boot and banner: %v; start to banner: %v", time.Since(begin), best)
	if best > crowdtest.Limit(time.Second) {
		t.Errorf("start to banner took %v", best)
	}
}

func banner(t *testing.T, m labwire.Machine) string {
	t.Helper()
	conn, err := net.Dial("tcp", sshAddress(m))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestMachine_RootIsConfined(t *testing.T) {
	mounts := read(t, "/proc/self/mountinfo")
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

	b := newBench(t)
	client := b.login(b.machine(machineA, "web-1"))
	if out, code := b.run(client, "id -u; hostname; getent hosts web-1; sudo -n true; tty 2>&1; ls /dev"); code != 0 {
		t.Fatalf("the machine does not work (%d): %s", code, out)
	}
	name := filepath.Base(canary.Name())
	for _, tc := range []struct{ name, command string }{
		{"canary by path", "cat /root/" + name},
		{"canary through proc", "cat /proc/1/root/root/" + name + " /proc/1/cwd/root/" + name},
		{"canary through a descriptor", "cat /proc/[0-9]*/fd/*/" + name},
		{"descriptor of the computer", "readlink /proc/1/fd/* | grep -E '^/root|^pipe|^socket'"},
		{"canary anywhere", "find / -xdev -name '" + name + "' | grep ."},
		{"canary by file handle", "/usr/bin/sally probe-handle"},
		{"device node", "mknod /tmp/vda b 254 0 && cat /tmp/vda"},
		{"null device node", "mknod /tmp/null c 1 3"},
		{"processes of the computer", fmt.Sprintf("test -d /proc/%d && tr '\\0' ' ' </proc/%d/cmdline | grep -F 'lab serve'", b.cmd.Process.Pid, b.cmd.Process.Pid)},
		{"lab in the process list", "ps -ef | grep -F 'lab serve' | grep -v grep"},
		{"mount", "mount -t tmpfs none /mnt"},
		{"bind mount", "mount --bind /root /mnt"},
		{"remount the program", "mount -o remount,rw /usr/bin/sally"},
		{"user namespace", "unshare -Ur true"},
		{"write the program", "sh -c 'echo >> /usr/bin/sally'"},
		{"write the running program", "sh -c 'echo >> /proc/1/exe'"},
		{"kernel settings", "sh -c 'echo x > /proc/sys/kernel/core_pattern'"},
		{"system request", "test -f /proc/sysrq-trigger"},
		{"sysfs", "sh -c 'echo 1 > /sys/kernel/uevent_seqnum || touch /sys/x'"},
		{"memory of the kernel", "head -c 1 /proc/kcore | grep -c ."},
		{"kernel log", "dmesg"},
		{"kernel keys", "grep -c . /proc/keys"},
		{"address of another", "ip addr add 10.77.0.99/24 dev eth0"},
		{"raw socket", "/usr/bin/sally probe-raw"},
		{"clock", "date -s 2001-01-01"},
		{"host name", "hostname other"},
		{"the computer's loopback", "nc -w 2 -z 127.0.0.1 " + port},
		{"the computer's loopback through the bridge", "nc -w 2 -z 10.77.0.1 " + port},
		{"the bridge's own sshd", "nc -w 2 -z 10.77.0.1 22"},
		{"the server's port, with no server given", "nc -w 2 -z 10.77.0.1 443"},
		{"outside", "nc -w 2 -z 192.0.2.1 53"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, code := b.run(client, tc.command)
			if code == 0 || code == 127 || strings.Contains(out, secret) { // 127: no such program, so nothing was shown
				t.Errorf("%s: status %d: %s", tc.command, code, out)
			}
		})
	}
	if left := left(t, mounts); left != "" {
		t.Errorf("the computer has more mounts:\n%s", left)
	}
	status, _ := b.run(client, "grep -E 'CapInh|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp:' /proc/1/status")
	// chown dac_override fowner fsetid kill setgid setuid setpcap
	// net_bind_service sys_chroot sys_ptrace audit_write audit_control setfcap
	const want = "CapInh:\t0000000000000000\nCapEff:\t00000000e00c05fb\nCapBnd:\t00000000e00c05fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
	if status != want {
		t.Errorf("init's status: %s, want %s", status, want)
	}
}

// probeHandle runs in a machine: it tries to open inode 2, the root of the
// computer's file system, through the mount of the program (open_by_handle_at(2)).
func probeHandle() int {
	at, err := os.Open("/usr/bin/sally")
	if err != nil {
		return 1
	}
	handle := unix.NewFileHandle(1, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 2), 0))
	if _, err := unix.OpenByHandleAt(int(at.Fd()), handle, unix.O_RDONLY); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// probeRaw runs in a machine: it tries to open sockets that could send frames
// under another machine's address.
func probeRaw() int {
	for _, family := range []int{unix.AF_INET, unix.AF_PACKET} {
		if _, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_ICMP); err == nil {
			return 0
		}
	}
	return 1
}

func TestMachine_PtyAndSudo(t *testing.T) {
	b := newBench(t)
	client := b.login(b.machine(machineA, "web-1"))
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput("tty && su -s /bin/sh sallyport-agent -c 'id -un' && sudo -u sallyport-ssh id -un")
	if err != nil || !strings.Contains(string(out), "/dev/pts/") || !strings.Contains(string(out), "sallyport-ssh") {
		t.Errorf("%v: %s", err, out)
	}
	if out, code := b.run(client, "cat /root/joined; stat -c '%a %U' /var/lib/sallyport/join-token /var/lib/sallyport"); code != 0 || out != "token-of-web-1\n600 root\n755 root\n" {
		t.Errorf("join token: %d %q", code, out)
	}
	if out, code := b.run(client, "readlink /proc/$(pgrep -o sshd)/exe; echo 4242 > /proc/self/loginuid && cat /proc/self/loginuid"); code != 0 || out != "/usr/sbin/sshd\n4242" {
		t.Errorf("what the agent needs: %d %q", code, out)
	}
}

func TestMachine_ReachesTheServerOnly(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello from the server\n")
			_ = conn.Close()
		}
	}()
	b := newBench(t, "--server-addr", server.Addr().String())
	client := b.login(b.machine(machineA, "web-1"))
	if out, code := b.run(client, "nc -w 2 10.77.0.1 443 </dev/null"); code != 0 || out != "hello from the server\n" {
		t.Errorf("%d %q", code, out)
	}
}

func TestMachine_KeepsFilesAndAddress(t *testing.T) {
	b := newBench(t)
	m := b.machine(machineA, "web-1")
	client := b.login(m)
	b.run(client, "echo kept > /root/file; ln -sf /etc/shadow /etc/hosts; rm -rf /usr/bin/sally; echo x > /run/gone; sync")
	again, err := b.client.Restart(t.Context(), machineA)
	if err != nil {
		t.Fatal(err)
	}
	if again.Address != m.Address || again.Loopback != m.Loopback {
		t.Errorf("address changed from %v to %v", m, again)
	}
	if out, code := b.run(b.login(again), "cat /root/file && test ! -e /run/gone && grep -q web-1 /etc/hosts && ! grep -q web-1 /etc/shadow"); code != 0 || out != "kept\n" {
		t.Errorf("%d %q", code, out)
	}
}

func TestMachine_HostileFilesStayInside(t *testing.T) {
	b := newBench(t)
	client := b.login(b.machine(machineA, "web-1"))
	target := filepath.Join(b.dir, "outside")
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	// The machine's root replaces, in its own files, everything that the next
	// start writes to or mounts on by links that would be ours outside.
	b.run(client, "mkdir -p "+target)
	for _, path := range []string{"/etc/hosts", "/etc/hostname", "/etc/hosts.sallyport", "/var/log/sshd.log", "/var/log/sallyport-init.log"} {
		b.run(client, "rm -f "+path+"; ln -s "+target+"/planted "+path)
	}
	if _, err := b.client.Stop(t.Context(), machineA); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sys", "proc", "dev", "run"} {
		link := filepath.Join(b.state, "machines", machineA, "upper", name)
		_ = os.RemoveAll(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.client.Start(t.Context(), machineA)
	if err != nil {
		t.Fatal(err)
	}
	banner(t, m)
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("the start wrote outside the machine: %v %v", left, err)
	}
}

func TestLab_TwoMachinesAtOnce(t *testing.T) {
	b := newBench(t)
	one, two := b.machine(machineA, "web-1"), b.machine(machineB, "web-2")
	if one.Address == two.Address || one.Loopback == two.Loopback {
		t.Fatalf("same address: %v %v", one, two)
	}
	first, second := b.login(one), b.login(two)
	if out, _ := b.run(first, "hostname"); out != "web-1\n" {
		t.Errorf("hostname %q", out)
	}
	if out, _ := b.run(second, "hostname"); out != "web-2\n" {
		t.Errorf("hostname %q", out)
	}
	if out, code := b.run(first, "nc -w 2 -z "+two.Address+" 22 && cat /etc/ssh/ssh_host_ed25519_key.pub"); code != 0 {
		t.Errorf("machines do not reach each other: %s", out)
	} else if other, _ := b.run(second, "cat /etc/ssh/ssh_host_ed25519_key.pub"); other == out {
		t.Error("two machines have the same host key")
	}
	list, err := b.client.List(t.Context())
	if err != nil || len(list) != 2 || list[0].MachineID != machineA || list[1].State != labwire.StateRunning {
		t.Errorf("list: %v %v", list, err)
	}
	out, err := exec.Command("/proc/self/exe", "lab", "status", "--socket", b.socket).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "web-2") || !strings.Contains(string(out), sshAddress(two)) {
		t.Errorf("lab status: %v %s", err, out)
	}
}

func TestLab_OperationsAreIdempotent(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	m := b.machine(machineA, "web-1")
	if again := b.machine(machineA, "web-1"); again != m {
		t.Errorf("second create and start: %v, first %v", again, m)
	}
	if _, err := b.client.Create(ctx, labwire.CreateRequest{MachineID: machineA, Name: "other", Backend: labwire.BackendNetns, System: labwire.SystemDebian12}); !fault.Is(err, fault.Conflict) {
		t.Errorf("another name: %v", err)
	}
	for range 2 {
		if m, err := b.client.Stop(ctx, machineA); err != nil || m.State != labwire.StateStopped || m.SSHPort != 0 {
			t.Errorf("stop: %v %v", m, err)
		}
	}
	for range 2 {
		if err := b.client.Delete(ctx, machineA); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if m, err := b.client.Status(ctx, machineA); err != nil || m.State != labwire.StateAbsent {
		t.Errorf("status: %v %v", m, err)
	}
	if _, err := b.client.Start(ctx, machineA); !fault.Is(err, fault.NotFound) {
		t.Errorf("start of an absent machine: %v", err)
	}
}

func TestLab_DeleteLeavesNothing(t *testing.T) {
	mounts, links := read(t, "/proc/self/mountinfo"), interfaces(t)
	b := newBench(t)
	m := b.machine(machineA, "web-1")
	b.run(b.login(m), "setsid nohup sleep 1000 >/dev/null 2>&1 &")
	namespaces := b.pidNamespaces()
	if len(namespaces) != 1 || inNamespaces(t, namespaces) < 3 {
		t.Fatalf("namespaces %v hold %d processes", namespaces, inNamespaces(t, namespaces))
	}
	if got := interfaces(t); !slices.Equal(got, links) {
		t.Errorf("the computer's interfaces changed: %v", got)
	}
	if err := b.client.Delete(t.Context(), machineA); err != nil {
		t.Fatal(err)
	}
	if n := inNamespaces(t, namespaces); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := net.Dial("tcp", sshAddress(m)); err == nil {
		t.Error("the loopback address still answers")
	}
	if left, err := os.ReadDir(filepath.Join(b.state, "machines")); err != nil || len(left) > 0 {
		t.Errorf("files left: %v %v", left, err)
	}
	if left := left(t, mounts); left != "" {
		t.Errorf("the computer has more mounts:\n%s", left)
	}
	if state := read(t, filepath.Join(b.state, "state.json")); !strings.Contains(state, `"machines": []`) {
		t.Errorf("state: %s", state)
	}
}

func TestLab_KilledLeavesNoProcessAndComesBack(t *testing.T) {
	b := newBench(t)
	m := b.machine(machineA, "web-1")
	b.machine(machineB, "web-2")
	b.run(b.login(m), "echo kept > /root/file; sync; setsid nohup sleep 1000 >/dev/null 2>&1 &")
	if _, err := b.client.Stop(t.Context(), machineB); err != nil {
		t.Fatal(err)
	}
	namespaces := b.pidNamespaces()
	if len(namespaces) == 0 {
		t.Fatal("no machine runs")
	}
	b.kill()
	eventually(t, "every process of the machines has ended", func() bool { return inNamespaces(t, namespaces) == 0 })
	b.start()
	if m, err := b.client.Status(t.Context(), machineB); err != nil || m.State != labwire.StateStopped {
		t.Errorf("the stopped machine: %v %v", m, err)
	}
	again, err := b.client.Status(t.Context(), machineA)
	if err != nil || again.State != labwire.StateRunning || again.Address != m.Address {
		t.Fatalf("the running machine: %v %v", again, err)
	}
	if out, _ := b.run(b.login(again), "cat /root/file"); out != "kept\n" {
		t.Errorf("file: %q", out)
	}
}

func TestLab_MachineThatEndsByItselfIsStopped(t *testing.T) {
	b := newBench(t)
	m := b.machine(machineA, "web-1")
	session, err := b.login(m).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	_ = session.Start("kill -TERM 1")
	eventually(t, "the machine is stopped", func() bool {
		m, err := b.client.Status(t.Context(), machineA)
		return err == nil && m.State == labwire.StateStopped
	})
	eventually(t, "its loopback address is closed", func() bool {
		conn, err := net.Dial("tcp", sshAddress(m))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	again, err := b.client.Start(t.Context(), machineA)
	if err != nil {
		t.Fatal(err)
	}
	banner(t, again)
}

func TestLab_Proxy(t *testing.T) {
	b := newBench(t)
	b.machine(machineA, "web-1")
	stream, err := b.client.Proxy(t.Context(), machineA)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := b.run(b.handshake(stream), "hostname"); out != "web-1\n" {
		t.Errorf("hostname %q", out)
	}
	proxy := exec.Command("/proc/self/exe", "lab", "proxy", "--socket", b.socket, "--machine", machineA)
	proxy.Stdin = strings.NewReader("SSH-2.0-test\r\n")
	out, err := proxy.Output()
	if err != nil || !strings.HasPrefix(string(out), "SSH-2.0-OpenSSH") {
		t.Errorf("lab proxy: %v %q", err, out)
	}
	if _, err := b.client.Proxy(t.Context(), machineB); !fault.Is(err, fault.NotFound) {
		t.Errorf("proxy to an absent machine: %v", err)
	}
}

func TestLab_SecondLabIsRefused(t *testing.T) {
	b := newBench(t)
	out, err := exec.Command("/proc/self/exe", b.args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another lab uses the state directory") {
		t.Errorf("%v %s", err, out)
	}
	if _, err := b.client.List(t.Context()); err != nil {
		t.Errorf("the first lab is disturbed: %v", err)
	}
}

// left returns the mounts that the computer did not have before, those of tests
// that run beside this one left out: they are below folders of their own.
func left(t *testing.T, before string) (lines string) {
	t.Helper()
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		fields := strings.Fields(line)
		temporary := strings.HasPrefix(fields[4], "/tmp/") || strings.HasPrefix(fields[4], "/var/tmp/") || strings.HasPrefix(fields[4], os.TempDir()+"/")
		if !strings.Contains(before, line) && (!temporary || strings.Contains(fields[4], t.Name())) {
			lines += line
		}
	}
	return lines
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func interfaces(t *testing.T) []string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}
