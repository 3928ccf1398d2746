package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	module = "sallyport/"
	prefix = module + "internal/"
)

// unit is one package as the rules see it: without its tests.
type unit struct {
	name     string // without the prefix: "rbac", "cmd/sally"
	internal bool   // below internal/, so house.txt has a line for it
	imports  []string
	deps     []string
	files    []*ast.File
	set      *token.FileSet
	info     *types.Info
	cgo      bool
}

// source is one Go file, whatever its build constraints.
type source struct {
	path string
	set  *token.FileSet
	file *ast.File
}

type listed struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
	Imports, Deps           []string
	Standard                bool
}

// loaded reads the module once for all tests of this package.
type loaded struct {
	once  sync.Once
	units []unit
	set   *token.FileSet
	from  types.Importer // everything that the module depends on, as compiled
	err   error
}

func load(t *testing.T) []unit {
	t.Helper()
	house.once.Do(func() { house.err = house.loadAll() })
	if house.err != nil {
		t.Fatal(house.err)
	}
	return house.units
}

var house loaded

// loadAll type-checks our packages from source and takes all others from what
// the compiler exported, so that the rules know what a name really means.
func (l *loaded) loadAll() error {
	list, err := goList()
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, p := range list {
		exports[p.ImportPath] = p.Export
	}
	l.set = token.NewFileSet()
	l.from = importer.ForCompiler(l.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range list {
		if !strings.HasPrefix(p.ImportPath, module) || len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue
		}
		name, inside := strings.CutPrefix(p.ImportPath, prefix)
		u := unit{name: strings.TrimPrefix(name, module), internal: inside, imports: p.Imports, deps: p.Deps, set: l.set, cgo: len(p.CgoFiles) > 0}
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(l.set, filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			u.files = append(u.files, file)
		}
		if u.info, err = typeCheck(p.ImportPath, l.set, u.files, l.from); err != nil {
			return err
		}
		l.units = append(l.units, u)
	}
	return nil
}

func typeCheck(path string, set *token.FileSet, files []*ast.File, from types.Importer) (*types.Info, error) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}}
	_, err := (&types.Config{Importer: from}).Check(path, set, files, info)
	return info, err
}

func goList() ([]listed, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Imports,Deps,Standard", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, errors.New("go list: " + string(exit.Stderr))
		}
		return nil, err
	}
	var list []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
}

// sources parses every Go file of ours. Reading the folders here also tells the
// test cache what this package's result depends on.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, root := range []string{"../cmd", ".", "../test"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			all = append(all, source{path, set, file})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
