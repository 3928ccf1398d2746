package root

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/grants"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// approvals are the logins that wait until somebody approves them on a web page:
// the preview version of the extension. One is bound to the process in which PAM
// asks (pid and start time) and to a key whose private half nobody has. The network
// part carries a code that the server signed, and a certificate of that key: it can
// withhold both and make neither.
type approvals struct {
	mu   sync.Mutex
	all  map[string]*approval // by id
	news chan struct{}        // closed and replaced when one is new
}

// approval is one such login.
type approval struct {
	control.Device
	asking, monitor proc.Process // where PAM asks, and the sshd of the connection
	key             ssh.PublicKey
	ends            time.Duration // boot clock
	taken           bool          // by the network part
	code            *protocol.DeviceCode
	state           string // a protocol.Device constant; "" while nobody knows
	certificate     grants.Certificate
	moved           chan struct{} // closed and replaced with each change
}

// The times of an approval. PAM's module waits for three seconds.
const (
	mostApprovals = 16
	mostAnswered  = 64              // with those that were answered and do not ask
	codeWait      = 2 * time.Second // for the server to make a code
	checkWait     = 2 * time.Second // before the module asks again
	graceMargin   = 4 * time.Second // sshd is to say our sentence, not its own
	leastTime     = 10 * time.Second
	clockTick     = 10 * time.Millisecond // of a process's start, proc_pid_stat(5)
)

func newApprovals() *approvals {
	return &approvals{all: map[string]*approval{}, news: make(chan struct{})}
}

// change alters one under the lock and wakes who waits for it.
func (a *approvals) change(x *approval, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(x.moved)
	x.moved = make(chan struct{})
}

// add keeps a new one, unless enough wait. What ended, or whose process is gone, is
// forgotten first. One that was answered, and whose process does not ask, takes no
// place of those that wait.
func (a *approvals) add(x *approval, elapsed time.Duration, alive func(proc.Process) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := 0
	for id, old := range a.all {
		if elapsed > old.ends || !alive(old.asking) {
			delete(a.all, id)
		} else if old.state == "" {
			waiting++
		}
	}
	if len(a.all) >= mostAnswered || waiting >= mostApprovals && !a.displace(x.From) {
		return false
	}
	a.all[x.ID] = x
	close(a.news)
	a.news = make(chan struct{})
	return true
}

// displace refuses the oldest login of the address with most, if that is more than
// from would have: whoever fills the room empties his own. The caller holds mu.
func (a *approvals) displace(from string) bool {
	n, most := map[string]int{}, from
	for _, x := range a.all {
		if x.state != "" {
			continue
		}
		if n[x.From]++; n[x.From] > n[most] {
			most = x.From
		}
	}
	if n[most] <= n[from]+1 {
		return false
	}
	var oldest *approval
	for _, x := range a.all {
		if x.state == "" && x.From == most && (oldest == nil || x.ends < oldest.ends) {
			oldest = x
		}
	}
	oldest.state = protocol.DeviceTooMany
	close(oldest.moved)
	oldest.moved = make(chan struct{})
	return true
}

// answered reports whether it is known what became of one.
func (a *approvals) answered(x *approval) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return x.state != ""
}

// of finds the one that a process waits for.
func (a *approvals) of(p proc.Process, login string) *approval {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.all {
		if x.asking.Same(p) && x.Login == login {
			return x
		}
	}
	return nil
}

func (a *approvals) byID(id string) (*approval, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x, ok := a.all[id]
	return x, ok
}

func (a *approvals) drop(x *approval) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, x.ID)
}

// until waits for something about x to be so.
func (a *approvals) until(ctx context.Context, x *approval, d time.Duration, so func() bool) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		a.mu.Lock()
		done, moved := so(), x.moved
		a.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// beginApproval answers PAM's first question with the code to type.
func (s *Service) beginApproval(ctx context.Context, peer shim.Peer, r shim.PAMRequest) shim.PAMAnswer {
	in, err := s.input(r)
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	deny := func(state string) shim.PAMAnswer {
		d := grants.Decision{Reason: "approval-" + state, Text: grants.Approval(state, r.User, in.CorrelationID)}
		s.note(in, d, r)
		return shim.PAMAnswer{Text: d.Text}
	}
	v := s.now()
	if in.Way != grants.SSH || guid.Valid(r.User) || v.doc != nil && !v.doc.Preview {
		return deny(protocol.DeviceNotAllowed)
	}
	// What is wrong with the machine or the name is said at once; what the person may
	// do here only to the person.
	if d := grants.Decide(in); d.Reason != "no-certificate" {
		s.note(in, d, r)
		return shim.PAMAnswer{Text: d.Text}
	}
	x, err := s.newApproval(ctx, peer, r, in.Person.ObjectID)
	if err != nil {
		s.cfg.Log("no approval for %s: %v", r.User, err)
		return shim.PAMAnswer{Text: away}
	}
	_, elapsed := s.cfg.Boot()
	if x.ends-elapsed < leastTime {
		return deny(protocol.DeviceNoTime)
	}
	if !s.approvals.add(x, elapsed, s.alive) {
		return deny(protocol.DeviceTooMany)
	}
	s.approvals.until(ctx, x, codeWait, func() bool { return x.code != nil || x.state != "" })
	s.approvals.mu.Lock()
	code, state := x.code, x.state
	s.approvals.mu.Unlock()
	if code == nil {
		s.approvals.drop(x)
		if state == "" {
			state = protocol.DeviceAway
		}
		return deny(state)
	}
	_, elapsed = s.cfg.Boot()
	name := protocol.MachineName(v.doc.ResourceID)
	return shim.PAMAnswer{Prompt: grants.Prompt(name, r.User, s.cfg.Pins.URL, code.UserCode, x.ends-elapsed)}
}

func (s *Service) alive(p proc.Process) bool {
	now, err := s.cfg.Processes.Read(p.PID)
	return err == nil && now.Same(p)
}

// newApproval binds a login to the processes that ask and to a new key.
func (s *Service) newApproval(ctx context.Context, peer shim.Peer, r shim.PAMRequest, objectID string) (*approval, error) {
	if err := s.guarded(); err != nil {
		return nil, err
	}
	asking, monitor, err := s.conversation(peer)
	if err != nil {
		return nil, err
	}
	id, err := s.guid()
	if err != nil {
		return nil, err
	}
	public, _, err := ed25519.GenerateKey(s.cfg.Rand) // nothing is ever signed by it: the certificate is the message
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	jwk, err := json.Marshal(map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(public)})
	if err != nil {
		return nil, err
	}
	from := ""
	if ip, err := netip.ParseAddr(r.RHost); err == nil {
		from = ip.WithZone("").String()
	}
	_, elapsed := s.cfg.Boot()
	ends := time.Duration(monitor.Start)*clockTick + s.cfg.Wiring.Grace(ctx) - graceMargin
	return &approval{Device: control.Device{ID: id, Login: r.User, ObjectID: objectID, Confirmation: string(jwk), From: from, LifeSeconds: int64((ends - elapsed) / time.Second)},
		asking: asking, monitor: monitor, key: key, ends: ends, moved: make(chan struct{})}, nil
}

// conversation returns the process in which sshd lets PAM talk to somebody, and its
// parent, which serves the connection and opens the session.
func (s *Service) conversation(peer shim.Peer) (asking, monitor proc.Process, err error) {
	if asking, err = s.cfg.Processes.Read(peer.PID); err != nil {
		return asking, monitor, err
	}
	if monitor, err = s.cfg.Processes.Read(asking.PPID); err != nil {
		return asking, monitor, err
	}
	if !asking.Privileged() || !asking.SSHD() || !monitor.Privileged() || !monitor.SSHD() || monitor.Listener() {
		return asking, monitor, fmt.Errorf("process %d and its parent %d are no sshd of root with a connection", asking.PID, monitor.PID)
	}
	return asking, monitor, nil
}

// checkApproval answers PAM's further questions. What is decided here is decided
// again in the account phase, with the same certificate, and when the session opens.
func (s *Service) checkApproval(ctx context.Context, peer shim.Peer, r shim.PAMRequest) shim.PAMAnswer {
	asking, monitor, err := s.conversation(peer)
	var x *approval
	if err == nil {
		x = s.approvals.of(asking, r.User)
	}
	if x == nil || !x.monitor.Same(monitor) {
		return shim.PAMAnswer{Text: away}
	}
	s.approvals.until(ctx, x, checkWait, func() bool { return x.state != "" })
	_, elapsed := s.cfg.Boot()
	s.approvals.mu.Lock()
	state, cert := x.state, x.certificate
	s.approvals.mu.Unlock()
	if state == "" && elapsed < x.ends {
		return shim.PAMAnswer{Wait: true}
	}
	s.approvals.drop(x)
	in, err := s.input(r)
	if err != nil {
		s.cfg.Log("no decision for %s (%s): %v", r.User, r.Service, err)
		return shim.PAMAnswer{Text: away}
	}
	in.CorrelationID = x.code.CorrelationID
	d := grants.Decision{}
	switch {
	case state == "":
		state = protocol.DeviceExpired
		fallthrough
	case state != protocol.DeviceApproved:
		d = grants.Decision{Reason: "approval-" + state, Text: grants.Approval(state, r.User, in.CorrelationID)}
	default:
		in.Connection = &grants.Connection{Certificate: cert}
		d = grants.Decide(in)
	}
	if !d.Allow {
		s.note(in, d, r)
		return shim.PAMAnswer{Text: d.Text}
	}
	s.conns.put(asking.PID, record{start: asking.Start, login: r.User, certificate: cert, at: elapsed, monitor: monitor})
	return shim.PAMAnswer{Allow: true}
}

// takeDevices hands new logins to the network part, each once: to one that still
// asks, not to one that was restarted meanwhile.
func (s *Service) takeDevices(ctx context.Context, r control.Request) control.Answer {
	wait, cancel := context.WithTimeout(ctx, time.Duration(r.WaitMillis)*time.Millisecond)
	defer cancel()
	for {
		var list []control.Device
		s.approvals.mu.Lock()
		news := s.approvals.news
		for _, x := range s.approvals.all {
			if ctx.Err() == nil && !x.taken && x.state == "" {
				x.taken = true
				list = append(list, x.Device)
			}
		}
		s.approvals.mu.Unlock()
		if len(list) > 0 {
			return control.Answer{Devices: list}
		}
		select {
		case <-news:
		case <-wait.Done():
			return control.Answer{}
		}
	}
}

func errNoApproval() error {
	return fault.New(fault.NotFound, "ApprovalGone", "nobody waits for this approval any more")
}

// deviceCode takes a code that the server made, if it is for this very login.
func (s *Service) deviceCode(r control.Request) error {
	x, ok := s.approvals.byID(r.Name)
	if !ok {
		return errNoApproval()
	}
	v := s.now()
	code, err := protocol.OpenDeviceCode(*r.Code, v.manifest.For(protocol.Snapshot))
	if err == nil && (code.MachineID != s.cfg.Pins.MachineID || code.Tenant != s.cfg.Pins.Tenant || code.LoginName != x.Login || code.ObjectID != x.ObjectID || code.Confirmation != x.Confirmation) {
		err = errors.New("it is for another login")
	}
	if err == nil && (!grants.ValidCode(code.UserCode) || !guid.Valid(code.CorrelationID) || !s.cfg.Now().Before(code.ExpiresAt)) {
		err = errors.New("it is malformed, or over")
	}
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "DeviceCodeRefused", "the code is refused: %v", err)
	}
	s.approvals.change(x, func() {
		if x.code == nil {
			x.code = &code
		}
	})
	return nil
}

// deviceState takes what the server said of a login. A word that lets in is a
// certificate, which is verified as sshd would and more; every other word only
// refuses.
func (s *Service) deviceState(r control.Request) error {
	x, ok := s.approvals.byID(r.Name)
	if !ok || !s.alive(x.asking) || s.approvals.answered(x) {
		return errNoApproval()
	}
	state, cert, refused := r.State, grants.Certificate{}, error(nil)
	if state == protocol.DeviceApproved {
		var err error
		if cert, err = s.approvedBy(x, r.Certificate); err != nil {
			// The server makes one only: the person hears of it now.
			state, refused = protocol.DeviceRefused, fault.Wrap(err, fault.Forbidden, "ApprovalRefused", "the approval is refused: %v", err)
		}
	}
	if state == protocol.DevicePending {
		return nil
	}
	s.approvals.change(x, func() {
		if x.state == "" {
			x.state, x.certificate = state, cert
		}
	})
	return refused
}

// approvedBy verifies the certificate that is an approval: signed by a user CA of
// the manifest for the object id of the login name, for this machine alone, for the
// one key of this login, and with the correlation id of its code.
func (s *Service) approvedBy(x *approval, text string) (grants.Certificate, error) {
	none := grants.Certificate{}
	s.approvals.mu.Lock()
	code := x.code
	s.approvals.mu.Unlock()
	if code == nil {
		return none, errors.New("no code was made for it")
	}
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return none, err
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return none, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || !bytes.Equal(cert.Key.Marshal(), x.key.Marshal()) || cert.KeyId != code.CorrelationID {
		return none, errors.New("it is no certificate for this login")
	}
	if len(cert.CriticalOptions) > 0 {
		return none, errors.New("its critical options cannot be kept here")
	}
	out, err := s.certificate(s.now(), shim.PrincipalsRequest{User: x.Login, KeyID: cert.KeyId, Serial: strconv.FormatUint(cert.Serial, 10), Certificate: text}, x.ObjectID)
	if err != nil {
		return none, err
	}
	if out.ObjectID != x.ObjectID || out.Machine != s.cfg.Pins.MachineID || !slices.Equal(out.Principals, []string{x.Login, x.ObjectID}) {
		return none, errors.New("it is for somebody else, or for another machine")
	}
	return out, nil
}
