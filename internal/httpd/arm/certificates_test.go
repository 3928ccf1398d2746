package arm_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// issued is one certificate of each of two people; there are no directory roles.
// It notes whose certificates were searched, and where helpdesk is set everybody may
// end what people have that are no stronger than himself; nobody is.
type issued struct {
	searched *[]string
	helpdesk *bool
}

func (issued) Certificates(_ context.Context, _ time.Time, principal string, _ audit.Place, _ int) ([]oauth.IssuedCertificate, audit.Place, error) {
	if principal != "" && principal != admin {
		return nil, audit.Place{}, nil
	}
	return []oauth.IssuedCertificate{{Serial: "1", PrincipalID: admin}}, audit.Place{}, nil
}

func (i issued) Certificate(_ context.Context, _ time.Time, name, principal string) (oauth.IssuedCertificate, error) {
	if i.searched != nil {
		*i.searched = append(*i.searched, principal)
	}
	if who := map[string]string{"1": admin, "2": nobody}[name]; who != "" && (principal == "" || principal == who) {
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

func (i issued) MayRevokeOthersCertificates(audit.By) error {
	if *i.helpdesk {
		return nil
	}
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "nobody's")
}

func (issued) RevokeCertificate(context.Context, audit.By, oauth.IssuedCertificate) error { return nil }

// TestPrincipal_IsSomebody: a mistyped name is told, an object id is taken as it is.
func TestPrincipal_IsSomebody(t *testing.T) {
	s := newServer(t)
	for _, list := range []string{"certificates", "machineSessions"} {
		at := "/providers/Sallyport.Access/" + list + "?principal="
		answer, v := s.call(admin, http.MethodGet, at+"admni@corp.example", "")
		if answer.StatusCode != http.StatusNotFound || dig(v, "error", "code") != "PrincipalNotFound" {
			t.Errorf("%s of nobody: %d %v", list, answer.StatusCode, v)
		}
		text, _ := dig(v, "error", "message").(string)
		handbooktest.Said(t, text, "arm.PrincipalNotFound.list")
		if answer, v := s.call(program, http.MethodGet, at+"admni@corp.example", ""); dig(v, "error", "code") == "PrincipalNotFound" {
			t.Errorf("%s: a program is told who is here: %d %v", list, answer.StatusCode, v)
		}
		if answer, v := s.call(admin, http.MethodGet, at+"99999999-9999-4999-8999-999999999999", ""); answer.StatusCode != http.StatusOK {
			t.Errorf("%s of an id: %d %v", list, answer.StatusCode, v)
		}
	}
}

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

// Rights come before the search: whoever may see nobody else's certificates
// searches his own records and no others.
func TestCertificates_RightsComeBeforeTheSearch(t *testing.T) {
	s := newServer(t)
	const one = "/providers/Sallyport.Access/certificates/1"
	for who, want := range map[string]string{nobody: nobody, admin: ""} {
		s.searched = nil
		s.call(who, http.MethodGet, one, "")
		s.call(who, http.MethodPost, one+"/revoke", "")
		if len(s.searched) < 2 || slices.ContainsFunc(s.searched, func(got string) bool { return got != want }) {
			t.Errorf("%s searched %q", who, s.searched)
		}
	}
}

// robot is the managed identity of the resource group rg, and service a service principal.
const (
	robot   = "0aaaaaaa-0000-4000-8000-0000000000e1"
	service = "0aaaaaaa-0000-4000-8000-0000000000e2"
)

func identityOf(id string) (scope.ID, bool) {
	at, err := scope.Parse("/subscriptions/" + subID + "/resourceGroups/rg")
	return at, err == nil && id == robot
}

type revoker struct{ ended *[]string }

func (r revoker) RevokeIssued(_ context.Context, by audit.By, id string) error {
	*r.ended = append(*r.ended, by.Principal+" "+id)
	return nil
}

// Everything of a principal is ended by itself, by who has the right at the root
// management group, and of a managed identity by who has it at its resource.
func TestCertificates_WhoEndsEverythingOfAPrincipal(t *testing.T) {
	s := newServer(t)
	at, _ := identityOf(robot)
	s.call(admin, http.MethodPut, at.String()+version, `{"location":"southcentralus"}`)
	const all = "/providers/Sallyport.Access/certificates/revokeAll?principal="
	may := func(who, principal string, want int) {
		t.Helper()
		s.ended = nil
		answer, v := s.call(who, http.MethodPost, all+principal, "")
		if answer.StatusCode != want || (len(s.ended) == 1) != (want == http.StatusNoContent) {
			t.Errorf("%s ends what %s has: %d %v, %q", who, principal, answer.StatusCode, v, s.ended)
		}
	}
	may(nobody, nobody, 204)
	may(admin, service, 204)
	may(admin, robot, 204)
	for _, who := range []string{admin, service, robot} {
		may(nobody, who, 403)
	}
	for _, who := range []string{"", "x", "admin@corp.example"} {
		may(admin, who, 400)
	}
	s.give(nobody, rbac.Contributor, at.String(), "00000000-0000-4000-8000-0000000000c7")
	may(nobody, robot, 204)
	may(nobody, service, 403)
}
