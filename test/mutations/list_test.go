package mutations

import (
	"os"
	"path/filepath"
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

// TestList_IsWhole: it can be read and has no name twice.
func TestList_IsWhole(t *testing.T) {
	names := map[string]bool{}
	for _, m := range list(t) {
		if names[m.Name] {
			t.Errorf("%s is listed twice", m.Name)
		}
		names[m.Name] = true
	}
}

func list(t *testing.T) []Mutation {
	t.Helper()
	l, err := Parse(strings.NewReader(read(t, "test/mutations/list.txt")))
	if err != nil {
		t.Fatal(err)
	}
	return l
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
