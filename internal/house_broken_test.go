package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// A rule that cannot fail says nothing. The tests below break each rule once,
// and give each a neighbour that it must let pass.

func TestParseLaw_Broken(t *testing.T) {
	for text, want := range map[string]string{
		"a:\nb: a\n":        "",
		"a: b\nb:\n":        "a imports b, which is not above it",
		"a: a\n":            "a imports a, which is not above it",
		"a:\na:\n":          "not one line for one package",
		"a\n":               "not one line for one package",
		"# a\n\na: # why\n": "",
	} {
		_, complaints := parseLaw(strings.NewReader(text))
		expect(t, text, complaints, want)
	}
}

func TestCheckImports_Broken(t *testing.T) {
	for name, c := range map[string]struct {
		law  string
		unit unit
		want string
	}{
		"as listed":          {"fault:\nx: fault\n", unit{imports: []string{prefix + "fault", "fmt"}}, ""},
		"not listed":         {"fault:\nx:\n", unit{imports: []string{prefix + "fault"}}, "x imports fault which house.txt does not list"},
		"listed, not used":   {"fault:\nx: fault\n", unit{}, "house.txt lists fault for x which does not import it"},
		"no line":            {"fault:\n", unit{}, "package x has no line"},
		"no package":         {"fault:\nx:\ny:\n", unit{}, "house.txt names y which does not exist"},
		"a package of tests": {"fault:\nstore/storetest:\nx: store/storetest\n", unit{imports: []string{prefix + "store/storetest"}}, "test-only package store/storetest"},
	} {
		law, _ := parseLaw(strings.NewReader(c.law))
		c.unit.name, c.unit.internal = "x", true
		units := []unit{{name: "fault", internal: true}, c.unit}
		if _, ok := law.imports["store/storetest"]; ok {
			units = append(units, unit{name: "store/storetest", internal: true})
		}
		expect(t, name, checkImports(law, units), c.want)
	}
}

func TestCheckPrograms_Broken(t *testing.T) {
	for _, c := range []struct{ name, dep, want string }{
		{"agent/root", "net/http", "agent/root contains net/http"},
		{"agent", "net/http", ""},
		{"agent", prefix + "store", "agent contains"},
		{"agent/grants", prefix + "oauth/token", "agent/grants contains"},
		{"agent", prefix + "machine/protocol", ""},
		{"cli", "database/sql", "cli contains database/sql"},
		{"cli/client", prefix + "keystore", "cli/client contains"},
		{"server", "github.com/miekg/pkcs11", "server contains github.com/miekg/pkcs11"},
		{"keystore", prefix + "signer", "keystore contains"},
		{"signer", prefix + "store", "signer contains"},
		{"signer", "net/http", "signer contains net/http"},
		{"signer/pkcs11", "github.com/miekg/pkcs11", ""},
		{"cli", prefix + "agent/pin", "cli contains"},
		{"lab", prefix + "httpd", "lab contains"},
		{"server", prefix + "lab", "server contains"},
		{"server", prefix + "store", ""},
		{"rbac", prefix + "server", "rbac contains"},
	} {
		expect(t, c.name+" with "+c.dep, checkPrograms([]unit{{name: c.name, internal: true, deps: []string{c.dep}}}), c.want)
	}
}

func TestCheckPure_Broken(t *testing.T) {
	for text, want := range map[string]string{
		`import "time"; var _ = time.Second`:                               "",
		`import "time"; func f(t time.Time) bool { return t.After(t) }`:    "",
		`import "time"; func f() time.Time { return time.Now() }`:          "uses time.Now",
		`import clock "time"; func f() { clock.Sleep(1) }`:                 "uses time.Sleep",
		`import . "time"; func f() { g := Now; g() }`:                      "uses time.Now",
		`import "net"; var _ net.IP`:                                       "",
		`import "net"; func f() { _, _ = net.Dial("tcp", "") }`:            "uses net.Dial",
		`import "os"; var _ = os.Args`:                                     "imports os",
		`import "os/exec"; var _ exec.Cmd`:                                 "imports os/exec",
		`import "math/rand/v2"; var _ = rand.N(1)`:                         "imports math/rand/v2",
		`import r "crypto/rand"; var _ = r.Reader`:                         "imports crypto/rand",
		`import "log/slog"; func f() { slog.Info("") }`:                    "imports log/slog",
		`import "os/signal"; var _ = signal.Notify`:                        "imports os/signal",
		`import "database/sql"; var _ *sql.DB`:                             "imports database/sql",
		`import "net/http"; func f() string { return http.StatusText(1) }`: "imports net/http",
	} {
		expect(t, text, checkPure(snippet(t, "x.go", "package x; "+text)), want)
	}
}

func TestCheckState_Broken(t *testing.T) {
	for text, want := range map[string]string{
		`var v = map[string]int{"a": 1}; func f() int { return v["a"] }`:                      "",
		`var v int; func f() { v := 1; v++; _ = v }`:                                          "",
		`type s struct{ v int }; var v = s{}; func (t *s) f() { t.v = 1 }`:                    "",
		`var v int; func f() { v = 1 }`:                                                       "v is changed",
		`var v int; func f() { v++ }`:                                                         "v is changed",
		`var v int; func f() { for v = range 3 {} }`:                                          "v is changed",
		`var v int; func f() { for range 3 { v += 2 } }`:                                      "v is changed",
		`var v int; func f() *int { return &v }`:                                              "v is changed",
		`var v [3]int; func f() []int { return v[:] }`:                                        "v is changed",
		`var v struct{ a []int }; func f() { (v.a)[0] = 1 }`:                                  "v is changed",
		`var v = map[string]int{}; func f() { v["a"] = 1 }`:                                   "v is changed",
		`var v = map[string]int{}; func f() { delete(v, "a") }`:                               "v is changed",
		`var v = new(int); func f() { *v = 1 }`:                                               "v is changed",
		`import "strings"; var v strings.Builder; func f() { v.WriteString("") }`:             "v is changed",
		`import "strings"; type s struct{ strings.Builder }; var v s; func f() { v.Reset() }`: "v is changed",
		`import "net/http"; func f() { http.DefaultClient = nil }`:                            "DefaultClient is changed",
		`import "net/http"; func f() { http.DefaultClient.Timeout = 0 }`:                      "DefaultClient is changed",
		`import "sync"; var v sync.Mutex`:                                                     "of the kind that changes",
		`import "sync/atomic"; var v = &struct{ n atomic.Int64 }{}`:                           "of the kind that changes",
		`var v = make(chan int)`:                                                              "of the kind that changes",
		`import "regexp"; var v = regexp.MustCompile("a"); func f() { v.MatchString("") }`:    "",
		`func init() {}`: "init function",
	} {
		expect(t, text, checkState(snippet(t, "x.go", "package x; "+text)), want)
	}
	u := snippet(t, "x.go", "package x")
	u.cgo = true
	expect(t, "cgo", checkState(u), "uses cgo")
}

func TestCheckWords_Broken(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"doc.go", "// Package x is.\npackage x\n", ""},
		{"x.go", "// Package x is.\npackage x\n", "belongs into doc.go"},
		{"doc.go", "package x\n", "has no doc.go"},
		{"doc.go", "// Package x is.\npackage x\nfunc F() {}\n", "F has no comment"},
		{"doc.go", "// Package x is.\npackage x\ntype T int\nconst c = 1\n", "T has no comment"},
		{"doc.go", "// Package x is.\npackage x\nconst (\n\tA = 1 // one\n\tB = 2\n)\n", "B has no comment"},
		{"doc.go", "// Package x is.\npackage x\n// Letters.\nconst (\n\tA = 1\n\tB = 2\n)\n", ""},
		{"doc.go", "// Package x is.\npackage x\nfunc f() {}\nvar v int\n", ""},
	} {
		expect(t, c.text, checkWords(snippet(t, c.file, c.text)), c.want)
	}
	u := snippet(t, "doc.go", "// Package x is.\npackage x\n")
	u.name = "agent/util"
	expect(t, u.name, checkWords(u), "that name says nothing")
}

func TestCheckLengths_Broken(t *testing.T) {
	body := func(n int) string { return "{" + strings.Repeat("\n", n-1) + "}\n" }
	for name, c := range map[string]struct{ text, want string }{
		"a file at the limit":        {"package x\n" + strings.Repeat("//\n", mostLines-1), ""},
		"a file above the limit":     {"package x\n" + strings.Repeat("//\n", mostLines), "501 lines"},
		"a function at the limit":    {"package x\nfunc f() " + body(mostFunctions), ""},
		"a function above the limit": {"package x\nfunc f() " + body(mostFunctions+1), "f has 81 lines"},
		"a literal above the limit":  {"package x\nvar f = func() " + body(mostFunctions+1), "a function literal has 81 lines"},
	} {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", c.text, 0)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, name, checkLengths(source{"x.go", set, file}), c.want)
	}
}

// snippet is a package x of one file, type-checked against what the module uses.
func snippet(t *testing.T, path, text string) unit {
	t.Helper()
	load(t)
	file, err := parser.ParseFile(house.set, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	u := unit{name: "x", internal: true, set: house.set, files: []*ast.File{file}}
	if u.info, err = typeCheck("x", house.set, u.files, house.from); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for _, i := range file.Imports {
		u.imports = append(u.imports, strings.Trim(i.Path.Value, `"`))
	}
	return u
}

// expect wants one complaint that contains want, or none where want is empty.
func expect(t *testing.T, what string, complaints []string, want string) {
	t.Helper()
	all := strings.Join(complaints, "; ")
	if want == "" && all != "" || !strings.Contains(all, want) {
		t.Errorf("%s: complaints %q, wanted %q", what, all, want)
	}
}
