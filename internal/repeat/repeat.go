package repeat

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport/internal/address"
	"sallyport/internal/audit"
)

// The bounds of one window, for a whole server. Callers who have proven who they
// are have records and kinds of their own, and are summed up by name first:
// strangers' noise must not cover what a stolen account tries.
const (
	Window   = time.Minute
	each     = 5      // records of one kind of refusal, from one place, about one target
	onePlace = 30     // single records of one place, or of one caller
	single   = 300    // single records of all strangers, and of all callers
	maxKeys  = 10_000 // kinds that are told apart, of strangers half as many
	named    = 100    // summaries that name a place and a target
)

// Tx is what a summary is written with.
type Tx interface {
	Audit(by audit.By, e audit.Event) error
}

// Config makes a Counter.
type Config struct {
	Write func(context.Context, func(Tx) error) error
}

// Counter counts refusals. It is safe for concurrent use.
type Counter struct {
	cfg Config

	mu     sync.Mutex
	began  time.Time
	single map[bool]int // by whether the caller is known
	counts map[key]*count
	places map[string]int // single records, by place or principal
}

// key is what makes two refusals the same. The principal is empty where nobody
// has proven himself.
type key struct{ kind, place, principal, target, reason string }

type count struct {
	by          audit.By
	event       audit.Event
	told        int
	more        int
	first, last time.Time
}

// New returns a Counter.
func New(cfg Config) *Counter {
	return &Counter{cfg: cfg, single: map[bool]int{}, counts: map[key]*count{}, places: map[string]int{}}
}

// First reports whether the caller is to record the refusal. Otherwise it was
// counted, and Flush will tell. Ask once for each refusal, outside of a
// transaction, which may run twice.
func (c *Counter) First(by audit.By, e audit.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		c.began = by.At
	}
	place := address.Network(by.Address)
	known, source, room := by.Principal != "", place, maxKeys/2
	if known {
		source, room = "id "+by.Principal, maxKeys
	}
	k := key{e.Type, place, by.Principal, e.Target, e.Detail["reason"] + e.Detail["code"] + e.Detail["action"]}
	n := c.counts[k]
	if n == nil && len(c.counts) >= room {
		k = key{kind: e.Type}
		n = c.counts[k]
	}
	if n == nil {
		n = &count{by: by, event: e, first: by.At}
		c.counts[k] = n
	}
	n.last = by.At
	if n.told < each && c.single[known] < single && c.places[source] < onePlace { // so there are at most twice single sources
		n.told++
		c.single[known]++
		c.places[source]++
		return true
	}
	n.more++
	return false
}

// Flush writes what was counted in a window that has ended by now, or, with all,
// in the present one too. What could not be written is counted on.
func (c *Counter) Flush(ctx context.Context, now time.Time, all bool) error {
	c.mu.Lock()
	if c.began.IsZero() || !all && now.Sub(c.began) < Window {
		c.mu.Unlock()
		return nil
	}
	old := c.counts
	c.counts, c.places, c.single, c.began = map[key]*count{}, map[string]int{}, map[bool]int{}, time.Time{}
	c.mu.Unlock()
	keys := summaries(old)
	if len(keys) == 0 {
		return nil
	}
	err := c.cfg.Write(ctx, func(tx Tx) error {
		rest := map[string]*count{}
		for i, k := range keys {
			n := old[k]
			if i < named && k != (key{kind: k.kind}) {
				if err := tx.Audit(n.summary(now, false)); err != nil {
					return err
				}
				continue
			}
			merge(rest, k.kind, n)
		}
		for _, kind := range slices.Sorted(maps.Keys(rest)) {
			if err := tx.Audit(rest[kind].summary(now, true)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.keep(old, keys)
	}
	return err
}

// summaries are the keys with something to tell: those of known callers first,
// and of each the most.
func summaries(counts map[key]*count) []key {
	var keys []key
	for k, n := range counts {
		if n.more > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if known := a.principal != ""; known != (b.principal != "") {
			if known {
				return -1
			}
			return 1
		}
		return cmp.Or(counts[b].more-counts[a].more, cmp.Compare(a.kind, b.kind), cmp.Compare(a.place, b.place), cmp.Compare(a.principal, b.principal), cmp.Compare(a.target, b.target), cmp.Compare(a.reason, b.reason))
	})
	return keys
}

// merge adds to the sum of a kind. told serves as the number of merged kinds.
func merge(rest map[string]*count, kind string, n *count) {
	sum := rest[kind]
	if sum == nil {
		sum = &count{event: n.event, first: n.first}
		sum.event.Target, sum.event.Detail = "", nil
		rest[kind] = sum
	}
	sum.told++
	sum.more += n.more
	if n.first.Before(sum.first) {
		sum.first = n.first
	}
	if n.last.After(sum.last) {
		sum.last = n.last
	}
}

// summary is the record of a count: the refusal itself with how often it came
// again, and between which times. merged leaves out who and from where.
func (n *count) summary(now time.Time, merged bool) (audit.By, audit.Event) {
	by, e := n.by, n.event
	detail := map[string]string{"repeats": strconv.Itoa(n.more), "since": n.first.UTC().Format(time.RFC3339), "until": n.last.UTC().Format(time.RFC3339)}
	for name, value := range e.Detail {
		detail[name] = value
	}
	if merged {
		by = audit.By{Type: audit.Task, Name: "summary", Address: address.Unknown}
		detail["kinds"] = strconv.Itoa(n.told)
	}
	by.At = now
	e.Detail = detail
	return by, e
}

// keep takes back what could not be written.
func (c *Counter) keep(old map[key]*count, keys []key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		was := old[k]
		n := c.counts[k]
		if n == nil && len(c.counts) >= maxKeys {
			k = key{kind: k.kind}
			n = c.counts[k]
		}
		if n == nil {
			c.counts[k] = was
		} else {
			n.more += was.more
		}
		if c.began.IsZero() || was.first.Before(c.began) {
			c.began = was.first
		}
	}
}
