package arm_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/oauth"
)

// issued is one certificate of each of two people; there are no directory roles.
type issued struct{}

func (issued) Certificates(_ context.Context, _ time.Time, principal string, _ audit.Place, _ int) ([]oauth.IssuedCertificate, audit.Place, error) {
	if principal != "" && principal != admin {
		return nil, audit.Place{}, nil
	}
	return []oauth.IssuedCertificate{{Serial: "1", PrincipalID: admin}}, audit.Place{}, nil
}

func (issued) Certificate(_ context.Context, _ time.Time, name string) (oauth.IssuedCertificate, error) {
	if who := map[string]string{"1": admin, "2": nobody}[name]; who != "" {
		return oauth.IssuedCertificate{Serial: name, PrincipalID: who}, nil
	}
	return oauth.IssuedCertificate{}, fault.New(fault.NotFound, "CertificateNotFound", "no")
}

func (issued) MayRevokeCertificates(by audit.By, principal string) error {
	if by.Principal == principal {
		return nil
	}
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "not yours")
}

func (issued) RevokeCertificate(context.Context, audit.By, oauth.IssuedCertificate) error { return nil }

// Everybody sees and revokes his own certificates; others' need a directory role
// or the action at the root management group.
func TestCertificates_WhoseTheyAre(t *testing.T) {
	s := newServer(t)
	const list = "/providers/Sallyport.Access/certificates"
	for _, c := range []struct {
		who, method, path string
		want              int
	}{
		{admin, http.MethodGet, list, 200}, {nobody, http.MethodGet, list, 200}, {admin, http.MethodGet, list + "?all=true", 200}, {nobody, http.MethodGet, list + "?all=true", 403},
		{admin, http.MethodGet, list + "?principal=" + nobody, 200}, {nobody, http.MethodGet, list + "?principal=" + admin, 403}, {nobody, http.MethodGet, list + "?$skipToken=x", 400},
		{nobody, http.MethodGet, list + "/1", 404}, {nobody, http.MethodGet, list + "/2", 200}, {admin, http.MethodGet, list + "/2", 200}, {admin, http.MethodGet, list + "/3", 404},
		{nobody, http.MethodPost, list + "/1/revoke", 404}, {nobody, http.MethodPost, list + "/2/revoke", 200}, {admin, http.MethodPost, list + "/2/revoke", 200},
	} {
		if answer, v := s.call(c.who, c.method, c.path, ""); answer.StatusCode != c.want {
			t.Errorf("%s %s as %s: %d %v", c.method, c.path, c.who, answer.StatusCode, v)
		}
	}
}
