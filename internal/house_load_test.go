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
	"slices"
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

// loadAll reads with the tag pkcs11 the one program that needs cgo, by a module
// that it imports, and then everything else without cgo, as it is built.
func (l *loaded) loadAll() error {
	l.set = token.NewFileSet()
	list, err := goList("CGO_ENABLED=1", "-tags=pkcs11", "./internal/signer/...", "./cmd/sally-signer")
	if err != nil {
		return err
	}
	if _, err := l.add(list, "signer", "cmd/sally-signer"); err != nil {
		return err
	}
	if list, err = goList("CGO_ENABLED=0", "./..."); err != nil {
		return err
	}
	l.from, err = l.add(list, "")
	return err
}

// add type-checks our packages from source, those that are not there yet, and
// takes all others from what the compiler exported, so that the rules know what
// a name really means. Of ours, those below the given names are meant.
func (l *loaded) add(list []listed, below ...string) (types.Importer, error) {
	exports, known := map[string]string{}, map[string]bool{}
	for _, u := range l.units {
		known[u.name] = true
	}
	for _, p := range list {
		exports[p.ImportPath] = p.Export
	}
	from := importer.ForCompiler(l.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range list {
		short := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, prefix), module)
		if !strings.HasPrefix(p.ImportPath, module) || len(p.GoFiles)+len(p.CgoFiles) == 0 || known[short] {
			continue
		}
		if !slices.ContainsFunc(below, func(b string) bool { return strings.HasPrefix(short, b) }) {
			continue
		}
		name, inside := strings.CutPrefix(p.ImportPath, prefix)
		u := unit{name: strings.TrimPrefix(name, module), internal: inside, imports: p.Imports, deps: p.Deps, set: l.set, cgo: len(p.CgoFiles) > 0}
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(l.set, filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			u.files = append(u.files, file)
		}
		var err error
		if u.info, err = typeCheck(p.ImportPath, l.set, u.files, from); err != nil {
			return nil, err
		}
		l.units = append(l.units, u)
	}
	return from, nil
}

func typeCheck(path string, set *token.FileSet, files []*ast.File, from types.Importer) (*types.Info, error) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}}
	_, err := (&types.Config{Importer: from}).Check(path, set, files, info)
	return info, err
}

func goList(environment string, words ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Imports,Deps,Standard"}, words...)...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), environment)
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
