package handbooktest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	text, err := load()
	if err != nil {
		return nil, err
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("docs/troubleshooting.md: %w", err)
	}
	return p, nil
}

func load() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "docs", "troubleshooting.md"))
		if err == nil {
			return string(text), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder above this test has docs/troubleshooting.md")
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

// Said fails the test unless the text, which a program has said, holds the sentence
// with this id, with the meanings (place, meaning, place, ...) in it, and not merely
// as a part of a longer sentence of the page. It writes into the test's log that the
// sentence was heard, which Unheard asks for.
func Said(t testing.TB, text, id string, meanings ...string) {
	t.Helper()
	page := Open(t)
	s, ok := page[id]
	if !ok {
		t.Errorf("docs/troubleshooting.md has no sentence %q; what was said is:\n%s", id, text)
	} else if longer, is := page.heard(s, text, meanings...); !is {
		t.Errorf("docs/troubleshooting.md, line %d, has another sentence (%s):\n%s\nsaid is:\n%s", s.Line, id, s.Text, text)
	} else if longer != "" {
		t.Errorf("docs/troubleshooting.md, line %d: what was said is not %s but the longer %s:\n%s", s.Line, id, longer, text)
	} else {
		t.Log(mark + id)
	}
}

// mark stands in a log before the id of a sentence that a program has said.
const mark = "heard on the page: "

// heard reports whether a text holds the sentence, and a longer one of the page
// that it is a part of there.
func (p Page) heard(s Sentence, text string, meanings ...string) (longer string, is bool) {
	if !s.In(text, meanings...) {
		return "", false
	}
	for _, other := range p.longer(s) {
		if other.In(text) {
			return other.ID, true
		}
	}
	return "", true
}

// longer are the sentences of the page in which one would be found, too.
func (p Page) longer(s Sentence) []Sentence {
	in, list := regexp.MustCompile(s.Pattern()), []Sentence(nil)
	for _, other := range p {
		if len(other.Text) > len(s.Text) && in.MatchString(other.Text) {
			list = append(list, other)
		}
	}
	return list
}

// Known fails the test unless the page has the sentence that a program has said,
// whole, explained or in its tables, and writes it into the test's log as Said does.
func Known(t testing.TB, said string) {
	t.Helper()
	explained := Sentence{}
	for _, s := range Open(t) {
		if len(s.Text) > len(explained.Text) && regexp.MustCompile("^(?:"+s.Pattern()+")$").MatchString(said) {
			explained = s
		}
	}
	if explained.ID != "" {
		t.Log(mark + explained.ID)
		return
	}
	text, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := best(rows(text), said); !ok {
		t.Errorf("docs/troubleshooting.md does not have: %s", said)
		return
	}
	t.Log(word + strconv.Quote(said))
}
