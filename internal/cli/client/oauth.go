package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/cloud"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// Grant types (RFC 6749, 7523, 8628).
const (
	grantCode        = "authorization_code"
	grantRefresh     = "refresh_token"
	grantPassword    = "password"
	grantClient      = "client_credentials"
	grantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	userScopes       = "offline_access openid profile"
	anyTenant        = "organizations"
	tokenTypeSSHCert = "ssh-cert"
)

// Endpoints are the parts of a tenant's OpenID configuration that we use.
type Endpoints struct {
	Issuer    string `json:"issuer"`
	Authorize string `json:"authorization_endpoint"`
	Token     string `json:"token_endpoint"`
	Device    string `json:"device_authorization_endpoint"`
}

// Grant is a successful answer of the token endpoint.
type Grant struct {
	TokenType   string `json:"token_type"`
	Scope       string `json:"scope"`
	ExpiresIn   int64  `json:"expires_in"`
	AccessToken string `json:"access_token"`
	Refresh     string `json:"refresh_token"`
	IDToken     string `json:"id_token"`
}

// Identity is who signed in, from the id token. Its signature is not checked:
// it came straight from the token endpoint over TLS (OpenID Connect Core
// 3.1.3.7, rule 6).
type Identity struct {
	Name     string `json:"preferred_username"`
	UPN      string `json:"upn"`
	ObjectID string `json:"oid"`
	Tenant   string `json:"tid"`
	Nonce    string `json:"nonce"`
	Expires  int64  `json:"exp"`
	Audience any    `json:"aud"`
}

// ARMScope is the scope of a token for Resource Manager.
func (s *Server) ARMScope() string { return s.URL() + "/arm/.default" }

// GraphScope is the scope of a token for Graph.
func (s *Server) GraphScope() string { return s.URL() + "/graph/.default" }

// SSHScope is the scope under which certificates are asked for: that of the cloud
// that the deployment presents itself as.
func (s *Server) SSHScope() string { return s.Cloud().Scope() }

// Cloud is what the deployment presents itself as.
func (s *Server) Cloud() cloud.Cloud { return cloud.Of(s.Manifest().Cloud) }

// Endpoints returns a tenant's endpoints; fresh asks the server even when they
// are known. An endpoint of another origin is refused: secrets go there.
func (s *Server) Endpoints(ctx context.Context, tenant string, fresh bool) (Endpoints, error) {
	if tenant == "" {
		tenant = anyTenant
	}
	if e, ok := s.Record().Endpoints[tenant]; ok && !fresh {
		return e, nil
	}
	var e Endpoints
	if err := s.checkTenant(tenant); err != nil {
		return e, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/"+url.PathEscape(tenant)+"/v2.0/.well-known/openid-configuration", nil)
	if err != nil {
		return e, err
	}
	res, body, err := s.send(req, nil)
	if err != nil {
		return e, err
	}
	if res.StatusCode != http.StatusOK {
		return e, oauthError(res.StatusCode, res.Header, body)
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Authorize == "" || e.Token == "" {
		return e, fault.New(fault.Unavailable, "BadDiscovery", "%s sent no usable OpenID configuration", s.URL())
	}
	for _, link := range []string{e.Authorize, e.Token, e.Device} {
		if link != "" && !sameOrigin(s.URL(), link) {
			return e, fault.New(fault.Unauthenticated, "BadDiscovery", "%s names a sign-in address of another server: %s", s.URL(), link)
		}
	}
	s.mu.Lock()
	known := map[string]Endpoints{tenant: e}
	for k, v := range s.record.Endpoints {
		if k != tenant {
			known[k] = v
		}
	}
	s.record.Endpoints = known
	s.mu.Unlock()
	return e, s.remember(ctx)
}

// checkTenant answers at once for a tenant that the signed manifest excludes.
func (s *Server) checkTenant(tenant string) error {
	m := s.Manifest()
	if tenant == anyTenant || tenant == "common" || strings.EqualFold(tenant, m.Tenant) {
		return nil
	}
	for _, d := range m.Domains {
		if strings.EqualFold(tenant, d) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "TenantNotFound", "AADSTS90002: Tenant '%s' not found: %s serves %s (%s).", tenant, s.URL(), m.Domains[0], m.Tenant).
		WithRemedy("Leave --tenant out, or use one of these.")
}

// token posts a form to the token endpoint.
func (s *Server) token(ctx context.Context, tenant string, form url.Values) (Grant, error) {
	e, err := s.Endpoints(ctx, tenant, false)
	if err != nil {
		return Grant{}, err
	}
	var g Grant
	if err := s.post(ctx, e.Token, form, &g); err != nil {
		return Grant{}, err
	}
	if g.AccessToken == "" || g.ExpiresIn <= 0 {
		return Grant{}, fault.New(fault.Unavailable, "BadToken", "%s sent a token answer without a token", s.URL())
	}
	return g, nil
}

// post asks again, a few times and ever later, where the server had no time; not
// with a code, which serves once and is spent before the server counts.
func (s *Server) post(ctx context.Context, endpoint string, form url.Values, v any) error {
	var res *http.Response
	var body []byte
	for attempt := 1; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
		if res, body, err = s.send(req, []byte(form.Encode())); err != nil {
			return err
		}
		grant := form.Get("grant_type")
		if res.StatusCode != http.StatusTooManyRequests || attempt == tries || grant == grantCode || grant == grantDevice {
			break
		}
		if err := s.cfg.Wait(ctx, time.Duration(attempt)*pollDelay); err != nil {
			return err
		}
	}
	if res.StatusCode != http.StatusOK {
		return oauthError(res.StatusCode, res.Header, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fault.Wrap(err, fault.Unavailable, "BadToken", "%s sent a token answer that cannot be read", s.URL())
	}
	return nil
}

func oauthError(status int, h http.Header, body []byte) error {
	var e OAuthError
	if err := json.Unmarshal(body, &e); err != nil || e.Code == "" {
		return apiError(status, h, body)
	}
	e.Status = status
	return &e
}

// userForm is what every grant of a person carries.
func userForm(grant, scope string, extra url.Values) url.Values {
	form := url.Values{"grant_type": {grant}, "client_id": {directory.SallyCLI}, "client_info": {"1"}}
	if scope != "" {
		form.Set("scope", scope+" "+userScopes)
	}
	for k, v := range extra {
		form[k] = v
	}
	return form
}

// Password signs in with a user name and a password (RFC 6749 4.3).
func (s *Server) Password(ctx context.Context, tenant, username, password, scope string) (Grant, error) {
	form := userForm(grantPassword, scope, nil)
	form.Set("username", username)
	form.Set("password", password)
	return s.token(ctx, tenant, form)
}

// identify reads and checks the id token of a grant: for us, not expired, and
// with the nonce of this sign-in where one was sent.
func (s *Server) identify(g Grant, nonce string) (Identity, error) {
	bad := func(why string) (Identity, error) {
		return Identity{}, fault.New(fault.Unauthenticated, "BadIDToken", "%s sent an id token that %s", s.URL(), why)
	}
	parts := strings.Split(g.IDToken, ".")
	if len(parts) != 3 {
		return bad("is missing or damaged")
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return bad("is damaged")
	}
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return bad("is damaged")
	}
	if id.Name == "" {
		id.Name = id.UPN
	}
	switch {
	case id.Audience != directory.SallyCLI:
		return bad("is for another application")
	case id.ObjectID == "" || id.Tenant == "" || id.Name == "":
		return bad("does not say who signed in")
	case time.Unix(id.Expires, 0).Add(clockSlack).Before(s.cfg.Now()):
		return bad("has expired")
	case nonce != "" && !same(id.Nonce, nonce):
		return bad("answers another sign-in")
	case !strings.EqualFold(id.Tenant, s.Manifest().Tenant):
		return bad("is of another tenant")
	}
	return id, nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
