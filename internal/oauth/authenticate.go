package oauth

import (
	"errors"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/oauth/token"
)

// Authenticate turns a bearer access token for one resource into a caller:
// signature, issuer, audience, times; then the account as it is now. A token of
// a principal that is gone, disabled, or whose tokens up to NotBefore were
// withdrawn is refused. It makes no address and no correlation id: those are the
// door's.
func (s *Service) Authenticate(bearer string, r Resource, at time.Time) (audit.By, error) {
	audiences := s.Audiences(r)
	if r == Own { // who the bearer is: a program's own token says so, and Graph's
		audiences = s.Audiences(Graph)
	}
	c, err := s.cfg.Tokens.Verify(bearer, token.Expect{Issuers: s.Issuers(), Audiences: audiences, Own: r == Own, Tenant: s.cfg.Directory.Tenant().ID, At: at})
	if errors.Is(err, token.ErrExpired) {
		return audit.By{}, fault.Wrap(err, fault.Unauthenticated, "ExpiredAuthenticationToken", "The access token has expired.").WithRemedy("Sign in again: sally login")
	}
	if err != nil {
		return audit.By{}, fault.Wrap(err, fault.Unauthenticated, "InvalidAuthenticationToken", "The access token is not valid here: %s.", err.Error()).WithRemedy("Sign in again: sally login")
	}
	by := audit.By{Principal: c.ObjectID, Client: c.AppID, Session: c.Session, At: at}
	var notBefore time.Time
	enabled := false
	switch c.IDType {
	case "user":
		u, ok := s.cfg.Directory.User(c.ObjectID)
		by.Type, by.Name, enabled, notBefore = audit.User, u.UPN, ok && u.Enabled, u.NotBefore
	case "app":
		sp, ok := s.cfg.Principals.ServicePrincipal(c.ObjectID)
		by.Type, by.Name, enabled, notBefore = audit.ServicePrincipal, sp.AppID, ok && sp.Enabled, sp.NotBefore
	}
	if !enabled {
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "The account of this access token is disabled or deleted.").WithRemedy("Ask a User Administrator.")
	}
	if c.Issued().Before(notBefore) {
		return audit.By{}, challenged(c, notBefore, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "The access token was withdrawn: the password was changed or the sessions were revoked.").WithRemedy("Sign in again: sally login"))
	}
	if client, ok := s.cfg.Directory.ServicePrincipalByAppID(c.AppID); ok && !client.Enabled {
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "The application that this access token was issued to is disabled.").WithRemedy("Ask an Application Administrator to enable it.")
	}
	by.Groups = s.cfg.Directory.GroupsOf(c.ObjectID)
	by.Permissions = s.stillGiven(c, r)
	if r == ARM && by.Type == audit.User && len(by.Permissions) == 0 {
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "The consent that this access token rests on was withdrawn.").WithRemedy("Sign in again and consent, or ask an administrator.")
	}
	return by, nil
}

// stillGiven is what a token says that its bearer may do, as far as it is true
// now: taking a permission back takes effect at once.
func (s *Service) stillGiven(c token.Claims, r Resource) []string {
	said, now := c.Roles, []string(nil)
	if c.IDType == "app" {
		now = s.cfg.Consents.ApplicationPermissions(c.ObjectID)
	} else {
		said, now = strings.Fields(c.Scope), s.cfg.Consents.Consented(c.AppID, c.ObjectID, Scope{Resource: r}.AppID())
	}
	var out []string
	for _, p := range said {
		if slices.Contains(now, p) {
			out = append(out, p)
		}
	}
	return out
}

// Keys is the JSON Web Key Set.
func (s *Service) Keys() token.KeySet { return s.cfg.Tokens.Set() }
