package sshd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
)

// Daemon is the running sshd.
type Daemon struct {
	Root      string
	Processes interface {
		Read(pid int) (proc.Process, error)
	}
	// ProcFolder is where open files of a process are listed, /proc.
	ProcFolder string
	Run        func(ctx context.Context, argv ...string) ([]byte, error)
}

const (
	reloadTime = 5 * time.Second
	lookEvery  = 10 * time.Millisecond
)

// Reload hangs up the sshd that accepts connections and waits until it has made
// its listening sockets anew, so that the next connection meets the new
// configuration. Without a running sshd, or where systemd starts one for each
// connection, there is nothing to do.
func (d Daemon) Reload(ctx context.Context) error {
	p, ok, err := d.listener()
	if err != nil || !ok {
		return err
	}
	before := d.sockets(p.PID)
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return fmt.Errorf("sshd (pid %d): %w", p.PID, err)
	}
	defer unix.Close(fd)
	if now, err := d.Processes.Read(p.PID); err != nil || !now.Same(p) {
		return fmt.Errorf("sshd (pid %d) ended meanwhile", p.PID)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGHUP, nil, 0); err != nil {
		return fmt.Errorf("sshd (pid %d): %w", p.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	for {
		after := d.sockets(p.PID)
		if len(after) > 0 && !slices.ContainsFunc(after, func(s string) bool { return slices.Contains(before, s) }) && d.banner(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sshd (pid %d) did not come back after it read its configuration: %w", p.PID, ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}

// listener finds the sshd that accepts connections, by its pid file.
func (d Daemon) listener() (proc.Process, bool, error) {
	b, err := os.ReadFile(filepath.Join(d.Root, pidPath))
	if errors.Is(err, fs.ErrNotExist) {
		return proc.Process{}, false, nil
	}
	if err != nil {
		return proc.Process{}, false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 {
		return proc.Process{}, false, nil
	}
	p, err := d.Processes.Read(pid)
	if err != nil || !p.SSHD() || !p.Root() {
		return proc.Process{}, false, nil // an old pid file
	}
	return p, true, nil
}

// sockets names the listening sockets of a process: its socket descriptors that
// appear as listening in the kernel's tables.
func (d Daemon) sockets(pid int) []string {
	dir := filepath.Join(d.ProcFolder, strconv.Itoa(pid))
	listening := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join(dir, "net", table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			const state, inode, listen = 3, 9, "0A" // proc_pid_net(5)
			if f := strings.Fields(line); len(f) > inode && f[state] == listen {
				listening["socket:["+f[inode]+"]"] = true
			}
		}
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	var found []string
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && listening[target] {
			found = append(found, target)
		}
	}
	return found
}

// Try shows that people can still log in: sshd answers, a local account passes
// PAM with our module in it, and the name service finds our groups.
func (d Daemon) Try(ctx context.Context) error {
	const limit = 2 * reloadTime
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := d.tried(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("it was not done after %s, is this computer too busy? The last step that had no answer: %w", limit, err)
	}
	return err
}

func (d Daemon) tried(ctx context.Context) error {
	if p, ok, err := d.listener(); err != nil {
		return err
	} else if ok {
		if err := errors.Join(ordinary(p.Title), d.banner(ctx)); err != nil {
			return err
		}
	}
	if out, err := d.Run(ctx, "getent", "group", shim.GroupUsers); err != nil || !strings.HasPrefix(string(out), shim.GroupUsers+":") {
		return fmt.Errorf("the name service does not find the group %s: %w", shim.GroupUsers, errors.Join(err, errors.New(firstLine(out))))
	}
	if _, err := os.Lstat(filepath.Join(d.Root, pamFolder, "su")); err == nil {
		if out, err := d.Run(ctx, "su", "-s", "/bin/sh", "-c", "exit 0", "root"); err != nil {
			return said("a local account does not pass PAM any more", out, err)
		}
	}
	return nil
}

// said is an error with the first words of a program that failed, where it said any.
func said(what string, out []byte, err error) error {
	if first := firstLine(out); first != "" {
		return fmt.Errorf("%s: %s: %w", what, first, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ordinary refuses a listening sshd whose command line (sshd(8)) makes what `sshd
// -T` says untrue: another file, or a word on PAM, which no Match takes back. Other
// options are set aside by our Match.
func ordinary(title string) error {
	f := strings.Fields(title)
	for i, word := range f {
		file, given := strings.CutPrefix(word, "-f")
		if given && file == "" && i+1 < len(f) {
			file = f[i+1]
		}
		if given && file != mainPath {
			return fmt.Errorf("the running sshd reads %s and not %s (its command line says -f): start it without", firstLine([]byte(file)), mainPath)
		}
		if strings.Contains(strings.ToLower(word), "usepam") {
			return errors.New("the running sshd was started with a word on UsePAM on its command line: start it without")
		}
	}
	return nil
}

// banner connects to sshd as it says it listens, and reads its first words.
func (d Daemon) banner(ctx context.Context) error {
	out, err := d.Run(ctx, "sshd", "-T", "-C", "user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
	if err != nil {
		return said("sshd -T", out, err)
	}
	last := errors.New("sshd names no address that it listens on")
	for line := range strings.Lines(string(out)) {
		address, ok := strings.CutPrefix(strings.TrimSpace(line), "listenaddress ")
		if !ok {
			continue
		}
		if last = greet(ctx, address); last == nil {
			return nil
		}
	}
	return last
}

func greet(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	switch host {
	case "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	b := make([]byte, 4)
	if _, err := c.Read(b); err != nil || string(b) != "SSH-" {
		return fmt.Errorf("no SSH banner at %s: %w", address, errors.Join(err))
	}
	return nil
}
