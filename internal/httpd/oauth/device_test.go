package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/oauth"
)

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
	if !strings.Contains(a.text, "Microsoft Azure CLI") || !strings.Contains(a.text, d.str("user_code")) || !strings.Contains(a.text, "alice@contoso.test") ||
		!strings.Contains(a.text, "127.0.0.1") || !strings.Contains(a.text, "12:01:00 UTC, less than a minute ago") || strings.Contains(a.text, "another address") {
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

// A code that was asked for elsewhere, and some time ago, says so.
func TestDevice_FromElsewhere(t *testing.T) {
	w := newWorld(t)
	by := audit.By{Address: "198.51.100.7", At: w.now(), CorrelationID: "c"}
	d, err := w.oauth.Device(t.Context(), by, oauth.Request{Authority: oauth.Authority{ADFS: true, Segment: "adfs"}, Form: values("client_id", directory.AzureCLI, "scope", armScope)})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(7 * time.Minute)
	c := w.browser()
	w.signIn(c, authorizePath())
	page := w.get(c, "/device")
	a := w.form(c, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", d.UserCode))
	if !strings.Contains(a.text, "198.51.100.7") || !strings.Contains(a.text, "another address") || !strings.Contains(a.text, "7 minutes ago") {
		t.Fatal(a.text)
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
	if a = w.form(c, "/device", values("csrf", csrf)); a.status != 400 {
		t.Errorf("no code: %d", a.status)
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

// TestDevice_DecidedTooLate: a page that stood open says what became of it.
func TestDevice_DecidedTooLate(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	w.signIn(c, authorizePath())
	page := w.get(c, "/device")
	decide := func() (again func() answer) {
		d := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
		a := w.form(c, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", d.str("user_code")))
		form := values("csrf", hidden(t, a.text, "csrf"), "code", d.str("user_code"), "decision", "approve")
		return func() answer { return w.form(c, "/device/decide", form) }
	}
	consent := w.ask(c, authorizePath("client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:8400", "scope", "User.Read openid"))
	used, late := decide(), decide()
	if a := used(); a.status != 200 {
		t.Fatal(a.text)
	}
	if a := used(); a.status != 400 || !strings.Contains(a.text, "was used") {
		t.Errorf("used: %d %s", a.status, a.text)
	}
	w.form(c, "/signout", values("csrf", hidden(t, w.get(c, endPath).text, "csrf")))
	if a := late(); a.status != 401 || !strings.Contains(a.text, "Enter the code again") {
		t.Errorf("signed out: %d %s", a.status, a.text)
	}
	if a := w.form(c, "/signin/consent", values("flow", hidden(t, consent.text, "flow"), "csrf", hidden(t, consent.text, "csrf"), "decision", "accept")); a.status != 401 {
		t.Errorf("a consent, signed out: %d %s", a.status, a.text)
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
