package oauth

import (
	"context"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
)

// Managed is what a machine asks for in the name of its managed identity: an
// access token for Resource or, with Confirmation, an SSH certificate.
type Managed struct {
	ObjectID     string // of the identity, as the machine's resource names it at this moment
	Resource     string // whom the token is for
	Confirmation string // req_cnf: asks for a certificate
	KeyID        string
	Machine      string // the one machine that the certificate shall be good for
	Caller       string // who asked on the machine, as the machine says; for the record only
}

// grantManaged is how records name this grant. It is no grant_type: nobody can
// ask for it at the token endpoint.
const grantManaged = "managed_identity"

// Managed answers for the managed identity of a machine. The proof is the
// machine's own key, which the door has checked; the caller has looked up which
// identity the machine's resource has. No token of the identity is a proof for
// anything: there is no grant that takes one.
func (s *Service) Managed(ctx context.Context, by audit.By, m Managed) (Answer, directory.ServicePrincipal, error) {
	sp, ok := s.cfg.Principals.ServicePrincipal(m.ObjectID)
	if !ok || sp.Type != directory.TypeManagedIdentity {
		return Answer{}, sp, refuse("invalid_request", 700016, "Identity not found. The machine has no managed identity. Assign one: sally vm identity assign.")
	}
	form := url.Values{}
	if m.Confirmation != "" {
		form.Set("token_type", "ssh-cert")
		form.Set("scope", s.Audiences(SSH)[0]+"/"+defaultScope)
		form.Set("req_cnf", m.Confirmation)
		form.Set("key_id", m.KeyID)
		form.Set("machine", m.Machine)
	} else if m.Resource == "" {
		return Answer{}, sp, missing("resource")
	} else {
		form.Set("scope", strings.TrimSuffix(m.Resource, "/"+defaultScope)+"/"+defaultScope)
	}
	by.Client = sp.AppID
	x := &exchange{Request: Request{Form: form}, by: by, client: directory.Application{AppID: sp.AppID, DisplayName: sp.DisplayName}, proof: proofKey}
	if err := x.readType(); err != nil {
		return Answer{}, sp, err
	}
	if err := s.readScope(x, ""); err != nil {
		return Answer{}, sp, err
	}
	a, err := s.answer(ctx, x, session{grant: grantManaged, app: sp, isApp: true, caller: m.Caller, factors: map[string]time.Time{"machine": by.At}, signedInAt: by.At})
	return a, sp, errFault(err)
}
