package root

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// hostKey returns the machine's host key that gets the certificate: Ed25519
// where there is one. The key never leaves this process.
func (s *Service) hostKey() (crypto.Signer, ssh.PublicKey, error) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		b, err := durable.Read(s.at(sshFolder+"/ssh_host_"+kind+"_key"), s.cfg.Owner, 64<<10)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		raw, err := ssh.ParseRawPrivateKey(b)
		if err != nil {
			return nil, nil, fault.Wrap(err, fault.Unavailable, "HostKeyUnreadable", "the host key cannot be read")
		}
		if key, ok := raw.(crypto.Signer); ok {
			pub, err := ssh.NewPublicKey(key.Public())
			return key, pub, err
		}
	}
	return nil, nil, fault.New(fault.NotFound, "HostKeyMissing", "this machine has no host key").WithRemedy("Run: ssh-keygen -A")
}

// proof shows that this machine holds its host key: signed by the key itself.
func (s *Service) proof() (*protocol.Envelope, error) {
	key, pub, err := s.hostKey()
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(protocol.HostKeyProof{MachineID: s.cfg.Pins.MachineID, Tenant: s.cfg.Pins.Tenant,
		HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), At: s.cfg.Now().UTC()})
	if err != nil {
		return nil, err
	}
	e, err := protocol.Sign(s.cfg.Rand, key, protocol.TypeHostKey, payload)
	return &e, err
}

// signEvents signs events with the host key, so that the network part cannot
// invent any. A machine without a host key hands them over unsigned.
func (s *Service) signEvents(events []protocol.MachineEvent) *protocol.Envelope {
	if len(events) == 0 {
		return nil
	}
	key, _, err := s.hostKey()
	if err == nil {
		var payload []byte
		if payload, err = json.Marshal(protocol.EventsDocument{MachineID: s.cfg.Pins.MachineID, Tenant: s.cfg.Pins.Tenant, Events: events}); err == nil {
			var e protocol.Envelope
			if e, err = protocol.Sign(s.cfg.Rand, key, protocol.TypeEvents, payload); err == nil {
				return &e
			}
		}
	}
	s.cfg.Log("events are not signed: %v", err)
	return nil
}

// hostKeys lists the public host keys for the report.
func (s *Service) hostKeys() []string {
	var keys []string
	files, _ := filepath.Glob(s.at(sshFolder + "/ssh_host_*_key.pub"))
	for _, f := range files {
		b, err := durable.Read(f, s.cfg.Owner, 64<<10)
		if err != nil {
			continue
		}
		if key, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
			keys = append(keys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
	}
	slices.Sort(keys)
	return keys
}

// HostCertificate takes over a host certificate: of this machine's key, for
// this machine's one name, signed by a host CA of the manifest.
func (s *Service) HostCertificate(line string) error {
	s.deliver.Lock() // or a manifest that comes meanwhile could withdraw its CA unseen
	defer s.deliver.Unlock()
	cert, err := s.checkHost(line, s.now())
	if err != nil {
		return err
	}
	if err := durable.Write(s.at(sshd.HostCertificatePath), ssh.MarshalAuthorizedKey(cert), 0o644); err != nil {
		return err
	}
	s.mu.Lock()
	s.host = hostState{validAfter: time.Unix(int64(cert.ValidAfter), 0), validBefore: time.Unix(int64(cert.ValidBefore), 0), fresh: true}
	s.mu.Unlock()
	s.poke()
	return nil
}

func (s *Service) checkHost(line string, v view) (*ssh.Certificate, error) {
	refuse := func(what string) error { return refused("the host certificate is refused: %s", what) }
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return nil, refuse("it cannot be read")
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.HostCert {
		return nil, refuse("it is not a host certificate")
	}
	_, own, err := s.hostKey()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.Key.Marshal(), own.Marshal()) {
		return nil, refuse("it is for another key")
	}
	if !slices.ContainsFunc(v.hostCAs, func(ca ssh.PublicKey) bool { return bytes.Equal(ca.Marshal(), cert.SignatureKey.Marshal()) }) {
		return nil, refuse("it is signed by a key that is not a host CA of this deployment")
	}
	name := protocol.HostPrincipal(s.cfg.Pins.MachineID, v.manifest.Domains[0])
	if !slices.Equal(cert.ValidPrincipals, []string{name}) || cert.ValidBefore > 1<<40 {
		return nil, refuse("its principal or its end is not this machine's")
	}
	if err := (&ssh.CertChecker{Clock: s.cfg.Now}).CheckCert(name, cert); err != nil {
		return nil, refuse(err.Error())
	}
	return cert, nil
}

// readHost reads the certificate that is in place; one that does not hold for
// this machine counts as none, and is replaced by the next one.
func (s *Service) readHost() hostState {
	b, err := durable.Read(s.at(sshd.HostCertificatePath), s.cfg.Owner, 64<<10)
	if err != nil {
		return hostState{}
	}
	cert, err := s.checkHost(string(b), s.view)
	if err != nil {
		return hostState{}
	}
	return hostState{validAfter: time.Unix(int64(cert.ValidAfter), 0), validBefore: time.Unix(int64(cert.ValidBefore), 0)}
}

// judgeHost looks at the host certificate in place when trust has changed. One of
// a CA that is gone stays in place until its successor comes, which is due now.
func (s *Service) judgeHost(v view) {
	b, err := durable.Read(s.at(sshd.HostCertificatePath), s.cfg.Owner, 64<<10)
	if err == nil {
		_, err = s.checkHost(string(b), v)
	}
	s.mu.Lock()
	s.host.foreign = err != nil
	s.mu.Unlock()
}

// renew is when the certificate is due: at half of its life.
func (h hostState) renew() time.Time {
	if h.validBefore.IsZero() || h.foreign {
		return time.Time{}
	}
	return h.validAfter.Add(h.validBefore.Sub(h.validAfter) / 2)
}

// reloadHost makes sshd read a renewed certificate, unless it has been made to read
// everything just now. Until it has, that is tried with each snapshot.
func (s *Service) reloadHost(ctx context.Context, read bool) {
	s.mu.RLock()
	h := s.host
	s.mu.RUnlock()
	if !h.fresh {
		return
	}
	if !read {
		if err := s.cfg.Reload(ctx); err != nil {
			s.cfg.Log("sshd did not read the new host certificate: %v", err)
			return
		}
	}
	s.mu.Lock()
	if s.host == h { // no newer one has come
		s.host.fresh = false
	}
	s.mu.Unlock()
}
