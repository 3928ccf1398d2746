package sandbox

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readable is where the network part may read: how names are resolved, and the
// public certification authorities, in all the places where systems keep them. The
// folders and not the files: those are replaced by renaming.
func readable() []string {
	return []string{"/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd",
		"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/var/lib/ca-certificates", "/usr/lib/ssl"}
}

// Access rights by the version of Landlock that knows them first (landlock(7)).
const (
	fileRights1 = 1<<13 - 1 // execute, write, read, folders, remove, make
	fileRefer2  = 1 << 13
	fileTrunc3  = 1 << 14
	fileIoctl5  = 1 << 15
	fileRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	bindTCP4    = 1 << 0
	scopes6     = 1<<0 | 1<<1 // abstract unix sockets, signals
)

// ruleset is struct landlock_ruleset_attr; older kernels know its beginning.
type ruleset struct{ fs, net, scoped uint64 }

func (r ruleset) size(version uintptr) uintptr {
	switch {
	case version < 4:
		return 8
	case version < 6:
		return 16
	}
	return 24
}

// landlockVersion is 0 where the kernel has none or it is off.
func landlockVersion() uintptr {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return v
}

// confine leaves the process reading below the given folders: no other file is
// opened, none is executed, and, where the kernel knows how, no TCP port is bound
// and no process outside is signalled.
func confine(folders []string) (version int, err error) {
	v := landlockVersion()
	if v == 0 {
		return 0, nil
	}
	r := ruleset{fs: fileRights1}
	for since, right := range map[uintptr]uint64{2: fileRefer2, 3: fileTrunc3, 5: fileIoctl5} {
		if v >= since {
			r.fs |= right
		}
	}
	if v >= 4 {
		r.net = bindTCP4
	}
	if v >= 6 {
		r.scoped = scopes6
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&r)), r.size(v), 0)
	if errno != 0 {
		return 0, fmt.Errorf("landlock: %w", errno)
	}
	defer func() { err = errors.Join(err, unix.Close(int(fd))) }()
	for _, path := range folders {
		if err := permit(fd, path); err != nil {
			return 0, fmt.Errorf("landlock: %s: %w", path, err)
		}
	}
	// Landlock confines one thread at a time, so each is asked.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return 0, fmt.Errorf("landlock: %w", errno)
	}
	return int(v), nil
}

// permit lets what lies below a folder be read. A folder that is not there is no
// folder.
func permit(ruleset uintptr, path string) (err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	// struct landlock_path_beneath_attr is packed: 8 and 4 bytes.
	rule := unix.LandlockPathBeneathAttr{Allowed_access: fileRead, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
