package resource

import (
	"strings"
	"sync"

	"sallyport/internal/scope"
)

// Tree knows in memory which management group encloses each subscription and
// management group. It implements scope.Tree and is safe for concurrent use.
type Tree struct {
	mu sync.RWMutex
	up map[string]scope.ID
}

// NewTree returns an empty tree; Load fills it.
func NewTree() *Tree { return &Tree{up: map[string]scope.ID{}} }

// Lister is what the tree loads itself from.
type Lister interface {
	ListResources(Range) ([]Resource, error)
}

// Load replaces the whole tree.
func (t *Tree) Load(r Lister) error {
	up := map[string]scope.ID{}
	for _, kind := range []string{TypeSubscription, TypeManagementGroup} {
		list, err := r.ListResources(Range{Type: kind})
		if err != nil {
			return err
		}
		for _, x := range list {
			if x.Above == "" {
				continue
			}
			above, err := scope.Parse(x.Above)
			if err != nil {
				return err
			}
			up[x.ID.Key()] = above
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up = up
	return nil
}

// Refresh follows one entry of the change feed. There are few subscriptions and
// management groups, so it loads them all.
func (t *Tree) Refresh(r Lister, kind, _ string) error {
	if kind != "subscription" && kind != "managementGroup" {
		return nil
	}
	return t.Load(r)
}

// Above returns what encloses a subscription or management group.
func (t *Tree) Above(id scope.ID) (scope.ID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	up, ok := t.up[id.Key()]
	return up, ok
}

// Kind returns the change feed's kind for a resource.
func Kind(id scope.ID) string {
	switch {
	case strings.EqualFold(id.Type(), TypeSubscription):
		return "subscription"
	case strings.EqualFold(id.Type(), TypeManagementGroup):
		return "managementGroup"
	}
	return "resource"
}
