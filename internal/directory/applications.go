package directory

import (
	"context"
	"slices"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// maxRedirects bounds the redirect URIs of one application, as Entra does.
const maxRedirects = 256

// NewApplication describes an application to register.
type NewApplication struct {
	DisplayName  string
	Public       bool
	RedirectURIs []string
}

// ApplicationChange describes a change; nil fields stay as they are.
type ApplicationChange struct {
	DisplayName  *string
	Public       *bool
	RedirectURIs *[]string
	// Of, where set, says whether RedirectURIs are a public client's: an application of
	// the other kind has none of them, and keeps those that it has.
	Of *bool
}

func (a Application) with(c ApplicationChange) (Application, error) {
	var err error
	if c.DisplayName != nil {
		if a.DisplayName, err = ParseText("displayName", *c.DisplayName, MaxDisplayName); err != nil {
			return Application{}, err
		}
	}
	others := c.Of != nil && *c.Of != a.Public
	if c.Public != nil {
		a.Public = *c.Public
	}
	if c.RedirectURIs != nil && !others {
		if len(*c.RedirectURIs) > maxRedirects {
			return Application{}, fault.New(fault.Invalid, "Request_BadRequest", "an application has at most %d redirect URIs.", maxRedirects).WithTarget("redirectUris").
				WithRemedy("Remove the ones that are not used.")
		}
		list := make([]string, 0, len(*c.RedirectURIs))
		for _, text := range *c.RedirectURIs {
			uri, err := parseRedirect(text)
			if err != nil {
				return Application{}, err
			}
			if !slices.Contains(list, uri) {
				list = append(list, uri)
			}
		}
		a.RedirectURIs = list
	}
	return a, nil
}

// CreateApplication registers an application, owned by who creates it. Members
// without a role may not: a registered redirect URI receives other people's
// tokens, and there is no consent step that would stop it.
func (s *Service) CreateApplication(ctx context.Context, by audit.By, n NewApplication) (Application, error) {
	var a Application
	allowed := s.require(by, "microsoft.directory/applications/create")
	err := s.change(ctx, by, success("application.create", "", nil), allowed, func(tx Tx) error {
		var err error
		a = Application{CreatedAt: tx.Now()}
		if by.Principal != "" {
			a.Owners = []string{by.Principal}
		}
		if a, err = a.with(ApplicationChange{DisplayName: &n.DisplayName, Public: &n.Public, RedirectURIs: &n.RedirectURIs}); err != nil {
			return err
		}
		if a.ID, err = s.newID(); err != nil {
			return err
		}
		if a.AppID, err = s.newID(); err != nil {
			return err
		}
		if err := tx.PutApplication(a); err != nil {
			return err
		}
		return tx.Audit(by, success("application.create", a.ID, map[string]string{"appId": a.AppID, "displayName": a.DisplayName}))
	})
	return a, err
}

// mayChangeApplication checks the action, that the application is not built in,
// and that its service principal has no more rights than by.
func (s *Service) mayChangeApplication(by audit.By, action, id string) error {
	if err := s.require(by, action); err != nil {
		return err
	}
	a, ok := s.cfg.Index.ApplicationByID(id)
	if !ok {
		return NotFound(id)
	}
	if a.BuiltIn {
		return builtIn(a)
	}
	if p, ok := s.cfg.Index.ServicePrincipalByAppID(a.AppID); ok {
		return s.covers(by, p.ID)
	}
	return nil
}

// UpdateApplication changes a registration, and does with it, in the same write, what
// the others do. Nothing at all is changed where one of them refuses.
func (s *Service) UpdateApplication(ctx context.Context, by audit.By, id string, c ApplicationChange, others ...func(Tx) error) error {
	id = asciiLower(id)
	event := success("application.update", id, nil)
	return s.change(ctx, by, event, s.mayChangeApplication(by, "microsoft.directory/applications/basic/update", id), func(tx Tx) error {
		old, ok, err := tx.ApplicationByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		for _, f := range others {
			if err := f(tx); err != nil {
				return err
			}
		}
		if c == (ApplicationChange{}) {
			return nil
		}
		a, err := old.with(c)
		if err != nil {
			return err
		}
		if err := tx.PutApplication(a); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// DeleteApplication removes a registration, its service principal and the
// credentials of both.
func (s *Service) DeleteApplication(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	event := success("application.delete", id, nil)
	return s.change(ctx, by, event, s.mayChangeApplication(by, "microsoft.directory/applications/delete", id), func(tx Tx) error {
		a, ok, err := tx.ApplicationByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		p, ok, err := tx.ServicePrincipalByAppID(a.AppID)
		if err != nil {
			return err
		}
		if ok {
			if err := tx.DeleteServicePrincipal(p.ID); err != nil {
				return err
			}
		}
		if err := tx.DeleteApplication(id); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// CreateServicePrincipal gives an application of this tenant its identity in
// it. The sign-in application for Linux machines is made anew this way where
// somebody deleted its service principal.
func (s *Service) CreateServicePrincipal(ctx context.Context, by audit.By, appID string) (ServicePrincipal, error) {
	var p ServicePrincipal
	appID = asciiLower(appID)
	allowed := s.require(by, "microsoft.directory/servicePrincipals/create")
	err := s.change(ctx, by, success("servicePrincipal.create", appID, nil), allowed, func(tx Tx) error {
		a, ok, err := tx.ApplicationByAppID(appID)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.Invalid, "Request_BadRequest", "the appId '%s' of the service principal does not reference a valid application object.", show(appID)).
				WithTarget("appId").WithRemedy("Register the application first: sally ad app create --display-name NAME.")
		}
		if _, taken, err := tx.ServicePrincipalByAppID(appID); err != nil {
			return err
		} else if taken {
			return fault.New(fault.Conflict, "Request_MultipleObjectsWithSameKeyValue", "the service principal cannot be created, because the service principal name %s is already in use.", appID).
				WithRemedy("Nothing needs to be done: show it with: sally ad sp show --id %s", appID)
		}
		if p, err = s.principalIn(tx, a); err != nil {
			return err
		}
		return tx.Audit(by, success("servicePrincipal.create", p.ID, map[string]string{"appId": appID}))
	})
	return p, err
}

func (s *Service) principalIn(tx Tx, a Application) (ServicePrincipal, error) {
	id, err := s.newID()
	if err != nil {
		return ServicePrincipal{}, err
	}
	uid, err := tx.NextPOSIXID()
	if err != nil {
		return ServicePrincipal{}, err
	}
	p := ServicePrincipal{ID: id, AppID: a.AppID, DisplayName: a.DisplayName, Type: TypeApplication, Names: []string{a.AppID}, Enabled: true, UID: uid, CreatedAt: tx.Now()}
	return p, tx.PutServicePrincipal(p)
}

func (s *Service) mayChangePrincipal(by audit.By, action, id string) error {
	p, ok := s.cfg.Index.ServicePrincipal(id)
	if !ok {
		return NotFound(id)
	}
	if p.Type == TypeManagedIdentity {
		return managedElsewhere(p)
	}
	return s.requireOver(by, action, id)
}

// DeleteServicePrincipal removes an identity with its memberships and
// credentials. Those of the two command lines and of the resources stay: without
// them nobody could sign in to put things right.
func (s *Service) DeleteServicePrincipal(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	event := success("servicePrincipal.delete", id, nil)
	return s.change(ctx, by, event, s.mayChangePrincipal(by, "microsoft.directory/servicePrincipals/delete", id), func(tx Tx) error {
		p, ok, err := tx.ServicePrincipalByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		switch p.AppID {
		case SallyCLI, AzureCLI, GraphAppID, ARMAppID:
			return builtIn(Application{DisplayName: p.DisplayName})
		}
		if err := tx.DeleteServicePrincipal(id); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// EnableServicePrincipal switches an identity on or off, and does with it, in the same
// write, what the others do, as UpdateApplication. Switching off raises NotBefore.
func (s *Service) EnableServicePrincipal(ctx context.Context, by audit.By, id string, enabled bool, others ...func(Tx) error) error {
	id = asciiLower(id)
	action := "microsoft.directory/servicePrincipals/disable"
	if enabled {
		action = "microsoft.directory/servicePrincipals/enable"
	}
	allowed := s.mayChangePrincipal(by, action, id)
	if id == by.Principal && allowed == nil {
		allowed = fault.New(fault.Forbidden, "Authorization_RequestDenied", "nobody enables or disables his own account.").WithRemedy("Ask another administrator.")
	}
	event := success("servicePrincipal.update", id, map[string]string{"accountEnabled": map[bool]string{true: "true", false: "false"}[enabled]})
	return s.change(ctx, by, event, allowed, func(tx Tx) error {
		p, ok, err := tx.ServicePrincipalByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		if !enabled && (p.AppID == SallyCLI || p.AppID == GraphAppID || p.AppID == ARMAppID) {
			return builtIn(Application{DisplayName: p.DisplayName})
		}
		for _, f := range others {
			if err := f(tx); err != nil {
				return err
			}
		}
		if p.Enabled && !enabled {
			p.NotBefore = tx.Now()
		}
		p.Enabled = enabled
		if err := tx.PutServicePrincipal(p); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// RevokeIssued ends everything that was issued to a user, a service principal or
// a managed identity until now: tokens, a user's sign-ins, and certificates with
// the sessions that they opened. Whether by may do that is the caller's question,
// and has been answered. What proves a service principal stays: it signs in again,
// unless it is disabled or its credentials are removed.
func (s *Service) RevokeIssued(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	if _, ok := s.cfg.Index.User(id); ok {
		event := success("user.revokeSessions", id, nil)
		return s.change(ctx, by, event, nil, func(tx Tx) error {
			if err := s.RaiseNotBeforeIn(tx, id); err != nil {
				return err
			}
			return tx.Audit(by, event)
		})
	}
	event := success("servicePrincipal.revokeSessions", id, nil)
	return s.change(ctx, by, event, nil, func(tx Tx) error {
		p, ok, err := tx.ServicePrincipalByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		p.NotBefore = tx.Now()
		if err := tx.PutServicePrincipal(p); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}
