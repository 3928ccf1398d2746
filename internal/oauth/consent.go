package oauth

import (
	"slices"
	"strings"

	"sallyport/internal/directory"
)

// Consents knows what applications were given; directory.Index satisfies it.
type Consents interface {
	// Consented lists the delegated permissions that a client has at a resource
	// when it acts for a person.
	Consented(appID, userID, resourceAppID string) []string
	// ApplicationPermissions lists a service principal's own at Microsoft Graph.
	ApplicationPermissions(principalID string) []string
}

// asked is what a scope asks to be consented to: its permissions or, for
// "/.default" where nothing was consented to yet, the one that Entra writes into
// each new registration. Resources without permissions ask for nothing.
func (sc Scope) asked(granted []string) []string {
	switch {
	case sc.Resource != ARM && sc.Resource != Graph:
		return nil
	case !sc.Default:
		return sc.Permissions
	case len(granted) > 0:
		return nil
	case sc.Resource == ARM:
		return []string{directory.UserImpersonation}
	}
	return []string{directory.UserRead}
}

// Unconsented lists the permissions of a scope that nobody has consented to for
// this client and person.
func (s *Service) Unconsented(client, userID string, sc Scope) []string {
	granted := s.cfg.Consents.Consented(client, userID, sc.AppID())
	var missing []string
	for _, p := range sc.asked(granted) {
		if !slices.Contains(granted, p) {
			missing = append(missing, p)
		}
	}
	return missing
}

// permissions is what a token says that its bearer may do: exactly what was
// consented to, looked up anew for each token.
func (s *Service) permissions(x *exchange, n session) ([]string, error) {
	if x.scope.Resource != ARM && x.scope.Resource != Graph {
		return nil, nil
	}
	if n.isApp {
		if !x.scope.Default {
			return nil, refuse("invalid_scope", 1002012, "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", show(x.scope.Text))
		}
		if x.scope.Resource == ARM {
			return nil, nil
		}
		return s.cfg.Consents.ApplicationPermissions(n.app.ID), nil
	}
	if missing := s.Unconsented(x.client.AppID, n.user.ID, x.scope); len(missing) > 0 {
		return nil, unconsented(x.client, x.scope, missing)
	}
	return s.cfg.Consents.Consented(x.client.AppID, n.user.ID, x.scope.AppID()), nil
}

func unconsented(client directory.Application, sc Scope, missing []string) *Error {
	list := strings.Join(missing, " ")
	e := refuse("invalid_grant", 65001, "The user or administrator has not consented to use the application with ID '%s' named '%s' with the permissions %s. Send an interactive authorization request for this user and resource: the page asks for consent. Or an administrator grants them: sally ad app permission grant --id %s --api %s --scope \"%s\"",
		client.AppID, show(client.DisplayName), list, client.AppID, sc.AppID(), list)
	e.Suberror = "consent_required"
	return e
}

// named returns a permission by its proper name; a resource does not have every
// name.
func (sc Scope) named(client, word string) (string, error) {
	p, ok := directory.PermissionOf(sc.AppID(), word)
	if !ok || p.DelegatedID == "" {
		return "", refuse("invalid_scope", 650053, "The application '%s' asked for scope '%s' that doesn't exist on the resource '%s'. List what does: sally ad sp show --id %s --query \"oauth2PermissionScopes[].value\"", client, show(word), sc.AppID(), sc.AppID())
	}
	return p.Value, nil
}

// DeviceAsks lists what the client of a device request has not been given for a
// person, and at which resource.
func (s *Service) DeviceAsks(d Device, app directory.Application, userID string) (missing []string, resource string) {
	sc, err := s.parseScope(d.Scope, app.AppID)
	if err != nil || d.Machine.ID != "" {
		return nil, ""
	}
	return s.Unconsented(app.AppID, userID, sc), sc.AppID()
}
