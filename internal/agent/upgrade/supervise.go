package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
)

// Asker is the root part of whichever build runs. control.Client satisfies it.
type Asker interface {
	Ask(ctx context.Context, r control.Request) (control.Answer, error)
}

// Supervisor sees an upgrade through. It is a process of the old build, outside of
// the agent, and holds nothing in memory that the journal does not say.
type Supervisor struct {
	Machine *Machine
	Agent   Asker
	Elapsed func() time.Duration // a clock that nobody sets
	Wait    func(ctx context.Context, d time.Duration)
	// Step hears of each step before it is done; an error ends the supervisor there,
	// as a kill does. nil but in tests.
	Step func(name string) error
}

const (
	mostStarts = 3                // of the supervisor: a machine that does not get through goes back
	answerTime = 60 * time.Second // for the new build to answer at all
	testTime   = 40 * time.Second // for one self-test
	mostTests  = 3                // that may fail: the first ones may come while things settle
	pauseTime  = time.Second
	idleTime   = 5 * time.Second // after which a build that does not run is started anew
	backTime   = 90 * time.Second
)

// errThird: somebody else has installed a version that is neither, and that one stays.
var errThird = errors.New("another version was installed meanwhile")

// errUntouched: there is nothing to go back from, and a way back would fail as the way
// there did, for ever.
var errUntouched = errors.New("nothing was changed")

// Run goes on where the journal says and returns when the upgrade has come to its
// end. An error means: start again.
func (s *Supervisor) Run(ctx context.Context) error {
	m := s.Machine
	j, found, err := m.Journal()
	if errors.Is(err, errDamaged) {
		return s.giveUp(ctx, err)
	}
	if err != nil || !found {
		return err
	}
	by, err := managerOf(j)
	if err != nil {
		return s.giveUp(ctx, err)
	}
	if j.Step == Install || j.Step == Try {
		if j.Starts++; j.Starts > mostStarts {
			j.Step, j.Reason = Return, fmt.Sprintf("the upgrade was interrupted %d times", mostStarts)
		}
		if err := s.save(j); err != nil {
			return err
		}
	}
	for !j.Step.Final() {
		next := j
		switch j.Step {
		case Install:
			switch err := s.install(ctx, j, by, false); {
			case err == nil:
				next.Step = Try
			case errors.Is(err, errThird):
				next.Step, next.Reason = Abandoned, err.Error()
			case errors.Is(err, errUntouched):
				next.Step, next.Reason = Returned, reason("the packages of %s could not be installed: %v", j.To, err)
			default:
				next.Step, next.Reason = Return, reason("the packages of %s could not be installed: %v", j.To, err)
			}
		case Try:
			if text := s.try(ctx, j, by); text != "" {
				next.Step, next.Reason = Return, text
			} else {
				next.Step = Done
			}
		case Return:
			if next, err = s.back(ctx, j, by); err != nil {
				m.cfg.Log("the way back: %v", err)
				s.Wait(ctx, idleTime)
			}
		default:
			return s.giveUp(ctx, fmt.Errorf("the journal says %q", j.Step))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if next.Step == j.Step {
			continue
		}
		m.cfg.Log("%s to %s: %s, then %s %s", j.From, j.To, j.Step, next.Step, next.Reason)
		if err := s.save(next); err != nil {
			return err
		}
		j = next
	}
	// The agent takes note of the end (Conclude); the unit is not started again.
	return m.disarm()
}

// giveUp ends an upgrade of which nobody knows any more how far it has come: systemd
// would start the supervisor each second, for ever. Whichever build is installed goes
// on; the journal is put aside, and the server may ask again.
func (s *Supervisor) giveUp(ctx context.Context, why error) error {
	m := s.Machine
	m.cfg.Log("the upgrade cannot go on, and ends here: %v. The journal is kept in %s; if sallyport or sallyport-agent is not installed whole, install both again", why, journalPath+".damaged")
	if err := os.Rename(m.at(journalPath), m.at(journalPath+".damaged")); err != nil {
		return err
	}
	s.restart(ctx)
	return errors.Join(m.disarm(), durable.Remove(m.at(programPath)))
}

func (s *Supervisor) save(j Journal) error {
	if err := s.at("journal " + string(j.Step)); err != nil {
		return err
	}
	return s.Machine.keep(journalPath, j)
}

func (s *Supervisor) at(step string) error {
	if s.Step == nil {
		return nil
	}
	return s.Step(step)
}

// reason is a text for the journal and for people: printable, and not long.
func reason(format string, args ...any) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 600)]
}

// install installs the packages of one of the two versions, after it has verified
// them again. What is installed is looked at when nobody else can change it any more:
// errThird.
func (s *Supervisor) install(ctx context.Context, j Journal, by manager, back bool) error {
	m := s.Machine
	argv, list, version := slices.Clip(by.install), j.New, j.To
	if back {
		argv, list, version = slices.Clip(by.back), j.Old, j.From
	}
	for _, p := range list {
		path := m.staging(p)
		if err := m.verify(path, p); err != nil {
			return err
		}
		argv = append(argv, path)
	}
	if !back && j.Starts == 1 {
		if err := m.writable(j); err != nil {
			return err
		}
	}
	if err := m.unstage(j); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, by)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.at(by.name + " " + list[0].File); err != nil {
		return err
	}
	// Who stops the supervisor, or the machine, does not end a package manager in the
	// middle of it: both wait for the end of it.
	ctx = context.WithoutCancel(ctx)
	if s.superseded(ctx, j, by) {
		return errThird
	}
	if err := s.put(ctx, j, by, back, argv); err != nil {
		return err
	}
	if now, err := m.installed(ctx, by, j); err != nil || now != version+revision {
		return errors.Join(fmt.Errorf("%s says that all is well, and %q is installed", by.name, now), err)
	}
	return s.at("installed " + list[0].File)
}

// writable refuses where the system's programs are on a file system that is only
// read: the root part cannot know, whose unit has it so everywhere.
func (m *Machine) writable(j Journal) error {
	dirs := []string{"/usr/bin"}
	for _, f := range j.Files {
		dirs = append(dirs, filepath.Dir(f.Path))
	}
	for _, dir := range dirs {
		if err := m.cfg.Writable(m.at(dir)); err != nil {
			return fmt.Errorf("%w: %s cannot be written: %w", errUntouched, dir, err)
		}
	}
	return nil
}

// put has the packages installed, or their files laid.
func (s *Supervisor) put(ctx context.Context, j Journal, by manager, back bool, argv []string) error {
	if by.name == byHand {
		return s.lay(ctx, j, back)
	}
	m := s.Machine
	if err := m.tidy(ctx, by, j); err != nil {
		return err
	}
	if out, err := m.cfg.Run(ctx, argv...); err != nil {
		return fmt.Errorf("%s: %w: %s", by.name, err, tail(string(out)))
	}
	return nil
}

// tail is the end of what a program said.
func tail(text string) string {
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-400):]
}

// lock waits until no package manager works, and keeps others from beginning where
// it has a lock for that: it takes the place of a front end of dpkg (apt's
// documentation of DPkg::Lock, dpkg's doc/spec/frontend-api.txt). rpm has none; who
// begins between our look and rpm's own lock makes ours wait for the end of it.
func (s *Supervisor) lock(ctx context.Context, by manager) (unlock func(), err error) {
	if by.name == byHand {
		return func() {}, nil
	}
	working := by.lock
	if by.lockAt != nil {
		out, err := s.Machine.cfg.Run(ctx, by.lockAt...)
		said := answers(out)
		if err != nil || len(said) != 1 {
			return nil, fmt.Errorf("%s: %w: %s", by.name, errors.Join(err, errorIf(len(said) != 1, "no lock")), tail(string(out)))
		}
		working = said[0]
	}
	unlock, take := func() {}, func() error { return nil }
	if by.front != "" {
		f, err := os.OpenFile(s.Machine.at(by.front), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
		if err != nil {
			return nil, err
		}
		unlock = func() { _ = f.Close() }
		take = func() error {
			return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: 0})
		}
	}
	begin := s.Elapsed()
	for {
		// A supervisor before this one may have left its package manager at work.
		if err = take(); err == nil {
			if err = quiet(s.Machine.at(working)); err == nil {
				return unlock, nil
			}
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) || s.Elapsed()-begin > lockWait || ctx.Err() != nil {
			unlock()
			return nil, fmt.Errorf("%s is at work for somebody else: %w", by.name, err)
		}
		s.Wait(ctx, pauseTime)
	}
}

// quiet returns EAGAIN while a package manager holds its lock.
func quiet(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	held := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &held); err != nil {
		return err
	}
	if held.Type != unix.F_UNLCK {
		return unix.EAGAIN
	}
	return nil
}

// superseded says that somebody else has installed a version that is neither.
func (s *Supervisor) superseded(ctx context.Context, j Journal, by manager) bool {
	version, err := s.Machine.installed(ctx, by, j)
	return err == nil && version != j.From+revision && version != j.To+revision
}

// try waits until the new build has proven itself: it answers, somebody logs in
// through it, and the server has heard it. Else it says why not.
func (s *Supervisor) try(ctx context.Context, j Journal, by manager) string {
	wait := time.Duration(j.Wait) * time.Second
	begin, tested, failed, answered, restarted := s.Elapsed(), !j.Wired, 0, false, false
	for ctx.Err() == nil {
		trial, err := s.trial(ctx)
		elapsed := s.Elapsed() - begin
		switch {
		case err != nil || trial.Version != j.To:
			if s.superseded(ctx, j, by) {
				return errThird.Error()
			}
			if !restarted && elapsed > idleTime {
				restarted = true
				s.restart(ctx)
			}
			if !answered && elapsed > min(answerTime, wait) {
				return reason("the new agent does not answer: %v", unanswered(err, trial.Version))
			}
		case !tested:
			answered = true
			if err := s.test(ctx); err == nil {
				tested = true
				continue
			} else if failed++; failed >= mostTests {
				return reason("a login fails with the new agent: %s", fault.As(err).Public())
			}
		case trial.Reported:
			return ""
		}
		if elapsed > wait {
			return reason("the server has not heard the new agent within %d seconds", j.Wait)
		}
		s.Wait(ctx, pauseTime)
	}
	return reason("the upgrade was interrupted")
}

func unanswered(err error, version string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("version %s runs", version)
}

func (s *Supervisor) trial(ctx context.Context) (control.Trial, error) {
	ctx, cancel := context.WithTimeout(ctx, idleTime)
	defer cancel()
	answer, err := s.Agent.Ask(ctx, control.Request{Op: control.OpTrial})
	if err != nil || answer.Trial == nil {
		return control.Trial{}, errors.Join(err, errorIf(answer.Trial == nil, "it does not know of trials"))
	}
	return *answer.Trial, nil
}

func errorIf(yes bool, text string) error {
	if yes {
		return errors.New(text)
	}
	return nil
}

func (s *Supervisor) test(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	_, err := s.Agent.Ask(ctx, control.Request{Op: control.OpSelfTest})
	return err
}

// restart starts both parts of whatever is installed.
func (s *Supervisor) restart(ctx context.Context) {
	for _, argv := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "restart", "sallyport-agent-root.service", "sallyport-agent.service"}} {
		if out, err := s.Machine.cfg.Run(ctx, argv...); err != nil {
			s.Machine.cfg.Log("%s: %v: %s", strings.Join(argv, " "), err, tail(string(out)))
		}
	}
}

// back installs the old packages, and waits for their agent.
func (s *Supervisor) back(ctx context.Context, j Journal, by manager) (Journal, error) {
	if err := s.install(ctx, j, by, true); errors.Is(err, errThird) {
		j.Step, j.Reason = Abandoned, err.Error()
		return j, nil
	} else if err != nil {
		return j, err
	}
	begin, restarted := s.Elapsed(), false
	for ctx.Err() == nil && s.Elapsed()-begin < backTime {
		trial, err := s.trial(ctx)
		if err == nil && trial.Version == j.From {
			j.Step = Returned
			return j, nil
		}
		if !restarted && s.Elapsed()-begin > idleTime {
			restarted = true
			s.restart(ctx)
		}
		s.Wait(ctx, pauseTime)
	}
	return j, fmt.Errorf("the agent of %s does not answer", j.From)
}
