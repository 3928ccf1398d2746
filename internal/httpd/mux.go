package httpd

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/route"
)

// HandlerFunc answers one call. A returned error is rendered for the row's
// surface; after an answer was begun it is only logged.
type HandlerFunc func(*Call) error

// Mux collects handlers for rows. It is filled before New and not changed
// after.
type Mux struct {
	handlers map[string]HandlerFunc
	twice    []string
}

// NewMux returns an empty Mux.
func NewMux() *Mux { return &Mux{handlers: map[string]HandlerFunc{}} }

// Handle sets the handler of a row.
func (m *Mux) Handle(rowID string, h HandlerFunc) {
	if _, ok := m.handlers[rowID]; ok {
		m.twice = append(m.twice, rowID)
	}
	m.handlers[rowID] = h
}

// entry is a row ready for matching.
type entry struct {
	row      route.Row
	handle   HandlerFunc
	segments []segment
	tail     int // index of the {name...} segment, -1 without one
	literals int
}

type segment struct {
	text string // literal text, lower case on a surface that folds case
	name string // variable name, "" for a literal
}

// compile checks rows against handlers and orders them, most literal first.
func (m *Mux) compile(rows []route.Row) (map[string][]entry, error) {
	if len(m.twice) > 0 {
		return nil, fmt.Errorf("handled twice: %s", strings.Join(m.twice, ", "))
	}
	byMethod := map[string][]entry{}
	seen := map[string]bool{}
	for _, row := range rows {
		h := m.handlers[row.ID]
		switch {
		case seen[row.ID]:
			return nil, fmt.Errorf("row %s appears twice", row.ID)
		case h == nil:
			return nil, fmt.Errorf("row %s has no handler", row.ID)
		case row.Door == route.Closed:
			return nil, fmt.Errorf("row %s has no door", row.ID)
		case row.Door == route.Caller && row.Action == "" && row.Why == "":
			return nil, fmt.Errorf("row %s names no action and does not say why", row.ID)
		}
		seen[row.ID] = true
		e, err := newEntry(row, h)
		if err != nil {
			return nil, err
		}
		byMethod[row.Method] = append(byMethod[row.Method], e)
	}
	for id := range m.handlers {
		if !seen[id] {
			return nil, fmt.Errorf("handler %s has no row", id)
		}
	}
	for _, list := range byMethod {
		slices.SortStableFunc(list, func(a, b entry) int {
			if a.literals != b.literals {
				return b.literals - a.literals
			}
			return min(a.tail, 0) - min(b.tail, 0) // without a tail first
		})
	}
	return byMethod, nil
}

func newEntry(row route.Row, h HandlerFunc) (entry, error) {
	e := entry{row: row, handle: h, tail: -1}
	for i, text := range strings.Split(strings.TrimPrefix(row.Pattern, "/"), "/") {
		name, isVar := strings.CutPrefix(text, "{")
		if !isVar {
			if anyCase(row.Surface) {
				text = strings.ToLower(text)
			}
			e.segments = append(e.segments, segment{text: text})
			e.literals++
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if n, ok := strings.CutSuffix(name, "..."); ok {
			if e.tail >= 0 {
				return entry{}, fmt.Errorf("row %s has two {name...}", row.ID)
			}
			e.tail, name = i, n
		}
		e.segments = append(e.segments, segment{name: name})
	}
	if e.tail < 0 {
		e.tail = -1
	}
	return e, nil
}

// anyCase reports whether the words of a surface's paths go in any case: those of
// Resource Manager and Graph do, and az relies on it ("oAuth2PermissionGrants").
func anyCase(s route.Surface) bool { return s == route.ARM || s == route.Graph }

// match returns the variables when path fits the entry. folded is path with
// its segments in lower case.
func (e *entry) match(path, folded []string) (map[string]string, bool) {
	extra := len(path) - len(e.segments)
	if extra < 0 || (e.tail < 0 && extra != 0) {
		return nil, false
	}
	compare := path
	if anyCase(e.row.Surface) {
		compare = folded
	}
	at := 0
	for i, s := range e.segments {
		if i == e.tail {
			at += extra + 1
			continue
		}
		if s.name == "" && compare[at] != s.text {
			return nil, false
		}
		at++
	}
	vars := make(map[string]string, 4)
	at = 0
	for i, s := range e.segments {
		n := 1
		if i == e.tail {
			n += extra
		}
		if s.name != "" {
			vars[s.name] = strings.Join(path[at:at+n], "/")
		}
		at += n
	}
	return vars, true
}

// split cuts a request path into decoded segments. Empty segments are dropped
// (clients join base URLs with double slashes); dots and encoded slashes are
// refused, so that no handler sees a path that means another; what is returned
// with the fault has a harmless text in their place.
func split(u *url.URL) (path, folded []string, invalid error) {
	for _, raw := range strings.Split(u.EscapedPath(), "/") {
		if raw == "" {
			continue
		}
		s, err := url.PathUnescape(raw)
		if err != nil || s == "." || s == ".." || strings.ContainsAny(s, "/\\\x00\r\n") {
			invalid, s = fault.New(fault.Invalid, "InvalidPath", "the path of this request is not valid"), "x"
		}
		path = append(path, s)
		folded = append(folded, strings.ToLower(s))
	}
	if len(path) == 0 {
		path, folded = []string{""}, []string{""}
	}
	return path, folded, invalid
}

// find returns the entry for a request, or a fault that says whether the path
// or only the method is unknown.
func (s *Server) find(r *http.Request) (*entry, map[string]string, asked, error) {
	path, folded, err := split(r.URL)
	var how asked
	if strings.EqualFold(path[0], "v1.0") {
		path, how = odata(path, r.Method == http.MethodGet)
		folded = lower(path)
	}
	list := s.entries[r.Method]
	for i := range list {
		if vars, ok := list[i].match(path, folded); ok {
			if err != nil {
				return &entry{row: route.Row{Surface: list[i].row.Surface}}, nil, how, err
			}
			return &list[i], vars, how, nil
		}
	}
	if err != nil {
		return &entry{row: route.Row{Surface: surfaceOf(path)}}, nil, how, err
	}
	for method, list := range s.entries {
		for i := range list {
			if _, ok := list[i].match(path, folded); ok {
				return &entry{row: route.Row{Surface: list[i].row.Surface}}, nil, how,
					fault.New(fault.Invalid, "MethodNotAllowed", "%s does not take %s; it takes %s", r.URL.Path, r.Method, method).WithTarget("method")
			}
		}
	}
	if s.cfg.Nothing != nil && surfaceOf(path) == route.ARM {
		if err := s.cfg.Nothing(r.Method, path); err != nil {
			return &entry{row: route.Row{Surface: route.ARM}}, nil, how, err
		}
	}
	return &entry{row: route.Row{Surface: surfaceOf(path)}}, nil, how, nothingAt(r.URL)
}

func lower(path []string) []string {
	folded := make([]string, len(path))
	for i, s := range path {
		folded[i] = strings.ToLower(s)
	}
	return folded
}

// surfaceOf chooses the error shape for a path that matches nothing.
func surfaceOf(path []string) route.Surface {
	switch {
	case strings.EqualFold(path[0], "v1.0"), strings.EqualFold(path[0], "beta"):
		return route.Graph
	case strings.EqualFold(path[0], "subscriptions"), strings.EqualFold(path[0], "providers"):
		return route.ARM
	case path[0] == "machine":
		return route.Agent
	}
	return route.Page
}
