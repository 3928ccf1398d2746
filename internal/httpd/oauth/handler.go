package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
)

// Passwords changes passwords; signin.Service satisfies it.
type Passwords interface {
	ChangePassword(ctx context.Context, by audit.By, upn, old, replacement string) error
}

// Manifest gives the signed manifest as it is now.
type Manifest interface {
	SignedManifest(ctx context.Context) (protocol.SignedManifest, error)
}

// Config makes a Handler. Domains are the tenant's verified domains, for the
// user realm answer.
type Config struct {
	OAuth     *oauth.Service
	Passwords Passwords
	Manifest  Manifest
	URL       string
}

// Handler answers programs.
type Handler struct{ cfg Config }

// New returns a Handler.
func New(cfg Config) *Handler { return &Handler{cfg} }

// Mount registers every row.
func (h *Handler) Mount(m *httpd.Mux) {
	m.Handle("oauth.discovery", h.discovery)
	m.Handle("oauth.discoveryADFS", h.discovery)
	m.Handle("oauth.keys", h.keys)
	m.Handle("oauth.keysADFS", h.keys)
	m.Handle("oauth.instance", h.instance)
	m.Handle("oauth.realm", h.realm)
	m.Handle("oauth.token", h.token)
	m.Handle("oauth.tokenADFS", h.token)
	m.Handle("oauth.device", h.device)
	m.Handle("oauth.deviceADFS", h.device)
	m.Handle("oauth.userinfo", h.userinfo)
	m.Handle("oauth.userinfo.post", h.userinfo)
	m.Handle("oauth.password", h.password)
	m.Handle("oauth.manifest", h.manifest)
}

// wire turns a domain refusal into httpd's OAuth error. Everything else httpd
// maps from its fault.
func wire(err error) error {
	var e *oauth.Error
	if !errors.As(err, &e) {
		return err
	}
	return &httpd.OAuthError{Status: e.Status, Code: e.Code, Description: e.Description(), Codes: []int{e.Number}, Suberror: e.Suberror, Claims: e.Claims, Cause: e.Unwrap()}
}

func (h *Handler) authority(c *httpd.Call) (oauth.Authority, error) {
	a, err := h.cfg.OAuth.Authority(c.Var("tenant"))
	return a, wire(err)
}

func (h *Handler) discovery(c *httpd.Call) error {
	a, err := h.authority(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, h.cfg.OAuth.Discovery(a))
}

func (h *Handler) keys(c *httpd.Call) error {
	if _, err := h.authority(c); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, h.cfg.OAuth.Keys())
}

// instance tells MSAL that this host has no other name.
func (h *Handler) instance(c *httpd.Call) error {
	u, err := url.Parse(h.cfg.URL)
	if err != nil {
		return err
	}
	host := u.Host
	metadata := []map[string]any{{"preferred_network": host, "preferred_cache": host, "aliases": []string{host}}}
	return c.JSON(http.StatusOK, map[string]any{"tenant_discovery_endpoint": h.cfg.URL + "/organizations/v2.0/.well-known/openid-configuration", "api-version": "1.1", "metadata": metadata})
}

// realm answers for every name of a domain alike.
func (h *Handler) realm(c *httpd.Call) error {
	_, domain, ok := strings.Cut(strings.ToLower(c.Var("upn")), "@")
	if _, err := h.cfg.OAuth.Authority(domain); !ok || err != nil || !strings.Contains(domain, ".") {
		return c.JSON(http.StatusOK, map[string]string{"ver": "1.0", "account_type": "Unknown"})
	}
	return c.JSON(http.StatusOK, map[string]string{"ver": "1.0", "account_type": "Managed", "domain_name": domain, "cloud_instance_name": h.cfg.OAuth.Cloud().Instance, "cloud_audience_urn": "urn:federation:sallyport"})
}

func (h *Handler) device(c *httpd.Call) error {
	r, err := h.request(c)
	if err != nil {
		return err
	}
	answer, err := h.cfg.OAuth.Device(c.R.Context(), c.By, r)
	if err != nil {
		return wire(err)
	}
	return c.JSON(http.StatusOK, answer)
}

// password changes a password for who knows the present one.
func (h *Handler) password(c *httpd.Call) error {
	var body struct {
		Username    string `json:"username"`
		Password    string `json:"password"`
		NewPassword string `json:"newPassword"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if err := h.cfg.Passwords.ChangePassword(c.R.Context(), c.By, body.Username, body.Password, body.NewPassword); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// userinfo says who the caller is, as his id token does (OpenID Connect Core 1.0,
// section 5.3; Entra has it at graph.microsoft.com/oidc/userinfo). An application
// is nobody.
func (h *Handler) userinfo(c *httpd.Call) error {
	info, err := h.cfg.OAuth.UserInfo(c.By)
	if err != nil {
		return wire(err)
	}
	return c.JSON(http.StatusOK, info)
}

func (h *Handler) manifest(c *httpd.Call) error {
	signed, err := h.cfg.Manifest.SignedManifest(c.R.Context())
	if err != nil {
		return err
	}
	b, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	c.W.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, err = c.W.Write(b)
	return err
}
