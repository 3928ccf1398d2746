package sshca

import (
	"slices"
	"sync"
	"time"
)

// Revocation takes one certificate back before its end.
type Revocation struct {
	Serial    string // decimal
	Principal string // object id
	Reason    string
	At        time.Time
	Ends      time.Time // when the certificate would have ended
}

// RevocationReader is what the index loads itself from.
type RevocationReader interface {
	RevocationBySerial(serial string) (Revocation, bool, error)
	EachRevocation(f func(Revocation) error) error
}

// Revocations holds the revoked serials that machines are told of. It is safe
// for concurrent use.
type Revocations struct {
	mu   sync.Mutex
	ends map[string]time.Time
}

// NewRevocations returns an empty index.
func NewRevocations() *Revocations { return &Revocations{ends: map[string]time.Time{}} }

// Load replaces the whole content.
func (x *Revocations) Load(r RevocationReader) error {
	ends := map[string]time.Time{}
	if err := r.EachRevocation(func(v Revocation) error { ends[v.Serial] = v.Ends; return nil }); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ends = ends
	return nil
}

// Refresh follows one entry of the change feed; kinds other than "revocation"
// are ignored.
func (x *Revocations) Refresh(r RevocationReader, kind, key string) error {
	if kind != "revocation" {
		return nil
	}
	v, found, err := r.RevocationBySerial(key)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if found {
		x.ends[key] = v.Ends
	} else {
		delete(x.ends, key)
	}
	return nil
}

// RevokedFor is how long a serial is told after its certificate's end. The
// certificate opens nothing any more, but what it opened before may still run on
// a machine that was away.
const RevokedFor = 24 * time.Hour

// Serials lists the serials that matter at a time, sorted; one whose time is over
// is left out for good.
func (x *Revocations) Serials(at time.Time) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var serials []string
	for serial, ends := range x.ends {
		if !ends.Add(RevokedFor).After(at) {
			delete(x.ends, serial)
			continue
		}
		serials = append(serials, serial)
	}
	slices.Sort(serials)
	return serials
}
