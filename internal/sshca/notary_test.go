package sshca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func newNotary(t testing.TB, kind Type, key crypto.Signer, now time.Time) *Notary {
	t.Helper()
	n, err := NewNotary(NotaryConfig{Type: kind, Key: key, Rand: rand.Reader, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNotary_SignsWhatTheIssuerPrepares: the issuer's own bytes pass, and the
// signature is the certificate's.
func TestNotary_SignsWhatTheIssuerPrepares(t *testing.T) {
	_, user := newKey(t)
	_, host := newKey(t)
	i, err := New(Config{UserCA: user, HostCA: host, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	alone := userRequest(t)
	alone.Principals = []string{oid}
	alone.Options = map[string]string{"source-address": "10.0.0.0/8", "verify-required": ""}
	for _, c := range []struct {
		n *Notary
		r Request
	}{{newNotary(t, User, user, issuedAt()), userRequest(t)}, {newNotary(t, User, user, issuedAt().Add(Skew)), alone}, {newNotary(t, Host, host, issuedAt()), hostRequest(t)}} {
		tbs, _, err := i.prepare(c.r)
		if err != nil {
			t.Fatal(err)
		}
		u, err := c.n.Inspect(tbs)
		if err != nil || u.KeyID != corr || u.Fingerprint != ssh.FingerprintSHA256(c.r.PublicKey) || u.Serial == 0 {
			t.Fatalf("%+v %v", u, err)
		}
		sig, err := c.n.Sign(tbs)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.n.PublicKey().Verify(tbs, sig); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNotary_SignsNothingElse: a stolen socket signs no session, file or token,
// nothing of the other type, nothing outside the profile, nothing for another
// time.
func TestNotary_SignsNothingElse(t *testing.T) {
	_, key := newKey(t)
	_, other := newKey(t)
	i, err := New(Config{UserCA: key, HostCA: other, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	user := func(alter func(*ssh.Certificate)) []byte { return build(t, i, userRequest(t), alter) }
	never := uint64(1<<64 - 1)
	cases := map[string][]byte{
		"nothing":             {},
		"a text":              []byte("sign me"),
		"an SSH session":      append(ssh.Marshal(struct{ Session []byte }{make([]byte, 32)}), 50),
		"a signed file":       []byte("SSHSIG\x00\x00\x00\x04file"),
		"a token":             []byte("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0"),
		"bytes behind":        append(user(nil), 0),
		"cut short":           user(nil)[:100],
		"another authority":   user(func(c *ssh.Certificate) { c.SignatureKey, _ = newKey(t) }),
		"a host certificate":  build(t, i, hostRequest(t), func(c *ssh.Certificate) { c.SignatureKey = i.UserCA() }),
		"host type, user CA":  user(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }),
		"no principals":       user(func(c *ssh.Certificate) { c.ValidPrincipals = nil }),
		"root":                user(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} }),
		"three principals":    user(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice@contoso.test", oid, oid} }),
		"another's object id": user(func(c *ssh.Certificate) { c.ValidPrincipals[1] = tenant }),
		"for ever":            user(func(c *ssh.Certificate) { c.ValidBefore = never }),
		"two days":            user(func(c *ssh.Certificate) { c.ValidBefore = uint64(issuedAt().Add(48 * time.Hour).Unix()) }),
		"from the past":       user(func(c *ssh.Certificate) { c.ValidAfter = 0 }),
		"from the future":     user(func(c *ssh.Certificate) { c.ValidAfter = uint64(issuedAt().Add(time.Hour).Unix()) }),
		"a forced command":    user(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "sh"} }),
		"foreign extension":   user(func(c *ssh.Certificate) { c.Extensions["login@github.com"] = "x" }),
		"without its issue":   user(func(c *ssh.Certificate) { delete(c.Extensions, ExtIssued) }),
		"without an id":       user(func(c *ssh.Certificate) { c.KeyId = "alice" }),
		"certifies the CA":    user(func(c *ssh.Certificate) { c.Key = i.UserCA() }),
		"serial zero":         user(func(c *ssh.Certificate) { c.Serial = 0 }),
	}
	weak, err := ssh.NewPublicKey(rsaKey(t, 1024).Public())
	if err != nil {
		t.Fatal(err)
	}
	cases["a weak key"] = user(func(c *ssh.Certificate) { c.Key = weak })
	n := newNotary(t, User, key, issuedAt())
	for name, tbs := range cases {
		if sig, err := n.Sign(tbs); err == nil {
			t.Errorf("%s: signed %v", name, sig)
		}
	}
	for name, at := range map[string]time.Time{"an old one": issuedAt().Add(Skew + time.Second), "one for later": issuedAt().Add(-Skew - time.Second)} {
		if _, err := newNotary(t, User, key, at).Sign(user(nil)); err == nil || !strings.Contains(err.Error(), "away from this clock") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewNotary_Refusals(t *testing.T) {
	_, key := newKey(t)
	for name, c := range map[string]NotaryConfig{"no key": {Type: User}, "no type": {Key: key}, "type 3": {Type: 3, Key: key}, "RSA 2048": {Type: Host, Key: rsaKey(t, 2048)}} {
		if _, err := NewNotary(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

// FuzzNotary: whatever is signed is a certificate to the library that OpenSSH's
// readers resemble, of the notary's type and authority.
func FuzzNotary(f *testing.F) {
	_, key := newKey(f)
	_, other := newKey(f)
	i, err := New(Config{UserCA: key, HostCA: other, Rand: rand.Reader})
	if err != nil {
		f.Fatal(err)
	}
	good := build(f, i, userRequest(f), nil)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("SSHSIG"))
	n := newNotary(f, User, key, issuedAt())
	f.Fuzz(func(t *testing.T, tbs []byte) {
		sig, err := n.Sign(tbs)
		if err != nil {
			return
		}
		packed := ssh.Marshal(struct{ Rest []byte }{ssh.Marshal(*sig)})
		k, err := ssh.ParsePublicKey(append(bytes.Clone(tbs), packed...))
		if err != nil {
			t.Fatal(err)
		}
		c, ok := k.(*ssh.Certificate)
		if !ok || c.CertType != ssh.UserCert || !bytes.Equal(c.SignatureKey.Marshal(), i.UserCA().Marshal()) || len(c.ValidPrincipals) == 0 {
			t.Fatalf("%+v", k)
		}
	})
}
