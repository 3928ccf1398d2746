package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
)

// systemUsers are the users that the package (or the lab's root filesystem)
// makes for the parts of the agent.
const (
	networkUser = "sallyport-agent"
	helperUser  = "sallyport-ssh"
)

// userID reads a system user's uid.
func userID(rootFolder, name string) (uint32, error) {
	uid, _, err := userIDs(rootFolder, name)
	return uid, err
}

// userIDs reads a system user's uid and gid from /etc/passwd itself: this build
// knows no other source of users, and must not ask its own.
func userIDs(rootFolder, name string) (uid, gid uint32, err error) {
	b, err := os.ReadFile(filepath.Join(rootFolder, "/etc/passwd"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) == 7 && f[0] == name {
			uid, err := strconv.ParseUint(f[2], 10, 32)
			gid, err2 := strconv.ParseUint(f[3], 10, 32)
			if err != nil || err2 != nil || uid == 0 || gid == 0 {
				return 0, 0, fmt.Errorf("the user %s has no usable uid and gid", name)
			}
			return uint32(uid), uint32(gid), nil
		}
	}
	return 0, 0, fault.New(fault.Precondition, "SystemUserMissing", "the system user %s does not exist", name).
		WithRemedy("Run: useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin %s", name)
}

// newBoot returns what names this boot and says how long ago it was, suspended
// time included. A process does not outlive its boot, so the name is read once:
// every login asks for it.
func newBoot() func() (string, time.Duration) {
	name := ""
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		name = strings.TrimSpace(string(id))
	}
	return func() (string, time.Duration) {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil || name == "" {
			return "", 0
		}
		return name, time.Duration(ts.Nano())
	}
}

// programFolders are where root looks for programs; the environment has no say
// (CVE-2026-26148).
func programFolders() []string { return []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} }

const programTime = 30 * time.Second

// prepared has nothing of whoever started the agent: folder and environment are
// ours.
func prepared(ctx context.Context, path string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + strings.Join(programFolders(), ":"), "LC_ALL=C", "HOME=/root"}
	return cmd
}

// run runs a program for root: no shell unless named, a fixed environment, a
// time limit, and both outputs together.
func run(ctx context.Context, c root.Command) ([]byte, error) {
	path, err := program(c.Argv[0])
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := prepared(ctx, path, c.Argv[1:])
	cmd.WaitDelay = time.Second
	if c.As != nil {
		cmd.Env[2] = "HOME=" + c.As.Home
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.As.UID, Gid: c.As.GID}}
	}
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	return cmd.CombinedOutput()
}

// start starts a program whose input and output are a connection. What it writes
// as errors comes back from Wait, which ends it.
func start(ctx context.Context, table proc.Table, conn *os.File, argv []string) (sshd.Started, error) {
	path, err := program(argv[0])
	if err != nil {
		return sshd.Started{}, err
	}
	var log bytes.Buffer
	cmd := prepared(ctx, path, argv[1:])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = conn, conn, &log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return sshd.Started{}, err
	}
	wait := func() []byte {
		late := time.AfterFunc(programTime, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait() // its status says nothing: who was let in knows more
		return log.Bytes()
	}
	// Not waited for yet, so the id is still its own.
	p, err := table.Read(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		wait()
		return sshd.Started{}, err
	}
	return sshd.Started{Process: p, Wait: wait}, nil
}

func program(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range programFolders() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is not installed", name)
}

// wait sleeps, or less if ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// addresses lists the machine's own, without loopback and link-local ones.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []string
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP.String())
		}
	}
	slices.Sort(list)
	return list
}

// facts gathers what the machine says of itself when it joins.
func facts(ctx context.Context, version string) Facts {
	f := Facts{Version: version, OS: "Linux", OpenSSH: "unknown"}
	f.Hostname, _ = os.Hostname()
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				f.OS = strings.Trim(strings.TrimSpace(name), `"'`)
			}
		}
	}
	out, err := run(ctx, root.Command{Argv: []string{"ssh", "-V"}})
	if err == nil {
		f.OpenSSH = strings.TrimSpace(string(bytes.SplitN(out, []byte("\n"), 2)[0]))
	}
	f.Hostname, f.OS, f.OpenSSH = ascii(f.Hostname), ascii(f.OS), ascii(f.OpenSSH)
	return f
}

// ascii cuts and cleans a text as the server accepts it.
func ascii(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 256)]
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return fault.New(fault.Forbidden, "RootRequired", "this command must run as root")
	}
	return nil
}
