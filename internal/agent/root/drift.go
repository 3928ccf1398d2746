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
	if mark == last.mark && !last.unsure {
		return last
	}
	want := s.wanted(v)
	if last.force != nil {
		want = *last.force
	}
	again := last.unsure
	last.mark = mark
	if err := s.cfg.Wiring.Check(ctx, want); s.concluded(err, &last) {
		last.err = err // apply tries again, and finds out when it is gone
	} else if again && !last.unsure {
		s.poke() // what could not be tried is tried
	}
	return last
}

// weigh says after a try what the configuration is worth. A change that failed was
// undone, so it is what was in force before that counts: who could log in goes on
// doing so.
func (s *Service) weigh(ctx context.Context, last *attempt) {
	err := last.err
	if err != nil && last.force != nil {
		err = s.cfg.Wiring.Check(ctx, *last.force)
	}
	s.concluded(err, last)
}

// concluded notes what a look has found, and reports whether it found anything. One
// that says nothing leaves the verdict before it in force, and is repeated soon.
func (s *Service) concluded(err error, last *attempt) bool {
	if last.unsure = sshd.Unsure(err); last.unsure {
		s.cfg.Log("the configuration could not be looked at: %v", err)
		return false
	}
	if err != nil {
		s.cfg.Log("drift: %v", err)
	}
	s.noteDrift(err)
	return err != nil
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
	s.reached.drift, s.reached.open, s.reached.checked = drift, sshd.Open(err), true
	close(s.worked)
	s.worked = make(chan struct{})
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
