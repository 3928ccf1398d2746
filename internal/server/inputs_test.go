package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file is the machinery of TestInputs: a body is taken apart into its leaves,
// each leaf is changed, and the answers must tell the change or refuse it.

// reply is what came of a request.
type reply struct {
	status int
	code   string // of an error in Azure's shape
	body   any
	text   string
	etag   string
}

func (r reply) fine() bool { return r.status < 300 }

// proper reports whether a refusal is one in Azure's shape.
func (r reply) proper() bool { return r.status >= 400 && r.status < 500 && r.code != "" }

// send asks as the administrator.
func (c *castle) send(method, path string, body any, headers map[string]string) reply {
	r := c.sendOnce(method, path, body, headers)
	for range 600 { // a minute: whoever is refused for longer is refused for good, and the test says so
		if r.status != 429 {
			break
		}
		time.Sleep(100 * time.Millisecond) // a quick computer asks more than one person may
		r = c.sendOnce(method, path, body, headers)
	}
	return r
}

func (c *castle) sendOnce(method, path string, body any, headers map[string]string) reply {
	c.t.Helper()
	surface := "/arm"
	if strings.HasPrefix(path, "/v1.0/") {
		surface = ""
	}
	text := ""
	if body != nil {
		text = written(body)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(text))
	r.Header.Set("Authorization", "Bearer "+c.token("admin", surface))
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	c.doors.ServeHTTP(w, r)
	out := reply{status: w.Code, text: w.Body.String(), etag: w.Header().Get("ETag")}
	if w.Body.Len() > 0 && json.Unmarshal(w.Body.Bytes(), &out.body) != nil {
		c.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if code, ok := at(out.body, "error.code"); ok && w.Code >= 400 {
		out.code, _ = code.(string)
	}
	return out
}

// record keeps which values each leaf of a kind's answers has had.
type record map[string]map[string]bool

func (r record) see(body any) {
	for path, v := range leaves("", body, map[string]any{}) {
		key := general(path)
		if r[key] == nil {
			r[key] = map[string]bool{}
		}
		r[key][written(v)] = true
	}
}

// constants are the leaves that had one value, however the bodies differed.
func (r record) constants() []string {
	var out []string
	for path, values := range r {
		if len(values) == 1 {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

// reason finds why a path is in a closed list. An entry is a path, its last words, or
// with a star at its end a beginning.
func reason(list map[string]string, path string, used map[string]bool) bool {
	path = general(path)
	for entry := range maps.Keys(list) {
		start, any := strings.CutSuffix(entry, "*")
		if strings.EqualFold(path, entry) || any && strings.HasPrefix(strings.ToLower(path), strings.ToLower(start)) || strings.HasPrefix(entry, "…") && strings.HasSuffix(strings.ToLower(path), strings.ToLower(strings.TrimPrefix(entry, "…"))) {
			used[entry] = true
			return true
		}
	}
	return false
}

// inputs is one kind under test.
type inputs struct {
	*castle
	t     *testing.T
	kind  kind
	seen  record
	used  map[string]bool // entries of closed lists that were needed
	n     int
	asked int
	given map[string]bool // the leaves that were tried
}

// kind is one kind of thing that can be written, with a body that is valid.
type kind struct {
	name   string
	method string // that makes one: PUT at the address, POST at the list
	path   string // {{n}} stands for a number of its own
	list   string // where it is listed
	patch  string // "PATCH" where there is one
	query  string // of every request
	// before makes what the thing stands on and returns what {{before}} stands for.
	before func(c *castle, n string) string
	body   string
	// shape is what the code says that properties may hold.
	shape any
	// other holds, by path, values that are valid where the sample's with a letter
	// more is not.
	other map[string][]any
	// silent are leaves that are taken and not shown, each with the reason.
	silent map[string]string
	// moves are "what is named" and "what changes with it" of a PATCH, each with the
	// reason. Times need theirs only where a second passes.
	moves map[string]string
	// nulls are leaves for which null means what is shown instead.
	nulls map[string]string
	// read, where set, is where it is read, and in is where in the answer it is.
	read, in string
}

// graph reports whether it is one of the directory's.
func (k kind) graph() bool { return k.method == "POST" }

// constants are those of its surface.
func (k kind) constants() map[string]string {
	if k.graph() {
		return constantInGraph()
	}
	return constant()
}

func (x *inputs) fill(text, n, before string) string {
	return strings.NewReplacer("{{n}}", n, "{{before}}", before).Replace(text)
}

// thing is one that was made, or is to be.
type thing struct {
	path, list string
	body       any
}

// next prepares another one.
func (x *inputs) next() thing {
	x.t.Helper()
	x.n++
	n, before := fmt.Sprintf("%02x", x.n), ""
	if x.kind.before != nil {
		before = x.kind.before(x.castle, strings.ToLower(x.kind.name[strings.LastIndexByte(x.kind.name, '.')+1:][:3])+strconv.Itoa(len(x.kind.name))+n)
	}
	return thing{path: x.fill(x.kind.path, n, before), list: x.fill(x.kind.list, n, before), body: parsed(x.fill(x.kind.body, n, before))}
}

func (x *inputs) ask(method, path string, body any) reply {
	x.asked++
	if x.kind.query != "" && !strings.Contains(path, "?") {
		path += "?" + x.kind.query
	}
	return x.send(method, path, body, nil)
}

// make writes a thing; where the server names it, path becomes its address.
func (x *inputs) make(it *thing, body any) reply {
	r := x.ask(x.kind.method, it.path, body)
	if id, _ := at(r.body, "id"); x.kind.method == "POST" && r.fine() {
		it.path = it.path + "/" + fmt.Sprint(id)
	}
	return r
}

// show reads a thing in all the ways there are.
func (x *inputs) show(it thing) []any {
	x.t.Helper()
	var out []any
	path := it.path
	if x.kind.method == "POST" {
		path += "?$select=*"
	}
	if x.kind.read != "" {
		path = x.kind.read
	}
	one := x.ask("GET", path, nil)
	if !one.fine() {
		x.t.Fatalf("%s: GET %s: %d %s", x.kind.name, path, one.status, one.text)
	}
	id, _ := at(one.body, "id")
	body, _ := at(one.body, x.kind.in)
	out = append(out, body)
	if it.list == "" {
		return out
	}
	path = it.list
	if x.kind.method == "POST" {
		path += "?$select=*&$top=999"
	}
	list := x.ask("GET", path, nil)
	items, _ := at(list.body, "value")
	all, ok := items.([]any)
	if !ok {
		x.t.Fatalf("%s: GET %s: %d %s", x.kind.name, path, list.status, list.text)
	}
	for _, item := range all {
		if is, _ := at(item, "id"); equalText(is, id) {
			out = append(out, item)
		}
	}
	if len(out) < 2 {
		x.t.Errorf("%s: %s is not in the list", x.kind.name, id)
	}
	return out
}

// tells reports whether all answers show a value at a path.
func (x *inputs) tells(answers []any, path string, value any) bool {
	for _, a := range answers {
		x.seen.see(a)
		if is, ok := at(a, path); !ok || !holds(is, value) {
			if empty(value) && (!ok || is == nil || x.kind.graph() && (empty(is) || value == nil && is == false)) {
				continue
			}
			return false
		}
	}
	return true
}

// empty values may be left out of answers.
func empty(v any) bool { return v == nil || v == "" || written(v) == "[]" || written(v) == "{}" }

// check writes a body in which path holds value, and looks at what comes of it.
func (x *inputs) check(how, method string, it thing, body any, path string, value any) (taken bool) {
	x.t.Helper()
	var before any
	fresh := how == "new"
	if !fresh {
		before = x.show(it)[0]
	}
	var r reply
	if fresh {
		r = x.make(&it, body)
	} else {
		r = x.ask(method, it.path, body)
	}
	if !r.fine() {
		if !r.proper() {
			x.t.Errorf("%s, %s: %s = %v: %d %s", x.kind.name, how, path, value, r.status, r.text)
		}
		if !fresh && written(before) != written(x.show(it)[0]) {
			x.t.Errorf("%s, %s: %s = %v was refused and changed something", x.kind.name, how, path, value)
		}
		return false
	}
	answers := x.show(it)
	if r.body != nil && x.kind.method == "PUT" {
		answers = append(answers, r.body)
	}
	if !fresh && x.kind.graph() {
		x.rest(before, answers[0], path)
	}
	if !x.tells(answers, path, value) && !x.quiet(path) && (value != nil || !reason(x.kind.nulls, path, x.used)) {
		is, _ := at(answers[0], path)
		x.t.Errorf("%s, %s: %s = %s was taken, and the answer shows %s", x.kind.name, how, path, written(value), written(is))
	}
	return true
}

// quiet reports whether a leaf may be taken and not be shown. Resource Manager's
// clients send back what they have read; Microsoft Graph refuses that.
func (x *inputs) quiet(path string) bool {
	return reason(x.kind.silent, path, x.used) || !x.kind.graph() && reason(readOnly(), path, x.used)
}

// vary changes every leaf, adds what the shape declares beside the sample, and adds
// to each object a member that nobody knows.
func (x *inputs) vary() {
	x.t.Helper()
	it := x.next()
	if r := x.make(&it, it.body); !r.fine() {
		x.t.Fatalf("%s: the sample is refused: %d %s", x.kind.name, r.status, r.text)
	}
	sample := leaves("", it.body, map[string]any{})
	for path, v := range sample {
		if !x.tells(x.show(it), path, v) && !x.quiet(path) {
			x.t.Errorf("%s: %s of the sample is not shown: %s", x.kind.name, path, written(x.show(it)))
		}
	}
	if x.kind.shape != nil {
		for _, name := range []string{"id", "name", "type", "etag", "systemData", "resources"} { // of every resource
			sample[name] = nil
			x.other(name, "probe")
		}
		for path, v := range declared("properties", reflect.TypeOf(x.kind.shape), map[string]any{}) {
			if _, have := at(it.body, path); !have {
				sample[path] = nil
				x.other(path, v)
			}
		}
	}
	if x.kind.graph() {
		x.shown(it, sample)
	}
	for _, path := range slices.Sorted(maps.Keys(sample)) {
		values := x.kind.other[path]
		if sample[path] != nil || len(values) == 0 {
			values = append(slices.Clone(values), another(sample[path]))
		}
		if x.kind.graph() {
			values = append(slices.Clone(values), nil, foreign(sample[path]))
		}
		for _, v := range values {
			x.one(it, path, v)
		}
	}
	paths := objects("", it.body)
	slices.Sort(paths)
	for _, path := range paths {
		if x.kind.graph() && path != "" {
			x.one(it, path, nil)
			x.one(it, path, "text")
		}
		where := strings.TrimPrefix(path+".nosuch", ".")
		x.one(it, where, "probe")
	}
}

// settle holds what no input has changed to the closed list.
func (x *inputs) settle() {
	x.t.Helper()
	for _, path := range x.seen.constants() {
		if !x.given[path] && (!x.kind.graph() || !x.given[path+"[]"]) && !reason(x.kind.constants(), path, x.used) {
			x.t.Errorf("%s: %s of the answers is %v, whatever is put in", x.kind.name, path, x.seen[path])
		}
	}
	for _, list := range []map[string]string{x.kind.silent, x.kind.nulls} {
		for entry := range list {
			if !x.used[entry] {
				x.t.Errorf("%s: nothing needs the entry %q", x.kind.name, entry)
			}
		}
	}
}

func merged(a, b map[string]bool) map[string]bool {
	maps.Copy(a, b)
	return a
}

// other remembers a value for what the sample lacks, unless there is one.
func (x *inputs) other(path string, v any) {
	if len(x.kind.other[path]) > 0 {
		return
	}
	if x.kind.other == nil {
		x.kind.other = map[string][]any{}
	}
	x.kind.other[path] = []any{v}
}

// one gives a leaf a value: in what is there, by PUT and by PATCH, and, where that is
// refused, in something new.
func (x *inputs) one(it thing, path string, v any) {
	x.t.Helper()
	taken := false
	if x.given == nil {
		x.given = map[string]bool{}
	}
	for inner := range leaves(path, v, map[string]any{}) {
		x.given[general(inner)] = true
	}
	x.given[general(path)] = x.given[general(path)] || x.kind.graph()
	if x.kind.method == "PUT" {
		taken = x.check("PUT", "PUT", it, with(it.body, path, v), path, v)
	}
	if x.kind.patch != "" {
		taken = x.check("PATCH", x.kind.patch, it, x.part(it.body, path, v), path, v) || taken
	}
	if !taken || x.kind.method == "POST" {
		again := x.next()
		x.check("new", x.kind.method, again, with(again.body, path, v), path, v)
	}
}

// part is the smallest body of a PATCH: the value alone, lists whole.
func (x *inputs) part(body any, path string, v any) any {
	if i := strings.IndexByte(path, '['); i >= 0 {
		whole, _ := at(with(body, path, v), path[:i])
		return with(map[string]any{}, path[:i], whole)
	}
	return with(map[string]any{}, path, v)
}
