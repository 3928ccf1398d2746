package keystore

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"path/filepath"

	"sallyport/internal/machine/protocol"
)

// SignManifest fills in the deployment's own public keys and signs the result
// with the manifest key. facts carries everything else; its Keys, when given,
// are further keys still (or already) trusted during a rotation and follow the
// current ones.
func (s *Store) SignManifest(facts protocol.Manifest) (protocol.SignedManifest, error) {
	var keys []protocol.Key
	for _, p := range []Purpose{protocol.UserCA, protocol.HostCA, protocol.Token, protocol.Snapshot, protocol.Audit} {
		key, err := s.Signer(p)
		if err != nil {
			return protocol.SignedManifest{}, err
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return protocol.SignedManifest{}, fmt.Errorf("keystore: %s: %w", p, err)
		}
		id, err := protocol.Thumbprint(key.Public())
		if err != nil {
			return protocol.SignedManifest{}, fmt.Errorf("keystore: %s: %w", p, err)
		}
		keys = append(keys, protocol.Key{Purpose: p, ID: id, Public: der})
	}
	facts.Keys = append(keys, facts.Keys...)
	return s.SignList(facts)
}

// SignList signs a manifest as it is with the manifest key.
func (s *Store) SignList(m protocol.Manifest) (protocol.SignedManifest, error) {
	signer, err := s.Signer(Manifest)
	if err != nil {
		return protocol.SignedManifest{}, err
	}
	return protocol.SignManifest(s.rand, signer, m)
}

// SignNext signs the manifest that a request asks for, when the manifest key is
// here and is the one that signed the current manifest.
func (s *Store) SignNext(r protocol.ManifestRequest) (protocol.SignedManifest, error) {
	signer, err := s.Signer(Manifest)
	if err != nil {
		return protocol.SignedManifest{}, err
	}
	pin, err := protocol.Thumbprint(signer.Public())
	if err != nil {
		return protocol.SignedManifest{}, fmt.Errorf("keystore: manifest: %w", err)
	}
	if _, err := r.Check(pin); err != nil {
		return protocol.SignedManifest{}, err
	}
	return protocol.SignManifest(s.rand, signer, r.Next)
}

// OpenManifestKey reads a manifest key alone from a file, for a computer that
// signs manifests and holds nothing else.
func OpenManifestKey(path string, passphrase []byte) (crypto.Signer, error) {
	return readKey(filepath.Dir(path), &box{passphrase: passphrase, derived: map[string][]byte{}}, Manifest, filepath.Base(path))
}
