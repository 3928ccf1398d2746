package root

import (
	"context"
	"time"

	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
)

// watch checks the configuration when a file changed. A weakness closes our
// names until it is gone; nothing of the administrator's is changed back.
func (s *Service) watch(ctx context.Context, last attempt) attempt {
	v := s.now()
	if v.doc == nil || !v.doc.LoginEnabled || !s.cfg.Wiring.Wired() {
		return last
	}
	mark := s.cfg.Wiring.Mark()
	if mark == last.mark {
		return last
	}
	last.mark, last.err = mark, s.cfg.Wiring.Check(ctx, s.wanted(v))
	if last.err != nil {
		s.cfg.Log("drift: %v", last.err)
	}
	s.noteDrift(last.err)
	return last
}

// firstLook is how long a decision waits for the first look at the configuration
// after a start; the PAM module waits a second longer.
const firstLook = 2 * time.Second

const starting = "Sallyport: the agent of this machine has just started and still looks at the configuration; connect again in a moment."

// settled waits until the configuration has been looked at since the start: what
// was changed while no agent ran must not be missed. Without a snapshot nobody is
// let in anyway.
func (s *Service) settled(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	for {
		s.mu.RLock()
		done, held, worked := s.reached.checked, s.view.doc != nil, s.worked
		s.mu.RUnlock()
		if done || !held {
			return true
		}
		select {
		case <-worked:
		case <-ctx.Done():
			return false
		}
	}
}

// noteDrift keeps what a check of the installed configuration found: from here on
// decisions refuse with it. The server hears of its beginning and of its end.
func (s *Service) noteDrift(err error) {
	drift := ""
	if err != nil {
		drift = printable(fault.As(err).Text)
	}
	s.mu.Lock()
	before := s.reached.drift
	s.reached.drift, s.reached.open = drift, sshd.Open(err)
	s.mu.Unlock()
	if before == drift {
		return
	}
	if id, err := s.guid(); err == nil {
		kind, reason := "drift.fail", drift
		if drift == "" {
			kind, reason = "drift.heal", before
		}
		s.event(kind, id, "", "", map[string]string{"reason": reason})
	}
	s.events.Poke()
}
