package oauth

import (
	"context"
	"net/url"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
)

// The proofs of a client, as the appidacr claim counts them.
const (
	proofNone   = "0"
	proofSecret = "1"
	proofKey    = "2"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2

// Request is a token or device authorization request.
type Request struct {
	Authority Authority
	Form      url.Values
	BasicID   string // HTTP Basic, form-decoded (RFC 6749 section 2.3.1)
	BasicKey  string
	Basic     bool
}

// exchange is one token request being answered.
type exchange struct {
	Request
	by     audit.By
	client directory.Application
	proof  string // how the client proved itself
	scope  Scope
	cert   bool // token_type=ssh-cert
	// machine is the machine whose own key asked for its person's certificate; no
	// request at the token endpoint sets it.
	machine string
}

func (r Request) get(name string) string { return r.Form.Get(name) }

// authenticateClient finds the client and checks its proof. A confidential
// client without proof and a public client with one are both refused.
func (s *Service) authenticateClient(ctx context.Context, by audit.By, r Request) (*exchange, error) {
	id := strings.ToLower(r.get("client_id"))
	if r.Basic {
		if id != "" && id != strings.ToLower(r.BasicID) {
			return nil, badClient(700016, "The client id of the Authorization header and that of the body differ.")
		}
		id = strings.ToLower(r.BasicID)
	}
	if id == "" {
		id = assertedClient(r.get("client_assertion"))
	}
	if id == "" {
		return nil, missing("client_id")
	}
	app, found := s.cfg.Directory.Application(id)
	if !found {
		return nil, refuse("unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory. Check the client id, or register it: sally ad sp create-for-rbac.", show(id))
	}
	if sp, ok := s.cfg.Directory.ServicePrincipalByAppID(app.AppID); ok && !sp.Enabled {
		return nil, refuse("unauthorized_client", 7000112, "Application '%s' is disabled. Ask an Application Administrator to enable it.", app.AppID)
	}
	by.Client = app.AppID
	x := &exchange{Request: r, by: by, client: app, proof: proofNone}
	return x, s.proveClient(ctx, x)
}

func (s *Service) proveClient(ctx context.Context, x *exchange) error {
	secret, assertion := x.get("client_secret"), x.get("client_assertion")
	if x.Basic && x.BasicKey != "" {
		if secret != "" {
			return badClient(7000216, "The client secret is given twice: in the Authorization header and in the body. Give it once.")
		}
		secret = x.BasicKey
	}
	switch {
	case secret != "" && assertion != "":
		return badClient(7000216, "Both client_secret and client_assertion are given. Give one of them.")
	case x.client.Public && (secret != "" || assertion != ""):
		return badClient(700025, "Client '%s' is public, so neither 'client_assertion' nor 'client_secret' should be presented.", x.client.AppID)
	case x.client.Public:
		return nil
	case assertion != "":
		if x.get("client_assertion_type") != assertionType {
			return badClient(900144, "The client_assertion_type must be %s.", assertionType)
		}
		x.proof = proofKey
		return s.checkAssertion(ctx, x, assertion)
	case secret == "":
		return badClient(7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	x.proof = proofSecret
	status, err := s.cfg.Clients.VerifySecret(ctx, x.client.AppID, secret)
	switch {
	case err != nil:
		return err
	case status == credential.ClientOK:
		return nil
	case status == credential.ClientExpired:
		return badClient(7000222, "The provided client secret keys for app '%s' are expired. Make a new one: sally ad sp credential reset --id %s.", x.client.AppID, x.client.AppID)
	}
	return badClient(7000215, "Invalid client secret provided for app '%s'. Check that it is the secret's value, not its id; a new one: sally ad sp credential reset --id %s.", x.client.AppID, x.client.AppID)
}
