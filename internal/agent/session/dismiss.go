package session

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

// How long what is asked to end may take, and how often it is looked for.
const (
	dismissal  = 2 * time.Second
	dismissals = 100
)

// Dismiss asks everything of a uid to end, and ends what has not within two
// seconds. It is for what systemd starts beside a login, which ends in order when
// asked and leaves a failed unit when killed.
func (e *Ender) Dismiss(ctx context.Context, uid uint32) error {
	all := []Target{{UID: uid}}
	for round := range dismissals {
		scene, err := e.Look()
		if err != nil {
			return err
		}
		found := scene.find(all)
		if len(found) == 0 {
			return nil
		}
		for _, f := range found {
			if round > 0 {
				break // asked once
			}
			if err := e.signal(f.Process, unix.SIGTERM, func(p proc.Process) bool { return all[0].takes(scene, p) }); err != nil {
				return err
			}
		}
		e.cfg.Wait(ctx, dismissal/dismissals)
	}
	_, err := e.End(ctx, all)
	return err
}
