package agents

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/machine/protocol"
)

// Config says whose agents to play.
type Config struct {
	Address  string // host:port of a loopback address
	Manifest protocol.Manifest
	TLS      *tls.Config
	Agents   int
	Watched  string // object id of the person whose grant is watched
	// Verify checks every signature, as a machine does.
	Verify bool
	// Together is how many connect at a time.
	Together int
	// Dial, where set, is another way to the server; what an agent says is its
	// address is one of loopback all the same.
	Dial func(from netip.AddrPort) (net.Conn, error)
	Now  func() time.Time
	Log  func(format string, args ...any)
}

// Key is the key of an agent, made of its number alone, so that whoever fills the
// server's store knows it too.
func Key(n int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "simulated agent %d", n))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Fleet is agents that are connected, or trying to be.
type Fleet struct {
	cfg    Config
	agents []agent
	all    sync.WaitGroup

	mu      sync.Mutex
	epoch   int64 // of the accounts that one agent fetched for all
	version int64

	ready  atomic.Int64  // agents that have been told something
	broken atomic.Int64  // connections that ended
	slots  chan struct{} // connecting
}

type agent struct {
	held    held
	granted atomic.Bool
	at      atomic.Int64 // when granted became what it is, in nanoseconds
	ready   bool
}

// held is what an agent tells that it holds.
type held struct {
	epoch, version int64
	issued         time.Time
	accountsEpoch  int64
	accounts       int64
}

// wait is the longest poll, the real agent's.
const wait = 55 * time.Second

// agentPort is what agents come from that no kernel gives a port.
const agentPort = 1024

// New prepares a fleet.
func New(cfg Config) (*Fleet, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a loopback address", cfg.Address))
	}
	return &Fleet{cfg: cfg, agents: make([]agent, cfg.Agents), slots: make(chan struct{}, max(cfg.Together, 1))}, nil
}

// Run keeps all agents connected until ctx ends. The first one fetches the table
// of accounts, as every machine did when it joined; the others hold it from the
// beginning, as machines do that come back.
func (f *Fleet) Run(ctx context.Context) {
	for i := range f.agents {
		f.all.Go(func() { f.live(ctx, i) })
		if i == 0 {
			for f.ready.Load() == 0 && ctx.Err() == nil {
				rest(ctx, 10*time.Millisecond)
			}
		}
	}
	f.all.Wait()
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// live connects again and again.
func (f *Fleet) live(ctx context.Context, i int) {
	for ctx.Err() == nil {
		err := f.session(ctx, i)
		if ctx.Err() != nil {
			return
		}
		if f.broken.Add(1) <= 5 {
			f.cfg.Log("agent %d: %v", i, err)
		}
		rest(ctx, time.Second)
	}
}

func (f *Fleet) session(ctx context.Context, i int) error {
	s, err := f.connect(ctx, i)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	defer s.conn.Close()
	for {
		if err := f.poll(s, i); err != nil {
			return err
		}
	}
}

// connect dials from a loopback address of the agent's own, so that ports last.
func (f *Fleet) connect(ctx context.Context, i int) (*stream, error) {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from := netip.AddrFrom4([4]byte{127, 100 + byte(i>>16), byte(i >> 8), byte(i) | 1})
	var raw net.Conn
	var err error
	if f.cfg.Dial != nil {
		raw, err = f.cfg.Dial(netip.AddrPortFrom(from, agentPort))
	} else {
		dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: time.Minute, KeepAlive: -1}
		raw, err = dialer.DialContext(ctx, "tcp4", f.cfg.Address)
	}
	if err != nil {
		return nil, err
	}
	key := Key(i)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "simulated"}, NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	conf := f.cfg.TLS.Clone()
	conf.Certificates, conf.NextProtos, conf.MinVersion = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, []string{"http/1.1", protocol.ALPNPinned}, tls.VersionTLS13
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		return nil, errors.Join(fmt.Errorf("the server speaks %q", p), conn.Close())
	}
	return open(conn, "localhost"), nil
}

func (f *Fleet) poll(s *stream, i int) error {
	a, m := &f.agents[i], f.cfg.Manifest
	h := a.held
	if h.accounts == 0 {
		f.mu.Lock()
		h.accountsEpoch, h.accounts = f.epoch, f.version
		f.mu.Unlock()
	}
	body, err := json.Marshal(protocol.PollRequest{Capability: protocol.Capability, Epoch: h.epoch, Version: h.version, IssuedAt: h.issued, Manifest: m.Version, ManifestEpoch: m.Epoch,
		AppliedEpoch: m.Epoch, AppliedManifest: m.Version, AccountsEpoch: h.accountsEpoch, Accounts: h.accounts, WaitMillis: wait.Milliseconds()})
	if err != nil {
		return err
	}
	answer, err := s.post("/machine/v1/poll", body)
	if err != nil {
		return err
	}
	at := f.cfg.Now()
	var p protocol.PollAnswer
	if err := json.Unmarshal(answer, &p); err != nil {
		return err
	}
	if p.Accounts != nil {
		if err := f.accounts(&h, *p.Accounts); err != nil {
			return err
		}
	}
	if p.Snapshot != nil {
		if err := f.snapshot(a, &h, *p.Snapshot, at); err != nil {
			return err
		}
	}
	a.held = h
	if !a.ready {
		a.ready = true
		f.ready.Add(1)
	}
	return nil
}

func (f *Fleet) accounts(h *held, e protocol.Envelope) error {
	var d protocol.AccountsDocument
	err := json.Unmarshal(e.Payload, &d)
	if f.cfg.Verify && err == nil {
		d, err = protocol.OpenAccounts(e, f.cfg.Manifest.For(protocol.Snapshot))
	}
	if err != nil {
		return err
	}
	h.accountsEpoch, h.accounts = d.Epoch, d.Version
	f.mu.Lock()
	f.epoch, f.version = d.Epoch, max(f.version, d.Version)
	f.mu.Unlock()
	return nil
}

func (f *Fleet) snapshot(a *agent, h *held, e protocol.Envelope, at time.Time) error {
	var d protocol.SnapshotDocument
	err := json.Unmarshal(e.Payload, &d)
	if f.cfg.Verify && err == nil {
		d, err = protocol.OpenSnapshot(e, f.cfg.Manifest.For(protocol.Snapshot))
	}
	if err != nil {
		return err
	}
	h.epoch, h.version, h.issued = d.Epoch, d.Version, d.IssuedAt
	granted := slices.ContainsFunc(d.Grants, func(g protocol.Grant) bool {
		return g.ObjectID == f.cfg.Watched && (g.Access == protocol.Login || g.Access == protocol.Admin)
	})
	if a.granted.Swap(granted) != granted {
		a.at.Store(at.UnixNano())
	}
	return nil
}

// Size is how many agents there are.
func (f *Fleet) Size() int { return len(f.agents) }

// Ready is how many agents have been told something since the beginning, Broken
// how many connections have ended.
func (f *Fleet) Ready() int  { return int(f.ready.Load()) }
func (f *Fleet) Broken() int { return int(f.broken.Load()) }

// Granted is how many agents let the watched person in.
func (f *Fleet) Granted() int {
	n := 0
	for i := range f.agents {
		if f.agents[i].granted.Load() {
			n++
		}
	}
	return n
}

// Told is, for each agent whose word changed since, how long after that it did.
func (f *Fleet) Told(since time.Time) []time.Duration {
	var list []time.Duration
	for i := range f.agents {
		if d := time.Duration(f.agents[i].at.Load() - since.UnixNano()); d >= 0 {
			list = append(list, d)
		}
	}
	return list
}
