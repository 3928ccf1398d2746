package oauth_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/directory"
)

const (
	shop      = "https://shop.contoso.test/signed-out"
	endPath   = "/adfs/oauth2/logout?"
	registers = "not registered"
)

// site is a confidential client of this directory, and what a person's sign-in
// there gave it.
func (w *world) site(c *http.Client) (id, idToken string) {
	w.t.Helper()
	app, err := w.people.CreateApplication(w.t.Context(), w.admin, directory.NewApplication{DisplayName: "shop", Public: true, RedirectURIs: []string{shop}})
	if err != nil {
		w.t.Fatal(err)
	}
	u := w.signIn(c, authorizePath("client_id", app.AppID, "redirect_uri", shop, "scope", "openid profile"))
	a := w.post("/adfs/oauth2/token", with(codeForm(u.Query().Get("code")), "client_id", app.AppID, "redirect_uri", shop, "scope", "openid profile"))
	if a.status != 200 {
		w.t.Fatal(a.text)
	}
	return app.AppID, a.str("id_token")
}

func (w *world) signedIn(c *http.Client) bool {
	return !strings.HasPrefix(w.get(c, authorizePath()).header.Get("Location"), "/signin")
}

// A program that shows the id token of the sign-in ends it and gets the browser
// back, with its state; also when the id token has expired.
func TestSignOut_ByTheProgramOfTheSignIn(t *testing.T) {
	for name, late := range map[string]time.Duration{"at once": 0, "id token has expired": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.browser()
			_, hint := w.site(c)
			w.pass(late)
			a := w.get(c, endPath+values("post_logout_redirect_uri", shop, "id_token_hint", hint, "state", "a b&c").Encode())
			if to := a.header.Get("Location"); a.status != 303 || to != shop+"?state=a+b%26c" {
				t.Fatalf("%d %s %s", a.status, to, a.text)
			}
			if w.signedIn(c) {
				t.Error("still signed in")
			}
		})
	}
}

// Everybody else's link asks the person, and leads nowhere that is not the
// program's own.
func TestSignOut_OthersAsk(t *testing.T) {
	w := newWorld(t)
	c, other := w.browser(), w.browser()
	id, own := w.site(c)
	otherID, foreign := w.site(other) // another browser's sign-in, of the same person
	access := w.post("/adfs/oauth2/token", codeForm(w.signIn(c, authorizePath()).Query().Get("code"))).str("access_token")
	for name, q := range map[string]url.Values{
		"nobody said":                  values("post_logout_redirect_uri", shop),
		"another place":                values("post_logout_redirect_uri", "https://evil.test/", "client_id", id),
		"a place below":                values("post_logout_redirect_uri", shop+"/x", "client_id", id),
		"a client that is not there":   values("post_logout_redirect_uri", shop, "client_id", "11111111-2222-4333-8444-555555555555"),
		"two clients":                  values("post_logout_redirect_uri", shop, "client_id", otherID, "id_token_hint", own),
		"a hint that is changed":       values("post_logout_redirect_uri", shop, "id_token_hint", own[:len(own)-8]+"AAAAAAAA"),
		"an access token for a hint":   values("post_logout_redirect_uri", shop, "id_token_hint", access),
		"a script":                     values("post_logout_redirect_uri", "javascript:alert(1)", "client_id", id),
		"a state that is far too long": values("post_logout_redirect_uri", shop, "client_id", id, "state", strings.Repeat("x", 1<<14)),
	} {
		a := w.get(c, endPath+q.Encode())
		if a.status == 400 && name == "a state that is far too long" {
			continue // the address itself is too long
		}
		if a.status != 200 || !strings.Contains(a.text, "Sign out alice@contoso.test") || !strings.Contains(a.text, registers) || strings.Contains(a.text, "post_logout_redirect_uri") {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if !w.signedIn(c) {
		t.Fatal("a link signed somebody out")
	}
	a := w.get(c, endPath+values("post_logout_redirect_uri", shop, "id_token_hint", foreign, "state", "s").Encode())
	if a.status != 200 || !strings.Contains(a.text, "<strong>https://shop.contoso.test</strong>") || !strings.Contains(a.header.Get("Content-Security-Policy"), "form-action 'self' https://shop.contoso.test") {
		t.Fatalf("another sign-in's id token: %d %s", a.status, a.text)
	}
	form := values("csrf", hidden(t, a.text, "csrf"))
	for _, field := range []string{"client_id", "post_logout_redirect_uri", "state"} {
		form.Set(field, hidden(t, a.text, field))
	}
	if x := w.form(c, "/signout", with(form, "csrf", "forged")); x.status != 400 || !w.signedIn(c) {
		t.Error("another site signed the person out")
	}
	if x := w.form(c, "/signout", with(form, "post_logout_redirect_uri", "https://evil.test/")); x.status != 200 || !strings.Contains(x.text, registers) {
		t.Errorf("a form that was changed: %d %s", x.status, x.header.Get("Location"))
	}
	if w.signedIn(c) {
		t.Error("still signed in")
	}
	if !w.signedIn(other) {
		t.Error("the other browser was signed out, too")
	}
	// Nobody is signed in any more: there is nothing to ask.
	if x := w.form(c, "/signout", form); x.status != 303 || x.header.Get("Location") != shop+"?state=s" {
		t.Errorf("%d %s", x.status, x.header.Get("Location"))
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Jar = jar
	if x := w.get(c, endPath+values("post_logout_redirect_uri", shop, "client_id", id).Encode()); x.status != 303 || x.header.Get("Location") != shop {
		t.Errorf("%d %s", x.status, x.header.Get("Location"))
	}
}

// Who takes a program out of use, after phishing for example, means its way back
// from the sign-out page, too.
func TestSignOut_DisabledProgramLeadsNowhere(t *testing.T) {
	w := newWorld(t)
	id, _ := w.site(w.browser())
	sp, found := w.index.ServicePrincipalByAppID(id)
	if !found {
		var err error
		if sp, err = w.people.CreateServicePrincipal(t.Context(), w.admin, id); err != nil {
			t.Fatal(err)
		}
	}
	link := endPath + values("post_logout_redirect_uri", shop, "client_id", id).Encode()
	if a := w.get(w.browser(), link); a.status != 303 || a.header.Get("Location") != shop {
		t.Fatalf("%d %s", a.status, a.header.Get("Location"))
	}
	if err := w.people.EnableServicePrincipal(t.Context(), w.admin, sp.ID, false); err != nil {
		t.Fatal(err)
	}
	if a := w.get(w.browser(), link); a.status != 200 || a.header.Get("Location") != "" || !strings.Contains(a.text, registers) {
		t.Errorf("%d %s %s", a.status, a.header.Get("Location"), a.text)
	}
}

// userInfo asks with a token.
func (w *world) userInfo(method, token string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL+"/oidc/userinfo", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return w.do(req, w.client())
}

func TestUserInfo(t *testing.T) {
	w := newWorld(t)
	grant := func(scope string) answer {
		return w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", scope))
	}
	own := grant("openid profile")
	for _, token := range []string{own.str("access_token"), grant("https://graph.microsoft.com/.default").str("access_token")} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := w.userInfo(method, token)
			if a.status != 200 || a.str("sub") != decode(t, own.str("id_token"))["sub"] || a.str("preferred_username") != "alice@contoso.test" || a.str("name") == "" {
				t.Errorf("%s: %d %s", method, a.status, a.text)
			}
		}
	}
	id, secret := w.application()
	app := w.post("/adfs/oauth2/token", values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", "https://graph.microsoft.com/.default")).str("access_token")
	if a := w.userInfo(http.MethodGet, app); a.status != 403 || a.str("error") != "insufficient_scope" {
		t.Errorf("an application: %d %s", a.status, a.text)
	}
	for name, token := range map[string]string{"none": "", "Resource Manager's": grant(armScope).str("access_token"), "an id token": own.str("id_token"), "a changed one": own.str("access_token")[:40]} {
		if a := w.userInfo(http.MethodGet, token); a.status != 401 || a.str("error") != "invalid_token" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`) {
			t.Errorf("%s: %d %s %s", name, a.status, a.header.Get("WWW-Authenticate"), a.text)
		}
	}
	w.pass(2 * time.Hour)
	if a := w.userInfo(http.MethodGet, own.str("access_token")); a.status != 401 {
		t.Errorf("an expired one: %d", a.status)
	}
}
