package sshca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecdsaKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestClause_C2_EveryAuthorityAlgorithm: each kind of CA key signs by its one
// algorithm, RSA never by SHA-1.
func TestClause_C2_EveryAuthorityAlgorithm(t *testing.T) {
	_, host := newKey(t)
	for want, key := range map[string]crypto.Signer{
		"ecdsa-sha2-nistp256": ecdsaKey(t, elliptic.P256()), "ecdsa-sha2-nistp384": ecdsaKey(t, elliptic.P384()),
		"ecdsa-sha2-nistp521": ecdsaKey(t, elliptic.P521()), "rsa-sha2-512": rsaKey(t, 3072),
	} {
		for _, c := range []Config{{UserCA: key, HostCA: host, Rand: rand.Reader}, {UserCA: host, HostCA: key, Rand: rand.Reader}} {
			i, err := New(c)
			if err != nil {
				t.Fatal(want, err)
			}
			r := userRequest(t)
			if c.HostCA == key {
				r = hostRequest(t)
			}
			cert, err := i.Issue(r)
			if err != nil {
				t.Fatal(want, err)
			}
			if cert.Signature.Format != want {
				t.Errorf("signed by %s, want %s", cert.Signature.Format, want)
			}
			if err := (&ssh.CertChecker{Clock: issuedAt}).CheckCert(r.Principals[0], cert); err != nil {
				t.Error(want, err)
			}
		}
	}
}

// TestNew_WeakAuthorities: a CA key below the profile is refused before it can
// sign anything, and the linter counts again.
func TestNew_WeakAuthorities(t *testing.T) {
	_, host := newKey(t)
	for name, key := range map[string]crypto.Signer{
		"RSA 2048": rsaKey(t, 2048), "RSA 3064": rsaKey(t, 3064), "P-224": ecdsaKey(t, elliptic.P224()), "no key": nil,
	} {
		if _, err := New(Config{UserCA: key, HostCA: host, Rand: rand.Reader}); err == nil {
			t.Errorf("%s: accepted as user CA", name)
		}
		if _, err := New(Config{UserCA: host, HostCA: key, Rand: rand.Reader}); err == nil {
			t.Errorf("%s: accepted as host CA", name)
		}
	}
	weak, err := ssh.NewPublicKey(rsaKey(t, 2048).Public())
	if err != nil {
		t.Fatal(err)
	}
	r := userRequest(t)
	tbs := build(t, newIssuer(t, nil), r, func(c *ssh.Certificate) { c.SignatureKey = weak })
	if _, err := lint(tbs, expectation{request: r, authority: weak.Marshal()}); err == nil || !strings.Contains(err.Error(), "lint C2:") {
		t.Errorf("the linter let a weak authority pass: %v", err)
	}
}

// elsewhere is a key in another process that answers what it is told to.
type elsewhere struct {
	ed25519.PrivateKey
	answer func(message []byte) ([]byte, error)
}

func (e elsewhere) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return e.answer(message)
}

// TestIssue_KeyElsewhere: a key that is away is Unavailable with its own
// sentence; a signature of other bytes or by another key never leaves.
func TestIssue_KeyElsewhere(t *testing.T) {
	_, key := newKey(t)
	_, other := newKey(t)
	_, host := newKey(t)
	for name, c := range map[string]struct {
		answer func([]byte) ([]byte, error)
		kind   fault.Kind
		fails  bool
	}{
		"its own":      {func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil }, 0, false},
		"away":         {func([]byte) ([]byte, error) { return nil, fault.New(fault.Unavailable, "SignerAway", "away") }, fault.Unavailable, true},
		"other bytes":  {func(m []byte) ([]byte, error) { return ed25519.Sign(key, append(bytes.Clone(m), 0)), nil }, fault.Internal, true},
		"another key":  {func(m []byte) ([]byte, error) { return ed25519.Sign(other, m), nil }, fault.Internal, true},
		"nothing":      {func([]byte) ([]byte, error) { return nil, nil }, fault.Internal, true},
		"plain errors": {func([]byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF }, fault.Internal, true},
	} {
		i, err := New(Config{UserCA: elsewhere{key, c.answer}, HostCA: host, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := i.Issue(userRequest(t))
		if (err != nil) != c.fails || c.fails && (cert != nil || fault.KindOf(err) != c.kind) {
			t.Errorf("%s: %v %v", name, cert, err)
		}
	}
}
