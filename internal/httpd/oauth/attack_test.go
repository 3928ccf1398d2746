package oauth_test

import (
	"strings"
	"testing"

	"sallyport/internal/directory"
)

// What a browser's sign-in has given out and nobody has redeemed yet ends with
// it: an authorization code, and a device that was approved. So does what is
// being redeemed at that moment.
func TestSignIns_RevokedBeforeItsCodesAreRedeemed(t *testing.T) {
	poll := func(w *world, d answer) answer {
		return w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "device_code", "device_code", d.str("device_code")))
	}
	for name, moment := range map[string]int64{"before": 0, "while it is judged": 2} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
			w.approve(d.str("user_code")) // signs in with a browser of its own
			approved := one(t, w)
			revoke := func(session string) {
				if moment == 0 {
					w.revoke(session)
				} else {
					w.before(moment+1, func() { w.revoke(session) })
				}
			}
			revoke(approved)
			if a := poll(w, d); a.status != 400 || a.str("refresh_token") != "" {
				t.Errorf("the device is signed in: %s", a.text)
			}
			code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
			if moment == 0 {
				w.revoke(one(t, w))
			} else {
				session := one(t, w)
				w.before(moment, func() { w.revoke(session) })
			}
			if a := w.post("/adfs/oauth2/token", codeForm(code)); a.status != 400 || a.str("refresh_token") != "" {
				t.Errorf("the code is worth something: %s", a.text)
			}
			if list := w.signIns(); len(list) != 0 {
				t.Errorf("alive: %+v", list)
			}
		})
	}
}

// one returns the id of alice's one browser that is signed in.
func one(t *testing.T, w *world) string {
	t.Helper()
	list := w.signIns()
	for id, n := range list {
		if len(list) == 1 && n.Kind == "browser" {
			return id
		}
	}
	t.Fatalf("%+v", list)
	return ""
}

// RFC 8628 section 5.4: whoever asked for a device code types it in his own
// browser and sends his victim the address that he is led to. The victim, who
// signs in there, must not come out at the question with the code filled in.
func TestDevice_CodeDoesNotTravelInALink(t *testing.T) {
	w := newWorld(t)
	d := w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
	attacker, victim := w.browser(), w.browser()
	page := w.get(attacker, "/device")
	link := w.form(attacker, "/device", values("csrf", hidden(t, page.text, "csrf"), "code", d.str("user_code"))).header.Get("Location")
	if !strings.HasPrefix(link, "/signin?flow=") {
		t.Fatal(link)
	}
	for name, begin := range map[string]func(){"a fresh browser": func() {}, "a browser with forms of ours": func() { w.get(victim, "/device") }, "a browser that is signed in": func() { w.signIn(victim, authorizePath()) }} {
		begin()
		if a := w.get(victim, link); a.status != 400 || strings.Contains(a.text, `name="password"`) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := w.get(attacker, link); a.status != 200 {
		t.Errorf("in its own browser: %d %s", a.status, a.text)
	}
}

// A token ends with the application that it was given to: switching a stolen or
// malicious client off takes effect at once.
func TestAuthenticate_ClientThatIsSwitchedOff(t *testing.T) {
	w := newWorld(t)
	token := w.login(armScope).str("access_token")
	if a := w.bearer("/whoami", token); a.status != 200 {
		t.Fatal(a.text)
	}
	sp, _ := w.index.ServicePrincipalByAppID(directory.AzureCLI)
	if err := w.people.EnableServicePrincipal(t.Context(), w.admin, sp.ID, false); err != nil {
		t.Fatal(err)
	}
	if a := w.bearer("/whoami", token); a.status != 401 || !strings.Contains(a.text, "disabled") {
		t.Errorf("%d %s", a.status, a.text)
	}
}
