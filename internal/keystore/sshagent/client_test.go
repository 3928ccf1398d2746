package sshagent_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/keystore/sshagent"
)

// folder is a private folder with a short path: a socket's path is bounded.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startAgent runs a real ssh-agent and returns when its socket is there.
func startAgent(t *testing.T, socket string) *exec.Cmd {
	t.Helper()
	_ = os.Remove(socket)
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); <-tick.C {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return cmd
		}
	}
	t.Fatal("ssh-agent listens on no socket")
	return nil
}

func addKey(t *testing.T, socket string, key crypto.Signer) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ssh-add", "-q", "-")
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	cmd.Stdin = bytes.NewReader(pem.EncodeToMemory(block))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v %s", err, out)
	}
}

func endpoint(t *testing.T, socket string, key crypto.Signer) sshagent.Endpoint {
	t.Helper()
	return sshagent.Endpoint{Path: socket, Owner: -1, Fingerprint: ssh.FingerprintSHA256(sshKey(t, key))}
}

func sshKey(t *testing.T, key crypto.Signer) ssh.PublicKey {
	t.Helper()
	k, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ed25519Key(t *testing.T) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func bound(t *testing.T, c *sshagent.Client, key crypto.Signer) *sshagent.Key {
	t.Helper()
	s, err := c.Bind(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s.(*sshagent.Key)
}

// TestKey_RealAgent: every kind of key signs through OpenSSH's own ssh-agent,
// and what comes back verifies as crypto's own keys' signatures do.
func TestKey_RealAgent(t *testing.T) {
	socket := filepath.Join(folder(t), "a.sock")
	startAgent(t, socket)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("to be signed")
	for _, c := range []struct {
		key  crypto.Signer
		hash crypto.Hash
	}{{ed25519Key(t), 0}, {p256, crypto.SHA256}, {p384, crypto.SHA384}, {r, crypto.SHA512}, {r, crypto.SHA256}} {
		addKey(t, socket, c.key)
		client := sshagent.New(sshagent.Config{Endpoint: endpoint(t, socket, c.key)})
		public, err := client.Fetch()
		if err != nil || !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(c.key.Public()) {
			t.Fatalf("%T: fetched %v: %v", c.key, public, err)
		}
		k := bound(t, client, c.key)
		sig, err := crypto.SignMessage(k, rand.Reader, message, c.hash)
		if err != nil {
			t.Fatalf("%T: %v", c.key, err)
		}
		digest := message
		if c.hash != 0 {
			h := c.hash.New()
			h.Write(message)
			digest = h.Sum(nil)
		}
		ok := false
		switch pub := c.key.Public().(type) {
		case ed25519.PublicKey:
			ok = ed25519.Verify(pub, digest, sig)
		case *ecdsa.PublicKey:
			ok = ecdsa.VerifyASN1(pub, digest, sig)
		case *rsa.PublicKey:
			ok = rsa.VerifyPKCS1v15(pub, c.hash, digest, sig) == nil
		}
		if !ok {
			t.Errorf("%T: the signature does not verify", c.key)
		}
		for _, wrong := range []crypto.Hash{crypto.SHA1, crypto.MD5, crypto.SHA224} {
			if _, err := crypto.SignMessage(k, rand.Reader, message, wrong); err == nil {
				t.Errorf("%T signed with %v", c.key, wrong)
			}
		}
		if err := k.Reachable(); err != nil {
			t.Error(err)
		}
	}
	stranger := ed25519Key(t)
	_, err = sshagent.New(sshagent.Config{Endpoint: endpoint(t, socket, stranger)}).Fetch()
	handbooktest.Said(t, fault.As(err).Public(), "trouble.SignerKeyMissing")
	_, err = sshagent.New(sshagent.Config{Endpoint: endpoint(t, socket+"2", stranger)}).Fetch()
	handbooktest.Said(t, fault.As(err).Public(), "trouble.SignerAway")
}

// TestKey_AgentRestartsUnderLoad: while the agent is gone every request is
// refused with a sentence; after its restart they succeed again, with no
// request failing because of an old connection.
func TestKey_AgentRestartsUnderLoad(t *testing.T) {
	socket, key := filepath.Join(folder(t), "a.sock"), ed25519Key(t)
	agent := startAgent(t, socket)
	addKey(t, socket, key)
	k := bound(t, sshagent.New(sshagent.Config{Endpoint: endpoint(t, socket, key)}), key)
	load := func() (failed []error) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				if _, err := k.SignMessage(rand.Reader, []byte("m"), crypto.Hash(0)); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		return failed
	}
	if failed := load(); len(failed) != 0 {
		t.Fatal(failed[0])
	}
	_ = agent.Process.Kill()
	_ = agent.Wait()
	failed := load()
	if len(failed) != 32 {
		t.Fatalf("%d of 32 failed without an agent", len(failed))
	}
	for _, err := range failed {
		if !fault.Is(err, fault.Unavailable) || strings.Contains(fault.As(err).Public(), socket) {
			t.Fatalf("refused with %v", err)
		}
	}
	if k.Reachable() == nil {
		t.Fatal("reachable without an agent")
	}
	startAgent(t, socket)
	if _, err := k.SignMessage(rand.Reader, []byte("m"), crypto.Hash(0)); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("an agent without the key: %v", err)
	}
	if err := k.Reachable(); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "does not hold this one") {
		t.Fatalf("an agent without the key: %v", err)
	}
	addKey(t, socket, key)
	if failed := load(); len(failed) != 0 {
		t.Fatal(failed[0])
	}
}

// liar answers every request with what it is told to.
func liar(t *testing.T, socket string, answer func(request []byte) []byte) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					m, err := sshagent.ReadMessage(conn)
					if err != nil {
						return
					}
					a := answer(m)
					if a == nil {
						return
					}
					if _, err := conn.Write(a); err != nil {
						return
					}
				}
			}()
		}
	}()
}

func framed(m []byte) []byte {
	var b bytes.Buffer
	_ = sshagent.WriteMessage(&b, m)
	return b.Bytes()
}

// TestKey_LyingAgent: nothing that whoever holds the socket answers is taken for
// a signature.
func TestKey_LyingAgent(t *testing.T) {
	key, other := ed25519Key(t), ed25519Key(t)
	sign := func(by crypto.Signer, m []byte) *ssh.Signature {
		s, err := ssh.NewSignerFromSigner(by)
		if err != nil {
			t.Error(err)
			return nil
		}
		sig, err := s.Sign(rand.Reader, m)
		if err != nil {
			t.Error(err)
		}
		return sig
	}
	message := []byte("m")
	rsaAlgorithm := sign(key, message)
	rsaAlgorithm.Format = "ssh-rsa"
	for name, answer := range map[string][]byte{
		"another key":       framed(sshagent.MarshalSignature(sign(other, message))),
		"other bytes":       framed(sshagent.MarshalSignature(sign(key, []byte("n")))),
		"another algorithm": framed(sshagent.MarshalSignature(rsaAlgorithm)),
		"refusal":           framed([]byte{sshagent.MsgFailure}),
		"success":           framed([]byte{6}),
		"identities":        framed(sshagent.MarshalIdentities(nil)),
		"trailing":          framed(append(sshagent.MarshalSignature(sign(key, message)), 0)),
		"cut":               framed(sshagent.MarshalSignature(sign(key, message))[:20]),
		"endless":           {0xff, 0xff, 0xff, 0xff, sshagent.MsgSignResponse},
		"empty":             {0, 0, 0, 0},
		"end":               nil,
		"half":              {0, 0, 0, 9, sshagent.MsgSignResponse},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(folder(t), "l.sock")
			liar(t, socket, func([]byte) []byte { return answer })
			k := bound(t, sshagent.New(sshagent.Config{Endpoint: endpoint(t, socket, key), Timeout: 300 * time.Millisecond}), key)
			if sig, err := k.SignMessage(rand.Reader, message, crypto.Hash(0)); sig != nil || !fault.Is(err, fault.Unavailable) {
				t.Fatalf("%x, %v", sig, err)
			}
			if name == "identities" || name == "endless" {
				if err := k.Reachable(); err == nil {
					t.Fatal("reachable")
				}
			}
		})
	}
}

func TestBind_OnlyTheConfiguredKey(t *testing.T) {
	key := ed25519Key(t)
	c := sshagent.New(sshagent.Config{Endpoint: endpoint(t, "/nowhere/x.sock", key)})
	if _, err := c.Bind(ed25519Key(t).Public()); !fault.Is(err, fault.Conflict) {
		t.Fatalf("bound another key: %v", err)
	}
	if _, err := c.Fetch(); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("fetched from nowhere: %v", err)
	}
}

// TestSocket_WhoCouldHavePutItThere: a socket that others can exchange, or that
// is not one of ours, is not spoken to.
func TestSocket_WhoCouldHavePutItThere(t *testing.T) {
	key := ed25519Key(t)
	cases := map[string]struct {
		spoil func(dir, socket string) error
		owner int
		says  string
	}{
		"group writes the folder":  {func(d, _ string) error { return os.Chmod(d, 0o770) }, -1, "others can write the folder"},
		"everybody, sticky":        {func(d, _ string) error { return os.Chmod(d, 0o777|os.ModeSticky) }, -1, "others can write the folder"},
		"no socket":                {func(_, s string) error { _ = os.Remove(s); return os.WriteFile(s, nil, 0o600) }, -1, "is not a socket"},
		"a link to one":            {func(_, s string) error { return errorsJoin(os.Rename(s, s+"2"), os.Symlink(s+"2", s)) }, -1, "is not a socket"},
		"folder above is writable": {func(d, _ string) error { return os.Chmod(filepath.Dir(d), 0o777) }, -1, "others can write the folder"},
	}
	if os.Geteuid() == 0 {
		cases["another's socket"] = struct {
			spoil func(dir, socket string) error
			owner int
			says  string
		}{func(_, s string) error { return os.Chown(s, 4242, 4242) }, -1, "belongs to uid 4242"}
		cases["another's folder"] = struct {
			spoil func(dir, socket string) error
			owner int
			says  string
		}{func(d, _ string) error { return os.Chown(d, 4242, 4242) }, 4243, "others can write the folder"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(folder(t), "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(dir, "l.sock")
			liar(t, socket, func([]byte) []byte {
				return framed(sshagent.MarshalIdentities([]sshagent.Identity{{Key: sshKey(t, key).Marshal()}}))
			})
			e := endpoint(t, socket, key)
			if _, err := sshagent.New(sshagent.Config{Endpoint: e}).Fetch(); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := c.spoil(dir, socket); err != nil {
				t.Fatal(err)
			}
			e.Owner = c.owner
			if _, err := sshagent.New(sshagent.Config{Endpoint: e}).Fetch(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestSocket_ConfiguredOwner: a signer with a uid of its own is spoken to when
// the configuration names that uid, and the listener must be that uid too.
func TestSocket_ConfiguredOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test gives a socket to another uid and needs root")
	}
	key := ed25519Key(t)
	socket := filepath.Join(folder(t), "l.sock")
	liar(t, socket, func([]byte) []byte {
		return framed(sshagent.MarshalIdentities([]sshagent.Identity{{Key: sshKey(t, key).Marshal()}}))
	})
	for _, path := range []string{socket, filepath.Dir(socket)} {
		if err := os.Chown(path, 4242, 4242); err != nil {
			t.Fatal(err)
		}
	}
	e := endpoint(t, socket, key)
	if _, err := sshagent.New(sshagent.Config{Endpoint: e}).Fetch(); err == nil {
		t.Fatal("spoke to another's socket")
	}
	e.Owner = 4242
	if _, err := sshagent.New(sshagent.Config{Endpoint: e}).Fetch(); err != nil {
		t.Fatal(err)
	}
}
