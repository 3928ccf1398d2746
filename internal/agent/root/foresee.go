package root

import (
	"slices"

	"sallyport/internal/agent/grants"
	"sallyport/internal/machine/protocol"
)

// foresee lets what a verified document takes away count before the document is
// kept: a slow disk delays no ending, and a full one keeps nobody in. What it
// gives counts when it is kept, because what was seen must not be forgotten by a
// kill. A document that could not be kept goes on taking away.
func (s *Service) foresee(v view) {
	if v.doc == nil {
		return
	}
	s.mu.Lock()
	s.coming = &v
	s.mu.Unlock()
	s.lookNow()
}

// withdraw does the same for the keys that a verified manifest withdraws: they let
// nobody in any more, and what they opened ends. It is true whatever else is kept,
// so the view itself changes, and the next document that is kept keeps it, too.
func (s *Service) withdraw(m protocol.Manifest) view {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := withdrawnEnding() // one, in whichever view it is carried out
	s.view = s.less(s.view, m, all)
	if s.coming != nil {
		if c := s.less(*s.coming, m, all); c.doc != nil {
			s.coming = &c
		} else {
			s.coming = nil
		}
	}
	s.lookNow()
	return s.view
}

// less is a view without the keys that a manifest withdraws, and with what that ends.
func (s *Service) less(v view, m protocol.Manifest, all *ending) view {
	old := v
	if v.distrust(m); len(v.held.Withdrawn) == len(old.held.Withdrawn) {
		return old
	}
	if withdrawn(old, v) {
		v.held.Endings = append(slices.Clone(v.held.Endings), all)
	}
	s.unsigned(&v)
	return v
}

// unsigned gives up a snapshot whose key is not trusted any more.
func (s *Service) unsigned(v *view) {
	if v.held.Snapshot == nil {
		return
	}
	if _, err := s.verify(*v.held.Snapshot, *v); err != nil {
		s.cfg.Log("the held snapshot's key is not trusted any more; nobody is let in until the next one")
		v.held.Snapshot, v.doc, v.people, v.table = nil, nil, nil, table{}
	}
}

// strictest is the view that sessions are ended by.
func (s *Service) strictest() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.coming != nil {
		return *s.coming
	}
	return s.view
}

// stricter takes from an input what a view that is not kept yet takes away.
func stricter(in grants.Input, v view) grants.Input {
	in.State.LoginEnabled = in.State.LoginEnabled && v.doc.LoginEnabled
	in.State.Identity = in.State.Identity && identified(v.doc)
	revoked := in.State.Revoked
	in.State.Revoked = func(serial string) bool { return v.revoked[serial] || revoked != nil && revoked(serial) }
	now := v.people[in.Login]
	if in.Person == nil || now == nil || now.ObjectID != in.Person.ObjectID {
		in.Person = nil
		return in
	}
	p := *in.Person
	if rank(now.Access) < rank(p.Access) {
		p.Access, p.Reason = now.Access, now.Reason
	}
	if now.NotBefore.After(p.NotBefore) {
		p.NotBefore = now.NotBefore
	}
	in.Person = &p
	return in
}

func rank(a protocol.Access) int {
	switch a {
	case protocol.Admin:
		return 2
	case protocol.Login:
		return 1
	}
	return 0
}
