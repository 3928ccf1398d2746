package keystore

import (
	"crypto/x509"
	"encoding/json"
	"fmt"

	"sallyport/internal/machine/protocol"
)

// SignManifest fills in the deployment's own public keys and signs the result
// with the manifest key. facts carries everything else; its Keys, when given,
// are further keys still (or already) trusted during a rotation and follow the
// current ones.
func (s *Store) SignManifest(facts protocol.Manifest) (protocol.SignedManifest, error) {
	signer, err := s.Signer(Manifest)
	if err != nil {
		return protocol.SignedManifest{}, err
	}
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
	payload, err := json.Marshal(facts)
	if err != nil {
		return protocol.SignedManifest{}, fmt.Errorf("keystore: manifest: %w", err)
	}
	envelope, err := protocol.Sign(s.rand, signer, protocol.TypeManifest, payload)
	if err != nil {
		return protocol.SignedManifest{}, fmt.Errorf("keystore: manifest: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return protocol.SignedManifest{}, fmt.Errorf("keystore: manifest: %w", err)
	}
	signed := protocol.SignedManifest{ManifestKey: public, Envelope: envelope}
	// What a reader would refuse must not leave the server.
	if _, err := signed.Open(envelope.KeyID); err != nil {
		return protocol.SignedManifest{}, fmt.Errorf("keystore: the manifest does not verify: %w", err)
	}
	return signed, nil
}
