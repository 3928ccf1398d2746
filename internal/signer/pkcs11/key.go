//go:build pkcs11

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"

	"sallyport/internal/fault"
)

// Of PKCS#11 3.0 sections 6.3.1 to 6.3.11, which the module's constants, of
// version 2.40, do not have.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
)

// Algorithm names the kind of a key to make.
type Algorithm string

// The kinds.
const (
	Ed25519   Algorithm = "ed25519"
	ECDSAP256 Algorithm = "ecdsa-p256"
)

// curve returns a kind's CKA_EC_PARAMS: an object identifier in DER (RFC 8410
// for Ed25519, RFC 5480 for P-256).
func curve(a Algorithm) (params []byte, keyType, generate uint, err error) {
	switch a {
	case Ed25519:
		return []byte{6, 3, 0x2b, 0x65, 0x70}, ckkECEdwards, ckmECEdwardsKeyPairGen, nil
	case ECDSAP256:
		return []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, nil
	}
	return nil, 0, 0, fault.New(fault.Invalid, "InvalidAlgorithm", "%q is no algorithm of a key in a token; known are ed25519, ecdsa-p256", a)
}

// Generate makes a key in the token that signs and never leaves it. A label that
// is taken is refused.
func (t *Token) Generate(label string, a Algorithm) (*Key, error) {
	params, keyType, mechanism, err := curve(a)
	if err != nil {
		return nil, err
	}
	if label == "" {
		return nil, fault.New(fault.Invalid, "KeyLabel", "a key needs a label")
	}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		var taken []pkcs11.ObjectHandle
		if err := t.do(func(s pkcs11.SessionHandle) (err error) { taken, err = t.objects(s, class, label); return err }); err != nil {
			return nil, err
		}
		if len(taken) != 0 {
			return nil, fault.New(fault.Conflict, "KeyExists", "the token %q has a key %q already; keys are never replaced", t.cfg.Label, label)
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	public := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)),
	}
	private := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)),
	}
	if _, _, err := t.lib.GenerateKeyPair(t.anchor, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "TokenKey", "the token %q makes no %s key: %v", t.cfg.Label, a, err)
	}
	return t.key(t.anchor, label)
}

// Key finds the one private key of a label, and its public half.
func (t *Token) Key(label string) (k *Key, err error) {
	err = t.do(func(s pkcs11.SessionHandle) error { k, err = t.key(s, label); return err })
	return k, err
}

func (t *Token) key(s pkcs11.SessionHandle, label string) (*Key, error) {
	if _, err := t.private(s, label); err != nil {
		return nil, err
	}
	found, err := t.objects(s, pkcs11.CKO_PUBLIC_KEY, label)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fault.New(fault.NotFound, "KeyMissing", "the token %q has %d public keys %q, and one is needed", t.cfg.Label, len(found), label)
	}
	attributes, err := t.lib.GetAttributeValue(s, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil || len(attributes) != 2 {
		return nil, fault.Wrap(err, fault.Invalid, "KeyUnfit", "the key %q is not on an elliptic curve", label)
	}
	public, err := point(attributes[0].Value, attributes[1].Value)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "KeyUnfit", "the key %q: %v", label, err)
	}
	return &Key{token: t, label: label, public: public}, nil
}

// point reads a public key: DER's OCTET STRING, which the standard wants, or the
// bare bytes, which some tokens give.
func point(params, value []byte) (crypto.PublicKey, error) {
	var inner []byte
	if rest, err := asn1.Unmarshal(value, &inner); err == nil && len(rest) == 0 {
		value = inner
	}
	ed, _, _, _ := curve(Ed25519)
	p256, _, _, _ := curve(ECDSAP256)
	named := append([]byte{0x13, 12}, "edwards25519"...) // PKCS#11 3.0 section 6.3.5 allows the name
	switch {
	case bytes.Equal(params, ed) || bytes.Equal(params, named):
		if len(value) != ed25519.PublicKeySize {
			return nil, errors.New("its point is malformed")
		}
		return ed25519.PublicKey(bytes.Clone(value)), nil
	case bytes.Equal(params, p256):
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), value)
	}
	return nil, fmt.Errorf("its curve %x is neither Ed25519 nor P-256", params)
}

func (t *Token) private(s pkcs11.SessionHandle, label string) (pkcs11.ObjectHandle, error) {
	t.finding.Lock()
	defer t.finding.Unlock()
	if handle, ok := t.handles[label]; ok {
		return handle, nil
	}
	found, err := t.objects(s, pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fault.New(fault.NotFound, "KeyMissing", "the token %q has %d private keys %q, and one is needed", t.cfg.Label, len(found), label)
	}
	t.handles[label] = found[0]
	return found[0], nil
}

func (t *Token) objects(s pkcs11.SessionHandle, class uint, label string) ([]pkcs11.ObjectHandle, error) {
	if err := t.lib.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
		return nil, err
	}
	found, _, err := t.lib.FindObjects(s, 2)
	return found, errors.Join(err, t.lib.FindObjectsFinal(s))
}

// Key is a key in the token.
type Key struct {
	token  *Token
	label  string
	public crypto.PublicKey
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a digest (P-256, SHA-256) or a message (Ed25519), as crypto's own
// keys do.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	var mechanism uint = ckmEDDSA
	_, isECDSA := k.public.(*ecdsa.PublicKey)
	switch {
	case isECDSA && opts.HashFunc() == crypto.SHA256 && len(digest) == crypto.SHA256.Size():
		mechanism = pkcs11.CKM_ECDSA
	case isECDSA || opts.HashFunc() != 0:
		return nil, fmt.Errorf("pkcs11: this key does not sign with %v", opts.HashFunc())
	}
	err = k.token.do(func(s pkcs11.SessionHandle) error {
		handle, err := k.token.private(s, k.label)
		if err != nil {
			return err
		}
		if err := k.token.lib.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, handle); err != nil {
			return err
		}
		signature, err = k.token.lib.Sign(s, digest)
		return err
	})
	if err != nil || !isECDSA {
		return signature, err
	}
	if len(signature) != 64 {
		return nil, fmt.Errorf("pkcs11: an ECDSA signature of %d bytes", len(signature))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
}

// Probe reports why the key cannot sign now. What it signs to find out is no
// certificate and leaves this process in no form.
func (k *Key) Probe() error {
	digest, opts := make([]byte, crypto.SHA256.Size()), crypto.SignerOpts(crypto.Hash(0))
	if _, isECDSA := k.public.(*ecdsa.PublicKey); isECDSA {
		opts = crypto.SHA256
	}
	_, err := k.Sign(nil, digest, opts)
	return err
}
