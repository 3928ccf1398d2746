package oauth_test

import (
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/directory"
)

// An application that somebody registered gets no code from a signed-in browser
// until the person says so: otherwise whoever may register applications had the
// tokens of everybody who follows a link.
func TestAuthorize_ForeignClientNeedsThePerson(t *testing.T) {
	const evil = "https://evil.contoso.test/cb"
	w := newWorld(t)
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "Microsoft Azure CLI", Public: true, RedirectURIs: []string{evil, "http://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	c := w.browser()
	w.signIn(c, authorizePath())
	for _, uri := range []string{evil, "http://localhost:9"} {
		for _, scope := range []string{armScope, "https://graph.microsoft.com/.default", "openid profile", sshScope} {
			for _, prompt := range []string{"", "consent", "select_account"} {
				a := w.get(c, authorizePath("client_id", app.AppID, "redirect_uri", uri, "scope", scope, "prompt", prompt))
				if !strings.HasPrefix(a.header.Get("Location"), "/signin?flow=") {
					t.Fatalf("%s %s %q: %d %s", uri, scope, prompt, a.status, a.header.Get("Location"))
				}
			}
		}
	}
	path := authorizePath("client_id", app.AppID, "redirect_uri", evil)
	page := w.get(c, w.get(c, path).header.Get("Location"))
	for _, part := range []string{"not part of Sallyport", "<strong>https://evil.contoso.test</strong>", "Continue as alice@contoso.test"} {
		if !strings.Contains(page.text, part) {
			t.Errorf("the page does not say %q: %s", part, page.text)
		}
	}
	a := w.get(c, changed(path, "prompt", "none"))
	if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Query().Get("error") != "interaction_required" || u.Query().Get("code") != "" {
		t.Errorf("prompt=none: %d %s", a.status, a.header.Get("Location"))
	}
	w.grant(app.AppID, directory.ARMAppID, directory.UserImpersonation)
	if u := w.signIn(c, path); u.Host != "evil.contoso.test" || u.Query().Get("code") == "" {
		t.Errorf("after the person agreed: %s", u)
	}
	// Agreeing once is for that request alone.
	if a := w.get(c, path); !strings.HasPrefix(a.header.Get("Location"), "/signin?flow=") {
		t.Error("the second request was answered without the person")
	}
	// Who is not signed in reads the same on the password page.
	stranger := w.browser()
	if page := w.get(stranger, w.get(stranger, path).header.Get("Location")); !strings.Contains(page.text, "https://evil.contoso.test") || !strings.Contains(page.text, `name="password"`) {
		t.Errorf("password page: %s", page.text)
	}
	// The command lines are ours, and a signed-in browser answers them at once.
	if page := w.get(stranger, w.get(stranger, authorizePath()).header.Get("Location")); strings.Contains(page.text, "not part of Sallyport") {
		t.Error("the command line is called foreign")
	}
}

// changed changes one parameter of an authorize path.
func changed(path, name, value string) string {
	base, query, _ := strings.Cut(path, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return path
	}
	q.Set(name, value)
	return base + "?" + q.Encode()
}
