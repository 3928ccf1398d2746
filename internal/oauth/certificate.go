package oauth

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/oauth/token"
	"sallyport/internal/sshca"
)

// certificate is the one function through which every user certificate passes,
// from any grant: may this client ask -> may this session have one -> which
// certificate -> its record. The record is durable before the certificate is
// returned: no audit, no certificate. A refresh costs exactly one insert.
func (s *Service) certificate(ctx context.Context, x *exchange, n session) (Answer, error) {
	decision, err := s.mayHaveCertificate(x, &n)
	by := n.acting(x.by)
	if err != nil {
		return Answer{}, s.denied(ctx, by, x.scope, n.grant, err)
	}
	request, err := s.certificateRequest(x, n, decision)
	if err != nil {
		return Answer{}, s.denied(ctx, by, x.scope, n.grant, err)
	}
	cert, err := s.cfg.Issuer.Issue(request)
	if fault.Is(err, fault.Invalid) {
		return Answer{}, s.denied(ctx, by, x.scope, n.grant, refuse("invalid_request", 9002331, "The certificate was refused: %s", fault.As(err).Public()))
	}
	if err != nil {
		return Answer{}, err
	}
	a := Answer{
		TokenType: "ssh-cert", Scope: x.scope.Text, AccessToken: base64.StdEncoding.EncodeToString(cert.Marshal()),
		ExpiresIn: int64(request.Lifetime/time.Second) - 1,
	}
	a.ExtExpiresIn = a.ExpiresIn
	begin, err := s.certificateCompanions(x, n, &a)
	if err != nil {
		return Answer{}, err
	}
	event := certificateEvent(n, begin, request, cert, decision)
	if err := s.record(ctx, by, n, begin, event); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// mayHaveCertificate: the client, then the account, then policy.
func (s *Service) mayHaveCertificate(x *exchange, n *session) (conditional.Decision, error) {
	if err := s.gate(n.principal(), true); err != nil {
		return conditional.Decision{}, err
	}
	if err := s.certificateClient(x, n.isApp); err != nil {
		return conditional.Decision{}, err
	}
	sp, ok := s.cfg.Directory.ServicePrincipalByAppID(directory.LinuxSignIn)
	if !ok {
		return conditional.Decision{}, refuse("invalid_resource", 500011, "The resource principal 'Azure Linux VM Sign-In' (%s) was not found in the tenant. Run: sally ad sp create --id %s", directory.LinuxSignIn, directory.LinuxSignIn)
	}
	if !sp.Enabled {
		return conditional.Decision{}, refuse("unauthorized_client", 7000112, "The application 'Azure Linux VM Sign-In' (%s) is disabled. Ask an Application Administrator to enable it.", directory.LinuxSignIn)
	}
	return s.admit(x, n)
}

// certificateClient: certificates of people only through the command lines and
// clients that an administrator pre-authorized; a service principal asks for
// itself.
func (s *Service) certificateClient(x *exchange, isApp bool) error {
	id := x.client.AppID
	switch {
	case isApp && x.proof != proofNone:
		return nil
	case !isApp && (id == directory.AzureCLI || id == directory.SallyCLI):
		return nil
	case !isApp && x.machine != "" && x.machine == x.get("machine"):
		return nil
	case !isApp && s.cfg.PreAuthorized != nil && s.cfg.PreAuthorized(id):
		return nil
	}
	return refuse("unauthorized_client", 65002, "The client '%s' may not ask for SSH certificates: it is not pre-authorized. Use sally or az, or ask an administrator to pre-authorize the client.", id)
}

// certificateRequest decides everything that the certificate says.
func (s *Service) certificateRequest(x *exchange, n session, d conditional.Decision) (sshca.Request, error) {
	text := x.get("req_cnf")
	if text == "" {
		return sshca.Request{}, missing("req_cnf")
	}
	key, err := parseConfirmation(text)
	if err != nil {
		return sshca.Request{}, err
	}
	if len(x.get("key_id")) > 256 {
		return sshca.Request{}, refuse("invalid_request", 90014, "The parameter 'key_id' is too long.")
	}
	life := d.Lifetime
	if s.cfg.Longest > 0 {
		life = min(life, s.cfg.Longest)
	}
	if !n.until.IsZero() {
		life = min(life, n.until.Sub(x.by.At))
	}
	if life = life.Truncate(time.Second); life < sshca.MinLifetime {
		return sshca.Request{}, refuse("invalid_grant", 700082, "The sign-in that the certificate would rest on is about to expire. Run: sally login")
	}
	extensions := map[string]string{
		"permit-pty": "", "permit-agent-forwarding": "", "permit-port-forwarding": "", "permit-X11-forwarding": "", "permit-user-rc": "",
		sshca.ExtObjectID: n.principal(), sshca.ExtTenant: s.cfg.Directory.Tenant().ID,
		sshca.ExtIssued: strconv.FormatInt(x.by.At.UnixMicro(), 10), sshca.ExtFactors: factorText(n.factors), sshca.ExtPolicy: d.Revision,
	}
	if machine := x.get("machine"); machine != "" {
		id, ok := guid.Parse(machine)
		if !ok {
			return sshca.Request{}, refuse("invalid_request", 90014, "The parameter 'machine' must be a machine's id.")
		}
		extensions[sshca.ExtMachine] = id
	}
	principals := []string{n.principal()}
	if !n.isApp {
		principals = []string{n.user.UPN, n.user.ID} // az logs in as the first
	}
	return sshca.Request{Type: sshca.User, PublicKey: key, Principals: principals, KeyID: x.by.CorrelationID, IssuedAt: x.by.At, Lifetime: life, Extensions: extensions}, nil
}

// certificateCompanions: a refresh answers with the certificate alone (client
// info costs nothing and MSAL wants it); a new sign-in gets everything.
func (s *Service) certificateCompanions(x *exchange, n session, a *Answer) (*token.Family, error) {
	if n.family == nil {
		return s.companions(x, n, a)
	}
	if x.get("client_info") == "1" {
		a.ClientInfo = s.clientInfo(n.user.ID)
	}
	return nil, nil
}

// certificateEvent is the record of a certificate. It names what the certificate
// rests on, which revoking that looks for.
func certificateEvent(n session, begin *token.Family, r sshca.Request, cert *ssh.Certificate, d conditional.Decision) audit.Event {
	detail := map[string]string{
		"serial": strconv.FormatUint(cert.Serial, 10), "keyId": cert.KeyId, "principals": strings.Join(cert.ValidPrincipals, ","), "fingerprint": ssh.FingerprintSHA256(cert.Key),
		"authority":  ssh.FingerprintSHA256(cert.SignatureKey),
		"validAfter": time.Unix(int64(cert.ValidAfter), 0).UTC().Format(time.RFC3339), "validBefore": time.Unix(int64(cert.ValidBefore), 0).UTC().Format(time.RFC3339),
		"grant": n.grant, "factors": factorText(n.factors), "policy": d.Revision,
	}
	switch {
	case n.family != nil:
		detail["family"] = n.family.ID
	case begin != nil:
		detail["family"] = begin.ID
	}
	if n.id != "" {
		detail["session"] = n.id
	}
	if n.caller != "" {
		detail["caller"] = n.caller
	}
	if m := r.Extensions[sshca.ExtMachine]; m != "" {
		detail["machine"] = m
	}
	return audit.Event{Type: "certificate.issue", Outcome: audit.Success, Target: n.principal(), Detail: n.reported(detail)}
}
