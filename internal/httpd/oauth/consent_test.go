package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/route"
)

const graphScope = "https://graph.microsoft.com/"

// grant gives a client delegated permissions for everybody, as an administrator
// does.
func (w *world) grant(appID, resourceAppID, scope string) directory.PermissionGrant {
	w.t.Helper()
	client, ok := w.index.ServicePrincipalByAppID(appID)
	if !ok {
		var err error
		if client, err = w.people.CreateServicePrincipal(w.t.Context(), w.admin, appID); err != nil {
			w.t.Fatal(err)
		}
	}
	resource, _ := w.index.ServicePrincipalByAppID(resourceAppID)
	g, err := w.people.CreateGrant(w.t.Context(), w.admin, directory.PermissionGrant{ClientID: client.ID, ResourceID: resource.ID, Scopes: strings.Fields(scope)})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// password asks for a token with alice's password through a client.
func (w *world) password(client, scope string) answer {
	w.t.Helper()
	return w.post("/adfs/oauth2/token", values("client_id", client, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", scope))
}

// A token says exactly what was consented to for its client and person, whatever
// the scope was written like, and what was not is AADSTS65001 with the way out.
func TestConsent_TokensSayWhatWasConsentedTo(t *testing.T) {
	w := newWorld(t)
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "reports", Public: true, RedirectURIs: []string{"http://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(scope string, number int, says ...string) {
		t.Helper()
		a := w.password(app.AppID, scope)
		if a.status != 400 || a.code() != number {
			t.Fatalf("%s: %d %s", scope, a.status, a.text)
		}
		for _, s := range says {
			if !strings.Contains(a.str("error_description"), s) {
				t.Errorf("%s does not say %q: %s", scope, s, a.str("error_description"))
			}
		}
	}
	for _, scope := range []string{"User.Read", graphScope + "User.Read", graphScope + ".default", publicURL + "/User.Read", armScope, publicURL + "/arm/user_impersonation"} {
		refused(scope, 65001, app.AppID, "'reports'", "sally ad app permission grant")
	}
	refused("Nothing.Known", 650053, "doesn't exist", "oauth2PermissionScopes")
	refused(publicURL+"/arm/User.Read", 500011)
	refused("User.Read "+graphScope+".default", 70011)
	g := w.grant(app.AppID, directory.GraphAppID, "User.Read Group.Read.All")
	scp := func(scope string) string {
		t.Helper()
		a := w.password(app.AppID, scope)
		if a.status != 200 {
			t.Fatalf("%s: %d %s", scope, a.status, a.text)
		}
		s, _ := decode(t, a.str("access_token"))["scp"].(string)
		return s
	}
	for _, scope := range []string{"User.Read", "user.read", graphScope + ".default", "Group.Read.All openid", publicURL + "/.default"} {
		if got := scp(scope); got != "Group.Read.All User.Read" {
			t.Errorf("%s: %q", scope, got)
		}
	}
	refused("User.Read Group.ReadWrite.All", 65001, "Group.ReadWrite.All")
	refused(armScope, 65001, directory.ARMAppID, "user_impersonation")
	// The command lines need nobody's consent and act as the person.
	for _, client := range []string{directory.AzureCLI, directory.SallyCLI} {
		a := w.password(client, publicURL+"/.default")
		if s, _ := decode(t, a.str("access_token"))["scp"].(string); !strings.Contains(s, directory.AccessAsUser) {
			t.Errorf("%s: %q", client, s)
		}
	}
	if a := w.password(directory.GraphPowerShell, "Application.ReadWrite.All"); a.code() != 65001 {
		t.Errorf("Graph PowerShell without consent: %s", a.text)
	}
	// Taking a grant back ends what rests on it: tokens that were issued, and
	// refresh tokens.
	a := w.password(app.AppID, "User.Read offline_access")
	by := func() []string {
		t.Helper()
		b, err := w.Bearer(t.Context(), a.str("access_token"), route.Graph, w.now())
		if err != nil {
			t.Fatal(err)
		}
		return b.Permissions
	}
	if got := by(); len(got) != 2 {
		t.Errorf("before: %v", got)
	}
	if err := w.people.DeleteGrant(t.Context(), w.admin, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := by(); len(got) != 0 {
		t.Errorf("a token outlived its consent: %v", got)
	}
	r := w.post("/adfs/oauth2/token", values("client_id", app.AppID, "grant_type", "refresh_token", "refresh_token", a.str("refresh_token"), "scope", "User.Read"))
	if r.code() != 65001 {
		t.Errorf("refresh after the consent was withdrawn: %s", r.text)
	}
	if len(w.events("token.issue", audit.Denied)) == 0 || len(w.events("consent.grant", audit.Success)) != 1 || len(w.events("consent.revoke", audit.Success)) != 1 {
		t.Error("not recorded")
	}
}

// An application's own permissions are in its tokens, and only with /.default.
func TestConsent_ApplicationPermissions(t *testing.T) {
	w := newWorld(t)
	id, secret := w.application()
	form := values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", graphScope+".default")
	if a := w.post("/adfs/oauth2/token", form); a.status != 200 || decode(t, a.str("access_token"))["roles"] != nil {
		t.Errorf("before: %d %s", a.status, a.text)
	}
	if a := w.post("/adfs/oauth2/token", with(form, "scope", graphScope+"User.Read.All")); a.code() != 1002012 {
		t.Errorf("by name: %s", a.text)
	}
	p, _ := w.index.ServicePrincipalByAppID(id)
	graph, _ := w.index.ServicePrincipalByAppID(directory.GraphAppID)
	permission, _ := directory.PermissionOf(directory.GraphAppID, "User.Read.All")
	given, err := w.people.AssignAppRole(t.Context(), w.admin, directory.AppRoleAssignment{PrincipalID: p.ID, ResourceID: graph.ID, RoleID: permission.ApplicationID})
	if err != nil {
		t.Fatal(err)
	}
	a := w.post("/adfs/oauth2/token", form)
	if roles, _ := decode(t, a.str("access_token"))["roles"].([]any); len(roles) != 1 || roles[0] != "User.Read.All" {
		t.Errorf("%v", roles)
	}
	if b, err := w.Bearer(t.Context(), a.str("access_token"), route.Graph, w.now()); err != nil || len(b.Permissions) != 1 {
		t.Errorf("%v %v", b.Permissions, err)
	}
	if err := w.people.RemoveAppRole(t.Context(), w.admin, given.ID); err != nil {
		t.Fatal(err)
	}
	if b, err := w.Bearer(t.Context(), a.str("access_token"), route.Graph, w.now()); err != nil || len(b.Permissions) != 0 {
		t.Errorf("a token outlived its permission: %v %v", b.Permissions, err)
	}
}

// ask walks a signed-in browser to the consent page of a request.
func (w *world) ask(c *http.Client, path string) answer {
	w.t.Helper()
	a := w.get(c, path)
	for range 6 {
		to := a.header.Get("Location")
		switch {
		case a.status == 303 && strings.HasPrefix(to, "/"):
			a = w.get(c, to)
		case a.status == 200 && strings.Contains(a.text, `action="/signin"`):
			a = w.form(c, "/signin", values("flow", hidden(w.t, a.text, "flow"), "csrf", hidden(w.t, a.text, "csrf"), "username", "alice@contoso.test", "password", password))
		case a.status == 200 && strings.Contains(a.text, `action="/signin/account"`):
			a = w.form(c, "/signin/account", values("flow", hidden(w.t, a.text, "flow"), "csrf", hidden(w.t, a.text, "csrf"), "use", "this"))
		case a.status == 200 && strings.Contains(a.text, `action="/signin/consent"`):
			return a
		default:
			w.t.Fatalf("%d %s %s", a.status, to, a.text)
		}
	}
	w.t.Fatal("no consent page")
	return answer{}
}

// answerAsk sends the consent page's form and follows to where it leads.
func (w *world) answerAsk(c *http.Client, page answer, decision string, more ...string) *url.URL {
	w.t.Helper()
	form := with(values("flow", hidden(w.t, page.text, "flow"), "csrf", hidden(w.t, page.text, "csrf"), "decision", decision), more...)
	a := w.form(c, "/signin/consent", form)
	for range 3 {
		to := a.header.Get("Location")
		if a.status != 303 {
			w.t.Fatalf("%d %s", a.status, a.text)
		}
		if !strings.HasPrefix(to, "/") {
			u, err := url.Parse(to)
			if err != nil {
				w.t.Fatal(err)
			}
			return u
		}
		a = w.get(c, to)
	}
	w.t.Fatal("the consent goes in circles")
	return nil
}

// The article's Connect-MgGraph: a person without the right reads what is asked
// for and whom to ask; the policy decides what he may agree to himself.
func TestConsent_Page(t *testing.T) {
	w := newWorld(t)
	c := w.browser()
	path := authorizePath("client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:8400", "scope", "ServicePrincipalEndpoint.ReadWrite.All Application.ReadWrite.All openid profile offline_access")
	page := w.ask(c, path)
	for _, part := range []string{"Approval needed", "Microsoft Graph Command Line Tools", "unverified publisher", directory.GraphPowerShell, "<code>ServicePrincipalEndpoint.ReadWrite.All</code>", "<code>Application.ReadWrite.All</code>",
		"Read and write all applications", "http://localhost:8400", "AADSTS90094", "alice@contoso.test", "sally ad app permission grant --id " + directory.GraphPowerShell} {
		if !strings.Contains(page.text, part) {
			t.Errorf("the page does not say %q", part)
		}
	}
	if strings.Contains(page.text, `value="accept"`) {
		t.Error("the page lets her accept")
	}
	for _, all := range []string{"", "yes"} { // a form of her own making
		form := values("flow", hidden(t, page.text, "flow"), "csrf", hidden(t, page.text, "csrf"), "decision", "accept", "all", all)
		if a := w.form(c, "/signin/consent", form); a.status != 403 {
			t.Errorf("all=%q: %d %s", all, a.status, a.text)
		}
	}
	if n := len(w.events("consent.grant", audit.Denied)); n != 2 {
		t.Errorf("%d refusals recorded", n)
	}
	if u := w.answerAsk(c, page, "decline"); u.Query().Get("error") != "access_denied" || !strings.Contains(u.Query().Get("error_description"), "AADSTS65004") || u.Query().Get("state") != "st" || u.Query().Has("code") {
		t.Errorf("declined: %s", u)
	}
	silent := w.get(c, changed(path, "prompt", "none"))
	if u, _ := url.Parse(silent.header.Get("Location")); u == nil || u.Query().Get("error") != "interaction_required" || !strings.Contains(u.Query().Get("error_description"), "AADSTS65001") {
		t.Errorf("prompt=none: %s", silent.header.Get("Location"))
	}
	// The basic profile of a built-in client is hers to give.
	basic := authorizePath("client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:8400", "scope", "User.Read openid")
	if u := w.answerAsk(c, w.ask(c, basic), "accept"); u.Query().Get("code") == "" {
		t.Errorf("accepted: %s", u)
	}
	// Agreed once, asked never again.
	if a := w.get(c, basic); !strings.Contains(a.header.Get("Location"), "code=") {
		t.Errorf("the second time: %d %s", a.status, a.header.Get("Location"))
	}
}

func TestConsent_UserPolicy(t *testing.T) {
	w := newWorld(t)
	app, err := w.people.CreateApplication(t.Context(), w.admin, directory.NewApplication{DisplayName: "mail merge", Public: true, RedirectURIs: []string{"http://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	c := w.browser()
	path := func(scope string) string { return authorizePath("client_id", app.AppID, "scope", scope) }
	if page := w.ask(c, path("User.Read")); strings.Contains(page.text, `value="accept"`) {
		t.Error("by default people consent to a registered client")
	}
	if err := w.people.SetConsentPolicy(t.Context(), w.admin, directory.ConsentPolicy{Users: true}); err != nil {
		t.Fatal(err)
	}
	if page := w.ask(c, path("User.Read.All")); strings.Contains(page.text, `value="accept"`) {
		t.Error("the policy reaches permissions that need an administrator")
	}
	page := w.ask(c, path("User.Read"))
	if strings.Contains(page.text, `name="all"`) {
		t.Error("she is offered to consent for everybody")
	}
	if u := w.answerAsk(c, page, "accept"); u.Query().Get("code") == "" {
		t.Errorf("accepted: %s", u)
	}
	// For herself alone, and for what she read.
	if got := w.index.Consented(app.AppID, w.alice.ID, directory.GraphAppID); len(got) != 1 || got[0] != "User.Read" {
		t.Errorf("%v", got)
	}
	if got := w.index.Consented(app.AppID, w.admin.Principal, directory.GraphAppID); len(got) != 0 {
		t.Errorf("for others: %v", got)
	}
}

// The form counts only in the browser and for the account that it was shown to.
func TestConsent_FormIsBound(t *testing.T) {
	w := newWorld(t)
	mine, other := w.browser(), w.browser()
	path := authorizePath("client_id", directory.GraphPowerShell, "redirect_uri", "http://localhost:8400", "scope", "User.Read")
	page, stranger := w.ask(mine, path), w.ask(other, path)
	good := values("flow", hidden(t, page.text, "flow"), "csrf", hidden(t, page.text, "csrf"), "decision", "accept")
	for what, form := range map[string]url.Values{
		"no token": with(good, "csrf", ""), "another browser's token": with(good, "csrf", hidden(t, stranger.text, "csrf")), "another flow": with(good, "flow", hidden(t, stranger.text, "flow")+"x"),
	} {
		if a := w.form(mine, "/signin/consent", form); a.status != 400 {
			t.Errorf("%s: %d", what, a.status)
		}
	}
	if a := w.form(other, "/signin/consent", good); a.status != 400 {
		t.Errorf("sent from another browser: %d", a.status)
	}
	if a := w.form(w.browser(), "/signin/consent", good); a.status == 303 {
		t.Errorf("sent without a session: %d", a.status)
	}
	if got := w.index.Consented(directory.GraphPowerShell, w.alice.ID, directory.GraphAppID); len(got) != 0 {
		t.Errorf("something was granted: %v", got)
	}
}

// A device's client is asked for like any other before its code is confirmed.
func TestConsent_Device(t *testing.T) {
	w := newWorld(t)
	d := w.post("/adfs/oauth2/devicecode", values("client_id", directory.GraphPowerShell, "scope", "User.Read"))
	c := w.browser()
	w.signIn(c, authorizePath())
	a := w.get(c, "/device")
	a = w.form(c, "/device", values("csrf", hidden(t, a.text, "csrf"), "code", d.str("user_code")))
	if a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	page := w.get(c, a.header.Get("Location"))
	if !strings.Contains(page.text, "<code>User.Read</code>") {
		t.Fatalf("%s", page.text)
	}
	a = w.form(c, "/signin/consent", values("flow", hidden(t, page.text, "flow"), "csrf", hidden(t, page.text, "csrf"), "decision", "accept"))
	confirm := w.get(c, a.header.Get("Location"))
	if !strings.Contains(confirm.text, d.str("user_code")) || !strings.Contains(confirm.text, `action="/device/decide"`) {
		t.Fatalf("%d %s", confirm.status, confirm.text)
	}
}
