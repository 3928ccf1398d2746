package rbac

import (
	"slices"
	"strings"

	"sallyport/internal/scope"
)

// Considered is one assignment as a question meets it.
type Considered struct {
	Assignment Assignment
	Role       Definition
	Counts     bool // it grants the action at the scope
	Applies    bool // its scope is the question's or encloses it
	Why        string
}

// Consider answers like Check and shows its work: every assignment of the
// question's principals, wherever it is, and why it counts or not; by scope and
// id. Check allows exactly when one of them counts, because both ask the same
// chain of scopes and the same judgement of the role.
func (x *Index) Consider(q Query) []Considered {
	if q.Scope.IsZero() || q.Action == "" || strings.Contains(q.Action, "*") {
		return nil
	}
	action := strings.ToLower(q.Action)
	var buf [maxChain]scope.ID
	chain := x.chain(q.Scope, buf[:0])
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []Considered
	x.candidates(Filter{Principals: append([]string{}, q.Principals...)}, func(g *grant) {
		c := Considered{Assignment: g.Assignment, Role: g.role.Definition, Applies: within(chain, g.Scope.Key())}
		v := g.role.judge(action, q.Data)
		c.Counts = c.Applies && v == granted
		c.Why = why(q, c, v)
		out = append(out, c)
	})
	slices.SortFunc(out, func(a, b Considered) int {
		return strings.Compare(a.Assignment.Scope.Key()+" "+a.Assignment.ID, b.Assignment.Scope.Key()+" "+b.Assignment.ID)
	})
	return out
}

func why(q Query, c Considered, v verdict) string {
	kind, minus := "action", "notActions"
	if q.Data {
		kind, minus = "data action", "notDataActions"
	}
	switch {
	case !c.Applies:
		return "its scope is neither " + q.Scope.String() + " nor above it"
	case v == granted:
		return "the role grants the " + kind + " " + q.Action
	case v == subtracted:
		return "the role's " + minus + " take " + q.Action + " away"
	case q.Data && !slices.ContainsFunc(c.Role.Permissions, func(p Permission) bool { return len(p.DataActions) > 0 }):
		return "the role has no data actions: it manages and does not log in"
	}
	return "no " + kind + " of the role matches " + q.Action
}
