package root

import (
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
