package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/oauth/token"
)

// session is what a grant established: who, how and when it was proven, and how
// long that holds. Every token and certificate is made from one.
type session struct {
	grant      string
	user       directory.User             // set for people
	app        directory.ServicePrincipal // set for service principals
	isApp      bool
	id         string // sign-in session, may be empty
	factors    map[string]time.Time
	signedInAt time.Time
	until      time.Time     // zero: rests on nothing that ends
	family     *token.Family // the family being refreshed, nil for a new sign-in
	familyID   string        // of the family to begin; empty: make one
	code       []byte        // hash of the authorization code it rests on
	device     []byte        // hash of the device code it rests on
	nonce      string
	refresh    string // successor of a rotated refresh token
	caller     string // who asked for a managed identity, as its machine says
	reportOnly string // policies that would have refused
}

// reported adds to a record what report-only policies would have done.
func (n session) reported(detail map[string]string) map[string]string {
	if n.reportOnly != "" {
		detail["reportOnly"] = n.reportOnly
	}
	return detail
}

func (n session) principal() string {
	if n.isApp {
		return n.app.ID
	}
	return n.user.ID
}

// acting is by, with who it turned out to be.
func (n session) acting(by audit.By) audit.By {
	by.Session = n.id
	if n.isApp {
		by.Principal, by.Type, by.Name = n.app.ID, audit.ServicePrincipal, n.app.AppID
		return by
	}
	by.Principal, by.Type, by.Name = n.user.ID, audit.User, n.user.UPN
	return by
}

// account looks a user up again and refuses one that is gone, disabled, or whose
// sign-in lies before NotBefore (a reset password, revoked sessions).
func (s *Service) account(id string, signedInAt time.Time) (directory.User, error) {
	user, ok := s.cfg.Directory.User(id)
	switch {
	case !ok:
		return user, refuse("invalid_grant", 500341, "The user account has been deleted from the directory. To sign into this application, the account must be added again.")
	case !user.Enabled:
		return user, refuse("invalid_grant", 50057, "The user account is disabled. Ask a User Administrator to enable it.")
	case signedInAt.Before(user.NotBefore):
		return user, refuse("invalid_grant", 50173, "The provided grant has expired due to it being revoked; a fresh sign-in is needed. The password was changed or the sessions were revoked at %s. Run: sally login", user.NotBefore.UTC().Format(time.RFC3339))
	}
	return user, s.gate(user.ID, false)
}

// servicePrincipal looks a client's service principal up.
func (s *Service) servicePrincipal(appID string) (directory.ServicePrincipal, error) {
	sp, ok := s.cfg.Directory.ServicePrincipalByAppID(appID)
	if !ok {
		return sp, refuse("unauthorized_client", 7000229, "The client application '%s' has no service principal in the tenant. Run: sally ad sp create --id %s", appID, appID)
	}
	if !sp.Enabled {
		return sp, refuse("unauthorized_client", 7000112, "Application '%s' is disabled. Ask an Application Administrator to enable it.", appID)
	}
	return sp, s.gate(sp.ID, false)
}

func (s *Service) evaluate(userID string, scope Scope, signedInAt time.Time, factors map[string]time.Time, at time.Time) conditional.Decision {
	var policies []conditional.Policy
	if s.cfg.Policies != nil {
		policies = s.cfg.Policies()
	}
	if len(policies) == 0 {
		return conditional.Evaluate(nil, conditional.Signals{})
	}
	groups := s.cfg.Directory.GroupsOf(userID)
	var roles []string
	if s.cfg.Roles != nil && slices.ContainsFunc(policies, conditional.Policy.NamesRoles) {
		roles = s.cfg.Roles(userID, groups)
	}
	return conditional.Evaluate(policies, conditional.Signals{User: userID, Groups: groups, Roles: roles, Application: scope.AppID(), SignedInAt: signedInAt, Factors: factors, At: at})
}

// policyError names the missing control as Entra does, so that clients step up.
func (s *Service) policyError(scope Scope, d conditional.Decision) error {
	if d.Allowed {
		return nil
	}
	named := "the policy '" + show(d.PolicyName) + "' (" + show(d.PolicyID) + ")"
	e := refuse("interaction_required", 50076, "Due to a configuration change made by your administrator, you must use multi-factor authentication: %s asks for it. Sign in again with a second factor.", named)
	e.Suberror = "basic_action"
	switch d.Missing {
	case conditional.MFA:
	case conditional.Block:
		e = refuse("access_denied", 53003, "Access has been blocked by Conditional Access policies: %s. Ask an administrator.", named)
		e.Suberror = "message_only"
	case conditional.SignInFrequency:
		e = refuse("interaction_required", 70043, "The sign-in is older than %s allows. Sign in again: sally login --scope %s", named, scope.again())
		e.Suberror = "basic_action"
	case conditional.CompliantDevice, conditional.DomainJoined:
		e = refuse("interaction_required", 53000, "Device is not in required device state: %s. Conditional Access policy requires a compliant device, and this device is not known.", named)
		e.Suberror = "message_only"
	case conditional.PasswordChange:
		e = refuse("interaction_required", 50055, "The password must be changed: %s. Run: sally account password change", named)
	default:
		e = refuse("access_denied", 53003, "Access has been blocked by Conditional Access policies: %s asks for '%s', which cannot be met here. Ask an administrator.", named, show(string(d.Missing)))
		e.Suberror = "message_only"
	}
	claims, err := json.Marshal(map[string]any{"access_token": map[string]any{"capolids": map[string]any{"essential": true, "values": []string{d.PolicyID}}}})
	if err == nil {
		e.Claims = string(claims)
	}
	return e
}

// admit re-evaluates everything about a session for the resource that it asks
// for. It is the first half of every answer.
func (s *Service) admit(x *exchange, n *session) (conditional.Decision, error) {
	if n.isApp {
		app, err := s.servicePrincipal(x.client.AppID)
		if err != nil {
			return conditional.Decision{}, err
		}
		n.app = app
		if err := s.allow(x, *n); err != nil {
			return conditional.Decision{}, err
		}
		return conditional.Evaluate(nil, conditional.Signals{}), nil
	}
	user, err := s.account(n.user.ID, n.signedInAt)
	if err != nil {
		return conditional.Decision{}, err
	}
	n.user = user
	if err := s.allow(x, *n); err != nil {
		return conditional.Decision{}, err
	}
	d := s.evaluate(user.ID, x.scope, n.signedInAt, n.factors, x.by.At)
	n.reportOnly = strings.Join(d.WouldDeny, ",")
	return d, s.policyError(x.scope, d)
}

// allow asks whether the principal had enough for now.
func (s *Service) allow(x *exchange, n session) error {
	if s.cfg.Allow == nil {
		return nil
	}
	return s.cfg.Allow(n.acting(x.by))
}

// denied records a refusal of a known principal before it is told.
func (s *Service) denied(ctx context.Context, by audit.By, scope Scope, grant string, refusal error) error {
	var e *Error
	if !errors.As(errFault(refusal), &e) {
		return refusal
	}
	kind := "token.issue"
	if scope.Resource == SSH {
		kind = "certificate.issue"
	}
	event := audit.Event{Type: kind, Outcome: audit.Denied, Target: by.Principal, Detail: map[string]string{"grant": grant, "code": "AADSTS" + strconv.Itoa(e.Number), "scope": scope.Text}}
	if err := s.recordRefusal(ctx, by, event); err != nil {
		return err
	}
	return e
}

// factorText is the certificate's and the audit record's form of factors.
func factorText(factors map[string]time.Time) string {
	var parts []string
	for name, at := range factors {
		parts = append(parts, name+":"+strconv.FormatInt(at.Unix(), 10))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
