package oauth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"html"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/sshca"
)

func parseCert(t *testing.T, text string) *ssh.Certificate {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatalf("certificate: %v in %q", err, text)
	}
	k, err := ssh.ParsePublicKey(b)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := k.(*ssh.Certificate)
	if !ok {
		t.Fatal("no certificate")
	}
	return c
}

// confirmation makes a req_cnf for a fresh Ed25519 key.
func confirmation(t testing.TB) (string, ssh.PublicKey) {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return `{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(pub) + `"}`, k
}

func certForm(t testing.TB, refresh string) url.Values {
	cnf, _ := confirmation(t)
	return values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", refresh, "scope", sshScope, "token_type", "ssh-cert", "req_cnf", cnf, "key_id", "k")
}

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
	_, text, err := w.creds.AddSecret(w.t.Context(), w.admin, app.ID, "s", time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
	return app.AppID, text
}

const verifier = "TbpRJuKjhri~H7FU4fVk-dDesQoN6xgqYmc15Zy0lLw"

func authorizePath(pairs ...string) string {
	sum := sha256.Sum256([]byte(verifier))
	q := with(values("client_id", directory.AzureCLI, "response_type", "code", "redirect_uri", "http://localhost:8400", "scope", armScope, "state", "st", "nonce", "no", "client_info", "1",
		"code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method", "S256"), pairs...)
	return "/adfs/oauth2/authorize?" + q.Encode()
}

func hidden(t testing.TB, text, name string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no field %s in %s", name, text)
	}
	return html.UnescapeString(m[1])
}

// signIn walks a browser from the authorize request through the password page
// and returns the redirect back to the client.
func (w *world) signIn(c *http.Client, path string) *url.URL {
	w.t.Helper()
	a := w.get(c, path)
	for range 6 {
		to := a.header.Get("Location")
		switch {
		case a.status == 303 && strings.HasPrefix(to, "/"):
			a = w.get(c, to)
		case a.status == 303:
			u, err := url.Parse(to)
			if err != nil {
				w.t.Fatal(err)
			}
			return u
		case a.status == 200 && strings.Contains(a.text, `action="/signin"`):
			a = w.form(c, "/signin", values("flow", hidden(w.t, a.text, "flow"), "csrf", hidden(w.t, a.text, "csrf"), "username", "Alice@contoso.test", "password", password))
		case a.status == 200 && strings.Contains(a.text, `action="/signin/account"`):
			a = w.form(c, "/signin/account", values("flow", hidden(w.t, a.text, "flow"), "csrf", hidden(w.t, a.text, "csrf"), "use", "this"))
		default:
			w.t.Fatalf("%d %s", a.status, a.text)
		}
	}
	w.t.Fatal("the sign-in goes in circles")
	return nil
}

// code gets an authorization code for a recorded token request.
func (w *world) code(form url.Values) string {
	w.t.Helper()
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	u := w.signIn(w.browser(), authorizePath("redirect_uri", form.Get("redirect_uri"), "scope", form.Get("scope"), "code_challenge", base64.RawURLEncoding.EncodeToString(sum[:])))
	return u.Query().Get("code")
}

func codeForm(code string) url.Values {
	return values("client_id", directory.AzureCLI, "grant_type", "authorization_code", "code", code, "redirect_uri", "http://localhost:8400", "code_verifier", verifier, "scope", armScope, "client_info", "1")
}

func TestBrowser_CodeFlow(t *testing.T) {
	w := newWorld(t)
	u := w.signIn(w.browser(), authorizePath("prompt", "select_account"))
	q := u.Query()
	if u.Host != "localhost:8400" || q.Get("state") != "st" || q.Get("client_info") == "" {
		t.Fatal(u)
	}
	a := w.post("/adfs/oauth2/token", codeForm(q.Get("code")))
	if a.status != 200 {
		t.Fatal(a.text)
	}
	claims := decode(t, a.str("id_token"))
	tid := w.oauth.TenantID()
	for name, want := range map[string]any{"nonce": "no", "preferred_username": "alice@contoso.test", "tid": tid, "oid": w.alice.ID, "aud": directory.AzureCLI, "iss": publicURL + "/adfs"} {
		if claims[name] != want {
			t.Errorf("%s: %v", name, claims[name])
		}
	}
	if access := decode(t, a.str("access_token")); access["aud"] != publicURL+"/arm" || access["scp"] != "user_impersonation" {
		t.Errorf("%v", access)
	}
	if got := w.bearer("/whoami", a.str("access_token")); got.status != 200 || got.str("name") != "alice@contoso.test" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func decode(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %q", jwt)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *world) bearer(path, text string) answer {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+text)
	return w.do(req, w.client())
}

func TestBrowser_PromptAndSession(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	if u := w.signIn(c, authorizePath()); u.Query().Get("code") == "" {
		t.Fatal(u)
	}
	if a := w.get(c, authorizePath()); !strings.HasPrefix(a.header.Get("Location"), "http://localhost:8400") {
		t.Error("a signed-in browser was asked again")
	}
	if a := w.get(c, authorizePath("prompt", "login")); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("prompt=login did not ask")
	}
	w.pass(time.Minute)
	if a := w.get(c, authorizePath("max_age", "5")); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("max_age did not ask")
	}
	a := w.get(w.browser(), authorizePath("prompt", "none"))
	if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Query().Get("error") != "login_required" || u.Query().Get("state") != "st" {
		t.Errorf("prompt=none: %s", a.header.Get("Location"))
	}
	if a := w.get(c, authorizePath("response_mode", "form_post")); a.status != 200 || !strings.Contains(a.text, `action="http://localhost:8400"`) || !strings.Contains(a.header.Get("Content-Security-Policy"), "form-action 'self' http://localhost:8400; script-src 'sha256-") {
		t.Errorf("form_post: %d %s %s", a.status, a.text, a.header)
	}
	// A step proof of another request satisfies nothing.
	proof := ""
	for a := w.get(c, authorizePath("prompt", "login", "state", "one")); proof == ""; {
		if to := a.header.Get("Location"); strings.HasPrefix(to, "/signin") {
			a = w.get(c, to)
			a = w.form(c, "/signin", values("flow", hidden(t, a.text, "flow"), "csrf", hidden(t, a.text, "csrf"), "username", "alice@contoso.test", "password", password))
			u, err := url.Parse(a.header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			proof = u.Query().Get("sallyport_step")
		}
	}
	if a := w.get(c, authorizePath("prompt", "login", "state", "two", "sallyport_step", proof)); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("the proof of one request opened another")
	}
}

func TestBrowser_PagesAreStrict(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	a := w.get(c, w.get(c, authorizePath()).header.Get("Location"))
	csp := a.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' http://localhost:8400"} {
		if !strings.Contains(csp, part) {
			t.Errorf("policy %q lacks %s", csp, part)
		}
	}
	if strings.Contains(a.text, "<script") || a.header.Get("Referrer-Policy") != "no-referrer" {
		t.Error("script or referrer")
	}
	named := func(text, element, csp string) {
		t.Helper()
		m := regexp.MustCompile(`(?s)<` + element + `>(.*)</` + element + `>`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s", element)
		}
		sum := sha256.Sum256([]byte(m[1]))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(csp, want) {
			t.Errorf("the policy %q does not name the page's own %s", csp, element)
		}
	}
	named(a.text, "style", csp)
	signedIn := w.browser()
	w.signIn(signedIn, authorizePath())
	post := w.get(signedIn, authorizePath("response_mode", "form_post"))
	named(post.text, "style", post.header.Get("Content-Security-Policy"))
	named(post.text, "script", post.header.Get("Content-Security-Policy"))
	for _, cookie := range c.Jar.Cookies(mustURL(t, w.server.URL)) {
		if !strings.HasPrefix(cookie.Name, "__Host-") {
			t.Errorf("cookie %s", cookie.Name)
		}
	}
	flow := hidden(t, a.text, "flow")
	wrong := w.form(c, "/signin", values("flow", flow, "csrf", hidden(t, a.text, "csrf"), "username", "alice@contoso.test", "password", "wrong"))
	unknown := w.form(c, "/signin", values("flow", flow, "csrf", hidden(t, a.text, "csrf"), "username", "nobody@contoso.test", "password", "wrong"))
	strip := regexp.MustCompile(`[0-9a-f-]{36}|alice|nobody`)
	if wrong.status != 401 || strip.ReplaceAllString(wrong.text, "") != strip.ReplaceAllString(unknown.text, "") {
		t.Error("the page tells which names exist")
	}
	if x := w.form(w.browser(), "/signin", values("flow", flow, "csrf", hidden(t, a.text, "csrf"), "username", "alice@contoso.test", "password", password)); x.status != 400 || !strings.Contains(x.text, "out of date") {
		t.Errorf("a form from another browser: %d", x.status)
	}
	for _, bad := range []string{"/signin", "/signin?flow=x.y", authorizePath("client_id", "x"), authorizePath("redirect_uri", "https://evil.test/"), "/nowhere.test/oauth2/v2.0/authorize"} {
		x := w.get(c, bad)
		if x.status < 400 || x.header.Get("Location") != "" || strings.Contains(x.text, ".go:") || !regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).MatchString(x.text) {
			t.Errorf("%s: %d %s", bad, x.status, x.text)
		}
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAuthorize_Redirects(t *testing.T) {
	w := newWorld(t)
	for uri, ok := range map[string]bool{
		"http://localhost": true, "http://localhost/": true, "http://localhost:8400": true, "http://localhost:65000/": true, "http://127.0.0.1:1234": true, "http://[::1]:1234": true,
		"https://localhost:8400": false, "http://localhost.evil.test": false, "http://localhost@evil.test": false, "http://evil.test#http://localhost": false, "http://localhost:8400/other": false,
		"http://localhost:8400?x=1": false, "http://localhost\\@evil.test": false, "javascript:alert(1)": false, "//localhost": false, "": false, "http://LOCALHOST.": false, "http://localhost:8400#f": false,
	} {
		a := w.get(w.client(), authorizePath("redirect_uri", uri))
		if (a.status == 303) != ok {
			t.Errorf("%q: %d", uri, a.status)
		}
	}
}

func TestAuthorize_ErrorsGoToTheClient(t *testing.T) {
	w := newWorld(t)
	for name, pairs := range map[string][]string{
		"no PKCE":           {"code_challenge", "", "code_challenge_method", ""},
		"plain PKCE":        {"code_challenge_method", "plain"},
		"no method":         {"code_challenge_method", ""},
		"short challenge":   {"code_challenge", "abc"},
		"implicit":          {"response_type", "token"},
		"fragment":          {"response_mode", "fragment"},
		"odd prompt":        {"prompt", "maybe"},
		"request object":    {"request", "x"},
		"no scope":          {"scope", ""},
		"unknown resource":  {"scope", "https://evil.test/.default"},
		"two resources":     {"scope", publicURL + "/arm/.default https://graph.microsoft.com/.default"},
		"claims not JSON":   {"claims", "{"},
		"negative age":      {"max_age", "-1"},
		"spelt differently": {"scope", "https://PAS.windows.net/CheckMyAccess/Linux/.default"},
	} {
		u, err := url.Parse(w.get(w.client(), authorizePath(pairs...)).header.Get("Location"))
		if err != nil || u.Host != "localhost:8400" || u.Query().Get("error") == "" || u.Query().Get("code") != "" || u.Query().Get("state") != "st" {
			t.Errorf("%s: %v", name, u)
		}
	}
}

func TestCode_BoundAndUsedOnce(t *testing.T) {
	for name, pairs := range map[string][]string{
		"another client":   {"client_id", directory.SallyCLI},
		"another redirect": {"redirect_uri", "http://localhost:9999"},
		"no redirect":      {"redirect_uri", ""},
		"wrong verifier":   {"code_verifier", strings.Repeat("x", 43)},
		"no verifier":      {"code_verifier", ""},
		"unknown code":     {"code", strings.Repeat("A", 43)},
	} {
		w := newWorld(t)
		code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
		if a := w.post("/adfs/oauth2/token", with(codeForm(code), pairs...)); a.status != 400 || a.str("error") != "invalid_grant" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	w := newWorld(t)
	code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
	first := w.post("/adfs/oauth2/token", codeForm(code))
	if first.status != 200 {
		t.Fatal(first.text)
	}
	if a := w.post("/adfs/oauth2/token", codeForm(code)); a.code() != 70008 {
		t.Errorf("second use: %s", a.text)
	}
	if a := w.post("/adfs/oauth2/token", certForm(t, first.str("refresh_token"))); a.code() != 50173 {
		t.Errorf("the tokens of a code that was used twice live on: %s", a.text)
	}
	late := w.signIn(w.browser(), authorizePath()).Query().Get("code")
	w.pass(5 * time.Minute)
	if a := w.post("/adfs/oauth2/token", codeForm(late)); a.code() != 70008 {
		t.Errorf("late: %s", a.text)
	}
}

func TestClause_I1_ContentOfAUserCertificate(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	signedIn := w.now()
	w.pass(10 * time.Minute)
	cnf, key := confirmation(t)
	machine := "77777777-7777-4777-8777-777777777777"
	a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), "req_cnf", cnf, "machine", strings.ToUpper(machine)))
	if a.status != 200 {
		t.Fatal(a.text)
	}
	c := parseCert(t, a.str("access_token"))
	if !bytes.Equal(c.Key.Marshal(), key.Marshal()) || !bytes.Equal(c.SignatureKey.Marshal(), w.issuer.UserCA().Marshal()) {
		t.Error("keys")
	}
	checker := ssh.CertChecker{Clock: w.now}
	for _, p := range []string{"alice@contoso.test", w.alice.ID} {
		if err := checker.CheckCert(p, c); err != nil {
			t.Error(err)
		}
	}
	if len(c.ValidPrincipals) != 2 || c.ValidPrincipals[0] != "alice@contoso.test" || c.ValidPrincipals[1] != w.alice.ID {
		t.Error(c.ValidPrincipals)
	}
	want := map[string]string{sshca.ExtObjectID: w.alice.ID, sshca.ExtTenant: w.oauth.TenantID(), sshca.ExtFactors: "pwd:" + strconv.FormatInt(signedIn.Unix(), 10), sshca.ExtPolicy: "default", sshca.ExtMachine: machine}
	for name, v := range want {
		if c.Extensions[name] != v {
			t.Errorf("%s = %q", name, c.Extensions[name])
		}
	}
	if c.ValidBefore != uint64(w.now().Add(time.Hour).Unix()) || c.ValidAfter != uint64(w.now().Add(-5*time.Minute).Unix()) {
		t.Error("validity")
	}
	records := w.events("certificate.issue", audit.Success)
	if len(records) != 1 || records[0].CorrelationID != c.KeyId || records[0].Detail["serial"] != strconv.FormatUint(c.Serial, 10) || records[0].Principal != w.alice.ID || records[0].Client != directory.AzureCLI {
		t.Errorf("%+v", records)
	}
	if a.str("refresh_token") != "" {
		t.Error("a certificate rotated the refresh token")
	}
	if b := w.post("/adfs/oauth2/token", certForm(t, refresh)); b.status != 200 {
		t.Errorf("the token does not serve a second certificate: %s", b.text)
	}
}

// TestClause_I6_Refusals: each rule, one request that breaks it.
func TestClause_I6_Refusals(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "other", Public: true})
	if err != nil {
		t.Fatal(err)
	}
	ca := `{"kty":"ssh","key":"` + base64.StdEncoding.EncodeToString(w.issuer.UserCA().Marshal()) + `"}`
	issued := parseCert(t, w.post("/adfs/oauth2/token", certForm(t, refresh)).str("access_token"))
	cert := `{"kty":"ssh","key":"` + base64.StdEncoding.EncodeToString(issued.Marshal()) + `"}`
	cases := map[string][]string{
		"bearer for the SSH resource":      {"token_type", ""},
		"bearer, said so":                  {"token_type", "Bearer"},
		"unknown token type":               {"token_type", "pop"},
		"certificate for another resource": {"scope", armScope},
		"nearly the SSH resource":          {"scope", "https://pas.windows.net/CheckMyAccess/Linux2/.default"},
		"the SSH resource in capitals":     {"scope", "https://PAS.WINDOWS.NET/CheckMyAccess/Linux/.default"},
		"no key":                           {"req_cnf", ""},
		"our own CA":                       {"req_cnf", ca},
		"a certificate (CVE-2025-49825)":   {"req_cnf", cert},
		"a private key":                    {"req_cnf", `{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}`},
		"a symmetric key":                  {"req_cnf", `{"kty":"oct","k":"AAAA"}`},
		"a small RSA key":                  {"req_cnf", `{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 128)) + `","e":"AQAB"}`},
		"exponent one":                     {"req_cnf", `{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256)) + `","e":"AQ"}`},
		"a point off the curve":            {"req_cnf", `{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`},
		"two objects":                      {"req_cnf", `{"kty":"OKP"}{"kty":"OKP"}`},
		"a machine that is no id":          {"machine", "web1,web2"},
		"another client":                   {"client_id", app.AppID},
		"a secret from a public client":    {"client_secret", "x"},
		"no refresh token":                 {"refresh_token", ""},
		"another's refresh token":          {"refresh_token", strings.Replace(refresh, "sp1.", "sp1.0", 1)},
		"unknown grant":                    {"grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"},
		"no grant":                         {"grant_type", ""},
	}
	for name, pairs := range cases {
		a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), pairs...))
		if a.status != 400 && a.status != 401 || a.code() == 0 || a.str("access_token") != "" || !strings.HasPrefix(a.str("error_description"), "AADSTS") || a.str("correlation_id") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), "client_id", directory.SallyCLI)); a.code() != 700003 {
		t.Errorf("another client's refresh token: %s", a.text)
	}
	// A client that is not pre-authorized, with a sign-in of its own.
	own := w.post("/adfs/oauth2/token", values("client_id", app.AppID, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", armScope))
	if a := w.post("/adfs/oauth2/token", with(certForm(t, own.str("refresh_token")), "client_id", app.AppID)); a.code() != 65002 {
		t.Errorf("not pre-authorized: %s", a.text)
	}
	if n := len(w.events("certificate.issue", audit.Success)); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

func TestClause_I2_NoBearerForTheSSHResource(t *testing.T) {
	w := newWorld(t)
	id, secret := w.application()
	if a := w.post("/adfs/oauth2/token", values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", "https://pas.windows.net/CheckMyAccess/Linux/.default")); a.status == 200 {
		t.Errorf("client credentials: %s", a.text)
	}
	// az login --scope https://pas...: the sign-in works, the scope is not granted.
	a := w.login(sshScope)
	if strings.Contains(a.str("scope"), "CheckMyAccess") || decode(t, a.str("access_token"))["aud"] != directory.AzureCLI || a.str("refresh_token") == "" {
		t.Errorf("%s", a.text)
	}
	for _, path := range []string{"/whoami", "/v1.0/whoami"} {
		if got := w.bearer(path, a.str("access_token")); got.status != 401 {
			t.Errorf("%s took it: %d", path, got.status)
		}
	}
	if b := w.post("/adfs/oauth2/token", certForm(t, a.str("refresh_token"))); b.status != 200 {
		t.Error(b.text)
	}
}

func TestCertificate_EveryGrant(t *testing.T) {
	w := newWorld(t)
	cnf, _ := confirmation(t)
	cert := []string{"scope", sshScope, "token_type", "ssh-cert", "req_cnf", cnf}
	a := w.post("/adfs/oauth2/token", with(codeForm(w.signIn(w.browser(), authorizePath("scope", sshScope)).Query().Get("code")), cert...))
	b := w.post("/adfs/oauth2/token", with(values("client_id", directory.SallyCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password), cert...))
	id, secret := w.application()
	c := w.post("/adfs/oauth2/token", with(values("client_id", id, "client_secret", secret, "grant_type", "client_credentials"), append(cert, "scope", "https://pas.windows.net/CheckMyAccess/Linux/.default")...))
	for name, x := range map[string]answer{"code": a, "password": b, "client": c} {
		if x.status != 200 {
			t.Errorf("%s: %s", name, x.text)
			continue
		}
		got := parseCert(t, x.str("access_token"))
		if name == "client" {
			sp, _ := w.index.ServicePrincipalByAppID(id)
			if len(got.ValidPrincipals) != 1 || got.ValidPrincipals[0] != sp.ID || x.str("refresh_token") != "" {
				t.Errorf("%v", got.ValidPrincipals)
			}
		} else if x.str("refresh_token") == "" || x.str("id_token") == "" {
			t.Errorf("%s: a new sign-in gets its refresh token", name)
		}
	}
}

func TestClause_I3_NeverPastTheSession(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	w.pass(14*24*time.Hour - 20*time.Minute)
	a := w.post("/adfs/oauth2/token", certForm(t, refresh))
	if a.status != 200 {
		t.Fatal(a.text)
	}
	if c := parseCert(t, a.str("access_token")); c.ValidBefore != uint64(w.now().Add(20*time.Minute).Unix()) || !strings.Contains(a.text, `"expires_in":1199`) {
		t.Errorf("lives past the session: %s", a.text)
	}
	w.pass(19*time.Minute + 30*time.Second)
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != 700082 {
		t.Errorf("%s", a.text)
	}
	w.pass(time.Minute)
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != 700082 {
		t.Errorf("%s", a.text)
	}
}

// TestClause_I4_CVE_2026_3009_EverythingIsJudgedAgain: what was disabled, revoked or
// deleted while a sign-in was under way gets nothing more (also CVE-2021-41230).
func TestClause_I4_CVE_2026_3009_EverythingIsJudgedAgain(t *testing.T) {
	off := false
	cases := map[string]struct {
		act  func(*world) error
		code int
	}{
		"disabled": {func(w *world) error {
			return w.people.UpdateUser(t.Context(), w.admin, w.alice.ID, directory.UserChange{Enabled: &off})
		}, 50057},
		"sessions revoked": {func(w *world) error { return w.people.RevokeSessions(t.Context(), w.admin, w.alice.ID) }, 50173},
		"deleted":          {func(w *world) error { return w.people.DeleteUser(t.Context(), w.admin, w.alice.ID) }, 500341},
		"password reset": {func(w *world) error {
			return w.creds.ResetPassword(t.Context(), w.admin, w.alice.ID, "another long battery", false)
		}, 50173},
	}
	for name, c := range cases {
		w := newWorld(t)
		a := w.login(armScope)
		code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
		w.pass(time.Second)
		if err := c.act(w); err != nil {
			t.Fatal(name, err)
		}
		w.pass(time.Second)
		for kind, form := range map[string]url.Values{"certificate": certForm(t, a.str("refresh_token")), "refresh": values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", a.str("refresh_token"), "scope", armScope), "code": codeForm(code)} {
			if got := w.post("/adfs/oauth2/token", form); got.status != 400 || got.code() != c.code {
				t.Errorf("%s, %s: %d %s", name, kind, got.status, got.text)
			}
		}
		if got := w.bearer("/whoami", a.str("access_token")); got.status != 401 {
			t.Errorf("%s: the access token still works", name)
		}
	}
}

func TestClause_I5_PolicyDecides(t *testing.T) {
	policy := func(c conditional.Control) []conditional.Policy {
		return []conditional.Policy{{ID: "p1", DisplayName: "Admins", State: conditional.Enabled, GrantControls: &conditional.GrantControls{Operator: "OR", BuiltInControls: []conditional.Control{c}},
			Conditions: conditional.Conditions{Users: conditional.Users{IncludeUsers: []string{conditional.All}}, Applications: conditional.Applications{IncludeApplications: []string{directory.LinuxSignIn}}}}}
	}
	for c, code := range map[conditional.Control]int{conditional.MFA: 50076, conditional.Block: 53003, conditional.CompliantDevice: 53000} {
		w := newWorld(t)
		refresh := w.login(armScope).str("refresh_token")
		w.policies = policy(c)
		cert := w.post("/adfs/oauth2/token", certForm(t, refresh))
		bearer := w.post("/adfs/oauth2/token", with(certForm(t, refresh), "token_type", "", "req_cnf", ""))
		for _, a := range []answer{cert, bearer} {
			if a.status != 400 || a.code() != code || a.str("claims") == "" || a.str("suberror") == "" {
				t.Errorf("%s: %d %s", c, a.status, a.text)
			}
		}
		if a := w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", refresh, "scope", armScope)); a.status != 200 {
			t.Errorf("%s: the policy is about SSH only: %s", c, a.text)
		}
		if n := len(w.events("certificate.issue", audit.Denied)); n != 2 {
			t.Errorf("%s: %d denials recorded", c, n)
		}
	}
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	w.policies = policy(conditional.MFA)
	w.policies[0].GrantControls, w.policies[0].SessionControls.CertificateLifetime = nil, 600
	if c := parseCert(t, w.post("/adfs/oauth2/token", certForm(t, refresh)).str("access_token")); c.ValidBefore != uint64(w.now().Add(10*time.Minute).Unix()) || c.Extensions[sshca.ExtPolicy] != "p1" {
		t.Error("lifetime of the policy")
	}
}

func refreshForm(text string) url.Values {
	return values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", text, "scope", armScope)
}

func TestRefresh_RotationAndReuse(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope).str("refresh_token")
	a := w.post("/adfs/oauth2/token", refreshForm(first))
	w.pass(9 * time.Second)
	again := w.post("/adfs/oauth2/token", refreshForm(first))
	if a.status != 200 || a.str("refresh_token") == first || again.str("refresh_token") != a.str("refresh_token") {
		t.Fatalf("a repeat within 10 s gets the same successor: %s / %s", a.text, again.text)
	}
	// Once the successor was used, its predecessor is spent even within 10 s.
	next := w.post("/adfs/oauth2/token", refreshForm(a.str("refresh_token")))
	if next.status != 200 {
		t.Fatal(next.text)
	}
	if b := w.post("/adfs/oauth2/token", refreshForm(first)); b.code() != 50173 {
		t.Errorf("reuse: %s", b.text)
	}
	if b := w.post("/adfs/oauth2/token", refreshForm(next.str("refresh_token"))); b.code() != 50173 {
		t.Errorf("the family lives on: %s", b.text)
	}
	if len(w.events("token.reuse", audit.Denied)) != 1 {
		t.Error("no record of the reuse")
	}
	late := w.login(armScope).str("refresh_token")
	if b := w.post("/adfs/oauth2/token", refreshForm(late)); b.status != 200 {
		t.Fatal(b.text)
	}
	w.pass(11 * time.Second)
	if b := w.post("/adfs/oauth2/token", certForm(t, late)); b.code() != 50173 {
		t.Errorf("a spent token got a certificate: %s", b.text)
	}
}

func TestRefresh_AbsoluteLife(t *testing.T) {
	w := newWorld(t)
	text := w.login(armScope).str("refresh_token")
	for range 3 {
		w.pass(9 * 24 * time.Hour)
		a := w.post("/adfs/oauth2/token", refreshForm(text))
		if a.status != 200 {
			t.Fatal(a.text)
		}
		text = a.str("refresh_token")
	}
	w.pass(4 * 24 * time.Hour)
	if a := w.post("/adfs/oauth2/token", refreshForm(text)); a.code() != 700082 {
		t.Errorf("31 days: %s", a.text)
	}
}

func TestRefresh_ParallelRunsAgree(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope).str("refresh_token")
	results := make(chan answer, 8)
	for range cap(results) {
		go func() { results <- w.post("/adfs/oauth2/token", refreshForm(first)) }()
	}
	successors := map[string]bool{}
	for range cap(results) {
		a := <-results
		if a.status != 200 {
			t.Error(a.text)
		}
		successors[a.str("refresh_token")] = true
	}
	if len(successors) != 1 {
		t.Errorf("%d successors", len(successors))
	}
}

func TestTokens_OneSurfaceEach(t *testing.T) {
	w := newWorld(t)
	arm, graph := w.login(armScope).str("access_token"), w.login("https://graph.microsoft.com/.default").str("access_token")
	for _, c := range []struct {
		path, text string
		status     int
	}{{"/whoami", arm, 200}, {"/v1.0/whoami", graph, 200}, {"/whoami", graph, 401}, {"/v1.0/whoami", arm, 401}} {
		if a := w.bearer(c.path, c.text); a.status != c.status {
			t.Errorf("%s: %d", c.path, a.status)
		}
	}
	id := w.login(armScope).str("id_token")
	if a := w.bearer("/whoami", id); a.status != 401 {
		t.Error("an id token opened Resource Manager")
	}
	w.pass(time.Hour)
	if a := w.bearer("/whoami", arm); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
		t.Error("an expired token works")
	}
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
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: w.now().Add(-time.Hour), NotAfter: w.now().Add(100 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	app, _ := w.index.Application(id)
	if _, err := w.creds.AddCertificate(w.t.Context(), w.admin, app.ID, "c", der); err != nil {
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

// TestDevice_CVE_2026_33757_PersonConfirms: a device is signed in only after the
// person saw who asks, for which code, and said yes.
func TestDevice_CVE_2026_33757_PersonConfirms(t *testing.T) {
	w := newWorld(t)
	begin := func() answer {
		return w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
	}
	poll := func(code string) answer {
		return w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", code, "code", code, "client_info", "1"))
	}
	d := begin()
	if a := poll(d.str("device_code")); a.str("error") != "authorization_pending" {
		t.Fatal(a.text)
	}
	w.pass(time.Second)
	if a := poll(d.str("device_code")); a.str("error") != "slow_down" {
		t.Error(a.text)
	}
	c := w.browser()
	page := w.get(c, "/device")
	a := w.form(c, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", strings.ToLower(d.str("user_code")[:4]+"-"+d.str("user_code")[4:])))
	a = w.get(c, a.header.Get("Location"))
	a = w.form(c, "/signin", values("flow", hidden(t, a.text, "flow"), "csrf", hidden(t, a.text, "csrf"), "username", "alice@contoso.test", "password", password))
	a = w.get(c, a.header.Get("Location"))
	if !strings.Contains(a.text, "Microsoft Azure CLI") || !strings.Contains(a.text, d.str("user_code")) || !strings.Contains(a.text, "alice@contoso.test") {
		t.Fatalf("the person does not see who asks: %s", a.text)
	}
	if x := w.get(c, "/device?code="+d.str("user_code")); strings.Contains(x.text, "Yes, sign in") {
		t.Error("a link filled the code in")
	}
	w.pass(5 * time.Second)
	if x := poll(d.str("device_code")); x.str("error") != "authorization_pending" {
		t.Error("approved without consent")
	}
	a = w.form(c, "/device/decide", values("csrf", hidden(t, a.text, "csrf"), "code", hidden(t, a.text, "code"), "decision", "approve"))
	if a.status != 200 {
		t.Fatal(a.text)
	}
	if x := poll(d.str("device_code")); x.status != 200 || x.str("scope") != armScope || x.str("refresh_token") == "" {
		t.Fatal(x.text)
	}
	if x := poll(d.str("device_code")); x.str("error") != "expired_token" {
		t.Error("the device code works twice")
	}
	if x := w.post("/adfs/oauth2/token", values("client_id", directory.SallyCLI, "grant_type", "device_code", "device_code", begin().str("device_code"))); x.str("error") != "bad_verification_code" {
		t.Error("another client polled it")
	}
	late := begin()
	w.pass(15 * time.Minute)
	if x := poll(late.str("device_code")); x.str("error") != "expired_token" {
		t.Error(x.text)
	}
}

func TestDevice_DenyAndTries(t *testing.T) {
	w := newWorld(t)
	d := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
	c := w.browser()
	w.signIn(c, authorizePath())
	page := w.get(c, "/device")
	csrf := hidden(t, page.text, "csrf")
	a := w.form(c, "/device", values("csrf", csrf, "code", d.str("user_code")))
	a = w.form(c, "/device/decide", values("csrf", hidden(t, a.text, "csrf"), "code", d.str("user_code"), "decision", "deny"))
	if a.status != 200 || !strings.Contains(a.text, "not signed in") {
		t.Fatal(a.text)
	}
	if x := w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "device_code", "device_code", d.str("device_code"))); x.str("error") != "authorization_declined" {
		t.Error(x.text)
	}
	for i := 1; i <= 10; i++ {
		a = w.form(c, "/device", values("csrf", csrf, "code", "BBBBBBBB"))
		if (a.status == 429) != (i == 10) {
			t.Errorf("try %d: %d", i, a.status)
		}
	}
	if a := w.get(c, authorizePath()); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("still signed in after ten wrong codes")
	}
}

func TestPassword_MustChange(t *testing.T) {
	w := newWorld(t)
	if _, err := w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "bob@contoso.test", DisplayName: "Bob", Enabled: true}, "first long password", true); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	form := values("client_id", directory.AzureCLI, "grant_type", "password", "username", "bob@contoso.test", "password", "first long password", "scope", armScope)
	if a := w.post("/adfs/oauth2/token", form); a.code() != 50055 || !strings.Contains(a.str("error_description"), "sally account password change") {
		t.Fatal(a.text)
	}
	c := w.browser()
	a := w.get(c, w.get(c, authorizePath()).header.Get("Location"))
	fields := func(a answer) url.Values {
		return values("flow", hidden(t, a.text, "flow"), "csrf", hidden(t, a.text, "csrf"))
	}
	a = w.form(c, "/signin", with(fields(a), "username", "bob@contoso.test", "password", "first long password"))
	if !strings.Contains(a.text, `action="/signin/change"`) {
		t.Fatal(a.text)
	}
	change := with(fields(a), "username", "bob@contoso.test", "password", "first long password", "new", "second long password")
	if x := w.form(c, "/signin/change", with(change, "again", "third long password")); x.status != 400 {
		t.Error("two different new passwords")
	}
	a = w.form(c, "/signin/change", with(change, "again", "second long password"))
	if a.status != 200 || !strings.Contains(a.text, "was changed") {
		t.Fatal(a.text)
	}
	w.pass(time.Second)
	a = w.form(c, "/signin", with(fields(a), "username", "bob@contoso.test", "password", "second long password"))
	a = w.get(c, a.header.Get("Location"))
	if !strings.HasPrefix(a.header.Get("Location"), "http://localhost:8400") {
		t.Fatalf("%d %s", a.status, a.text)
	}
	w.pass(time.Second)
	req, err := http.NewRequest("POST", w.server.URL+"/sallyport/v1/password", strings.NewReader(`{"username":"bob@contoso.test","password":"second long password","newPassword":"third long password"}`))
	if err != nil {
		t.Fatal(err)
	}
	if x := w.do(req, w.client()); x.status != 204 {
		t.Errorf("%d %s", x.status, x.text)
	}
}

func TestSignOut(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	w.signIn(c, authorizePath())
	a := w.get(c, "/adfs/oauth2/logout")
	if x := w.form(c, "/signout", values("csrf", "forged")); x.status != 400 {
		t.Error("another site signed the person out")
	}
	if x := w.form(c, "/signout", values("csrf", hidden(t, a.text, "csrf"))); x.status != 200 {
		t.Error(x.text)
	}
	if a := w.get(c, authorizePath()); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("still signed in")
	}
}

func TestDiscovery_KeysManifestAndTenants(t *testing.T) {
	w := newWorld(t)
	a := w.get(w.client(), "/contoso.test/discovery/v2.0/keys")
	if keys, _ := a.json["keys"].([]any); len(keys) != 1 || strings.Contains(a.text, `"d"`) {
		t.Error(a.text)
	}
	if a := w.get(w.client(), "/.well-known/sallyport/manifest"); a.status != 200 || a.json["envelope"] == nil {
		t.Error(a.text)
	}
	if a := w.get(w.client(), "/common/discovery/instance?api-version=1.1"); a.status != 200 {
		t.Error(a.text)
	}
	for _, tenant := range []string{"common", "organizations", "contoso.test", "CONTOSO.TEST", w.oauth.TenantID()} {
		if a := w.get(w.client(), "/"+tenant+"/v2.0/.well-known/openid-configuration"); a.status != 200 || a.str("issuer") != publicURL+"/"+w.oauth.TenantID()+"/v2.0" {
			t.Errorf("%s: %s", tenant, a.text)
		}
	}
	for _, tenant := range []string{"22222222-2222-2222-2222-222222222222", "evil.test", "consumers"} {
		if a := w.get(w.client(), "/"+tenant+"/v2.0/.well-known/openid-configuration"); a.status != 400 || a.code() != 90002 {
			t.Errorf("%s: %s", tenant, a.text)
		}
	}
	for _, upn := range []string{"alice@contoso.test", "nobody@contoso.test"} {
		if a := w.get(w.client(), "/common/userrealm/"+upn); a.str("account_type") != "Managed" {
			t.Error(a.text)
		}
	}
}

func TestClause_I7_NoRecordNoCertificate(t *testing.T) {
	w := newWorld(t)
	form := certForm(t, w.login(armScope).str("refresh_token"))
	w.broken.Store(true)
	if a := w.post("/adfs/oauth2/token", form); a.status < 500 || a.str("access_token") != "" {
		t.Errorf("%d %s", a.status, a.text)
	}
	w.broken.Store(false)
	if a := w.post("/adfs/oauth2/token", form); a.status != 200 || len(w.events("certificate.issue", audit.Success)) != 1 {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// TestToken_CVE_2025_44005_UnknownIsRefused: a grant, token type or client that
// no code names leads to a refusal, never to an answer.
func TestToken_CVE_2025_44005_UnknownIsRefused(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	for _, pairs := range [][]string{{"grant_type", "REFRESH_TOKEN"}, {"grant_type", "implicit"}, {"token_type", "SSH-CERT"}, {"client_id", "00000000-0000-0000-0000-000000000000"}} {
		if a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), pairs...)); a.status != 400 || a.str("access_token") != "" {
			t.Errorf("%v: %d %s", pairs, a.status, a.text)
		}
	}
}

func TestBrowser_HintOfAnotherAccountAsks(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	w.signIn(c, authorizePath())
	if a := w.get(c, authorizePath("login_hint", "ALICE@contoso.test")); !strings.HasPrefix(a.header.Get("Location"), "http://localhost:8400") {
		t.Error("asked although the right account is signed in")
	}
	if a := w.get(c, authorizePath("login_hint", "bob@contoso.test")); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("one account's session answered for another")
	}
}
