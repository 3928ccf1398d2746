package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/test/mutations"
)

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// guards are those of test/mutations/list.txt, which `make mutations` takes out.
func guards(t *testing.T) []mutations.Mutation {
	t.Helper()
	l, err := mutations.Parse(strings.NewReader(text(t, "test/mutations/list.txt")))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// testNames maps the name of each test function to the folders that have one.
func testNames(t *testing.T) map[string][]string {
	t.Helper()
	named := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	found := map[string][]string{}
	for _, top := range []string{"internal", "test", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel("..", filepath.Dir(path))
			for _, m := range named.FindAllStringSubmatch(string(b), -1) {
				found[m[1]] = append(found[m[1]], "./"+dir)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestGuards_AreStillThere: each guard is still there, once, and so is its test.
func TestGuards_AreStillThere(t *testing.T) {
	known := testNames(t)
	for _, m := range guards(t) {
		for _, file := range m.Files() {
			if _, err := m.Apply(file, text(t, file)); err != nil {
				t.Error(err)
			}
		}
		if m.Package != mutations.Shim && !slices.Contains(known[m.Test], m.Package) {
			t.Errorf("%s: there is no test %s in %s", m.Name, m.Test, m.Package)
		}
		if makefile := text(t, "shim/Makefile"); m.Package == mutations.Shim && !strings.Contains(makefile, "$(T)/"+m.Test+":") && !strings.Contains(makefile, "\n"+m.Test+":") {
			t.Errorf("%s: shim/Makefile has no %s", m.Name, m.Test)
		}
	}
}

// TestGuards_CoverTheAdvisories: each of Required has a mutation, a test that bears
// its name, and a line in the threat model.
func TestGuards_CoverTheAdvisories(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range guards(t) {
		for _, c := range m.CVEs {
			covered[c] = true
		}
	}
	known, model := testNames(t), text(t, "docs/threat-model.md")
	for _, c := range mutations.Required() {
		if !covered[c] {
			t.Errorf("%s has no mutation", c)
		}
		if !strings.Contains(model, c) {
			t.Errorf("%s is not in docs/threat-model.md", c)
		}
		word, named := strings.ReplaceAll(c, "-", "_"), false
		for name := range known {
			named = named || strings.Contains(name+"_", word+"_")
		}
		if !named {
			t.Errorf("no test is named after %s", c)
		}
	}
}

// TestGuards_NamedTestsShowTheirGuard: a test that bears an advisory's name has a
// mutation of that advisory which it must notice. A test on whole machines is
// one more look at what a smaller one holds.
func TestGuards_NamedTestsShowTheirGuard(t *testing.T) {
	shown, covered := map[string]bool{}, map[string]bool{}
	for _, m := range guards(t) {
		for _, c := range m.CVEs {
			shown[c+" "+m.Test], covered[c] = true, true
		}
	}
	bears := regexp.MustCompile(`CVE_([0-9]{4})_([0-9]+)`)
	for name, folders := range testNames(t) {
		for _, n := range bears.FindAllStringSubmatch(name, -1) {
			advisory := "CVE-" + n[1] + "-" + n[2]
			whole := strings.HasPrefix(folders[0], "./test/")
			if !shown[advisory+" "+name] && !(whole && covered[advisory]) {
				t.Errorf("%s (%s) bears the name of %s, and test/mutations/list.txt has no mutation of it that this test must notice", name, folders[0], advisory)
			}
		}
	}
}

// TestThreatModel_NamesTestsThatExist: a test that the threat model relies on has
// not gone, nor changed its name.
func TestThreatModel_NamesTestsThatExist(t *testing.T) {
	known := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]+)")
	for _, m := range named.FindAllStringSubmatch(text(t, "docs/threat-model.md"), -1) {
		if known[m[1]] == nil {
			t.Errorf("docs/threat-model.md names %s, which does not exist", m[1])
		}
	}
}
