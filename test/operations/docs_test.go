//go:build e2e

package operations

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestDocs_OperationsRun runs every step of docs/operations.md in its order, on
// computers that have what a checkout has after `make build`, and nothing else
// of Sallyport.
func TestDocs_OperationsRun(t *testing.T) {
	follow(t, steps(t, "operations.md", ""))
}

// TestDocs_ScaleOutRun runs every step of docs/scale-out.md, for a reader who
// has installed a server as docs/operations.md says.
func TestDocs_ScaleOutRun(t *testing.T) {
	follow(t, append(steps(t, "operations.md", "Install"), steps(t, "scale-out.md", "")...))
}

// TestDocs_RecoverRun runs every step of the how-to for a lost server, with hosts
// that are machines.
func TestDocs_RecoverRun(t *testing.T) {
	follow(t, append(steps(t, "operations.md", "Install"), steps(t, "how-to/recover-when-the-server-is-lost.md", "")...))
}

// steps reads a document, or one chapter of it.
func steps(t *testing.T, document, chapter string) (list []Step) {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + document)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Parse(string(text))
	if err != nil {
		t.Fatalf("docs/%s: %v", document, err)
	}
	for _, s := range all {
		if s.Document = "docs/" + document; chapter == "" || s.Chapter == chapter {
			list = append(list, s)
		}
	}
	return list
}

// follow does what the documentation says.
func follow(t *testing.T, list []Step) {
	t.Helper()
	computers, words := map[string]*computer{}, map[string]string{}
	var first *computer
	stick := t.TempDir() // carried from one computer to the other
	for _, s := range list {
		c := computers[s.Computer]
		if c == nil {
			if strings.HasPrefix(s.Computer, "web-") {
				c = newHost(t, stick)
			} else {
				c = newComputer(t, stick)
			}
			if first == nil {
				first = c
			}
			c.wire(t, first, 1+len(computers))
			computers[s.Computer] = c
		}
		output, exit, err := c.run(s.Root, replace(s.Command, words))
		if missing := s.Matches(output); err != nil || strconv.Itoa(exit) != s.Exit || missing != "" {
			journal, _, _ := c.run(true, "journalctl --no-pager -n 30 -o cat")
			t.Fatalf("%s, line %d (%s)\n%s\nexit %d %v, wanted %s\nit does not print: %q\nit printed:\n%s\njournal:\n%s", s.Document, s.Line, s.Chapter, s.Command, exit, err, s.Exit, missing, output, journal)
		}
		if s.Word != "" {
			words[s.Word] = strings.TrimSpace(output)
		}
		t.Logf("%s, line %d: %s", s.Document, s.Line, s.Command)
	}
}

// replace puts in what the reader puts in for the words in capitals.
func replace(command string, words map[string]string) string {
	for word, meaning := range words {
		command = strings.ReplaceAll(command, word, meaning)
	}
	return command
}
