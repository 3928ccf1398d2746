package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/keystore/sshagent"
	"sallyport/internal/signer"
	"sallyport/internal/sshca"
)

const (
	oid    = "33333333-3333-3333-3333-333333333333"
	tenant = "11111111-1111-1111-1111-111111111111"
	corr   = "22222222-2222-2222-2222-222222222222"
)

func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// pages is a log that a test reads while it is written.
type pages struct {
	mu     sync.Mutex
	b      bytes.Buffer
	broken bool
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return 0, errors.New("disk full")
	}
	return p.b.Write(b)
}

func (p *pages) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// rig is a signer with a user CA and a host CA on a socket.
type rig struct {
	socket     string
	user, host ed25519.PrivateKey
	log        *pages
}

func newRig(t *testing.T, allow ...uint32) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{socket: filepath.Join(dir, "s.sock"), log: &pages{}}
	var keys []signer.Key
	for _, k := range []struct {
		key  *ed25519.PrivateKey
		kind sshca.Type
	}{{&r.user, sshca.User}, {&r.host, sshca.Host}} {
		if _, *k.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
		n, err := sshca.NewNotary(sshca.NotaryConfig{Type: k.kind, Key: *k.key, Rand: rand.Reader, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, signer.Key{Notary: n, Comment: "ca"})
	}
	s, err := signer.New(signer.Config{Keys: keys, Allow: allow, Log: r.log, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	l, err := signer.Listen(r.socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func me() uint32 { return uint32(os.Geteuid()) }

// remote is a key as the server has it.
func (r *rig) remote(t *testing.T, key crypto.Signer) crypto.Signer {
	t.Helper()
	k, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := sshagent.New(sshagent.Config{Endpoint: sshagent.Endpoint{Path: r.socket, Owner: -1, Fingerprint: ssh.FingerprintSHA256(k)}})
	s, err := c.Bind(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(t *testing.T, kind sshca.Type) sshca.Request {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	q := sshca.Request{Type: kind, PublicKey: pub, Principals: []string{oid + ".machine.contoso.test"}, KeyID: corr, IssuedAt: now(), Lifetime: time.Hour}
	if kind == sshca.User {
		q.Principals = []string{"alice@contoso.test", oid}
		q.Extensions = map[string]string{sshca.ExtObjectID: oid, sshca.ExtTenant: tenant, sshca.ExtIssued: strconv.FormatInt(now().UnixMicro(), 10), sshca.ExtFactors: "pwd:1795348800"}
	}
	return q
}

// TestServer_IssuesThroughTheClient: issuer, client and signer together make
// certificates of both types, and each has its line.
func TestServer_IssuesThroughTheClient(t *testing.T) {
	r := newRig(t, me())
	i, err := sshca.New(sshca.Config{UserCA: r.remote(t, r.user), HostCA: r.remote(t, r.host), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []sshca.Type{sshca.User, sshca.Host} {
		c, err := i.Issue(request(t, kind))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{`"msg":"signing"`, corr, strconv.FormatUint(c.Serial, 10), ssh.FingerprintSHA256(c.Key), ssh.FingerprintSHA256(c.SignatureKey)} {
			if !strings.Contains(r.log.String(), word) {
				t.Errorf("the log lacks %s: %s", word, r.log)
			}
		}
	}
}

// TestServer_KeysSignTheirOwnTypeOnly: the host CA's key under a user
// certificate, or the other way round, is refused here even where a server asks.
func TestServer_KeysSignTheirOwnTypeOnly(t *testing.T) {
	r := newRig(t, me())
	i, err := sshca.New(sshca.Config{UserCA: r.remote(t, r.host), HostCA: r.remote(t, r.user), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []sshca.Type{sshca.User, sshca.Host} {
		if _, err := i.Issue(request(t, kind)); err == nil {
			t.Errorf("type %d by the other's key", kind)
		}
	}
	if strings.Contains(r.log.String(), "signing") || strings.Count(r.log.String(), `"msg":"refused"`) != 2 {
		t.Error(r.log)
	}
}

// TestServer_NoRecordNoSignature: a line that cannot be written stops the
// signature.
func TestServer_NoRecordNoSignature(t *testing.T) {
	r := newRig(t, me())
	i, err := sshca.New(sshca.Config{UserCA: r.remote(t, r.user), HostCA: r.remote(t, r.host), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	r.log.mu.Lock()
	r.log.broken = true
	r.log.mu.Unlock()
	if _, err := i.Issue(request(t, sshca.User)); err == nil {
		t.Fatal("signed without a record")
	}
}

func TestServer_OtherUIDsAreRefused(t *testing.T) {
	r := newRig(t, me()+1)
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = sshagent.WriteMessage(conn, []byte{sshagent.MsgRequestIdentities})
	if m, err := sshagent.ReadMessage(conn); err == nil {
		t.Fatalf("answered %x", m)
	}
	if !strings.Contains(r.log.String(), "this uid may not connect") {
		t.Error(r.log)
	}
}

// TestServer_RefusesTheRestOfTheProtocol: adding, removing, locking, extensions
// and signatures over anything but certificates fail, and the connection lives.
func TestServer_RefusesTheRestOfTheProtocol(t *testing.T) {
	r := newRig(t, me())
	pub, err := ssh.NewPublicKey(r.user.Public())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	messages := [][]byte{
		{sshagent.MsgRequestIdentities, 0}, sshagent.SignRequest{Key: pub.Marshal(), Data: []byte("sign me")}.Marshal(), sshagent.SignRequest{Key: []byte("x"), Data: []byte("y")}.Marshal(),
		{sshagent.MsgSignRequest}, {sshagent.MsgSignRequest, 0xff, 0xff, 0xff, 0xff},
	}
	for kind := range 256 {
		if k := byte(kind); k != sshagent.MsgRequestIdentities && k != sshagent.MsgSignRequest {
			messages = append(messages, []byte{k}, append([]byte{k}, make([]byte, 64)...))
		}
	}
	for _, m := range messages {
		if err := sshagent.WriteMessage(conn, m); err != nil {
			t.Fatal(err)
		}
		if a, err := sshagent.ReadMessage(conn); err != nil || len(a) != 1 || a[0] != sshagent.MsgFailure {
			t.Fatalf("%x: %x %v", m, a, err)
		}
	}
	if err := sshagent.WriteMessage(conn, []byte{sshagent.MsgRequestIdentities}); err != nil {
		t.Fatal(err)
	}
	a, err := sshagent.ReadMessage(conn)
	if list, bad := sshagent.ParseIdentities(a); err != nil || bad != nil || len(list) != 2 {
		t.Fatal(list, err, bad)
	}
}

func TestNew_Refusals(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	notary := func(kind sshca.Type) signer.Key {
		n, err := sshca.NewNotary(sshca.NotaryConfig{Type: kind, Key: key, Rand: rand.Reader, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return signer.Key{Notary: n}
	}
	for name, c := range map[string]signer.Config{
		"no key": {Allow: []uint32{1}, Log: io.Discard}, "nobody": {Keys: []signer.Key{notary(sshca.User)}, Log: io.Discard},
		"one key, both types": {Keys: []signer.Key{notary(sshca.User), notary(sshca.Host)}, Allow: []uint32{1}, Log: io.Discard},
	} {
		if _, err := signer.New(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

func TestListen_ReplacesOnlyTheDead(t *testing.T) {
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s.sock")
	l, err := signer.Listen(path, os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatal(info.Mode(), err)
	}
	if _, err := signer.Listen(path, -1); err == nil {
		t.Fatal("took a socket that is in use")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed leaves it
	_ = l.Close()
	if l, err = signer.Listen(path, -1); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Listen(path, -1); err == nil {
		t.Fatal("took a file's place")
	}
}

func TestReadPIN_FileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{{"1234\n", 0o600, "1234"}, {"1234", 0o400, "1234"}, {"1234", 0o640, ""}, {"1234", 0o604, ""}, {"1234", 0o620, ""}, {"", 0o600, ""}, {"\n", 0o600, ""}, {strings.Repeat("1", 257), 0o600, ""}} {
		_ = os.Remove(path)
		if err := errors.Join(os.WriteFile(path, []byte(c.text), 0o600), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		if pin, err := signer.ReadPIN(path); pin != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q %o: %q %v", c.text, c.mode, pin, err)
		}
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.ReadPIN(link); err == nil {
		t.Error("followed a link")
	}
	if _, err := signer.ReadPIN(path + ".none"); err == nil {
		t.Error("read what is not there")
	}
}
