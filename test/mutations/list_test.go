package mutations

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const checkout = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(checkout, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func list(t *testing.T) []Mutation {
	t.Helper()
	l, err := Parse(strings.NewReader(read(t, "test/mutations/list.txt")))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tests maps the name of each test function to the folders that have one.
func tests(t *testing.T) map[string][]string {
	t.Helper()
	named := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	found := map[string][]string{}
	for _, top := range []string{"internal", "test", "cmd"} {
		err := filepath.WalkDir(filepath.Join(checkout, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(checkout, filepath.Dir(path))
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

// TestList_FitsTheCode: each guard is still there, once, and so is its test.
func TestList_FitsTheCode(t *testing.T) {
	known, names := tests(t), map[string]bool{}
	for _, m := range list(t) {
		if names[m.Name] {
			t.Errorf("%s is listed twice", m.Name)
		}
		names[m.Name] = true
		for _, file := range m.Files() {
			if _, err := m.Apply(file, read(t, file)); err != nil {
				t.Error(err)
			}
		}
		if m.Package != Shim && !slices.Contains(known[m.Test], m.Package) {
			t.Errorf("%s: there is no test %s in %s", m.Name, m.Test, m.Package)
		}
		if m.Package == Shim && !strings.Contains(read(t, "shim/Makefile"), "$(T)/"+m.Test+":") {
			t.Errorf("%s: shim/Makefile builds no test program %s", m.Name, m.Test)
		}
	}
}

// TestList_CoversTheAdvisories: each of Required has a mutation, a test that bears
// its name, and a line in the threat model.
func TestList_CoversTheAdvisories(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range list(t) {
		for _, c := range m.CVEs {
			covered[c] = true
		}
	}
	known, model := tests(t), read(t, "docs/threat-model.md")
	for _, c := range Required() {
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

// TestThreatModel_NamesTestsThatExist: a test that the threat model relies on has
// not gone, nor changed its name.
func TestThreatModel_NamesTestsThatExist(t *testing.T) {
	known := tests(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]+)")
	for _, m := range named.FindAllStringSubmatch(read(t, "docs/threat-model.md"), -1) {
		if known[m[1]] == nil {
			t.Errorf("docs/threat-model.md names %s, which does not exist", m[1])
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	good := "mutation a\ncve CVE-1\nfile f\n- x\n+ y\ntest ./p TestX\n"
	if l, err := Parse(strings.NewReader("# words\n\n" + good + good)); err != nil || len(l) != 2 || l[0].Edits[0] != (Edit{"f", "x", "y"}) {
		t.Fatalf("%v %v", l, err)
	}
	for name, text := range map[string]string{
		"no beginning": "cve CVE-1\n", "no end": "mutation a\ncve CVE-1\n", "no test": "mutation a\nmutation b\n", "no advisory": strings.Replace(good, "cve CVE-1\n", "", 1),
		"no file": strings.Replace(good, "file f\n", "", 1), "no change": strings.Replace(good, "+ y", "+ x", 1), "no package": strings.Replace(good, "./p ", "p ", 1),
		"unknown word": "mutation a\nwhat\n", "new without old": "mutation a\n+ y\n",
	} {
		if l, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}
