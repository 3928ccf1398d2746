package oauth_test

import (
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// What the deployment's gate refuses is refused by every grant, whatever was
// proven before it closed, with its sentence and its code; a certificate is
// refused to those too who may sign in.
func TestGate_EveryGrantAsks(t *testing.T) {
	w := newWorld(t)
	app, secret := w.application()
	before := w.login(armScope).str("refresh_token")
	code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
	if code == "" {
		t.Fatal("no code")
	}
	everybody := true
	w.gate = func(_ string, certificate bool) error {
		if everybody || certificate {
			return fault.New(fault.Unavailable, "AADSTS90033", "the gate is closed").WithRemedy("wait")
		}
		return nil
	}
	refused := func(name string, form url.Values) {
		t.Helper()
		a := w.post("/adfs/oauth2/token", form)
		if a.status != 400 || a.code() != 90033 || !strings.Contains(a.str("error_description"), "the gate is closed; wait") {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	passwordForm := values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", armScope)
	refreshForm := values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", before, "scope", armScope)
	refused("password", passwordForm)
	refused("refresh", refreshForm)
	refused("certificate", certForm(t, before))
	refused("code", codeForm(code))
	refused("client credentials", values("client_id", app, "client_secret", secret, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default"))
	everybody = false
	refused("certificate of who may sign in", certForm(t, before))
	if n := len(w.events("certificate.issue", audit.Denied)); n != 2 {
		t.Errorf("%d refused certificates are recorded", n)
	}
	if a := w.post("/adfs/oauth2/token", refreshForm); a.status != 200 {
		t.Errorf("refresh of who may sign in: %s", a.text)
	}
	w.gate = nil
	if a := w.post("/adfs/oauth2/token", certForm(t, w.login(armScope).str("refresh_token"))); a.status != 200 {
		t.Errorf("after it opened: %s", a.text)
	}
}
