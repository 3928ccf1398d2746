package directory

import (
	"context"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// Who may give permissions to applications: delegated ones for everybody, and
// application permissions. The second is the Global Administrator's alone, as
// Entra holds it for Microsoft Graph.
const (
	ActionGrantDelegated   = "microsoft.directory/servicePrincipals/managePermissionGrantsForAll.microsoft-application-admin"
	ActionGrantApplication = "microsoft.directory/servicePrincipals/managePermissionGrantsForAll.microsoft-company-admin"
)

// consentPolicyUpdate is what it takes to change the tenant's switch.
const consentPolicyUpdate = "microsoft.directory/authorizationPolicy/basic/update"

// Consent is what somebody agrees to on the page that asks for it.
type Consent struct {
	AppID      string
	ResourceID string // application id of the resource
	Values     []string
	ForAll     bool // for everybody in the tenant
}

// AsPerson is the caller of one of our own pages: a person with no client in
// between, so that his roles alone decide.
func (s *Service) AsPerson(by audit.By, u User) audit.By {
	by.Principal, by.Type, by.Name, by.Groups = u.ID, audit.User, u.UPN, s.cfg.Index.GroupsOf(u.ID)
	by.Permissions = []string{AccessAsUser}
	return by
}

// MayConsent says whether a person may agree to a client's permissions for
// himself, and for everybody. What needs an administrator is decided per
// permission; the rest follows the tenant's policy, without which people agree
// to the basic profile for built-in clients only.
func (s *Service) MayConsent(by audit.By, c Consent) (self, all bool) {
	if by.Type != audit.User || by.Principal == "" || len(c.Values) == 0 {
		return false, false
	}
	app, ok := s.cfg.Index.Application(c.AppID)
	if !ok {
		return false, false
	}
	all = s.cfg.Authority.May(by, ActionGrantDelegated)
	self = all
	if !self {
		self = !slices.ContainsFunc(c.Values, func(v string) bool {
			p, ok := PermissionOf(c.ResourceID, v)
			basic := app.BuiltIn && c.ResourceID == GraphAppID && p.Value == UserRead
			return !ok || p.DelegatedID == "" || p.AdminOnly || !basic && !s.cfg.Index.ConsentPolicy().Users
		})
	}
	return self, all
}

// Agree records a consent: the permissions are added to what the client has
// already. A client without a service principal gets one, as in Entra.
func (s *Service) Agree(ctx context.Context, by audit.By, c Consent) error {
	event := success("consent.grant", strings.ToLower(c.AppID), map[string]string{"scope": strings.Join(c.Values, " "), "resource": c.ResourceID, "consentType": consentType(c.ForAll)})
	self, all := s.MayConsent(by, c)
	var allowed error
	if c.ForAll && !all || !c.ForAll && !self {
		allowed = fault.New(fault.Forbidden, "Authorization_RequestDenied", "you may not consent to these permissions.").
			WithRemedy("Ask an administrator to grant them: sally ad app permission grant --id %s --api %s --scope %q", c.AppID, c.ResourceID, strings.Join(c.Values, " "))
	}
	values, err := checkDelegated(c.ResourceID, c.Values)
	if err != nil {
		return err
	}
	person := by.Principal
	if c.ForAll {
		person = ""
	}
	return s.change(ctx, by, event, allowed, func(tx Tx) error {
		client, err := s.clientIn(tx, c.AppID)
		if err != nil {
			return err
		}
		resource, ok, err := tx.ServicePrincipalByAppID(c.ResourceID)
		if err != nil || !ok {
			return orNotFound(err, c.ResourceID)
		}
		g, ok, err := tx.PermissionGrantOf(client.ID, resource.ID, person)
		if err != nil {
			return err
		}
		if !ok {
			if g.ID, err = s.newID(); err != nil {
				return err
			}
			g.ClientID, g.ResourceID, g.PrincipalID, g.CreatedAt = client.ID, resource.ID, person, tx.Now()
		}
		g.Scopes = union(g.Scopes, values)
		if err := tx.PutPermissionGrant(g); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

func consentType(forAll bool) string {
	if forAll {
		return "AllPrincipals"
	}
	return "Principal"
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *Service) clientIn(tx Tx, appID string) (ServicePrincipal, error) {
	appID = asciiLower(appID)
	p, ok, err := tx.ServicePrincipalByAppID(appID)
	if err != nil || ok {
		return p, err
	}
	a, ok, err := tx.ApplicationByAppID(appID)
	if err != nil || !ok {
		return p, orNotFound(err, appID)
	}
	return s.principalIn(tx, a)
}

// checkDelegated returns the permissions by their proper names, and refuses what
// the resource does not offer for delegation.
func checkDelegated(resourceAppID string, values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		switch strings.ToLower(v) {
		case "openid", "profile", "email", "offline_access":
			continue // need no consent here
		}
		p, ok := PermissionOf(resourceAppID, v)
		if !ok || p.DelegatedID == "" {
			return nil, fault.New(fault.Invalid, "Request_BadRequest", "'%s' is not a delegated permission of the resource %s.", show(v), show(resourceAppID)).WithTarget("scope").
				WithRemedy("List them with: sally ad sp show --id %s --query \"oauth2PermissionScopes[].value\"", show(resourceAppID))
		}
		out = append(out, p.Value)
	}
	return union(nil, out), nil
}

// mayGive returns nil when by may give delegated permissions. The client that a
// person uses gives away no more than it has: being allowed to give permissions
// would be being allowed to do everything else.
func (s *Service) mayGive(by audit.By, resourceAppID string, values []string) error {
	if err := s.require(by, ActionGrantDelegated); err != nil || by.Type != audit.User {
		return err
	}
	own := s.cfg.Index.Consented(by.Client, by.Principal, resourceAppID)
	for _, v := range values {
		p, ok := PermissionOf(resourceAppID, v)
		if !ok || slices.Contains(own, p.Value) {
			continue // what is unknown is refused by its name later
		}
		covered := len(p.Actions) > 0
		for _, action := range p.Actions {
			covered = covered && s.cfg.Authority.Client(by, action) && s.cfg.Authority.Client(by, strings.ReplaceAll(action, "/*/", "/"))
		}
		if !covered {
			return fault.New(fault.Forbidden, "Authorization_RequestDenied", "insufficient privileges to complete the operation: the client %s was not given %s itself, so it cannot give it away.", show(by.Client), p.Value).
				WithRemedy("Grant it with a client that has it: sally ad app permission grant; or sign in with that scope too.")
		}
	}
	return nil
}

// CreateGrant gives a client delegated permissions, for everybody or for one
// person. It is the administrator's.
func (s *Service) CreateGrant(ctx context.Context, by audit.By, g PermissionGrant) (PermissionGrant, error) {
	g.ClientID, g.ResourceID, g.PrincipalID = asciiLower(g.ClientID), asciiLower(g.ResourceID), asciiLower(g.PrincipalID)
	event := success("consent.grant", g.ClientID, map[string]string{"scope": strings.Join(g.Scopes, " "), "resource": g.ResourceID, "principal": g.PrincipalID})
	resource, _ := s.cfg.Index.ServicePrincipal(g.ResourceID)
	err := s.change(ctx, by, event, s.mayGive(by, resource.AppID, g.Scopes), func(tx Tx) error {
		if _, ok, err := tx.ServicePrincipalByID(g.ClientID); err != nil || !ok {
			return orNotFound(err, g.ClientID)
		}
		resource, ok, err := tx.ServicePrincipalByID(g.ResourceID)
		if err != nil || !ok {
			return orNotFound(err, g.ResourceID)
		}
		if g.PrincipalID != "" {
			if _, ok, err := tx.UserByID(g.PrincipalID); err != nil || !ok {
				return orNotFound(err, g.PrincipalID)
			}
		}
		if g.Scopes, err = checkDelegated(resource.AppID, g.Scopes); err != nil {
			return err
		}
		if _, taken, err := tx.PermissionGrantOf(g.ClientID, g.ResourceID, g.PrincipalID); err != nil {
			return err
		} else if taken {
			return fault.New(fault.Conflict, "Request_MultipleObjectsWithSameKeyValue", "permission entry already exists.").WithRemedy("Change the one that exists: PATCH /v1.0/oauth2PermissionGrants/ID.")
		}
		if g.ID, err = s.newID(); err != nil {
			return err
		}
		g.CreatedAt = tx.Now()
		if err := tx.PutPermissionGrant(g); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
	return g, err
}

// UpdateGrant replaces the permissions of a grant.
func (s *Service) UpdateGrant(ctx context.Context, by audit.By, id string, scopes []string) error {
	id = asciiLower(id)
	event := success("consent.grant", id, map[string]string{"scope": strings.Join(scopes, " ")})
	was, _ := s.cfg.Index.PermissionGrant(id)
	at, _ := s.cfg.Index.ServicePrincipal(was.ResourceID)
	added := slices.DeleteFunc(slices.Clone(scopes), func(v string) bool { return slices.Contains(was.Scopes, v) })
	return s.change(ctx, by, event, s.mayGive(by, at.AppID, added), func(tx Tx) error {
		g, ok, err := tx.PermissionGrantByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		resource, ok, err := tx.ServicePrincipalByID(g.ResourceID)
		if err != nil || !ok {
			return orNotFound(err, g.ResourceID)
		}
		if g.Scopes, err = checkDelegated(resource.AppID, scopes); err != nil {
			return err
		}
		if err := tx.PutPermissionGrant(g); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// DeleteGrant takes a grant back: at once, for tokens that were issued too. A
// person may take back his own.
func (s *Service) DeleteGrant(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	g, ok := s.cfg.Index.PermissionGrant(id)
	if !ok {
		return NotFound(id)
	}
	var allowed error
	if g.PrincipalID == "" || g.PrincipalID != by.Principal {
		allowed = s.require(by, ActionGrantDelegated)
	}
	event := success("consent.revoke", g.ClientID, map[string]string{"grant": id})
	return s.change(ctx, by, event, allowed, func(tx Tx) error {
		if existed, err := tx.DeletePermissionGrant(id); err != nil || !existed {
			return orNotFound(err, id)
		}
		return tx.Audit(by, event)
	})
}

// AssignAppRole gives an application a permission of its own. Besides the right
// to do so it takes every right that the permission brings: whoever may give
// permissions gives no more than he holds.
func (s *Service) AssignAppRole(ctx context.Context, by audit.By, a AppRoleAssignment) (AppRoleAssignment, error) {
	a.PrincipalID, a.ResourceID, a.RoleID = asciiLower(a.PrincipalID), asciiLower(a.ResourceID), asciiLower(a.RoleID)
	event := success("appRole.assign", a.PrincipalID, map[string]string{"role": a.RoleID, "resource": a.ResourceID})
	resource, _ := s.cfg.Index.ServicePrincipal(a.ResourceID)
	var permission Permission
	for _, p := range Permissions(resource.AppID) {
		if p.ApplicationID != "" && p.ApplicationID == a.RoleID {
			permission = p
		}
	}
	allowed := s.require(by, ActionGrantApplication)
	if allowed == nil && permission.Value != "" {
		allowed = s.cfg.Authority.CoversPermission(by, permission.Value)
	}
	err := s.change(ctx, by, event, allowed, func(tx Tx) error {
		if permission.Value == "" {
			return fault.New(fault.Invalid, "Request_BadRequest", "the resource has no application permission with the id '%s'.", show(a.RoleID)).WithTarget("appRoleId").
				WithRemedy("List them with: sally ad sp show --id %s --query appRoles", GraphAppID)
		}
		if _, ok, err := tx.ServicePrincipalByID(a.PrincipalID); err != nil || !ok {
			return orNotFound(err, a.PrincipalID)
		}
		held, err := tx.AppRoleAssignmentsOf(a.PrincipalID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(held, func(h AppRoleAssignment) bool { return h.ResourceID == a.ResourceID && h.RoleID == a.RoleID }) {
			return fault.New(fault.Invalid, "Request_BadRequest", "permission being assigned already exists on the object.").WithRemedy("Nothing needs to be done.")
		}
		if a.ID, err = s.newID(); err != nil {
			return err
		}
		a.CreatedAt = tx.Now()
		if err := tx.PutAppRoleAssignment(a); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
	return a, err
}

// RemoveAppRole takes an application permission away: at once, for tokens that
// were issued too.
func (s *Service) RemoveAppRole(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	a, ok := s.cfg.Index.AppRoleAssignment(id)
	if !ok {
		return NotFound(id)
	}
	event := success("appRole.remove", a.PrincipalID, map[string]string{"role": a.RoleID})
	return s.change(ctx, by, event, s.require(by, ActionGrantApplication), func(tx Tx) error {
		if existed, err := tx.DeleteAppRoleAssignment(id); err != nil || !existed {
			return orNotFound(err, id)
		}
		return tx.Audit(by, event)
	})
}

// SetConsentPolicy changes who may consent.
func (s *Service) SetConsentPolicy(ctx context.Context, by audit.By, p ConsentPolicy) error {
	event := success("consent.policy", s.cfg.Index.Tenant().ID, map[string]string{"users": map[bool]string{true: "true", false: "false"}[p.Users]})
	return s.change(ctx, by, event, s.require(by, consentPolicyUpdate), func(tx Tx) error {
		if err := tx.PutConsentPolicy(p); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}
