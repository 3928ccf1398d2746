package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rootCapabilities is what the root part's work needs: files and homes of others,
// sessions of others, sshd's and PAM's own work in the programs that it starts,
// the executable of an sshd that is not dumpable (SYS_PTRACE), the address at
// which the machine's identity is asked for (NET_ADMIN), and the limits that PAM
// sets in the login of the self-test (SYS_RESOURCE, SYS_NICE). Not in it: SYS_ADMIN,
// SYS_MODULE, SYS_RAWIO, SYS_TIME, NET_RAW, MKNOD, BPF.
func rootCapabilities() uint64 {
	var set uint64
	for _, c := range []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP,
		unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_ADMIN, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_AUDIT_WRITE, unix.CAP_AUDIT_CONTROL, unix.CAP_SYS_NICE} {
		set |= 1 << c
	}
	return set
}

// answersLast is where the root part stands when memory runs out: nearly nothing
// else is killed later. It answers each login, so nobody of ours could come to
// help without it.
const answersLast = "-900"

// Root puts the root part's policy on the whole process: the capabilities of its
// work and no others, for itself and whatever it starts, no core files, and the
// last place among those that the kernel kills for memory, where it may take it.
func Root() error {
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(answersLast), 0)
	if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The soft limit alone: what it starts may be told another one.
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return err
	}
	core.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return err
	}
	if err := bound(rootCapabilities()); err != nil {
		return err
	}
	return keep(rootCapabilities())
}

// keep leaves every thread the given capabilities, and none that are inherited.
func keep(set uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range have {
		half := uint32(set >> (32 * i))
		have[i].Permitted &= half
		have[i].Effective, have[i].Inheritable = have[i].Permitted, 0
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&have)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}
