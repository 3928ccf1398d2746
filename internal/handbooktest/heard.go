package handbooktest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/fault"
)

// Heard are sentences of the page that the tests of a package together must bring
// about, whichever test that is.
type Heard struct {
	mu      sync.Mutex
	waiting map[string]spoken
	said    []string
}

// spoken is how a sentence is found, and those of the page in which it would be, too.
type spoken struct {
	is     form
	longer []form
}

// form is the pattern of a sentence in a text, and whole.
type form [2]*regexp.Regexp

func formOf(s Sentence) form {
	return form{regexp.MustCompile(s.Pattern()), regexp.MustCompile("^(?:" + s.Pattern() + ")$")}
}

// Expect names the sentences.
func Expect(ids ...string) *Heard {
	h := &Heard{waiting: map[string]spoken{}}
	for _, id := range ids {
		h.waiting[id] = spoken{}
	}
	return h
}

// open finds the sentences on the page.
func (h *Heard) open(p Page) {
	for id := range h.waiting {
		s, ok := p[id]
		if !ok {
			continue
		}
		w := spoken{is: formOf(s)}
		for _, other := range p.longer(s) {
			w.longer = append(w.longer, formOf(other))
		}
		h.waiting[id] = w
	}
}

// Hear is told of a text in which something may have been said.
func (h *Heard) Hear(text string) { h.hear(text, 0) }

// HearWhole is told what was said, and nothing else.
func (h *Heard) HearWhole(said string) { h.hear(said, 1) }

func (h *Heard) hear(said string, whole int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, w := range h.waiting {
		p := w.is[whole]
		if p == nil || !p.MatchString(said) || slices.ContainsFunc(w.longer, func(f form) bool { return f[whole].MatchString(said) }) {
			continue
		}
		delete(h.waiting, id)
		h.said = append(h.said, id)
	}
}

// HearError is told an error, nil too, and returns it.
func (h *Heard) HearError(err error) error {
	if err != nil {
		h.HearWhole(fault.As(err).Public())
	}
	return err
}

// Main runs the package's tests, writes the sentences that were said into their log,
// and fails when all of them have run and a sentence was not said: for TestMain.
func (h *Heard) Main(m *testing.M) int {
	p, err := read()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	h.open(p)
	code := m.Run()
	if testing.Verbose() {
		for _, id := range h.said {
			fmt.Println(mark + id)
		}
	}
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return code
		}
	}
	if left := slices.Sorted(maps.Keys(h.waiting)); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "docs/troubleshooting.md has sentences that no test of this package has brought about: %s\n", strings.Join(left, ", "))
		return 1
	}
	return code
}
