package rbac

import "strings"

// matcher is a compiled list of action patterns. Matching ignores case. A '*'
// stands for any run of characters, '/' included, as Azure's does; "/*/" also
// stands for a single "/", because the login roles grant
// "Microsoft.Compute/virtualMachines/*/read" and mean the machine itself too.
type matcher struct {
	all   bool
	exact map[string]struct{}
	globs [][]string // the literal pieces between the stars
}

func newMatcher(patterns []string) matcher {
	m := matcher{}
	for _, p := range patterns {
		p = strings.ToLower(p)
		switch {
		case p == "*":
			m.all = true
		case !strings.Contains(p, "*"):
			if m.exact == nil {
				m.exact = make(map[string]struct{}, len(patterns))
			}
			m.exact[p] = struct{}{}
		default:
			m.globs = append(m.globs, strings.Split(p, "*"))
			if short := strings.ReplaceAll(p, "/*/", "/"); short != p {
				m.globs = append(m.globs, strings.Split(short, "*"))
			}
		}
	}
	return m
}

// match expects a lower-cased action.
func (m *matcher) match(action string) bool {
	if m.all {
		return true
	}
	if _, ok := m.exact[action]; ok {
		return true
	}
	for _, g := range m.globs {
		if glob(g, action) {
			return true
		}
	}
	return false
}

func glob(pieces []string, s string) bool {
	if len(pieces) == 1 {
		return pieces[0] == s
	}
	s, ok := strings.CutPrefix(s, pieces[0])
	if !ok {
		return false
	}
	last := len(pieces) - 1
	for _, p := range pieces[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, pieces[last])
}

// role is a definition with its patterns compiled.
type role struct {
	Definition
	blocks []block
}

type block struct{ actions, notActions, data, notData matcher }

func compile(d Definition) *role {
	r := &role{Definition: d}
	for _, p := range d.Permissions {
		r.blocks = append(r.blocks, block{newMatcher(p.Actions), newMatcher(p.NotActions), newMatcher(p.DataActions), newMatcher(p.NotDataActions)})
	}
	return r
}

// verdict is what a role says to an action.
type verdict int

const (
	silent     verdict = iota // no pattern of the role matches
	subtracted                // one matches, and a "not" pattern beside it takes it away
	granted
)

// judge says what the role makes of a lower-cased action. The "not" lists
// subtract inside their own permission block only: they deny nothing that
// another role grants. Actions and data actions never stand in for each other.
func (r *role) judge(action string, data bool) verdict {
	v := silent
	for i := range r.blocks {
		b := &r.blocks[i]
		plus, minus := &b.actions, &b.notActions
		if data {
			plus, minus = &b.data, &b.notData
		}
		if !plus.match(action) {
			continue
		}
		if !minus.match(action) {
			return granted
		}
		v = subtracted
	}
	return v
}

// allows reports whether the role grants a lower-cased action.
func (r *role) allows(action string, data bool) bool { return r.judge(action, data) == granted }
