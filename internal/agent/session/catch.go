package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

// Bounds of a catch.
const (
	holding  = 40 // looks at a slice that stops
	stops    = 40 // scans that stop what is seen
	hunts    = 2000
	huntRest = 50 // listings in a row without a new process that matters
	catches  = 20 // rounds of the end itself
	thaws    = 20 // tries to let a slice go on
)

// catch ends what ordinary rounds do not: what forks faster than it is seen and
// killed. Where systemd keeps each person's processes in a slice, the slice is
// stopped, and what is to end is killed one by one, each looked at first, while
// nothing can fork. Elsewhere what is seen is stopped before anything is killed,
// so that a table full of it stays full; and what forks and exits at once is
// looked for among the newest processes alone.
func (e *Ender) catch(ctx context.Context, targets []Target, all []progress) error {
	held, release := e.hold(ctx, targets)
	err := e.sweep(targets, all)
	if err == nil && !held {
		err = errors.Join(e.still(ctx, targets), e.hunt(targets, all))
	}
	for empty, round := 0, 0; err == nil && empty < quiet && round < catches; round++ {
		var scene Scene
		if scene, err = e.Look(); err != nil {
			break
		}
		found := scene.find(targets)
		if len(found) == 0 {
			empty++
			continue
		}
		empty = 0
		for _, f := range found {
			note(all, f)
			_ = e.signal(f.Process, unix.SIGKILL, takenBy(targets[f.target], scene)) // who is left is found again
		}
		e.cfg.Wait(ctx, grace/100)
	}
	return errors.Join(err, release())
}

// hold stops the slices of the targets' persons; held says that all of them are.
func (e *Ender) hold(ctx context.Context, targets []Target) (held bool, release func() error) {
	var uids []uint32
	release = func() error {
		var all error
		for _, uid := range uids {
			err := e.cfg.Holder.Release(uid)
			for try := 0; err != nil && try < thaws; try++ { // one that stays stopped is a person locked out
				e.cfg.Wait(context.WithoutCancel(ctx), grace/4)
				err = e.cfg.Holder.Release(uid)
			}
			all = errors.Join(all, err)
		}
		return all
	}
	held = true
	for _, t := range targets {
		if slices.Contains(uids, t.UID) {
			continue
		}
		is, err := e.cfg.Holder.Hold(t.UID)
		held = held && is && err == nil
		if is {
			uids = append(uids, t.UID)
		}
	}
	for range holding {
		if !slices.ContainsFunc(uids, func(uid uint32) bool { return !e.cfg.Holder.Held(uid) }) {
			return held, release
		}
		e.cfg.Wait(ctx, 5*time.Millisecond)
	}
	return false, release
}

// still stops what is to end until two scans find nothing that runs.
func (e *Ender) still(ctx context.Context, targets []Target) error {
	for calm, round := 0, 0; calm < quiet && round < stops; round++ {
		scene, err := e.Look()
		if err != nil {
			return err
		}
		calm++
		for _, f := range scene.find(targets) {
			if f.State == 'T' || f.State == 't' {
				continue
			}
			calm = 0
			_ = e.signal(f.Process, unix.SIGSTOP, takenBy(targets[f.target], scene))
		}
		e.cfg.Wait(ctx, time.Millisecond)
	}
	return nil
}

// hunt looks at new processes alone, the newest first, and kills what is to end.
// What forks and exits at once has gone when a scan of all processes comes to it.
func (e *Ender) hunt(targets []Target, all []progress) error {
	scene, err := e.Look()
	if err != nil {
		return err
	}
	known, rest, caught := map[int]bool{}, -1, 0
	for round := 0; rest < huntRest && round < hunts; round++ {
		pids, err := e.cfg.Processes.PIDs()
		if err != nil {
			return err
		}
		rest++
		now := make(map[int]bool, len(pids))
		for _, pid := range slices.Backward(pids) {
			if now[pid] = true; known[pid] || round == 0 {
				continue
			}
			p, err := e.cfg.Processes.Read(pid)
			if proc.Unknown(err) {
				return err
			}
			if err != nil {
				rest = 0 // it has gone, and left another one perhaps
				continue
			}
			scene.byPID[pid] = p
			if i := slices.IndexFunc(targets, func(t Target) bool { return t.takes(scene, p) }); i >= 0 && !e.spared(p) {
				rest, caught = 0, round
				note(all, taken{p, i})
				_ = e.signal(p, unix.SIGKILL, takenBy(targets[i], scene))
			}
		}
		known = now
	}
	if rest < huntRest && caught > hunts-huntRest {
		return errFaster
	}
	return nil
}

var errFaster = errors.New("processes begin anew faster than they are found")

func takenBy(t Target, s Scene) func(proc.Process) bool {
	return func(p proc.Process) bool { return t.takes(s, p) }
}

// note counts a process that was met.
func note(all []progress, f taken) {
	p := &all[f.target]
	if p.met == nil {
		p.met = map[int]uint64{}
	}
	p.met[f.PID] = f.Start
}
