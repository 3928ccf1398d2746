package oauth_test

import (
	"strings"
	"testing"

	"sallyport/internal/directory"
)

// Addresses are compared as texts, and only a public client's loopback address
// with any port. What went wrong elsewhere: hosts that begin or end like a
// registered one and user parts (CVE-2023-6291), a registered localhost that let
// other hosts in (CVE-2024-8883), wildcards, paths that a browser normalizes,
// letters in another case, a client with a secret that gets a loopback port.
func TestAuthorize_CVE_2023_6291_CVE_2024_8883_RedirectsMatchExactly(t *testing.T) {
	w := newWorld(t)
	register := func(n directory.NewApplication) string {
		t.Helper()
		a, err := w.people.CreateApplication(t.Context(), w.admin, n)
		if err != nil {
			t.Fatal(err)
		}
		return a.AppID
	}
	public := register(directory.NewApplication{DisplayName: "public", Public: true, RedirectURIs: []string{"https://app.example/cb", "http://127.0.0.1/cb"}})
	secret := register(directory.NewApplication{DisplayName: "web", RedirectURIs: []string{"https://web.example/cb?tenant=1", "http://localhost:3000/cb"}})
	none := register(directory.NewApplication{DisplayName: "none", Public: true})
	for _, tc := range []struct {
		client, uri string
		want        bool
	}{
		{public, "https://app.example/cb", true},
		{public, "http://127.0.0.1/cb", true}, {public, "http://127.0.0.1:5/cb", true}, {public, "http://localhost:5/cb", true},
		{public, "https://app.example/cb/", false}, {public, "https://app.example/cb?x=1", false}, {public, "https://app.example/cb#x", false}, {public, "https://app.example/CB", false},
		{public, "https://APP.example/cb", false}, {public, "https://app.example:443/cb", false}, {public, "https://app.example:8443/cb", false}, {public, "http://app.example/cb", false},
		{public, "https://app.example.evil.test/cb", false}, {public, "https://evil-app.example/cb", false}, {public, "https://app.example@evil.test/cb", false}, {public, "https://app.example%40evil.test/cb", false},
		{public, "https://evil.test/https://app.example/cb", false}, {public, "https://app.example/cb/../../evil", false}, {public, "https://app.example/%2e%2e/cb", false}, {public, "https://app.example\\@evil.test/cb", false},
		{public, "https://app.example//cb", false}, {public, "https://*.example/cb", false}, {public, "https://app.example/*", false}, {public, " https://app.example/cb", false}, {public, "https://app.example/cb\u200b", false},
		{public, "http://127.0.0.1.evil.test/cb", false}, {public, "http://127.0.0.1@evil.test/cb", false}, {public, "http://127.0.0.1:5@evil.test/cb", false}, {public, "http://evil.test:80/127.0.0.1/cb", false},
		{public, "http://0.0.0.0/cb", false}, {public, "http://127.0.0.2/cb", false}, {public, "http://2130706433/cb", false}, {public, "http://127.1/cb", false}, {public, "http://[::ffff:127.0.0.1]/cb", false},
		{public, "https://127.0.0.1:5/cb", false}, {public, "http://127.0.0.1:5/other", false}, {public, "http://127.0.0.1:5/cb?code=x", false}, {public, "http://127.0.0.1:99999999/cb", false},
		{public, "custom:/cb", false}, {public, "data:text/html,x", false},
		{secret, "https://web.example/cb?tenant=1", true}, {secret, "http://localhost:3000/cb", true},
		{secret, "https://web.example/cb", false}, {secret, "https://web.example/cb?tenant=2", false}, {secret, "http://localhost:3001/cb", false}, {secret, "http://127.0.0.1:3000/cb", false},
		{none, "http://localhost", false}, {none, "https://app.example/cb", false},
	} {
		a := w.get(w.client(), authorizePath("client_id", tc.client, "redirect_uri", tc.uri, "scope", "openid"))
		if got := a.status == 303; got != tc.want {
			t.Errorf("%s: %d", tc.uri, a.status)
		}
		if !tc.want && strings.Contains(a.header.Get("Location"), "evil") {
			t.Errorf("%s: sent there: %s", tc.uri, a.header.Get("Location"))
		}
	}
	// What could never be matched safely is not registered in the first place.
	for _, uri := range []string{"http://app.example/cb", "https://*.example/cb", "https://app.example/*", "https://user@app.example/", "https://app.example/#x", "custom:/cb", "javascript:alert(1)", "https://app.example\\evil", "//app.example", ""} {
		if _, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "x", Public: true, RedirectURIs: []string{uri}}); err == nil {
			t.Errorf("registered: %q", uri)
		}
	}
}
