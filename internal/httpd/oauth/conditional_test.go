package oauth_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/oauth"
	"sallyport/internal/signin"
)

// frequent asks everybody for a sign-in that is not older than an hour, for
// certificates.
func frequent(change ...func(*conditional.Policy)) []conditional.Policy {
	p := conditional.Policy{ID: "55555555-5555-4555-8555-555555555555", DisplayName: "Fresh", State: conditional.Enabled,
		Conditions:      conditional.Conditions{Users: conditional.Users{IncludeUsers: []string{conditional.All}}, Applications: conditional.Applications{IncludeApplications: []string{directory.LinuxSignIn}}},
		SessionControls: conditional.SessionControls{SignInFrequency: &conditional.Frequency{IsEnabled: true, Value: 1, Type: conditional.Hours, Interval: conditional.TimeBased}}}
	for _, f := range change {
		f(&p)
	}
	return []conditional.Policy{p}
}

// TestConditionalAccess_RefusedOnEveryGrant: whatever grant is used and however the
// request is retried, what policy refuses gets neither a certificate nor a bearer
// token for the SSH resource (azure reference, sections 7 and 12.1).
func TestConditionalAccess_RefusedOnEveryGrant(t *testing.T) {
	block := func(p *conditional.Policy) {
		p.GrantControls = &conditional.GrantControls{Operator: "OR", BuiltInControls: []conditional.Control{conditional.Block}}
	}
	for name, policies := range map[string][]conditional.Policy{"an old sign-in": frequent(), "blocked": frequent(block), "everything blocked": frequent(block, func(p *conditional.Policy) {
		p.Conditions.Applications.IncludeApplications = []string{conditional.All}
	})} {
		t.Run(name, func(t *testing.T) { refusedOnEveryGrant(t, policies) })
	}
}

func refusedOnEveryGrant(t *testing.T, policies []conditional.Policy) {
	w := newWorld(t)
	app, secret := w.application()
	browser, cli := w.browser(), values("client_id", directory.AzureCLI)
	w.signIn(browser, authorizePath())
	arm, ssh := w.login(armScope), w.login(sshScope) // az login --scope https://pas...
	w.pass(58 * time.Minute)
	// Each is made while nothing forbids it, and redeemed when something does.
	grants := map[string]func() url.Values{
		"refresh token": func() url.Values {
			return with(cli, "grant_type", "refresh_token", "refresh_token", arm.str("refresh_token"))
		},
		"refresh token of the SSH scope": func() url.Values {
			return with(cli, "grant_type", "refresh_token", "refresh_token", ssh.str("refresh_token"))
		},
		"authorization code": func() url.Values {
			return codeForm(w.signIn(browser, authorizePath("scope", sshScope)).Query().Get("code"))
		},
		"device code": func() url.Values {
			d := w.post("/adfs/oauth2/devicecode", with(cli, "scope", sshScope))
			w.confirm(browser, d.str("user_code"))
			return with(cli, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", d.str("device_code"))
		},
	}
	if policies[0].GrantControls != nil { // a password is a new sign-in
		grants["password"] = func() url.Values {
			return with(cli, "grant_type", "password", "username", "alice@contoso.test", "password", password)
		}
	}
	cnf, _ := confirmation(t)
	bare := strings.Fields(sshScope)[0]
	for grant, form := range grants {
		for _, kind := range [][]string{{"scope", sshScope, "token_type", "ssh-cert", "req_cnf", cnf, "key_id", "k"}, {"scope", sshScope}, {"scope", bare}, {"scope", bare, "token_type", "Bearer"}, {"scope", "openid " + bare, "req_cnf", cnf},
			{"scope", strings.Replace(bare, "pas.windows.net", "pas.chinacloudapi.cn", 1)}, {"scope", strings.Replace(bare, "pas.windows.net", "pasff.usgovcloudapi.net", 1)},
			{"scope", bare, "claims", `{"access_token":{"xms_cc":{"values":["CP1"]}}}`}, {"scope", bare, "token_type", "ssh-cert", "req_cnf", cnf, "client_id", directory.SallyCLI}} {
			w.policies = nil
			request := with(form(), kind...)
			w.policies = policies
			w.pass(3 * time.Minute)
			a := w.post("/adfs/oauth2/token", request)
			if a.status != 400 || a.str("access_token") != "" || a.str("refresh_token") != "" || a.str("id_token") != "" {
				t.Errorf("%s, %q: %d %s", grant, kind, a.status, a.text)
			}
			other := a.code() == 70011 && !strings.Contains(request.Get("scope"), "pas.windows.net") // another cloud's scope, whatever policies say
			if request.Get("client_id") == directory.AzureCLI && a.code() != 70043 && a.code() != 53003 && !other {
				t.Errorf("%s, %q: refused for another reason: %s", grant, kind, a.text)
			}
		}
	}
	// Who is no person has no sign-in that could be old: the certificate is his, a
	// bearer token for the resource is nobody's.
	own := values("client_id", app, "client_secret", secret, "grant_type", "client_credentials", "scope", bare)
	if a := w.post("/adfs/oauth2/token", own); a.status != 400 || a.str("access_token") != "" {
		t.Errorf("a service principal: %s", a.text)
	}
	if len(w.events("certificate.issue", audit.Success)) != 0 {
		t.Error("a certificate was issued")
	}
}

// confirm confirms a device's code in a browser that is signed in.
func (w *world) confirm(browser *http.Client, code string) {
	w.t.Helper()
	page := w.get(browser, "/device")
	a := w.form(browser, "/device", values("csrf", hidden(w.t, page.text, "csrf"), "code", code))
	if a = w.form(browser, "/device/decide", values("csrf", hidden(w.t, a.text, "csrf"), "code", code, "decision", "approve")); a.status != 200 {
		w.t.Fatal(a.text)
	}
}

// TestConditionalAccess_StepUp is the way of az: the silent request is refused so
// that MSAL asks the person, the page asks for the password although somebody is
// signed in, and the code brings the certificate and a refresh token that goes on
// working (azure reference 12.1).
func TestConditionalAccess_StepUp(t *testing.T) {
	w := newWorld(t)
	browser := w.browser()
	path := authorizePath("scope", sshScope, "login_hint", "alice@contoso.test")
	first := w.post("/adfs/oauth2/token", codeForm(w.signIn(browser, authorizePath()).Query().Get("code")))
	w.policies = frequent()
	w.pass(61 * time.Minute)
	refused := w.post("/adfs/oauth2/token", certForm(t, first.str("refresh_token")))
	if refused.code() != 70043 || refused.str("error") != "interaction_required" || refused.str("suberror") != "basic_action" || !strings.Contains(refused.str("claims"), w.policies[0].ID) || !strings.Contains(refused.str("error_description"), "'Fresh'") {
		t.Fatal(refused.text)
	}
	if refused.header.Get("Retry-After") != "" {
		t.Error("MSAL would replay the refusal")
	}
	if a := w.get(browser, path+"&prompt=none"); !strings.Contains(a.header.Get("Location"), "error=") {
		t.Errorf("prompt=none got past: %s", a.header.Get("Location"))
	}
	again := w.signIn(browser, path) // fails where the page does not ask for the password
	cnf, _ := confirmation(t)
	a := w.post("/adfs/oauth2/token", with(codeForm(again.Query().Get("code")), "scope", sshScope, "token_type", "ssh-cert", "req_cnf", cnf, "key_id", "k"))
	if a.status != 200 || a.str("token_type") != "ssh-cert" || a.str("refresh_token") == "" || a.str("id_token") == "" {
		t.Fatal(a.text)
	}
	parseCert(t, a.str("access_token"))
	w.pass(50 * time.Minute)
	silent := w.post("/adfs/oauth2/token", certForm(t, a.str("refresh_token")))
	if silent.status != 200 {
		t.Fatal(silent.text)
	}
	if c := parseCert(t, silent.str("access_token")); c.ValidBefore != uint64(w.now().Add(10*time.Minute).Unix()) || !strings.Contains(silent.text, `"expires_in":599`) {
		t.Errorf("the certificate outlives the sign-in: %s", silent.text)
	}
	if b := w.post("/adfs/oauth2/token", certForm(t, first.str("refresh_token"))); b.code() != 70043 {
		t.Errorf("the old sign-in got younger: %s", b.text)
	}
	// A rotation is no sign-in.
	arm := w.post("/adfs/oauth2/token", with(refreshForm(first.str("refresh_token")), "scope", armScope))
	if arm.status != 200 {
		t.Fatalf("the policy is about certificates: %s", arm.text)
	}
	if b := w.post("/adfs/oauth2/token", certForm(t, arm.str("refresh_token"))); b.code() != 70043 {
		t.Errorf("a rotated token counts as a sign-in: %s", b.text)
	}
	w.pass(11 * time.Minute)
	if b := w.post("/adfs/oauth2/token", certForm(t, a.str("refresh_token"))); b.code() != 70043 {
		t.Errorf("61 minutes after the step-up: %s", b.text)
	}
}

// TestConditionalAccess_Device: who confirms a device's code with an old sign-in
// gives the password again before, on a device and for a machine's login.
func TestConditionalAccess_Device(t *testing.T) {
	w := newWorld(t)
	w.policies = frequent()
	browser := w.browser()
	w.signIn(browser, authorizePath())
	w.pass(2 * time.Hour)
	device := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", sshScope))
	page := w.get(browser, "/device")
	asked := w.form(browser, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", device.str("user_code")))
	if !strings.HasPrefix(asked.header.Get("Location"), "/signin?flow=") {
		t.Fatalf("an old sign-in confirms: %d %s", asked.status, asked.text)
	}
	form := w.get(browser, asked.header.Get("Location"))
	proven := w.form(browser, "/signin", values("csrf", hidden(t, form.text, "csrf"), "flow", hidden(t, form.text, "flow"), "username", "alice@contoso.test", "password", password))
	page = w.get(browser, proven.header.Get("Location"))
	done := w.form(browser, "/device/decide", values("csrf", hidden(t, page.text, "csrf"), "code", device.str("user_code"), "decision", "approve"))
	if done.status != 200 {
		t.Fatalf("%d %s", done.status, done.text)
	}
	cnf, _ := confirmation(t)
	poll := values("client_id", directory.AzureCLI, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", device.str("device_code"), "token_type", "ssh-cert", "req_cnf", cnf)
	if a := w.post("/adfs/oauth2/token", poll); a.status != 200 || a.str("token_type") != "ssh-cert" {
		t.Errorf("%s", a.text)
	}
	// The preview's login asks for the password, too, and not only refuses.
	w.allowPreview(t, true)
	w.pass(2 * time.Hour)
	login, _ := w.knock(t, nil)
	page = w.get(browser, "/device")
	if a := w.form(browser, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", login.UserCode)); !strings.HasPrefix(a.header.Get("Location"), "/signin?flow=") {
		t.Errorf("an old sign-in lets into a machine: %d %s", a.status, a.text)
	}
	if _, reason := w.pollMachine(t, aMachine, login.Secret); reason != "" {
		t.Errorf("the login ended before the person could answer: %s", reason)
	}
	if _, said := w.decide(t, "alice@contoso.test", login.UserCode, "approve"); said.status != 200 {
		t.Fatalf("%s", said.text)
	}
	if cert, reason := w.pollMachine(t, aMachine, login.Secret); cert == "" {
		t.Errorf("no certificate after the step-up: %s", reason)
	}
}

// TestConditionalAccess_TooOldAtTheAnswer: a sign-in that becomes too old between
// the page and its answer opens nothing, and the sentence names a scope that there
// is.
func TestConditionalAccess_TooOldAtTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.policies = frequent()
	w.allowPreview(t, true)
	w.pass(3 * time.Hour) // the account is older than the sign-in
	login, _ := w.knock(t, nil)
	by := audit.By{CorrelationID: aFlow, At: w.now()}
	d, _, ok, err := w.oauth.PendingDevice(t.Context(), by, login.UserCode)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	err = w.oauth.DecideDevice(t.Context(), by, d, signin.Session{ID: aFlow, UserID: w.alice.ID, SignedInAt: w.now().Add(-2 * time.Hour)}, true)
	if err == nil || !strings.Contains(err.Error(), "AADSTS70043") || !strings.HasSuffix(err.Error(), "--scope "+strings.Fields(sshScope)[0]) {
		t.Errorf("%v", err)
	}
	if cert, reason := w.pollMachine(t, aMachine, login.Secret); cert != "" || reason != oauth.ReasonPolicy {
		t.Errorf("%q %q", cert, reason)
	}
}

// TestConditionalAccess_WhoIsLeftOut: excluded people (break-glass accounts), other
// resources, states that do not enforce; report-only says in the record what it
// would have done.
func TestConditionalAccess_WhoIsLeftOut(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	w.pass(2 * time.Hour)
	for name, change := range map[string]func(*conditional.Policy){
		"an excluded user":       func(p *conditional.Policy) { p.Conditions.Users.ExcludeUsers = []string{w.alice.ID} },
		"somebody else's policy": func(p *conditional.Policy) { p.Conditions.Users.IncludeUsers = []string{w.admin.Principal} },
		"a group that he is not in": func(p *conditional.Policy) {
			p.Conditions.Users = conditional.Users{IncludeGroups: []string{"66666666-6666-4666-8666-666666666666"}}
		},
		"switched off": func(p *conditional.Policy) { p.State = conditional.Disabled },
		"report-only":  func(p *conditional.Policy) { p.State = conditional.ReportOnly },
		"for Resource Manager alone": func(p *conditional.Policy) {
			p.Conditions.Applications.IncludeApplications = []string{directory.ARMAppID}
		},
	} {
		w.policies = frequent(change)
		a := w.post("/adfs/oauth2/token", certForm(t, refresh))
		if a.status != 200 {
			t.Errorf("%s: %s", name, a.text)
			continue
		}
		serial := fmt.Sprint(parseCert(t, a.str("access_token")).Serial)
		for _, r := range w.events("certificate.issue", audit.Success) {
			if r.Detail["serial"] == serial && (r.Detail["reportOnly"] == w.policies[0].ID) != (name == "report-only") {
				t.Errorf("%s: the record says %q", name, r.Detail["reportOnly"])
			}
		}
	}
	w.policies = frequent(func(p *conditional.Policy) {
		p.State, p.Conditions.Applications.IncludeApplications = conditional.ReportOnly, []string{conditional.All}
	})
	if a := w.post("/adfs/oauth2/token", with(refreshForm(refresh), "scope", armScope)); a.status != 200 {
		t.Fatal(a.text)
	}
	if all := w.events("token.issue", audit.Success); all[len(all)-1].Detail["reportOnly"] == "" && all[0].Detail["reportOnly"] == "" {
		t.Error("a token's record does not say what a report-only policy would have done")
	}
}

// TestConditionalAccess_EveryResource: a policy about all applications asks for a
// new sign-in for Resource Manager too, and says with which scope.
func TestConditionalAccess_EveryResource(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope)
	w.policies = frequent(func(p *conditional.Policy) { p.Conditions.Applications.IncludeApplications = []string{conditional.All} })
	w.pass(61 * time.Minute)
	a := w.post("/adfs/oauth2/token", with(refreshForm(first.str("refresh_token")), "scope", armScope))
	if a.code() != 70043 || !strings.Contains(a.str("error_description"), strings.Fields(armScope)[0]) {
		t.Errorf("%s", a.text)
	}
	// The refused token was not spent.
	w.policies = nil
	if a := w.post("/adfs/oauth2/token", with(refreshForm(first.str("refresh_token")), "scope", armScope)); a.status != 200 {
		t.Errorf("the refusal has spent the refresh token: %s", a.text)
	}
}
