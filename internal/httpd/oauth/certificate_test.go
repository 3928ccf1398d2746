package oauth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/sshca"
)

func parseCert(t testing.TB, text string) *ssh.Certificate {
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
	want := map[string]string{sshca.ExtObjectID: w.alice.ID, sshca.ExtTenant: w.oauth.TenantID(), sshca.ExtIssued: strconv.FormatInt(w.now().UnixMicro(), 10),
		sshca.ExtFactors: "pwd:" + strconv.FormatInt(signedIn.Unix(), 10), sshca.ExtPolicy: "default", sshca.ExtMachine: machine}
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
	w.grant(app.AppID, directory.ARMAppID, directory.UserImpersonation)
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
