package oauth_test

import (
	"encoding/base64"
	"html"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/oauth"
)

const (
	aMachine = "88888888-0000-4000-8000-000000000001"
	aKey     = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	aFlow    = "88888888-0000-4000-8000-00000000000f"
)

// machineBy is a machine at the door, in the request with that correlation id.
func (w *world) machineBy(id, correlation string) audit.By {
	return audit.By{Principal: id, Type: audit.Machine, CorrelationID: correlation, Address: "10.77.0.2", At: w.now()}
}

func (w *world) knock(t *testing.T, change func(*oauth.MachineSignIn)) (oauth.MachineCode, string) {
	t.Helper()
	m := oauth.MachineSignIn{MachineID: aMachine, MachineName: "web1", LoginName: "alice@contoso.test", ObjectID: w.alice.ID, Confirmation: aKey, From: "127.0.0.1", Life: 100 * time.Second}
	if change != nil {
		change(&m)
	}
	c, reason, err := w.oauth.BeginMachine(t.Context(), w.machineBy(aMachine, aFlow), m)
	if err != nil {
		t.Fatal(err)
	}
	return c, reason
}

func (w *world) pollMachine(t *testing.T, id, secret string) (certificate, reason string) {
	t.Helper()
	certificate, reason, err := w.oauth.PollMachine(t.Context(), w.machineBy(id, "88888888-0000-4000-8000-00000000000e"), secret)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, reason
}

// decide types a code into a browser as somebody, and answers.
func (w *world) decide(t *testing.T, upn, code, decision string) (asked, said answer) {
	t.Helper()
	c := w.browser()
	page := w.get(c, "/device")
	a := w.form(c, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", code))
	a = w.get(c, a.header.Get("Location"))
	a = w.form(c, "/signin", values("flow", hidden(t, a.text, "flow"), "csrf", hidden(t, a.text, "csrf"), "username", upn, "password", password))
	asked = w.get(c, a.header.Get("Location"))
	return asked, w.form(c, "/device/decide", values("csrf", hidden(t, asked.text, "csrf"), "code", hidden(t, asked.text, "code"), "decision", decision))
}

func (w *world) allowPreview(t *testing.T, on bool) {
	t.Helper()
	if _, err := w.oauth.ChangeSettings(t.Context(), w.admin, oauth.SettingsChange{AllowPreviewLogin: &on}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) second(t *testing.T) directory.User {
	t.Helper()
	u, err := w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "mallory@contoso.test", DisplayName: "Mallory", Enabled: true}, password, false)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestMachineDevice_ApprovedLoginIsOneCertificate: what the page shows, and what
// the machine gets for it: once, short, for its key and itself alone.
func TestMachineDevice_ApprovedLoginIsOneCertificate(t *testing.T) {
	w := newWorld(t)
	if _, reason := w.knock(t, nil); reason != oauth.ReasonNotAllowed {
		t.Fatalf("before it is allowed: %q", reason)
	}
	w.allowPreview(t, true)
	k, reason := w.knock(t, nil)
	if reason != "" || k.CorrelationID != aFlow {
		t.Fatalf("%+v %q", k, reason)
	}
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != "" {
		t.Fatalf("before anybody said yes: %q %q", cert, reason)
	}
	asked, said := w.decide(t, "alice@contoso.test", k.UserCode, "approve")
	for _, word := range []string{"web1", "alice@contoso.test", k.UserCode, "Yes, let me in"} {
		if !strings.Contains(asked.text, word) {
			t.Errorf("the page does not say %q: %s", word, asked.text)
		}
	}
	if said.status != 200 || !strings.Contains(said.text, "press Enter") {
		t.Fatal(said.text)
	}
	if cert, reason := w.pollMachine(t, "88888888-0000-4000-8000-000000000002", k.Secret); cert != "" || reason != oauth.ReasonExpired {
		t.Errorf("another machine: %q %q", cert, reason)
	}
	if x := w.post("/adfs/oauth2/token", values("client_id", directory.SallyCLI, "grant_type", "device_code", "device_code", k.Secret)); x.str("error") != "bad_verification_code" {
		t.Errorf("at the token endpoint: %s", x.text)
	}
	text, reason := w.pollMachine(t, aMachine, k.Secret)
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil || reason != "" {
		t.Fatal(reason, err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	cert := key.(*ssh.Certificate)
	if !slices.Equal(cert.ValidPrincipals, []string{"alice@contoso.test", w.alice.ID}) || cert.Extensions["machine@sallyport"] != aMachine || cert.KeyId != aFlow || cert.ValidBefore > uint64(w.now().Add(5*time.Minute).Unix()) {
		t.Errorf("%+v", cert)
	}
	if again, reason := w.pollMachine(t, aMachine, k.Secret); again != "" || reason != oauth.ReasonExpired {
		t.Errorf("a second time: %q %q", again, reason)
	}
}

// TestMachineDevice_CVE_2026_45108_OnlyThePersonApproves: another person of the
// same tenant says yes to a login, and gets and gives nothing.
func TestMachineDevice_CVE_2026_45108_OnlyThePersonApproves(t *testing.T) {
	w := newWorld(t)
	w.allowPreview(t, true)
	mallory := w.second(t)
	k, _ := w.knock(t, nil)
	asked, said := w.decide(t, mallory.UPN, k.UserCode, "approve")
	if strings.Contains(asked.text, "Yes, let me in") || said.status == 200 || !strings.Contains(said.text, "Nothing was opened") {
		t.Errorf("%d %s", said.status, said.text)
	}
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != oauth.ReasonOther {
		t.Errorf("%q %q", cert, reason)
	}
	// A name that has gone to somebody else is no name of this object.
	if _, reason := w.knock(t, func(m *oauth.MachineSignIn) { m.ObjectID = mallory.ID }); reason != oauth.ReasonAccount {
		t.Errorf("login name of another: %q", reason)
	}
}

// TestMachineDevice_Refusals: declined, too late, policy, switched off meanwhile.
func TestMachineDevice_Refusals(t *testing.T) {
	w := newWorld(t)
	w.allowPreview(t, true)
	k, _ := w.knock(t, func(m *oauth.MachineSignIn) { m.From = "198.51.100.7" })
	if asked, _ := w.decide(t, "alice@contoso.test", k.UserCode, "deny"); !strings.Contains(asked.text, "comes from another address") || !strings.Contains(asked.text, "198.51.100.7") {
		t.Errorf("the page does not say from where: %s", asked.text)
	}
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != oauth.ReasonDeclined {
		t.Errorf("declined: %q %q", cert, reason)
	}
	k, _ = w.knock(t, nil)
	w.pass(100 * time.Second)
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != oauth.ReasonExpired {
		t.Errorf("too late: %q %q", cert, reason)
	}
	k, _ = w.knock(t, nil)
	w.decide(t, "alice@contoso.test", k.UserCode, "approve")
	other, _ := w.knock(t, nil)
	w.allowPreview(t, false)
	if _, said := w.decide(t, "alice@contoso.test", other.UserCode, "approve"); !strings.Contains(said.text, "switched off") {
		t.Errorf("switched off before: %s", said.text)
	} else {
		heard.Hear(html.UnescapeString(said.text))
	}
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != oauth.ReasonNotAllowed {
		t.Errorf("switched off between: %q %q", cert, reason)
	}
	w.allowPreview(t, true)
	approved, _ := w.knock(t, nil)
	w.decide(t, "alice@contoso.test", approved.UserCode, "approve")
	w.policies = []conditional.Policy{{ID: "p1", DisplayName: "No machines", State: conditional.Enabled, GrantControls: &conditional.GrantControls{Operator: "OR", BuiltInControls: []conditional.Control{conditional.Block}},
		Conditions: conditional.Conditions{Users: conditional.Users{IncludeUsers: []string{conditional.All}}, Applications: conditional.Applications{IncludeApplications: []string{directory.LinuxSignIn}}}}}
	if cert, reason := w.pollMachine(t, aMachine, approved.Secret); cert != "" || reason != oauth.ReasonPolicy {
		t.Errorf("policy at issue: %q %q", cert, reason)
	}
	k, _ = w.knock(t, nil)
	if _, said := w.decide(t, "alice@contoso.test", k.UserCode, "approve"); !strings.Contains(said.text, "Conditional Access") {
		t.Errorf("policy on the page: %s", said.text)
	}
	if cert, reason := w.pollMachine(t, aMachine, k.Secret); cert != "" || reason != oauth.ReasonPolicy {
		t.Errorf("policy: %q %q", cert, reason)
	}
	// One machine fills its own room, not that of others.
	full, last := "", oauth.MachineCode{}
	for range 40 {
		var c oauth.MachineCode
		if c, full = w.knock(t, nil); full != "" {
			break
		}
		last = c
	}
	if full != oauth.ReasonTooMany {
		t.Errorf("as many codes as it likes: %q", full)
	}
	// Somebody has gone: the code opens nothing, and another takes its room.
	for _, c := range []struct{ machine, want string }{{"88888888-0000-4000-8000-000000000002", oauth.ReasonTooMany}, {aMachine, ""}} {
		if err := w.oauth.LeaveMachine(t.Context(), w.machineBy(c.machine, aFlow), last.Secret); err != nil {
			t.Fatal(err)
		}
		if _, reason := w.knock(t, nil); reason != c.want {
			t.Errorf("%s has left: %q", c.machine, reason)
		}
	}
	if cert, reason := w.pollMachine(t, aMachine, last.Secret); cert != "" || reason != oauth.ReasonExpired {
		t.Errorf("left: %q %q", cert, reason)
	}
	if _, _, found, err := w.oauth.PendingDevice(t.Context(), w.machineBy(aMachine, aFlow), last.UserCode); found || err != nil {
		t.Errorf("the code of somebody who has gone can be approved: %v", err)
	}
	if a := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope)); a.status != 200 {
		t.Errorf("programs get no code any more: %s", a.text)
	}
}
