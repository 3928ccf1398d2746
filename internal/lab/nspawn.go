package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/lab/inside"
)

// The ids of nspawn machines. Systemd as a first process needs CAP_SYS_ADMIN, so
// such a machine has a user namespace: its ids 0 to 2^31-2, in which the
// directory's POSIX ids lie, are the computer's from 2^31 on, where nobody is.
// Root of it may mount in its namespaces, and is nobody at /proc/sys and
// wherever else the kernel asks for the computer's own root.
const (
	idBase  = 1 << 31
	idCount = 1<<31 - 1
)

// nspawnProgram is what the stage runs.
const nspawnProgram = "/usr/bin/systemd-nspawn"

// needNspawn says what is missing where the back end cannot work.
func needNspawn(program string) error {
	if _, err := os.Stat(program); err != nil {
		return fault.Wrap(err, fault.Invalid, "BackendNotInstalled", "this computer has no systemd-nspawn, which the back end nspawn runs machines with").
			WithRemedy("apt-get install systemd-container, or choose the back end netns")
	}
	return nil
}

// ownProgram says whether the machine's layers leave the program to its packages.
// The layers are asked and not the machine, whose root may write anything.
func (r record) ownProgram() bool {
	for _, dir := range r.Lower {
		if _, err := os.Lstat(filepath.Join(dir, inside.OwnProgramPath)); err == nil {
			return true
		}
	}
	return false
}

// withUserNamespace gives the stage's process a user namespace and makes it root
// there. Its control group namespace it makes itself.
func withUserNamespace(attr *syscall.SysProcAttr, group *os.File) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: idBase, Size: idCount}}
	attr.Cloneflags = attr.Cloneflags&^unix.CLONE_NEWCGROUP | unix.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
	attr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	attr.UseCgroupFD, attr.CgroupFD = true, int(group.Fd())
}

// giveAway makes the machine's upper directories those of its own root: overlayfs
// stores ids there as the computer counts them.
func (s *state) giveAway(id string) error {
	err := filepath.WalkDir(s.in(id, "upper"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, idBase, idBase))
	})
	return errors.Join(err, os.Lchown(s.in(id, "work"), idBase, idBase))
}

// mountFiles mounts an nspawn machine's files in the mount namespace of its
// stage, which waits for its description meanwhile. The lab does it, because the
// stage's root is nobody to the files below; in the stage's namespace, because
// the mounts then end with it and are never this computer's.
func (l *Lab) mountFiles(r record, pid int) error {
	return onThread(func() error {
		users, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
		if err != nil {
			return err
		}
		defer func() { _ = users.Close() }()
		mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if err != nil {
			return err
		}
		defer func() { _ = mounts.Close() }()
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns asks for it in a process of many threads
			return err
		}
		if err := unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter the machine's mount namespace: %w", err)
		}
		unix.Umask(0o022) // of this thread alone since the unshare
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		return l.mountParts(r, int(users.Fd()))
	})
}

// parts are what a machine's files consist of, held open while /run and /tmp,
// below which they may lie, are covered.
type parts struct {
	lower       []int // mounts of the layers with the machine's ids
	program     int
	upper, work int
}

func (l *Lab) mountParts(r record, users int) error {
	p, err := l.openParts(r, users)
	defer p.close()
	if err != nil {
		return err
	}
	owner := fmt.Sprintf("uid=%d,gid=%d", uint32(idBase), uint32(idBase))
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+owner); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	if err := unix.Mount("tmp", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,"+owner); err != nil {
		return fmt.Errorf("/tmp: %w", err)
	}
	var lower []string
	for i, fd := range p.lower {
		at := fmt.Sprintf("/run/layer%d", i)
		if err := attach(fd, at, true); err != nil {
			return err
		}
		lower = append(lower, at)
	}
	if err := attach(p.program, inside.NspawnProgram, false); err != nil {
		return err
	}
	if err := os.Mkdir(inside.NspawnRoot, 0o755); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=/proc/thread-self/fd/%d,workdir=/proc/thread-self/fd/%d", strings.Join(lower, ":"), p.upper, p.work)
	if err := unix.Mount("overlay", inside.NspawnRoot, "overlay", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// openParts clones the layers' mounts, read-only and with ids shifted into the
// machine's user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
func (l *Lab) openParts(r record, users int) (parts, error) {
	p := parts{program: -1, upper: -1, work: -1}
	for _, dir := range r.Lower {
		fd, err := detached(dir, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)})
		if err != nil {
			return p, err
		}
		p.lower = append(p.lower, fd)
	}
	var err error
	if p.program, err = detached(l.state.program(), unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}); err != nil {
		return p, err
	}
	if p.upper, err = unix.Open(l.state.in(r.ID, "upper"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return p, err
	}
	p.work, err = unix.Open(l.state.in(r.ID, "work"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return p, err
}

func (p parts) close() {
	for _, fd := range append(p.lower, p.program, p.upper, p.work) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// detached clones the mount that path lies on, from path down.
func detached(path string, attr unix.MountAttr) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("clone the mount of %s: %w", path, err)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, errors.Join(fmt.Errorf("change the mount of %s: %w", path, err), unix.Close(fd))
	}
	return fd, nil
}

// attach mounts what fd holds at a new directory or file.
func attach(fd int, at string, directory bool) error {
	var err error
	if directory {
		err = os.Mkdir(at, 0o755)
	} else {
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", at, err)
	}
	return nil
}
