package oauth

import (
	"slices"
	"strings"

	"sallyport/internal/cloud"
)

// Authority is the first path segment of a directory endpoint, understood.
type Authority struct {
	Segment string // as advertised back
	ADFS    bool
}

// Authority understands {tenant}: the tenant's id, one of its verified domains,
// common, organizations or adfs. Anything else is AADSTS90002.
func (s *Service) Authority(segment string) (Authority, error) {
	t := s.cfg.Directory.Tenant()
	low := strings.ToLower(segment)
	switch {
	case low == "adfs":
		return Authority{Segment: "adfs", ADFS: true}, nil
	case low == "common", low == "organizations", t.ID != "" && low == strings.ToLower(t.ID), slices.Contains(t.Domains, low):
		return Authority{Segment: low}, nil
	}
	return Authority{}, refuse("invalid_request", 90002, "Tenant '%s' not found. This server is the tenant %s (%s): check the tenant that you gave with --tenant.", show(segment), t.ID, strings.Join(t.Domains, ", "))
}

// issuer of tokens from this authority.
func (s *Service) issuer(a Authority) string {
	if a.ADFS {
		return s.cfg.URL + "/adfs"
	}
	return s.cfg.URL + "/" + s.cfg.Directory.Tenant().ID + "/v2.0"
}

// Issuers lists both issuers.
func (s *Service) Issuers() []string {
	return []string{s.issuer(Authority{ADFS: true}), s.issuer(Authority{})}
}

// base of the OAuth endpoints of an authority.
func (s *Service) base(a Authority) string {
	if a.ADFS {
		return s.cfg.URL + "/adfs/oauth2/"
	}
	return s.cfg.URL + "/" + a.Segment + "/oauth2/v2.0/"
}

// Discovery is an OpenID Connect discovery document.
type Discovery struct {
	Issuer                 string   `json:"issuer"`
	Authorization          string   `json:"authorization_endpoint"`
	Token                  string   `json:"token_endpoint"`
	DeviceAuthorization    string   `json:"device_authorization_endpoint"`
	Keys                   string   `json:"jwks_uri"`
	EndSession             string   `json:"end_session_endpoint"`
	UserInfo               string   `json:"userinfo_endpoint"`
	ResponseTypes          []string `json:"response_types_supported"`
	ResponseModes          []string `json:"response_modes_supported"`
	Grants                 []string `json:"grant_types_supported"`
	SubjectTypes           []string `json:"subject_types_supported"`
	Signing                []string `json:"id_token_signing_alg_values_supported"`
	ClientAuthentication   []string `json:"token_endpoint_auth_methods_supported"`
	ClientAssertionSigning []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	Challenges             []string `json:"code_challenge_methods_supported"`
	Scopes                 []string `json:"scopes_supported"`
	Claims                 []string `json:"claims_supported"`
}

// Discovery describes an authority. MSAL takes the first segment of the token
// endpoint's path as the realm of its cache, so it is the requested one.
func (s *Service) Discovery(a Authority) Discovery {
	keys := s.cfg.URL + "/" + a.Segment + "/discovery/v2.0/keys"
	if a.ADFS {
		keys = s.cfg.URL + "/adfs/discovery/keys"
	}
	base := s.base(a)
	return Discovery{
		Issuer: s.issuer(a), Authorization: base + "authorize", Token: base + "token", DeviceAuthorization: base + "devicecode", Keys: keys, EndSession: base + "logout", UserInfo: s.cfg.URL + "/oidc/userinfo",
		ResponseTypes: []string{"code"}, ResponseModes: []string{"query", "form_post"},
		Grants:       s.settings().grants(),
		SubjectTypes: []string{"public"}, Signing: []string{"RS256"},
		ClientAuthentication: []string{"client_secret_post", "client_secret_basic", "private_key_jwt", "none"}, ClientAssertionSigning: []string{"RS256", "PS256"},
		Challenges: []string{"S256"}, Scopes: []string{"openid", "profile", "email", "offline_access"},
		Claims: []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "preferred_username", "name", "tid", "oid", "ver"},
	}
}

// Cloud is what the deployment presents itself as.
func (s *Service) Cloud() cloud.Cloud { return s.cfg.Cloud }

// TenantID returns the tenant's id.
func (s *Service) TenantID() string { return s.cfg.Directory.Tenant().ID }
