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
	if err := s.CompleteIn(tx); err != nil {
		return fail(err)
	}
	u, err := s.CreateUserIn(tx, by, NewUser{UPN: b.AdminUPN, DisplayName: b.AdminName, Enabled: true})
	if err != nil {
		return fail(err)
	}
	return t, u, tx.Audit(by, success("tenant.create", t.ID, map[string]string{"domain": domain}))
}

// CompleteIn makes the built-in applications that a directory lacks, with their
// service principals: all of them in a new one, and in one that an older version
// made those that have come since. A service principal that somebody deleted
// stays deleted.
func (s *Service) CompleteIn(tx Tx) error {
	for _, a := range builtInApplications() {
		if _, ok, err := tx.ApplicationByAppID(a.AppID); err != nil {
			return err
		} else if ok {
			continue
		}
		var err error
		if a.ID, err = s.newID(); err != nil {
			return err
		}
		a.CreatedAt = tx.Now()
		if err := tx.PutApplication(a); err != nil {
			return err
		}
		if _, err := s.principalIn(tx, a); err != nil {
			return err
		}
	}
	return nil
}

// Complete reports whether a directory has every built-in application.
func Complete(r KeyReader) (bool, error) {
	for _, a := range builtInApplications() {
		if _, ok, err := r.ApplicationByAppID(a.AppID); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// builtInApplications are the clients that need no registration, and the
// resources that tokens are for. The clients are public, with a listener on
// loopback (RFC 8252 section 7.3: any port).
func builtInApplications() []Application {
	loopback := []string{"http://localhost", "http://127.0.0.1"}
	return []Application{
		{AppID: AzureCLI, DisplayName: "Microsoft Azure CLI", Public: true, RedirectURIs: loopback, BuiltIn: true},
		{AppID: SallyCLI, DisplayName: "Sallyport CLI", Public: true, RedirectURIs: loopback, BuiltIn: true},
		{AppID: GraphPowerShell, DisplayName: "Microsoft Graph Command Line Tools", Public: true, RedirectURIs: loopback, BuiltIn: true},
		{AppID: LinuxSignIn, DisplayName: "Azure Linux VM Sign-In", BuiltIn: true},
		{AppID: GraphAppID, DisplayName: "Microsoft Graph", BuiltIn: true},
		{AppID: ARMAppID, DisplayName: "Windows Azure Service Management API", BuiltIn: true},
	}
}
