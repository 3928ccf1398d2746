package internal_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sallyport/internal/"

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
	CgoFiles   []string
}

func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,Imports,Deps,CgoFiles"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// house is the law: packages in order, each with what it imports of ours.
func house(t *testing.T) (order []string, imports map[string][]string) {
	t.Helper()
	f, err := os.Open("house.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imports = map[string][]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok || imports[name] != nil {
			t.Errorf("house.txt: %q", line)
		}
		order = append(order, name)
		imports[name] = append([]string{}, strings.Fields(rest)...)
		for _, dep := range imports[name] {
			if !slices.Contains(order[:len(order)-1], dep) {
				t.Errorf("house.txt: %s imports %s, which is not above it", name, dep)
			}
		}
	}
	return order, imports
}

// TestHouse_ImportsAreTheListedOnes compares the law with the code.
func TestHouse_ImportsAreTheListedOnes(t *testing.T) {
	order, listed := house(t)
	seen := map[string]bool{}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == p.ImportPath || len(p.GoFiles) == 0 {
			continue
		}
		seen[name] = true
		want, ok := listed[name]
		if !ok {
			t.Errorf("package %s has no line in house.txt", name)
			continue
		}
		var have []string
		for _, imp := range p.Imports {
			if dep, ok := strings.CutPrefix(imp, module); ok {
				have = append(have, dep)
				if !slices.Contains(want, dep) {
					t.Errorf("%s imports %s, which house.txt does not list", name, dep)
				}
				if strings.HasSuffix(dep, "test") {
					t.Errorf("%s imports the test-only package %s", name, dep)
				}
			}
		}
		for _, dep := range want {
			if !slices.Contains(have, dep) {
				t.Errorf("house.txt lists %s for %s, which does not import it", dep, name)
			}
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo", name)
		}
	}
	for _, name := range order {
		if !seen[name] {
			t.Errorf("house.txt names %s, which does not exist", name)
		}
	}
}

// pure are the words and domains: no clock, no randomness, no input or output
// of their own. signin/upstream dials, so it is not one.
func pure(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return name != "signin/upstream" && slices.Contains([]string{"fault", "scope", "route", "audit", "directory", "credential", "rbac", "conditional", "signin",
		"sshca", "oauth", "resource", "machine"}, top)
}

// TestHouse_WordsAndDomainsArePure reads every file of them.
func TestHouse_WordsAndDomainsArePure(t *testing.T) {
	banned := []string{"net/http", "database/sql", "os", "os/exec", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"}
	clocks := []string{"Now", "Since", "Until", "After", "Sleep", "Tick", "NewTimer", "NewTicker", "AfterFunc"}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if !pure(name) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(banned, imp) {
				t.Errorf("%s imports %s", name, imp)
			}
		}
		for _, file := range p.GoFiles {
			eachCall(t, filepath.Join(p.Dir, file), func(x, sel, at string) {
				if x == "time" && slices.Contains(clocks, sel) {
					t.Errorf("%s uses time.%s", at, sel)
				}
			})
		}
	}
}

func eachCall(t *testing.T, path string, visit func(x, sel, at string)) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Obj == nil {
			visit(x.Name, s.Sel.Name, set.Position(s.Pos()).String())
		}
		return true
	})
}

// TestHouse_ProgramsStaySmall: what runs on machines and on laptops carries no
// store, no signing keys and no server.
func TestHouse_ProgramsStaySmall(t *testing.T) {
	server := []string{"store", "sshca", "oauth", "oauth/token", "keystore", "server", "credential", "signin", "httpd"}
	for root, banned := range map[string][]string{
		"./agent/...":  append([]string{"database/sql", "modernc.org/sqlite"}, server...),
		"./cli/...":    append([]string{"database/sql", "modernc.org/sqlite"}, server...),
		"./agent/root": {"net/http"},
	} {
		for _, p := range goList(t, root) {
			for _, dep := range p.Deps {
				if slices.Contains(banned, strings.TrimPrefix(dep, module)) {
					t.Errorf("%s depends on %s", p.ImportPath, dep)
				}
			}
		}
	}
}

// TestHouse_EveryPackageSaysWhatItOwns: a doc.go each, and no init function, no
// mutable package variable.
func TestHouse_EveryPackageSaysWhatItOwns(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if len(p.GoFiles) == 0 {
			continue
		}
		if !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", p.ImportPath)
		}
		for _, word := range []string{"util", "common", "helper", "helpers", "manager", "misc"} {
			if filepath.Base(p.ImportPath) == word {
				t.Errorf("%s: that name says nothing", p.ImportPath)
			}
		}
		for _, file := range p.GoFiles {
			checkDeclarations(t, filepath.Join(p.Dir, file))
		}
	}
}

func checkDeclarations(t *testing.T, path string) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := set.Position(f.End()).Line; n > 500 {
		t.Errorf("%s has %d lines, more than 500", path, n)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			t.Errorf("%s: init function", set.Position(fn.Pos()))
		}
		if lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line; lines > 80 {
			t.Errorf("%s: %s has %d lines, more than 80", set.Position(fn.Pos()), fn.Name.Name, lines)
		}
	}
	reassigned(t, set, f)
}

// reassigned finds package variables that a function of the same file assigns.
func reassigned(t *testing.T, set *token.FileSet, f *ast.File) {
	t.Helper()
	vars := map[*ast.Object]bool{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			for _, n := range s.(*ast.ValueSpec).Names {
				vars[n.Obj] = true
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for _, l := range a.Lhs {
			if id, ok := l.(*ast.Ident); ok && id.Obj != nil && vars[id.Obj] {
				t.Errorf("%s: the package variable %s is changed", set.Position(id.Pos()), id.Name)
			}
		}
		return true
	})
}
