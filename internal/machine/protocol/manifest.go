package protocol

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/internal/cloud"
)

// ALPNPinned is offered in a TLS handshake (RFC 7301), after the protocols that
// are really wanted, by a client that trusts the roots of a manifest alone. A
// server with a second certificate for browsers then shows the one under the
// manifest's own root. It is never chosen.
const ALPNPinned = "sallyport-pinned"

// Purpose says the one thing a key is for.
type Purpose string

// The purposes of the keys that a manifest lists.
const (
	UserCA     Purpose = "user-ca"    // signs user certificates
	HostCA     Purpose = "host-ca"    // signs host certificates
	Token      Purpose = "token"      // signs JWTs
	Snapshot   Purpose = "snapshot"   // signs grants snapshots
	Audit      Purpose = "audit"      // signs audit heads
	Repository Purpose = "repository" // signs package repositories and releases; a deployment that hands out none has none

	// Compromised lists a key that was withdrawn because others may hold it: it is
	// good for nothing, and a machine that trusted it for users ends what it opened.
	// It is a purpose, and not a field, so that readers of the first protocol
	// version refuse the key too.
	Compromised Purpose = "compromised"
)

// Key is one listed public key.
type Key struct {
	Purpose Purpose `json:"purpose"`
	ID      string  `json:"id"`     // Thumbprint of the key; checked when parsed
	Public  []byte  `json:"public"` // PKIX DER
}

// PublicKey parses the key and checks that ID names it.
func (k Key) PublicKey() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("manifest key %s: %w", k.ID, err)
	}
	if id, err := Thumbprint(pub); err != nil || id != k.ID {
		return nil, fmt.Errorf("manifest key %s: the id does not name this key", k.ID)
	}
	return pub, nil
}

// Manifest is the list of a deployment's keys, signed by the manifest key. It
// is the only thing that machines and the CLI trust by itself: they pin the
// manifest key's thumbprint.
type Manifest struct {
	Tenant   string    `json:"tenant"`          // tenant id, a GUID
	Domains  []string  `json:"domains"`         // verified domains, the first is the initial one
	URL      string    `json:"url"`             // the server's own https URL
	Cloud    string    `json:"cloud,omitempty"` // of Azure's, which the deployment presents itself as; empty for the global one, which readers of the first list know nothing else of
	Epoch    int64     `json:"epoch"`           // raised by a restore; never falls
	Version  int64     `json:"version"`         // raised by every change in an epoch
	IssuedAt time.Time `json:"issuedAt"`
	Keys     []Key     `json:"keys"`
	TLSRoots [][]byte  `json:"tlsRoots"` // DER certificates that the server's TLS chain may end in; empty: the system's
}

// SignedManifest is how a manifest travels: with the manifest key itself, whose
// thumbprint the reader has pinned.
type SignedManifest struct {
	ManifestKey []byte   `json:"manifestKey"` // PKIX DER
	Envelope    Envelope `json:"envelope"`
}

// Open checks the manifest key against the pinned thumbprint, the signature,
// and the shape. An empty pin is refused.
func (s SignedManifest) Open(pin string) (Manifest, error) {
	pub, err := x509.ParsePKIXPublicKey(s.ManifestKey)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest key: %w", err)
	}
	id, err := Thumbprint(pub)
	if err != nil {
		return Manifest{}, err
	}
	if pin == "" || id != pin {
		return Manifest{}, fmt.Errorf("the server's manifest key is %s, expected %s", id, pin)
	}
	payload, err := s.Envelope.Open(pub, TypeManifest)
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := Decode(payload, &m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, m.check()
}

func (m Manifest) check() error {
	if m.Tenant == "" || len(m.Domains) == 0 || m.URL == "" || m.Epoch < 1 || m.Version < 1 {
		return errors.New("manifest: tenant, domains, url, epoch and version are required")
	}
	if _, ok := cloud.Named(m.Cloud); !ok {
		return fmt.Errorf("manifest: the cloud %.40q is none of Azure's", m.Cloud)
	}
	for _, k := range m.Keys {
		if _, err := k.PublicKey(); err != nil {
			return err
		}
	}
	return nil
}

// For returns the parsed keys of one purpose, newest first as listed. A key that
// is listed as compromised is none, whatever else it is listed as.
func (m Manifest) For(p Purpose) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, k := range m.Keys {
		if k.Purpose != p || m.Withdrawn(k.ID) {
			continue
		}
		if pub, err := k.PublicKey(); err == nil {
			keys = append(keys, pub)
		}
	}
	return keys
}

// Withdrawn reports whether a key is listed as compromised.
func (m Manifest) Withdrawn(id string) bool {
	return slices.ContainsFunc(m.Keys, func(k Key) bool { return k.Purpose == Compromised && k.ID == id })
}

// Lists reports whether a key is listed for a purpose and trusted.
func (m Manifest) Lists(p Purpose, id string) bool {
	return !m.Withdrawn(id) && slices.ContainsFunc(m.Keys, func(k Key) bool { return k.Purpose == p && k.ID == id })
}

// Newer reports whether m may replace old: same tenant, and a higher (epoch,
// version) or the very same one.
func (m Manifest) Newer(old Manifest) bool {
	if m.Tenant != old.Tenant {
		return false
	}
	return m.Epoch > old.Epoch || m.Epoch == old.Epoch && m.Version >= old.Version
}
