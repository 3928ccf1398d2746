//go:build mutations

package mutations

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMutations takes each guard out and runs the test that must notice. Two run
// at a time; what was proven before of the very same code is not run again.
func TestMutations(t *testing.T) {
	root, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	all := list(t)
	before, known := newProven(t, root, all), 0
	// One package after the other: what a test stands on is then built once.
	slices.SortStableFunc(all, func(a, b Mutation) int { return strings.Compare(a.Package, b.Package) })
	for _, m := range all {
		if before.has(m) {
			known++
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			if m.Package == Shim {
				runProgram(t, root, m)
			} else {
				runTest(t, root, m)
			}
			before.keep(t, m)
		})
	}
	t.Logf("%d guards; %d were taken out before, with the same code, tests and tools", len(all), known)
}

// runTest runs a Go test with an overlay. Where the guard is in C, the test's
// own path to the C code leads to a copy.
func runTest(t *testing.T, root string, m Mutation) {
	dir := t.TempDir()
	replace := map[string]string{}
	put := func(file, text string) {
		fresh := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		write(t, fresh, text)
		replace[filepath.Join(root, file)] = fresh
	}
	for _, file := range m.Files() {
		if strings.HasPrefix(file, "shim/") {
			continue
		}
		text, err := m.Apply(file, read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		put(file, text)
	}
	if len(replace) < len(m.Files()) {
		const tests, path = "internal/agent/shim/module_test.go", `const cDir = "../../../shim"`
		text := read(t, tests)
		if strings.Count(text, path) != 1 {
			t.Fatalf("%s does not say %s", tests, path)
		}
		put(tests, strings.Replace(text, path, `const cDir = "`+copyShim(t, root, m)+`"`, 1))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	cmd := exec.Command("go", "test", "-vet=off", "-ldflags=-s -w", "-count=1", "-timeout", "300s", "-overlay", filepath.Join(dir, "overlay.json"), "-run", "^"+m.Test+"$", m.Package)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the suite runs them
	judge(t, m, root, cmd, "--- FAIL: "+m.Test)
}

// runProgram builds a test program of the C parts in a copy and runs it; the check
// of symbols is a script.
func runProgram(t *testing.T, root string, m Mutation) {
	dir := copyShim(t, root, m)
	if m.Test == "check-symbols" {
		judge(t, m, dir, exec.Command("make", m.Test), "which is not listed")
		return
	}
	build := exec.Command("make", "-C", dir, "out/test/"+m.Test)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not build, so it proves nothing: %v\n%s", err, out)
	}
	arguments := map[string][]string{"unit": {"test/vectors"}, "threads": {"test/vectors/basic.db", "200"}}[m.Test]
	if arguments == nil {
		arguments = []string{"test/vectors/basic.db"}
	}
	judge(t, m, dir, exec.Command("out/test/"+m.Test, arguments...), "FAIL ")
}

func copyShim(t *testing.T, root string, m Mutation) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shim")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "shim"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, file := range m.Files() {
		text, err := m.Apply(file, read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, strings.TrimPrefix(file, "shim/")), text)
	}
	return dir
}

// judge demands a verdict of the test itself: not a success, and not a failure to
// build or to start.
func judge(t *testing.T, m Mutation, dir string, cmd *exec.Cmd, verdict string) {
	t.Helper()
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		t.Errorf("%s (%s) is gone, and %s passes:\n%s", m.Name, strings.Join(m.CVEs, ", "), m.Test, out)
	case !errors.As(err, &exit) || !strings.Contains(string(out), verdict):
		t.Errorf("%s: %s gave no verdict: %v\n%s", m.Name, m.Test, err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
