package shim

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOurs_Vectors(t *testing.T) {
	file, err := os.Open(filepath.Join(vectorsDir, "names.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	domains, count := []string{"example.com", "lab.example"}, 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		want, name, ok := strings.Cut(lines.Text(), " ")
		if !ok || want == "#" {
			continue
		}
		count++
		if Ours(name, domains) != (want == "ours") {
			t.Errorf("%q must be %q", name, want)
		}
	}
	if count < 40 {
		t.Fatalf("only %d vectors", count)
	}
}

// CVE-2026-31957 (Himmelblau): an unset domain let any tenant in.
func TestOurs_NoDomainMeansNobody(t *testing.T) {
	if Ours("alice@example.com", nil) || Ours("alice@", []string{""}) || Ours("", nil) {
		t.Fatal("a UPN is ours without a domain")
	}
}
