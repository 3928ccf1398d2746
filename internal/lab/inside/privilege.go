package inside

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keptCapabilities is the bounding set of a machine: what sshd, sudo, PAM and
// the agent's root part need (capabilities(7)).
//
// Left out on purpose: DAC_READ_SEARCH (open_by_handle_at would reach files of
// the computer through the program's mount), MKNOD, NET_ADMIN and NET_RAW (a
// machine could take another's address), SYS_ADMIN, SYS_MODULE, SYS_RAWIO,
// SYS_TIME, SYS_BOOT, SYSLOG, BPF, PERFMON. SYS_PTRACE stays: the agent reads
// /proc/PID/exe of an sshd that is not dumpable, and the pid namespace bounds
// it to the machine.
func keptCapabilities() []int {
	return []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
		unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SETFCAP, unix.CAP_NET_BIND_SERVICE,
		unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_AUDIT_WRITE, unix.CAP_AUDIT_CONTROL,
	}
}

// dropCapabilities shrinks the bounding set to the kept ones and clears the
// inheritable and ambient sets. The permitted set follows at exec; until then
// the calling thread still needs CAP_SYS_ADMIN for the filter.
func dropCapabilities() error {
	var keep uint64
	for _, c := range keptCapabilities() {
		keep |= 1 << c
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	for c := 0; c <= 63; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
			break // EINVAL: past the kernel's last capability
		}
		if keep&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	return unix.Capset(&header, &data[0])
}

// deniedCalls are refused with EPERM: they change mounts or namespaces, reach
// files or keys past the namespaces, or load code into the kernel. Most need a
// capability that is gone; the filter also stops them inside a user namespace.
func deniedCalls() []uint32 {
	return []uint32{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_SETNS, unix.SYS_UNSHARE,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_SYSLOG, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_QUOTACTL,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	}
}

// Offsets in struct seccomp_data (seccomp(2)).
const (
	dataNumber  = 0
	dataArch    = 4
	dataArg0Low = 16 // both architectures of this build are little-endian
)

// filter is the program as classic BPF: another architecture's calls and x32
// fail, clone3 looks unimplemented (its flags lie in memory that a filter
// cannot read; libc then uses clone), clone may not make a user namespace, and
// deniedCalls fail.
func filter(arch uint32) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atSet = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		give  = unix.BPF_RET | unix.BPF_K
	)
	eperm := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	enosys := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	program := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: give, K: enosys},
		{Code: load, K: dataNumber},
		{Code: least, K: 0x40000000, Jf: 1}, // __X32_SYSCALL_BIT
		{Code: give, K: enosys},
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		{Code: give, K: enosys},
	}
	for _, call := range deniedCalls() {
		program = append(program, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: give, K: eperm})
	}
	return append(program,
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE, Jf: 3},
		unix.SockFilter{Code: load, K: dataArg0Low},
		unix.SockFilter{Code: atSet, K: unix.CLONE_NEWUSER, Jf: 1},
		unix.SockFilter{Code: give, K: eperm},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW},
	)
}

// installFilter puts the filter on the calling thread; exec makes it the
// process's. no_new_privs stays unset, or sudo would not work; CAP_SYS_ADMIN,
// still held here, allows that (seccomp(2)).
func installFilter() error {
	program := filter(auditArch)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return errno
	}
	return nil
}
