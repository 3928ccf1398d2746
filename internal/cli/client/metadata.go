package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sallyport/internal/fault"
)

// The instance metadata service of the machine (docs/imds.md). The certificate
// is ours; the rest is Azure's.
const (
	metadataService = "http://169.254.169.254"
	metadataToken   = "/metadata/identity/oauth2/token"
	metadataCert    = "/metadata/identity/ssh/certificate"
	metadataVersion = "2018-02-01"
	maxMetadata     = 1 << 20
)

// Managed asks the machine that this runs on for what its managed identity may
// have: a token for a scope, or a certificate where extra asks for one. Nothing
// secret is sent, and no proxy is used.
func (s *Server) Managed(ctx context.Context, scope string, extra url.Values) (Grant, error) {
	base := s.cfg.Metadata
	if base == "" {
		base = metadataService
	}
	method, address, body := http.MethodGet, base+metadataToken+"?"+url.Values{"api-version": {metadataVersion}, "resource": {strings.TrimSuffix(scope, "/.default")}}.Encode(), ""
	if extra.Get("token_type") == tokenTypeSSHCert {
		method, address, body = http.MethodPost, base+metadataCert, extra.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return Grant{}, err
	}
	req.Header.Set("Metadata", "true")
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	web := &http.Client{Timeout: requestTime, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := web.Do(req)
	if err != nil {
		return Grant{}, fault.Wrap(err, fault.Unavailable, "NoMetadataService", "this machine has no metadata service that answers: %v", err).
			WithRemedy("Managed identities work on a machine with an identity and a running agent: run sally agent status there as root. Elsewhere run: sally login")
	}
	data, err := readAll(res)
	if err != nil || len(data) > maxMetadata {
		return Grant{}, fault.Wrap(err, fault.Unavailable, "NoMetadataService", "the machine's metadata service broke off")
	}
	if res.StatusCode != http.StatusOK {
		return Grant{}, managedError(res, data)
	}
	return managedGrant(data)
}

// managedError reads a refusal.
func managedError(res *http.Response, data []byte) error {
	err := oauthError(res.StatusCode, res.Header, data)
	var refused *OAuthError
	switch {
	case !errors.As(err, &refused):
		return err
	case res.StatusCode == http.StatusForbidden:
		return fault.Wrap(err, fault.Forbidden, "IdentityRefused", "%s", refused.Description)
	case strings.HasPrefix(refused.Description, "Identity not found"):
		return fault.Wrap(err, fault.NotFound, "IdentityNotFound", "%s", refused.Description)
	}
	return err
}

// managedGrant reads a token answer, whose numbers may be texts.
func managedGrant(data []byte) (Grant, error) {
	var a struct {
		TokenType   string          `json:"token_type"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	err := json.Unmarshal(data, &a)
	seconds, nerr := strconv.ParseInt(strings.Trim(string(a.ExpiresIn), `"`), 10, 64)
	if err = errors.Join(err, nerr); err != nil || a.AccessToken == "" || seconds <= 0 {
		return Grant{}, fault.Wrap(err, fault.Unavailable, "BadToken", "the machine's metadata service sent a token that cannot be read")
	}
	return Grant{TokenType: a.TokenType, AccessToken: a.AccessToken, ExpiresIn: seconds}, nil
}

// ManagedTenant reads which tenant and object a managed identity's token names.
// The token's signature is not checked here: the server checks it.
func ManagedTenant(g Grant) (tenant, objectID string) {
	parts := strings.Split(g.AccessToken, ".")
	if len(parts) != 3 {
		return "", ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", ""
	}
	var c struct {
		Tenant   string `json:"tid"`
		ObjectID string `json:"oid"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return "", ""
	}
	return c.Tenant, c.ObjectID
}
