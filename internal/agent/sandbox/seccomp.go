package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// networkCalls is everything that the network part may ask of the kernel without
// a look at the arguments: memory, threads, time, sockets that it opened itself,
// and reading files. Not in it: execve, fork, listen, accept, kill, ptrace,
// process_vm_*, mount, namespaces, keys, bpf, io_uring, changing or making files.
func networkCalls() []uint32 {
	return append([]uint32{
		unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_YIELD, unix.SYS_MADVISE,
		unix.SYS_CONNECT, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_BIND, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT,
		unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_LSEEK, unix.SYS_OPENAT, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_FCNTL,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_PPOLL,
		unix.SYS_MUNMAP, unix.SYS_BRK, unix.SYS_MINCORE,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_UNAME, unix.SYS_GETRANDOM, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	}, archCalls()...)
}

// Words of classic BPF (bpf(4), seccomp(2)).
const (
	load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	atSet = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	mask  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	give  = unix.BPF_RET | unix.BPF_K
)

// Offsets in struct seccomp_data; both architectures are little-endian, and all
// arguments that are looked at are int or have their flags in the low half.
const (
	dataNumber = 0
	dataArch   = 4
)

func argument(n uint32) unix.SockFilter { return unix.SockFilter{Code: load, K: 16 + 8*n} }

func answer(errno unix.Errno) unix.SockFilter {
	return unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

// call is one system call with what decides about it; what falls through body is
// refused.
type call struct {
	number uint32
	body   []unix.SockFilter
}

// networkFilter allows networkCalls, and a few calls with certain arguments. All
// others fail with EPERM: a fault of ours is then an error in a log and no dead
// agent.
func networkFilter(arch, pid uint32) []unix.SockFilter {
	allow := unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW}
	// Memory is writable or executable from the start and never becomes the latter.
	noCode := []unix.SockFilter{argument(2), {Code: atSet, K: unix.PROT_EXEC, Jt: 1}, allow}
	const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	calls := []call{
		{unix.SYS_MMAP, noCode}, {unix.SYS_MPROTECT, noCode},
		{unix.SYS_CLONE, []unix.SockFilter{argument(0), {Code: atSet, K: namespaces, Jt: 2}, {Code: atSet, K: unix.CLONE_THREAD, Jf: 1}, allow}}, // threads alone
		{unix.SYS_CLONE3, []unix.SockFilter{answer(unix.ENOSYS)}},                                                                                // its flags are in memory
		{unix.SYS_TGKILL, []unix.SockFilter{argument(0), {Code: equal, K: pid, Jf: 1}, allow}},
		{unix.SYS_PRCTL, []unix.SockFilter{answer(unix.EINVAL)}}, // the runtime names its memory where it can
		{unix.SYS_SOCKET, socketRules(allow)},
	}
	for _, n := range networkCalls() {
		calls = append(calls, call{n, []unix.SockFilter{allow}})
	}
	program := []unix.SockFilter{
		{Code: load, K: dataArch}, {Code: equal, K: arch, Jt: 1}, answer(unix.ENOSYS),
		{Code: load, K: dataNumber}, {Code: least, K: 0x40000000, Jf: 1}, answer(unix.ENOSYS), // __X32_SYSCALL_BIT
	}
	for _, c := range calls {
		body := append(c.body[:len(c.body):len(c.body)], answer(unix.EPERM))
		program = append(program, unix.SockFilter{Code: equal, K: c.number, Jf: uint8(len(body))})
		program = append(program, body...)
	}
	return append(program, answer(unix.EPERM))
}

// socketRules lets streams and datagrams of unix and the internet pass, and the
// netlink socket that tells the machine's own addresses.
func socketRules(allow unix.SockFilter) []unix.SockFilter {
	return []unix.SockFilter{
		argument(0),
		{Code: equal, K: unix.AF_INET, Jt: 6}, {Code: equal, K: unix.AF_INET6, Jt: 5}, {Code: equal, K: unix.AF_NETLINK, Jt: 8}, {Code: equal, K: unix.AF_UNIX, Jf: 10},
		argument(1), {Code: mask, K: 0xf}, {Code: equal, K: unix.SOCK_SEQPACKET, Jt: 6, Jf: 2}, // unix: whole messages too
		argument(1), {Code: mask, K: 0xf}, {Code: equal, K: unix.SOCK_STREAM, Jt: 3}, {Code: equal, K: unix.SOCK_DGRAM, Jt: 2, Jf: 3},
		argument(2), {Code: equal, K: unix.NETLINK_ROUTE, Jf: 1},
		allow,
	}
}

// install puts a filter on every thread of the process.
func install(program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	odd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return errno
	}
	if odd != 0 {
		return fmt.Errorf("the thread %d has another filter", odd)
	}
	return nil
}
