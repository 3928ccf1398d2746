package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

// Processes is what the kernel says. proc.Table satisfies it.
type Processes interface {
	All() ([]proc.Process, error)
	Read(pid int) (proc.Process, error)
}

// Signaller sends a signal to exactly the process that was seen: same is asked
// again once the process is held.
type Signaller interface {
	Signal(pid int, sig unix.Signal, same func() bool) error
}

// Config is what an Ender stands on.
type Config struct {
	Processes Processes
	Signaller Signaller
	// Daemons is the folder of pid files, /run: a process that one of them names
	// is a daemon, whoever started it.
	Daemons string
	// Terminals is the folder of terminals, /dev/pts.
	Terminals string
	Wait      func(ctx context.Context, d time.Duration)
	Self      int // own pid
}

// Ender ends sessions.
type Ender struct {
	cfg Config
}

// New makes an Ender.
func New(cfg Config) *Ender { return &Ender{cfg: cfg} }

const (
	grace     = 200 * time.Millisecond
	maxRounds = 50
	quiet     = 2 // scans in a row that find nothing
)

// End ends everything of a uid: processes with the uid, and those of a login
// that began as it (loginuid), as which uid ever they run now. It writes the
// message to the person's terminals, hangs up, waits 200 ms and kills, until two
// scans find nothing. It returns how many processes it met.
func (e *Ender) End(ctx context.Context, uid uint32, message string) (int, error) {
	return e.end(ctx, message, func(p proc.Process) bool { return p.Has(uid) || p.LoginUID == uid })
}

// EndElevated ends what a login of uid runs as somebody else: sudo, su and
// everything below. The sshd processes that carry the session stay.
func (e *Ender) EndElevated(ctx context.Context, uid uint32, message string) (int, error) {
	return e.end(ctx, message, func(p proc.Process) bool {
		return p.LoginUID == uid && p.UIDs != [4]uint32{uid, uid, uid, uid} && !(p.SSHD() && p.Privileged())
	})
}

// Present lists the uids in a range that have a process or a login here.
func (e *Ender) Present(low, high uint32) ([]uint32, error) {
	all, err := e.cfg.Processes.All()
	if err != nil {
		return nil, err
	}
	var uids []uint32
	for _, p := range all {
		for _, u := range append(p.UIDs[:], p.LoginUID) {
			if u >= low && u <= high && !slices.Contains(uids, u) && !e.spared(p) {
				uids = append(uids, u)
			}
		}
	}
	slices.Sort(uids)
	return uids, nil
}

func (e *Ender) end(ctx context.Context, message string, mine func(proc.Process) bool) (int, error) {
	met := map[int]uint64{}
	empty := 0
	var last error
	for round := 0; round < maxRounds && empty < quiet; round++ {
		found, err := e.scan(mine)
		if err != nil {
			return len(met), err
		}
		if len(found) == 0 {
			empty++
			continue
		}
		empty = 0
		sig := unix.SIGKILL
		if round == 0 {
			sig = unix.SIGHUP
			if e.tell(found, message) {
				e.cfg.Wait(ctx, grace/4) // for sshd to carry the message
			}
		}
		for _, p := range found {
			met[p.PID] = p.Start
			if err := e.signal(p, sig, mine); err != nil {
				last = err
			}
		}
		if round == 0 {
			e.cfg.Wait(ctx, grace)
		} else {
			e.cfg.Wait(ctx, grace/20)
		}
	}
	if empty < quiet {
		return len(met), fmt.Errorf("processes are left after %d rounds: %w", maxRounds, errors.Join(last, ctx.Err()))
	}
	return len(met), nil
}

func (e *Ender) scan(mine func(proc.Process) bool) ([]proc.Process, error) {
	all, err := e.cfg.Processes.All()
	if err != nil {
		return nil, err
	}
	var found []proc.Process
	for _, p := range all {
		if mine(p) && !e.spared(p) {
			found = append(found, p)
		}
	}
	return found, nil
}

// spared are processes that no login owns, although a login started them.
func (e *Ender) spared(p proc.Process) bool {
	return p.PID == 1 || p.PID == e.cfg.Self || p.State == 'Z' || p.Listener() || p.Root() && p.Session == p.PID && e.daemon(p.PID)
}

// daemon reports whether a pid file names the process.
func (e *Ender) daemon(pid int) bool {
	for _, pattern := range []string{"*.pid", "*/*.pid"} {
		files, _ := filepath.Glob(filepath.Join(e.cfg.Daemons, pattern))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err == nil && len(b) < 32 && strings.TrimSpace(string(b)) == strconv.Itoa(pid) {
				return true
			}
		}
	}
	return false
}

func (e *Ender) signal(p proc.Process, sig unix.Signal, mine func(proc.Process) bool) error {
	err := e.cfg.Signaller.Signal(p.PID, sig, func() bool {
		now, err := e.cfg.Processes.Read(p.PID)
		return err == nil && now.Same(p) && mine(now)
	})
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// tell writes the message to the terminals of the processes. It never waits for
// one: a terminal whose reader is stopped loses the message. It reports whether anybody was told.
func (e *Ender) tell(found []proc.Process, message string) bool {
	const ptyMajor = 136 // devpts(5): majors 136 to 143
	told := map[int]bool{}
	for _, p := range found {
		major, minor := int(unix.Major(uint64(p.TTY))), int(unix.Minor(uint64(p.TTY)))
		if p.TTY == 0 || major < ptyMajor || major > ptyMajor+7 || told[p.TTY] {
			continue
		}
		told[p.TTY] = true
		name := filepath.Join(e.cfg.Terminals, strconv.Itoa((major-ptyMajor)*256+minor))
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			_, _ = unix.Write(fd, []byte("\r\n"+message+"\r\n"))
		}
		_ = unix.Close(fd)
	}
	return len(told) > 0
}

// Pidfd signals through pidfd_open(2): between the look and the signal the
// process cannot become another.
type Pidfd struct{}

// Signal holds the process, asks same once more and signals.
func (Pidfd) Signal(pid int, sig unix.Signal, same func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !same() {
		return nil
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}
