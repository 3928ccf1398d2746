package sshca

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

// Type of a certificate, as PROTOCOL.certkeys numbers them.
type Type uint32

// The two types.
const (
	User Type = ssh.UserCert
	Host Type = ssh.HostCert
)

// Our own extensions. Their value is a text; PROTOCOL.certkeys says that names
// of others' extensions carry a domain.
const (
	ExtObjectID = "object-id@sallyport" // directory object id of the principal
	ExtTenant   = "tenant@sallyport"    // tenant id
	ExtIssued   = "issued@sallyport"    // time of issue in Unix microseconds; ValidAfter has whole seconds
	ExtFactors  = "factors@sallyport"   // "pwd:UNIXTIME,otp:UNIXTIME", sorted by name
	ExtPolicy   = "policy@sallyport"    // revision of the policy that allowed it
	ExtMachine  = "machine@sallyport"   // the one machine that may accept it
)

// Skew is how far ValidAfter lies before the time of issue, for clocks that lag.
const Skew = 5 * time.Minute

// Lifetimes, counted from the time of issue.
const (
	MinLifetime  = time.Minute
	MaxLifetime  = 24 * time.Hour
	HostLifetime = 7 * 24 * time.Hour
)

// Request is everything that a certificate says. Serial, nonce, signature key
// and the start of its validity are the issuer's.
type Request struct {
	Type       Type
	PublicKey  ssh.PublicKey
	Principals []string          // user: (UPN, object id) or (object id); host: the machine's one name
	KeyID      string            // correlation id, a GUID
	IssuedAt   time.Time         // the frozen time of the request
	Lifetime   time.Duration     // from IssuedAt
	Options    map[string]string // critical options
	Extensions map[string]string
}

// HostKeys tells whether a public key is a machine's host key. Such a key never
// gets a user certificate: whoever holds it speaks for a machine, not a person.
type HostKeys interface {
	IsHostKey(fingerprint string) bool // fingerprint as "SHA256:..."
}

// Config makes an Issuer.
type Config struct {
	UserCA   crypto.Signer
	HostCA   crypto.Signer
	Rand     io.Reader
	Own      []crypto.PublicKey // every key of this deployment
	HostKeys HostKeys           // may be nil while no machine has joined
}

// Issuer signs certificates. It is safe for concurrent use when Rand is.
type Issuer struct {
	rand     io.Reader
	user     *authority
	host     *authority
	own      map[string]bool
	hostKeys HostKeys
}

// New checks the CA keys. A certificate in the place of a CA key is refused
// here (CVE-2025-49825), and both types need their own key.
func New(c Config) (*Issuer, error) {
	user, err := newAuthority(c.UserCA)
	if err != nil {
		return nil, fmt.Errorf("sshca: user CA: %w", err)
	}
	host, err := newAuthority(c.HostCA)
	if err != nil {
		return nil, fmt.Errorf("sshca: host CA: %w", err)
	}
	if string(user.PublicKey().Marshal()) == string(host.PublicKey().Marshal()) {
		return nil, errors.New("sshca: user CA and host CA are the same key")
	}
	own := map[string]bool{string(user.PublicKey().Marshal()): true, string(host.PublicKey().Marshal()): true}
	for _, k := range c.Own {
		p, err := ssh.NewPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("sshca: own key: %w", err)
		}
		own[string(p.Marshal())] = true
	}
	return &Issuer{rand: c.Rand, user: user, host: host, own: own, hostKeys: c.HostKeys}, nil
}

// UserCA returns the public key that machines trust for users.
func (i *Issuer) UserCA() ssh.PublicKey { return i.user.PublicKey() }

// HostCA returns the public key that clients trust for machines.
func (i *Issuer) HostCA() ssh.PublicKey { return i.host.PublicKey() }

// Issue prepares, lints, signs and verifies one certificate. A key or request
// that the profile forbids is a fault of kind Invalid; a certificate that the
// linter refuses although the request passed is our own mistake, Internal.
func (i *Issuer) Issue(r Request) (*ssh.Certificate, error) {
	if err := i.checkSubject(r); err != nil {
		return nil, err
	}
	tbs, signer, err := i.prepare(r)
	if err != nil {
		return nil, err
	}
	ok, err := lint(tbs, expectation{request: r, authority: signer.PublicKey().Marshal()})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "CertificateLint", "the certificate does not meet its profile and was not signed").
			WithRemedy("Report this with the correlation id.")
	}
	return i.sign(ok, signer)
}

// checkSubject judges the key and the words that came from outside.
func (i *Issuer) checkSubject(r Request) error {
	if r.PublicKey == nil {
		return fault.New(fault.Invalid, "KeyMissing", "there is no public key to certify")
	}
	if err := CheckKey(r.PublicKey); err != nil {
		return err
	}
	if i.own[string(r.PublicKey.Marshal())] {
		return fault.New(fault.Invalid, "KeyForbidden", "this public key belongs to the server itself").WithRemedy("Make a new key pair.")
	}
	if r.Type == User && i.hostKeys != nil && i.hostKeys.IsHostKey(ssh.FingerprintSHA256(r.PublicKey)) {
		return fault.New(fault.Invalid, "KeyForbidden", "this public key is the host key of a machine").WithRemedy("Make a key pair of your own.")
	}
	if r.Type == User && (r.Lifetime < MinLifetime || r.Lifetime > MaxLifetime) {
		return fault.New(fault.Invalid, "LifetimeInvalid", "a certificate lives between 1 minute and 24 hours, not %s", r.Lifetime)
	}
	for _, p := range r.Principals {
		if !PrincipalAllowed(p) {
			return fault.New(fault.Invalid, "PrincipalInvalid", "the name %q cannot stand in a certificate", p).
				WithRemedy("Names hold a-z, 0-9, '.', '_', '-', an apostrophe and one '@'.")
		}
	}
	return nil
}

// prepare builds the bytes that will be signed, in the layout of
// PROTOCOL.certkeys, up to and including the signature key.
func (i *Issuer) prepare(r Request) ([]byte, *authority, error) {
	signer := i.user
	if r.Type == Host {
		signer = i.host
	}
	var random [40]byte
	if _, err := io.ReadFull(i.rand, random[:]); err != nil {
		return nil, nil, fmt.Errorf("sshca: %w", err)
	}
	cert := &ssh.Certificate{
		Nonce: random[:32], Key: r.PublicKey, Serial: binary.BigEndian.Uint64(random[32:]), CertType: uint32(r.Type),
		KeyId: r.KeyID, ValidPrincipals: r.Principals,
		ValidAfter: uint64(r.IssuedAt.Add(-Skew).Unix()), ValidBefore: uint64(r.IssuedAt.Add(r.Lifetime).Unix()),
		Permissions:  ssh.Permissions{CriticalOptions: r.Options, Extensions: r.Extensions},
		SignatureKey: signer.PublicKey(),
	}
	whole := cert.Marshal()
	return whole[:len(whole)-4], signer, nil // without the empty signature's length
}

// sign takes the linter's one-use token, never bytes, and verifies the result
// as a reader would. A key that lives elsewhere and is away says so in its own
// words: the caller may try again.
func (i *Issuer) sign(l *linted, signer *authority) (*ssh.Certificate, error) {
	tbs, err := l.take()
	if err != nil {
		return nil, err
	}
	sig, err := signer.sign(i.rand, tbs)
	if fault.Is(err, fault.Unavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "CertificateSign", "the certificate could not be signed")
	}
	packed := ssh.Marshal(*sig)
	blob := binary.BigEndian.AppendUint32(append([]byte(nil), tbs...), uint32(len(packed)))
	parsed, err := ssh.ParsePublicKey(append(blob, packed...))
	cert, ok := parsed.(*ssh.Certificate)
	switch {
	case err != nil:
	case !ok || cert.Signature.Format != signer.algorithm:
		err = errors.New("what was signed is no certificate of the authority's algorithm")
	default:
		err = signer.PublicKey().Verify(tbs, cert.Signature)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "CertificateVerify", "the certificate's signature does not verify")
	}
	return cert, nil
}
