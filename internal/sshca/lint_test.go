package sshca

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// build makes to-be-signed bytes without any of the issuer's checks, so that
// the linter alone is tested.
func build(t testing.TB, i *Issuer, r Request, alter func(*ssh.Certificate)) []byte {
	t.Helper()
	signer := i.user
	if r.Type == Host {
		signer = i.host
	}
	c := &ssh.Certificate{
		Nonce: []byte("0123456789abcdef0123456789abcdef"), Key: r.PublicKey, Serial: 7, CertType: uint32(r.Type), KeyId: r.KeyID, ValidPrincipals: r.Principals,
		ValidAfter: uint64(r.IssuedAt.Add(-Skew).Unix()), ValidBefore: uint64(r.IssuedAt.Add(r.Lifetime).Unix()),
		Permissions: ssh.Permissions{CriticalOptions: r.Options, Extensions: r.Extensions}, SignatureKey: signer.PublicKey(),
	}
	if alter != nil {
		alter(c)
	}
	b := c.Marshal()
	return b[:len(b)-4]
}

// refuses lints and expects the named clause to refuse. ask alters request and
// certificate alike, alter the certificate alone.
func refuses(t *testing.T, number, name string, r Request, ask func(*Request), alter func(*ssh.Certificate)) {
	t.Helper()
	i := newIssuer(t, nil)
	if ask != nil {
		ask(&r)
	}
	authority := i.user
	if r.Type == Host {
		authority = i.host
	}
	_, err := lint(build(t, i, r, alter), expectation{request: r, authority: authority.PublicKey().Marshal()})
	if err == nil || !strings.Contains(err.Error(), "lint "+number+":") {
		t.Errorf("%s: got %v, want clause %s", name, err, number)
	}
}

func TestClause_C1_Key(t *testing.T) {
	refuses(t, "C1", "another key", userRequest(t), nil, func(c *ssh.Certificate) { c.Key, _ = newKey(t) })
}

func TestClause_C2_Authority(t *testing.T) {
	refuses(t, "C2", "foreign CA", userRequest(t), nil, func(c *ssh.Certificate) { c.SignatureKey, _ = newKey(t) })
	host := newIssuer(t, nil)
	r := userRequest(t)
	if _, err := lint(build(t, host, r, func(c *ssh.Certificate) { c.SignatureKey = host.HostCA() }), expectation{request: r, authority: host.UserCA().Marshal()}); err == nil {
		t.Error("host CA under a user certificate")
	}
}

func TestClause_C3_SerialAndNonce(t *testing.T) {
	refuses(t, "C3", "serial zero", userRequest(t), nil, func(c *ssh.Certificate) { c.Serial = 0 })
	refuses(t, "C3", "nonce of zeros", userRequest(t), nil, func(c *ssh.Certificate) { c.Nonce = make([]byte, 32) })
	refuses(t, "C3", "short nonce", userRequest(t), nil, func(c *ssh.Certificate) { c.Nonce = []byte("abc") })
}

func TestClause_C4_Type(t *testing.T) {
	refuses(t, "C4", "host for user", userRequest(t), nil, func(c *ssh.Certificate) { c.CertType = ssh.HostCert })
	refuses(t, "C4", "unknown type", userRequest(t), func(r *Request) { r.Type = 3 }, nil)
}

func TestClause_C5_KeyID(t *testing.T) {
	for _, id := range []string{"", "alice", strings.ToUpper("aaaaaaaa-1111-1111-1111-111111111111"), corr + "\n"} {
		refuses(t, "C5", id, userRequest(t), func(r *Request) { r.KeyID = id }, nil)
	}
	refuses(t, "C5", "another id", userRequest(t), nil, func(c *ssh.Certificate) { c.KeyId = tenant })
}

func TestClause_C6_Principals(t *testing.T) {
	other := "44444444-4444-4444-4444-444444444444"
	bad := [][]string{
		nil, {}, {""}, {"root"}, {"*"}, {"alice@contoso.test"}, {oid, "alice@contoso.test"}, {"alice@contoso.test", oid, other}, {"alice@contoso.test", "bob@contoso.test"},
		{"Alice@contoso.test", oid}, {"alice,bob@contoso.test", oid}, {"alice bob@contoso.test", oid}, {"alice:x@contoso.test", oid}, {"*@contoso.test", oid}, {"al?ce@contoso.test", oid},
		{"-oProxy@contoso.test", oid}, {"al\u00efce@contoso.test", oid}, {"alice\n@contoso.test", oid}, {"a@b@contoso.test", oid}, {"alice@", oid}, {"alice@-x.test", oid}, {"alice+x@contoso.test", oid}, {"alice%u@contoso.test", oid},
		{"alice@contoso.test", strings.ToUpper(oid[:35]) + "A"},
	}
	for _, p := range bad {
		refuses(t, "C6", strings.Join(p, "|"), userRequest(t), func(r *Request) { r.Principals = p }, nil)
	}
	for _, p := range [][]string{{"web1"}, {oid}, {oid + ".machine."}, {oid + ".machine.*"}, {oid + ".machine.a.test", "b"}, {"*"}, nil} {
		refuses(t, "C6", "host "+strings.Join(p, "|"), hostRequest(t), func(r *Request) { r.Principals = p }, nil)
	}
	refuses(t, "C6", "added principal", userRequest(t), nil, func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "root") })
}

func TestClause_C7_Validity(t *testing.T) {
	for _, life := range []time.Duration{0, -time.Hour, 59 * time.Second, 24*time.Hour + time.Second} {
		refuses(t, "C7", life.String(), userRequest(t), func(r *Request) { r.Lifetime = life }, nil)
	}
	refuses(t, "C7", "host 8 days", hostRequest(t), func(r *Request) { r.Lifetime = 8 * 24 * time.Hour }, nil)
	refuses(t, "C7", "for ever", userRequest(t), nil, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity })
	refuses(t, "C7", "since ever", userRequest(t), nil, func(c *ssh.Certificate) { c.ValidAfter = 0 })
	refuses(t, "C7", "starts later", userRequest(t), nil, func(c *ssh.Certificate) { c.ValidAfter += 3600 })
}

func TestClause_C8_CriticalOptions(t *testing.T) {
	for k, v := range map[string]string{"force-command": "id", "source-address": "10.0.0.1/8", "verify-required": "x", "unknown": ""} {
		refuses(t, "C8", k, userRequest(t), func(r *Request) { r.Options = map[string]string{k: v} }, nil)
	}
	refuses(t, "C8", "not asked for", userRequest(t), nil, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} })
	refuses(t, "C8", "dropped", userRequest(t), func(r *Request) { r.Options = map[string]string{"verify-required": ""} }, func(c *ssh.Certificate) { c.CriticalOptions = nil })
	refuses(t, "C8", "on a host", hostRequest(t), func(r *Request) { r.Options = map[string]string{"verify-required": ""} }, nil)
	i, r := newIssuer(t, nil), userRequest(t)
	r.Options = map[string]string{"source-address": "10.0.0.0/8,2001:db8::/32", "verify-required": ""}
	if _, err := i.Issue(r); err != nil {
		t.Error(err)
	}
}

func TestClause_C9_Extensions(t *testing.T) {
	with := func(k, v string) func(*Request) {
		return func(r *Request) { r.Extensions[k] = v }
	}
	refuses(t, "C9", "unknown", userRequest(t), with("no-touch-required", ""), nil)
	refuses(t, "C9", "value", userRequest(t), with("permit-pty", "x"), nil)
	refuses(t, "C9", "foreign domain", userRequest(t), with("login@github.com", "x"), nil)
	refuses(t, "C9", "added", userRequest(t), nil, func(c *ssh.Certificate) {
		c.Extensions = map[string]string{"permit-pty": "", "permit-user-rc": "", ExtObjectID: oid, ExtTenant: tenant, ExtFactors: "pwd:1795348800"}
	})
	refuses(t, "C9", "on a host", hostRequest(t), func(r *Request) { r.Extensions = map[string]string{"permit-pty": ""} }, nil)
}

func TestClause_C10_OwnExtensions(t *testing.T) {
	cases := map[string]func(map[string]string){
		"no object id":      func(m map[string]string) { delete(m, ExtObjectID) },
		"another object id": func(m map[string]string) { m[ExtObjectID] = tenant },
		"no tenant":         func(m map[string]string) { delete(m, ExtTenant) },
		"no time of issue":  func(m map[string]string) { delete(m, ExtIssued) },
		"another issue":     func(m map[string]string) { m[ExtIssued] = "1795348800000001" },
		"bad machine":       func(m map[string]string) { m[ExtMachine] = "web1" },
		"bad policy":        func(m map[string]string) { m[ExtPolicy] = "a b" },
		"no factors":        func(m map[string]string) { delete(m, ExtFactors) },
		"unsorted factors":  func(m map[string]string) { m[ExtFactors] = "pwd:1795348800,otp:1795348800" },
		"double factor":     func(m map[string]string) { m[ExtFactors] = "pwd:1795348800,pwd:1795348800" },
		"no time":           func(m map[string]string) { m[ExtFactors] = "pwd" },
		"word for a time":   func(m map[string]string) { m[ExtFactors] = "pwd:yesterday" },
	}
	for name, spoil := range cases {
		refuses(t, "C10", name, userRequest(t), func(r *Request) { spoil(r.Extensions) }, nil)
	}
}

func TestClause_C11_Reserved(t *testing.T) {
	refuses(t, "C11", "reserved", userRequest(t), nil, func(c *ssh.Certificate) { c.Reserved = []byte("x") })
}

func TestLint_RefusesTrailingAndCutBytes(t *testing.T) {
	i, r := newIssuer(t, nil), userRequest(t)
	tbs := build(t, i, r, nil)
	want := expectation{request: r, authority: i.UserCA().Marshal()}
	if _, err := lint(tbs, want); err != nil {
		t.Fatal(err)
	}
	if _, err := lint(append(bytes.Clone(tbs), 0, 0, 0, 0), want); err == nil {
		t.Error("trailing bytes passed")
	}
	for n := range tbs {
		if _, err := lint(tbs[:n], want); err == nil {
			t.Fatalf("%d of %d bytes passed", n, len(tbs))
		}
	}
}

// FuzzLint: no input panics, and whatever the linter lets pass means the same
// to the library that OpenSSH's readers resemble.
func FuzzLint(f *testing.F) {
	i, r := newIssuer(f, nil), userRequest(f)
	want := expectation{request: r, authority: i.UserCA().Marshal()}
	good := build(f, i, r, nil)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, tbs []byte) {
		l, err := lint(tbs, want)
		if err != nil {
			return
		}
		c, err := i.sign(l, i.user)
		if err != nil {
			t.Fatalf("linted, but: %v", err)
		}
		if c.KeyId != r.KeyID || len(c.ValidPrincipals) != 2 || c.ValidPrincipals[0] != r.Principals[0] || c.CertType != ssh.UserCert {
			t.Fatalf("linter and library disagree: %+v", c)
		}
	})
}

func FuzzParsePlain(f *testing.F) {
	i := newIssuer(f, nil)
	f.Add(build(f, i, userRequest(f), nil))
	f.Add(build(f, i, hostRequest(f), nil))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parsePlain(b) })
}

// TestClause_C6_CVE_2024_7594_EmptyPrincipals: a certificate without principals
// was valid for everybody.
func TestClause_C6_CVE_2024_7594_EmptyPrincipals(t *testing.T) {
	i := newIssuer(t, nil)
	for _, p := range [][]string{nil, {}, {""}} {
		r := userRequest(t)
		r.Principals = p
		if c, err := i.Issue(r); err == nil {
			t.Errorf("%q: issued %v", p, c.ValidPrincipals)
		}
	}
}

// TestClause_C6_CVE_2026_71543_NamesThatWiden: names that a reader could take for
// a pattern or for several names.
func TestClause_C6_CVE_2026_71543_NamesThatWiden(t *testing.T) {
	i := newIssuer(t, nil)
	for _, name := range []string{"*@contoso.test", "a+b@contoso.test", "a/b@contoso.test", "a,root@contoso.test", "a?@contoso.test", "a b@contoso.test", "a\nroot@contoso.test", "a:b@contoso.test", "!a@contoso.test"} {
		r := userRequest(t)
		r.Principals = []string{name, oid}
		if _, err := i.Issue(r); err == nil {
			t.Errorf("issued for %q", name)
		}
	}
}
