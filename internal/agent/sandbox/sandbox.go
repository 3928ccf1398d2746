package sandbox

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// Held is what is in force after a policy was put on.
type Held struct {
	Landlock int // its version; 0 where the kernel has none
}

// Bounds of the network part. A runaway ends itself and not the machine: its own
// memory is what it writes, the largest document of a very large directory three
// times over. Threads are bounded by the runtime and not by RLIMIT_NPROC: that
// counts a user's threads on the whole computer, those in other containers too.
const (
	memory  = 768 << 20
	files   = 512
	threads = 64
)

// Network puts the network part's policy on the whole process: no privilege and
// no way to one, no other program, no file but public ones, no socket but its
// kinds, bounded memory, threads and descriptors. Started as root, the process
// becomes the given user first and gives up the bounding set too; that is how an
// init other than systemd starts it.
//
// Contract: what was opened before stays open; there is no way back.
func Network(uid, gid uint32) (Held, error) {
	if os.Geteuid() == 0 {
		if err := become(uid, gid); err != nil {
			return Held{}, err
		}
	}
	for what, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_DATA: memory, unix.RLIMIT_NOFILE: files} {
		if err := lower(what, limit); err != nil {
			return Held{}, err
		}
	}
	debug.SetMaxThreads(threads)
	// The memory holds the machine's key: no other process of the user reads it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return Held{}, fmt.Errorf("dumpable: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return Held{}, fmt.Errorf("no new privileges: %w", errno)
	}
	version, err := confine(readable())
	if err != nil {
		return Held{}, err
	}
	if err := install(networkFilter(auditArch, uint32(os.Getpid()))); err != nil {
		return Held{}, fmt.Errorf("system-call filter: %w", err)
	}
	return Held{Landlock: version}, nil
}

// lower lowers a limit, soft and hard; one that is lower already stays.
func lower(what int, limit uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(what, &now); err != nil {
		return fmt.Errorf("limit %d: %w", what, err)
	}
	if now.Max <= limit {
		limit = now.Max
	}
	if err := unix.Setrlimit(what, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("limit %d: %w", what, err)
	}
	return nil
}

// become gives up root for good, with every capability.
func become(uid, gid uint32) error {
	if uid == 0 || gid == 0 {
		return fmt.Errorf("the network part's user must not be root")
	}
	if err := bound(0); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	return nil
}

// bound reduces the bounding set of every thread to the kept capabilities.
func bound(keep uint64) error {
	for c := uintptr(0); c <= 63; c++ {
		if keep&(1<<c) != 0 {
			continue
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return nil // EINVAL: past the kernel's last capability
		}
		if has == 0 {
			continue
		}
		if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0); errno != 0 {
			return fmt.Errorf("capability %d: %w", c, errno)
		}
	}
	return nil
}
