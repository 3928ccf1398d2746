package server

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/resource/types"
	"sallyport/internal/route"
)

// writer is one operation of Resource Manager's that writes, or acts, and is not the
// PUT or PATCH of a resource type: those are derived from types.All.
type writer struct {
	rows string // the operations that it is the sample of
	// target makes what the request is about, anew each time, and returns its address.
	target func(n string) string
	body   string
	views  []view
	// effect tells, for leaves that no answer shows, whether what they ask for was done.
	effect map[string]func(it asked) bool
	// other holds, by path, values that are valid where the sample's with a letter
	// more is not.
	other map[string][]any
	// silent are leaves that are taken and have no effect by themselves, each with the
	// reason.
	silent map[string]string
	// same are leaves of the answers that never change, each with the reason.
	same map[string]string
	// refused is why the sample itself is: only its shape is tried then.
	refused string
	// once is why a PUT makes something and never changes it.
	once string
	// open are objects whose members have names of the caller's choice.
	open []string
}

// view is where a write is seen: at an address, or where at is nil in its own answer.
// What the request calls from is called to there.
type view struct {
	at       func(target string) string
	list     bool // the one whose id the request's address is
	from, to string
	only     string // the leaves that it shows, by their beginning
}

func itself(target string) string { return target }

// asked is one request that was taken.
type asked struct {
	target string
	value  any
	body   any
	reply  reply
}

// writing is a writer under test.
type writing struct {
	*castle
	t    *testing.T
	w    writer
	row  route.Row
	n    int
	seen record
	used map[string]bool
}

func (x *writing) next() string {
	x.n++
	return x.w.target(fmt.Sprintf("%s%02x", strings.ToLower(strings.NewReplacer("arm.", "", ".", "").Replace(x.row.ID)), x.n))
}

func versioned(path string) string {
	if strings.Contains(path, "?") {
		return path + "&" + version
	}
	return path + "?" + version
}

func (x *writing) ask(target string, body any) reply {
	return x.send(x.row.Method, versioned(target), body, nil)
}

// shows reads a target in all its views.
func (x *writing) shows(target string) []any {
	x.t.Helper()
	var out []any
	for _, v := range x.w.views {
		if v.at == nil {
			out = append(out, nil)
			continue
		}
		got := x.send("GET", versioned(v.at(target)), nil, nil)
		body := got.body
		if items, ok := at(got.body, "value"); v.list && ok {
			body = nil
			for _, item := range items.([]any) {
				if id, _ := at(item, "id"); equalText(id, target) {
					body = item
				}
			}
		}
		out = append(out, body)
	}
	return out
}

// tells reports whether all views show a value at a path.
func (x *writing) tells(it asked, path string) (missing string) {
	for i, body := range x.shows(it.target) {
		v := x.w.views[i]
		if v.at == nil {
			body = it.reply.body
		}
		x.seen.see(body)
		if !strings.HasPrefix(path, v.only) {
			continue
		}
		where := path
		if rest, ok := strings.CutPrefix(path, v.from); ok && v.from != "" {
			where = v.to + rest
		}
		if is, ok := at(body, where); (!ok || !holds(is, it.value)) && !(empty(it.value) && (!ok || is == nil)) {
			return fmt.Sprintf("%s in %s", where, written(body))
		}
	}
	return ""
}

// settled is a text without what changes by itself.
func settled(body any) string {
	if o, ok := body.(map[string]any); ok {
		for _, name := range []string{"updatedOn", "updatedBy"} {
			if _, have := at(o, "properties."+name); have {
				body = with(body, "properties."+name, nil)
			}
		}
		if _, have := at(o, "properties.details.version"); have {
			body = with(with(body, "properties.details.version", nil), "properties.details.updatedTime", nil)
		}
	}
	return written(body)
}

// try sends a body in which path holds value, in place of what is at target.
func (x *writing) try(target string, body any, path string, value any) (taken bool) {
	x.t.Helper()
	before := x.shows(target)
	r := x.ask(target, body)
	if !r.fine() {
		if !r.proper() {
			x.t.Errorf("%s: %s = %s: %d %s", x.row.ID, path, written(value), r.status, r.text)
		}
		if after := x.shows(target); written(after) != written(before) {
			x.t.Errorf("%s: %s = %s was refused and changed something:\n%s\nbefore:\n%s", x.row.ID, path, written(value), written(after), written(before))
		}
		return false
	}
	it := asked{target: target, value: value, body: body, reply: r}
	missing := x.tells(it, path)
	if f := x.w.effect[general(path)]; f != nil {
		if !f(it) {
			x.t.Errorf("%s: %s = %s was taken and has no effect: %s", x.row.ID, path, written(value), r.text)
		}
		return true
	}
	if reason(x.w.silent, path, x.used) {
		return true
	}
	if missing != "" {
		x.t.Errorf("%s: %s = %s was taken, and there is no %s", x.row.ID, path, written(value), missing)
	}
	return true
}

// vary changes every leaf of the sample, and what GET shows is put back.
func (x *writing) vary(sample any) {
	x.t.Helper()
	for path := range leaves("", sample, map[string]any{}) {
		target, body := x.next(), x.at(sample)
		v, _ := at(body, path)
		if !x.try(target, body, path, v) {
			x.t.Errorf("%s: the sample is refused: %s", x.row.ID, x.ask(x.next(), x.at(sample)).text)
			return
		}
	}
	target := x.next()
	x.ask(target, x.at(sample))
	again := x.row.Method == "PUT" && x.w.once == ""
	if again && x.w.views[0].at != nil {
		was := x.shows(target)[0]
		if r := x.ask(target, was); !r.fine() || settled(x.shows(target)[0]) != settled(was) {
			x.t.Errorf("%s: what GET shows cannot be put back: %d %s\n%s", x.row.ID, r.status, r.text, written(was))
		}
	}
	for path, v := range leaves("", sample, map[string]any{}) {
		for _, value := range append(slices.Clone(x.w.other[general(path)]), another(v)) {
			if again {
				x.try(target, with(x.at(sample), path, value), path, value)
			}
			fresh := x.next()
			x.try(fresh, with(x.at(sample), path, value), path, value)
		}
		if r := x.ask(x.next(), with(x.at(sample), path, nil)); !r.fine() && !r.proper() {
			x.t.Errorf("%s: %s = null: %d %s", x.row.ID, path, r.status, r.text)
		}
	}
}

// at is a sample of its own for the last target: names in it are those of the address.
func (x *writing) at(sample any) any {
	return parsed(strings.ReplaceAll(written(sample), "{{n}}", fmt.Sprintf("%02x", x.n)))
}

// shape gives every leaf every other kind of value, and every object a member that
// nobody knows: each is refused by name, and nothing changes.
func (x *writing) shape(sample any) {
	x.t.Helper()
	target := x.next()
	refused := func(path string, value any) {
		x.t.Helper()
		before := written(x.shows(target))
		r := x.ask(target, with(x.at(sample), path, value))
		names := strings.Split(element.ReplaceAllString(path, ""), ".")
		named := slices.ContainsFunc(names[max(0, len(names)-2):], func(name string) bool { return strings.Contains(strings.ToLower(r.text), strings.ToLower(name)) })
		if !r.proper() || r.status != 400 || !named {
			x.t.Errorf("%s: %s = %s: %d %s", x.row.ID, path, written(value), r.status, r.text)
		}
		if after := written(x.shows(target)); after != before {
			x.t.Errorf("%s: %s = %s changed something:\n%s\nbefore:\n%s", x.row.ID, path, written(value), after, before)
		}
	}
	for path, v := range leaves("", sample, map[string]any{}) {
		if reason(x.w.silent, path, x.used) && reason(echoes(), path, map[string]bool{}) {
			continue
		}
		for _, wrong := range []any{"text", float64(5), true, []any{"text"}, map[string]any{"text": "text"}} {
			if fmt.Sprintf("%T", wrong) != fmt.Sprintf("%T", v) {
				refused(path, wrong)
			}
		}
	}
	for _, path := range objects("", sample) {
		if !slices.Contains(x.w.open, path) {
			refused(strings.TrimPrefix(path+".nosuch", "."), "probe")
		}
		if path != "" && !slices.Contains(x.w.open, path) {
			refused(path, "text")
		}
	}
}

// echoes are what clients send back of what they have read, whatever it is.
func echoes() map[string]string {
	return map[string]string{"id": "", "name": "", "type": "", "properties.tenantId": ""}
}

func (x *writing) settle() {
	x.t.Helper()
	given := map[string]bool{}
	for path := range leaves("", parsed(x.w.body), map[string]any{}) {
		given[general(path)] = true
	}
	for _, path := range x.seen.constants() {
		if !given[path] && !reason(x.w.same, path, x.used) {
			x.t.Errorf("%s: %s of the answers is %v, whatever is put in", x.row.ID, path, x.seen[path])
		}
	}
	for entry := range merged(maps.Clone(keyed(x.w.same)), keyed(x.w.silent)) {
		if !x.used[entry] {
			x.t.Errorf("%s: nothing needs that %q is excepted", x.row.ID, entry)
		}
	}
}

func keyed(list map[string]string) map[string]bool {
	out := map[string]bool{}
	for k := range list {
		out[k] = true
	}
	return out
}

// ofType reports whether an operation is the PUT or PATCH of a resource type, which
// TestInputs_OfResources changes.
func ofType(row route.Row) bool {
	if row.Method != "PUT" && row.Method != "PATCH" {
		return false
	}
	kind := strings.TrimSuffix(row.Action, "/write")
	return slices.ContainsFunc(types.All(types.Config{}), func(t typeOf) bool { return strings.EqualFold(t.Name, kind) && !t.ReadOnly }) && !strings.HasPrefix(row.ID, "arm.scaleSetExtensions")
}

// TestInputs_OfWriters: what an operation that writes is given has an effect that is
// seen, or is refused; derived from the wire operations, so that a new one without a
// sample fails.
func TestInputs_OfWriters(t *testing.T) {
	c := newCastle(t)
	list := armWriters(c)
	samples := map[string]int{}
	for i, w := range list {
		for _, id := range strings.Fields(w.rows) {
			samples[id] = i + 1
		}
	}
	for _, row := range route.All() {
		if row.Surface != route.ARM || row.Door != route.Caller || row.Method == "GET" || row.Method == "HEAD" || row.Bodyless() || ofType(row) {
			continue
		}
		i := samples[row.ID]
		if delete(samples, row.ID); i == 0 {
			t.Errorf("there is no sample of a body for %s", row.ID)
			continue
		}
		t.Run(row.ID, func(t *testing.T) {
			x := &writing{castle: c, t: t, w: list[i-1], row: row, seen: record{}, used: map[string]bool{}}
			sample := parsed(x.w.body)
			x.shape(sample)
			if x.w.refused == "" {
				x.vary(sample)
				x.settle()
			}
		})
	}
	for id := range samples {
		t.Errorf("%s is no operation that reads a body", id)
	}
}

// TestInputs_Parameters: no operation takes a query parameter that it does not read,
// one that is given twice, or a body where it reads none.
func TestInputs_Parameters(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	before := c.holdings(strings.TrimPrefix(sub, "/subscriptions/"))
	asked := 0
	for _, row := range route.All() {
		if row.Surface != route.ARM || row.Door != route.Caller {
			continue
		}
		path := filled(row, strings.TrimPrefix(sub, "/subscriptions/"), "thing")
		refused := func(how, path, body, word string) {
			asked++
			var sent any
			if body != "" {
				sent = parsed(body)
			}
			got := c.send(row.Method, path, sent, nil)
			if row.Method == "HEAD" && got.status == 400 {
				return
			}
			if !got.proper() || word != "" && (got.status != 400 || !strings.Contains(got.text, word)) {
				t.Errorf("%s with %s: %d %s", row.ID, how, got.status, got.text)
			}
		}
		refused("an unknown parameter", path+"&nosuch=1", "", "nosuch")
		refused("two versions", path+"&api-version=2021-01-01", "", "more than once")
		for _, name := range row.Parameters() {
			refused(name+"=nosuch", path+"&"+name+"=nosuch", "", "")
			refused(name+" twice", path+"&"+name+"=false&"+name+"=true", "", name)
			if name == route.SkipShutdown || name == route.Hibernate || name == route.ForceDeletion {
				refused(name, path+"&"+name+"=true", "", name)
			}
		}
		if row.Bodyless() {
			for _, body := range []string{`{"nosuch":1}`, `[1]`, `"x"`, `{"properties":{}}`} {
				refused(body, path, body, "takes no body")
			}
		}
	}
	if after := c.holdings(strings.TrimPrefix(sub, "/subscriptions/")); after != before {
		t.Errorf("something was made:\n%s\nbefore:\n%s", after, before)
	}
	t.Logf("%d requests", asked)
	// What az sends when nobody has asked for anything.
	vm := c.put(sub+"/resourceGroups/RG/providers/Microsoft.Compute/virtualMachines/stopped", `{"location":"westeurope","properties":{"storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"}},"networkProfile":{"networkInterfaces":[{"id":"`+
		c.put(sub+"/resourceGroups/RG/providers/Microsoft.Network/networkInterfaces/stopped", `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"a"}]}}`)+`"}]}}}`)
	if got := c.send("POST", versioned(vm+"/powerOff?skipShutdown=false"), map[string]any{}, nil); got.status != 202 {
		t.Errorf("az vm stop: %d %s", got.status, got.text)
	}
}

// TestInputs_KindsOfValues gives each leaf of each resource type every other kind of
// value: it is refused by name, and nothing is made.
func TestInputs_KindsOfValues(t *testing.T) {
	shapes := map[string]any{}
	for _, typ := range types.All(types.Config{}) {
		shapes[typ.Name] = typ.Shape
	}
	c := newCastle(t)
	for _, k := range armKinds(standing(c)) {
		t.Run(k.name, func(t *testing.T) {
			x := &inputs{castle: c, t: t, kind: k, seen: record{}, used: map[string]bool{}}
			it := x.next()
			all := declared("properties", reflect.TypeOf(shapes[k.name]), leaves("", it.body, map[string]any{}))
			for path, v := range all {
				for _, wrong := range []any{"text", float64(5), true, []any{"text"}, map[string]any{"text": "text"}} {
					if fmt.Sprintf("%T", wrong) == fmt.Sprintf("%T", v) || strings.HasPrefix(path, "properties.template") || reason(readOnly(), path, x.used) || reason(k.silent, path, x.used) {
						continue
					}
					r := x.ask("PUT", it.path, with(it.body, path, wrong))
					names := strings.Split(element.ReplaceAllString(path, ""), ".")
					named := slices.ContainsFunc(names[max(0, len(names)-2):], func(name string) bool { return strings.Contains(strings.ToLower(r.text), strings.ToLower(name)) })
					if !r.proper() || r.status != 400 || !named {
						t.Errorf("%s = %s: %d %s", path, written(wrong), r.status, r.text)
					}
				}
				if made := x.ask("GET", it.path, nil); made.status != 404 {
					t.Errorf("a wrong %s made something: %d %s", path, made.status, made.text)
					it = x.next()
				}
			}
		})
	}
}
