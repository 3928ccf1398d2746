package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth/token"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

const (
	robotMachine = "99999999-0000-4000-8000-000000000010"
	robotID      = "99999999-0000-4000-8000-000000000011"
	robotApp     = "99999999-0000-4000-8000-000000000012"
	// An Ed25519 public key, RFC 8037 appendix A.2.
	robotKey = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
)

// robot is a machine with a managed identity.
type robot struct {
	*castle
	vm string
	by audit.By
}

func newRobot(t *testing.T) *robot {
	t.Helper()
	c := newCastle(t)
	r := &robot{castle: c, vm: c.subscription() + "/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm",
		by: audit.By{Principal: robotMachine, Type: audit.Machine, CorrelationID: zeroID, At: time.Now()}}
	r.put(&resource.Identity{Type: resource.SystemAssigned, PrincipalID: robotID})
	c.must(c.d.follow.Write(t.Context(), func(tx *store.Tx) error {
		uid, err := tx.NextPOSIXID()
		if err != nil {
			return err
		}
		return tx.PutServicePrincipal(directory.ServicePrincipal{ID: robotID, AppID: robotApp, DisplayName: "vm", Type: directory.TypeManagedIdentity, ResourceID: r.vm, UID: uid, Enabled: true})
	}))
	return r
}

// put writes the machine's resource, with an identity or without.
func (r *robot) put(id *resource.Identity) {
	r.t.Helper()
	vm, err := scope.Parse(r.vm)
	r.must(err)
	r.must(r.d.follow.Write(r.t.Context(), func(tx *store.Tx) error {
		return tx.PutResource(resource.Resource{ID: vm, Location: "westeurope", Tags: map[string]string{"role": "web"}, Identity: id, State: resource.Succeeded, Revision: 1, Observed: 1, ETag: "1",
			Properties: json.RawMessage(`{"hardwareProfile":{"vmSize":"Standard_B1s"}}`), Private: json.RawMessage(`{"machineId":"` + robotMachine + `"}`)})
	}))
}

func (r *robot) mint(resource string) (protocol.IdentityToken, error) {
	return identities{r.d}.IdentityToken(r.t.Context(), r.by, protocol.IdentityTokenRequest{Resource: resource, Caller: "root"})
}

// ask calls the doors with a token.
func (r *robot) ask(token, method, path, body string) (int, string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	r.doors.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func (r *robot) oauth(form url.Values) (int, string) {
	req := httptest.NewRequest("POST", "/organizations/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	r.doors.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// A managed identity's token says what Entra's says, works while the identity is
// there, and not a moment longer.
func TestIdentity_TokenOfAMachine(t *testing.T) {
	r := newRobot(t)
	for _, resource := range []string{"https://login.corp.example/arm", "https://management.azure.com/", "https://management.core.windows.net/", "https://graph.microsoft.com/"} {
		if answer, err := r.mint(resource); err != nil || answer.Resource != resource || answer.ClientID != robotApp || answer.ObjectID != robotID || answer.TokenType != "Bearer" || answer.ExpiresIn < 3000 {
			t.Errorf("%s: %+v %v", resource, answer, err)
		}
	}
	answer, err := r.mint("https://management.azure.com/")
	r.must(err)
	var c token.Claims
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(answer.AccessToken, ".")[1])
	r.must(err)
	r.must(json.Unmarshal(raw, &c))
	if c.IDType != "app" || c.ObjectID != robotID || c.Subject != robotID || c.AppID != robotApp || c.AppIDACR != "2" || c.ManagedResource != r.vm || c.Audience != "https://management.azure.com/" || c.TenantID != r.d.directory.Tenant().ID {
		t.Fatalf("%+v", c)
	}
	sub := r.subscription() + "?api-version=2022-12-01"
	if code, body := r.ask(answer.AccessToken, "GET", sub, ""); code != 403 {
		t.Fatalf("without a role: %d %s", code, body)
	}
	r.assign(r.subscription(), rbac.Reader, robotID)
	if code, body := r.ask(answer.AccessToken, "GET", sub, ""); code != 200 {
		t.Fatalf("with a role: %d %s", code, body)
	}
	if i, err := (identities{r.d}).Instance(t.Context(), r.by); err != nil || i.ResourceID != r.vm || i.Location != "westeurope" || i.Size != "Standard_B1s" || i.Tags["role"] != "web" || i.ClientID != robotApp {
		t.Errorf("%+v %v", i, err)
	}
	// The identity is taken away: no new token, and the old one is dead.
	r.put(nil)
	if _, err := r.mint("https://management.azure.com/"); fault.As(err).Code != "invalid_request" || !strings.Contains(fault.As(err).Text, "Identity not found") {
		t.Errorf("without an identity: %v", err)
	}
	r.must(r.d.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteServicePrincipal(robotID) }))
	if code, body := r.ask(answer.AccessToken, "GET", sub, ""); code != 401 {
		t.Fatalf("the identity is gone: %d %s", code, body)
	}
}

// Who is told no, and nothing is minted: a machine of no resource, resources
// that do not exist, the SSH resource as a bearer token, an application that is
// no managed identity, unprintable callers.
func TestIdentity_Refusals(t *testing.T) {
	r := newRobot(t)
	for resource, code := range map[string]string{"": "invalid_request", "https://vault.example": "invalid_resource", "https://pas.windows.net/CheckMyAccess/Linux": "invalid_request",
		"https://PAS.windows.net/CheckMyAccess/Linux/x": "invalid_scope", directory.LinuxSignIn: "invalid_scope", "https://management.azure.com/ https://graph.microsoft.com/": "invalid_scope"} {
		if answer, err := r.mint(resource); err == nil || fault.As(err).Code != code || fault.As(err).Kind != fault.Invalid {
			t.Errorf("%q: %+v %v", resource, answer, err)
		}
	}
	stranger := r.by
	stranger.Principal = zeroID
	if _, err := (identities{r.d}).IdentityToken(t.Context(), stranger, protocol.IdentityTokenRequest{Resource: "https://management.azure.com/"}); fault.As(err).Code != "MachineGone" {
		t.Error(err)
	}
	for _, caller := range []string{"a\nb", "a\x7f", strings.Repeat("a", protocol.MaxCaller+1)} {
		if _, err := (identities{r.d}).IdentityToken(t.Context(), r.by, protocol.IdentityTokenRequest{Resource: "https://management.azure.com/", Caller: caller}); err == nil {
			t.Errorf("the caller %q", caller)
		}
	}
	_, sp := r.application("tool")
	r.put(&resource.Identity{Type: resource.SystemAssigned, PrincipalID: sp})
	if _, err := r.mint("https://management.azure.com/"); err == nil {
		t.Error("an application stood in for a managed identity")
	}
	r.put(&resource.Identity{Type: resource.SystemAssigned, PrincipalID: robotID})
	r.must(r.d.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.PutRestoreFact(restored{ID: "r", At: time.Now()}) }))
	if _, err := r.mint("https://management.azure.com/"); fault.As(err).Code != codeRestored {
		t.Errorf("while a restore waits: %v", err)
	}
}

// The token of a managed identity proves nothing to anybody but the resource
// that it is for: no grant takes it, and no door of a machine.
func TestIdentity_TokenIsNoAssertion(t *testing.T) {
	r := newRobot(t)
	answer, err := r.mint("https://login.corp.example/arm")
	r.must(err)
	const assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	ssh := "https://pas.windows.net/CheckMyAccess/Linux/.default"
	for name, form := range map[string]url.Values{
		"as a client's assertion":       {"grant_type": {"client_credentials"}, "client_id": {robotApp}, "client_assertion_type": {assertion}, "client_assertion": {answer.AccessToken}, "scope": {ssh}},
		"as one that names the client":  {"grant_type": {"client_credentials"}, "client_assertion_type": {assertion}, "client_assertion": {answer.AccessToken}, "scope": {ssh}},
		"on behalf of":                  {"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {directory.AzureCLI}, "assertion": {answer.AccessToken}, "requested_token_use": {"on_behalf_of"}, "scope": {ssh}},
		"exchanged":                     {"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {directory.SallyCLI}, "subject_token": {answer.AccessToken}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "scope": {ssh}},
		"as a refresh token":            {"grant_type": {"refresh_token"}, "client_id": {directory.SallyCLI}, "refresh_token": {answer.AccessToken}, "scope": {ssh}, "token_type": {"ssh-cert"}, "req_cnf": {robotKey}},
		"as a secret":                   {"grant_type": {"client_credentials"}, "client_id": {robotApp}, "client_secret": {answer.AccessToken}, "scope": {ssh}, "token_type": {"ssh-cert"}, "req_cnf": {robotKey}},
		"without any proof":             {"grant_type": {"client_credentials"}, "client_id": {robotApp}, "scope": {ssh}, "token_type": {"ssh-cert"}, "req_cnf": {robotKey}},
		"by the name of the record":     {"grant_type": {"managed_identity"}, "client_id": {robotApp}, "scope": {ssh}, "token_type": {"ssh-cert"}, "req_cnf": {robotKey}},
		"as a password of the identity": {"grant_type": {"password"}, "client_id": {directory.AzureCLI}, "username": {robotID}, "password": {answer.AccessToken}, "scope": {ssh}},
	} {
		if code, body := r.oauth(form); code == 200 || strings.Contains(body, "access_token\"") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	for _, path := range []string{"/machine/v1/token", "/machine/v1/certificate", "/machine/v1/poll"} {
		if code, body := r.ask(answer.AccessToken, "POST", path, `{}`); code != 401 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := r.ask(answer.AccessToken, "GET", "/v1.0/me", ""); code != 401 {
		t.Errorf("at another resource: %d %s", code, body)
	}
}

// The certificate is the identity's alone, for exactly the key that was named,
// and of the same rules as every other.
func TestIdentity_CertificateOfAMachine(t *testing.T) {
	r := newRobot(t)
	get := func(confirmation, machine string) (protocol.IdentityToken, error) {
		return identities{r.d}.IdentityCertificate(t.Context(), r.by, protocol.IdentityCertificateRequest{Confirmation: confirmation, Machine: machine, Caller: "root"})
	}
	answer, err := get(robotKey, zeroID)
	r.must(err)
	blob, err := base64.StdEncoding.DecodeString(answer.AccessToken)
	r.must(err)
	key, err := ssh.ParsePublicKey(blob)
	r.must(err)
	cert, ok := key.(*ssh.Certificate)
	if !ok || answer.TokenType != "ssh-cert" || cert.CertType != ssh.UserCert || len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != robotID || cert.Extensions[sshca.ExtObjectID] != robotID || cert.Extensions[sshca.ExtMachine] != zeroID {
		t.Fatalf("%+v %+v", answer, cert)
	}
	// CVE-2025-49825: what is offered as a key is never a certificate; CVE-2024-7594: nobody's principals are empty.
	for name, bad := range map[string]string{"no key": "", "a certificate": `{"kty":"ssh","key":"` + base64.StdEncoding.EncodeToString(cert.Marshal()) + `"}`, "nonsense": "{}"} {
		if _, err := get(bad, ""); fault.As(err).Kind != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := get(robotKey, "*"); fault.As(err).Kind != fault.Invalid {
		t.Errorf("machine *: %v", err)
	}
	var own bytes.Buffer
	for _, k := range r.d.manifest.For(protocol.UserCA) {
		pub, err := ssh.NewPublicKey(k)
		r.must(err)
		own.WriteString(base64.StdEncoding.EncodeToString(pub.Marshal()))
	}
	if _, err := get(`{"kty":"ssh","key":"`+own.String()+`"}`, ""); fault.As(err).Kind != fault.Invalid {
		t.Errorf("the CA's own key: %v", err)
	}
	r.put(nil)
	if _, err := get(robotKey, ""); !strings.Contains(fault.As(err).Text, "Identity not found") {
		t.Errorf("without an identity: %v", err)
	}
}
