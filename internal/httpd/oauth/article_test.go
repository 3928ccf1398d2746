package oauth_test

import (
	"strings"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/route"
)

// The article's "Missing application": without the service principal of Azure
// Linux VM Sign-In nobody gets a certificate, and is told why; a Global
// Administrator consents to Graph PowerShell's two scopes, makes it anew with
// that token, and certificates are issued again.
func TestArticle_MissingApplication(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	if _, err := w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "global@contoso.test", DisplayName: "Global", Enabled: true}, password, false); err != nil {
		t.Fatal(err)
	}
	gone, _ := w.index.ServicePrincipalByAppID(directory.LinuxSignIn)
	if err := w.people.DeleteServicePrincipal(t.Context(), w.admin, gone.ID); err != nil {
		t.Fatal(err)
	}
	a := w.post("/adfs/oauth2/token", certForm(t, refresh))
	if a.code() != 500011 || !strings.Contains(a.str("error_description"), "'Azure Linux VM Sign-In'") || !strings.Contains(a.str("error_description"), "sally ad sp create --id "+directory.LinuxSignIn) {
		t.Fatalf("%d %s", a.status, a.text)
	}
	c := w.browser()
	path := authorizePath("client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:50123", "scope", "ServicePrincipalEndpoint.ReadWrite.All Application.ReadWrite.All openid profile offline_access")
	page := w.get(c, w.get(c, path).header.Get("Location"))
	page = w.form(c, "/signin", values("flow", hidden(t, page.text, "flow"), "csrf", hidden(t, page.text, "csrf"), "username", "global@contoso.test", "password", password))
	page = w.ask(c, page.header.Get("Location"))
	if !strings.Contains(page.text, "Permissions requested") || !strings.Contains(page.text, `name="all"`) {
		t.Fatalf("a Global Administrator is not asked: %s", page.text)
	}
	code := w.answerAsk(c, page, "accept").Query().Get("code")
	form := with(codeForm(code), "client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:50123", "scope", "")
	got := w.post("/adfs/oauth2/token", form)
	if scp := decode(t, got.str("access_token"))["scp"]; scp != "Application.ReadWrite.All ServicePrincipalEndpoint.ReadWrite.All" {
		t.Fatalf("%v %s", scp, got.text)
	}
	by, err := w.Bearer(t.Context(), got.str("access_token"), route.Graph, w.now())
	if err != nil || len(by.Permissions) != 2 {
		t.Fatalf("%v %v", by.Permissions, err)
	}
	// For himself alone: he did not tick the box.
	if other := w.index.Consented(directory.GraphPowerShell, w.alice.ID, directory.GraphAppID); len(other) != 0 {
		t.Errorf("alice's: %v", other)
	}
	if _, err := w.people.CreateServicePrincipal(t.Context(), by, directory.LinuxSignIn); err != nil {
		t.Fatal(err)
	}
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.status != 200 || a.str("token_type") != "ssh-cert" {
		t.Errorf("afterwards: %d %s", a.status, a.text)
	}
}
