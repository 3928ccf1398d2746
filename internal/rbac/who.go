package rbac

import (
	"slices"
	"strings"

	"sallyport/internal/scope"
)

// Holder is one answer of WhoCan: a principal, which may be a group, and why.
type Holder struct {
	PrincipalID string
	Assignment  Assignment
	Role        Definition
}

// WhoCan is the inverse of Check: every assignment that grants the action at the
// scope, nearest scope first, then by principal and assignment id. Groups are
// not expanded: membership is the directory's.
func (x *Index) WhoCan(s scope.ID, action string, data bool) []Holder {
	if s.IsZero() || action == "" || strings.Contains(action, "*") {
		return nil
	}
	action = strings.ToLower(action)
	var buf [maxChain]scope.ID
	chain := x.chain(s, buf[:0])
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []Holder
	for _, at := range chain {
		start := len(out)
		l := x.scopes.find(x.hash(at.Key()))
		if l == nil {
			continue
		}
		for _, g := range l.place.grants {
			if g.Scope.Key() == at.Key() && g.role.allows(action, data) {
				out = append(out, Holder{PrincipalID: g.PrincipalID, Assignment: g.Assignment, Role: g.role.Definition})
			}
		}
		slices.SortFunc(out[start:], func(a, b Holder) int {
			return strings.Compare(a.PrincipalID+a.Assignment.ID, b.PrincipalID+b.Assignment.ID)
		})
	}
	return out
}

// Governing returns the nearest scope, at s or above it, where anything is
// assigned: WhoCan answers for s what it answers for that one. Scopes that share
// it share their answers.
func (x *Index) Governing(s scope.ID) scope.ID {
	var buf [maxChain]scope.ID
	chain := x.chain(s, buf[:0])
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, at := range chain {
		if x.scopes.find(x.hash(at.Key())) != nil {
			return at
		}
	}
	return s
}

// HeldBy reports whether one of the principals holds any role at a scope or at
// what encloses it. It looks at hashes alone, so it may say yes by mistake.
func (x *Index) HeldBy(s scope.ID, principals []string) bool {
	var buf [maxChain]scope.ID
	chain := x.chain(s, buf[:0])
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := range chain {
		if l := x.scopes.find(x.hash(chain[i].Key())); l != nil && slices.ContainsFunc(principals, func(id string) bool { return l.holds(x.hash(fold(id))) }) {
			return true
		}
	}
	return false
}

// holds reports whether a principal of this hash has a grant here.
func (l *line) holds(who uint64) bool {
	if l.count == many {
		return len(l.place.byPrincipal[who]) > 0
	}
	return l.seen&bit(who) != 0 && slices.Contains(l.who[:l.count], brief(who))
}
