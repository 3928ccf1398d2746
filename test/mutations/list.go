package mutations

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Mutation is one guard and its absence.
type Mutation struct {
	Name  string
	CVEs  []string
	Edits []Edit
	// Package and Test name the test that must fail. Package is a path that go
	// test takes ("./internal/agent"), or "shim" and then Test is a program of
	// shim/Makefile.
	Package, Test string
}

// Edit replaces text that occurs once in a file.
type Edit struct {
	File, Old, New string
}

// Shim is the Package of a mutation whose test is a C program.
const Shim = "shim"

// Required are the advisories that must have a mutation each.
func Required() []string {
	return []string{
		"CVE-2020-8903", "CVE-2020-8907", "CVE-2020-8933", "CVE-2023-28436", "CVE-2024-7594", "CVE-2024-9312", "CVE-2024-9313",
		"CVE-2024-45337", "CVE-2025-5689", "CVE-2025-49012", "CVE-2025-49825", "CVE-2025-53013", "CVE-2025-54882", "CVE-2025-59044",
		"CVE-2026-26148", "CVE-2026-31979", "CVE-2026-34397", "CVE-2026-41070", "CVE-2026-45108", "CVE-2026-71543",
	}
}

// Parse reads a list. A mutation begins with "mutation NAME"; then follow "cve
// ID...", one or more groups of "file PATH", "- TEXT" and "+ TEXT" (an empty TEXT
// removes), and "test PACKAGE TEST" ends it. Lines that begin with # are comments.
func Parse(r io.Reader) ([]Mutation, error) {
	var list []Mutation
	var m *Mutation
	file, number := "", 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		number++
		word, rest, _ := strings.Cut(lines.Text(), " ")
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		if m == nil && word != "mutation" {
			return nil, fmt.Errorf("line %d: %q stands outside a mutation", number, word)
		}
		switch word {
		case "mutation":
			if m != nil {
				return nil, fmt.Errorf("line %d: the mutation %s has no test", number, m.Name)
			}
			m, file = &Mutation{Name: rest}, ""
		case "cve":
			m.CVEs = strings.Fields(rest)
		case "file":
			file = rest
		case "-":
			m.Edits = append(m.Edits, Edit{File: file, Old: rest})
		case "+":
			if len(m.Edits) == 0 || m.Edits[len(m.Edits)-1].New != "" {
				return nil, fmt.Errorf("line %d: nothing is replaced", number)
			}
			m.Edits[len(m.Edits)-1].New = rest
		case "test":
			m.Package, m.Test, _ = strings.Cut(rest, " ")
			if err := m.check(); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			list, m = append(list, *m), nil
		default:
			return nil, fmt.Errorf("line %d: %q means nothing", number, word)
		}
	}
	if m != nil {
		return nil, fmt.Errorf("the mutation %s has no test", m.Name)
	}
	return list, lines.Err()
}

func (m Mutation) check() error {
	if m.Name == "" || len(m.CVEs) == 0 || len(m.Edits) == 0 || m.Test == "" {
		return fmt.Errorf("the mutation %q lacks a name, an advisory, a change or a test", m.Name)
	}
	for _, e := range m.Edits {
		if e.File == "" || e.Old == "" || e.Old == e.New {
			return fmt.Errorf("the mutation %s changes nothing in %q", m.Name, e.File)
		}
	}
	if m.Package == Shim || strings.HasPrefix(m.Package, "./") {
		return nil
	}
	return fmt.Errorf("the mutation %s names no package: %q", m.Name, m.Package)
}

// Apply returns the text of a file with the edits of it.
func (m Mutation) Apply(file, text string) (string, error) {
	for _, e := range m.Edits {
		if e.File != file {
			continue
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return "", fmt.Errorf("%s: %q occurs %d times in %s, not once", m.Name, e.Old, n, file)
		}
		text = strings.Replace(text, e.Old, e.New, 1)
	}
	return text, nil
}

// Files lists the files that the mutation changes.
func (m Mutation) Files() []string {
	var files []string
	for _, e := range m.Edits {
		if len(files) == 0 || files[len(files)-1] != e.File {
			files = append(files, e.File)
		}
	}
	return files
}
