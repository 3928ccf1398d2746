package root

import (
	"time"

	"sallyport/internal/agent/session"
	"sallyport/internal/machine/protocol"
)

// ending is something that a document ends, until it has been ended. It is itself
// and not its value: the same may come again.
type ending struct {
	UID      uint32 `json:"uid"`
	All      bool   `json:"all,omitempty"` // of every person of ours who is here
	Elevated bool   `json:"elevated"`      // only what runs as somebody else
	Message  string `json:"message"`
	// NotBefore spares logins whose certificate is not older. Without it everything
	// ends: the key of the certificates was withdrawn.
	NotBefore time.Time `json:"notBefore,omitzero"`
}

// carried is what guard has looked at and what is left of it to be ended: nothing,
// or an ending of each person.
type carried map[*ending][]*ending

// of returns a list of endings as it is now.
func (x carried) of(list []*ending) []*ending {
	var now []*ending
	for _, e := range list {
		if rest, ok := x[e]; ok {
			now = append(now, x.of(rest)...)
		} else {
			now = append(now, e)
		}
	}
	return now
}

// pending are the endings that are to be carried out, each of one person. One of
// everybody becomes one of each who is here at the first look: who comes later was
// judged by what ended the others.
func (s *Service) pending(v view, noted uint64, present []uint32) []*ending {
	list := s.carried.of(v.held.Endings)
	for _, e := range list {
		if !e.All {
			continue
		}
		s.carried[e] = nil
		for _, uid := range present {
			s.carried[e] = append(s.carried[e], &ending{UID: uid, Message: e.Message})
		}
	}
	list = s.carried.of(list)
	came := make(map[*ending]uint64, len(list))
	for _, e := range list {
		if n, ok := s.came[e]; ok {
			came[e] = n
		} else {
			came[e] = noted
		}
	}
	s.came = came
	return list
}

// due is what carries an ending out.
func (e *ending) due(open []session.Open) due {
	d := due{Target: session.Target{UID: e.UID, Elevated: e.Elevated, Message: e.Message}, cause: protocol.CauseAccess, ending: e}
	switch {
	case e.Elevated:
		d.cause = protocol.CauseElevation
	case e.NotBefore.IsZero():
		d.cause = protocol.CauseKey
	default:
		d.Spare = newer(open, e)
	}
	return d
}

// newer are the logins of a person that an ending leaves alone.
func newer(open []session.Open, e *ending) []session.Origin {
	var list []session.Origin
	for _, o := range open {
		if o.UID == e.UID && !e.NotBefore.IsZero() && !o.Issued.Before(e.NotBefore) {
			list = append(list, o.Origin)
		}
	}
	return list
}

// forget takes what has been carried out from the kept state. It does not wait for a
// delivery that is under way, which may bring the next ending; false: later.
func (s *Service) forget() bool {
	if len(s.carried) == 0 {
		return true
	}
	if !s.deliver.TryLock() {
		return false
	}
	defer s.deliver.Unlock()
	s.mu.Lock()
	s.view.held.Endings = s.carried.of(s.view.held.Endings)
	if s.coming != nil {
		c := *s.coming
		c.held.Endings = s.carried.of(c.held.Endings)
		s.coming = &c
	}
	h := s.view.held
	s.mu.Unlock()
	clear(s.carried)
	if err := s.save(h); err != nil {
		s.cfg.Log("kept state: %v", err)
	}
	return true
}
