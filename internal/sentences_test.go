package internal_test

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
)

// met are the packages whose refusals people meet: who signs in, logs in, runs ssh
// through sally, joins a host, sets the extension, or manages machines, roles, people
// and applications. Each sentence of theirs stands on docs/troubleshooting.md, other
// than those of plain and malformed requests.
func met() []string {
	return []string{"agent", "agent/linklocal", "agent/pin", "agent/preflight", "agent/sshd", "cli", "cli/client", "cli/sshagent", "credential", "directory", "httpd", "httpd/arm", "httpd/graph", "httpd/operations", "httpd/signin", "keystore", "keystore/sshagent", "machine", "oauth", "rbac", "repository", "resource", "resource/types", "rollout", "server", "signin", "store"}
}

// ways are the packages of the reference, in its order. A package that begins to
// make faults is placed here.
func ways() []struct {
	title    string
	packages []string
} {
	return []struct {
		title    string
		packages []string
	}{
		{"The command line", []string{"cli", "cli/client", "cli/output", "cli/output/jmespath", "cli/sshagent"}},
		{"Signing in and tokens", []string{"signin", "httpd/signin", "httpd/oauth", "oauth", "credential", "sshca", "conditional"}},
		{"The machine and its agent", []string{"agent", "agent/upgrade", "agent/control", "agent/linklocal", "agent/pin", "agent/preflight", "agent/root", "agent/shim", "agent/sshd", "machine", "machine/protocol"}},
		{"Resource Manager", []string{"resource", "resource/template", "resource/types", "rbac", "scope", "httpd/arm"}},
		{"Microsoft Graph", []string{"directory", "httpd/graph"}},
		{"Every request", []string{"httpd", "httpd/operations", "address"}},
		{"The server and its keys", []string{"server", "rollout", "store", "keyring", "keystore", "keystore/sshagent", "signer", "signer/pkcs11", "backup", "repository", "collector", "audit", "audit/proof"}},
		{"The lab", []string{"lab", "labwire"}},
	}
}

// TestSentences_AreExplained: what people can be told stands on the page, word for
// word, and what begins to be said cannot be forgotten.
func TestSentences_AreExplained(t *testing.T) {
	page, without := handbooktest.Open(t), leftOut(t)
	used := map[string]int{}
	for _, s := range everySentence(load(t)) {
		if !slices.Contains(met(), s.pkg) || without.of(s) || explained(page, s) {
			continue
		}
		name := s.pkg + " " + s.code
		if used[name]++; used[name] > plain()[name] {
			t.Errorf("docs/troubleshooting.md does not have %s", s)
		}
	}
	for name, n := range plain() {
		if used[name] < n {
			t.Errorf("%s: %d sentences are excepted, and there are %d", name, n, used[name])
		}
	}
}

func explained(page handbooktest.Page, s sentence) bool {
	parts := strings.Split(holes.ReplaceAllString(s.text, hole), hole)
	var pattern *regexp.Regexp
	for _, p := range page {
		if slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(p.Text, part) }) {
			continue // a regular expression costs a thousand times as much
		}
		if pattern == nil {
			pattern = s.pattern()
		}
		if at := pattern.FindStringIndex(p.Text); at != nil && (at[1] == len(p.Text) || p.Text[at[1]] == ' ') {
			return true
		}
	}
	return false
}

// codes are those that the page leaves out, as it lists them.
type codes struct{ malformed, settings []string }

func leftOut(t *testing.T) (c codes) {
	t.Helper()
	text, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for mark, list := range map[string]*[]string{"<!-- malformed -->\n": &c.malformed, "<!-- settings -->\n": &c.settings} {
			if strings.HasSuffix(line, mark) {
				for _, m := range regexp.MustCompile("`([A-Z]\\w+)`").FindAllStringSubmatch(line, -1) {
					*list = append(*list, m[1])
				}
			}
		}
	}
	if len(c.malformed) < 10 || len(c.settings) < 10 {
		t.Fatal("docs/troubleshooting.md does not list the codes that it leaves out")
	}
	return c
}

// of reports whether a sentence is about a request that is wrong whatever the
// deployment holds, about a setting that can have no such value, of a command that
// an operator gives beside the server, or about a server that is broken. The rules
// of the directory have no such sentences; what others call invalid is a command
// line or a message.
func (c codes) of(s sentence) bool {
	if s.kind == "Internal" {
		return true
	}
	switch s.pkg {
	case "credential", "directory", "rbac", "repository":
		return false
	case "httpd/graph":
		return s.kind == "Invalid" && (strings.Contains(s.text, "See the Microsoft Graph documentation of ") || slices.Contains(c.malformed, s.code))
	case "httpd", "httpd/arm", "resource", "resource/types", "rollout":
		return s.kind == "Invalid" && slices.Contains(c.malformed, s.code)
	case "server", "store", "keystore", "keystore/sshagent":
		return s.kind == "Invalid" && slices.Contains(c.settings, s.code) || slices.Contains(operators(), s.pkg+"/"+filepath.Base(s.at.Filename))
	}
	return slices.Contains([]string{"Invalid", "Warning", "invalid_request", "invalid_scope", "invalid_resource", "unsupported_response_type", "unsupported_grant_type", "request_not_supported", "slow_down", "authorization_pending", "bad_verification_code"}, s.kind)
}

// operators are the files of the commands that an operator gives beside the server,
// and of what they change in it.
func operators() []string {
	return []string{"server/backup.go", "server/backupcommand.go", "server/migrate.go", "server/pending.go", "server/recover.go", "server/restore.go", "server/restorecommand.go", "server/review.go", "server/rotate.go",
		"server/signmanifest.go", "server/status.go", "keystore/rotate.go", "store/restore.go"}
}

// TestSentences_OfMachinesAreExplained: what machines say to people begins with our
// name, in Go as in C, and is on the page from there on; and so is what the scripts
// of packages say, and a warning on a page in the browser.
func TestSentences_OfMachinesAreExplained(t *testing.T) {
	page, n := handbooktest.Open(t), 0
	check := func(text, where string) {
		if !strings.HasPrefix(text, "Sallyport: ") && !strings.HasPrefix(text, "Azure role not assigned: ") || len(text) < 20 {
			return
		}
		n++
		if !explained(page, sentence{text: strings.TrimSpace(verb.ReplaceAllString(text, hole))}) {
			t.Errorf("docs/troubleshooting.md does not have %q of %s", text, where)
		}
	}
	for _, u := range load(t) {
		if u.name == "httpd" {
			continue // titles of pages
		}
		for _, f := range u.files {
			ast.Inspect(f, func(node ast.Node) bool {
				e, ok := node.(ast.Expr)
				if v := u.info.Types[e].Value; ok && v != nil {
					if text, err := strconv.Unquote(v.ExactString()); err == nil {
						check(text, u.set.Position(node.Pos()).String())
					}
					return false // a sum of constants is one
				}
				return true
			})
		}
	}
	source, err := os.ReadFile("../shim/pam/pam_sallyport.c")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range regexp.MustCompile(`"(Sallyport: (?:[^"]|"\s*")*)"`).FindAllStringSubmatch(string(source), -1) {
		check(regexp.MustCompile(`"\s*"`).ReplaceAllString(text[1], ""), "shim/pam/pam_sallyport.c")
	}
	form, err := os.ReadFile("../internal/httpd/signin/page.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range regexp.MustCompile(`role="alert">([^<{][^<]*)</p>`).FindAllStringSubmatch(string(form), -1) {
		n++
		if !explained(page, sentence{text: regexp.MustCompile(`{{[^}]*}}`).ReplaceAllString(text[1], hole)}) {
			t.Errorf("docs/troubleshooting.md does not have %q of page.html", text[1])
		}
	}
	scripts, err := filepath.Glob("../packaging/scripts/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		source, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range regexp.MustCompile(`(?m)^\s*echo "(.+)"`).FindAllStringSubmatch(string(source), -1) {
			n++
			if !explained(page, sentence{text: regexp.MustCompile(`\$\w+`).ReplaceAllString(text[1], hole)}) {
				t.Errorf("docs/troubleshooting.md does not have %q of %s", text[1], script)
			}
		}
	}
	if n < 30 {
		t.Fatalf("only %d sentences were found", n)
	}
}

// TestSentences_Reference: the last part of docs/troubleshooting.md is what the
// source says, apart from what the page explains.
func TestSentences_Reference(t *testing.T) {
	const file = "../docs/troubleshooting.md"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	explanations, _, ok := strings.Cut(string(have), handbooktest.RestBegins)
	if !ok {
		t.Fatalf("%s has no line %s", file, handbooktest.RestBegins)
	}
	want := explanations + handbooktest.RestBegins + reference(t)
	if os.Getenv("WRITE_DOCS") == "1" {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		have = []byte(want)
	}
	if string(have) != want {
		t.Fatalf("the last part of %s is not what is said; write it with: WRITE_DOCS=1 go test -run Sentences_Reference ./internal", file)
	}
}

func reference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	page := handbooktest.Open(t)
	rest := map[string][]sentence{}
	for _, s := range everySentence(load(t)) {
		if !explained(page, s) {
			rest[s.pkg] = append(rest[s.pkg], s)
		}
	}
	for _, way := range ways() {
		var lines []string
		for _, pkg := range way.packages {
			for _, s := range rest[pkg] {
				lines = append(lines, fmt.Sprintf("| %s | %s |\n", code(s), s.shown()))
			}
			delete(rest, pkg)
		}
		slices.Sort(lines)
		fmt.Fprintf(&b, "\n### %s\n\n| code | what is said |\n|---|---|\n%s", way.title, strings.Join(slices.Compact(lines), ""))
	}
	for pkg := range rest {
		t.Errorf("%s has no place on the page: add it to ways()", pkg)
	}
	return b.String()
}

func code(s sentence) string {
	if s.code == "" || s.code == hole {
		return ""
	}
	return "`" + strings.ReplaceAll(s.code, hole, "…") + "`"
}
