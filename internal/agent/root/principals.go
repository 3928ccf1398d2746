package root

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/grants"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
	"sallyport/internal/machine/protocol"
)

// Extensions of a certificate (docs/certificate-profile.md).
const (
	extObjectID = "object-id@sallyport"
	extIssued   = "issued@sallyport"
	extTenant   = "tenant@sallyport"
	extFactors  = "factors@sallyport"
	extMachine  = "machine@sallyport"
)

// connections remembers which certificate sshd showed for which of its
// processes. A record is for one process (pid and start time), the last one
// counts, it is used once, and it is short-lived.
//
// admitted keeps the certificates of connections that PAM has let in, until the
// session opens: what was decided in between must not be missed.
type connections struct {
	mu       sync.Mutex
	records  map[int]record
	admitted map[int]record
}

type record struct {
	start       uint64 // of the sshd process
	login       string
	certificate grants.Certificate
	at          time.Duration // boot clock
	correlation string        // of the decision that let it in
	monitor     proc.Process  // that opens the session, where PAM asked in a child of it
}

// maxRecords bounds memory; sshd's MaxStartups is far below.
const maxRecords = 4096

func (c *connections) put(pid int, r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = keep(c.records, pid, r)
}

// admit keeps the record of a process that PAM has let in.
func (c *connections) admit(pid int, r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admitted = keep(c.admitted, pid, r)
}

// keep forgets what is too old to count. A login that takes as long as a record
// lives, twice, has to be repeated.
func keep(m map[int]record, pid int, r record) map[int]record {
	if m == nil {
		m = map[int]record{}
	}
	for old, x := range m {
		if r.at-x.at > 2*grants.ConnectionAge || len(m) >= maxRecords {
			delete(m, old)
		}
	}
	m[pid] = r
	return m
}

// take removes the record of a process, whatever is decided with it.
func (c *connections) take(p proc.Process) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return pull(c.records, p)
}

// opened removes what admit kept.
func (c *connections) opened(p proc.Process) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return pull(c.admitted, p)
}

func pull(m map[int]record, p proc.Process) (record, bool) {
	r, ok := m[p.PID]
	delete(m, p.PID)
	return r, ok && r.start == p.Start
}

// Principals answers sshd's AuthorizedPrincipalsCommand: the object id that a
// certificate must name to open the account. It decides nothing about roles;
// PAM does, with a sentence. Nothing is answered for a certificate that is not
// ours in every respect.
func (s *Service) Principals(_ context.Context, peer shim.Peer, r shim.PrincipalsRequest) (string, bool) {
	id, err := s.principal(peer, r)
	if err != nil {
		s.cfg.Log("no principal for %s: %v", r.User, err)
		return "", false
	}
	return id, true
}

func (s *Service) principal(peer shim.Peer, r shim.PrincipalsRequest) (string, error) {
	parent, err := s.sshdOf(peer.PID)
	if err != nil {
		return "", err
	}
	if visit := s.visiting(r.User); visit != nil {
		return visit.principal(parent, r)
	}
	if err := s.guarded(); err != nil {
		return "", err
	}
	v := s.now()
	person := v.people[r.User]
	if person == nil {
		return "", errors.New("not in the snapshot")
	}
	cert, err := s.certificate(v, r, person.ObjectID)
	if err != nil {
		return "", err
	}
	// The helper is still waiting for this answer, so its parent cannot have
	// become another process unseen.
	if again, err := s.sshdOf(peer.PID); err != nil || !again.Same(parent) {
		return "", errors.New("the asking sshd is gone")
	}
	_, elapsed := s.cfg.Boot()
	s.conns.put(parent.PID, record{start: parent.Start, login: r.User, certificate: cert, at: elapsed})
	return person.ObjectID, nil
}

// guarded refuses to open the first door where the second is not there: roles are
// checked by PAM, so nothing is answered while sshd would not ask it, or it not us.
// Nobody reads a sentence then, which is the lesser evil.
func (s *Service) guarded() error {
	s.mu.RLock()
	r := s.reached
	s.mu.RUnlock()
	if !r.wired {
		return errors.New("the machine is not wired, or a change is under way")
	}
	if r.open {
		return fmt.Errorf("drift: %s", r.drift)
	}
	return s.cfg.Wiring.Asks()
}

// sshdOf returns the sshd that started the helper: the process in which PAM will
// run for this connection (host-facts, section 3).
func (s *Service) sshdOf(helper int) (proc.Process, error) {
	h, err := s.cfg.Processes.Read(helper)
	if err != nil {
		return proc.Process{}, err
	}
	p, err := s.cfg.Processes.Read(h.PPID)
	if err != nil {
		return proc.Process{}, err
	}
	// sshd borrows the helper's user as its effective uid while it reads the
	// answer, so only the real and the saved uid say whose process it is.
	if p.UIDs[0] != 0 || p.UIDs[2] != 0 || !p.SSHD() {
		return proc.Process{}, fmt.Errorf("the helper's parent %d is no sshd of root", p.PID)
	}
	return p, nil
}

// certificate reads and verifies what sshd was shown. sshd verifies it as well;
// this is the second decision, from the manifest and not from a file.
func (s *Service) certificate(v view, r shim.PrincipalsRequest, objectID string) (grants.Certificate, error) {
	none := grants.Certificate{}
	blob, err := base64.StdEncoding.DecodeString(r.Certificate)
	if err != nil {
		return none, err
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return none, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.UserCert {
		return none, errors.New("not a user certificate")
	}
	if strconv.FormatUint(cert.Serial, 10) != r.Serial || cert.KeyId != r.KeyID {
		return none, errors.New("sshd's words and the certificate differ")
	}
	// CheckCert does not look at who signed; that comes below.
	check := ssh.CertChecker{Clock: s.cfg.Now, SupportedCriticalOptions: []string{"force-command", "verify-required"}}
	if err := check.CheckCert(objectID, cert); err != nil {
		return none, err
	}
	// To CheckCert an empty list means everybody (CVE-2024-7594).
	if !slices.Contains(cert.ValidPrincipals, objectID) {
		return none, errors.New("does not name the object id")
	}
	if !slices.ContainsFunc(v.userCAs, func(ca ssh.PublicKey) bool { return bytes.Equal(ca.Marshal(), cert.SignatureKey.Marshal()) }) {
		return none, errors.New("signed by a key that is not a user CA of this deployment")
	}
	if tenant := cert.Extensions[extTenant]; tenant != s.cfg.Pins.Tenant {
		return none, fmt.Errorf("made for tenant %q", tenant)
	}
	issued, err := issuedAt(cert)
	if err != nil {
		return none, err
	}
	return grants.Certificate{
		KeyID: cert.KeyId, Serial: r.Serial, Authority: ssh.FingerprintSHA256(cert.SignatureKey), ObjectID: cert.Extensions[extObjectID], Tenant: cert.Extensions[extTenant], Machine: cert.Extensions[extMachine],
		Principals: cert.ValidPrincipals, Factors: factors(cert.Extensions[extFactors]),
		IssuedAt: issued, ValidBefore: time.Unix(int64(min(cert.ValidBefore, 1<<62)), 0),
	}, nil
}

// issuedAt reads the exact time of issue, which must lie in the second that
// ValidAfter tells. A certificate of an older server has only that second; its
// beginning is taken, so that a doubt refuses.
func issuedAt(cert *ssh.Certificate) (time.Time, error) {
	second := time.Unix(int64(min(cert.ValidAfter, 1<<40)), 0).Add(protocol.Backdate)
	text, exact := cert.Extensions[extIssued]
	if !exact {
		return second, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if at := time.UnixMicro(n); err == nil && !at.Before(second) && at.Before(second.Add(time.Second)) {
		return at, nil
	}
	return time.Time{}, errors.New("its time of issue is not that of its validity")
}

// factors reads "pwd:UNIXTIME,otp:UNIXTIME"; what is malformed is no factor.
func factors(text string) map[string]time.Time {
	m := map[string]time.Time{}
	for part := range strings.SplitSeq(text, ",") {
		name, at, ok := strings.Cut(part, ":")
		if n, err := strconv.ParseInt(at, 10, 64); ok && err == nil && name != "" {
			m[name] = time.Unix(n, 0)
		}
	}
	return m
}
