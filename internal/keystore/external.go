package keystore

import (
	"crypto"
	"crypto/x509"
	"errors"
	"maps"
	"path/filepath"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// External is a private key that another process holds: a hardware module's, an
// ssh-agent's. Only the authorities' keys can be elsewhere; the others sign too
// often, or before anything else runs.
type External interface {
	// Fetch asks the process for the public key.
	Fetch() (crypto.PublicKey, error)
	// Bind returns the signer of a key that is already known, without asking.
	Bind(crypto.PublicKey) (crypto.Signer, error)
}

// pemPublic is the public half of a key that is elsewhere (RFC 7468 section 13).
const pemPublic = "PUBLIC KEY"

func publicName(p Purpose) string { return string(p) + ".pub" }

func publicFile(p Purpose, id string) string { return string(p) + "." + id + ".pub" }

// adopt writes down the public half of a key that is elsewhere, so that the
// next start knows it even while the other process is away. No private file of
// it is made. name says the file's name.
func adopt(c Config, p Purpose, from External, name func(id string) string) (crypto.PublicKey, error) {
	if !authority(p) {
		return nil, fault.New(fault.Invalid, "InvalidSigner", "the %s key cannot be in another process", p)
	}
	public, err := from.Fetch()
	if err != nil {
		return nil, err
	}
	if !suits(p, public) {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "the signer's key is of the wrong kind, or too weak, for %s", p).
			WithRemedy("Use Ed25519, ECDSA on P-256, P-384 or P-521, or RSA of 3072 bits or more.")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	id, err := protocol.Thumbprint(public)
	if err != nil {
		return nil, err
	}
	return public, writeSecret(c, &box{}, name(id), pemPublic, der)
}

// create adopts the one key of a purpose that init is told.
func create(c Config, p Purpose) error {
	if len(c.External[p]) > 1 {
		return fault.New(fault.Invalid, "InvalidSigner", "%d signers are given for %s; a new deployment has one key of each purpose", len(c.External[p]), p)
	}
	if c.Algorithms[p] != "" {
		return fault.New(fault.Invalid, "InvalidAlgorithm", "the %s key is in a signer, so its algorithm is the signer's", p)
	}
	_, err := adopt(c, p, c.External[p][0], func(string) string { return publicName(p) })
	return err
}

// readExternal opens a key that is elsewhere: the one signer that is configured
// for it. That the public half is this deployment's is the manifest's word, not
// the file's.
func readExternal(c Config, p Purpose, name string) (crypto.Signer, error) {
	der, err := readSecret(c.Dir, &box{}, name, pemPublic)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil || !suits(p, public) {
		return nil, fault.Wrap(err, fault.Invalid, "KeyInvalid", "%s holds no key that is fit for its purpose", filepath.Join(c.Dir, name))
	}
	var refused []error
	for _, from := range c.External[p] {
		key, err := from.Bind(public)
		if err == nil {
			return key, nil
		}
		refused = append(refused, err)
	}
	return nil, fault.Wrap(errors.Join(refused...), fault.Invalid, "SignerMissing", "the key %s of this deployment is in a signer, and none is configured for it", filepath.Join(c.Dir, name)).
		WithRemedy("Give --%s-signer ssh-agent:/path/of/socket#SHA256:FINGERPRINT, or the same in the configuration file.", p)
}

// successor adopts the first key of the configured signers that this folder
// does not know: the key that a rotation turns to. With id it must be that key,
// which another server has adopted.
func (s *Store) successor(p Purpose, id string) (crypto.PublicKey, error) {
	s.mu.RLock()
	known := maps.Clone(s.held[p].byID)
	s.mu.RUnlock()
	var failed []error
	for _, from := range s.cfg.External[p] {
		public, err := from.Fetch()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		have, err := protocol.Thumbprint(public)
		if err != nil {
			return nil, err
		}
		if known[have] != nil || id != "" && have != id {
			continue
		}
		if public, err = adopt(s.cfg, p, from, func(id string) string { return publicFile(p, id) }); err != nil {
			return nil, err
		}
		return public, s.reload(p)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Conflict, "KeyElsewhere", "the %s key is in a signer, and no signer of its successor is configured; a key in a file would be weaker", p).
		WithRemedy("Make the successor in a signer, give --%s-signer a second time with its fingerprint, start again, and then rotate.", p)
}
