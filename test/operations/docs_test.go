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
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	computers, words := map[string]*computer{}, map[string]string{}
	for _, s := range steps {
		c := computers[s.Computer]
		if c == nil {
			c = newComputer(t)
			computers[s.Computer] = c
		}
		output, exit, err := c.run(s.Root, replace(s.Command, words))
		if missing := s.Matches(output); err != nil || strconv.Itoa(exit) != s.Exit || missing != "" {
			journal, _, _ := c.run(true, "journalctl --no-pager -n 30 -o cat")
			t.Fatalf("docs/operations.md, line %d (%s)\n%s\nexit %d %v, wanted %s\nit does not print: %q\nit printed:\n%s\njournal:\n%s", s.Line, s.Chapter, s.Command, exit, err, s.Exit, missing, output, journal)
		}
		if s.Word != "" {
			words[s.Word] = strings.TrimSpace(output)
		}
		t.Logf("line %d: %s", s.Line, s.Command)
	}
}

// replace puts in what the reader puts in for the words in capitals.
func replace(command string, words map[string]string) string {
	for word, meaning := range words {
		command = strings.ReplaceAll(command, word, meaning)
	}
	return command
}
