package internal_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/audit"
)

// TestEvents_AreDeclared: whoever writes an audit event declares it in
// internal/audit, and what is declared there is written somewhere. The store
// holds the facts that are put together at run time to the same declarations.
func TestEvents_AreDeclared(t *testing.T) {
	c := newEventCheck(load(t))
	c.run()
	report(t, c.complaints)
	if len(c.written) < 40 {
		t.Fatalf("only %d types of events were found", len(c.written))
	}
	for _, k := range audit.Kinds() {
		if !c.written[k.Type] && !reportedByMachines(k.Type) {
			t.Errorf("%s is declared and nobody writes it", k.Type)
		}
	}
}

// reportedByMachines: these names are put together of what the agent says.
func reportedByMachines(kind string) bool {
	return slices.ContainsFunc([]string{"machine.login.", "machine.sudo.", "machine.local.", "machine.session.", "machine.auditHead.", "machine.eventQueue.", "machine.document.", "machine.drift.", "machine.state.", "machine.identity.", "machine.upgrade."}, func(p string) bool { return strings.HasPrefix(kind, p) })
}

// eventCheck follows the types of events from where they are written down to
// where an audit.Event is made of them.
type eventCheck struct {
	units      []unit
	builders   map[*types.Func]builder
	written    map[string]bool
	complaints []string
}

// builder is a function that makes events of what it is given: the places of
// type and facts in its parameters, -1 for none.
type builder struct{ kind, detail int }

func newEventCheck(units []unit) *eventCheck {
	return &eventCheck{units: units, builders: map[*types.Func]builder{}, written: map[string]bool{}}
}

func (c *eventCheck) run() {
	for _, u := range c.units {
		c.each(u, c.literals)
	}
	for _, u := range c.units {
		c.each(u, c.calls)
	}
}

// each calls f with every function of a package that writes events; the
// package that declares them only passes them on.
func (c *eventCheck) each(u unit, f func(unit, *ast.FuncDecl)) {
	if u.name == "audit" {
		return
	}
	for _, file := range u.files {
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				f(u, fn)
			}
		}
	}
}

func (c *eventCheck) literals(u unit, fn *ast.FuncDecl) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			c.renamed(u, a)
		}
		lit, ok := n.(*ast.CompositeLit)
		if !ok || !isEvent(u.info.TypeOf(lit)) || len(lit.Elts) == 0 {
			return true
		}
		fields := map[string]ast.Expr{}
		for _, e := range lit.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				fields[kv.Key.(*ast.Ident).Name] = kv.Value
			}
		}
		at := u.set.Position(lit.Pos()).String()
		kinds := constants(u, fn, fields["Type"])
		if len(kinds) > 0 {
			c.checkAll(u, at, kinds, fields["Detail"])
			return true
		}
		place := parameter(u, fn, fields["Type"])
		if place < 0 {
			c.complaints = append(c.complaints, at+": the type of this audit event is not written down here, nor given to the function")
			return true
		}
		c.builders[u.info.Defs[fn.Name].(*types.Func)] = builder{kind: place, detail: parameter(u, fn, fields["Detail"])}
		return true
	})
}

// renamed looks at event.Type = "...".
func (c *eventCheck) renamed(u unit, a *ast.AssignStmt) {
	for i, l := range a.Lhs {
		if sel, ok := l.(*ast.SelectorExpr); ok && sel.Sel.Name == "Type" && isEvent(u.info.TypeOf(sel.X)) && len(a.Rhs) == len(a.Lhs) {
			if v := u.info.Types[a.Rhs[i]].Value; v != nil && v.Kind() == constant.String {
				c.checkAll(u, u.set.Position(a.Pos()).String(), []string{constant.StringVal(v)}, nil)
			}
		}
	}
}

func (c *eventCheck) calls(u unit, fn *ast.FuncDecl) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := called(u, call)
		b, builds := c.builders[f]
		if !ok || !builds || len(call.Args) <= b.kind {
			return true
		}
		var detail ast.Expr
		if b.detail >= 0 {
			detail = call.Args[b.detail]
		}
		at := u.set.Position(call.Pos()).String()
		kinds := constants(u, fn, call.Args[b.kind])
		if len(kinds) == 0 {
			c.complaints = append(c.complaints, at+": the type of this audit event is not a constant")
		}
		c.checkAll(u, at, kinds, detail)
		return true
	})
}

// checkAll holds what is written down to the declarations.
func (c *eventCheck) checkAll(u unit, at string, kinds []string, detail ast.Expr) {
	for _, name := range kinds {
		c.written[name] = true
		k, ok := audit.KindOf(name)
		if !ok {
			c.complaints = append(c.complaints, fmt.Sprintf("%s: the audit event %q is not declared: give it a line in internal/audit/kinds.go and run WRITE_DOCS=1 go test -run Reference ./internal/audit", at, name))
			continue
		}
		lit, ok := detail.(*ast.CompositeLit)
		if !ok {
			continue
		}
		for _, e := range lit.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			if v := u.info.Types[kv.Key].Value; v != nil && v.Kind() == constant.String && !k.Has(constant.StringVal(v)) {
				c.complaints = append(c.complaints, fmt.Sprintf("%s: the audit event %q is declared without the fact %q", at, name, constant.StringVal(v)))
			}
		}
	}
}

// constants returns what an expression may be: a constant, or a variable of the
// function that is given only constants.
func constants(u unit, fn *ast.FuncDecl, e ast.Expr) []string {
	if e == nil {
		return nil
	}
	if v := u.info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return []string{constant.StringVal(v)}
	}
	id, ok := e.(*ast.Ident)
	if !ok {
		return nil
	}
	var found []string
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for i, l := range a.Lhs {
			if name, ok := l.(*ast.Ident); ok && i < len(a.Rhs) && u.info.ObjectOf(name) == u.info.ObjectOf(id) {
				if v := u.info.Types[a.Rhs[i]].Value; v != nil && v.Kind() == constant.String {
					found = append(found, constant.StringVal(v))
				}
			}
		}
		return true
	})
	return found
}

// parameter is the place of an expression among a function's parameters, -1
// when it is none.
func parameter(u unit, fn *ast.FuncDecl, e ast.Expr) int {
	id, ok := e.(*ast.Ident)
	if !ok {
		return -1
	}
	place := 0
	for _, field := range fn.Type.Params.List {
		for _, n := range field.Names {
			if u.info.Defs[n] == u.info.Uses[id] {
				return place
			}
			place++
		}
	}
	return -1
}

func called(u unit, call *ast.CallExpr) (*types.Func, bool) {
	var id *ast.Ident
	switch f := call.Fun.(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return nil, false
	}
	f, ok := u.info.Uses[id].(*types.Func)
	return f, ok
}

func isEvent(t types.Type) bool {
	n, ok := t.(*types.Named)
	return ok && n.Obj().Name() == "Event" && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == prefix+"audit"
}

// The rule above, broken once in each way.
func TestEvents_Broken(t *testing.T) {
	const event = `import "sallyport/internal/audit"; func write(audit.Event) {}; `
	for text, want := range map[string]string{
		`func f() { write(audit.Event{Type: "group.create", Detail: map[string]string{"displayName": ""}}) }`:                                                            "",
		`func f() { write(audit.Event{Type: "group.explode"}) }`:                                                                                                         `"group.explode" is not declared`,
		`func f() { write(audit.Event{Type: "group.create", Detail: map[string]string{"password": ""}}) }`:                                                               `without the fact "password"`,
		`func f() { kind := "group.create"; if kind != "" { kind = "group.explode" }; write(audit.Event{Type: kind}) }`:                                                  `"group.explode" is not declared`,
		`func made(d map[string]string, k string) audit.Event { return audit.Event{Type: k, Detail: d} }; func f() { made(nil, "a.b") }`:                                 `"a.b" is not declared`,
		`func made(k string) audit.Event { return audit.Event{Type: k} }; func f(k string) { made(k) }`:                                                                  "is not a constant",
		`func made(k string, d map[string]string) audit.Event { return audit.Event{Type: k, Detail: d} }; func f() { made("group.create", map[string]string{"x": ""}) }`: `without the fact "x"`,
		`func f() { e := audit.Event{Type: "group.create"}; e.Type = "group.explode"; write(e) }`:                                                                        `"group.explode" is not declared`,
		`func f(k string) { write(audit.Event{Type: "group." + k}) }`:                                                                                                    "is not written down here",
	} {
		c := newEventCheck([]unit{snippet(t, "x.go", "package x; "+event+text)})
		c.run()
		expect(t, text, c.complaints, want)
	}
}
