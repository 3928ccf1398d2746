package sshca

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// NotaryConfig makes a Notary.
type NotaryConfig struct {
	Type Type // the one type that Key signs
	Key  crypto.Signer
	Rand io.Reader
	Now  func() time.Time
}

// Notary signs certificates that another process has prepared, where that
// process does not hold the key. It holds the bytes to the same profile with
// the same linter and to its own clock, so that whoever can ask it for
// signatures gets certificates of this profile, valid from now, and nothing
// else. It is safe for concurrent use when Key and Rand are.
type Notary struct {
	kind      Type
	authority *authority
	rand      io.Reader
	now       func() time.Time
}

// NewNotary refuses keys that may not be an authority's, and unknown types.
func NewNotary(c NotaryConfig) (*Notary, error) {
	if c.Type != User && c.Type != Host {
		return nil, fmt.Errorf("sshca: certificates have no type %d", c.Type)
	}
	a, err := newAuthority(c.Key)
	if err != nil {
		return nil, fmt.Errorf("sshca: %w", err)
	}
	return &Notary{kind: c.Type, authority: a, rand: c.Rand, now: c.Now}, nil
}

// PublicKey returns the authority's public key.
func (n *Notary) PublicKey() ssh.PublicKey { return n.authority.public }

// Type returns the type of the certificates that it signs.
func (n *Notary) Type() Type { return n.kind }

// Unsigned is what the bytes of a certificate say, for the record of its
// signature.
type Unsigned struct {
	Serial      uint64
	KeyID       string
	Principals  []string
	Fingerprint string // of the certified key
	ValidBefore time.Time
}

// Inspect reads the bytes that are to be signed and holds them to the profile:
// every clause that bytes can break by themselves, and an issue within Skew of
// this clock.
func (n *Notary) Inspect(tbs []byte) (Unsigned, error) {
	_, u, err := n.inspect(tbs)
	return u, err
}

func (n *Notary) inspect(tbs []byte) (*linted, Unsigned, error) {
	c, err := parsePlain(tbs)
	if err != nil {
		return nil, Unsigned{}, fmt.Errorf("sshca: these are no bytes of a certificate: %w", err)
	}
	subject, err := ssh.ParsePublicKey(c.key)
	if err != nil {
		return nil, Unsigned{}, fmt.Errorf("sshca: the certified key: %w", err)
	}
	if err := CheckKey(subject); err != nil {
		return nil, Unsigned{}, err
	}
	r, err := n.request(c, subject)
	if err != nil {
		return nil, Unsigned{}, err
	}
	ok, err := lint(tbs, expectation{request: r, authority: n.authority.public.Marshal()})
	if err != nil {
		return nil, Unsigned{}, err
	}
	if off := n.now().Sub(r.IssuedAt).Abs(); off > Skew {
		return nil, Unsigned{}, fmt.Errorf("sshca: it says that it is issued %s away from this clock", off.Truncate(time.Second))
	}
	u := Unsigned{Serial: c.serial, KeyID: c.keyID, Principals: c.principals, Fingerprint: ssh.FingerprintSHA256(subject), ValidBefore: time.Unix(int64(c.before), 0).UTC()} //nolint:gosec // the linter bounds it
	return ok, u, nil
}

// request is what the certificate would have been asked for, as its bytes say;
// the linter then finds what no request may ask for.
func (n *Notary) request(c plainCertificate, subject ssh.PublicKey) (Request, error) {
	const finite = 1 << 40 // seconds
	if c.after > finite || c.before > finite {
		return Request{}, errors.New("sshca: its validity is not finite")
	}
	r := Request{Type: n.kind, PublicKey: subject, Principals: c.principals, KeyID: c.keyID, Options: map[string]string{}, Extensions: map[string]string{}}
	for _, o := range c.options {
		r.Options[o.name] = o.value
	}
	for _, e := range c.extensions {
		r.Extensions[e.name] = e.value
	}
	r.IssuedAt = time.Unix(int64(c.after), 0).Add(Skew)
	if n.kind == User { // says it to the microsecond, and the linter that it says it
		micro, err := strconv.ParseInt(r.Extensions[ExtIssued], 10, 64)
		if err != nil || micro < 0 {
			return Request{}, errors.New("sshca: it does not say when it is issued")
		}
		r.IssuedAt = time.UnixMicro(micro)
	}
	r.Lifetime = time.Unix(int64(c.before), 0).Sub(r.IssuedAt)
	return r, nil
}

// Sign signs what Inspect lets pass.
func (n *Notary) Sign(tbs []byte) (*ssh.Signature, error) {
	ok, _, err := n.inspect(tbs)
	if err != nil {
		return nil, err
	}
	bytes, err := ok.take()
	if err != nil {
		return nil, err
	}
	sig, err := n.authority.sign(n.rand, bytes)
	if err != nil {
		return nil, fmt.Errorf("sshca: sign: %w", err)
	}
	if err := n.authority.public.Verify(bytes, sig); err != nil {
		return nil, fmt.Errorf("sshca: the key's signature: %w", err)
	}
	return sig, nil
}
