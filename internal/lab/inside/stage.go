package inside

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Stage turns the calling process into a machine's first process. The lab has
// started it as pid 1 of new mount, pid, uts, ipc, net and cgroup namespaces;
// it waits for the Spec, builds the machine's root, gives up what a machine
// must not have, and becomes Init. It returns only on failure, after it has
// told the lab why. For a machine of systemd-nspawn it stays, and returns when
// that has ended.
func Stage() error {
	runtime.LockOSThread() // capabilities belong to a thread until exec
	if os.Getpid() != 1 {
		return errors.New("this command is the first step of a lab machine and is started by 'sally lab serve' only")
	}
	unix.CloseOnExec(specFD)
	unix.CloseOnExec(statusFD)
	status := inherited(statusFD, "status")
	err := stage(status)
	if err == nil {
		return nil // the machine ended; its stage was not replaced by an init
	}
	_, writeErr := fmt.Fprintf(status, "%v", err)
	return errors.Join(err, writeErr)
}

func stage(status *os.File) error {
	spec, err := readSpec(inherited(specFD, "spec"))
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	if spec.Nspawn {
		return nspawnStage(spec, status)
	}
	if err := doSteps([]step{
		{"leave the computer's keyring and audit identity", leaveSession},
		{"enter the machine's root", func() error { return enterRoot(spec) }},
		{"mount the machine's file systems", mountSystem},
		{"make the machine's devices", makeDevices},
		{"mask /proc and /sys", mask},
		{"name the machine", func() error { return name(spec) }},
		{"take /dev/null as input and output", nullStreams},
		{"drop capabilities", dropCapabilities},
		{"install the system-call filter", installFilter},
	}); err != nil {
		return err
	}
	// Whoever started the lab may have left descriptors open in it: a directory
	// of the computer among them would be a way out.
	if err := unix.CloseRange(statusFD+1, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(statusFD, unix.F_SETFD, 0); err != nil {
		return err
	}
	// Executed from the read-only mount, so that /proc/1/exe offers a machine's
	// root no way to the program on the computer (CVE-2019-5736).
	err = unix.Exec(binaryPath, []string{binaryPath, "lab", "init"}, []string{"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8"})
	return fmt.Errorf("become the machine's init: %w", err)
}

// step is one thing that a stage does, and its name for the lab's log.
type step struct {
	name string
	run  func() error
}

func doSteps(steps []step) error {
	for _, s := range steps {
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// leaveSession detaches from what namespaces do not cover: the session keyring
// (keyrings(7)) and the login uid. A kernel without audit has no login uid.
func leaveSession() error {
	if _, err := unix.KeyctlJoinSessionKeyring("sallyport-lab-machine"); err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	err := os.WriteFile("/proc/thread-self/loginuid", []byte("4294967295"), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EPERM) {
		return nil // none to leave, or the kernel keeps it immutable
	}
	return err
}

// enterRoot mounts the overlay and makes it the root. The program comes along
// as a detached mount, so that no path of the computer is needed afterwards.
func enterRoot(spec Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	program, err := detachedProgram(spec.Program)
	if err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(spec.Lower, ":") + ",upperdir=" + spec.Upper + ",workdir=" + spec.Work
	if err := unix.Mount("overlay", spec.Root, "overlay", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	// pivot_root(2): with both arguments "." the old root is stacked on the
	// new one and can be detached without a directory for it.
	if err := unix.Chdir(spec.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the computer's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := replaceWithFile(binaryPath); err != nil {
		return err
	}
	if err := unix.MoveMount(program, "", unix.AT_FDCWD, binaryPath, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the program: %w", err)
	}
	return unix.Close(program)
}

// detachedProgram returns a read-only mount of the program.
func detachedProgram(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("clone the program's mount: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, fmt.Errorf("make the program read-only: %w", err)
	}
	return fd, nil
}

// replaceWithFile makes path an ordinary file, whatever the machine's root left
// there before.
func replaceWithFile(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		return nil
	}
	return replaceFile(path, "")
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mountSystem() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []mount{
		{"proc", "/proc", "proc", safe | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", safe | unix.MS_NOEXEC | unix.MS_RDONLY, ""},
		{"dev", "/dev", "tmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755,size=64k"},
		{"run", "/run", "tmpfs", safe, "mode=0755,size=64m"},
	} {
		// A machine's root may have put a link there before the last stop.
		info, err := os.Lstat(m.target)
		if err == nil && !info.IsDir() {
			err = os.Remove(m.target)
		}
		if err == nil || errors.Is(err, os.ErrNotExist) {
			err = os.MkdirAll(m.target, 0o755)
		}
		if err != nil {
			return err
		}
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

func (m mount) do() error {
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("%s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// makeDevices fills /dev. These are the only device files of a machine: every
// other file system is nodev and CAP_MKNOD is dropped.
func makeDevices() error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		path := "/dev/" + d.name
		if err := unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // past the umask
			return err
		}
	}
	for _, m := range []mount{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,gid=5,mode=0620,ptmxmode=0666"},
		{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=1777,size=64m"},
	} {
		if err := os.Mkdir(m.target, 0o755); err != nil {
			return err
		}
		if err := m.do(); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+link); err != nil {
			return err
		}
	}
	return nil
}

// mask hides what /proc and /sys tell about, or let do to, the computer. The
// lists are those of container runtimes, and keys and kallsyms besides.
func mask() error {
	for _, path := range []string{
		"/proc/acpi", "/proc/asound", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/cgroup",
	} {
		info, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		m := mount{"/dev/null", path, "", unix.MS_BIND, ""}
		if info.IsDir() {
			m = mount{"tmpfs", path, "tmpfs", unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "size=4k,nr_inodes=1,mode=0"}
		}
		if err := m.do(); err != nil {
			return err
		}
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"} {
		if err := readOnly(path); err != nil {
			return err
		}
	}
	return nil
}

func readOnly(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := (mount{path, path, "", unix.MS_BIND | unix.MS_REC, ""}).do(); err != nil {
		return err
	}
	return mount{"", path, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | flags, ""}.do()
}

// name sets the host name and lets it resolve, without which every sudo
// complains.
func name(spec Spec) error {
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return err
	}
	if err := replaceFile("/etc/hostname", spec.Hostname+"\n"); err != nil {
		return err
	}
	return replaceFile("/etc/hosts", "127.0.0.1 localhost\n"+spec.Address+" "+spec.Hostname+"\n::1 localhost ip6-localhost ip6-loopback\n")
}

// replaceFile replaces whatever is at path. The new file is made beside it,
// never through a link that a machine's root has left in its place.
func replaceFile(path, text string) error {
	beside := path + ".sallyport"
	if err := errors.Join(os.RemoveAll(beside), removeDirectory(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(beside, path)
}

// removeDirectory removes path where it is a directory, which no rename replaces.
func removeDirectory(path string) error {
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return nil // absent, or a file or link
	}
	return os.RemoveAll(path)
}

// nullStreams lets go of the last descriptors that were opened outside.
func nullStreams() error {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return err
		}
	}
	return nil
}
