package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Payload types: the purpose is part of what is signed, so that no document
// can stand in for another.
const (
	TypeManifest = "application/vnd.sallyport.manifest.v1+json"
	TypeSnapshot = "application/vnd.sallyport.snapshot.v1+json"
	TypeAccounts = "application/vnd.sallyport.accounts.v1+json"
	TypeAudit    = "application/vnd.sallyport.audit-head.v1+json"
	TypeEvents   = "application/vnd.sallyport.machine-events.v1+json"
	TypeHostKey  = "application/vnd.sallyport.host-key-proof.v1+json"
)

// MaxDocument bounds a signed document in bytes.
const MaxDocument = 64 << 20

// Envelope is a signed document in the manner of DSSE v1: the signature covers
// the payload type and the payload bytes as they are, so nothing is
// canonicalised before it is verified.
type Envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	KeyID       string `json:"keyId"` // thumbprint of the signing key
	Signature   []byte `json:"sig"`
}

// errSignature is deliberately one error for every way a signature can be wrong.
var errSignature = errors.New("signature does not verify")

// Thumbprint names a public key: unpadded base64url of SHA-256 over its PKIX
// DER form. It is what people copy with the server's address.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("thumbprint: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// preAuth is DSSE's pre-authentication encoding.
func preAuth(payloadType string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	b.Write(payload)
	return b.Bytes()
}

// Sign makes an envelope. rand is used by ECDSA and RSA keys.
func Sign(rand io.Reader, key crypto.Signer, payloadType string, payload []byte) (Envelope, error) {
	id, err := Thumbprint(key.Public())
	if err != nil {
		return Envelope{}, err
	}
	sig, err := signBytes(rand, key, preAuth(payloadType, payload))
	if err != nil {
		return Envelope{}, fmt.Errorf("sign %s: %w", payloadType, err)
	}
	return Envelope{PayloadType: payloadType, Payload: payload, KeyID: id, Signature: sig}, nil
}

func signBytes(rand io.Reader, key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return key.Sign(rand, sum[:], crypto.SHA256)
}

// Open verifies the envelope with pub and returns the payload. The payload type
// must be the expected one.
func (e Envelope) Open(pub crypto.PublicKey, payloadType string) ([]byte, error) {
	if e.PayloadType != payloadType || len(e.Payload) > MaxDocument {
		return nil, errSignature
	}
	message := preAuth(e.PayloadType, e.Payload)
	sum := sha256.Sum256(message)
	ok := false
	switch k := pub.(type) {
	case ed25519.PublicKey:
		ok = len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, e.Signature)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, sum[:], e.Signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], e.Signature) == nil
	}
	if !ok {
		return nil, errSignature
	}
	return e.Payload, nil
}

// Decode reads exactly one JSON value into v and refuses unknown fields and
// trailing bytes.
func Decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing bytes after the document")
	}
	return nil
}
