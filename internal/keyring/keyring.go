package keyring

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// State of a key. Its life is next, active, retiring, retired; compromised ends
// it at any point.
type State string

// The states.
const (
	Next        State = "next"        // trusted, or about to be, and not signing yet
	Active      State = "active"      // the one that signs
	Retiring    State = "retiring"    // trusted until what it has signed is over
	Retired     State = "retired"     // trusted no more
	Compromised State = "compromised" // withdrawn at once
)

// Key is one key that the deployment has or had. The private half, if any, is
// the key store's.
type Key struct {
	Purpose protocol.Purpose `json:"purpose"`
	ID      string           `json:"id"`     // thumbprint
	Public  []byte           `json:"public"` // PKIX DER
	State   State            `json:"state"`
	Since   time.Time        `json:"since"` // of the state
	Created time.Time        `json:"created"`
	// Listed is the version of the manifest that listed it first; 0 before.
	Listed   int64     `json:"listed,omitempty"`
	ListedAt time.Time `json:"listedAt,omitzero"`
	// Forced and After say how long a next key waits for machines: not at all, or
	// at most that long after it was listed. Without either it waits for all.
	Forced bool          `json:"forced,omitempty"`
	After  time.Duration `json:"after,omitempty"`
	// Longest is the longest life of anything that an active or retiring key has
	// signed. Until is when a retiring one has outlived all of it.
	Longest time.Duration `json:"longest,omitempty"`
	Until   time.Time     `json:"until,omitzero"`
}

// Parsed returns the public key.
func (k Key) Parsed() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.ID, err)
	}
	return pub, nil
}

// Ring is all keys of a deployment.
type Ring struct {
	Keys []Key `json:"keys"`
}

// Purposes returns the purposes that rotate, in the order of a manifest.
func Purposes() []protocol.Purpose {
	return []protocol.Purpose{protocol.UserCA, protocol.HostCA, protocol.Token, protocol.Snapshot, protocol.Audit}
}

const (
	// settle is what a key outlives its last signature by: the replicas of a
	// deployment follow each other within two seconds or sign nothing.
	settle = 10 * time.Second
	// publish is how long a token key is shown before it signs, for whoever reads
	// the key set now and then.
	publish = time.Minute
)

// longest is how long things live that a key of a purpose signs; user
// certificates are bounded by configuration, and Allow says so.
func longest(p protocol.Purpose) time.Duration {
	switch p {
	case protocol.HostCA:
		return 7 * 24 * time.Hour // sshca.HostLifetime
	case protocol.Token:
		return time.Hour + 5*time.Minute // an access token, and clocks that differ
	case protocol.Snapshot:
		return time.Hour // connected machines get a new one every five minutes
	}
	return 24 * time.Hour
}

// local says that only servers verify what a purpose signs: nobody waits for a
// manifest.
func local(p protocol.Purpose) bool { return p == protocol.Token }

// lasting says that what a purpose signs is verified long after: history. A
// retired key stays listed; its private half is gone.
func lasting(p protocol.Purpose) bool { return p == protocol.Audit }

// Of returns the ring of a deployment that has never rotated: what its manifest
// lists is active. life is the longest life of user certificates so far.
func Of(m protocol.Manifest, life time.Duration) Ring {
	var r Ring
	for _, k := range m.Keys {
		if k.Purpose == protocol.Compromised {
			continue
		}
		n := Key{Purpose: k.Purpose, ID: k.ID, Public: k.Public, State: Active, Since: m.IssuedAt, Created: m.IssuedAt, Listed: m.Version, ListedAt: m.IssuedAt, Longest: longest(k.Purpose)}
		if k.Purpose == protocol.UserCA {
			n.Longest = life
		}
		r.Keys = append(r.Keys, n)
	}
	return r
}

// Active returns the key of a purpose that signs. There is none between the
// withdrawal of a compromised key and the listing of its successor.
func (r Ring) Active(p protocol.Purpose) (Key, bool) { return r.find(p, Active) }

func (r Ring) find(p protocol.Purpose, s State) (Key, bool) {
	for _, k := range r.Keys {
		if k.Purpose == p && k.State == s {
			return k, true
		}
	}
	return Key{}, false
}

// Trusted returns the keys of a purpose whose signatures count at a time, newest
// first.
func (r Ring) Trusted(p protocol.Purpose, at time.Time) []Key {
	var keys []Key
	for _, k := range r.Keys {
		if k.Purpose == p && k.wanted(at) {
			keys = append(keys, k)
		}
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return b.Created.Compare(a.Created) })
	return keys
}

func (k Key) wanted(at time.Time) bool {
	switch k.State {
	case Next, Active:
		return true
	case Retiring:
		return at.Before(k.Until) || lasting(k.Purpose)
	case Retired:
		return lasting(k.Purpose)
	}
	return false
}

// clone keeps the receiver of a step unchanged.
func (r Ring) clone() Ring { return Ring{Keys: slices.Clone(r.Keys)} }

// Allow raises the longest life of the user certificates that the active key
// signs. It never lowers it: what was signed before lives on.
func (r Ring) Allow(life time.Duration) (Ring, bool) {
	next, changed := r.clone(), false
	for i := range next.Keys {
		if k := &next.Keys[i]; k.Purpose == protocol.UserCA && k.State == Active && k.Longest < life {
			k.Longest, changed = life, true
		}
	}
	return next, changed
}

// Options of a rotation.
type Options struct {
	Compromised bool          // withdraw the keys in force at once
	Forced      bool          // do not wait for machines
	After       time.Duration // wait at most so long
}

// May says whether Rotate would be refused, before a key is made for it.
func (r Ring) May(p protocol.Purpose, o Options) error {
	if !slices.Contains(Purposes(), p) {
		return fault.New(fault.Invalid, "InvalidPurpose", "%q is no purpose of a key that rotates", string(p)).WithRemedy("They are: user-ca, host-ca, token, snapshot, audit.").WithTarget("purpose")
	}
	if o.After < 0 || o.After > maxAfter {
		return fault.New(fault.Invalid, "InvalidParameter", "the time to wait for machines must be between 0 and %s", maxAfter).WithTarget("after")
	}
	if k, under := r.find(p, Next); under && !o.Compromised {
		return fault.New(fault.Conflict, "RotationUnderWay", "the %s key %s is about to take over", p, k.ID).
			WithRemedy("See what it waits for: sally ca show. Do not wait for machines that are gone: sally ca rotate --purpose %s --force", p)
	}
	return nil
}

// Rotate adds the successor of a purpose's key. life is the longest life of user
// certificates from now on.
func (r Ring) Rotate(p protocol.Purpose, public crypto.PublicKey, life time.Duration, o Options, at time.Time) (Ring, Key, error) {
	if err := r.May(p, o); err != nil {
		return r, Key{}, err
	}
	fresh, err := newKey(p, public, at)
	if err != nil {
		return r, Key{}, err
	}
	if slices.ContainsFunc(r.Keys, func(k Key) bool { return k.ID == fresh.ID }) {
		return r, Key{}, fault.New(fault.Conflict, "KeyReused", "the key %s was used before", fresh.ID)
	}
	fresh.After, fresh.Forced, fresh.Longest = o.After, o.Forced || o.Compromised, longest(p)
	if p == protocol.UserCA {
		fresh.Longest = life
	}
	next := r.clone()
	if o.Compromised {
		for i := range next.Keys {
			if k := &next.Keys[i]; k.Purpose == p && (k.State == Next || k.State == Active || k.State == Retiring) {
				k.enter(Compromised, at)
			}
		}
		if local(p) {
			fresh.enter(Active, at)
		}
	}
	next.Keys = append(next.Keys, fresh)
	return next, fresh, nil
}

// maxAfter bounds how long a rotation may be told to wait.
const maxAfter = 90 * 24 * time.Hour

func newKey(p protocol.Purpose, public crypto.PublicKey, at time.Time) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("keyring: %w", err)
	}
	id, err := protocol.Thumbprint(public)
	if err != nil {
		return Key{}, fmt.Errorf("keyring: %w", err)
	}
	return Key{Purpose: p, ID: id, Public: der, State: Next, Since: at, Created: at}, nil
}

func (k *Key) enter(s State, at time.Time) { k.State, k.Since = s, at }

// Enlist lists the key that vouches for packages, in place of the one before. It
// does not rotate: whatever it signed is signed again at once by its successor, so
// nobody waits for anything. A key that was listed before does not come back.
func (r Ring) Enlist(public crypto.PublicKey, at time.Time) (Ring, bool, error) {
	fresh, err := newKey(protocol.Repository, public, at)
	if err != nil {
		return r, false, err
	}
	next := r.clone()
	for i := range next.Keys {
		k := &next.Keys[i]
		switch {
		case k.ID == fresh.ID && k.Purpose == protocol.Repository && k.State == Active:
			return r, false, nil
		case k.ID == fresh.ID:
			return r, false, fault.New(fault.Conflict, "KeyReused", "the key %s was used before", fresh.ID)
		case k.Purpose == protocol.Repository && k.State == Active:
			k.enter(Retired, at)
		}
	}
	fresh.enter(Active, at)
	next.Keys = append(next.Keys, fresh)
	return next, true, nil
}

// Force ends the waiting for machines of a rotation under way.
func (r Ring) Force(p protocol.Purpose) (Ring, bool) {
	next, found := r.clone(), false
	for i := range next.Keys {
		if k := &next.Keys[i]; k.Purpose == p && k.State == Next {
			k.Forced, found = true, true
		}
	}
	return next, found
}

// Draft returns the manifest that ought to be in force, and whether it differs
// from the one that is.
func (r Ring) Draft(m protocol.Manifest, at time.Time) (protocol.Manifest, bool) {
	next := m
	next.Keys = nil
	for _, p := range append(Purposes(), protocol.Repository) {
		for _, k := range r.Trusted(p, at) {
			next.Keys = append(next.Keys, protocol.Key{Purpose: p, ID: k.ID, Public: k.Public})
		}
	}
	for _, k := range r.Keys {
		if k.State == Compromised {
			next.Keys = append(next.Keys, protocol.Key{Purpose: protocol.Compromised, ID: k.ID, Public: k.Public})
		}
	}
	if next.Same(m) {
		return m, false
	}
	next.Version++
	next.IssuedAt = at.UTC().Truncate(time.Second)
	return next, true
}

// Published notes a manifest that has been signed: what it lists is listed, and
// what it leaves out has retired.
func (r Ring) Published(m protocol.Manifest, at time.Time) Ring {
	next := r.clone()
	for i := range next.Keys {
		k := &next.Keys[i]
		lists := m.Lists(k.Purpose, k.ID)
		switch {
		case k.State == Next && lists && k.Listed == 0:
			k.Listed, k.ListedAt = m.Version, at
		case k.State == Retiring && !lists:
			k.enter(Retired, at)
		}
	}
	return next
}

// View is what a step depends on beside the ring.
type View struct {
	// Missing counts the machines that have not taken over a manifest.
	Missing func(version int64) (int, error)
	At      time.Time
}

// Step does what can be done now: lets next keys take over, and retires. It
// reports whether anything changed. Whatever its result lists is published by
// the caller through Draft and Published.
func (r Ring) Step(v View) (Ring, bool, error) {
	next, changed := r.clone(), false
	for i := range next.Keys {
		k := &next.Keys[i]
		switch {
		case k.State == Next:
			due, err := next.due(*k, v)
			if err != nil {
				return r, false, err
			}
			if due {
				next.takeOver(i, v.At)
				changed = true
			}
		case k.State == Retiring && (local(k.Purpose) || lasting(k.Purpose)) && !v.At.Before(k.Until):
			k.enter(Retired, v.At)
			changed = true
		}
	}
	return next, changed, nil
}

// due says whether a next key may take over.
func (r Ring) due(k Key, v View) (bool, error) {
	if local(k.Purpose) {
		return k.Forced || !v.At.Before(k.Created.Add(max(k.After, publish))), nil
	}
	if k.Listed == 0 {
		return false, nil
	}
	if k.Forced || k.After > 0 && !v.At.Before(k.ListedAt.Add(k.After)) {
		return true, nil
	}
	n, err := v.Missing(k.Listed)
	return err == nil && n == 0, err
}

func (r *Ring) takeOver(i int, at time.Time) {
	for j := range r.Keys {
		if k := &r.Keys[j]; k.Purpose == r.Keys[i].Purpose && k.State == Active {
			k.enter(Retiring, at)
			k.Until = at.Add(k.Longest + settle)
		}
	}
	r.Keys[i].enter(Active, at)
}
