package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
)

// Codes of the token endpoint that mean "choose another password first".
const (
	codePasswordExpired = 50055
	codePasswordChange  = 50142
)

const (
	environment   = "AzureCloud"
	tenantAccount = "N/A(tenant level account)"
)

func flagServer() flag {
	return flag{name: "server", usage: "Address of the server, https://HOST#THUMBPRINT; remembered. SALLY_SERVER is used where it is not given"}
}

func (a *app) loginCommand() *cobra.Command {
	cmd := leafFor("login", "Sign in.", []flag{
		flagServer(),
		{name: "username", short: "u", usage: "User name, or application id of a service principal"},
		{name: "password", short: "p", usage: "Password, client secret, or PEM file with key and certificate; asked for where it is missing, @FILE or @- keeps it out of the argument list"},
		{name: "service-principal", kind: 'b', usage: "Sign in as a service principal"},
		{name: "identity", short: "i", kind: 'b', usage: "Sign in as the managed identity of the machine that this runs on"},
		{name: "tenant", short: "t", usage: "Tenant id or domain"},
		{name: "use-device-code", kind: 'b', usage: "Show a code to type in any browser"},
		{name: "allow-no-subscriptions", kind: 'b', usage: "Say nothing where the account has no subscription"},
		{name: "scope", usage: "Scope to sign in for, as an error message named it"},
	}, a.login)
	cmd.Example = "  sally login\n  sally login --use-device-code\n  sally login -u alice@example.com\n  sally login --service-principal -u APPID -p @secret --tenant TENANT\n  sally login --identity"
	return cmd
}

// signIn is what a sign-in needs, whatever its flow.
type signIn struct {
	server *client.Server
	in     values
	scope  string
	tenant string
}

func (a *app) login(ctx context.Context, in values) error {
	if in.on("service-principal") && in.text("username") == "" {
		return clientError{"usage error: --service-principal needs --username APPID and --password"}
	}
	if in.on("use-device-code") && (in.given("username") || in.given("password")) {
		return clientError{"usage error: --use-device-code goes without --username and --password"}
	}
	if in.on("identity") && (in.on("service-principal") || in.on("use-device-code") || in.given("password") || in.given("username")) {
		return usageError{"usage error: --identity goes without --username, --password, --service-principal and --use-device-code"}
	}
	server, err := a.loginServer(ctx, in)
	if err != nil {
		return err
	}
	l := signIn{server: server, in: in, scope: in.text("scope"), tenant: in.text("tenant")}
	if l.scope == "" {
		l.scope = server.ARMScope()
	}
	if _, err := server.Endpoints(ctx, l.tenant, true); err != nil {
		return err
	}
	var session *client.Session
	switch {
	case in.on("identity"):
		session, err = a.loginIdentity(ctx, l)
	case in.on("service-principal"):
		session, err = a.loginPrincipal(ctx, l)
	default:
		session, err = a.loginPerson(ctx, l)
	}
	if err != nil {
		return explainLogin(err, in.text("username"))
	}
	accounts, err := a.subscriptions(ctx, session)
	if err != nil {
		return err
	}
	for i := range accounts {
		if l.tenant != "" { // as az, which then asks for no tenant's names
			accounts[i].TenantDefaultDomain, accounts[i].TenantDisplayName = "", ""
		}
	}
	if accounts[0].ID == accounts[0].TenantID && !in.on("allow-no-subscriptions") {
		a.warn("No subscriptions found for " + accounts[0].User.Name + ". When you have been given a role, run: sally account list --refresh")
	}
	f, err := a.open()
	if err != nil {
		return err
	}
	if err := f.UpdateProfile(ctx, func(p *client.Profile) error { p.SignedIn(accounts); a.profile = p; return nil }); err != nil {
		return err
	}
	return a.printAccounts(func(x client.Account) bool { return x.Server == accounts[0].Server && x.User == accounts[0].User })
}

// connect chooses the server: the flag, SALLY_SERVER, the last one.
func (a *app) connect(ctx context.Context, address string) (*client.Server, error) {
	if address == "" {
		address = a.cfg.Env("SALLY_SERVER")
	}
	if address == "" {
		p, err := a.readProfile()
		if err != nil {
			return nil, err
		}
		address = p.Server
	}
	if address == "" {
		return nil, fault.New(fault.Invalid, "NoServer", "no server is known yet.").
			WithRemedy("Run: sally login --server https://HOST#THUMBPRINT (the server prints this address when it starts; SALLY_SERVER may hold it too)")
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.Connect(ctx, cfg, address)
}

func explainLogin(err error, username string) error {
	var oe *client.OAuthError
	if !errors.As(err, &oe) {
		return err
	}
	if slices.Contains(oe.Codes, codePasswordExpired) || slices.Contains(oe.Codes, codePasswordChange) {
		return fault.Wrap(err, fault.Unauthenticated, "PasswordChange", "%s", oe.Error()).WithRemedy("Run: sally account password change --username %s", username)
	}
	if oe.NeedsInteraction() && username != "" {
		return fault.Wrap(err, fault.Unauthenticated, "Interaction", "%s", oe.Error()).WithRemedy("A password alone is not enough here. Run: sally login")
	}
	return err
}

// loginPerson runs the flow that the flags ask for and keeps its result.
func (a *app) loginPerson(ctx context.Context, l signIn) (*client.Session, error) {
	var g client.Grant
	var id client.Identity
	var err error
	if l.in.text("username") != "" {
		if g, err = a.passwordGrant(ctx, l); err == nil {
			id, err = l.server.Identify(g)
		}
	} else {
		page := a.page()
		page.Tenant, page.Scope = l.tenant, l.scope
		if l.scope == l.server.SSHScope() {
			// No token exists for this resource, only certificates: the sign-in asks
			// for one of a key that is thrown away, and so meets the same policy.
			request, _, kerr := a.throwaway()
			if kerr != nil {
				return nil, kerr
			}
			page.Extra = request.Form()
		}
		g, id, err = a.interactive(ctx, l.server, page, l.in.on("use-device-code"))
	}
	if err != nil {
		return nil, err
	}
	s := l.server.As(baseAccount(l.server, client.Person{Name: id.Name, Type: client.TypeUser}, id.ObjectID))
	return s, s.Keep(ctx, g, client.Secret{}, l.scope)
}

func (a *app) passwordGrant(ctx context.Context, l signIn) (client.Grant, error) {
	password := l.in.text("password")
	if !l.in.given("password") {
		var err error
		if password, err = a.secret("Password"); err != nil {
			return client.Grant{}, err
		}
	}
	return l.server.Password(ctx, l.tenant, l.in.text("username"), password, l.scope)
}

// page says how this command line shows a sign-in page.
func (a *app) page() client.Interactive {
	return client.Interactive{Open: a.cfg.OpenBrowser, Show: func(text string) { a.say("%s", text) }}
}

// interactive prefers the browser and falls back to a device code, as az does.
func (a *app) interactive(ctx context.Context, server *client.Server, page client.Interactive, device bool) (client.Grant, client.Identity, error) {
	if !device {
		page.Prompt = "select_account"
		g, id, err := server.Browser(ctx, page)
		if !errors.Is(err, client.ErrNoBrowser) {
			return g, id, err
		}
		a.warn("No web browser was found here; using a device code instead.")
	}
	return server.Device(ctx, page)
}

func (a *app) loginPrincipal(ctx context.Context, l signIn) (*client.Session, error) {
	text := l.in.text("password")
	if !l.in.given("password") {
		var err error
		if text, err = a.secret("Secret"); err != nil {
			return nil, err
		}
	}
	secret := client.Secret{Text: text}
	if client.IsCertificateFile(text) {
		path, err := absolute(text)
		if err != nil {
			return nil, err
		}
		secret = client.Secret{File: path}
	}
	scope := l.scope
	if scope == l.server.SSHScope() {
		scope = l.server.ARMScope()
	}
	tenant := l.server.Manifest().Tenant
	g, err := l.server.ClientCredentials(ctx, tenant, l.in.text("username"), secret, scope, nil)
	if err != nil {
		return nil, err
	}
	s := l.server.As(baseAccount(l.server, client.Person{Name: strings.ToLower(l.in.text("username")), Type: client.TypeServicePrincipal}, ""))
	return s, s.Keep(ctx, g, secret, scope)
}

// baseAccount is an account before its subscriptions are known.
func baseAccount(server *client.Server, who client.Person, objectID string) client.Account {
	tenant := server.Manifest().Tenant
	return client.Account{EnvironmentName: environment, HomeTenantID: tenant, TenantID: tenant, ID: tenant, Name: tenantAccount, State: "Enabled",
		ManagedByTenants: []string{}, User: who, Server: server.URL(), ObjectID: objectID}
}

// subscriptions asks which subscriptions the session's account can see; the
// account itself where there is none.
func (a *app) subscriptions(ctx context.Context, s *client.Session) ([]client.Account, error) {
	items, err := s.List(ctx, client.Call{Method: http.MethodGet, Path: "/subscriptions"})
	if err != nil {
		return nil, err
	}
	var accounts []client.Account
	for _, item := range items {
		var sub struct {
			ID     string `json:"subscriptionId"`
			Name   string `json:"displayName"`
			State  string `json:"state"`
			Tenant string `json:"tenantId"`
		}
		if err := json.Unmarshal(item, &sub); err != nil || sub.ID == "" {
			return nil, fault.New(fault.Unavailable, "BadAnswer", "the server's list of subscriptions cannot be read")
		}
		account := baseAccount(s.Server(), s.Account().User, s.Account().ObjectID)
		account.ID, account.Name, account.State = sub.ID, sub.Name, sub.State
		accounts = append(accounts, account)
	}
	if len(accounts) == 0 {
		accounts = append(accounts, baseAccount(s.Server(), s.Account().User, s.Account().ObjectID))
	}
	return accounts, nameTenant(ctx, s, accounts)
}

// nameTenant adds the tenant's names.
func nameTenant(ctx context.Context, s *client.Session, accounts []client.Account) error {
	items, err := s.List(ctx, client.Call{Method: http.MethodGet, Path: "/tenants"})
	if errors.As(err, new(*client.APIError)) {
		return nil // names are not worth a sign-in
	}
	if err != nil {
		return err
	}
	for _, item := range items {
		tenant, err := object(item)
		if err != nil {
			return err
		}
		for i := range accounts {
			if accounts[i].TenantID == text(tenant, "tenantId") {
				accounts[i].TenantDefaultDomain, accounts[i].TenantDisplayName = text(tenant, "defaultDomain"), text(tenant, "displayName")
			}
		}
	}
	return nil
}

func (a *app) logoutCommand() *cobra.Command {
	return leafFor("logout", "Forget the signed-in account.", []flag{{name: "username", usage: "Account to forget; the current one by default"}}, func(ctx context.Context, in values) error {
		p, err := a.readProfile()
		if err != nil {
			return err
		}
		name := in.text("username")
		if name == "" {
			current, err := p.Find("")
			if err != nil {
				return fault.Wrap(err, fault.NotFound, "NoAccount", "There are no active accounts.")
			}
			name = current.User.Name
		}
		return a.forget(ctx, name)
	})
}

func (a *app) forget(ctx context.Context, name string) error {
	f, err := a.open()
	if err != nil {
		return err
	}
	if err := f.Forget(ctx, func(_, who string) bool { return strings.EqualFold(who, name) }); err != nil {
		return err
	}
	return f.UpdateProfile(ctx, func(p *client.Profile) error {
		if p.Remove(name, "") == 0 { // as az ends: who is not signed in is signed out
			a.warn(output.CleanLine(name) + " is not signed in here. Run: sally account list")
		}
		return nil
	})
}
