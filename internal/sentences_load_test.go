package internal_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

// sentence is what a fault, or a refusal in OAuth's words, says, as its source has
// it: a hole stands where a value is put in.
type sentence struct {
	pkg, kind, code string
	text            string // with the remedy, as Public joins them
	at              token.Position
}

const hole = "\x00"

// holes are several with nothing to read between them.
var holes = regexp.MustCompile(`\x00(?:[^A-Za-z\x00]{0,2}\x00)+`)

// verb is what fmt puts a value in for.
var verb = regexp.MustCompile(`%(?:\[\d+\])?[-+# 0]*\d*(?:\.\d+)?[vTtbcdoOqxXUeEfFgGsp]`)

// maker is a function that makes faults of what it is given: fault.New itself, or
// one of ours that hands a format on to it.
type maker struct {
	kind, code, format int // places of the arguments; -1: not an argument
	fixedKind          string
	fixedCode          string
	number, refusal    int // OAuth's number and code
	remedy             string
}

// sentences are all of a package.
func sentences(u unit) []sentence {
	c := collector{u: u, makers: map[types.Object]maker{}, remedies: map[*ast.CallExpr]ast.Expr{}, taken: map[ast.Expr]bool{}}
	for range 2 { // a maker of a maker
		for _, f := range u.files {
			ast.Inspect(f, c.remedy)
		}
		for _, f := range u.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
					c.learn(fn)
				}
			}
		}
	}
	for _, f := range u.files {
		ast.Inspect(f, c.remedy)
	}
	for _, f := range u.files {
		ast.Inspect(f, c.failure)
		ast.Inspect(f, c.call)
	}
	return c.found
}

type collector struct {
	u        unit
	makers   map[types.Object]maker
	remedies map[*ast.CallExpr]ast.Expr
	taken    map[ast.Expr]bool // calls that make the text of a failure
	found    []sentence
}

// maker says whether a call makes a fault.
func (c *collector) maker(call *ast.CallExpr) (maker, bool) {
	var id *ast.Ident
	switch f := call.Fun.(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return maker{}, false
	}
	obj, ok := c.u.info.Uses[id].(*types.Func)
	if !ok {
		return maker{}, false
	}
	switch obj.FullName() {
	case prefix + "fault.New":
		return maker{kind: 0, code: 1, format: 2, number: -1, refusal: -1}, true
	case prefix + "fault.Wrap":
		return maker{kind: 1, code: 2, format: 3, number: -1, refusal: -1}, true
	case prefix + "fault.Sentence":
		return maker{kind: -1, code: -1, format: 0, number: -1, refusal: -1, fixedKind: "Any"}, true
	case "(*" + prefix + "cli.app).warn":
		return maker{kind: -1, code: -1, format: 0, number: -1, refusal: -1, fixedKind: "Warning"}, true
	case prefix + "oauth.refuse":
		return maker{kind: -1, code: -1, format: 2, number: 1, refusal: 0}, true
	case prefix + "oauth.badClient":
		return maker{kind: -1, code: -1, format: 1, number: 0, refusal: -1, fixedKind: "invalid_client"}, true
	}
	m, ok := c.makers[obj]
	return m, ok
}

// learn sees whether a function hands on a format, and what else, to a maker.
func (c *collector) learn(fn *ast.FuncDecl) {
	place := map[types.Object]int{}
	n := 0
	for _, p := range fn.Type.Params.List {
		for _, name := range p.Names {
			place[c.u.info.Defs[name]] = n
			n++
		}
	}
	at := func(e ast.Expr) int {
		if id, ok := e.(*ast.Ident); ok {
			if i, ok := place[c.u.info.Uses[id]]; ok {
				return i
			}
		}
		return -1
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !call.Ellipsis.IsValid() {
			return true
		}
		if m, ok := c.maker(call); ok && at(call.Args[m.format]) >= 0 {
			made := maker{kind: -1, code: -1, format: at(call.Args[m.format]), number: -1, refusal: -1, fixedKind: m.fixedKind, fixedCode: m.fixedCode}
			if m.kind >= 0 {
				if made.kind = at(call.Args[m.kind]); made.kind < 0 {
					made.fixedKind = c.kind(call.Args[m.kind])
				}
			}
			if m.code >= 0 {
				if made.code = at(call.Args[m.code]); made.code < 0 {
					made.fixedCode = c.text(call.Args[m.code])
				}
			}
			made.remedy = m.remedy
			if r, ok := c.remedies[call]; ok {
				made.remedy = c.text(r)
			}
			c.makers[c.u.info.Defs[fn.Name]] = made
		}
		return true
	})
}

// remedy remembers what a fault is given as its remedy.
func (c *collector) remedy(n ast.Node) bool {
	if call, ok := n.(*ast.CallExpr); ok {
		if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "WithRemedy" {
			inner := s.X
			for {
				of, ok := inner.(*ast.CallExpr)
				if !ok {
					break
				}
				if _, made := c.maker(of); made {
					c.remedies[of] = call.Args[0]
					break
				}
				next, ok := of.Fun.(*ast.SelectorExpr)
				if !ok {
					break
				}
				inner = next.X
			}
		}
	}
	return true
}

// failure takes what an operation says that failed, and what is said of a command
// line: values, and no faults.
func (c *collector) failure(n ast.Node) bool {
	lit, ok := n.(*ast.CompositeLit)
	if !ok {
		return true
	}
	t, ok := c.u.info.Types[lit].Type.(*types.Named)
	if !ok || t.Obj().Pkg() == nil {
		return true
	}
	s := sentence{pkg: c.u.name, kind: "Failed", at: c.u.set.Position(lit.Pos())}
	switch t.Obj().Pkg().Path() + "." + t.Obj().Name() {
	case prefix + "resource.Failure":
	case prefix + "cli.clientError", prefix + "cli.usageError":
		s.kind = "Invalid"
	default:
		return true
	}
	for _, e := range lit.Elts {
		pair, named := e.(*ast.KeyValueExpr)
		switch {
		case !named:
			s.text = c.formatted(e)
		case pair.Key.(*ast.Ident).Name == "Code":
			s.code = c.text(pair.Value)
		case pair.Key.(*ast.Ident).Name == "Message":
			s.text = c.formatted(pair.Value)
			c.taken[pair.Value] = true
		}
	}
	if strings.Trim(strings.ReplaceAll(s.text, hole, ""), " .;:") != "" {
		c.found = append(c.found, s)
	}
	return true
}

// formatted is the text of an expression that may be a call of fmt.Sprintf.
func (c *collector) formatted(e ast.Expr) string {
	if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 {
		if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Sprintf" || f.Sel.Name == "Sentence") {
			return c.text(call.Args[0])
		}
	}
	return c.text(e)
}

func (c *collector) call(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return true
	}
	m, ok := c.maker(call)
	if !ok || len(call.Args) <= m.format || c.taken[call] {
		return true
	}
	s := sentence{pkg: c.u.name, kind: m.fixedKind, code: m.fixedCode, at: c.u.set.Position(call.Pos()), text: c.formatted(call.Args[m.format])}
	if m.kind >= 0 {
		s.kind = c.kind(call.Args[m.kind])
	}
	if m.code >= 0 {
		s.code = c.text(call.Args[m.code])
	}
	if m.refusal >= 0 {
		s.kind = c.text(call.Args[m.refusal])
	}
	if m.number >= 0 {
		s.code = "AADSTS" + c.text(call.Args[m.number])
	}
	if strings.Trim(strings.ReplaceAll(s.text, hole, ""), " .;:") == "" {
		return true // it hands on what another said
	}
	if strings.HasPrefix(s.code, "AADSTS") {
		s.text = s.code + ": " + s.text
	}
	remedy := m.remedy
	if r, ok := c.remedies[call]; ok {
		remedy = c.text(r)
	}
	if remedy != "" {
		s.text += joint(s.text, remedy) + remedy
	}
	c.found = append(c.found, s)
	return true
}

// joint is fault's own: what stands between text and remedy.
func joint(text, remedy string) string {
	switch {
	case strings.ContainsRune(".!?:;,", rune(text[len(text)-1])):
		return " "
	case remedy != "" && remedy[0] >= 'A' && remedy[0] <= 'Z':
		return ". "
	}
	return "; "
}

// text is a constant with its verbs as holes; a hole where it is no constant.
func (c *collector) text(e ast.Expr) string {
	if v := c.u.info.Types[e].Value; v != nil {
		if v.Kind() == constant.String {
			return strings.ReplaceAll(verb.ReplaceAllString(constant.StringVal(v), hole), "%%", "%")
		}
		return v.ExactString()
	}
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		return c.text(sum.X) + c.text(sum.Y)
	}
	return hole
}

// kind is the name of a fault's kind.
func (c *collector) kind(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if obj, ok := c.u.info.Uses[s.Sel].(*types.Const); ok {
			return obj.Name()
		}
	}
	return "Any"
}

// shown is a sentence as the reference prints it.
func (s sentence) shown() string {
	return strings.NewReplacer(hole, "…", "|", `\|`, "\n", " ", "<", "&lt;").Replace(s.text)
}

// pattern is a sentence as the page can have it.
func (s sentence) pattern() *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(holes.ReplaceAllString(s.text, hole)), hole, ".+"))
}

// place says where it stands, for a complaint.
func (s sentence) String() string {
	return fmt.Sprintf("%s (%s, %s): %s", s.at, s.kind, s.code, strings.ReplaceAll(s.text, hole, "…"))
}

// everySentence are all of the module, sorted, each once.
func everySentence(units []unit) []sentence {
	var all []sentence
	for _, u := range units {
		if u.internal && u.name != "fault" {
			all = append(all, sentences(u)...)
		}
	}
	slices.SortStableFunc(all, func(a, b sentence) int {
		return strings.Compare(a.pkg+hole+a.code+hole+a.text+hole+a.kind, b.pkg+hole+b.code+hole+b.text+hole+b.kind)
	})
	return slices.CompactFunc(all, func(a, b sentence) bool {
		return a.pkg == b.pkg && a.code == b.code && a.text == b.text && a.kind == b.kind
	})
}
