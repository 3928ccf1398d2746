package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/oauth/token"
)

// answer turns a session into what was asked for: a certificate, an access token
// or, for a sign-in that names the SSH resource without asking for a
// certificate, a token that only shows who signed in.
func (s *Service) answer(ctx context.Context, x *exchange, n session) (Answer, error) {
	if x.scope.Resource == SSH {
		return s.answerSSH(ctx, x, n)
	}
	if _, err := s.admit(x, &n); err != nil {
		return Answer{}, s.denied(ctx, n.acting(x.by), x.scope, n.grant, err)
	}
	return s.bearer(ctx, x, n, x.scope.Audience)
}

// answerSSH: policy first, whatever token_type says, so that a client that drops
// the certificate's parameters on its second try gets the same refusal (azure
// reference 7). There is no bearer token for this resource.
func (s *Service) answerSSH(ctx context.Context, x *exchange, n session) (Answer, error) {
	if x.cert {
		return s.certificate(ctx, x, n)
	}
	if _, err := s.admit(x, &n); err != nil { // also what was a certificate's request before
		return Answer{}, s.denied(ctx, n.acting(x.by), x.scope, n.grant, err)
	}
	if n.isApp || n.family != nil {
		err := refuse("invalid_request", 9002332, "There is no bearer token for the SSH resource. Ask for a certificate: token_type=ssh-cert with req_cnf.")
		return Answer{}, s.denied(ctx, n.acting(x.by), x.scope, n.grant, err)
	}
	// "az login --scope https://pas.windows.net/CheckMyAccess/Linux/.default":
	// the sign-in counts, the scope is not granted.
	x.scope.Text = "openid profile offline_access"
	x.scope.Resource, x.scope.Audience, x.scope.OpenID, x.scope.Offline = Own, x.client.AppID, true, true
	return s.bearer(ctx, x, n, x.client.AppID)
}

// bearer mints an access token and, for a new sign-in, begins a refresh family.
func (s *Service) bearer(ctx context.Context, x *exchange, n session, audience string) (Answer, error) {
	by := n.acting(x.by)
	permissions, err := s.permissions(x, n)
	if err != nil {
		return Answer{}, s.denied(ctx, by, x.scope, n.grant, err)
	}
	text, err := s.cfg.Tokens.Mint(s.accessClaims(x, n, audience, permissions))
	if err != nil {
		return Answer{}, err
	}
	life := int64(tokenLife/time.Second) - 1
	a := Answer{TokenType: "Bearer", Scope: x.scope.Text, ExpiresIn: life, ExtExpiresIn: life, AccessToken: text}
	begin, err := s.companions(x, n, &a)
	if err != nil {
		return Answer{}, err
	}
	if n.family != nil {
		return a, nil // recorded by the rotation
	}
	event := audit.Event{Type: "token.issue", Outcome: audit.Success, Target: n.principal(), Detail: n.reported(map[string]string{"grant": n.grant, "scope": x.scope.Text, "factors": factorText(n.factors)})}
	if n.caller != "" {
		event.Detail["caller"] = n.caller
	}
	if err := s.record(ctx, by, n, begin, event); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// record makes an answer durable before it leaves: its audit event, and the
// refresh family that a new sign-in begins. What the answer rests on is looked
// at once more: a code that was shown again, or a family that was ended, in the
// same moment gives nothing.
func (s *Service) record(ctx context.Context, by audit.By, n session, begin *token.Family, event audit.Event) error {
	var gone error
	err := s.cfg.Write(ctx, func(tx Tx) error {
		gone = nil
		again, alive := false, true
		var err error
		switch {
		case n.code != nil:
			again, err = tx.AuthorizationCodeAgain(n.code)
		case n.device != nil:
			var d Device
			d, alive, err = tx.DeviceRequest(n.device)
			alive = alive && d.State == DeviceUsed
		case n.family != nil:
			alive, err = tx.RefreshFamilyAlive(n.family.ID)
		}
		switch {
		case err != nil:
			return err
		case again:
			gone = errCodeSpent()
		case !alive:
			gone = refuse("invalid_grant", 50173, "The sign-in was ended. Run: sally login")
		}
		if gone != nil {
			return nil
		}
		if begin != nil {
			if err := tx.PutRefreshFamily(*begin); err != nil {
				return err
			}
		}
		return tx.Audit(by, event)
	})
	if err != nil {
		return err
	}
	return gone
}

// companions adds refresh token, id token and client info for people, and
// returns the family to store, nil for none.
func (s *Service) companions(x *exchange, n session, a *Answer) (*token.Family, error) {
	if n.isApp {
		return nil, nil
	}
	if x.get("client_info") == "1" {
		a.ClientInfo = s.clientInfo(n.user.ID)
	}
	if x.scope.OpenID {
		id, err := s.cfg.Tokens.Mint(s.idClaims(x, n))
		if err != nil {
			return nil, err
		}
		a.IDToken = id
	}
	if n.family != nil {
		a.RefreshToken = n.refresh
		return nil, nil
	}
	if !x.scope.Offline {
		return nil, nil
	}
	return s.begin(x, n, a)
}

// begin starts a refresh family.
func (s *Service) begin(x *exchange, n session, a *Answer) (*token.Family, error) {
	id := n.familyID
	if id == "" {
		var err error
		if id, err = s.guid(); err != nil {
			return nil, err
		}
	}
	secret, err := s.random()
	if err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	a.RefreshToken = token.Format(id, raw)
	f := token.Family{
		ID: id, Principal: n.user.ID, Client: x.client.AppID, Session: n.id, Address: x.by.Address, Scope: x.scope.Text, Factors: n.factors, SignedInAt: n.signedInAt, CreatedAt: x.by.At,
		RotatedAt: x.by.At, Slides: x.by.At.Add(token.Sliding), Ends: x.by.At.Add(token.Absolute), Current: s.cfg.Hash("refresh token", a.RefreshToken),
	}
	return &f, nil
}

// clientInfo gives MSAL its account id.
func (s *Service) clientInfo(oid string) string {
	b, err := json.Marshal(map[string]string{"uid": oid, "utid": s.cfg.Directory.Tenant().ID})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func (s *Service) commonClaims(x *exchange, n session) token.Claims {
	at := x.by.At
	c := token.Claims{
		Issuer: s.issuer(x.Authority), IssuedAt: at.Unix(), NotBefore: at.Unix(), Expires: at.Add(tokenLife).Unix(), IssuedMicros: at.UnixMicro(),
		ObjectID: n.principal(), TenantID: s.cfg.Directory.Tenant().ID, Version: "2.0", Session: n.id,
	}
	c.Subject = c.ObjectID
	return c
}

func (s *Service) accessClaims(x *exchange, n session, audience string, permissions []string) token.Claims {
	c := s.commonClaims(x, n)
	c.Audience, c.AppID, c.AuthorizedParty, c.AppIDACR, c.ID = audience, x.client.AppID, x.client.AppID, x.proof, x.by.CorrelationID
	if requested, err := parseClaims(x.get("claims")); err == nil {
		c.Capabilities = requested.capabilities
	}
	if n.isApp {
		c.IDType, c.Roles = "app", permissions
		if n.app.Type == directory.TypeManagedIdentity {
			c.ManagedResource = n.app.ResourceID
		}
		return c
	}
	c.IDType, c.Scope, c.UPN, c.UniqueName, c.Name = "user", strings.Join(permissions, " "), n.user.UPN, n.user.UPN, n.user.DisplayName
	c.Methods = methods(n)
	return c
}

func methods(n session) []string {
	var out []string
	for name := range n.factors {
		out = append(out, name)
	}
	slices.Sort(out)
	if len(out) > 1 {
		out = append(out, "mfa")
	}
	return out
}

func (s *Service) idClaims(x *exchange, n session) token.Claims {
	c := s.commonClaims(x, n)
	c.Audience, c.PreferredUsername, c.Name, c.Nonce, c.AuthTime = x.client.AppID, n.user.UPN, n.user.DisplayName, n.nonce, n.signedInAt.Unix()
	c.UPN = n.user.UPN
	return c
}
