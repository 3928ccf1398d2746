package rbac

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"sallyport/internal/scope"
)

// Source is what the index loads itself from.
type Source interface {
	// EachRoleDefinition calls f with every custom role.
	EachRoleDefinition(f func(Definition) error) error
	// RoleDefinitionByID finds a custom role by its GUID.
	RoleDefinitionByID(id string) (Definition, bool, error)
	// EachRoleAssignment calls f with every assignment.
	EachRoleAssignment(f func(Assignment) error) error
	// RoleAssignmentByID finds one by its GUID.
	RoleAssignmentByID(id string) (Assignment, bool, error)
}

// Index answers from memory who may do what where. It is safe for concurrent
// use. What it does not know is denied.
type Index struct {
	tree    scope.Tree
	builtIn []Definition
	seed    maphash.Seed

	mu         sync.RWMutex
	roles      map[string]*office // by lower-cased GUID
	byID       map[string]*grant
	principals map[string][]*grant
	scopes     map[string]*place
}

// office is a role as it is now: an update replaces the compiled role for all
// grants at once, and what was handed out of the old one stays as it was.
type office struct{ *role }

// grant is one assignment with its role. It is never changed, but for what the
// office holds.
type grant struct {
	Assignment
	role *office
}

// few is up to how many grants of one scope are compared one by one: their
// hashes lie side by side, which is faster than a second map.
const few = 24

// place holds the grants at one scope: a list, and by principal once they are
// many. who is a hash of the principal, to be verified on the grant.
type place struct {
	list        []slot
	byPrincipal map[uint64][]*grant
}

type slot struct {
	who   uint64
	grant *grant
}

// NewIndex makes an index that knows the built-in roles and no assignment. The
// tree says what encloses subscriptions and management groups.
func NewIndex(tree scope.Tree) *Index { return newIndex(tree, BuiltIns()) }

func newIndex(tree scope.Tree, definitions []Definition) *Index {
	x := &Index{tree: tree, seed: maphash.MakeSeed(), builtIn: definitions}
	x.clear(0)
	return x
}

func (x *Index) clear(size int) {
	x.roles = make(map[string]*office, len(x.builtIn))
	for _, d := range x.builtIn {
		x.roles[strings.ToLower(d.ID)] = &office{compile(d)}
	}
	x.byID = make(map[string]*grant, size)
	x.principals = make(map[string][]*grant, size/8)
	x.scopes = make(map[string]*place, size/8)
}

// Load replaces the whole content.
func (x *Index) Load(r Source) error {
	var all []Assignment
	var custom []Definition
	if err := r.EachRoleDefinition(func(d Definition) error { custom = append(custom, d); return nil }); err != nil {
		return err
	}
	if err := r.EachRoleAssignment(func(a Assignment) error { all = append(all, a); return nil }); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear(len(all))
	for _, d := range custom {
		x.define(d.ID, d, true)
	}
	for _, a := range all {
		x.add(a)
	}
	return nil
}

// Refresh follows one entry of the change feed. Kinds that do not concern
// roles are ignored.
func (x *Index) Refresh(r Source, kind, key string) error {
	switch kind {
	case "roleDefinition":
		d, ok, err := r.RoleDefinitionByID(key)
		if err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.define(key, d, ok)
		return nil
	case "roleAssignment":
	default:
		return nil
	}
	a, ok, err := r.RoleAssignmentByID(key)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key)
	if ok {
		x.add(a)
	}
	return nil
}

// define follows a custom role: made, changed, or with ok false gone, and then
// whatever still refers to it grants nothing. Built-in roles do not change.
func (x *Index) define(id string, d Definition, ok bool) {
	id = strings.ToLower(id)
	held := x.roles[id]
	switch {
	case held != nil && held.BuiltIn:
	case ok && held != nil:
		held.role = compile(d)
	case ok:
		x.roles[id] = &office{compile(d)}
	case held != nil:
		held.role = compile(Definition{ID: id})
		delete(x.roles, id)
	}
}

// add ignores an assignment that grants nothing: of an unknown role, or of a
// directory role outside the directory, or of any other role inside it.
func (x *Index) add(a Assignment) {
	r := x.roles[strings.ToLower(a.RoleID)]
	if r == nil || r.Directory != (a.Scope == scope.Directory()) {
		return
	}
	g := &grant{Assignment: a, role: r}
	x.byID[strings.ToLower(a.ID)] = g
	who, where := strings.ToLower(a.PrincipalID), a.Scope.Key()
	x.principals[who] = append(x.principals[who], g)
	if x.scopes[where] == nil {
		x.scopes[where] = &place{}
	}
	x.scopes[where].add(maphash.String(x.seed, who), g)
}

func (p *place) add(who uint64, g *grant) {
	p.list = append(p.list, slot{who, g})
	if p.byPrincipal != nil {
		p.byPrincipal[who] = append(p.byPrincipal[who], g)
		return
	}
	if len(p.list) <= few {
		return
	}
	p.byPrincipal = make(map[uint64][]*grant, 2*few)
	for _, s := range p.list {
		p.byPrincipal[s.who] = append(p.byPrincipal[s.who], s.grant)
	}
}

func (x *Index) remove(id string) {
	id = strings.ToLower(id)
	g := x.byID[id]
	if g == nil {
		return
	}
	delete(x.byID, id)
	who, where := strings.ToLower(g.PrincipalID), g.Scope.Key()
	drop(x.principals, who, g)
	p := x.scopes[where]
	p.list = slices.DeleteFunc(p.list, func(s slot) bool { return s.grant == g })
	if p.byPrincipal != nil {
		drop(p.byPrincipal, maphash.String(x.seed, who), g)
	}
	if len(p.list) == 0 {
		delete(x.scopes, where)
	}
}

func drop[K comparable](m map[K][]*grant, key K, g *grant) {
	if m[key] = slices.DeleteFunc(m[key], func(o *grant) bool { return o == g }); len(m[key]) == 0 {
		delete(m, key)
	}
}

// maxChain bounds the scopes above one: six management group levels, the root,
// subscription, group, resource, child and an extension resource on it fit.
const maxChain = 32

// chain writes the keys of s and of all that encloses it into buf. The directory
// scope encloses only itself, whatever the tree says.
func (x *Index) chain(s scope.ID, buf []string) []string {
	if s == scope.Directory() {
		return append(buf, s.Key())
	}
	for len(buf) < maxChain {
		buf = append(buf, s.Key())
		up, ok := s.Parent()
		if !ok && x.tree != nil {
			up, ok = x.tree.Above(s)
		}
		if !ok {
			return buf
		}
		s = up
	}
	return buf
}

// Check decides whether one of the principals may do the action at the scope:
// some role assigned to it there, or above, grants it. What the decision points
// to is shared and must not be changed.
func (x *Index) Check(q Query) Decision {
	if q.Scope.IsZero() || q.Action == "" || strings.Contains(q.Action, "*") {
		return Decision{}
	}
	action := strings.ToLower(q.Action)
	var buf [maxChain]string
	var hashes [maxChain]uint64
	chain, who := x.chain(q.Scope, buf[:0]), hashes[:0]
	for _, p := range q.Principals {
		who = append(who, maphash.String(x.seed, strings.ToLower(p)))
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, key := range chain {
		p := x.scopes[key]
		if p == nil {
			continue
		}
		if g := p.find(who, func(i int, g *grant) bool {
			return strings.EqualFold(q.Principals[i], g.PrincipalID) && g.role.allows(action, q.Data)
		}); g != nil {
			return Decision{Allowed: true, Assignment: &g.Assignment, Role: &g.role.Definition}
		}
	}
	return Decision{}
}

// find returns the first grant of one of the hashed principals that yes confirms.
func (p *place) find(who []uint64, yes func(principal int, g *grant) bool) *grant {
	for i, h := range who {
		if p.byPrincipal != nil {
			for _, g := range p.byPrincipal[h] {
				if yes(i, g) {
					return g
				}
			}
			continue
		}
		for _, s := range p.list {
			if s.who == h && yes(i, s.grant) {
				return s.grant
			}
		}
	}
	return nil
}

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
	var buf [maxChain]string
	chain := x.chain(s, buf[:0])
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []Holder
	for _, key := range chain {
		start := len(out)
		p := x.scopes[key]
		if p == nil {
			continue
		}
		for _, s := range p.list {
			if g := s.grant; g.role.allows(action, data) {
				out = append(out, Holder{PrincipalID: g.PrincipalID, Assignment: g.Assignment, Role: g.role.Definition})
			}
		}
		slices.SortFunc(out[start:], func(a, b Holder) int {
			return strings.Compare(a.PrincipalID+a.Assignment.ID, b.PrincipalID+b.Assignment.ID)
		})
	}
	return out
}

// Filter selects assignments. The zero Filter selects all.
type Filter struct {
	Principals []string // any of these object ids; nil for every principal
	RoleID     string
	Scope      scope.ID // exactly here, unless widened below; zero for everywhere
	Above      bool     // also at what encloses Scope
	Below      bool     // also at what Scope encloses
}

// Assignments returns the selected assignments, by scope and id.
func (x *Index) Assignments(f Filter) []Assignment {
	var buf [maxChain]string
	var above []string
	if !f.Scope.IsZero() {
		above = x.chain(f.Scope, buf[:0])
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []Assignment
	x.candidates(f, func(g *grant) {
		if f.RoleID != "" && !strings.EqualFold(f.RoleID, g.RoleID) {
			return
		}
		if f.Scope.IsZero() || g.Scope.Key() == f.Scope.Key() || (f.Above && slices.Contains(above, g.Scope.Key())) || (f.Below && x.below(g.Scope, f.Scope)) {
			out = append(out, g.Assignment)
		}
	})
	slices.SortFunc(out, func(a, b Assignment) int { return strings.Compare(a.Scope.Key()+" "+a.ID, b.Scope.Key()+" "+b.ID) })
	return out
}

// candidates walks the smallest set that the filter can be answered from.
func (x *Index) candidates(f Filter, each func(*grant)) {
	switch {
	case f.Principals != nil:
		seen := make(map[string]bool, len(f.Principals))
		for _, p := range f.Principals {
			p = strings.ToLower(p)
			if seen[p] {
				continue
			}
			seen[p] = true
			for _, g := range x.principals[p] {
				each(g)
			}
		}
	case !f.Scope.IsZero() && !f.Above && !f.Below:
		if p := x.scopes[f.Scope.Key()]; p != nil {
			for _, s := range p.list {
				each(s.grant)
			}
		}
	default:
		for _, g := range x.byID {
			each(g)
		}
	}
}

func (x *Index) below(s, top scope.ID) bool {
	var buf [maxChain]string
	return slices.Contains(x.chain(s, buf[:0]), top.Key())
}

// Assignment returns one assignment by its GUID.
func (x *Index) Assignment(id string) (Assignment, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	g := x.byID[strings.ToLower(id)]
	if g == nil {
		return Assignment{}, false
	}
	return g.Assignment, true
}

// Encloses reports whether a scope is the other, or above it.
func (x *Index) Encloses(top, s scope.ID) bool { return x.below(s, top) }

// Definition returns a role by its GUID.
func (x *Index) Definition(id string) (Definition, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.roles[strings.ToLower(id)]
	if r == nil {
		return Definition{}, false
	}
	return r.Definition, true
}

// Definitions returns every role, by name.
func (x *Index) Definitions() []Definition {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]Definition, 0, len(x.roles))
	for _, id := range slices.Sorted(maps.Keys(x.roles)) {
		out = append(out, x.roles[id].Definition)
	}
	slices.SortStableFunc(out, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return out
}
