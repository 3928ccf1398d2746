//go:build mutations

package mutations

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A verdict holds as long as everything that it was made of: the mutation, the
// test's package with all of this module that it stands on, the C parts, the
// versions of other modules and of the compilers, and the code that judges. One
// that was given before, of exactly that, is not asked for again. MUTATIONS=all
// asks for every one.
type proven struct {
	folder string // of verdicts, by digest; "" for none
	common []byte
	of     map[string][]byte // by package
}

const module = "sallyport/"

// forgetAfter is when a verdict that nobody needed goes.
const forgetAfter = 30 * 24 * time.Hour

func newProven(t *testing.T, root string, list []Mutation) *proven {
	t.Helper()
	p := &proven{of: map[string][]byte{}}
	cache, err := os.UserCacheDir()
	if err != nil || os.Getenv("MUTATIONS") == "all" {
		return p
	}
	if p.folder = filepath.Join(cache, "sallyport-mutations"); os.MkdirAll(p.folder, 0o700) != nil {
		p.folder = ""
		return p
	}
	p.sweep()
	h := sha256.New()
	compiler, _ := exec.Command("cc", "--version").Output()
	fmt.Fprintf(h, "%s %s %s\n%s\n", runtime.Version(), runtime.GOARCH, os.Getenv("GOFLAGS"), compiler)
	for _, path := range []string{"go.mod", "go.sum", "shim", "test/mutations"} {
		digest(t, h, root, path)
	}
	p.common = h.Sum(nil)
	p.packages(t, root, list)
	return p
}

// packages digests what each test is built of, folder by folder.
func (p *proven) packages(t *testing.T, root string, list []Mutation) {
	t.Helper()
	args := []string{"list", "-test", "-f", `{{.ForTest}} {{join .Deps " "}}`}
	for _, m := range list {
		if m.Package != Shim && !slices.Contains(args, m.Package) {
			args = append(args, m.Package)
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	stands := map[string]map[string]bool{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(words[0], module) {
			continue
		}
		own := "./" + strings.TrimPrefix(words[0], module)
		if stands[own] == nil {
			stands[own] = map[string]bool{own: true}
		}
		for _, w := range words {
			if path, ours := strings.CutPrefix(strings.TrimSuffix(w, ".test"), module); ours {
				stands[own]["./"+strings.TrimSuffix(path, "_test")] = true
			}
		}
	}
	for own, folders := range stands {
		h := sha256.New()
		for _, folder := range slices.Sorted(func(yield func(string) bool) {
			for f := range folders {
				if !yield(f) {
					return
				}
			}
		}) {
			if _, err := os.Stat(filepath.Join(root, folder)); err == nil {
				digest(t, h, root, folder)
			}
		}
		p.of[own] = h.Sum(nil)
	}
}

// digest adds a file, or a folder with what is below it and no package of its own.
func digest(t *testing.T, h io.Writer, root, path string) {
	t.Helper()
	top := filepath.Join(root, path)
	err := filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			code, _ := filepath.Glob(filepath.Join(file, "*.go"))
			if file != top && len(code) > 0 || d.Name() == "out" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasPrefix(file, filepath.Join(root, "test/mutations/list.txt")) {
			return nil // each mutation's own words are in its name
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		rel, err := filepath.Rel(root, file)
		fmt.Fprintf(h, "%s %x\n", rel, sum)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// place is where the verdict about a mutation is kept; "" where none may be.
func (p *proven) place(m Mutation) string {
	rest, known := p.of[m.Package]
	if p.folder == "" || !known && m.Package != Shim {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %x %x", fmt.Sprint(m), p.common, rest))
	return filepath.Join(p.folder, hex.EncodeToString(sum[:]))
}

// has reports whether the verdict was given before.
func (p *proven) has(m Mutation) bool {
	place := p.place(m)
	return place != "" && os.Chtimes(place, time.Time{}, time.Now()) == nil
}

func (p *proven) keep(t *testing.T, m Mutation) {
	if place := p.place(m); place != "" && !t.Failed() {
		if err := os.WriteFile(place, []byte(m.Name+"\n"), 0o600); err != nil {
			t.Log(err)
		}
	}
}

func (p *proven) sweep() {
	files, _ := os.ReadDir(p.folder)
	for _, f := range files {
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > forgetAfter {
			_ = os.Remove(filepath.Join(p.folder, f.Name()))
		}
	}
}
