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
	scopes     table
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

// place holds the grants at one scope, and by principal once they are many.
//
// Scopes and principals are hashed, with a seed of this process, and the texts
// are compared only on the grant that is about to decide: a question about
// something that the memory caches have forgotten then waits for few lines of
// memory. Scopes of equal hash share a place, so whoever reads one compares.
type place struct {
	grants      []*grant
	byPrincipal map[uint64][]*grant
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
	x.scopes = table{}
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
	shared := words{}
	for _, a := range all {
		x.add(shared.of(a))
	}
	return nil
}

// words holds each text once: a million assignments have few roles, types and
// authors, and far fewer principals.
type words map[string]string

func (w words) of(a Assignment) Assignment {
	for _, s := range []*string{&a.RoleID, &a.PrincipalID, &a.PrincipalType, &a.CreatedBy, &a.UpdatedBy} {
		if one, ok := w[*s]; ok {
			*s = one
		} else {
			w[*s] = *s
		}
	}
	return a
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
	x.scopes.put(x.hash(where)).add(x, x.hash(who), g)
}

// hash hashes a folded text.
func (x *Index) hash(s string) uint64 { return maphash.String(x.seed, s) }

// add puts a grant of a principal, whose hash is who, behind the others.
func (l *line) add(x *Index, who uint64, g *grant) {
	p := l.place
	p.grants = append(p.grants, g)
	if p.byPrincipal != nil {
		p.byPrincipal[who] = append(p.byPrincipal[who], g)
		return
	}
	if l.count == few {
		l.count = many
		p.sort(x)
		return
	}
	l.note(who)
}

// note writes down one more grant of few.
func (l *line) note(who uint64) {
	l.seen |= bit(who)
	l.who[l.count] = brief(who)
	l.count++
}

// sort sorts the grants by principal.
func (p *place) sort(x *Index) {
	p.byPrincipal = make(map[uint64][]*grant, 2*few)
	for _, g := range p.grants {
		who := x.hash(strings.ToLower(g.PrincipalID))
		p.byPrincipal[who] = append(p.byPrincipal[who], g)
	}
}

// drop removes a grant. Many stay many until none is left.
func (l *line) drop(x *Index, who uint64, g *grant) {
	p := l.place
	p.grants = slices.DeleteFunc(p.grants, func(o *grant) bool { return o == g })
	if p.byPrincipal != nil {
		drop(p.byPrincipal, who, g)
		return
	}
	*l = line{hash: l.hash, place: p}
	for _, o := range p.grants {
		l.note(x.hash(strings.ToLower(o.PrincipalID)))
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
	l := x.scopes.find(x.hash(where))
	l.drop(x, x.hash(who), g)
	if len(l.place.grants) == 0 {
		x.scopes.drop(l.hash)
	}
}

func drop[K comparable](m map[K][]*grant, key K, g *grant) {
	if m[key] = slices.DeleteFunc(m[key], func(o *grant) bool { return o == g }); len(m[key]) == 0 {
		delete(m, key)
	}
}

// maxChain bounds the scopes above one: six management group levels, the root,
// subscription, group, resource, child and an extension resource on it fit. The
// tree is asked no more often, so that a circle in it ends.
const maxChain = 24

// chain appends s and all that encloses it to buf, nearest first. The directory
// scope encloses only itself, whatever the tree says.
func (x *Index) chain(s scope.ID, buf []scope.ID) []scope.ID {
	buf = s.Enclosing(buf)
	for range maxChain {
		top := buf[len(buf)-1]
		if x.tree == nil || top == scope.Root() || top == scope.Directory() {
			break
		}
		up, ok := x.tree.Above(top)
		if !ok {
			break
		}
		buf = up.Enclosing(buf)
	}
	return buf
}

// within reports whether a chain holds a scope.
func within(chain []scope.ID, key string) bool {
	for i := range chain {
		if chain[i].Key() == key {
			return true
		}
	}
	return false
}

// Check decides whether one of the principals may do the action at the scope:
// some role assigned to it there, or above, grants it. What the decision points
// to is shared and must not be changed.
func (x *Index) Check(q Query) Decision {
	if q.Scope.IsZero() || q.Action == "" || strings.Contains(q.Action, "*") {
		return Decision{}
	}
	var buf [maxChain]scope.ID
	var hashes [maxChain]uint64
	var found [maxChain]*line
	chain, who, lines := x.chain(q.Scope, buf[:0]), hashes[:0], found[:0]
	x.mu.RLock()
	defer x.mu.RUnlock()
	// All lookups first: none depends on another, so that they wait for memory
	// together, and the principals are hashed meanwhile.
	for i := range chain {
		lines = append(lines, x.scopes.find(x.hash(chain[i].Key())))
	}
	for _, p := range q.Principals {
		who = append(who, x.hash(fold(p)))
	}
	for i, l := range lines {
		if l == nil {
			continue
		}
		if g := l.find(who, &q, chain[i].Key()); g != nil {
			return Decision{Allowed: true, Assignment: &g.Assignment, Role: &g.role.Definition}
		}
	}
	return Decision{}
}

// find returns the first grant of one of the question's principals, whose
// hashes are who, that is at the scope and grants the action.
func (l *line) find(who []uint64, q *Query, key string) *grant {
	if l.count == many {
		for i, h := range who {
			for _, g := range l.place.byPrincipal[h] {
				if g.answers(q, i, key) {
					return g
				}
			}
		}
		return nil
	}
	for i, h := range who {
		if l.seen&bit(h) == 0 {
			continue
		}
		for j, b := range l.who[:l.count] {
			if b == brief(h) && l.place.grants[j].answers(q, i, key) {
				return l.place.grants[j]
			}
		}
	}
	return nil
}

// answers confirms what equal hashes suggest, and asks the role.
func (g *grant) answers(q *Query, principal int, key string) bool {
	return g.Scope.Key() == key && strings.EqualFold(q.Principals[principal], g.PrincipalID) && g.role.allows(strings.ToLower(q.Action), q.Data)
}

// fold is strings.ToLower for ids, which mostly are lower-cased already.
func fold(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			return strings.ToLower(s)
		}
	}
	return s
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
	var buf [maxChain]scope.ID
	var above []scope.ID
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
		if f.Scope.IsZero() || g.Scope.Key() == f.Scope.Key() || (f.Above && within(above, g.Scope.Key())) || (f.Below && x.below(g.Scope, f.Scope)) {
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
		if l := x.scopes.find(x.hash(f.Scope.Key())); l != nil {
			for _, g := range l.place.grants {
				each(g)
			}
		}
	default:
		for _, g := range x.byID {
			each(g)
		}
	}
}

func (x *Index) below(s, top scope.ID) bool {
	var buf [maxChain]scope.ID
	return within(x.chain(s, buf[:0]), top.Key())
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
