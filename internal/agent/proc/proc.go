package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NoLogin is the login uid of a process that no login began (audit(8)).
const NoLogin = math.MaxUint32

// Process is one process at one moment.
type Process struct {
	PID      int
	State    byte // 'Z' for one that has ended and waits for its parent
	PPID     int
	Session  int // session id, setsid(2)
	TTY      int // device number of the controlling terminal, 0 for none
	Start    uint64
	UIDs     [4]uint32 // real, effective, saved, file system
	LoginUID uint32    // NoLogin when unset or unknown to the kernel
	Audit    string    // audit session id, "" when unset
	Comm     string
	Exe      string // "" when the kernel will not say
	Title    string // command line, NULs as spaces, at most 256 bytes
}

// Has reports whether any of the process's uids is uid.
func (p Process) Has(uid uint32) bool {
	for _, u := range p.UIDs {
		if u == uid {
			return true
		}
	}
	return false
}

// Root reports whether every uid of the process is 0.
func (p Process) Root() bool { return p.UIDs == [4]uint32{} }

// Privileged reports whether the process belongs to root although it may act as
// somebody else for a moment, as sshd does while it reads what a command says.
func (p Process) Privileged() bool { return p.UIDs[0] == 0 && p.UIDs[2] == 0 }

// SSHD reports whether the process runs OpenSSH's server. Only of a
// privileged process does that mean anything.
func (p Process) SSHD() bool {
	if p.Exe == "" {
		return p.Comm == "sshd" || p.Comm == "sshd-session"
	}
	base := filepath.Base(strings.TrimSuffix(p.Exe, " (deleted)"))
	return base == "sshd" || base == "sshd-session"
}

// Listener reports whether the process is the sshd that accepts connections.
// Those that serve one may have pid 1 for a parent too, when it was restarted;
// they call themselves "sshd: ..." or, from OpenSSH 9.8 on, "sshd-session: ...".
func (p Process) Listener() bool {
	return p.SSHD() && p.Root() && (strings.Contains(p.Title, "[listener]") || p.PPID == 1 && !strings.HasPrefix(p.Title, "sshd: ") && !strings.HasPrefix(p.Title, "sshd-session: "))
}

// Same reports whether both are the same process: ids are used again, start
// times are not.
func (p Process) Same(q Process) bool { return p.PID == q.PID && p.Start == q.Start }

// Table is the folder of processes, /proc.
type Table struct {
	Dir string
}

var errShape = errors.New("unexpected shape")

// Unknown reports whether an error of Read leaves open whether the process is
// there: for want of memory or descriptors, say, it could not be looked at just
// now. Other errors say that it has ended, or that the kernel will never show it.
func Unknown(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errShape)
}

// Read returns one process.
func (t Table) Read(pid int) (Process, error) {
	dir := filepath.Join(t.Dir, strconv.Itoa(pid))
	p := Process{PID: pid, LoginUID: NoLogin}
	space := make([]byte, pageSize)
	stat, err := small(filepath.Join(dir, "stat"), space)
	if err != nil {
		return p, err
	}
	if err := p.stat(stat); err != nil {
		return p, fmt.Errorf("stat of process %d: %w", pid, errors.Join(errShape, err))
	}
	status, err := small(filepath.Join(dir, "status"), space)
	if err != nil {
		return p, err
	}
	if err := p.status(status); err != nil {
		return p, fmt.Errorf("status of process %d: %w", pid, errors.Join(errShape, err))
	}
	if p.LoginUID, err = number(filepath.Join(dir, "loginuid"), space); err != nil {
		return p, err
	}
	id, err := number(filepath.Join(dir, "sessionid"), space)
	if err != nil {
		return p, err
	}
	if id != NoLogin {
		p.Audit = strconv.FormatUint(uint64(id), 10)
	}
	// The rest is empty for kernel threads and where the kernel denies it.
	p.Exe, _ = os.Readlink(filepath.Join(dir, "exe"))
	if title, err := small(filepath.Join(dir, "cmdline"), space); err == nil {
		p.Title = strings.TrimSpace(strings.ReplaceAll(string(title[:min(len(title), 256)]), "\x00", " "))
	}
	return p, nil
}

// pageSize is more than a process's stat takes, and status up to its uids.
const pageSize = 4096

// small reads what a file says, as far as it fits into space. The kernel gives
// the files of a process whole to the first read(2), and package os would ask it
// six things besides, of each of the hundreds of files of one look at all
// processes.
func small(path string, space []byte) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	n, err := again(func() (int, error) { return unix.Read(fd, space) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, err
	}
	return space[:n], nil
}

// again repeats a call that a signal has interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// number reads what the audit subsystem keeps of a process; NoLogin where it keeps
// nothing, as in a kernel without it, which has no such file.
func number(path string, space []byte) (uint32, error) {
	b, err := small(path, space)
	if Unknown(err) && !errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESRCH) {
		return NoLogin, err
	}
	n, perr := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil || perr != nil {
		return NoLogin, nil
	}
	return uint32(n), nil
}

// stat reads proc(5)'s one line. The name is in parentheses and may itself hold
// parentheses and spaces: the last ')' ends it.
func (p *Process) stat(b []byte) error {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return errShape
	}
	p.Comm = string(b[open+1 : end])
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return errShape
	}
	p.State = f[0][0]
	var err [4]error
	p.PPID, err[0] = strconv.Atoi(f[1])
	p.Session, err[1] = strconv.Atoi(f[3])
	p.TTY, err[2] = strconv.Atoi(f[4])
	p.Start, err[3] = strconv.ParseUint(f[19], 10, 64)
	return errors.Join(err[:]...)
}

func (p *Process) status(b []byte) error {
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "Uid:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 4 {
			return errShape
		}
		for i := range f {
			n, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return err
			}
			p.UIDs[i] = uint32(n)
		}
		return nil
	}
	return errShape
}

// PIDs lists the processes' ids, ascending.
func (t Table) PIDs() ([]int, error) {
	dir, err := os.Open(t.Dir)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	pids := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// All returns every process that can be read, the newest ids first; those that end
// meanwhile are left out. One that could not be looked at fails it: who asks what is
// left would take it for gone.
func (t Table) All() ([]Process, error) {
	pids, err := t.PIDs()
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, pid := range slices.Backward(pids) {
		p, err := t.Read(pid)
		if Unknown(err) {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		if err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}
