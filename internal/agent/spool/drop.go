package spool

import (
	"cmp"
	"slices"
	"strings"

	"sallyport/internal/machine/protocol"
)

// Ranks of events, in the order in which a full queue gives them up. A flood of
// one kind costs repetitions of that kind; the first of each, and what was
// refused or ended, goes last, and the newest of it not at all unless there is
// nothing else.
const (
	repeatedSuccess = iota // a later one says the same of the same login
	success
	repeatedRefusal
	refusal
)

// succeeded says whether an event tells of something that was allowed. Refusals,
// faults and ended sessions are worth more to whoever reads the audit log.
func succeeded(e protocol.MachineEvent) bool {
	return !strings.HasSuffix(e.Type, ".deny") && !strings.HasSuffix(e.Type, ".fail") && e.Type != "session.end"
}

// shrink returns the events that are left when at most count events of at most
// size bytes may stay, and those that go.
func shrink(entries []entry, count int, size int64) (left, gone []entry) {
	type candidate struct{ rank, at int }
	seen := make(map[[3]string]bool, len(entries))
	order := make([]candidate, 0, len(entries))
	var bytes int64
	for i, x := range slices.Backward(entries) {
		bytes += x.size
		key := [3]string{x.event.Type, x.event.LoginName, x.event.Detail["reason"]}
		rank := refusal
		switch ok := succeeded(x.event); {
		case ok && seen[key]:
			rank = repeatedSuccess
		case ok:
			rank = success
		case seen[key]:
			rank = repeatedRefusal
		}
		seen[key] = true
		order = append(order, candidate{rank, i})
	}
	slices.SortFunc(order, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at)) })
	drop := make(map[int]bool)
	for _, c := range order {
		if len(entries)-len(drop) <= count && bytes <= size {
			break
		}
		drop[c.at] = true
		bytes -= entries[c.at].size
	}
	for i, x := range entries {
		if drop[i] {
			gone = append(gone, x)
		} else {
			left = append(left, x)
		}
	}
	return left, gone
}
