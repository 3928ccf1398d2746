package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

// Entry says who a name belongs to.
type Entry struct {
	ObjectID string   `json:"id"`
	UID      uint32   `json:"uid"`
	Before   []string `json:"before,omitempty"` // object ids that had it, oldest first
}

// Register is the kept list. It is safe for concurrent use.
type Register struct {
	path   string
	broken error // why the list at path could not be read

	// writing is held while the disk is waited for, mu never is: whoever is known
	// already does not wait for somebody's first login.
	writing sync.Mutex
	mu      sync.RWMutex
	entries map[string]Entry // never changed, only replaced
}

const maxFile = 64 << 20

// Open reads the list at path, which belongs to owner; none is an empty list. One
// that cannot be read is an error, and an empty register that keeps nothing: what
// is at path stays.
func Open(path string, owner uint32) (*Register, error) {
	r := &Register{path: path, entries: map[string]Entry{}}
	b, err := durable.Read(path, owner, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = protocol.Decode(b, &r.entries)
	}
	if err != nil {
		r.entries, r.broken = map[string]Entry{}, fmt.Errorf("names: %s: %w", path, err)
	}
	return r, r.broken
}

// Owner returns the entry of a name.
func (r *Register) Owner(name string) (Entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.entries[name]
	return e, ok
}

// Keep gives a name to an object if it belongs to nobody; the entry is durable
// when Keep returns. It reports whose the name is.
func (r *Register) Keep(name, objectID string, uid uint32) (Entry, error) {
	if e, ok := r.Owner(name); ok {
		return e, nil
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	if e, ok := r.Owner(name); ok {
		return e, nil
	}
	return r.put(name, Entry{ObjectID: objectID, UID: uid})
}

// HandOver gives a name to another object.
func (r *Register) HandOver(name, objectID string, uid uint32) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	old, _ := r.Owner(name)
	e := Entry{ObjectID: objectID, UID: uid, Before: slices.Clone(old.Before)}
	if old.ObjectID != "" && old.ObjectID != objectID {
		e.Before = append(e.Before, old.ObjectID)
	}
	_, err := r.put(name, e)
	return err
}

// put writes the list with the entry and takes it over only then. The caller holds
// writing.
func (r *Register) put(name string, e Entry) (Entry, error) {
	if r.broken != nil {
		return Entry{}, r.broken
	}
	next := r.All()
	next[name] = e
	b, err := json.Marshal(next)
	if err != nil {
		return Entry{}, err
	}
	if err := durable.Write(r.path, b, 0o600); err != nil {
		return Entry{}, fmt.Errorf("names: %w", err)
	}
	r.mu.Lock()
	r.entries = next
	r.mu.Unlock()
	return e, nil
}

// All returns a copy of the list.
func (r *Register) All() map[string]Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.entries)
}
