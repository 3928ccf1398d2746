package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/internal/directory"
)

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
