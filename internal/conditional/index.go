package conditional

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Change is the kind of this package's changes in the change feed.
const Change = "conditionalAccessPolicy"

// Reader reads all policies.
type Reader interface {
	EachConditionalPolicy(f func(Policy) error) error
}

// Index holds the policies in memory. It is safe for concurrent use.
type Index struct{ now atomic.Pointer[[]Policy] }

// NewIndex returns an index without policies.
func NewIndex() *Index {
	x := &Index{}
	x.now.Store(&[]Policy{})
	return x
}

// Load reads all policies.
func (x *Index) Load(r Reader) error {
	list := []Policy{}
	if err := r.EachConditionalPolicy(func(p Policy) error { list = append(list, p); return nil }); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Policy) int { return strings.Compare(a.ID, b.ID) })
	x.now.Store(&list)
	return nil
}

// Refresh follows one entry of the change feed; other kinds are ignored.
func (x *Index) Refresh(r Reader, kind, _ string) error {
	if kind != Change {
		return nil
	}
	return x.Load(r)
}

// Policies returns all policies by id. The caller only reads them.
func (x *Index) Policies() []Policy { return *x.now.Load() }

// Policy finds a policy by its id, in any case.
func (x *Index) Policy(id string) (Policy, bool) {
	for _, p := range x.Policies() {
		if strings.EqualFold(p.ID, id) {
			return p, true
		}
	}
	return Policy{}, false
}
