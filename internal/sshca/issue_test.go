package sshca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

const (
	oid    = "33333333-3333-3333-3333-333333333333"
	tenant = "11111111-1111-1111-1111-111111111111"
	corr   = "22222222-2222-2222-2222-222222222222"
)

func issuedAt() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func newKey(t testing.TB) (ssh.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return p, priv
}

type hostKeys map[string]bool

func (h hostKeys) IsHostKey(f string) bool { return h[f] }

func newIssuer(t testing.TB, hosts HostKeys) *Issuer {
	t.Helper()
	_, user := newKey(t)
	_, host := newKey(t)
	_, other := newKey(t)
	i, err := New(Config{UserCA: user, HostCA: host, Rand: rand.Reader, Own: []crypto.PublicKey{other.Public()}, HostKeys: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func userRequest(t testing.TB) Request {
	t.Helper()
	pub, _ := newKey(t)
	return Request{
		Type: User, PublicKey: pub, Principals: []string{"alice@contoso.test", oid}, KeyID: corr, IssuedAt: issuedAt(), Lifetime: time.Hour,
		Extensions: map[string]string{"permit-pty": "", ExtObjectID: oid, ExtTenant: tenant, ExtIssued: strconv.FormatInt(issuedAt().UnixMicro(), 10), ExtFactors: "pwd:1795348800", ExtPolicy: "default"},
	}
}

func hostRequest(t testing.TB) Request {
	t.Helper()
	pub, _ := newKey(t)
	return Request{Type: Host, PublicKey: pub, Principals: []string{oid + ".machine.contoso.test"}, KeyID: corr, IssuedAt: issuedAt(), Lifetime: HostLifetime}
}

func TestIssue_UserAndHost(t *testing.T) {
	i := newIssuer(t, nil)
	for _, r := range []Request{userRequest(t), hostRequest(t)} {
		cert, err := i.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		ca := i.UserCA()
		if r.Type == Host {
			ca = i.HostCA()
		}
		if !bytes.Equal(cert.SignatureKey.Marshal(), ca.Marshal()) || !bytes.Equal(cert.Key.Marshal(), r.PublicKey.Marshal()) {
			t.Fatal("keys")
		}
		checker := ssh.CertChecker{Clock: issuedAt, SupportedCriticalOptions: []string{"source-address", "verify-required"}}
		if err := checker.CheckCert(r.Principals[0], cert); err != nil {
			t.Fatal(err)
		}
		if cert.KeyId != corr || !slices.Equal(cert.ValidPrincipals, r.Principals) || !maps.Equal(cert.Extensions, r.Extensions) {
			t.Fatalf("%+v", cert)
		}
		if cert.ValidAfter != uint64(issuedAt().Add(-Skew).Unix()) || cert.ValidBefore != uint64(issuedAt().Add(r.Lifetime).Unix()) {
			t.Fatal("validity")
		}
	}
}

func TestClause_C3_SerialsAndNoncesDiffer(t *testing.T) {
	i, r := newIssuer(t, nil), userRequest(t)
	seen := map[uint64]bool{}
	for range 100 {
		c, err := i.Issue(r)
		if err != nil || seen[c.Serial] {
			t.Fatal(err, "serial repeats")
		}
		seen[c.Serial] = true
	}
}

func TestClause_C1_EveryKeyTypeThatSSHKeygenMakes(t *testing.T) {
	i := newIssuer(t, nil)
	var keys []ssh.PublicKey
	add := func(pub any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		k, err := ssh.NewPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		add(k.Public(), err)
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	add(k.Public(), err)
	keys = append(keys, securityKeys(t)...)
	for _, k := range keys {
		r := userRequest(t)
		r.PublicKey = k
		c, err := i.Issue(r)
		if err != nil {
			t.Fatalf("%s: %v", k.Type(), err)
		}
		if !bytes.Equal(c.Key.Marshal(), k.Marshal()) {
			t.Fatalf("%s: key changed", k.Type())
		}
	}
}

// securityKeys builds sk public keys by the layout of PROTOCOL.u2f.
func securityKeys(t *testing.T) []ssh.PublicKey {
	t.Helper()
	pub, _ := newKey(t)
	raw := ssh.Marshal(struct {
		Name, Key, App string
	}{ssh.KeyAlgoSKED25519, string(pub.Marshal()[len(pub.Marshal())-32:]), "ssh:"})
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	raw2 := ssh.Marshal(struct {
		Name, Curve, Point, App string
	}{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), "ssh:"})
	var out []ssh.PublicKey
	for _, b := range [][]byte{raw, raw2} {
		k, err := ssh.ParsePublicKey(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

// TestNew_CVE_2025_49825_CertificateAsAuthority: a certificate must never be
// taken for a CA key, nor be the subject of another certificate.
func TestNew_CVE_2025_49825_CertificateAsAuthority(t *testing.T) {
	i := newIssuer(t, nil)
	cert, err := i.Issue(userRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := SignatureAlgorithm(cert); err == nil || !strings.Contains(err.Error(), "a certificate cannot be") {
		t.Fatalf("a certificate as authority: %v", err)
	}
	r := userRequest(t)
	r.PublicKey = cert
	if _, err := i.Issue(r); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "itself a certificate") {
		t.Fatalf("a certificate was certified: %v", err)
	}
}

func TestNew_OneKeyForBothTypesIsRefused(t *testing.T) {
	_, k := newKey(t)
	if _, err := New(Config{UserCA: k, HostCA: k, Rand: rand.Reader}); err == nil {
		t.Fatal("accepted")
	}
	if _, err := New(Config{UserCA: k, Rand: rand.Reader}); err == nil {
		t.Fatal("accepted without a host CA")
	}
}

func TestClause_C12_ForbiddenSubjects(t *testing.T) {
	hostPub, _ := newKey(t)
	i := newIssuer(t, hostKeys{ssh.FingerprintSHA256(hostPub): true})
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil && !strings.Contains(err.Error(), "1024") {
		t.Fatal(err)
	}
	cases := map[string]ssh.PublicKey{"user CA": i.UserCA(), "host CA": i.HostCA(), "host key of a machine": hostPub, "no key": nil}
	if err == nil {
		k, err := ssh.NewPublicKey(small.Public())
		if err != nil {
			t.Fatal(err)
		}
		cases["small RSA"] = k
	}
	for blob := range i.own {
		k, err := ssh.ParsePublicKey([]byte(blob))
		if err != nil {
			t.Fatal(err)
		}
		cases["own "+ssh.FingerprintSHA256(k)] = k
	}
	// What OpenSSH calls ssh-dss, and a key that only calls itself RSA.
	ed, _ := newKey(t)
	cases["DSA"], cases["no RSA"] = calledSo{ed, "ssh-dss"}, calledSo{ed, ssh.KeyAlgoRSA}
	for name, k := range cases {
		r := userRequest(t)
		r.PublicKey = k
		if _, err := i.Issue(r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// calledSo is a key that gives itself another type.
type calledSo struct {
	ssh.PublicKey
	name string
}

func (k calledSo) Type() string { return k.name }

func TestIssue_Lifetime(t *testing.T) {
	i := newIssuer(t, nil)
	for _, life := range []time.Duration{0, MinLifetime - time.Second, MaxLifetime + time.Second} {
		r := userRequest(t)
		r.Lifetime = life
		if _, err := i.Issue(r); fault.As(err).Code != "LifetimeInvalid" {
			t.Errorf("%s: %v", life, err)
		}
	}
}

func TestIssue_ReadersFailureIsAnError(t *testing.T) {
	i := newIssuer(t, nil)
	i.rand = errReader{}
	if _, err := i.Issue(userRequest(t)); err == nil {
		t.Fatal("issued without randomness")
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestClause_C13_OnlyLintedBytesAreSignedOnce(t *testing.T) {
	i, r := newIssuer(t, nil), userRequest(t)
	tbs, signer, err := i.prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lint(tbs, expectation{request: r, authority: signer.PublicKey().Marshal()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.sign(l, signer); err != nil {
		t.Fatal(err)
	}
	if _, err := i.sign(l, signer); err == nil {
		t.Fatal("signed twice with one permission")
	}
	if _, err := i.sign(nil, signer); err == nil {
		t.Fatal("signed without permission")
	}
}

func BenchmarkIssue(b *testing.B) {
	i, r := newIssuer(b, nil), userRequest(b)
	for b.Loop() {
		if _, err := i.Issue(r); err != nil {
			b.Fatal(err)
		}
	}
}
