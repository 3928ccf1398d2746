package internal_test

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHouse_LawIsLawful: a line of house.txt names only packages above it, so
// that a circle cannot be written.
func TestHouse_LawIsLawful(t *testing.T) {
	_, complaints := readLaw(t)
	report(t, complaints)
}

// TestHouse_ImportsAreTheListedOnes compares the law with the code.
func TestHouse_ImportsAreTheListedOnes(t *testing.T) {
	law, _ := readLaw(t)
	report(t, checkImports(law, load(t)))
}

// TestHouse_WordsAndDomainsArePure: no clock, no randomness, no input or output
// of their own.
func TestHouse_WordsAndDomainsArePure(t *testing.T) {
	n := 0
	for _, u := range load(t) {
		if pure(u.name) {
			n++
			report(t, checkPure(u))
		}
	}
	if n < 10 {
		t.Fatalf("only %d packages are words or domains", n)
	}
}

// TestHouse_ProgramsStaySmall: what runs on machines and on laptops carries no
// store, no signing keys and no server.
func TestHouse_ProgramsStaySmall(t *testing.T) {
	report(t, checkPrograms(load(t)))
}

// TestHouse_EveryPackageSaysWhatItOwns: a doc.go with the package's comment, a
// name that says something, and a comment on each exported name.
func TestHouse_EveryPackageSaysWhatItOwns(t *testing.T) {
	for _, u := range load(t) {
		report(t, checkWords(u))
	}
}

// TestHouse_NothingHappensBehindTheScenes: no init function, no cgo, no package
// variable that changes.
func TestHouse_NothingHappensBehindTheScenes(t *testing.T) {
	for _, u := range load(t) {
		report(t, checkState(u))
	}
}

// TestHouse_FilesAndFunctionsAreShort reads every Go file, those with build
// constraints and tests too.
func TestHouse_FilesAndFunctionsAreShort(t *testing.T) {
	files := sources(t)
	if len(files) < 200 {
		t.Fatalf("only %d files were found", len(files))
	}
	for _, f := range files {
		report(t, checkLengths(f))
	}
}

func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// law is house.txt: packages in order, each with what it imports of ours.
type law struct {
	order   []string
	imports map[string][]string
}

func readLaw(t *testing.T) (law, []string) {
	t.Helper()
	f, err := os.Open("house.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, complaints := parseLaw(f)
	if len(l.order) == 0 {
		t.Fatal("house.txt names no package")
	}
	return l, complaints
}

func parseLaw(r io.Reader) (law, []string) {
	l := law{imports: map[string][]string{}}
	var complaints []string
	s := bufio.NewScanner(r)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok || l.imports[name] != nil {
			complaints = append(complaints, "house.txt: "+line+": not one line for one package")
			continue
		}
		l.imports[name] = append([]string{}, strings.Fields(rest)...)
		for _, dep := range l.imports[name] {
			if !slices.Contains(l.order, dep) {
				complaints = append(complaints, "house.txt: "+name+" imports "+dep+", which is not above it")
			}
		}
		l.order = append(l.order, name)
	}
	if err := s.Err(); err != nil {
		complaints = append(complaints, "house.txt: "+err.Error())
	}
	return l, complaints
}

func checkImports(l law, units []unit) []string {
	var complaints []string
	complain := func(words ...string) { complaints = append(complaints, strings.Join(words, " ")) }
	seen := map[string]bool{}
	for _, u := range units {
		for _, imp := range u.imports {
			if dep, ok := strings.CutPrefix(imp, prefix); ok && strings.HasSuffix(dep, "test") {
				complain(u.name, "imports the test-only package", dep)
			}
		}
		if !u.internal {
			continue
		}
		seen[u.name] = true
		want, ok := l.imports[u.name]
		if !ok {
			complain("package", u.name, "has no line in house.txt")
			continue
		}
		var have []string
		for _, imp := range u.imports {
			if dep, ok := strings.CutPrefix(imp, prefix); ok {
				have = append(have, dep)
				if !slices.Contains(want, dep) {
					complain(u.name, "imports", dep, "which house.txt does not list")
				}
			}
		}
		for _, dep := range want {
			if !slices.Contains(have, dep) {
				complain("house.txt lists", dep, "for", u.name, "which does not import it")
			}
		}
	}
	for _, name := range l.order {
		if !seen[name] {
			complain("house.txt names", name, "which does not exist")
		}
	}
	return complaints
}

// checkPrograms: neither the agent nor the CLI contains a package of the server,
// the agent's root part and the signer speak no HTTP, no program contains
// another, and the module that needs cgo is the signer's alone.
func checkPrograms(units []unit) []string {
	const hardware = "github.com/miekg/pkcs11"
	server := []string{"store", "sshca", "oauth", "keystore", "server", "credential", "signin", "httpd", "conditional", "resource", "rbac"}
	sql := []string{"database/sql", "modernc.org/sqlite", hardware}
	var complaints []string
	for _, u := range units {
		if !u.internal {
			continue
		}
		var ours, others []string
		switch program := top(u.name); program {
		case "agent":
			ours, others = append([]string{"lab", "labwire", "cli"}, server...), sql
			if u.name == "agent/root" {
				others = append([]string{"net/http"}, sql...)
			}
		case "cli":
			ours, others = append([]string{"lab", "labwire", "agent"}, server...), sql
		case "lab":
			ours, others = append([]string{"agent", "cli"}, server...), sql
		case "server":
			ours, others = []string{"agent", "cli", "lab", "signer"}, []string{hardware}
		case "signer":
			ours, others = []string{"agent", "cli", "lab", "labwire", "store", "oauth", "server", "credential", "signin", "httpd", "resource", "rbac"}, append([]string{"net/http"}, sql[:2]...)
		default:
			ours, others = []string{"agent", "cli", "lab", "server", "signer"}, []string{hardware}
		}
		for _, dep := range u.deps {
			own, isOwn := strings.CutPrefix(dep, prefix)
			if isOwn && slices.Contains(ours, top(own)) || slices.Contains(others, dep) {
				complaints = append(complaints, u.name+" contains "+dep)
			}
		}
	}
	return complaints
}

func top(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

// pure are the words and domains. signin/upstream dials providers, so it is not
// one.
func pure(name string) bool {
	return name != "signin/upstream" && slices.Contains([]string{"fault", "guid", "scope", "route", "audit", "directory", "credential", "rbac",
		"conditional", "signin", "sshca", "oauth", "resource", "machine"}, top(name))
}
