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
		p := x.scopes[x.hash(at.Key())]
		if p == nil {
			continue
		}
		for _, g := range p.grants {
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
		if p := x.scopes[x.hash(at.Key())]; p != nil && len(p.grants) > 0 {
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
		if p := x.scopes[x.hash(chain[i].Key())]; p != nil && slices.ContainsFunc(principals, func(id string) bool { return p.holds(x.hash(fold(id))) }) {
			return true
		}
	}
	return false
}

// holds reports whether a principal of this hash has a grant here.
func (p *place) holds(who uint64) bool {
	if p.byPrincipal != nil {
		return len(p.byPrincipal[who]) > 0
	}
	return slices.Contains(p.who[:min(p.count, few)], half(who))
}
