//go:build judge

package handbooktest

import (
	"flag"
	"os"
	"testing"
)

// TestPage_WasHeard judges a whole run, by its logs: go test -tags judge -run
// TestPage_WasHeard ./internal/handbooktest -args LOG...
func TestPage_WasHeard(t *testing.T) {
	page, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var logs []string
	for _, name := range flag.Args() {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, string(b))
	}
	unheard, all, err := Unheard(page, logs...)
	if err != nil || all == 0 {
		t.Fatalf("docs/troubleshooting.md: %d sentences, %v", all, err)
	}
	for _, one := range unheard {
		t.Errorf("no test has heard: %s", one)
	}
	if t.Failed() {
		t.Fatalf("%d of %d sentences were not heard. Bring each about in a test: what the tests of a package make it say is heard by itself (build tag heard);\n"+
			"what a program says, and what the page explains, is handed to Said(t, SAID, ID) or Known(t, SAID).", len(unheard), all)
	}
	t.Logf("%d sentences of docs/troubleshooting.md, each heard from a program", all)
}
