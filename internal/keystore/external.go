package keystore

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/internal/fault"
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

// adopt writes down the public half of a key that is elsewhere, so that the
// next start knows it even while the other process is away. No private file of
// that purpose is made.
func adopt(c Config, p Purpose, from External) error {
	if !authority(p) {
		return fault.New(fault.Invalid, "InvalidSigner", "the %s key cannot be in another process", p)
	}
	if c.Algorithms[p] != "" {
		return fault.New(fault.Invalid, "InvalidAlgorithm", "the %s key is in a signer, so its algorithm is the signer's", p)
	}
	public, err := from.Fetch()
	if err != nil {
		return err
	}
	if !suits(p, public) {
		return fault.New(fault.Invalid, "KeyInvalid", "the signer's key is of the wrong kind, or too weak, for %s", p).
			WithRemedy("Use Ed25519, ECDSA on P-256, P-384 or P-521, or RSA of 3072 bits or more.")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return writeSecret(c, &box{}, publicName(p), pemPublic, der)
}

// readExternal opens a key that is elsewhere. That the public half is this
// deployment's is the manifest's word, not the file's.
func readExternal(dir string, p Purpose, from External) (crypto.Signer, error) {
	if _, err := os.Lstat(filepath.Join(dir, fileName(p))); err == nil {
		return nil, fault.New(fault.Conflict, "KeyTwice", "a signer is configured for %s, and there is a private key %s too", p, filepath.Join(dir, fileName(p))).
			WithRemedy("Start without the signer, or rotate the key to it.")
	}
	der, err := readSecret(dir, &box{}, publicName(p), pemPublic)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(err, fault.NotFound, "KeysMissing", "a signer is configured for %s, but %s is missing", p, filepath.Join(dir, publicName(p))).
			WithRemedy("The file is made by: sally server init --%s-signer ...", p)
	}
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil || !suits(p, public) {
		return nil, fault.Wrap(err, fault.Invalid, "KeyInvalid", "%s holds no key that is fit for its purpose", filepath.Join(dir, publicName(p)))
	}
	return from.Bind(public)
}

// elsewhere explains why a private key is missing whose public half is there.
func elsewhere(dir string, p Purpose, missing error) error {
	if _, err := os.Lstat(filepath.Join(dir, publicName(p))); err != nil {
		return missing
	}
	return fault.Wrap(missing, fault.Invalid, "SignerMissing", "the %s key of this deployment is in a signer, and none is configured", p).
		WithRemedy("Give --%s-signer ssh-agent:/path/of/socket#SHA256:FINGERPRINT, or the same in the configuration file.", p)
}
