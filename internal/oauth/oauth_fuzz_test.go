package oauth

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/directory"
	"sallyport/internal/sshca"
)

// tenantOnly is a directory with nothing but built-in clients.
type tenantOnly struct{}

func (tenantOnly) Tenant() directory.Tenant {
	return directory.Tenant{ID: "11111111-1111-1111-1111-111111111111", Domains: []string{"contoso.test"}}
}
func (tenantOnly) User(string) (directory.User, bool) { return directory.User{}, false }
func (tenantOnly) GroupsOf(string) []string           { return nil }
func (tenantOnly) ServicePrincipalByAppID(string) (directory.ServicePrincipal, bool) {
	return directory.ServicePrincipal{}, false
}
func (tenantOnly) Application(id string) (directory.Application, bool) {
	return directory.Application{AppID: directory.AzureCLI, Public: true, RedirectURIs: []string{"http://localhost", "https://app.test/cb"}}, id == directory.AzureCLI
}

func fuzzService() *Service { return New(Config{URL: "https://h.test", Directory: tenantOnly{}}) }

// FuzzParseConfirmation: no input panics, and what passes is a key that can be
// certified or is refused by the profile, never a certificate.
func FuzzParseConfirmation(f *testing.F) {
	f.Add(`{"kty":"RSA","n":"AKcn","e":"AQAB","kid":"x"}`)
	f.Add(`{"kty":"EC","crv":"P-256","x":"AQ==","y":"AQ"}`)
	f.Add(`{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	f.Add(`{"kty":"ssh","key":"AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseConfirmation(text)
		if err != nil {
			return
		}
		if _, isCert := key.(*ssh.Certificate); isCert && sshca.CheckKey(key) == nil {
			t.Fatal("a certificate can be certified")
		}
		if again, err := ssh.ParsePublicKey(key.Marshal()); sshca.CheckKey(key) == nil && (err != nil || !bytes.Equal(again.Marshal(), key.Marshal())) {
			t.Fatalf("the key does not survive its own form: %v", err)
		}
	})
}

// FuzzAssertion: parsing never panics, and the unproven client id stays a text.
func FuzzAssertion(f *testing.F) {
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4IiwiZXhwIjoxLjV9.AAAA")
	f.Add("..")
	f.Fuzz(func(_ *testing.T, text string) {
		_ = assertedClient(text)
		var a assertion
		_ = json.Unmarshal([]byte(text), &a)
	})
}

// FuzzAuthorize: a redirect URI that passes leads to a registered place or to
// this computer, and a request of a public client that passes has PKCE.
func FuzzAuthorize(f *testing.F) {
	f.Add("client_id=" + directory.AzureCLI + "&redirect_uri=http://localhost:1&response_type=code&scope=openid&code_challenge_method=S256&code_challenge=" + strings.Repeat("A", 43))
	f.Add("redirect_uri=http://localhost@evil.test&client_id=" + directory.AzureCLI)
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		req, ok, err := fuzzService().ParseAuthorize(Authority{Segment: "adfs", ADFS: true}, q)
		if ok {
			u, parseErr := url.Parse(req.RedirectURI)
			if parseErr != nil || req.RedirectURI != "https://app.test/cb" && !(u.Scheme == "http" && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1") && u.User == nil && u.Fragment == "") {
				t.Fatalf("redirect to %q", req.RedirectURI)
			}
		}
		if ok && err == nil && (len(req.Challenge) != 43 || !req.Client.Public) {
			t.Fatal("no PKCE")
		}
	})
}

// FuzzScope: nothing but the exact audiences becomes a resource, and nothing
// that looks like the SSH resource becomes another one.
func FuzzScope(f *testing.F) {
	for _, s := range []string{"https://h.test/arm/.default openid", "https://management.core.windows.net//.default", "https://pas.windows.net/CheckMyAccess/Linux/.default", "User.Read", "https://pas.windows.net/checkmyaccess/linux/user_impersonation", "https://graph.microsoft.com/User.Read", "CheckMyAccess", "api://ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0/.default"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := fuzzService()
		sc, err := s.parseScope(text, directory.AzureCLI)
		if err != nil {
			return
		}
		if sc.Resource != Own {
			found := false
			for _, a := range s.Audiences(sc.Resource) {
				found = found || a == sc.Audience
			}
			if !found {
				t.Fatalf("audience %q", sc.Audience)
			}
		}
		if sshLike(text) && sc.Resource != SSH {
			t.Fatalf("%q became resource %d", text, sc.Resource)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add(`{"access_token": {"xms_cc": {"values": ["CP1"]}}}`)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseClaims(text) })
}

func TestParseScope_Table(t *testing.T) {
	s := fuzzService()
	for text, want := range map[string]struct {
		r        Resource
		audience string
	}{
		"https://h.test/arm/.default offline_access openid profile": {ARM, "https://h.test/arm"},
		"openid profile https://h.test/arm/.default":                {ARM, "https://h.test/arm"},
		"https://management.core.windows.net//.default":             {ARM, "https://management.core.windows.net/"},
		"https://h.test//.default":                                  {Graph, "https://h.test/"},
		"https://graph.microsoft.com/User.Read":                     {Graph, "https://graph.microsoft.com"},
		"User.Read":                                                 {Graph, "https://graph.microsoft.com"},
		"https://pas.windows.net/CheckMyAccess/Linux/.default":      {SSH, "https://pas.windows.net/CheckMyAccess/Linux"},
		"openid": {Own, directory.AzureCLI},
	} {
		sc, err := s.parseScope(text, directory.AzureCLI)
		if err != nil || sc.Resource != want.r || sc.Audience != want.audience || sc.Text != text {
			t.Errorf("%q: %+v %v", text, sc, err)
		}
	}
}
