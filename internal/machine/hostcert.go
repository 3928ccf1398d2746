package machine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// proofAge is how old a host key proof may be, and how far ahead.
const proofAge = 5 * time.Minute

// HostCertificate issues a host certificate to a joined machine that proves its
// host key. The principal comes from the machine record and the tenant, never
// from the request.
func (s *Service) HostCertificate(ctx context.Context, by audit.By, r protocol.HostCertificateRequest) (protocol.HostCertificateAnswer, error) {
	m, ok := s.cfg.Machines.ByID(by.Principal)
	if !ok {
		return protocol.HostCertificateAnswer{}, errUnknownMachine()
	}
	if err := s.held(); err != nil {
		return protocol.HostCertificateAnswer{}, err
	}
	_, manifest := s.cfg.Keys.Manifest()
	line, err := proven(r.Proof, m.ID, manifest.Tenant, by.At)
	if err != nil {
		return protocol.HostCertificateAnswer{}, err
	}
	principal := protocol.HostPrincipal(m.ID, manifest.Domains[0])
	cert, err := s.cfg.Issuer.IssueHost(HostRequest{PublicKey: line, Principal: principal, KeyID: by.CorrelationID, At: by.At})
	if err != nil {
		return protocol.HostCertificateAnswer{}, fmt.Errorf("host certificate: %w", err)
	}
	s.seen(m.ID)
	err = s.cfg.Write(ctx, func(t Tx) error {
		if err := prove(t, m, line); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "hostCertificate.issue", Outcome: audit.Success, Target: m.ResourceID.String(), Detail: map[string]string{
			"principal": principal, "serial": strconv.FormatUint(cert.Serial, 10), "hostKey": line, "validBefore": cert.ValidBefore.UTC().Format(time.RFC3339)}})
	})
	if err != nil {
		return protocol.HostCertificateAnswer{}, err
	}
	return protocol.HostCertificateAnswer{Certificate: cert.Line, ValidBefore: cert.ValidBefore}, nil
}

// prove stores which host key the machine holds, if that is new. The machine has
// to be the one that asked: it may have joined again meanwhile.
func prove(t Tx, asked Machine, line string) error {
	m, ok, err := t.MachineByID(asked.ID)
	if err != nil {
		return err
	}
	if !ok || m.Thumbprint != asked.Thumbprint {
		return errUnknownMachine()
	}
	if m.ProvenKey == line {
		return nil
	}
	m.ProvenKey = line
	return t.PutMachine(m)
}

// proven returns the host key that signed the proof.
func proven(e protocol.Envelope, machineID, tenant string, at time.Time) (string, error) {
	refuse := func(what string) error {
		return fault.New(fault.Invalid, "HostKeyProofRefused", "the host key proof is refused: %s", what)
	}
	if len(e.Payload) > 64<<10 {
		return "", refuse("it is too large")
	}
	var p protocol.HostKeyProof
	if err := protocol.Decode(e.Payload, &p); err != nil {
		return "", refuse("it cannot be read")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(p.HostKey))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return "", refuse("it names no host key")
	}
	// CVE-2025-49825: a certificate is not a key.
	if _, isCert := key.(*ssh.Certificate); isCert {
		return "", refuse("a certificate is no host key")
	}
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return "", refuse("host keys of this type are not supported")
	}
	if _, err := e.Open(crypto.CryptoPublicKey(), protocol.TypeHostKey); err != nil {
		return "", refuse("it is not signed by the key that it names")
	}
	switch off := at.Sub(p.At); {
	case p.MachineID != machineID || p.Tenant != tenant:
		return "", refuse("it was made for another machine")
	case off > proofAge || off < -proofAge:
		return "", refuse("it was made more than five minutes ago or the machine's clock is wrong")
	}
	return keyText(key), nil
}
