package internal_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
)

// checkPure: a domain gets time, randomness, storage and the network from
// outside, or it cannot be tested without them.
func checkPure(u unit) []string {
	banned := []string{"net/http", "database/sql", "os", "log", "math/rand", "crypto/rand"}
	clock := []string{"Now", "Since", "Until", "After", "Sleep", "Tick", "NewTimer", "NewTicker", "AfterFunc"}
	var complaints []string
	for _, imp := range u.imports {
		for _, b := range banned {
			if imp == b || strings.HasPrefix(imp, b+"/") {
				complaints = append(complaints, u.name+" imports "+imp)
			}
		}
	}
	for id, obj := range u.info.Uses {
		f, ok := obj.(*types.Func)
		if !ok || f.Pkg() == nil || f.Signature().Recv() != nil {
			continue
		}
		n := f.Name()
		dials := strings.HasPrefix(n, "Dial") || strings.HasPrefix(n, "Listen") || strings.HasPrefix(n, "Lookup") || strings.HasPrefix(n, "Resolve")
		if path := f.Pkg().Path(); path == "time" && slices.Contains(clock, n) || path == "net" && dials {
			complaints = append(complaints, fmt.Sprintf("%s uses %s.%s", u.set.Position(id.Pos()), path, n))
		}
	}
	return complaints
}

// checkWords: packages and exported names say what they are for. A package of
// the house says it in doc.go, a program where it begins.
func checkWords(u unit) []string {
	var complaints []string
	documented := false
	for _, f := range u.files {
		path := u.set.Position(f.Package).Filename
		if f.Doc != nil && (filepath.Base(path) == "doc.go" || !u.internal) {
			documented = true
		} else if f.Doc != nil {
			complaints = append(complaints, path+": the package's comment belongs into doc.go")
		}
		for _, d := range f.Decls {
			complaints = append(complaints, undocumented(u.set, d)...)
		}
	}
	if !documented {
		complaints = append(complaints, u.name+" has no doc.go with a comment")
	}
	if base := filepath.Base(u.name); slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "manager", "misc"}, base) {
		complaints = append(complaints, u.name+": that name says nothing")
	}
	return complaints
}

// undocumented lists exported names of a declaration that no comment explains.
// A method may be without one: its interface or its type explains it.
func undocumented(set *token.FileSet, d ast.Decl) []string {
	var names []*ast.Ident
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Doc == nil {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		if d.Doc != nil {
			return nil
		}
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				if s.Doc == nil && s.Comment == nil {
					names = append(names, s.Names...)
				}
			}
		}
	}
	var complaints []string
	for _, n := range names {
		if n.IsExported() {
			complaints = append(complaints, fmt.Sprintf("%s: %s has no comment", set.Position(n.Pos()), n.Name))
		}
	}
	return complaints
}

const (
	mostLines     = 500
	mostFunctions = 80
)

// checkLengths: a file is read at one sitting, a function on one screen or two.
func checkLengths(s source) []string {
	var complaints []string
	if n := s.set.Position(s.file.FileEnd).Line; n > mostLines {
		complaints = append(complaints, fmt.Sprintf("%s has %d lines, more than %d", s.path, n, mostLines))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		name := ""
		switch n := n.(type) {
		case *ast.FuncDecl:
			name = n.Name.Name
		case *ast.FuncLit:
			name = "a function literal"
		default:
			return true
		}
		if lines := s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1; lines > mostFunctions {
			complaints = append(complaints, fmt.Sprintf("%s: %s has %d lines, more than %d", s.set.Position(n.Pos()), name, lines, mostFunctions))
		}
		return true
	})
	return complaints
}

// checkState: no init, no cgo, and nothing of package scope that anything can
// change, in this package or in another one.
func checkState(u unit) []string {
	c := stateCheck{u: u}
	if u.cgo {
		c.complain(u.files[0], "uses cgo")
	}
	for _, f := range u.files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					c.complain(d, "init function")
				}
			case *ast.GenDecl:
				c.declared(d)
			}
		}
		ast.Inspect(f, c.visit)
	}
	return c.complaints
}

type stateCheck struct {
	u          unit
	complaints []string
}

func (c *stateCheck) complain(at ast.Node, format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Sprintf("%s: %s", c.u.set.Position(at.Pos()), fmt.Sprintf(format, args...)))
}

// declared refuses variables that exist only to be changed.
func (c *stateCheck) declared(d *ast.GenDecl) {
	if d.Tok != token.VAR {
		return
	}
	for _, s := range d.Specs {
		for _, n := range s.(*ast.ValueSpec).Names {
			if v, ok := c.u.info.Defs[n].(*types.Var); ok && changes(v.Type(), 0) {
				c.complain(n, "the package variable %s is of the kind that changes, %s", n.Name, v.Type())
			}
		}
	}
}

// changes reports whether a type is, or holds, a lock, an atomic value or a
// channel.
func changes(t types.Type, depth int) bool {
	if depth > 4 {
		return false
	}
	if n, ok := t.(*types.Named); ok && n.Obj().Pkg() != nil {
		if path := n.Obj().Pkg().Path(); path == "sync" || path == "sync/atomic" {
			return true
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Chan:
		return true
	case *types.Pointer:
		n, ours := u.Elem().(*types.Named)
		if ours && n.Obj().Pkg() != nil && !strings.HasPrefix(n.Obj().Pkg().Path(), module) && !strings.HasPrefix(n.Obj().Pkg().Path(), "sync") {
			return false // regexp.Regexp, template.Template: locks of their own, inside
		}
		return changes(u.Elem(), depth+1)
	case *types.Struct:
		for i := range u.NumFields() {
			if changes(u.Field(i).Type(), depth+1) {
				return true
			}
		}
	}
	return false
}

// visit finds what changes a package variable.
func (c *stateCheck) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for _, l := range n.Lhs {
			c.written(l)
		}
	case *ast.IncDecStmt:
		c.written(n.X)
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			c.written(n.Key)
			c.written(n.Value)
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			c.written(n.X)
		}
	case *ast.SliceExpr:
		if _, array := c.u.info.Types[n.X].Type.Underlying().(*types.Array); array {
			c.written(n.X) // a slice of it is a way to write to it
		}
	case *ast.SendStmt:
		c.written(n.Chan)
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 {
			if b, ok := c.u.info.Uses[id].(*types.Builtin); ok && slices.Contains([]string{"delete", "clear", "copy"}, b.Name()) {
				c.written(n.Args[0])
			}
		}
	case *ast.SelectorExpr:
		c.method(n)
	}
	return true
}

// method: calling a pointer's method on a variable takes its address.
func (c *stateCheck) method(s *ast.SelectorExpr) {
	sel := c.u.info.Selections[s]
	if sel == nil || sel.Kind() != types.MethodVal {
		return
	}
	_, takes := sel.Obj().(*types.Func).Signature().Recv().Type().(*types.Pointer)
	if _, has := sel.Recv().(*types.Pointer); takes && !has {
		c.written(s.X)
	}
}

// written complains when an expression is a package variable or a part of one.
func (c *stateCheck) written(e ast.Expr) {
	for e != nil {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SelectorExpr:
			if v, ok := c.u.info.Uses[x.Sel].(*types.Var); ok && !v.IsField() {
				e = x.Sel
				continue
			}
			e = x.X
		case *ast.Ident:
			if v, ok := c.u.info.Uses[x].(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				c.complain(x, "the package variable %s is changed", v.Name())
			}
			return
		default:
			return
		}
	}
}
