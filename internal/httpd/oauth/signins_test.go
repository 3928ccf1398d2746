package oauth_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/oauth"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// by is alice, as her access token would say.
func (w *world) by() audit.By {
	return audit.By{Principal: w.alice.ID, Type: audit.User, Name: w.alice.UPN, Address: "192.0.2.1", CorrelationID: "c", At: w.now()}
}

func (w *world) signIns() map[string]oauth.SignedIn {
	w.t.Helper()
	list, err := w.oauth.SignIns(w.t.Context(), w.by(), w.alice.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	byID := map[string]oauth.SignedIn{}
	for _, n := range list {
		byID[n.ID] = n
	}
	return byID
}

// certificate returns the serial of a new certificate.
func (w *world) certificate(refresh string) string {
	w.t.Helper()
	a := w.post("/adfs/oauth2/token", certForm(w.t, refresh))
	if a.status != 200 {
		w.t.Fatal(a.text)
	}
	return strconv.FormatUint(parseCert(w.t, a.str("access_token")).Serial, 10)
}

func (w *world) revoke(id string) {
	w.t.Helper()
	if err := w.oauth.RevokeSignIn(w.t.Context(), w.by(), w.alice.ID, id); err != nil {
		w.t.Fatal(err)
	}
}

func family(t *testing.T, refresh string) string {
	t.Helper()
	hex := strings.Split(refresh, ".")[1]
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

// Revoking one sign-in ends it, what began through it and the certificates that
// rest on it, and nothing else.
func TestSignIns_RevokeOne(t *testing.T) {
	w := newWorld(t)
	keep, end := w.login(armScope).str("refresh_token"), w.login(armScope).str("refresh_token")
	browser := w.browser()
	through := w.post("/adfs/oauth2/token", codeForm(w.signIn(browser, authorizePath()).Query().Get("code"))).str("refresh_token")
	list := w.signIns()
	ended := list[family(t, end)]
	if len(list) != 4 || ended.Client != "Microsoft Azure CLI" || ended.Address == "" || !ended.SignedInAt.Equal(w.now()) || !slices.Equal(ended.Factors, []string{"pwd"}) || !ended.Ends.Equal(w.now().Add(14*24*time.Hour)) {
		t.Fatalf("%+v", list)
	}
	kept, gone, gone2 := w.certificate(keep), w.certificate(end), w.certificate(through)
	w.revoke(ended.ID)
	if a := w.post("/adfs/oauth2/token", certForm(t, end)); a.code() != 50173 {
		t.Errorf("a revoked sign-in gives certificates: %s", a.text)
	}
	if got := w.revoked.Serials(w.now()); !slices.Equal(got, []string{gone}) {
		t.Errorf("revoked %v, not %s", got, gone)
	}
	session := list[family(t, through)].Session
	w.revoke(session) // the browser's
	if a := w.post("/adfs/oauth2/token", certForm(t, through)); a.code() != 50173 {
		t.Errorf("a program outlives the browser's sign-in that it came from: %s", a.text)
	}
	if a := w.get(browser, authorizePath()); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Error("the browser is still signed in")
	}
	if got := w.revoked.Serials(w.now()); !slices.Contains(got, gone2) || slices.Contains(got, kept) {
		t.Errorf("revoked %v", got)
	}
	if list = w.signIns(); len(list) != 1 || w.certificate(keep) == "" {
		t.Errorf("left: %v", list)
	}
	w.pass(24 * time.Hour)
	if got := w.revoked.Serials(w.now()); len(got) != 2 {
		t.Errorf("a machine that was away is not told: %v", got)
	}
	w.pass(24 * time.Hour)
	if got := w.revoked.Serials(w.now()); len(got) != 0 {
		t.Errorf("machines are told of certificates that ended long ago: %v", got)
	}
	if len(w.events("certificate.revoke", audit.Success)) != 2 || len(w.events("signin.revoke", audit.Success)) != 2 {
		t.Error("not recorded")
	}
}

// Machines are told of every serial, so one principal has so many and no more.
func TestSignIns_RevokedOnesOfOnePrincipalAreBounded(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	one := sshca.Revocation{Principal: w.alice.ID, At: w.now(), Ends: w.now().Add(time.Hour)}
	for from := 0; from < 4095; from += 315 { // a write may take so long and no longer
		if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
			for i := range 315 {
				one.Serial = strconv.Itoa(from + i + 1)
				if err := tx.PutRevocation(one); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	c := func() oauth.IssuedCertificate {
		return oauth.IssuedCertificate{Serial: w.certificate(refresh), PrincipalID: w.alice.ID, Ends: w.now().Add(time.Hour)}
	}
	if err := w.oauth.RevokeCertificate(t.Context(), w.by(), c()); err != nil {
		t.Fatal(err)
	}
	if err := w.oauth.RevokeCertificate(t.Context(), w.by(), c()); !fault.Is(err, fault.Conflict) {
		t.Errorf("one more: %v", err)
	}
	if err := w.oauth.RevokeSignIn(t.Context(), w.by(), w.alice.ID, family(t, refresh)); !fault.Is(err, fault.Conflict) || len(w.signIns()) != 1 {
		t.Errorf("its sign-in: %v, %v", err, w.signIns())
	}
	other := c()
	other.PrincipalID = w.admin.Principal
	if err := w.oauth.RevokeCertificate(t.Context(), w.by(), other); err != nil {
		t.Errorf("another's: %v", err)
	}
}

// A certificate that is being issued while its sign-in is revoked is not given.
func TestSignIns_RevokedWhileACertificateIsMade(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	w.before(1, func() { w.revoke(family(t, refresh)) })
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != 50173 || a.str("access_token") != "" {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if len(w.events("certificate.issue", audit.Success)) != 0 {
		t.Error("a certificate is on record")
	}
}

// Everybody ends his own; ids of others are unknown.
func TestSignIns_NobodyElses(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	bob, err := w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "bob@contoso.test", DisplayName: "Bob", Enabled: true}, password, false)
	if err != nil {
		t.Fatal(err)
	}
	by := w.by()
	by.Principal = bob.ID
	if err := w.oauth.RevokeSignIn(t.Context(), by, bob.ID, family(t, refresh)); !fault.Is(err, fault.NotFound) {
		t.Errorf("alice's sign-in under bob's name: %v", err)
	}
	w.strangers.Store(true)
	if err := w.oauth.RevokeSignIn(t.Context(), by, w.alice.ID, family(t, refresh)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("without a role: %v", err)
	}
	if _, err := w.oauth.SignIns(t.Context(), by, w.alice.ID); !fault.Is(err, fault.Forbidden) {
		t.Errorf("the list: %v", err)
	}
	if len(w.signIns()) != 1 || len(w.events("signin.revoke", audit.Denied)) != 1 {
		t.Error("ended, or the refusal is not on record")
	}
}

// A code that two redeem at the same moment gives neither anything that lives:
// the second comes after the first took it and before its tokens exist.
func TestCode_TwiceAtTheSameMoment(t *testing.T) {
	w := newWorld(t)
	code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
	var second answer
	w.before(2, func() { second = w.post("/adfs/oauth2/token", codeForm(code)) })
	first := w.post("/adfs/oauth2/token", codeForm(code))
	if second.code() != 70008 || first.code() != 70008 || first.str("access_token") != "" {
		t.Fatalf("first %s\nsecond %s", first.text, second.text)
	}
	for _, n := range w.signIns() {
		if n.Kind == oauth.InProgram {
			t.Errorf("a family lives: %+v", n)
		}
	}
}

// Of two runs that rotate the same token at the same moment, the slower one gets
// the successor that the faster one made.
func TestRefresh_TwoRotationsAtTheSameMoment(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope).str("refresh_token")
	var other answer
	w.before(1, func() { other = w.post("/adfs/oauth2/token", refreshForm(first)) })
	mine := w.post("/adfs/oauth2/token", refreshForm(first))
	if mine.status != 200 || other.status != 200 || mine.str("refresh_token") != other.str("refresh_token") {
		t.Fatalf("%s\n%s", mine.text, other.text)
	}
}

// What a tenant has switched off is refused with a sentence, at each of its
// doors, and is not advertised.
func TestSettings_SwitchedOff(t *testing.T) {
	w := newWorld(t)
	device := func() answer {
		return w.post("/adfs/oauth2/devicecode", values("client_id", directory.AzureCLI, "scope", armScope))
	}
	begun := device()
	if begun.status != 200 {
		t.Fatal(begun.text)
	}
	off := false
	if _, err := w.oauth.ChangeSettings(t.Context(), w.admin, oauth.SettingsChange{AllowPasswordGrant: &off, AllowDeviceCode: &off}); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]answer{
		"--allow-password-grant": w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", armScope)),
		"--allow-device-code":    device(),
	} {
		if a.status != 400 || a.str("error") != "unauthorized_client" || a.code() != 70003 || !strings.Contains(a.str("error_description"), name) || !strings.Contains(a.str("error_description"), "sally login") {
			t.Errorf("%s: %s", name, a.text)
		}
	}
	w.approve(begun.str("user_code"))
	if a := w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "device_code", "device_code", begun.str("device_code"))); a.code() != 70003 {
		t.Errorf("a device that began before: %s", a.text)
	}
	if a := w.get(w.client(), "/adfs/.well-known/openid-configuration"); strings.Contains(a.text, `"password"`) || strings.Contains(a.text, "device_code") || !strings.Contains(a.text, `"refresh_token"`) {
		t.Errorf("advertised: %s", a.text)
	}
	if w.post("/adfs/oauth2/token", codeForm(w.signIn(w.browser(), authorizePath()).Query().Get("code"))).status != 200 {
		t.Error("the browser's sign-in is gone too")
	}
	if len(w.events("tenant.update", audit.Success)) != 1 || len(w.events("token.issue", audit.Denied)) != 3 {
		t.Error("not recorded")
	}
}

// TestSettings_Offline: how long machines go on without the server is bounded, and
// never longer for administrators.
func TestSettings_Offline(t *testing.T) {
	w := newWorld(t)
	change := func(user, administrator int) (oauth.Settings, error) {
		c := oauth.SettingsChange{}
		if user != 0 {
			c.OfflineUser = &user
		}
		if administrator != 0 {
			c.OfflineAdministrator = &administrator
		}
		return w.oauth.ChangeSettings(t.Context(), w.admin, c)
	}
	for _, bad := range [][2]int{{29, 0}, {31 * 86400, 0}, {0, 29}, {0, 86401}, {1800, 0}, {-1, 0}} {
		if s, err := change(bad[0], bad[1]); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %+v %v", bad, s, err)
		}
	}
	if s := w.oauth.Settings(); s.OfflineUser != 86400 || s.OfflineAdministrator != 3600 {
		t.Errorf("%+v", s)
	}
	if s, err := change(1800, 60); err != nil || s.OfflineUser != 1800 || s.OfflineAdministrator != 60 {
		t.Errorf("%+v %v", s, err)
	}
}

// approve confirms a device code as alice.
func (w *world) approve(code string) {
	w.t.Helper()
	c := w.browser()
	w.signIn(c, authorizePath())
	page := w.get(c, "/device")
	a := w.form(c, "/device", values("csrf", hidden(w.t, page.text, "csrf"), "code", code))
	if a = w.form(c, "/device/decide", values("csrf", hidden(w.t, a.text, "csrf"), "code", code, "decision", "approve")); a.status != 200 {
		w.t.Fatal(a.text)
	}
}

// Strangers can make the server remember so many device requests and no more,
// and who floods empties his own neighbourhood, nobody else's.
func TestDevice_Caps(t *testing.T) {
	w := newWorld(t)
	begin := func(address string) error {
		by := audit.By{Address: address, At: w.now(), CorrelationID: "c"}
		_, err := w.oauth.Device(t.Context(), by, oauth.Request{Authority: oauth.Authority{ADFS: true, Segment: "adfs"}, Form: values("client_id", directory.AzureCLI, "scope", armScope)})
		return err
	}
	flood := func(address string) (n int) {
		for begin(address) == nil {
			n++
		}
		return n
	}
	if n := flood("192.0.2.1"); n != 20 {
		t.Fatalf("%d of one address", n)
	}
	if err := begin("192.0.2.1"); !fault.Is(err, fault.Exhausted) {
		t.Error(err)
	}
	if err := begin("192.0.2.2"); err != nil {
		t.Error("a neighbour: ", err)
	}
	n := 0
	for i := range 20 {
		n += flood(fmt.Sprintf("2001:db8:0:%x::1", i))
	}
	if n != 200 {
		t.Errorf("%d of one /48", n)
	}
	w.pass(15 * time.Minute)
	if err := begin("192.0.2.1"); err != nil {
		t.Error("after they expired: ", err)
	}
}

func TestCode_CapOfOneUser(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	w.signIn(c, authorizePath())
	given := 1
	for ; given < 200; given++ {
		a := w.get(c, authorizePath("nonce", strconv.Itoa(given)))
		if !strings.Contains(a.header.Get("Location"), "code=") {
			if !strings.Contains(a.header.Get("Location"), "temporarily_unavailable") {
				t.Errorf("%d %s", a.status, a.header.Get("Location"))
			}
			break
		}
	}
	if given != 100 {
		t.Errorf("%d codes", given)
	}
}

// Every grant asks whether its principal had enough, before anything is given
// or written; the answer is 429 without Retry-After.
func TestToken_PrincipalIsLimited(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	code := w.signIn(w.browser(), authorizePath()).Query().Get("code")
	asked := 0
	w.allowed = func(by audit.By) error {
		asked++
		if by.Principal != w.alice.ID {
			t.Errorf("asked about %q", by.Principal)
		}
		return fault.New(fault.Exhausted, "TooManyRequests", "enough")
	}
	for name, form := range map[string]url.Values{"certificate": certForm(t, refresh), "refresh": refreshForm(refresh), "code": codeForm(code),
		"password": values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", armScope)} {
		if a := w.post("/adfs/oauth2/token", form); a.status != 429 || a.str("error") != "temporarily_unavailable" || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if asked != 4 || len(w.events("certificate.issue", audit.Success)) != 0 {
		t.Errorf("asked %d times", asked)
	}
}
