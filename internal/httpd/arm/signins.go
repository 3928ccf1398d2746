package arm

import (
	"context"
	"net/http"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
)

// SignIns are where people are signed in, and how they may; *oauth.Service has
// them.
type SignIns interface {
	SignIns(ctx context.Context, by audit.By, userID string) ([]oauth.SignedIn, error)
	RevokeSignIn(ctx context.Context, by audit.By, userID, id string) error
	Settings() oauth.Settings
	ChangeSettings(ctx context.Context, by audit.By, c oauth.SettingsChange) (oauth.Settings, error)
}

const (
	writeSettings = "Sallyport.Access/tenantSettings/write"
	settingsPath  = "/providers/Sallyport.Access/tenantSettings/default"
)

func (h *Handler) mountSignIns(m *httpd.Mux) {
	m.Handle("arm.sessions.list", h.signIns)
	m.Handle("arm.sessions.revoke", h.revokeSignIn)
	m.Handle("arm.tenantSettings.get", h.settings)
	m.Handle("arm.tenantSettings.patch", h.changeSettings)
}

// person is whom a request about sign-ins means: the caller, or the one that
// "principal" names by object id or UPN.
func (h *Handler) person(c *httpd.Call) string {
	who := strings.ToLower(c.R.URL.Query().Get("principal"))
	if who == "" {
		return c.By.Principal
	}
	if id, ok := h.cfg.People(who); ok {
		return id
	}
	return who
}

// knownPerson refuses a person whom nobody knows: a name that was mistyped has no sessions
// and no certificates, and an empty list would say that there are none. An object id is
// taken as it is, as Azure's lists do, because it may be of who was deleted.
func knownPerson(who string) error {
	if who == "" || guid.Valid(who) {
		return nil
	}
	return fault.New(fault.NotFound, "PrincipalNotFound", "Nobody here is called '%.80s'.", who).WithTarget("principal").
		WithRemedy("Give the user principal name, or the object id, which also finds what is left of somebody who was deleted.")
}

func (h *Handler) signIns(c *httpd.Call) error {
	list, err := h.cfg.SignIns.SignIns(c.R.Context(), c.By, h.person(c))
	if err != nil {
		return err
	}
	value := make([]map[string]any, len(list))
	for i, n := range list {
		value[i] = map[string]any{"id": "/providers/Sallyport.Access/sessions/" + n.ID, "name": n.ID, "type": "Sallyport.Access/sessions", "properties": n}
	}
	return c.JSON(http.StatusOK, h.page(c, value, ""))
}

func (h *Handler) revokeSignIn(c *httpd.Call) error {
	if err := h.cfg.SignIns.RevokeSignIn(c.R.Context(), c.By, h.person(c), c.Var("name")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func settingsBody(s oauth.Settings) map[string]any {
	return map[string]any{"id": settingsPath, "name": "default", "type": "Sallyport.Access/tenantSettings", "properties": s}
}

func (h *Handler) settings(c *httpd.Call) error {
	return c.JSON(http.StatusOK, settingsBody(h.cfg.SignIns.Settings()))
}

func (h *Handler) changeSettings(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, writeSettings, h.auditScope()); err != nil {
		return err
	}
	var body struct {
		Properties *oauth.SettingsChange `json:"properties"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if body.Properties == nil {
		return fault.New(fault.Invalid, "InvalidRequestContent", "the request names no properties").WithTarget("properties")
	}
	now, err := h.cfg.SignIns.ChangeSettings(c.R.Context(), c.By, *body.Properties)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, settingsBody(now))
}
