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
	// PIDs lists the ids alone, ascending.
	PIDs() ([]int, error)
}

// Signaller sends a signal to exactly the process that was seen: same is asked
// again once the process is held. Sweep kills everything of a uid at once.
type Signaller interface {
	Signal(pid int, sig unix.Signal, same func() bool) error
	Sweep(uid uint32) error
}

// Config is what an Ender stands on.
type Config struct {
	Root      string // "/" on a machine: where Left looks
	Processes Processes
	Signaller Signaller
	Holder    Holder
	// Daemons is the folder of pid files, /run: a process that one of them names
	// is a daemon, whoever started it.
	Daemons string
	// Terminals is the folder of terminals, /dev/pts; ProcFolder is /proc.
	Terminals, ProcFolder string
	Wait                  func(ctx context.Context, d time.Duration)
	Self                  int // own pid
}

// Ender ends sessions.
type Ender struct {
	cfg Config
}

// New makes an Ender.
func New(cfg Config) *Ender { return &Ender{cfg: cfg} }

const (
	grace     = 200 * time.Millisecond
	looks     = 4 // during the grace: what has gone by itself is not waited for
	maxRounds = 20
	quiet     = 2 // scans in a row that find nothing
	patience  = 3 // rounds, then what goes on is caught
)

// Target is one thing to end, or to tell something.
type Target struct {
	UID uint32
	// Origins narrows the target to what these logins began; nil: everything of
	// the uid, as which uid ever it runs now.
	Origins []Origin
	// Logins are of the uid, although their processes may not show it yet.
	Logins []Origin
	// Spare are logins of the uid that stay, and so does what Noted says whenever it
	// is asked. They mean nothing beside Origins.
	Spare []Origin
	Noted func() []Origin
	// Elevated narrows the target to what a login of the uid runs as somebody
	// else: sudo, su and everything below. The sshd processes that carry a session
	// stay.
	Elevated bool
	Message  string
}

func (t Target) takes(s Scene, p proc.Process) bool {
	uid := [4]uint32{t.UID, t.UID, t.UID, t.UID}
	switch {
	case t.Elevated:
		return p.LoginUID == t.UID && p.UIDs != uid && !(p.SSHD() && p.Privileged()) && !t.spares(s, p)
	case t.Origins != nil:
		return s.began(t.Origins, p)
	}
	mine := p.Has(t.UID) || p.LoginUID == t.UID || s.began(t.Logins, p)
	return mine && !t.spares(s, p)
}

func (t Target) spares(s Scene, p proc.Process) bool {
	return s.began(t.Spare, p) || s.began(t.noted(), p)
}

func (t Target) noted() []Origin {
	if t.Noted == nil {
		return nil
	}
	return t.Noted()
}

// hears reports whether a process is of those whose terminal or standard error
// gets the message. Who loses only what runs elevated reads it in the session.
func (t Target) hears(s Scene, p proc.Process) bool {
	return t.takes(s, p) || t.Elevated && p.LoginUID == t.UID
}

// Outcome is what became of a target.
type Outcome struct {
	Met  int  // how many processes of it were seen
	Left bool // something of it goes on, or may
	// Swept says that everything of the uid was ended at one instant, also what no
	// look sees.
	Swept bool
}

// progress is what an end knows of a target.
type progress struct {
	met   map[int]uint64 // start times of processes, by id
	calm  int            // looks in a row that found nothing of it
	swept bool
	told  bool
}

// End ends all targets at the same time. It writes each message to the terminals
// and the standard errors of its target once something of it was met, hangs up,
// waits at most 200 ms and kills, until two scans find nothing of any; between them
// what no scan sees is caught. sshd is not hung up, so that it can carry the message
// and the last words of what ends to the client. It returns what became of each, and
// an error where something of any is left.
func (e *Ender) End(ctx context.Context, targets []Target) ([]Outcome, error) {
	all := make([]progress, len(targets))
	empty, hungUp := 0, false
	var last, missed error // missed: of the last catch
	for round := 0; round < maxRounds && empty < quiet; round++ {
		scene, err := e.Look()
		if err != nil {
			return outcomes(all, err), err
		}
		found := scene.find(targets)
		count(all, found)
		told := e.announce(scene, targets, all)
		if len(found) == 0 {
			if empty++; empty == 1 {
				if err := e.catch(ctx, targets, all); err != nil {
					if now, blind := e.Look(); blind == nil {
						e.announce(now, targets, all)
					}
					return outcomes(all, err), err
				}
			}
			continue
		}
		empty = 0
		if told {
			e.cfg.Wait(ctx, grace/looks) // for sshd to carry the message
		}
		sig := unix.SIGKILL
		if !hungUp {
			hungUp, sig = true, unix.SIGHUP
		}
		stuck := waiting(all, found)
		for _, f := range found {
			note(all, f)
			if sig == unix.SIGHUP && f.SSHD() {
				continue
			}
			if err := e.signal(f.Process, sig, takenBy(targets[f.target], scene)); err != nil {
				last = err
			}
		}
		switch {
		case sig == unix.SIGHUP:
			e.await(ctx, targets)
		case round < patience:
			e.cfg.Wait(ctx, grace/20)
		case round > patience && stuck:
			e.cfg.Wait(ctx, grace/4) // it dies when it wakes, and begins nothing until then
		default:
			missed = errors.Join(e.catch(ctx, targets, all), ctx.Err())
			last = missed
		}
	}
	if empty < quiet {
		return outcomes(all, missed), fmt.Errorf("processes are left after %d rounds: %w", maxRounds, errors.Join(last, ctx.Err()))
	}
	return outcomes(all, nil), nil
}

// announce tells the targets of which something was met, each once: what no look saw
// and a catch ended was met, too. It reports whether anybody was told.
func (e *Ender) announce(s Scene, targets []Target, all []progress) bool {
	var due []Target
	for i := range all {
		if p := &all[i]; !p.told && (len(p.met) > 0 || p.calm == 0) {
			p.told = true
			due = append(due, targets[i])
		}
	}
	return e.tell(s, due)
}

// waiting reports whether all that is left was met before and waits in the kernel,
// where no signal reaches it.
func waiting(all []progress, found []taken) bool {
	return !slices.ContainsFunc(found, func(f taken) bool { return f.State != 'D' || all[f.target].met[f.PID] != f.Start })
}

// count notes which targets a look found nothing of.
func count(all []progress, found []taken) {
	for i := range all {
		all[i].calm++
	}
	for _, f := range found {
		all[f.target].calm = 0
	}
}

// outcomes tells the targets of which nothing is left from the others. When all that
// could be done for all of them was not, none is known to have ended.
func outcomes(all []progress, missed error) []Outcome {
	list := make([]Outcome, len(all))
	for i, p := range all {
		list[i] = Outcome{Met: len(p.met), Left: missed != nil || p.calm < quiet, Swept: p.swept}
	}
	return list
}

// await gives what was hung up the time of the grace, less when it has gone.
func (e *Ender) await(ctx context.Context, targets []Target) {
	for range looks {
		e.cfg.Wait(ctx, grace/looks)
		if scene, err := e.Look(); err == nil && len(scene.find(targets)) == 0 {
			return
		}
	}
}

// Warn writes the messages of the targets and ends nothing.
func (e *Ender) Warn(targets []Target) error {
	scene, err := e.Look()
	if err == nil {
		e.tell(scene, targets)
	}
	return err
}

// Look returns all processes but those that no login owns, although a login may
// have started them.
func (e *Ender) Look() (Scene, error) {
	all, err := e.cfg.Processes.All()
	if err != nil {
		return Scene{}, err
	}
	return scene(all, e.spared), nil
}

// spared are pid 1, ourselves, the sshd that accepts connections, and daemons.
func (e *Ender) spared(p proc.Process) bool {
	return p.PID == 1 || p.PID == e.cfg.Self || p.State == 'Z' || p.Listener() || p.LoginUID != proc.NoLogin && p.Root() && p.Session == p.PID && e.daemon(p.PID)
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
