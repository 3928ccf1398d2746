package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nspawnProgram is Debian's package systemd-container.
const nspawnProgram = "/usr/bin/systemd-nspawn"

// Where the stage of an nspawn machine keeps its own things. /run is a tmpfs of
// its own, so nothing of it is the computer's.
const (
	notifySocket = "/run/notify"
	cgroupRoot   = "/sys/fs/cgroup"
	cgroupOwn    = cgroupRoot + "/machine"
)

// startTime is how long systemd-nspawn may take to start the machine's first
// process.
const startTime = 20 * time.Second

// exitReboot is systemd-nspawn's status for a machine that asked to be started
// again (systemd-nspawn(1), --keep-unit; EXIT_FORCE_RESTART).
const exitReboot = 133

// droppedCapabilities are those of systemd-nspawn's default set
// (systemd-nspawn(1), --capability=) that no machine needs. The rest count in the
// machine's user namespace only.
const droppedCapabilities = "CAP_DAC_READ_SEARCH,CAP_MKNOD,CAP_NET_ADMIN,CAP_NET_BROADCAST,CAP_NET_RAW,CAP_LINUX_IMMUTABLE,CAP_SYS_TTY_CONFIG"

// deniedNames are system calls that systemd-nspawn's own filter may allow and a
// machine does not need: ways into the kernel past the namespaces.
const deniedNames = "~bpf perf_event_open open_by_handle_at io_uring_setup io_uring_enter io_uring_register userfaultfd add_key request_key kexec_load syslog"

// nspawnStage runs a machine under systemd-nspawn: real systemd as its first
// process. The lab has started this process as root of a user namespace whose
// ids are nobody's on the computer, in namespaces that belong to it, and has
// mounted the machine's files; what happens here can do no more than that root.
// It returns when the machine has ended.
func nspawnStage(spec Spec, status *os.File) error {
	// From here on: a signal to a first process that has not asked for it is lost.
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	if err := doSteps([]step{
		{"leave the computer's keyring and audit identity", leaveSession},
		{"mount what systemd-nspawn looks at", mountForNspawn},
		{"name the machine and make its host keys' folder", func() error { return furnish(spec) }},
	}); err != nil {
		return err
	}
	// The ready report goes out once; a machine that reboots is not announced again.
	ready := func() error {
		_, err := status.WriteString(Ready)
		return errors.Join(err, status.Close())
	}
	for {
		again, err := runNspawn(ctx, spec, ready)
		if !again || err != nil {
			return err
		}
		ready = func() error { return nil }
	}
}

// mountForNspawn gives systemd-nspawn views of this process's namespaces: the
// processes, ptys and control group of the machine instead of the computer's.
func mountForNspawn() error {
	// The namespace's root is the control group that the lab made for the
	// machine; a clone flag would have taken the lab's own.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("control group namespace: %w", err)
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []mount{
		{"proc", "/proc", "proc", safe, ""},
		{"cgroup2", cgroupRoot, "cgroup2", safe, ""},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,mode=0620,ptmxmode=0666"},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	return os.Mkdir(cgroupOwn, 0o755)
}

// furnish writes what a machine gets from outside. os.Root follows no link out
// of the machine's files, whatever a machine's root has left there.
func furnish(spec Spec) error {
	root, err := os.OpenRoot(NspawnRoot)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for path, text := range map[string]string{
		"etc/hostname": spec.Hostname + "\n",
		"etc/hosts":    "127.0.0.1 localhost\n" + spec.Address + " " + spec.Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n",
	} {
		if err := errors.Join(root.RemoveAll(path), root.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if info, err := root.Lstat(strings.TrimPrefix(binaryPath, "/")); spec.OwnProgram || err == nil && info.Mode().IsRegular() {
		return nil
	}
	path := strings.TrimPrefix(binaryPath, "/")
	return errors.Join(root.RemoveAll(path), root.WriteFile(path, nil, 0o755))
}

// arguments are systemd-nspawn's. The network namespace is this process's own,
// which the lab has connected; no systemd or D-Bus of the computer is asked.
func arguments(spec Spec) []string {
	list := []string{
		"--quiet", "--settings=no", "--register=no", "--keep-unit", "--boot",
		"--directory=" + NspawnRoot, "--machine=" + spec.Hostname, "--uuid=" + spec.MachineID,
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
		"--drop-capability=" + droppedCapabilities, "--system-call-filter=" + deniedNames,
	}
	if !spec.OwnProgram {
		list = append(list, "--bind-ro="+NspawnProgram+":"+binaryPath)
	}
	return list
}

// runNspawn runs the machine until it ends; again says that it asked for a
// restart.
func runNspawn(ctx context.Context, spec Spec, ready func() error) (again bool, err error) {
	if err := os.Remove(notifySocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notifySocket, Net: "unixgram"})
	if err != nil {
		return false, err
	}
	defer func() { _ = notify.Close() }()
	group, err := os.Open(cgroupOwn)
	if err != nil {
		return false, err
	}
	defer func() { _ = group.Close() }()
	var said bytes.Buffer
	cmd := exec.Command(nspawnProgram, arguments(spec)...)
	cmd.Env = []string{"PATH=" + searchPath, "LANG=C.UTF-8", "NOTIFY_SOCKET=" + notifySocket, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"}
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("systemd-nspawn: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := awaitStart(notify, ended, &said); err != nil {
		_ = cmd.Process.Kill()
		return false, err
	}
	if err := ready(); err != nil {
		return false, err
	}
	return awaitEnd(ctx, cmd, ended)
}

// awaitStart waits for systemd-nspawn's word that the machine's first process
// runs (sd_notify(3)).
func awaitStart(notify *net.UnixConn, ended chan error, said *bytes.Buffer) error {
	started := make(chan error, 1)
	// Read to the end of the machine: its systemd tells of each reload, and would
	// wait for ever for a reader.
	go func() {
		message := make([]byte, 4096)
		for told := false; ; {
			n, err := notify.Read(message)
			if ready := strings.Contains("\n"+string(message[:n])+"\n", "\nREADY=1\n"); !told && (err != nil || ready) {
				told = true
				started <- err
			}
			if err != nil {
				return
			}
		}
	}()
	if err := notify.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	select {
	case err := <-started:
		return errors.Join(err, notify.SetReadDeadline(time.Time{}))
	case err := <-ended:
		return fmt.Errorf("systemd-nspawn ended: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
}

// awaitEnd passes the lab's SIGTERM on, which systemd-nspawn makes an orderly
// end of the machine.
func awaitEnd(ctx context.Context, cmd *exec.Cmd, ended chan error) (again bool, err error) {
	select {
	case <-ctx.Done():
		_ = cmd.Process.Signal(unix.SIGTERM)
		<-ended
		return false, nil
	case err := <-ended:
		var exit *exec.ExitError
		return errors.As(err, &exit) && exit.ExitCode() == exitReboot, nil
	}
}
