package handbooktest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Heard are sentences of the page that the tests of a package together must bring
// about, whichever test that is.
type Heard struct {
	mu      sync.Mutex
	waiting map[string]bool
	page    Page
}

// Expect names the sentences.
func Expect(ids ...string) *Heard {
	h := &Heard{waiting: map[string]bool{}}
	for _, id := range ids {
		h.waiting[id] = true
	}
	return h
}

// Hear is told what was said.
func (h *Heard) Hear(t testing.TB, said string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.page == nil {
		h.page = Open(t)
	}
	for id := range h.waiting {
		if h.page[id].Text != "" && h.page[id].In(said) {
			delete(h.waiting, id)
		}
	}
}

// Main runs the package's tests and fails when all of them have run and a sentence
// was not said: for TestMain.
func (h *Heard) Main(m *testing.M) int {
	code := m.Run()
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
