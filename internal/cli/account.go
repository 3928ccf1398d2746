package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
)

func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	return abs, nil
}

func flagSubscription() flag {
	return flag{name: "subscription", short: "s", usage: "Name or id of the subscription", aliases: "name/n"}
}

// shown is an account with the members that az shows.
func shown(x client.Account) map[string]any {
	doc := map[string]any{
		"environmentName": x.EnvironmentName, "homeTenantId": x.HomeTenantID, "id": x.ID, "isDefault": x.IsDefault, "managedByTenants": []string{},
		"name": x.Name, "state": x.State, "tenantId": x.TenantID, "tenantDefaultDomain": x.TenantDefaultDomain, "tenantDisplayName": x.TenantDisplayName, "user": map[string]any{"name": x.User.Name, "type": x.User.Type},
	}
	if x.TenantDefaultDomain == "" && x.TenantDisplayName == "" {
		without(doc, "tenantDefaultDomain", "tenantDisplayName")
	}
	if x.ID == x.TenantID { // of an account without a subscription az knows no more
		without(doc, "homeTenantId", "managedByTenants", "tenantDefaultDomain", "tenantDisplayName")
	}
	return doc
}

// shownInList is the same in a list, where az has another name for the cloud.
func shownInList(x client.Account) map[string]any {
	doc := shown(x)
	doc["cloudName"] = doc["environmentName"]
	delete(doc, "environmentName")
	return doc
}

func accountColumns() []output.Column {
	return columns("Name=name", "CloudName=cloudName", "SubscriptionId=id", "TenantId=tenantId", "State=state", "IsDefault=isDefault")
}

func (a *app) printAccounts(wanted func(client.Account) bool, table ...output.Column) error {
	p, err := a.readProfile()
	if err != nil {
		return err
	}
	list := []any{}
	for _, x := range p.Accounts {
		if wanted(x) {
			list = append(list, shownInList(x))
		}
	}
	return a.print(list, table...)
}

// current returns the account that a command of this group is about.
func (a *app) current(in values) (client.Account, error) {
	if in.given("subscription") {
		a.subscription = in.text("subscription")
	}
	p, err := a.readProfile()
	if err != nil {
		return client.Account{}, err
	}
	return p.Find(a.subscription)
}

func (a *app) accountShow() *cobra.Command {
	cmd := leafFor("show", "Show the current subscription and who is signed in.", []flag{flagSubscription()}, func(_ context.Context, in values) error {
		x, err := a.current(in)
		if err != nil {
			return err
		}
		return a.print(shown(x))
	})
	cmd.Example = "  sally account show --query user.name --output tsv"
	return cmd
}

func (a *app) accountList() *cobra.Command {
	return leafFor("list", "List the subscriptions of every signed-in account.", []flag{
		{name: "refresh", kind: 'b', usage: "Ask the server again"}, {name: "all", kind: 'b', usage: "Also those that are not enabled"},
	}, func(ctx context.Context, in values) error {
		if in.on("refresh") {
			if err := a.refreshAccounts(ctx); err != nil {
				return err
			}
		}
		p, err := a.readProfile()
		if err != nil {
			return err
		}
		if len(p.Accounts) == 0 {
			a.warn("Please run \"sally login\" to access your accounts.")
		}
		return a.printAccounts(func(x client.Account) bool { return in.on("all") || strings.EqualFold(x.State, "Enabled") }, accountColumns()...)
	})
}

// refreshAccounts asks anew for the subscriptions of each person and keeps the
// default where it still exists.
func (a *app) refreshAccounts(ctx context.Context) error {
	p, err := a.readProfile()
	if err != nil {
		return err
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	before, noDefault := p.Find("")
	var fresh [][]client.Account
	seen := map[client.Person]bool{}
	for _, x := range p.Accounts {
		if seen[x.User] {
			continue
		}
		seen[x.User] = true
		s, err := client.Open(cfg, p, x)
		if err != nil {
			return err
		}
		accounts, err := a.subscriptions(ctx, s)
		if err != nil {
			return err
		}
		fresh = append(fresh, accounts)
	}
	a.profile = nil
	return cfg.Folder.UpdateProfile(ctx, func(p *client.Profile) error {
		for _, accounts := range fresh {
			p.SignedIn(accounts)
		}
		if noDefault == nil {
			_, _ = p.SetDefault(before.ID) // it may be gone; then the newest stays the default
		}
		return nil
	})
}

func (a *app) accountSet() *cobra.Command {
	s := flagSubscription()
	s.required = true
	return leafFor("set", "Choose the current subscription.", []flag{s}, func(ctx context.Context, in values) error {
		f, err := a.open()
		if err != nil {
			return err
		}
		return f.UpdateProfile(ctx, func(p *client.Profile) error {
			_, err := p.SetDefault(in.text("subscription"))
			return err
		})
	})
}

func (a *app) accountClear() *cobra.Command {
	return leafFor("clear", "Forget every account.", nil, func(ctx context.Context, _ values) error {
		f, err := a.open()
		if err != nil {
			return err
		}
		if err := f.Forget(ctx, func(string, string) bool { return true }); err != nil {
			return err
		}
		return f.UpdateProfile(ctx, func(p *client.Profile) error { p.Accounts = nil; return nil })
	})
}

func (a *app) accountToken() *cobra.Command {
	return leafFor("get-access-token", "Print an access token for a program to use.", []flag{
		flagSubscription(), {name: "resource", usage: "Resource the token is for"}, {name: "scope", kind: 'l', usage: "Scope the token is for"},
		{name: "resource-type", usage: "arm or ms-graph"}, {name: "tenant", short: "t", usage: "Accepted when it is the account's own tenant"},
	}, func(ctx context.Context, in values) error {
		if _, err := a.current(in); err != nil {
			return err
		}
		s, err := a.identity()
		if err != nil {
			return err
		}
		scope, err := tokenScope(s, in)
		if err != nil {
			return err
		}
		t, err := s.Access(ctx, scope, "")
		if err != nil {
			return err
		}
		result := map[string]any{"accessToken": t.Text, "expiresOn": t.Expires.Local().Format("2006-01-02 15:04:05.000000"), "expires_on": t.Expires.Unix(),
			"tenant": s.Account().TenantID, "tokenType": "Bearer"}
		if s.Account().ID != s.Account().TenantID {
			result["subscription"] = s.Account().ID
		}
		return a.print(result)
	})
}

func tokenScope(s *client.Session, in values) (string, error) {
	if t := in.text("tenant"); t != "" && !strings.EqualFold(t, s.Account().TenantID) {
		return "", fault.New(fault.Invalid, "TenantNotFound", "the account is of tenant %s, not %s", s.Account().TenantID, t).WithRemedy("Run: sally login --tenant %s", t)
	}
	switch scopes := in.list("scope"); {
	case len(scopes) > 1:
		return "", usageError{"argument --scope: one scope at a time"}
	case len(scopes) == 1:
		return scopes[0], nil
	}
	if r := in.text("resource"); r != "" {
		return r + "/.default", nil
	}
	switch in.text("resource-type") {
	case "", "arm":
		return s.Server().ARMScope(), nil
	case "ms-graph":
		return s.Server().GraphScope(), nil
	}
	return "", usageError{"argument --resource-type: choose arm or ms-graph"}
}

func (a *app) passwordChange() *cobra.Command {
	cmd := leafFor("change", "Choose another password.", []flag{
		{name: "username", short: "u", usage: "User name; the signed-in user by default"}, flagServer(),
		{name: "password", short: "p", usage: "Current password; asked for where it is missing, @FILE keeps it out of the argument list"},
		{name: "new-password", usage: "New password; the same"},
	}, a.changePassword)
	cmd.Long = "Choose another password. Both passwords are asked for; where standard input is no terminal, its first line is the\ncurrent password and its second line the new one. Afterwards sign in again: sally login"
	return cmd
}

func (a *app) changePassword(ctx context.Context, in values) error {
	name, address := in.text("username"), in.text("server")
	p, err := a.readProfile()
	if err != nil {
		return err
	}
	if current, err := p.Find(""); err == nil && address == "" && (name == "" || strings.EqualFold(name, current.User.Name)) {
		name, address = current.User.Name, current.Server
		if current.User.Type != client.TypeUser {
			return fault.New(fault.Invalid, "NoPassword", "%s is a service principal; it has no password of this kind.", name).
				WithRemedy("Run: sally ad sp credential reset --id %s", name)
		}
	}
	if name == "" {
		return usageError{"the following arguments are required: --username/-u (nobody is signed in)"}
	}
	server, err := a.connect(ctx, address)
	if err != nil {
		return err
	}
	old, fresh := in.text("password"), in.text("new-password")
	if !in.given("password") {
		if old, err = a.secret("Current password"); err != nil {
			return err
		}
	}
	if !in.given("new-password") {
		if fresh, err = a.newPassword(); err != nil {
			return err
		}
	}
	if err := server.Public(ctx, "/sallyport/v1/password", map[string]string{"username": name, "password": old, "newPassword": fresh}); err != nil {
		return err
	}
	a.say("The password of %s is changed. Sign in with it: sally login", name)
	return nil
}

// newPassword asks for the one that replaces another.
func (a *app) newPassword() (string, error) { return a.newSecret("New password") }

// newSecret asks twice on a terminal, where nobody sees what was typed.
func (a *app) newSecret(prompt string) (string, error) {
	first, err := a.secret(prompt)
	if err != nil || !a.cfg.IsTerminal(a.cfg.Stdin) {
		return first, err
	}
	second, err := a.secret(prompt + " again")
	if err == nil && first != second {
		err = fault.New(fault.Invalid, "PasswordsDiffer", "the two new passwords differ; nothing was changed.")
	}
	return first, err
}

func (a *app) versionCommand() *cobra.Command {
	return leafFor("version", "Show the version.", nil, func(context.Context, values) error {
		return a.print(map[string]any{"sally": a.cfg.Version, "sally-core": a.cfg.Version, "extensions": map[string]any{"ssh": a.cfg.Version}})
	})
}

func (a *app) cloudShow() *cobra.Command {
	return leafFor("show", "Show the server and how it is trusted.", nil, func(context.Context, values) error {
		p, err := a.readProfile()
		if err != nil {
			return err
		}
		r, ok := p.Record(p.Server)
		if !ok {
			return client.ErrNoToken()
		}
		cfg, err := a.clientConfig()
		if err != nil {
			return err
		}
		s, err := client.Resume(cfg, r)
		if err != nil {
			return err
		}
		m := s.Manifest()
		return a.print(map[string]any{
			"name": environment, "isActive": true, "address": r.URL + "#" + r.Pin, "thumbprint": r.Pin, "tenantId": m.Tenant, "domains": m.Domains,
			"manifest": map[string]any{"epoch": m.Epoch, "version": m.Version, "issuedAt": m.IssuedAt.UTC().Format(time.RFC3339), "keys": len(m.Keys), "ownTlsRoots": len(m.TLSRoots)},
			"endpoints": map[string]any{"activeDirectory": r.URL, "activeDirectoryResourceId": r.URL + "/arm", "microsoftGraphResourceId": r.URL + "/",
				"resourceManager": r.URL, "vmImageAliasDoc": r.URL + "/aliases.json"},
		}, columns("Address=address", "TenantId=tenantId", "Domain=domains[0]")...)
	})
}
