package sshca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Bounds of an RSA authority. NIST SP 800-57 gives 2048 bits until 2030 only,
// and an authority is meant to last.
const (
	minAuthorityRSA = 3072
	maxAuthorityRSA = 8192
)

// authority is a CA key. It signs whole messages by the one algorithm that its
// key is bound to; no request, agent or library default can choose another.
type authority struct {
	key       crypto.Signer
	public    ssh.PublicKey
	algorithm string // of its signatures
	hash      crypto.Hash
}

// newAuthority refuses a key that is not strong enough to speak for others.
func newAuthority(key crypto.Signer) (*authority, error) {
	if key == nil {
		return nil, errors.New("no key")
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, public: public}
	a.algorithm, a.hash, err = SignatureAlgorithm(public)
	return a, err
}

// SignatureAlgorithm returns the one algorithm by which an authority's key
// signs, and its hash: the key's own for Ed25519 and ECDSA, rsa-sha2-512 (RFC
// 8332) for RSA, because OpenSSH accepts no ssh-rsa signature on a certificate
// since 8.2. A key that may not be an authority is an error: a certificate
// (CVE-2025-49825), a security key, RSA below 3072 bits, anything else.
func SignatureAlgorithm(k ssh.PublicKey) (algorithm string, hash crypto.Hash, err error) {
	if _, isCert := k.(*ssh.Certificate); isCert || strings.Contains(k.Type(), "-cert-") {
		return "", 0, errors.New("a certificate cannot be an authority")
	}
	switch k.Type() {
	case ssh.KeyAlgoED25519:
		return ssh.KeyAlgoED25519, 0, nil
	case ssh.KeyAlgoECDSA256:
		return ssh.KeyAlgoECDSA256, crypto.SHA256, nil
	case ssh.KeyAlgoECDSA384:
		return ssh.KeyAlgoECDSA384, crypto.SHA384, nil
	case ssh.KeyAlgoECDSA521:
		return ssh.KeyAlgoECDSA521, crypto.SHA512, nil
	case ssh.KeyAlgoRSA:
		if err := checkRSA(k); err != nil {
			return "", 0, err
		}
		if bits := rsaBits(k); bits < minAuthorityRSA || bits > maxAuthorityRSA {
			return "", 0, fmt.Errorf("an RSA authority has %d to %d bits, not %d", minAuthorityRSA, maxAuthorityRSA, bits)
		}
		return ssh.KeyAlgoRSASHA512, crypto.SHA512, nil
	}
	return "", 0, fmt.Errorf("a %s key cannot be an authority", k.Type())
}

func rsaBits(k ssh.PublicKey) int {
	if pub, ok := rsaOf(k); ok {
		return pub.N.BitLen()
	}
	return 0
}

func rsaOf(k ssh.PublicKey) (*rsa.PublicKey, bool) {
	holder, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return nil, false
	}
	pub, ok := holder.CryptoPublicKey().(*rsa.PublicKey)
	return pub, ok
}

// PublicKey returns the key that readers trust.
func (a *authority) PublicKey() ssh.PublicKey { return a.public }

// sign signs a message. The key may be in another process: what comes back is
// verified by whoever uses it.
func (a *authority) sign(rand io.Reader, message []byte) (*ssh.Signature, error) {
	raw, err := crypto.SignMessage(a.key, rand, message, a.hash)
	if err != nil {
		return nil, err
	}
	if raw, err = wireSignature(a.key.Public(), raw); err != nil {
		return nil, err
	}
	return &ssh.Signature{Format: a.algorithm, Blob: raw}, nil
}

// wireSignature is a signature as SSH writes it: ECDSA's two numbers as in RFC
// 5656 section 3.1.2 instead of ASN.1, all others as they are.
func wireSignature(pub crypto.PublicKey, raw []byte) ([]byte, error) {
	switch pub.(type) {
	case ed25519.PublicKey, *rsa.PublicKey:
		return raw, nil
	case *ecdsa.PublicKey:
		var n struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(raw, &n); err != nil || len(rest) != 0 {
			return nil, errors.New("the ECDSA signature is malformed")
		}
		return ssh.Marshal(n), nil
	}
	return nil, fmt.Errorf("a %T cannot sign certificates", pub)
}
