package handbooktest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Page is the handbook's sentences by their ids.
type Page map[string]Sentence

// Sentence is one sentence of the page, as it is shown.
type Sentence struct {
	ID   string
	Text string
	Line int // where it stands on the page
}

var (
	quote = regexp.MustCompile(`^> (.+?) <!-- ([A-Za-z0-9][A-Za-z0-9._-]*) -->$`)
	place = regexp.MustCompile(`\b[A-Z][A-Z]+\b`)
)

// Places are the words that stand for something else.
func Places() []string {
	return []string{"ACCOUNT", "ADDRESS", "APPLICATION", "CODE", "DOMAIN", "FILE", "GROUP", "MACHINE", "NAME", "NUMBER", "PRINCIPAL", "SCOPE", "TENANT", "TIME", "USER", "WAY", "WHAT", "WHO", "WHY"}
}

// Parse reads a page. Every quotation on it is a sentence and has an id.
func Parse(text string) (Page, error) {
	p := Page{}
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), ">") {
			continue
		}
		m := quote.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d: a sentence is written: > TEXT <!-- its-id -->", i+1)
		}
		if _, twice := p[m[2]]; twice {
			return nil, fmt.Errorf("line %d: there is an id %s already", i+1, m[2])
		}
		p[m[2]] = Sentence{ID: m[2], Text: m[1], Line: i + 1}
	}
	return p, nil
}

// Open reads docs/troubleshooting.md of the module that the test runs in.
func Open(t testing.TB) Page {
	t.Helper()
	p, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read() (Page, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "docs", "troubleshooting.md"))
		if err == nil {
			p, err := Parse(string(text))
			if err != nil {
				return nil, fmt.Errorf("docs/troubleshooting.md: %w", err)
			}
			return p, nil
		}
		if dir == filepath.Dir(dir) {
			return nil, errors.New("no folder above this test has docs/troubleshooting.md")
		}
	}
}

// Pattern is the sentence with its places, each of which stands for any text, on one
// line or several, except those that meanings (place, meaning, place, ...) fill.
func (s Sentence) Pattern(meanings ...string) string {
	fill := pairs(meanings)
	b, rest := strings.Builder{}, 0
	for _, at := range place.FindAllStringIndex(s.Text, -1) {
		word := s.Text[at[0]:at[1]]
		meaning, known := fill[word]
		if !known && !slices.Contains(Places(), word) {
			continue
		}
		b.WriteString(regexp.QuoteMeta(s.Text[rest:at[0]]))
		if known {
			b.WriteString(regexp.QuoteMeta(meaning))
		} else {
			b.WriteString("(?s:.+?)")
		}
		rest = at[1]
	}
	return b.String() + regexp.QuoteMeta(s.Text[rest:])
}

func pairs(meanings []string) map[string]string {
	fill := map[string]string{}
	for i := 0; i+1 < len(meanings); i += 2 {
		fill[meanings[i]] = meanings[i+1]
	}
	return fill
}

// In reports whether a text holds the sentence.
func (s Sentence) In(text string, meanings ...string) bool {
	return regexp.MustCompile(s.Pattern(meanings...)).MatchString(text)
}

// Said fails the test unless the text holds the sentence with this id, with the
// meanings (place, meaning, place, ...) in it.
func Said(t testing.TB, text, id string, meanings ...string) {
	t.Helper()
	s, ok := Open(t)[id]
	if !ok {
		t.Errorf("docs/troubleshooting.md has no sentence %q; what was said is:\n%s", id, text)
	} else if !s.In(text, meanings...) {
		t.Errorf("docs/troubleshooting.md, line %d, has another sentence (%s):\n%s\nsaid is:\n%s", s.Line, id, s.Text, text)
	}
}

// Text is the sentence with this id as it is said with these meanings, up to the
// first place that has none: what a test looks for that waits for a sentence.
func Text(t testing.TB, id string, meanings ...string) string {
	t.Helper()
	s, ok := Open(t)[id]
	if !ok {
		t.Fatalf("docs/troubleshooting.md has no sentence %q", id)
	}
	fill, text := pairs(meanings), s.Text
	for _, word := range slices.Sorted(maps.Keys(fill)) {
		text = regexp.MustCompile(`\b`+word+`\b`).ReplaceAllLiteralString(text, "\x00"+fill[word]+"\x00")
	}
	parts := strings.Split(text, "\x00")
	for i := range parts {
		for _, at := range place.FindAllStringIndex(parts[i], -1) {
			if i%2 == 0 && slices.Contains(Places(), parts[i][at[0]:at[1]]) {
				return strings.Join(parts[:i], "") + parts[i][:at[0]]
			}
		}
	}
	return strings.Join(parts, "")
}

// Known fails the test unless the page has the sentence, whole.
func Known(t testing.TB, said string) {
	t.Helper()
	for _, s := range Open(t) {
		if regexp.MustCompile("^" + s.Pattern() + "$").MatchString(said) {
			return
		}
	}
	t.Errorf("docs/troubleshooting.md does not have: %s", said)
}
