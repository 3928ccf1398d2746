package directory

import (
	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// Bootstrap describes a new tenant and its first administrator.
type Bootstrap struct {
	DisplayName string // of the tenant
	Domain      string // the initial verified domain
	AdminUPN    string
	AdminName   string
}

// Bootstrap fills an empty directory: the tenant, the built-in applications
// with their service principals, and the first user. It refuses a directory
// that has a tenant. Roles and the password are given by their own domains in
// the same transaction.
func (s *Service) Bootstrap(tx Tx, by audit.By, b Bootstrap) (Tenant, User, error) {
	fail := func(err error) (Tenant, User, error) { return Tenant{}, User{}, err }
	if _, exists, err := tx.TenantRecord(); err != nil {
		return fail(err)
	} else if exists {
		return fail(fault.New(fault.Conflict, "TenantExists", "this store already holds a tenant.").WithRemedy("Choose an empty folder."))
	}
	domain, err := ParseDomain(b.Domain)
	if err != nil {
		return fail(err)
	}
	t := Tenant{Domains: []string{domain}, CreatedAt: tx.Now()}
	if t.DisplayName, err = ParseText("displayName", b.DisplayName, MaxDisplayName); err != nil {
		return fail(err)
	}
	if t.ID, err = s.newID(); err != nil {
		return fail(err)
	}
	if err := tx.PutTenant(t); err != nil {
		return fail(err)
	}
	for _, a := range builtInApplications() {
		if a.ID, err = s.newID(); err != nil {
			return fail(err)
		}
		a.CreatedAt = tx.Now()
		if err := tx.PutApplication(a); err != nil {
			return fail(err)
		}
		if _, err := s.principalIn(tx, a); err != nil {
			return fail(err)
		}
	}
	u, err := s.CreateUserIn(tx, by, NewUser{UPN: b.AdminUPN, DisplayName: b.AdminName, Enabled: true})
	if err != nil {
		return fail(err)
	}
	return t, u, tx.Audit(by, success("tenant.create", t.ID, map[string]string{"domain": domain}))
}

// builtInApplications are the clients that need no registration. Both command
// lines are public clients with a listener on loopback (RFC 8252 section 7.3:
// any port).
func builtInApplications() []Application {
	loopback := []string{"http://localhost", "http://127.0.0.1"}
	return []Application{
		{AppID: AzureCLI, DisplayName: "Microsoft Azure CLI", Public: true, RedirectURIs: loopback, BuiltIn: true},
		{AppID: SallyCLI, DisplayName: "Sallyport CLI", Public: true, RedirectURIs: loopback, BuiltIn: true},
		{AppID: LinuxSignIn, DisplayName: "Azure Linux VM Sign-In", BuiltIn: true},
	}
}
