package operations

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestSteps_Parse(t *testing.T) {
	const text = "# Title\n## One\n```console\n# install a \\\n    b\n$ sally x\nready\n  store ... ok\n\n# false\nexit status 1\n```\n" +
		"<!-- word: ADDRESS = cat /address -->\n<!-- computer: second -->\n## Two\n```json\n{\"a\": 1}\n```\n```console\n$ sally y --server ADDRESS\n```\n"
	steps, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Line: 4, Chapter: "One", Root: true, Command: "install a \\\n    b", Exit: "0"},
		{Line: 6, Chapter: "One", Command: "sally x", Expect: []string{"ready", "  store ... ok"}, Exit: "0"},
		{Line: 10, Chapter: "One", Root: true, Command: "false", Exit: "1"},
		{Line: 13, Chapter: "One", Root: true, Command: "cat /address", Exit: "0", Word: "ADDRESS"},
		{Line: 20, Chapter: "Two", Computer: "second", Command: "sally y --server ADDRESS", Exit: "0"},
	}
	if !slices.EqualFunc(steps, want, func(a, b Step) bool {
		same := slices.Equal(a.Expect, b.Expect)
		a.Expect, b.Expect = nil, nil
		return same && a.Line == b.Line && a.Chapter == b.Chapter && a.Computer == b.Computer && a.Root == b.Root && a.Command == b.Command && a.Exit == b.Exit && a.Word == b.Word
	}) {
		t.Fatalf("%+v", steps)
	}
	for name, wrong := range map[string]string{
		"indented":           "text\n\n    $ sally x\n",
		"no language":        "```\n# rm x\n```\n",
		"another language":   "```sh\n$ sally x\n```\n",
		"no end":             "```console\n$ sally x\n",
		"end in a command":   "```console\n$ sally x \\\n```\n",
		"output first":       "```console\nready\n```\n",
		"half a directive":   "<!-- word: address = x -->\n",
		"a block in a block": "```console\n$ sally x\n```console\n",
	} {
		if _, err := Parse(wrong); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestStep_Matches(t *testing.T) {
	s := Step{Expect: []string{"ready", "  store ... ok"}}
	if m := s.Matches("ready\n  clock 1\n  store    is ok\n"); m != "" {
		t.Error(m)
	}
	if m := s.Matches("  store ok\nready\n"); m != "store" {
		t.Errorf("the order does not matter: %q", m)
	}
}

// Every command of the documentation for operators stands where the runner
// finds it, and each chapter that the server's issue names has some.
func TestDocs_HaveStepsThatRun(t *testing.T) {
	for document, chapters := range map[string][]string{
		"operations.md": {"Install", "Configure", "Rotate keys", "Back up", "Restore", "Upgrade"},
		"how-to/recover-when-the-server-is-lost.md": {"What goes on", "Get in meanwhile", "Make another computer", "Confirm", "Without a backup"},
		"scale-out.md": {"PostgreSQL", "A new deployment", "Move a deployment", "A second server", "Rotate keys", "New build"},
	} {
		text, err := os.ReadFile("../../docs/" + document)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := Parse(string(text))
		if err != nil {
			t.Fatalf("docs/%s, %v", document, err)
		}
		for _, chapter := range chapters {
			if !slices.ContainsFunc(steps, func(s Step) bool { return strings.HasPrefix(s.Chapter, chapter) && s.Word == "" }) {
				t.Errorf("%s: the chapter %q has no step", document, chapter)
			}
		}
	}
}
