package arm

import (
	"context"
	"net/http"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
)

// Certificates are the user certificates that live; *oauth.Service has them.
type Certificates interface {
	Certificates(ctx context.Context, at time.Time, principal string, before audit.Place, limit int) (list []oauth.IssuedCertificate, next audit.Place, err error)
	Certificate(ctx context.Context, at time.Time, name, principal string) (oauth.IssuedCertificate, error)
	MayRevokeCertificates(by audit.By, principal string) error
	MayRevokeOthersCertificates(by audit.By) error
	RevokeCertificate(ctx context.Context, by audit.By, c oauth.IssuedCertificate) error
}

// Principals are who certificates are issued to; *directory.Service has them.
type Principals interface {
	RevokeIssued(ctx context.Context, by audit.By, id string) error
}

const (
	certificatesPath   = "/providers/Sallyport.Access/certificates"
	readCertificates   = "Sallyport.Access/certificates/read"
	revokeCertificates = "Sallyport.Access/certificates/revoke/action"
	certificatePage    = 1000
)

func (h *Handler) mountCertificates(m *httpd.Mux) {
	m.Handle("arm.certificates.list", h.certificates)
	m.Handle("arm.certificates.get", h.certificate)
	m.Handle("arm.certificates.revoke", h.revokeCertificate)
	m.Handle("arm.certificates.revokeAll", h.revokeAll)
}

// certificates lists the caller's, or those of who "principal" names, or with
// "all" everybody's.
func (h *Handler) certificates(c *httpd.Call) error {
	who := h.person(c)
	switch all := c.R.URL.Query().Get("all"); {
	case all == "true" && c.R.URL.Query().Get("principal") == "":
		who = ""
	case all != "" && all != "false":
		return fault.New(fault.Invalid, "InvalidParameter", "all is true or false, and true does not go with a principal").WithTarget("all")
	}
	if err := h.overCertificates(c, who, readCertificates); err != nil {
		return err
	}
	if err := knownPerson(who); err != nil {
		return err
	}
	var before audit.Place
	if token := c.R.URL.Query().Get("$skipToken"); token != "" {
		var err error
		if before, err = audit.ParsePlace(token); err != nil {
			return badSkipToken()
		}
	}
	list, next, err := h.cfg.Certificates.Certificates(c.R.Context(), c.By.At, who, before, certificatePage)
	if err != nil {
		return err
	}
	value, token := make([]map[string]any, len(list)), ""
	for i, one := range list {
		value[i] = showCertificate(one, c.By.At)
	}
	if next.Writer != "" {
		token = audit.Token(next)
	}
	return c.JSON(http.StatusOK, h.page(c, value, token))
}

// overCertificates lets in whose certificates they are, who may end that
// principal's sign-ins, and who has the action at the root management group.
func (h *Handler) overCertificates(c *httpd.Call, principal, action string) error {
	if principal != "" && (principal == c.By.Principal || h.cfg.Certificates.MayRevokeCertificates(c.By, principal) == nil) {
		return nil
	}
	return h.cfg.Engine.Authorize(c.R.Context(), c.By, action, h.auditScope())
}

// foundCertificate is one that the caller may see; to everybody else there is
// none. Rights come before the search, which reads a day of records for a serial:
// whoever may see nobody else's certificates searches his own.
func (h *Handler) foundCertificate(c *httpd.Call) (oauth.IssuedCertificate, error) {
	whose := ""
	if h.cfg.Certificates.MayRevokeOthersCertificates(c.By) != nil && h.cfg.Engine.Authorize(c.R.Context(), c.By, readCertificates, h.auditScope()) != nil {
		whose = c.By.Principal
	}
	one, err := h.cfg.Certificates.Certificate(c.R.Context(), c.By.At, c.Var("name"), whose)
	if err != nil {
		return one, err
	}
	if err := h.overCertificates(c, one.PrincipalID, readCertificates); err != nil {
		return one, fault.New(fault.NotFound, "CertificateNotFound", "there is no certificate of this serial or key id that you may see").WithRemedy("List yours with: sally cert list")
	}
	return one, nil
}

func (h *Handler) certificate(c *httpd.Call) error {
	one, err := h.foundCertificate(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, showCertificate(one, c.By.At))
}

func (h *Handler) revokeCertificate(c *httpd.Call) error {
	one, err := h.foundCertificate(c)
	if err != nil {
		return err
	}
	if err := h.overCertificates(c, one.PrincipalID, revokeCertificates); err != nil {
		return err
	}
	if err := h.cfg.Certificates.RevokeCertificate(c.R.Context(), c.By, one); err != nil {
		return err
	}
	return h.certificate(c)
}

// revokeAll ends everything that was issued to the principal of that object id.
func (h *Handler) revokeAll(c *httpd.Call) error {
	who, ok := guid.Parse(c.R.URL.Query().Get("principal"))
	if !ok {
		return fault.New(fault.Invalid, "InvalidPrincipal", "principal must be the object id of a user, a service principal or a managed identity").WithTarget("principal")
	}
	if !h.overIdentity(c, who) {
		if err := h.overCertificates(c, who, revokeCertificates); err != nil {
			return err
		}
	}
	if err := h.cfg.Principals.RevokeIssued(c.R.Context(), c.By, who); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// overIdentity lets in who has the action at the resource whose managed identity
// it is: who may take the identity away may also end what was issued to it.
func (h *Handler) overIdentity(c *httpd.Call, who string) bool {
	at, ok := h.cfg.IdentityOf(who)
	return ok && h.cfg.Engine.Allowed(c.By, revokeCertificates, at)
}

// The states of a certificate.
const (
	certificateLives   = "Valid"
	certificateRevoked = "Revoked"
	certificateEnded   = "Expired"
)

func showCertificate(one oauth.IssuedCertificate, at time.Time) map[string]any {
	state := certificateLives
	switch {
	case !one.RevokedAt.IsZero():
		state = certificateRevoked
	case !one.Ends.After(at):
		state = certificateEnded
	}
	return map[string]any{"id": certificatesPath + "/" + one.Serial, "name": one.Serial, "type": "Sallyport.Access/certificates", "properties": struct {
		oauth.IssuedCertificate
		State      string `json:"state"`
		RevokedAt  any    `json:"revokedAt"`
		RevokedFor string `json:"revokedFor,omitempty"`
	}{one, state, seen(one.RevokedAt), one.RevokedFor}}
}
