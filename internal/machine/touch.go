package machine

import (
	"slices"

	"sallyport/internal/scope"
)

// Touch says whom one change of the feed may concern. Too much costs a
// derivation that finds nothing new; too little would leave a machine with old
// grants, so what is not understood sets All.
type Touch struct {
	Position int64      // of the change; every position is told, in order
	All      bool       // may concern every machine
	Account  bool       // is the change of an account, which concerns machines up to capability 1
	Machines []string   // concerns these machines, by id
	Scopes   []scope.ID // concerns machines at or below these
	Groups   []string   // concerns machines that a role of one of these reaches
}

func (t Touch) nobody() bool {
	return !t.All && !t.Account && len(t.Machines) == 0 && len(t.Scopes) == 0 && len(t.Groups) == 0
}

// remembered is how many touches are kept. A machine that has been away for
// longer is derived anew.
const remembered = 4096

// touches is the newest part of the feed, as far as it is known whom it
// concerns: everything behind lost, up to told.
type touches struct {
	lost, told int64
	list       []Touch // those that concern somebody, by position
}

// Touch tells of the next change, when all indexes hold it and before Feed shows
// its position. Polls then look only at machines that it concerns.
func (s *Service) Touch(t Touch) {
	if t.Account {
		s.accountChanged(t.Position)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.touches
	if t.Position != x.told+1 {
		*x = touches{lost: t.Position - 1} // a gap: what came before is not known
	}
	x.told = t.Position
	if t.nobody() {
		return
	}
	x.list = append(x.list, t)
	if n := len(x.list) - remembered; n > 0 {
		x.lost = x.list[n-1].Position
		x.list = slices.Delete(x.list, 0, n)
	}
}

// between returns the touches in (since, to]; ok is false when they are not all
// known.
func (s *Service) between(since, to int64) (list []Touch, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.touches
	if since < x.lost || to > x.told {
		return nil, false
	}
	start, _ := slices.BinarySearchFunc(x.list, since+1, func(t Touch, p int64) int { return int(t.Position - p) })
	// Appending moves or extends the list and never changes what is in it but
	// for the deletion, which copies down: so this is a copy.
	return slices.Clone(x.list[start:]), true
}

// Concerned reports whether what a machine is told may have changed in
// (since, to]; accounts says that the table of accounts is part of it. Without a
// resource a machine is told that nobody may log in.
func (s *Service) Concerned(machineID string, since, to int64, accounts bool) bool {
	list, ok := s.between(since, to)
	if !ok {
		return true
	}
	d, has := s.cfg.Resources.Desired(machineID)
	if !has { // as what it is told is derived: from where it was
		var m Machine
		m, has = s.cfg.Machines.ByID(machineID)
		d.ResourceID = m.ResourceID
	}
	return slices.ContainsFunc(list, func(t Touch) bool {
		return t.All || t.Account && accounts || slices.Contains(t.Machines, machineID) ||
			has && slices.ContainsFunc(t.Scopes, func(top scope.ID) bool { return s.cfg.Roles.Encloses(top, d.ResourceID) }) ||
			has && len(t.Groups) > 0 && s.cfg.Roles.HeldBy(d.ResourceID, t.Groups)
	})
}
