package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/oauth"
	"sallyport/internal/route"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// says fails unless an answer is a refusal by that number in these words.
func (w *world) says(a answer, code int, words string) {
	w.t.Helper()
	if a.status < 400 || a.code() != code || !strings.Contains(a.str("error_description"), words) {
		w.t.Errorf("%d %s, want AADSTS%d %s", a.status, a.text, code, words)
	}
}

// basic posts a token request with an Authorization header.
func (w *world) basic(header string, form url.Values) answer {
	w.t.Helper()
	req, err := http.NewRequest("POST", w.server.URL+"/adfs/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", header)
	return w.do(req, w.client())
}

// TestWrong_ClientsAndGrants: a client that proves itself twice, by another name or
// not at all, and grants that are not its own.
func TestWrong_ClientsAndGrants(t *testing.T) {
	w := newWorld(t)
	id, secret := w.application()
	form := values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default")
	header := func(id, key string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+key))
	}
	const token = "/adfs/oauth2/token"
	w.says(w.basic(header(directory.AzureCLI, "x"), form), 700016, "The client id of the Authorization header and that of the body differ.")
	w.says(w.basic(header(id, secret), form), 7000216, "The client secret is given twice")
	w.says(w.post(token, with(form, "client_assertion", "x")), 7000216, "Both client_secret and client_assertion are given.")
	w.says(w.post(token, with(form, "client_secret", "", "client_assertion", "x")), 900144, "The client_assertion_type must be ")
	w.says(w.post(token, with(form, "scope", strings.Repeat("a", 5000))), 70011, "The scope is too long.")
	w.says(w.post(token, with(form, "grant_type", "password", "username", "alice@contoso.test", "password", password)), 7000218, "The password grant is for public clients only.")
	w.says(w.post("/adfs/oauth2/devicecode", form), 7000218, "The device code grant is for public clients only.")
	for header, words := range map[string]string{"Bearer x": "the Authorization header of a token request can only be Basic", header("%zz", "x"): "the Authorization header is malformed"} {
		if a := w.basic(header, form); a.status != 400 || !strings.Contains(a.text, words) {
			t.Errorf("%s: %d %s", header, a.status, a.text)
		}
	}
	sp, _ := w.index.ServicePrincipalByAppID(id)
	if err := w.people.EnableServicePrincipal(t.Context(), w.admin, sp.ID, false); err != nil {
		t.Fatal(err)
	}
	w.says(w.post(token, form), 7000112, "Application '"+id+"' is disabled. Ask an Application Administrator to enable it.")
	refresh := w.login(armScope).str("refresh_token")
	w.says(w.post(token, with(certForm(t, refresh), "key_id", strings.Repeat("k", 300))), 90014, "The parameter 'key_id' is too long.")
}

// TestWrong_VerifierOfNothing: a client with a secret may do without a challenge,
// and then has nothing to verify.
func TestWrong_VerifierOfNothing(t *testing.T) {
	w := newWorld(t)
	const back = "http://localhost:3000/cb"
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "web", RedirectURIs: []string{back}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.people.CreateServicePrincipal(t.Context(), w.admin, app.AppID); err != nil {
		t.Fatal(err)
	}
	_, secret, err := w.creds.AddSecret(t.Context(), w.admin, app.ID, "s", credential.Life{})
	if err != nil {
		t.Fatal(err)
	}
	u := w.signIn(w.browser(), authorizePath("client_id", app.AppID, "redirect_uri", back, "scope", "openid", "code_challenge", "", "code_challenge_method", ""))
	form := with(codeForm(u.Query().Get("code")), "client_id", app.AppID, "client_secret", secret, "redirect_uri", back, "scope", "openid")
	w.says(w.post("/adfs/oauth2/token", form), 501481, "The code_verifier belongs to no code_challenge: the authorization request had none.")
}

// TestWrong_Assertions: signed by a certificate whose time is not now, and claims
// that are none.
func TestWrong_Assertions(t *testing.T) {
	w := newWorld(t)
	id, key, der := w.assertionKey()
	sum := sha256.Sum256(der)
	thumb := base64.RawURLEncoding.EncodeToString(sum[:])
	send := func(claims any) answer {
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return w.post("/adfs/oauth2/token", values("client_id", id, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default",
			"client_assertion", signAssertion(t, jose.RS256, key, thumb, string(text)), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
	}
	good := func() map[string]any {
		now := w.now().Unix()
		return map[string]any{"aud": publicURL + "/adfs/oauth2/token", "iss": id, "sub": id, "jti": fmt.Sprint(now), "iat": now, "exp": now + 60}
	}
	if a := send(good()); a.status != 200 {
		t.Fatal(a.text)
	}
	later, _ := w.application()
	app, _ := w.index.Application(later)
	if _, err := w.creds.AddCertificate(t.Context(), w.admin, app.ID, "later", der, credential.Life{Start: w.now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	const over = "The certificate of the assertion has expired or is not valid yet. Register a new one."
	early := good()
	early["iss"], early["sub"] = later, later
	text, err := json.Marshal(early)
	if err != nil {
		t.Fatal(err)
	}
	w.says(w.post("/adfs/oauth2/token", values("grant_type", "client_credentials", "scope", publicURL+"/arm/.default", "client_assertion", signAssertion(t, jose.RS256, key, thumb, string(text)),
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")), 700027, over)
	w.says(send([]string{"a list"}), 50027, "The client assertion's claims cannot be read.")
	impossible := good()
	impossible["exp"] = 1e12
	w.says(send(impossible), 50027, "The client assertion has an impossible time.")
	w.pass(101 * time.Hour)
	w.says(send(good()), 700027, over)
}

// TestAssertions_OneOfTwoTimes: a certificate that the application and its service
// principal both have counts when one of them has it for now, whichever comes first.
func TestAssertions_OneOfTwoTimes(t *testing.T) {
	for name, life := range map[string]func(now time.Time) credential.Life{
		"over":  func(now time.Time) credential.Life { return credential.Life{End: now.Add(time.Hour)} },
		"later": func(now time.Time) credential.Life { return credential.Life{Start: now.Add(50 * time.Hour)} },
	} {
		for _, first := range []bool{true, false} {
			w := newWorld(t)
			_, key, der := w.assertionKey()
			id, _ := w.application()
			app, _ := w.index.Application(id)
			sp, _ := w.index.ServicePrincipalByAppID(id)
			lives := []credential.Life{life(w.now()), {}}
			if !first {
				slices.Reverse(lives)
			}
			for i, owner := range []string{app.ID, sp.ID} {
				if _, err := w.creds.AddCertificate(t.Context(), w.admin, owner, "c", der, lives[i]); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(2 * time.Hour)
			sum, now := sha256.Sum256(der), w.now().Unix()
			text, err := json.Marshal(map[string]any{"aud": publicURL + "/adfs/oauth2/token", "iss": id, "sub": id, "jti": "1", "iat": now, "exp": now + 60})
			if err != nil {
				t.Fatal(err)
			}
			if a := w.post("/adfs/oauth2/token", values("client_id", id, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default",
				"client_assertion", signAssertion(t, jose.RS256, key, base64.RawURLEncoding.EncodeToString(sum[:]), string(text)), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")); a.status != 200 {
				t.Errorf("%s, application first %v: %d %s", name, first, a.status, a.text)
			}
		}
	}
}

// TestWrong_Addresses: of the page where people sign in.
func TestWrong_Addresses(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 5000)
	for _, c := range []struct{ path, words string }{
		{"/adfs/oauth2/authorize?a=%zz", "The address of this page is malformed."},
		{authorizePath() + "&nonce=another", "The parameter 'nonce' is given more than once."},
	} {
		if a := w.get(w.client(), c.path); a.status != 400 || !strings.Contains(a.text, strings.ReplaceAll(c.words, "'", "&#39;")) {
			t.Errorf("%s: %d %s", c.path, a.status, a.text)
		}
	}
	for name, words := range map[string]string{"state": "The parameter 'state' is too long.", "nonce": "The parameter 'nonce' or 'login_hint' is too long."} {
		a := w.get(w.client(), authorizePath(name, long))
		to, err := url.Parse(a.header.Get("Location"))
		if err != nil || !strings.Contains(to.Query().Get("error_description"), words) {
			t.Errorf("%s: %d %v %s", name, a.status, to, a.text)
		}
	}
	disabled, _ := w.application()
	sp, _ := w.index.ServicePrincipalByAppID(disabled)
	if err := w.people.EnableServicePrincipal(t.Context(), w.admin, sp.ID, false); err != nil {
		t.Fatal(err)
	}
	if a := w.get(w.client(), authorizePath("client_id", disabled)); a.status < 400 || !strings.Contains(a.text, "is disabled.") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if _, err := w.oauth.Certificate(t.Context(), w.now(), "neither", ""); fault.As(err).Code != "InvalidCertificate" {
		t.Error(err)
	}
}

// TestWrong_DeviceCodesInARace: a code serves once, whoever else is at it in the
// same moment.
func TestWrong_DeviceCodesInARace(t *testing.T) {
	w := newWorld(t)
	begin := func() answer {
		return w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
	}
	poll := func(d answer) answer {
		return w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", deviceGrant, "device_code", d.str("device_code"), "client_info", "1"))
	}
	d := begin()
	w.decide(t, "alice@contoso.test", d.str("user_code"), "approve")
	w.before(2, func() { // between its look and its use
		if a := poll(d); a.status != 200 {
			t.Error(a.text)
		}
	})
	w.says(poll(d), 70020, "The device code has expired or was used. Start again: sally login --use-device-code")

	d = begin()
	c := w.browser()
	w.signIn(c, authorizePath())
	page := w.get(c, "/device")
	asked := w.form(c, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", d.str("user_code")))
	decide := func(decision string) answer {
		return w.form(c, "/device/decide", values("csrf", hidden(t, asked.text, "csrf"), "code", hidden(t, asked.text, "code"), "decision", decision))
	}
	w.before(1, func() {
		if a := decide("deny"); a.status != 200 {
			t.Error(a.text)
		}
	})
	if a := decide("approve"); a.status < 400 || !strings.Contains(a.text, "The code was used already. Start again on the device.") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := poll(d); a.str("error") != "authorization_declined" {
		t.Error(a.text)
	}
}

// TestWrong_MachinesRequests: a machine that asks for what its agent never would.
func TestWrong_MachinesRequests(t *testing.T) {
	w := newWorld(t)
	w.allowPreview(t, true)
	for name, change := range map[string]func(*oauth.MachineSignIn){
		"the request names no usable key": func(m *oauth.MachineSignIn) { m.Confirmation = "{}" },
		"a code lives between ":           func(m *oauth.MachineSignIn) { m.Life = time.Hour },
	} {
		m := oauth.MachineSignIn{MachineID: aMachine, MachineName: "web1", LoginName: "alice@contoso.test", ObjectID: w.alice.ID, Confirmation: aKey, From: "127.0.0.1", Life: 100 * time.Second}
		change(&m)
		if _, _, err := w.oauth.BeginMachine(t.Context(), w.machineBy(aMachine, aFlow), m); fault.As(err).Code != "InvalidDeviceRequest" || !strings.HasPrefix(fault.As(err).Public(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrong_ConsentIsGone: a token for Resource Manager rests on a consent.
func TestWrong_ConsentIsGone(t *testing.T) {
	w := newWorld(t)
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "reports", Public: true, RedirectURIs: []string{"http://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	g := w.grant(app.AppID, directory.ARMAppID, directory.UserImpersonation)
	a := w.password(app.AppID, armScope)
	if _, err := w.Bearer(t.Context(), a.str("access_token"), route.ARM, w.now()); err != nil {
		t.Fatal(err, a.text)
	}
	if err := w.people.DeleteGrant(t.Context(), w.admin, g.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Bearer(t.Context(), a.str("access_token"), route.ARM, w.now())
	if fault.As(err).Code != "InvalidAuthenticationToken" || !strings.HasPrefix(fault.As(err).Public(), "The consent that this access token rests on was withdrawn.") {
		t.Error(err)
	}
}
