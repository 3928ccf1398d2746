package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/directory"
)

// TestRecorded_StepUp replays the step-up of azure-cli 2.45.0 with its ssh
// extension against a policy: the silent request, MSAL's second try without the
// certificate's parameters, the page, the code (azure reference 7 and 12.1).
func TestRecorded_StepUp(t *testing.T) {
	w := newWorld(t)
	old, browser := w.login(armScope).str("refresh_token"), w.browser()
	w.signIn(browser, authorizePath())
	w.policies = frequent()
	w.pass(61 * time.Minute)
	all := recordedIn(t, "testdata/az-ssh-stepup-2.45.0.jsonl")
	form := func(i int, put ...string) url.Values {
		v, err := url.ParseQuery(all[i].Body)
		if err != nil {
			t.Fatal(err)
		}
		return with(v, put...)
	}
	silent := w.post(all[0].Path, form(0, "refresh_token", old))
	retry := w.post(all[1].Path, form(1, "refresh_token", old))
	for name, a := range map[string]answer{"silent": silent, "without the certificate's parameters": retry} {
		if a.status != 400 || a.code() != 70043 || a.str("access_token") != "" || a.str("claims") == "" || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if form(1).Get("token_type") != "" || !strings.Contains(form(1).Get("scope"), "CheckMyAccess") {
		t.Fatal("the recording is another")
	}
	authorize := mustURL(t, all[2].Path)
	q := authorize.Query()
	if q.Has("prompt") || q.Get("login_hint") == "" {
		t.Fatal("the recording is another")
	}
	sum := sha256.Sum256([]byte(verifier)) // the recorded verifier is the recorder's secret
	authorize.RawQuery = with(q, "code_challenge", base64.RawURLEncoding.EncodeToString(sum[:])).Encode()
	back := w.signIn(browser, authorize.String())
	if back.Query().Get("state") != q.Get("state") {
		t.Errorf("%s", back)
	}
	a := w.post(all[3].Path, form(3, "code", back.Query().Get("code"), "code_verifier", verifier))
	if a.status != 200 || a.str("token_type") != "ssh-cert" || a.str("refresh_token") == "" || decode(t, a.str("id_token"))["nonce"] != q.Get("nonce") {
		t.Fatalf("%d %s", a.status, a.text)
	}
	// The next silent request has the new refresh token: no second page.
	if again := w.post(all[0].Path, form(0, "refresh_token", a.str("refresh_token"))); again.status != 200 {
		t.Errorf("%s", again.text)
	}
	// In another cloud's name (exchange 361, AzureUSGovernment), and with the
	// certificate's answer as az reads it.
	w = newWorldIn(t, "AzureUSGovernment")
	a = w.login(armScope)
	gov := w.post(all[4].Path, form(4, "refresh_token", a.str("refresh_token")))
	if gov.status != 200 || !strings.Contains(gov.str("scope"), "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default") {
		t.Errorf("%s", gov.text)
	}
}

// TestAzSSH_EachCloud: each cloud's name of the resource gives a certificate there,
// and the answer's scope is the one that was asked for: MSAL's cache is keyed by it.
func TestAzSSH_EachCloud(t *testing.T) {
	for name, host := range map[string]string{"AzureCloud": "pas.windows.net", "AzureChinaCloud": "pas.chinacloudapi.cn", "AzureUSGovernment": "pasff.usgovcloudapi.net"} {
		w := newWorldIn(t, name)
		refresh := w.login(armScope).str("refresh_token")
		scope := "https://" + host + "/CheckMyAccess/Linux/.default"
		for _, asked := range []string{scope + " offline_access openid profile", "offline_access openid profile " + scope, scope} {
			a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), "scope", asked))
			if a.status != 200 || !strings.Contains(" "+a.str("scope")+" ", " "+scope+" ") {
				t.Errorf("%s: %d %s", asked, a.status, a.text)
			}
		}
	}
}

// TestAzSSH_TheCertificateAsAzReadsIt: standard base64, a finite life that
// expires_in does not exceed, and a first principal without capitals and colons,
// as which az logs in.
func TestAzSSH_TheCertificateAsAzReadsIt(t *testing.T) {
	w := newWorld(t)
	u, err := w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "Capital.Letters@Contoso.test", DisplayName: "C", Enabled: true}, password, false)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	signed := w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "password", "username", "CAPITAL.letters@contoso.test", "password", password, "scope", armScope))
	a := w.post("/adfs/oauth2/token", certForm(t, signed.str("refresh_token")))
	if _, err := base64.StdEncoding.Strict().DecodeString(a.str("access_token")); err != nil || a.status != 200 {
		t.Fatalf("%v %s", err, a.text)
	}
	cert := parseCert(t, a.str("access_token"))
	if cert.ValidPrincipals[0] != "capital.letters@contoso.test" || strings.Contains(strings.Join(cert.ValidPrincipals, ""), ":") || cert.ValidPrincipals[1] != u.ID {
		t.Errorf("%q", cert.ValidPrincipals)
	}
	life := a.json["expires_in"].(float64)
	if ends := w.now().Unix() + int64(life); life != float64(int64(life)) || uint64(ends) > cert.ValidBefore || cert.ValidBefore > uint64(w.now().Add(25*time.Hour).Unix()) {
		t.Errorf("expires_in %v, certificate until %d", life, cert.ValidBefore)
	}
}

// TestAzSSH_CloudShell: there az asks the page with prompt=none, which answers a
// browser that is signed in, and never asks.
func TestAzSSH_CloudShell(t *testing.T) {
	w := newWorld(t)
	browser := w.browser()
	path := authorizePath("scope", sshScope, "prompt", "none")
	if a := w.get(browser, path); !strings.Contains(a.header.Get("Location"), "error=login_required") {
		t.Errorf("nobody is signed in: %s", a.header.Get("Location"))
	}
	w.signIn(browser, authorizePath())
	code := mustURL(t, w.get(browser, path).header.Get("Location")).Query().Get("code")
	cnf, _ := confirmation(t)
	if a := w.post("/adfs/oauth2/token", with(codeForm(code), "scope", sshScope, "token_type", "ssh-cert", "req_cnf", cnf, "key_id", "k")); a.status != 200 || a.str("token_type") != "ssh-cert" {
		t.Errorf("%s", a.text)
	}
}

// TestAzSSH_WhatMSALCaches: a 400 is shown again for a minute, a 401 is not. So
// what a person mends at once, a mistyped secret, is a 401.
func TestAzSSH_WhatMSALCaches(t *testing.T) {
	w := newWorld(t)
	id, secret := w.application()
	cnf, _ := confirmation(t)
	form := values("client_id", id, "client_secret", secret+"x", "grant_type", "client_credentials", "scope", strings.Fields(sshScope)[0], "token_type", "ssh-cert", "req_cnf", cnf, "key_id", "k")
	if a := w.post("/adfs/oauth2/token", form); a.status != 401 || a.header.Get("Retry-After") != "" {
		t.Errorf("a wrong secret: %d %s", a.status, a.text)
	}
	if a := w.post("/adfs/oauth2/token", with(form, "client_secret", secret)); a.status != 200 || a.header.Get("Retry-After") != "" || a.str("refresh_token") != "" {
		t.Errorf("the right one: %d %s", a.status, a.text)
	}
}

// TestClaimsChallenge: Resource Manager tells a client that understands it (CP1)
// to fetch another token, in a header that survives being split at its commas; and
// the directory takes the claims that come back (azure reference 12.3).
func TestClaimsChallenge(t *testing.T) {
	w := newWorld(t)
	const capable = `{"access_token": {"xms_cc": {"values": ["CP1"]}}}`
	signIn := func(claims string) answer {
		return w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", armScope, "claims", claims))
	}
	plain, first := signIn(""), signIn(capable)
	w.pass(time.Second)
	if err := w.people.RevokeSessions(t.Context(), w.admin, w.alice.ID); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if a := w.bearer("/whoami", plain.str("access_token")); a.status != 401 || strings.Contains(a.header.Get("WWW-Authenticate"), "claims=") {
		t.Errorf("a client that does not understand it is challenged: %d %v", a.status, a.header)
	}
	a := w.bearer("/whoami", first.str("access_token"))
	claims := challengeOf(t, a.header)
	var said struct {
		Token struct {
			NBF struct {
				Essential bool
				Value     string
			} `json:"nbf"`
		} `json:"access_token"`
	}
	user, _ := w.index.User(w.alice.ID)
	if err := json.Unmarshal([]byte(claims), &said); err != nil || a.status != 401 || !said.Token.NBF.Essential || said.Token.NBF.Value != fmt.Sprint(user.NotBefore.Unix()) {
		t.Fatalf("%v %s", err, claims)
	}
	// az: skip the cached token, refresh with the claims, merged with its own.
	merged := strings.Replace(claims, `{"access_token":{`, `{"access_token":{"xms_cc":{"values":["CP1"]},`, 1)
	again := signIn(merged)
	if b := w.bearer("/whoami", again.str("access_token")); b.status != 200 {
		t.Errorf("the new token: %d %s; %s", b.status, b.text, again.text)
	}
	if b := w.post("/adfs/oauth2/token", with(refreshForm(first.str("refresh_token")), "scope", armScope, "claims", merged)); b.code() != 50173 {
		t.Errorf("the sign-in before the revocation: %s", b.text)
	}
	for _, text := range []string{"x", ""} { // not a token, none
		if b := w.bearer("/whoami", text); b.status != 401 || strings.Contains(b.header.Get("WWW-Authenticate"), "claims=") {
			t.Errorf("%q is challenged", text)
		}
	}
}

// challengeOf reads a challenge as azure-core does: parts at commas, one claims=.
func challengeOf(t *testing.T, h http.Header) string {
	t.Helper()
	var found []string
	for _, part := range strings.Split(h.Get("WWW-Authenticate"), ",") {
		if _, value, ok := strings.Cut(strings.TrimSpace(part), "claims="); ok {
			found = append(found, strings.Trim(value, `"`))
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d challenges in %q", len(found), h.Get("WWW-Authenticate"))
	}
	b, err := base64.StdEncoding.DecodeString(found[0])
	if again, bad := base64.RawURLEncoding.DecodeString(found[0]); err != nil || bad != nil || string(again) != string(b) {
		t.Fatalf("%v %v: clients differ in how they read %q", err, bad, found[0])
	}
	if !strings.Contains(h.Get("WWW-Authenticate"), `error="insufficient_claims"`) {
		t.Errorf("azure-core takes no other word: %q", h.Get("WWW-Authenticate"))
	}
	return string(b)
}
