package agent

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

const (
	tenantID  = "0aaaaaaa-0000-4000-8000-000000000001"
	machineID = "0aaaaaaa-0000-4000-8000-000000000002"
)

// server is a fake of the machine protocol's other end.
type server struct {
	t *testing.T
	*httptest.Server
	manifestKey ed25519.PrivateKey
	manifest    protocol.Manifest

	mu      sync.Mutex
	calls   []string // path, and the client key's thumbprint
	joins   []protocol.JoinRequest
	reports []protocol.Report
	polls   []protocol.PollRequest
	poll    func(protocol.PollRequest) (protocol.PollAnswer, int)
	fail    int    // answers with 503 that come first
	poison  string // id of the event that is refused
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t}
	_, s.manifestKey, _ = ed25519.GenerateKey(rand.Reader)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.manifest = protocol.Manifest{Tenant: tenantID, Domains: []string{"corp.example"}, URL: s.URL, Epoch: 1, Version: 1, TLSRoots: [][]byte{s.Certificate().Raw}}
	return s
}

func (s *server) signed() protocol.SignedManifest {
	payload, _ := json.Marshal(s.manifest)
	e, err := protocol.Sign(rand.Reader, s.manifestKey, protocol.TypeManifest, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(s.manifestKey.Public())
	return protocol.SignedManifest{ManifestKey: der, Envelope: e}
}

func (s *server) token() protocol.JoinToken {
	thumb, _ := protocol.Thumbprint(s.manifestKey.Public())
	return protocol.JoinToken{URL: s.URL, Pin: thumb, Secret: strings.Repeat("s", 43)}
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := ""
	if len(r.TLS.PeerCertificates) > 0 {
		key, _ = protocol.Thumbprint(r.TLS.PeerCertificates[0].PublicKey)
	}
	s.calls = append(s.calls, r.URL.Path+" "+key)
	if s.fail > 0 {
		s.fail--
		w.WriteHeader(503)
		return
	}
	read := func(v any) {
		if err := json.NewDecoder(r.Body).Decode(v); err != nil {
			s.t.Error(err)
		}
	}
	switch r.URL.Path {
	case "/.well-known/sallyport/manifest":
		_ = json.NewEncoder(w).Encode(s.signed())
	case "/machine/v1/join":
		var q protocol.JoinRequest
		read(&q)
		s.joins = append(s.joins, q)
		_ = json.NewEncoder(w).Encode(protocol.JoinAnswer{MachineID: machineID, ResourceID: "/subscriptions/s", Manifest: s.signed()})
	case "/machine/v1/poll":
		var q protocol.PollRequest
		read(&q)
		s.polls = append(s.polls, q)
		a, code := s.poll(q)
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(a)
	case "/machine/v1/report":
		var q protocol.Report
		read(&q)
		s.reports = append(s.reports, q)
		if slices.ContainsFunc(q.Events, func(e protocol.MachineEvent) bool { return e.ID == s.poison }) {
			http.Error(w, `{"code":"InvalidEvent","message":"no"}`, 400)
			return
		}
		w.WriteHeader(204)
	case "/machine/v1/hostcertificate":
		_ = json.NewEncoder(w).Encode(protocol.HostCertificateAnswer{Certificate: "the certificate"})
	default:
		http.Error(w, `{"code":"NotFound","message":"no"}`, 404)
	}
}

func joinConfig(t *testing.T, s *server) JoinConfig {
	t.Helper()
	return JoinConfig{Root: t.TempDir(), Owner: uint32(os.Geteuid()), Network: os.Geteuid(), Token: s.token().String(), Facts: Facts{Hostname: "vm1"}, Tries: 3,
		Wait: func(context.Context, time.Duration) {}, Log: t.Logf}
}

func TestJoin_LeavesPinsManifestAndKey(t *testing.T) {
	s := newServer(t)
	s.fail = 2
	c := joinConfig(t, s)
	m, err := Join(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := pin.Load(c.Root, c.Owner); err != nil || kept != m || m.MachineID != machineID || m.Tenant != tenantID {
		t.Fatalf("%+v %v", kept, err)
	}
	if _, _, err := m.LoadManifest(c.Root, c.Owner); err != nil {
		t.Fatal(err)
	}
	key, err := LoadKey(c.Root, c.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if thumb, _ := protocol.Thumbprint(key.Public()); thumb != m.KeyThumbprint || s.calls[len(s.calls)-1] != "/machine/v1/join "+thumb {
		t.Fatalf("%v", s.calls)
	}
	for path, mode := range map[string]os.FileMode{pin.KeyPath: 0o600, pin.MachinePath: 0o644, pin.ManifestPath: 0o644} {
		if info, err := os.Stat(filepath.Join(c.Root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(c.Root, pin.KeyPath), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(c.Root, c.Owner); err == nil {
		t.Error("a key that others can read was used")
	}
	if _, err := Join(t.Context(), c); err != nil {
		t.Fatalf("joining again: %v", err)
	}
	if again, _ := pin.Load(c.Root, c.Owner); again.KeyThumbprint == m.KeyThumbprint {
		t.Error("a machine that joins again keeps its old key")
	}
}

// TestJoin_SendsNoSecretToAStranger: the manifest is not signed by the key that
// the token pins, or does not trust the TLS certificate, or names another URL.
func TestJoin_SendsNoSecretToAStranger(t *testing.T) {
	told := map[string]string{"another manifest key": "ServerNotTrusted.token", "another TLS root": "ServerNotTrusted.machine", "system roots only": "ServerNotTrusted.machine"}
	for name, change := range map[string]func(*server, *JoinConfig){
		"another manifest key": func(s *server, _ *JoinConfig) { _, s.manifestKey, _ = ed25519.GenerateKey(rand.Reader) },
		"another TLS root": func(s *server, _ *JoinConfig) {
			other := httptest.NewTLSServer(nil)
			other.Close()
			cert, _ := selfSigned(s.manifestKey)
			s.manifest.TLSRoots = [][]byte{cert.Certificate[0]}
		},
		"system roots only": func(s *server, _ *JoinConfig) { s.manifest.TLSRoots = nil },
		"another URL":       func(s *server, _ *JoinConfig) { s.manifest.URL = "https://elsewhere.example" },
	} {
		s := newServer(t)
		c := joinConfig(t, s)
		change(s, &c)
		if _, err := Join(t.Context(), c); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		} else if id := told[name]; id != "" {
			handbooktest.Said(t, fault.As(err).Public(), id)
		}
		if len(s.joins) != 0 {
			t.Errorf("%s: the secret was sent", name)
		}
		if pin.Joined(c.Root) {
			t.Errorf("%s: the machine counts as joined", name)
		}
	}
}

func TestJoin_LostAnswerIsRepeatedWithTheSameKey(t *testing.T) {
	s := newServer(t)
	c := joinConfig(t, s)
	c.Tries = 1
	s.fail = 1
	if _, err := Join(t.Context(), c); !fault.Is(err, fault.Unavailable) {
		t.Fatal(err)
	}
	first, err := c.key()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Join(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if thumb, _ := protocol.Thumbprint(first.Public()); thumb != m.KeyThumbprint {
		t.Fatal("a new key for each attempt would cost the token")
	}
}

func TestJoin_BadTokenAndAddress(t *testing.T) {
	s := newServer(t)
	c := joinConfig(t, s)
	c.Token = "https://x"
	if _, err := Join(t.Context(), c); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	c = joinConfig(t, s)
	for _, address := range []string{"x", "x:y", ":443", "x:0", "a b:1"} {
		c.Address = address
		if _, err := Join(t.Context(), c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("%v", s.calls)
	}
}

// rootPart is a fake of the root part.
type rootPart struct {
	mu        sync.Mutex
	status    control.Status
	events    []protocol.MachineEvent
	delivered []control.Op
	acked     []string
	refuse    error
	full      control.Op // what finds no room
}

func (r *rootPart) Ask(ctx context.Context, q control.Request) (control.Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch q.Op {
	case control.OpStatus:
		if q.WaitMillis > 0 {
			r.delivered = append(r.delivered, "wait")
		}
		st := r.status
		return control.Answer{Status: &st}, nil
	case control.OpEvents:
		r.acked = append(r.acked, q.Acknowledge...)
		r.events = slices.DeleteFunc(r.events, func(e protocol.MachineEvent) bool { return slices.Contains(q.Acknowledge, e.ID) })
		st := r.status
		list := slices.Clone(r.events)
		if q.Limit > 0 {
			list = list[:min(len(list), q.Limit)]
		}
		return control.Answer{Status: &st, Events: list}, ctx.Err()
	case control.OpHostProof:
		return control.Answer{Proof: &protocol.Envelope{}}, nil
	default:
		r.delivered = append(r.delivered, q.Op)
		if q.Op == r.full {
			return control.Answer{}, errors.New("no space left on device")
		}
		return control.Answer{}, r.refuse
	}
}

func newAgent(t *testing.T, s *server, r *rootPart) *Agent {
	t.Helper()
	signed := s.signed()
	r.status.Manifest = &signed
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	return New(Config{Pins: pin.Machine{URL: s.URL, ManifestPin: s.token().Pin, Tenant: tenantID}, Key: crypto.Signer(key), Root: r, Version: "v", Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
		Addresses: func() []string { return []string{"10.0.0.1"} }, Wait: func(context.Context, time.Duration) {}, Rand: rand.Reader, Log: t.Logf})
}

func TestPoll_SaysWhatIsHeldAndCarriesWhatComes(t *testing.T) {
	s, r := newServer(t), &rootPart{status: control.Status{Epoch: 1, Version: 7, IssuedAt: time.Unix(5, 0).UTC(), AccountsEpoch: 1, Accounts: 6}}
	a := newAgent(t, s, r)
	s.poll = func(protocol.PollRequest) (protocol.PollAnswer, int) {
		signed := s.signed()
		return protocol.PollAnswer{Manifest: &signed, Accounts: &protocol.Envelope{PayloadType: "y"}, Snapshot: &protocol.Envelope{PayloadType: "x"}}, 200
	}
	if err := a.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if q := s.polls[0]; q.Version != 7 || q.Epoch != 1 || q.Manifest != 1 || !q.IssuedAt.Equal(time.Unix(5, 0)) || q.WaitMillis != 55_000 || q.AccountsEpoch != 1 || q.Accounts != 6 {
		t.Fatalf("%+v", q)
	}
	if !slices.Equal(r.delivered, []control.Op{control.OpManifest, control.OpAccounts, control.OpSnapshot, "wait"}) {
		t.Fatalf("%v", r.delivered)
	}
	for _, op := range []control.Op{control.OpManifest, control.OpAccounts} {
		r.delivered, r.full = nil, op
		if err := a.poll(t.Context()); err == nil || !slices.Contains(r.delivered, control.OpSnapshot) {
			t.Errorf("%s finds no room: %v, delivered %v", op, err, r.delivered)
		}
	}
	r.full, r.refuse = "", errors.New("refused")
	if err := a.poll(t.Context()); err == nil {
		t.Fatal("a refused snapshot is no reason to pause")
	}
	s.poll = func(protocol.PollRequest) (protocol.PollAnswer, int) { return protocol.PollAnswer{}, 401 }
	if err := a.poll(t.Context()); !fault.Is(err, fault.Unauthenticated) {
		t.Fatal(err)
	}
}

func TestReport_OnceAndAcknowledged(t *testing.T) {
	s := newServer(t)
	r := &rootPart{status: control.Status{Revision: 3, Provisioned: "Succeeded", Generation: 2}, events: []protocol.MachineEvent{{ID: "e1"}}}
	a := newAgent(t, s, r)
	last := sent{generation: -1}
	for range 3 {
		if err := a.report(t.Context(), &last); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.reports) != 1 || s.reports[0].Revision != 3 || len(s.reports[0].Events) != 1 || !slices.Equal(s.reports[0].Addresses, []string{"10.0.0.1"}) {
		t.Fatalf("%+v", s.reports)
	}
	if !slices.Equal(r.acked, []string{"e1"}) {
		t.Fatalf("%v", r.acked)
	}
	r.events, r.status.Generation = []protocol.MachineEvent{{ID: "e2"}}, 3
	s.fail = 1
	if err := a.report(t.Context(), &last); err == nil {
		t.Fatal("no error")
	}
	if err := a.report(t.Context(), &last); err != nil || s.reports[1].Events[0].ID != "e2" {
		t.Fatal("an event was lost with a failed report")
	}
}

// TestReport_OneBadEventCostsNoOther: the event that the server refuses is found
// and given up alone, and the newest form of the protocol is kept.
func TestReport_OneBadEventCostsNoOther(t *testing.T) {
	s, r := newServer(t), &rootPart{}
	s.poison = "e5"
	for i := range 9 {
		r.events = append(r.events, protocol.MachineEvent{ID: fmt.Sprint("e", i), Sequence: int64(i + 1)})
	}
	a := newAgent(t, s, r)
	last := sent{generation: -1}
	for range 12 {
		if err := a.report(t.Context(), &last); err != nil {
			t.Fatal(err)
		}
	}
	var arrived []string
	for _, q := range s.reports {
		if q.Capability != protocol.Capability {
			t.Fatalf("the agent fell back to capability %d", q.Capability)
		}
		if len(q.Events) > 0 && !slices.ContainsFunc(q.Events, func(e protocol.MachineEvent) bool { return e.ID == "e5" }) {
			for _, e := range q.Events {
				arrived = append(arrived, e.ID)
			}
		}
	}
	if !slices.Equal(arrived, []string{"e0", "e1", "e2", "e3", "e4", "e6", "e7", "e8"}) || len(r.events) != 0 {
		t.Fatalf("arrived %v, left %v", arrived, r.events)
	}
}

// TestReport_RefusedEventHidesNoState: the report that held the refused event was
// refused whole, so what else it said is said again.
func TestReport_RefusedEventHidesNoState(t *testing.T) {
	s, r := newServer(t), &rootPart{status: control.Status{Revision: 3, Generation: 2}, events: []protocol.MachineEvent{{ID: "e1", Sequence: 1}}}
	s.poison = "e1"
	a := newAgent(t, s, r)
	last := sent{generation: -1}
	for range 3 {
		if err := a.report(t.Context(), &last); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.reports) != 2 || len(s.reports[1].Events) != 0 || s.reports[1].Revision != 3 || s.reports[1].Capability != protocol.Capability || !slices.Equal(r.acked, []string{"e1"}) {
		t.Fatalf("%+v, acknowledged %v", s.reports, r.acked)
	}
}

func TestCertificate_RenewedWhenDue(t *testing.T) {
	s, r := newServer(t), &rootPart{}
	a := newAgent(t, s, r)
	if _, err := a.certificate(t.Context()); err != nil || !slices.Equal(r.delivered, []control.Op{control.OpHostCertificate}) {
		t.Fatal(err, r.delivered)
	}
	r.status.HostRenew = a.cfg.Now().Add(10 * time.Minute)
	wait, err := a.certificate(t.Context())
	if err != nil || wait != 10*time.Minute || len(r.delivered) != 1 {
		t.Fatal(wait, err, r.delivered)
	}
}

// TestServer_ManifestOfAnotherKeyIsNotTrusted: what the root part says is
// verified again before a connection is made.
func TestServer_ManifestOfAnotherKeyIsNotTrusted(t *testing.T) {
	s, r := newServer(t), &rootPart{}
	a := newAgent(t, s, r)
	_, s.manifestKey, _ = ed25519.GenerateKey(rand.Reader)
	signed := s.signed()
	r.status.Manifest = &signed
	if err := a.poll(t.Context()); err == nil || len(s.calls) != 0 {
		t.Fatal(err, s.calls)
	}
}

func TestPause_GrowsWithJitterAndEnds(t *testing.T) {
	var waits []time.Duration
	a := New(Config{Rand: rand.Reader, Log: t.Logf, Wait: func(_ context.Context, d time.Duration) { waits = append(waits, d) }})
	p := &pause{agent: a}
	for range 12 {
		p.failed(t.Context(), "test", errors.New("x"))
	}
	want := firstPause
	for i, d := range waits {
		if d < want/2 || d > want*3/2 {
			t.Errorf("pause %d is %s, around %s wanted", i, d, want)
		}
		want = min(2*want, lastPause)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.failed(ctx, "test", errors.New("x"))
	if len(waits) != 12 {
		t.Error("waited after the end")
	}
}

func TestReadToken_OnlyFromAPrivateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(" text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readToken(nil, path); err != nil || got != "text" {
		t.Fatal(got, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readToken(nil, path); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	if got, err := readToken(strings.NewReader("from stdin\n"), "-"); err != nil || got != "from stdin" {
		t.Fatal(got, err)
	}
}
