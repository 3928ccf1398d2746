package machine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

// shared are the grants that machines have in common: a change at a scope above
// many is derived once, and not once for each of them.
type shared struct {
	mu       sync.Mutex
	position int64                    // that the entries are at least as new as
	byPlace  map[string]*sharedGrants // by kind of machine and place
}

type sharedGrants struct {
	once   sync.Once
	grants []protocol.Grant // never changed
	digest [sha256.Size]byte
	err    error
}

// grantsAt returns who has a role at a machine, at least as new as a position
// that was read before.
func (s *Service) grantsAt(at scope.ID, position int64) (*sharedGrants, error) {
	place, of := s.cfg.Roles.Governing(at), actionsAt(at)
	key := of.login + " " + place.Key()
	x := &s.shared
	x.mu.Lock()
	if x.byPlace == nil || position > x.position {
		x.position, x.byPlace = position, map[string]*sharedGrants{}
	}
	g := x.byPlace[key]
	if g == nil {
		g = &sharedGrants{}
		x.byPlace[key] = g
	}
	x.mu.Unlock()
	g.once.Do(func() {
		in := Inputs{}
		in.Admins, in.Logins, in.Owners = s.roles(place, of)
		g.grants = grantsOf(in)
		var text []byte
		if text, g.err = json.Marshal(g.grants); g.err == nil {
			g.digest = sha256.Sum256(text)
		}
	})
	if g.err != nil {
		return nil, fmt.Errorf("grants: %w", g.err)
	}
	return g, nil
}

// digestOf identifies what a document says; of its grants only the digest is
// read, which many documents share.
func digestOf(doc protocol.SnapshotDocument, grants [sha256.Size]byte) ([sha256.Size]byte, error) {
	doc.Grants = nil
	content, err := json.Marshal(doc)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("snapshot: %w", err)
	}
	return sha256.Sum256(append(content, grants[:]...)), nil
}
