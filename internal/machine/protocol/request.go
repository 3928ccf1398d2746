package protocol

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// SignManifest signs a manifest with the manifest key. What a reader would
// refuse is not returned.
func SignManifest(rand io.Reader, key crypto.Signer, m Manifest) (SignedManifest, error) {
	payload, err := json.Marshal(m)
	if err != nil {
		return SignedManifest{}, fmt.Errorf("manifest: %w", err)
	}
	envelope, err := Sign(rand, key, TypeManifest, payload)
	if err != nil {
		return SignedManifest{}, fmt.Errorf("manifest: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return SignedManifest{}, fmt.Errorf("manifest: %w", err)
	}
	signed := SignedManifest{ManifestKey: public, Envelope: envelope}
	if _, err := signed.Open(envelope.KeyID); err != nil {
		return SignedManifest{}, fmt.Errorf("the manifest does not verify: %w", err)
	}
	return signed, nil
}

// ManifestRequest is what travels to the manifest key when that is kept on
// another computer: the manifest in force, and the one to be signed.
type ManifestRequest struct {
	Current SignedManifest `json:"current"`
	Next    Manifest       `json:"next"`
}

// Check verifies the current manifest with the pinned key and that the next one
// may follow it: same tenant, higher. It returns the current one.
func (r ManifestRequest) Check(pin string) (Manifest, error) {
	old, err := r.Current.Open(pin)
	if err != nil {
		return Manifest{}, err
	}
	if err := r.Next.check(); err != nil {
		return Manifest{}, err
	}
	if !r.Next.Newer(old) || r.Next.Epoch == old.Epoch && r.Next.Version == old.Version {
		return Manifest{}, errors.New("the manifest to be signed is of another tenant or not newer than the one in force")
	}
	return old, nil
}

// Changes says in words what differs between two manifests, a line each.
func Changes(old, next Manifest) []string {
	var lines []string
	differs := func(what, before, after string) {
		if before != after {
			lines = append(lines, fmt.Sprintf("%s: %s -> %s", what, before, after))
		}
	}
	differs("tenant", old.Tenant, next.Tenant)
	differs("domains", strings.Join(old.Domains, " "), strings.Join(next.Domains, " "))
	differs("url", old.URL, next.URL)
	if old.Epoch != next.Epoch {
		lines = append(lines, fmt.Sprintf("epoch: %d -> %d (a backup was restored: machines give up what they hold)", old.Epoch, next.Epoch))
	}
	differs("version", fmt.Sprint(old.Version), fmt.Sprint(next.Version))
	lines = append(lines, listed("-", old, next)...)
	lines = append(lines, listed("+", next, old)...)
	lines = append(lines, roots("-", old, next)...)
	return append(lines, roots("+", next, old)...)
}

func listed(sign string, m, other Manifest) []string {
	var lines []string
	for _, k := range m.Keys {
		if !slices.ContainsFunc(other.Keys, func(o Key) bool { return o.Purpose == k.Purpose && o.ID == k.ID }) {
			lines = append(lines, fmt.Sprintf("%s %s key %s", sign, k.Purpose, k.ID))
		}
	}
	return lines
}

func roots(sign string, m, other Manifest) []string {
	var lines []string
	for _, der := range m.TLSRoots {
		if !slices.ContainsFunc(other.TLSRoots, func(o []byte) bool { return bytes.Equal(o, der) }) {
			lines = append(lines, fmt.Sprintf("%s TLS root with SHA-256 %x", sign, sha256.Sum256(der)))
		}
	}
	return lines
}

// Same reports whether two manifests say the same, whenever they were issued.
func (m Manifest) Same(other Manifest) bool {
	m.IssuedAt, other.IssuedAt = time.Time{}, time.Time{}
	a, errA := json.Marshal(m)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
