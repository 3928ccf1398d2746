package token

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func at() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 5000, time.UTC) }

func newKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := New(rand.Reader, k)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func claims() Claims {
	return Claims{Audience: "a", Issuer: "i", TenantID: "t", ObjectID: "o", IDType: "user", IssuedAt: at().Unix(), IssuedMicros: at().UnixMicro(), NotBefore: at().Unix(), Expires: at().Add(time.Hour).Unix()}
}

func want() Expect {
	return Expect{Issuers: []string{"i"}, Audiences: []string{"a"}, Tenant: "t", At: at()}
}

// TestVerify_CVE_2024_5798_EveryClaimIsChecked: audience, expiry and the rest,
// each with a token that breaks it.
func TestVerify_CVE_2024_5798_EveryClaimIsChecked(t *testing.T) {
	keys := newKeys(t)
	cases := map[string]func(*Claims, *Expect){
		"good":                func(*Claims, *Expect) {},
		"another issuer":      func(c *Claims, _ *Expect) { c.Issuer = "x" },
		"empty issuer":        func(c *Claims, e *Expect) { c.Issuer = ""; e.Issuers = []string{""} },
		"another audience":    func(c *Claims, _ *Expect) { c.Audience = "b" },
		"no audience":         func(c *Claims, e *Expect) { c.Audience = ""; e.Audiences = nil },
		"another tenant":      func(c *Claims, _ *Expect) { c.TenantID = "x" },
		"no tenant":           func(c *Claims, e *Expect) { c.TenantID = ""; e.Tenant = "" },
		"expired":             func(_ *Claims, e *Expect) { e.At = at().Add(time.Hour) },
		"no expiry":           func(c *Claims, _ *Expect) { c.Expires = 0 },
		"from the future":     func(_ *Claims, e *Expect) { e.At = at().Add(-10 * time.Minute) },
		"an id token":         func(c *Claims, _ *Expect) { c.IDType = "" },
		"nobody":              func(c *Claims, _ *Expect) { c.ObjectID = "" },
		"no exact issue time": func(c *Claims, _ *Expect) { c.IssuedMicros = 0 },
		"forged issue time":   func(c *Claims, _ *Expect) { c.IssuedMicros += 5_000_000 },
	}
	for name, alter := range cases {
		c, e := claims(), want()
		alter(&c, &e)
		text, err := keys.Mint(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Verify(text, e); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerify_CVE_2025_3757_CraftedJWS: forms of JWS that other verifiers let
// pass.
func TestVerify_CVE_2025_3757_CraftedJWS(t *testing.T) {
	keys, other := newKeys(t), newKeys(t)
	good, err := keys.Mint(claims())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	header := func(m map[string]any) string {
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return encode(b)
	}
	kid := keys.Set().Keys[0].ID
	foreign, err := other.Mint(claims())
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, keys.now.Load().trust[kid].N.Bytes())
	hs := header(map[string]any{"alg": "HS256", "typ": "JWT", "kid": kid}) + "." + parts[1]
	mac.Write([]byte(hs))
	noKid := header(map[string]any{"alg": "RS256", "typ": "JWT"}) + "." + parts[1]
	badTyp := header(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": kid}) + "." + parts[1]
	cases := map[string]string{
		"none":             header(map[string]any{"alg": "none", "typ": "JWT", "kid": kid}) + "." + parts[1] + ".",
		"HS256 by our key": hs + "." + encode(mac.Sum(nil)),
		"another's key":    foreign,
		"our kid, foreign": parts[0] + "." + parts[1] + "." + strings.Split(foreign, ".")[2],
		"no kid":           noKid + "." + sign(t, keys, noKid),
		"another type":     badTyp + "." + sign(t, keys, badTyp),
		"altered":          parts[0] + "." + encode([]byte(`{"aud":"a"}`)) + "." + parts[2],
		"no signature":     parts[0] + "." + parts[1] + ".",
		"JSON form":        `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"four parts":       good + ".x",
		"padding":          good + "==",
		"empty":            "",
		"huge":             strings.Repeat("a", maxToken+1),
	}
	if _, err := keys.Verify(good, want()); err != nil {
		t.Fatal(err)
	}
	for name, text := range cases {
		if _, err := keys.Verify(text, want()); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func sign(t *testing.T, k *Keys, text string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	sig, err := k.now.Load().signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return encode(sig)
}

func FuzzVerify(f *testing.F) {
	keys := newKeys(f)
	good, err := keys.Mint(claims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := keys.Verify(text, want()); err == nil && (c.ObjectID != "o" || c.IssuedMicros != at().UnixMicro()) {
			t.Fatalf("forged: %q", text)
		}
	})
}

func TestFamily_Judge(t *testing.T) {
	f := Family{Current: []byte("new"), Previous: []byte("old"), RotatedAt: at(), Slides: at().Add(Sliding), Ends: at().Add(Absolute)}
	ended := f
	ended.EndedFor = "reuse"
	fresh := f
	fresh.Previous = nil
	cases := []struct {
		name string
		f    Family
		hash string
		at   time.Time
		want Verdict
	}{
		{"newest", f, "new", at().Add(time.Hour), Current},
		{"predecessor at once", f, "old", at().Add(10 * time.Second), Repeated},
		{"predecessor later", f, "old", at().Add(10*time.Second + time.Microsecond), Reused},
		{"an older one", f, "older", at(), Reused},
		{"empty", fresh, "", at(), Reused},
		{"slid out", f, "new", at().Add(Sliding), Expired},
		{"ended", ended, "new", at(), Ended},
	}
	for _, c := range cases {
		if got := c.f.Judge([]byte(c.hash), c.at); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	r := f.Rotate([]byte("next"), at().Add(20*24*time.Hour))
	if string(r.Previous) != "new" || string(r.Current) != "next" || !r.Slides.Equal(f.Ends) || !r.Until().Equal(f.Ends) {
		t.Fatalf("%+v", r)
	}
}

func FuzzParseRefresh(f *testing.F) {
	f.Add(Format("22222222-2222-2222-2222-222222222222", make([]byte, 32)))
	f.Add("sp1..")
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := ParseRefresh(s); ok && (len(id) != 36 || !strings.HasPrefix(s, "sp1.")) {
			t.Fatal(id)
		}
	})
}
