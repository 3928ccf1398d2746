package inside

import (
	"testing"

	"golang.org/x/sys/unix"
)

// call runs the filter on one system call as the kernel would (seccomp(2)) and
// returns the action.
func call(t *testing.T, program []unix.SockFilter, arch, number, arg0 uint32) uint32 {
	t.Helper()
	data := map[uint32]uint32{dataNumber: number, dataArch: arch, dataArg0Low: arg0}
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = data[in.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
	}
	t.Fatal("the filter ends without an answer")
	return 0
}

func TestFilter_DeniesWhatItNames(t *testing.T) {
	program := filter(auditArch)
	const allow = uint32(unix.SECCOMP_RET_ALLOW)
	eperm := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	enosys := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	for _, number := range deniedCalls() {
		if got := call(t, program, auditArch, number, 0); got != eperm {
			t.Errorf("call %d: %#x", number, got)
		}
	}
	for _, tc := range []struct {
		name               string
		arch, number, arg0 uint32
		want               uint32
	}{
		{"read", auditArch, unix.SYS_READ, 0, allow},
		{"execve", auditArch, unix.SYS_EXECVE, 0, allow},
		{"seccomp", auditArch, unix.SYS_SECCOMP, 0, allow},
		{"fork", auditArch, unix.SYS_CLONE, uint32(unix.SIGCHLD), allow},
		{"thread", auditArch, unix.SYS_CLONE, unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, allow},
		{"user namespace", auditArch, unix.SYS_CLONE, unix.CLONE_NEWUSER | uint32(unix.SIGCHLD), eperm},
		{"clone3", auditArch, unix.SYS_CLONE3, 0, enosys},
		{"x32", auditArch, unix.SYS_MOUNT | 0x40000000, 0, enosys},
		{"other architecture", auditArch ^ 1, unix.SYS_READ, 0, enosys},
	} {
		if got := call(t, program, tc.arch, tc.number, tc.arg0); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.name, got, tc.want)
		}
	}
}

func TestKeptCapabilities_LeaveTheDangerousOut(t *testing.T) {
	for _, c := range keptCapabilities() {
		switch c {
		case unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_ADMIN, unix.CAP_MKNOD, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_MODULE,
			unix.CAP_SYS_RAWIO, unix.CAP_SYS_BOOT, unix.CAP_SYS_TIME, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG, unix.CAP_MAC_ADMIN:
			t.Errorf("capability %d is kept", c)
		}
	}
}
