package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"io"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Algorithm names the kind of an authority's key.
type Algorithm string

// The kinds that an authority's key can be of. The zero value is Ed25519.
const (
	Ed25519   Algorithm = "ed25519"
	ECDSAP256 Algorithm = "ecdsa-p256"
	ECDSAP384 Algorithm = "ecdsa-p384"
	RSA3072   Algorithm = "rsa-3072"
	RSA4096   Algorithm = "rsa-4096"
)

// Algorithms returns the names that ParseAlgorithm takes, Ed25519 first.
func Algorithms() []Algorithm {
	return []Algorithm{Ed25519, ECDSAP256, ECDSAP384, RSA3072, RSA4096}
}

// ParseAlgorithm reads a name of Algorithms.
func ParseAlgorithm(text string) (Algorithm, error) {
	if a := Algorithm(text); slices.Contains(Algorithms(), a) {
		return a, nil
	}
	names := make([]string, 0, len(Algorithms()))
	for _, a := range Algorithms() {
		names = append(names, string(a))
	}
	return "", fault.New(fault.Invalid, "InvalidAlgorithm", "%q is no algorithm of an authority's key; known are %s", text, strings.Join(names, ", "))
}

// authority reports whether a purpose's key signs SSH certificates and nothing
// else: its kind is a deployment's choice, and they may live in a signer.
func authority(p Purpose) bool { return p == protocol.UserCA || p == protocol.HostCA }

// generate makes a key of the kind that its purpose needs. Tokens are RS256,
// because that is what MSAL and the Azure SDKs verify; TLS keys are P-256,
// because browsers accept no Ed25519 certificates; packages are signed with RSA,
// because older rpm and gpg verify no other; the rest is Ed25519, and an
// authority's what the deployment has chosen.
func generate(rand io.Reader, p Purpose, chosen Algorithm) (crypto.Signer, error) {
	switch {
	case !authority(p) && chosen != "":
		return nil, fault.New(fault.Invalid, "InvalidAlgorithm", "the algorithm of the %s key cannot be chosen", p)
	case p == protocol.Token:
		return rsa.GenerateKey(rand, 2048)
	case p == Repository:
		return rsa.GenerateKey(rand, 3072)
	case p == TLS || p == TLSCA:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	}
	switch chosen {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand)
	case RSA3072:
		return rsa.GenerateKey(rand, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand, 4096)
	default:
		_, key, err := ed25519.GenerateKey(rand)
		return key, err
	}
}

// suits checks that a key is of its purpose's kind and strong enough for it.
func suits(p Purpose, key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return p == protocol.Token && k.N.BitLen() >= 2048 || (authority(p) || p == Repository) && k.N.BitLen() >= 3072 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		if authority(p) {
			return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
		}
		return p == TLS || p == TLSCA
	case ed25519.PublicKey:
		return p != TLS && p != TLSCA && p != protocol.Token && p != Repository
	}
	return false
}
