//go:build heard

package fault

import (
	"strconv"
	"sync"
)

// told and remedied write to standard error what is said, the first times that a
// sentence is, into the log of tests: handbooktest.Unheard looks there.
var told, remedied = func() (told, remedied func(of, said string)) {
	// One format may be several sentences, of its values; one of nothing but a
	// value is all of a caller's.
	const few, whole = 50, "%s"
	var mu sync.Mutex
	seen, times := map[string]bool{}, map[string]int{}
	tell := func(of, said string) {
		if seen[said] || of != whole && times[of] >= few {
			return
		}
		seen[said] = true
		times[of]++
		print("\nsaid: " + strconv.Quote(said) + "\n") // one write: what else goes into the log comes before or behind
	}
	told = func(format, said string) {
		mu.Lock()
		defer mu.Unlock()
		tell(format, said)
	}
	// A remedy may be that of a hundred texts, so it is counted by the text.
	remedied = func(text, said string) {
		mu.Lock()
		defer mu.Unlock()
		if seen[text] {
			tell(text, said)
		}
	}
	return told, remedied
}()
