package oauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/internal/credential"
	"sallyport/internal/directory"
)

// application registers a confidential client and returns id and secret.
func (w *world) application() (string, string) {
	w.t.Helper()
	app, err := w.people.CreateApplication(w.t.Context(), w.admin, directory.NewApplication{DisplayName: "automation"})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, ok := w.index.ServicePrincipalByAppID(app.AppID); !ok {
		if _, err := w.people.CreateServicePrincipal(w.t.Context(), w.admin, app.AppID); err != nil {
			w.t.Fatal(err)
		}
	}
	_, text, err := w.creds.AddSecret(w.t.Context(), w.admin, app.ID, "s", credential.Life{})
	if err != nil {
		w.t.Fatal(err)
	}
	return app.AppID, text
}

func TestClient_Secrets(t *testing.T) {
	w := newWorld(t)
	id, secret := w.application()
	form := values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default")
	if a := w.post("/adfs/oauth2/token", form); a.status != 200 || a.str("refresh_token") != "" || decode(t, a.str("access_token"))["idtyp"] != "app" {
		t.Error(a.text)
	}
	req, err := http.NewRequest("POST", w.server.URL+"/contoso.test/oauth2/v2.0/token", strings.NewReader(with(form, "client_id", "", "client_secret", "").Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	if a := w.do(req, w.client()); a.status != 200 {
		t.Errorf("Basic: %s", a.text)
	}
	for name, c := range map[string]struct {
		pairs []string
		code  int
	}{
		"wrong secret": {[]string{"client_secret", "x"}, 7000215}, "no secret": {[]string{"client_secret", ""}, 7000218}, "unknown client": {[]string{"client_id", "x"}, 700016},
		"public client": {[]string{"client_id", directory.AzureCLI, "client_secret", ""}, 7000218}, "no scope": {[]string{"scope", ""}, 900144},
	} {
		a := w.post("/adfs/oauth2/token", with(form, c.pairs...))
		if a.code() != c.code || (a.status == 401) != (a.str("error") == "invalid_client") {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := w.form(w.client(), "/adfs/oauth2/token", url.Values{"client_id": {id, id}}); a.status != 400 {
		t.Error("a repeated parameter passed")
	}
	if a := w.post("/22222222-2222-2222-2222-222222222222/oauth2/v2.0/token", form); a.code() != 90002 {
		t.Error(a.text)
	}
}

// assertionKey registers a certificate for a new application.
func (w *world) assertionKey() (string, *rsa.PrivateKey, []byte) {
	w.t.Helper()
	id, _ := w.application()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.t.Fatal(err)
	}
	var der []byte
	for serial := int64(1); der == nil; serial++ {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "x"}, NotBefore: w.now().Add(-time.Hour), NotAfter: w.now().Add(100 * time.Hour)}
		made, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			w.t.Fatal(err)
		}
		// One whose thumbprint the two alphabets of base64 write differently.
		if sum := sha256.Sum256(made); strings.ContainsAny(base64.StdEncoding.EncodeToString(sum[:]), "+/") {
			der = made
		}
	}
	app, _ := w.index.Application(id)
	if _, err := w.creds.AddCertificate(w.t.Context(), w.admin, app.ID, "c", der, credential.Life{}); err != nil {
		w.t.Fatal(err)
	}
	return id, key, der
}

func signAssertion(t *testing.T, alg jose.SignatureAlgorithm, key any, thumb, claims string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", thumb))
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Sign([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestClient_Assertions(t *testing.T) {
	w := newWorld(t)
	id, key, der := w.assertionKey()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	thumb := base64.URLEncoding.EncodeToString(sum[:]) // az keeps the padding
	now := float64(w.now().UnixMilli()) / 1000
	n := 0
	claims := func(change map[string]any) string {
		n++
		m := map[string]any{"aud": publicURL + "/adfs/oauth2/token", "iss": id, "sub": id, "jti": strconv.Itoa(n), "iat": now + 0.0459175, "exp": now + 600.0459175}
		for k, v := range change {
			m[k] = v
			if v == nil {
				delete(m, k)
			}
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	send := func(text string) answer {
		return w.post("/adfs/oauth2/token", values("client_id", id, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default", "client_assertion", text, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
	}
	good := signAssertion(t, jose.RS256, key, thumb, claims(nil))
	if a := send(good); a.status != 200 || decode(t, a.str("access_token"))["appidacr"] != "2" {
		t.Fatal(a.text)
	}
	if a := send(good); a.code() != 700232 {
		t.Errorf("a replay passed: %s", a.text)
	}
	for name, text := range map[string]string{
		"PS256":       signAssertion(t, jose.PS256, key, thumb, claims(nil)),
		"MSAL for Go": signAssertion(t, jose.PS256, key, base64.StdEncoding.EncodeToString(sum[:]), claims(nil)),
		"tenant path": signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"aud": publicURL + "/" + w.oauth.TenantID() + "/oauth2/v2.0/token"})),
		"issuer":      signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"aud": []string{publicURL + "/adfs"}})),
	} {
		if a := send(text); a.status != 200 {
			t.Errorf("%s: %s", name, a.text)
		}
	}
	for name, text := range map[string]string{
		"another key":      signAssertion(t, jose.RS256, other, thumb, claims(nil)),
		"unknown thumb":    signAssertion(t, jose.RS256, key, "AAAA", claims(nil)),
		"no thumb":         signAssertion(t, jose.RS256, key, "", claims(nil)),
		"RS512":            signAssertion(t, jose.RS512, key, thumb, claims(nil)),
		"HS256":            signAssertion(t, jose.HS256, der, thumb, claims(nil)),
		"another audience": signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"aud": "https://login.evil.test/token"})),
		"no audience":      signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"aud": nil})),
		"another issuer":   signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"iss": directory.AzureCLI})),
		"another subject":  signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"sub": directory.AzureCLI})),
		"expired":          signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"exp": now - 1})),
		"no expiry":        signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"exp": nil})),
		"for years":        signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"exp": now + 1e8})),
		"from the future":  signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"nbf": now + 600})),
		"no id":            signAssertion(t, jose.RS256, key, thumb, claims(map[string]any{"jti": nil})),
		"nonsense":         "a.b.c",
	} {
		if a := send(text); a.status != 401 || a.code() == 0 {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}
