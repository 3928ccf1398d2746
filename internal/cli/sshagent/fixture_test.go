package sshagent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/handbooktest"
)

const (
	alice    = "alice@contoso.test"
	machineA = "33333333-3333-4333-8333-333333333333"
	machineB = "44444444-4444-4444-8444-444444444444"
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// directory stands for the person and the server behind him.
type directory struct {
	ca    ssh.Signer
	hosts map[string]string // public key -> machine

	mu      sync.Mutex
	out     error // not signed in
	refuse  error // of Mint
	change  func(*ssh.Certificate)
	now     time.Time
	wait    chan struct{} // Mint waits for it, where it is set
	minted  atomic.Int32
	said    []string
	outside []string // sentences that the test has made
}

func (d *directory) SignedIn() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out
}

func (d *directory) Machine(_ context.Context, key ssh.PublicKey) (string, error) {
	if m, ok := d.hosts[string(key.Marshal())]; ok {
		return m, nil
	}
	return "", errors.New("none of ours")
}

func (d *directory) Mint(ctx context.Context, machine string, key ssh.PublicKey) (*ssh.Certificate, error) {
	d.minted.Add(1)
	d.mu.Lock()
	wait, refuse, change := d.wait, d.refuse, d.change
	d.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if refuse != nil {
		return nil, refuse
	}
	now := d.clock()
	c := &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidPrincipals: []string{alice, "id"}, ValidAfter: uint64(now.Add(-5 * time.Minute).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{machineExtension: machine}}}
	if change != nil {
		change(c)
	}
	return c, c.SignCert(rand.Reader, d.ca)
}

func (d *directory) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *directory) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *directory) sentences() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.said, "\n")
}

func newDirectory(t testing.TB) (*directory, *Agent) {
	t.Helper()
	d := &directory{ca: newSigner(t), hosts: map[string]string{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	a := New(Config{Identity: d, Rand: rand.Reader, Now: d.clock, MintTime: time.Minute, Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Log: func(s string) { d.set(func() { d.said = append(d.said, s) }) }})
	t.Cleanup(func() { d.explained(t) })
	return d, a
}

// explained: the page of sentences has what the agent itself has said.
func (d *directory) explained(t testing.TB) {
	for _, s := range d.said {
		if !slices.Contains(d.outside, s) {
			handbooktest.Known(t, s)
		}
	}
}

// host is a machine's host key with its certificate.
func (d *directory) host(t testing.TB, machine string) (ssh.Signer, []byte) {
	t.Helper()
	s := newSigner(t)
	c := &ssh.Certificate{Key: s.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{machine}}
	if err := c.SignCert(rand.Reader, d.ca); err != nil {
		t.Fatal(err)
	}
	d.hosts[string(c.Marshal())] = machine
	return s, c.Marshal()
}

func bindMessage(t testing.TB, host ssh.Signer, blob, session []byte, forwarded bool) []byte {
	t.Helper()
	sig, err := host.Sign(rand.Reader, session)
	if err != nil {
		t.Fatal(err)
	}
	return append(extensionMessage(extensionBind), ssh.Marshal(struct {
		HostKey, Session, Signature []byte
		Forwarded                   bool
	}{blob, session, ssh.Marshal(sig), forwarded})...)
}

func extensionMessage(name string) []byte {
	return ssh.Marshal(struct {
		Name string `sshtype:"27"`
	}{name})
}

// request is the data of a login; what is empty is left out.
type request struct {
	session   []byte
	kind      uint8
	user      string
	service   string
	method    string
	signed    bool
	algorithm string
	key       []byte
	hostKey   []byte
	more      []byte
}

func (r request) bytes() []byte {
	b := ssh.Marshal(struct {
		Session               []byte
		Kind                  uint8
		User, Service, Method string
		Signed                bool
		Algorithm             string
		Key                   []byte
	}{r.session, r.kind, r.user, r.service, r.method, r.signed, r.algorithm, r.key})
	if r.hostKey != nil {
		b = append(b, ssh.Marshal(struct{ K []byte }{r.hostKey})...)
	}
	return append(b, r.more...)
}

func goodRequest(session, cert, hostKey []byte) request {
	return request{session: session, kind: msgUserAuthRequest, user: alice, service: serviceConnection, method: methodHostBound, signed: true, algorithm: ssh.CertAlgoED25519v01, key: cert, hostKey: hostKey}
}

func signMessage(key, data []byte) []byte {
	return ssh.Marshal(struct {
		Key   []byte `sshtype:"13"`
		Data  []byte
		Flags uint32
	}{key, data, 0})
}

func listed(t testing.TB, answer []byte) []byte {
	t.Helper()
	var m struct {
		Count uint32 `sshtype:"12"`
		Rest  []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(answer, &m); err != nil {
		t.Fatal(err)
	}
	if m.Count == 0 {
		return nil
	}
	var k struct {
		Blob    []byte
		Comment string
	}
	if err := ssh.Unmarshal(m.Rest, &k); err != nil || m.Count != 1 {
		t.Fatalf("%v %d", err, m.Count)
	}
	return k.Blob
}

var session = []byte("0123456789abcdef0123456789abcdef")

// bound returns a connection that is bound to a machine, its certificate and the
// host key that it was bound with.
func bound(t testing.TB, d *directory, a *Agent, machine string) (*connection, []byte, []byte) {
	t.Helper()
	s, blob := d.host(t, machine)
	c := &connection{agent: a}
	if got := c.answer(t.Context(), bindMessage(t, s, blob, session, false)); got[0] != msgSuccess {
		t.Fatalf("bind: %d: %s", got[0], d.sentences())
	}
	cert := listed(t, c.answer(t.Context(), []byte{msgList}))
	if cert == nil {
		t.Fatalf("nothing is offered: %s", d.sentences())
	}
	return c, cert, blob
}
