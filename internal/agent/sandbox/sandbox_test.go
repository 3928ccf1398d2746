package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Under this variable the test program is the confined process: it puts the
// policy on itself, tries everything, and says what happened.
const probeMode = "SALLY_SANDBOX_PROBE"

const (
	testUID = 7791
	testGID = 7792
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(probeMode); mode != "" {
		os.Exit(probe(mode))
	}
	os.Exit(m.Run())
}

// setting is what the confined process is told.
type setting struct {
	TCP, Unix string // listeners outside
	Secret    string // root's, 0600
	Public    string // anybody's, and not where names are resolved
	Parent    int
}

type outcome map[string]string // "ok", or the error

func (o outcome) note(name string, err error) {
	if o[name] = "ok"; err != nil {
		o[name] = err.Error()
	}
}

func probe(mode string) int {
	var s setting
	if err := json.Unmarshal([]byte(mode), &s); err != nil {
		return 2
	}
	// A thread that was there before is confined as well as one that comes later.
	before, done := make(chan func()), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		for f := range before {
			f()
			done <- struct{}{}
		}
	}()
	before <- func() {}
	<-done
	held, err := Network(testUID, testGID)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	o := outcome{"landlock": fmt.Sprint(held.Landlock)}
	o.allowed(s)
	before <- func() { o.note("old thread: exec", unix.Exec("/bin/true", []string{"true"}, nil)) }
	<-done
	before <- func() { o.note("old thread: public file", opened(s.Public)) }
	<-done
	o.refused(s)
	_ = json.NewEncoder(os.Stdout).Encode(o)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the status was looked at from outside
	return 0
}

func opened(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	return f.Close()
}

// allowed is the network part's work.
func (o outcome) allowed(s setting) {
	for name, place := range map[string][2]string{"dial tcp": {"tcp", s.TCP}, "dial unix": {"unix", s.Unix}} {
		c, err := net.Dial(place[0], place[1])
		if err == nil {
			_, err = c.Write([]byte("hello"))
			_ = c.Close()
		}
		o.note(name, err)
	}
	_, err := net.InterfaceAddrs()
	o.note("own addresses", err)
	_, err = net.LookupHost("localhost")
	o.note("resolve", err)
	_, err = os.ReadFile("/etc/hosts")
	o.note("read /etc/hosts", err)
	var all sync.WaitGroup
	for range 20 { // threads and memory
		all.Go(func() { runtime.LockOSThread(); _ = make([]byte, 8<<20); runtime.GC() })
	}
	all.Wait()
	o.note("threads", nil)
}

// refused is what whoever has taken the network part over would like to do.
func (o outcome) refused(s setting) {
	raw := func(name string, n uintptr, args ...uintptr) {
		a := append(args, make([]uintptr, 6-len(args))...)
		_, _, errno := unix.Syscall6(n, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 {
			o.note(name, nil)
			return
		}
		o.note(name, errno)
	}
	o.note("root's file", opened(s.Secret))
	o.note("public file", opened(s.Public))
	o.note("own memory file", opened("/proc/self/mem"))
	o.note("write a file", os.WriteFile(filepath.Join(filepath.Dir(s.Public), "made"), nil, 0o600))
	o.note("write below /etc", os.WriteFile("/etc/sallyport-probe", nil, 0o600))
	o.note("exec", unix.Exec("/bin/true", []string{"true"}, nil))
	o.note("start a program", exec.Command("/bin/true").Run())
	raw("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD))
	raw("clone3", unix.SYS_CLONE3)
	raw("new user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	raw("setns", unix.SYS_SETNS)
	raw("mount", unix.SYS_MOUNT)
	raw("chroot", unix.SYS_CHROOT)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(s.Parent))
	raw("read another's memory", unix.SYS_PROCESS_VM_READV, uintptr(s.Parent))
	raw("signal another", unix.SYS_KILL, uintptr(s.Parent))
	raw("signal another's thread", unix.SYS_TGKILL, uintptr(s.Parent), uintptr(s.Parent))
	raw("pidfd", unix.SYS_PIDFD_OPEN, uintptr(s.Parent))
	raw("become root", unix.SYS_SETRESUID)
	raw("bpf", unix.SYS_BPF)
	raw("io_uring", unix.SYS_IO_URING_SETUP, 1)
	raw("userfaultfd", unix.SYS_USERFAULTFD)
	raw("keys", unix.SYS_KEYCTL)
	raw("memory file", unix.SYS_MEMFD_CREATE)
	raw("perf", unix.SYS_PERF_EVENT_OPEN)
	raw("raise a limit", unix.SYS_PRLIMIT64)
	raw("another filter", unix.SYS_SECCOMP)
	raw("remove", unix.SYS_UNLINKAT)
	raw("rename", unix.SYS_RENAMEAT2)
	raw("chmod", unix.SYS_FCHMODAT)
	for name, domain := range map[string]uintptr{"packet": unix.AF_PACKET, "vsock": unix.AF_VSOCK, "alg": unix.AF_ALG, "bluetooth": unix.AF_BLUETOOTH} {
		raw(name+" socket", unix.SYS_SOCKET, domain, unix.SOCK_STREAM)
	}
	raw("raw socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	raw("sctp socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP)
	raw("raw unix socket", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_RAW)
	raw("netlink audit", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
	_, err := net.Listen("tcp", "127.0.0.1:0")
	o.note("listen", err)
	raw("code", unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0))
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		raw("code later", unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&page[0])), 4096, unix.PROT_READ|unix.PROT_EXEC)
	}
}

// static returns this test program as the product is built: with cgo, the C
// library's threads are not the runtime's to confine.
func static(t *testing.T) string {
	t.Helper()
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		return "/proc/self/exe"
	}
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "probe")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// confined runs the probe as a process of root that becomes the user.
func confined(t *testing.T) outcome {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the policy is put on by root, so this test needs it")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o777) // the user writes there; the computer's folder stays as it is
	}
	s := setting{Secret: filepath.Join(dir, "secret"), Public: filepath.Join(dir, "public"), Unix: filepath.Join(dir, "socket"), Parent: os.Getpid()}
	for path, mode := range map[string]os.FileMode{s.Secret: 0o600, s.Public: 0o644} {
		if err := os.WriteFile(path, []byte("canary"), mode); err != nil {
			t.Fatal(err)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	local, err := net.Listen("unix", s.Unix)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	_ = os.Chmod(s.Unix, 0o777)
	s.TCP = tcp.Addr().String()
	mode, _ := json.Marshal(s)
	cmd := exec.Command(static(t))
	cmd.Env = []string{probeMode + "=" + string(mode)}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	_ = in.Close()
	if err := errors.Join(err, statusErr, cmd.Wait()); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	var o outcome
	if err := json.Unmarshal(line, &o); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	o["status"] = string(status)
	return o
}

// TestNetwork_FromInside: under the policy the network part's own work goes on,
// and everything else that was tried is refused by the kernel.
func TestNetwork_FromInside(t *testing.T) {
	o := confined(t)
	status, landlock := o["status"], o["landlock"]
	delete(o, "status")
	delete(o, "landlock")
	work := []string{"dial tcp", "dial unix", "own addresses", "resolve", "read /etc/hosts", "threads"}
	for _, name := range work {
		if o[name] != "ok" {
			t.Errorf("%s: %s", name, o[name])
		}
		delete(o, name)
	}
	if len(o) < 40 {
		t.Errorf("only %d things were tried", len(o))
	}
	for name, got := range o {
		public := landlock == "0" && strings.HasSuffix(name, "public file")
		if got == "ok" && !public {
			t.Errorf("%s works", name)
		}
		if strings.Contains(got, "bad address") || strings.Contains(got, "invalid argument") || strings.Contains(got, "no such process") || strings.Contains(got, "bad file descriptor") {
			t.Errorf("%s: %s: the kernel looked at it, so nothing refused it", name, got)
		}
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", testUID), "Groups:\t \n"} {
		if !strings.Contains(status, want) {
			t.Errorf("the status lacks %q:\n%s", want, status)
		}
	}
	if landlock == "0" {
		t.Log("this kernel has no Landlock; files are held by their modes alone")
	}
}

// TestNetwork_NeverRoot: a policy that would leave root in place is refused.
func TestNetwork_NeverRoot(t *testing.T) {
	for _, ids := range [][2]uint32{{0, 1}, {1, 0}} {
		if err := become(ids[0], ids[1]); err == nil {
			t.Errorf("%v", ids)
		}
	}
}

// TestFilter_FitsTheKernel: jumps reach where they are meant to, whatever is added.
func TestFilter_FitsTheKernel(t *testing.T) {
	program := networkFilter(auditArch, 1)
	if len(program) > unix.BPF_MAXINSNS {
		t.Fatalf("%d instructions", len(program))
	}
	for i, f := range program {
		if f.Code&0x07 == unix.BPF_JMP && (i+1+int(f.Jt) >= len(program) || i+1+int(f.Jf) >= len(program)) {
			t.Errorf("instruction %d jumps out of the program", i)
		}
	}
	seen := map[uint32]bool{}
	for _, n := range networkCalls() {
		if seen[n] {
			t.Errorf("call %d is there twice", n)
		}
		seen[n] = true
	}
	for _, n := range []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_MOUNT, unix.SYS_BPF, unix.SYS_KILL, unix.SYS_SOCKET, unix.SYS_CLONE} {
		if seen[n] {
			t.Errorf("call %d is allowed whatever its arguments are", n)
		}
	}
}
