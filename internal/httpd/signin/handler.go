package signin

import (
	"errors"
	"net/http"

	"crypto/rand"
	"encoding/base64"
	"io"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
	"sallyport/internal/signin"
)

// The cookies. The prefix makes browsers insist on TLS, this host and path "/".
const (
	sessionCookie = "__Host-sallyport"
	nonceCookie   = "__Host-sallyport-form"
	knownCookie   = "__Host-sallyport-known"
	// stepParameter carries the proof of a step back to the dispatcher.
	stepParameter = "sallyport_step"
)

// Config makes a Handler. Rand makes the form cookies; nil means the system's.
type Config struct {
	OAuth  *oauth.Service
	SignIn *signin.Service
	// Consents answers the page that asks for permissions.
	Consents Consents
	Rand     io.Reader
}

// Handler shows the pages.
type Handler struct {
	cfg   Config
	pages *renderer
}

// New returns a Handler. It fails when the embedded pages are broken.
func New(cfg Config) (*Handler, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	r, err := newRenderer(cfg.OAuth.Cloud())
	if err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, pages: r}, nil
}

// Mount registers every row.
func (h *Handler) Mount(m *httpd.Mux) {
	m.Handle("page.authorize", h.authorize)
	m.Handle("page.authorizeADFS", h.authorize)
	m.Handle("page.logout", h.logout)
	m.Handle("page.logoutADFS", h.logout)
	m.Handle("page.signin", h.show)
	m.Handle("page.signin.password", h.password)
	m.Handle("page.signin.account", h.account)
	m.Handle("page.signin.change", h.change)
	m.Handle("page.signin.consent", h.consent)
	m.Handle("page.signout", h.signout)
	m.Handle("page.device", h.device)
	m.Handle("page.device.code", h.deviceCode)
	m.Handle("page.device.decide", h.deviceDecide)
}

// sentence makes a fault, which httpd shows as a page, of a domain refusal.
func sentence(err error) error {
	var e *oauth.Error
	if !errors.As(err, &e) {
		return err
	}
	kind := fault.Invalid
	if e.Number == 90002 || e.Number == 700016 {
		kind = fault.NotFound
	}
	return fault.Wrap(err, kind, "SignInFailed", "%s", e.Description())
}

// current returns who is signed in in this browser.
func (h *Handler) current(c *httpd.Call) (*signin.Session, directory.User, error) {
	cookie, err := c.R.Cookie(sessionCookie)
	if err != nil {
		return nil, directory.User{}, nil
	}
	n, user, ok, err := h.cfg.SignIn.Current(c.R.Context(), c.By, cookie.Value)
	if err != nil || !ok {
		return nil, directory.User{}, err
	}
	return &n, user, nil
}

// known is what the last sign-in left in this browser.
func known(c *httpd.Call) string {
	cookie, err := c.R.Cookie(knownCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

func setCookie(c *httpd.Call, name, value string, age int) {
	http.SetCookie(c.W, &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: age})
}

// csrf returns the token for a form of this browser, giving the browser its
// nonce when it has none.
func (h *Handler) csrf(c *httpd.Call, form string) (string, error) {
	if cookie, err := c.R.Cookie(nonceCookie); err == nil && len(cookie.Value) == 43 {
		return h.cfg.SignIn.CSRF(cookie.Value, form), nil
	}
	b := make([]byte, 32)
	if _, err := io.ReadFull(h.cfg.Rand, b); err != nil {
		return "", err
	}
	nonce := base64.RawURLEncoding.EncodeToString(b)
	setCookie(c, nonceCookie, nonce, 0)
	return h.cfg.SignIn.CSRF(nonce, form), nil
}

// checkForm refuses a form that this browser did not get from us.
func (h *Handler) checkForm(c *httpd.Call, form, token string) error {
	cookie, err := c.R.Cookie(nonceCookie)
	if err == nil && h.cfg.SignIn.CheckCSRF(cookie.Value, form, token) {
		return nil
	}
	return fault.New(fault.Invalid, "FormExpired", "This form is out of date, or cookies are switched off.").WithRemedy("Allow cookies for this site, go back to the program that sent you here and start again.")
}
