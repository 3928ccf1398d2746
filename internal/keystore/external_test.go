package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/keystore"
	"sallyport/internal/keystore/keystoretest"
	"sallyport/internal/machine/protocol"
)

// remote is a key that is elsewhere, or a process that is away.
type remote struct {
	key  crypto.Signer
	away bool
}

func (r remote) Fetch() (crypto.PublicKey, error) {
	if r.away {
		return nil, fault.New(fault.Unavailable, "SignerAway", "away")
	}
	return r.key.Public(), nil
}

func (r remote) Bind(public crypto.PublicKey) (crypto.Signer, error) {
	if !r.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
		return nil, errors.New("another key")
	}
	return r.key, nil
}

func remoteKey(t *testing.T) remote {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return remote{key: k}
}

func TestExternal_Conformance(t *testing.T) {
	user, host := remoteKey(t), remoteKey(t)
	for _, pass := range []string{"", "correct horse"} {
		c := keystore.Config{Dir: filepath.Join(t.TempDir(), "keys"), Rand: rand.Reader, Passphrase: []byte(pass), External: map[keystore.Purpose][]keystore.External{protocol.UserCA: {user}, protocol.HostCA: {host}}}
		if _, err := keystore.Create(c); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"user-ca.pem", "host-ca.pem"} {
			if _, err := os.Lstat(filepath.Join(c.Dir, p)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s exists although the key is elsewhere", p)
			}
		}
		c.External[protocol.UserCA] = []keystore.External{remote{key: user.key, away: true}} // the start needs nobody
		keystoretest.Run(t, func(t *testing.T) keystoretest.Keys {
			s, err := keystore.Open(c)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	}
}

func TestExternal_Refusals(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]keystore.Config{
		"weak RSA":                {External: map[keystore.Purpose][]keystore.External{protocol.UserCA: {remote{key: weak}}}},
		"a curve sshd lacks":      {External: map[keystore.Purpose][]keystore.External{protocol.UserCA: {remote{key: odd}}}},
		"away at init":            {External: map[keystore.Purpose][]keystore.External{protocol.UserCA: {remote{away: true}}}},
		"a purpose that stays":    {External: map[keystore.Purpose][]keystore.External{protocol.Token: {remoteKey(t)}}},
		"algorithm of a signer":   {External: map[keystore.Purpose][]keystore.External{protocol.HostCA: {remoteKey(t)}}, Algorithms: map[keystore.Purpose]keystore.Algorithm{protocol.HostCA: keystore.RSA3072}},
		"algorithm of the tokens": {Algorithms: map[keystore.Purpose]keystore.Algorithm{protocol.Token: keystore.RSA3072}},
	} {
		c.Dir, c.Rand = filepath.Join(t.TempDir(), "keys"), rand.Reader
		if _, err := keystore.Create(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

func TestExternal_OpenIsStrict(t *testing.T) {
	user := remoteKey(t)
	external := map[keystore.Purpose][]keystore.External{protocol.UserCA: {user}}
	fresh := func() keystore.Config {
		c := keystore.Config{Dir: filepath.Join(t.TempDir(), "keys"), Rand: rand.Reader, External: external}
		if _, err := keystore.Create(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(name, says string, c keystore.Config) {
		t.Helper()
		_, err := keystore.Open(c)
		if err == nil {
			t.Fatalf("%s: opened", name)
		}
		handbooktest.Said(t, fault.As(err).Public(), says)
	}
	c := fresh()
	c.External = nil
	refused("no signer configured", "start.SignerMissing", c)
	c.External = map[keystore.Purpose][]keystore.External{protocol.UserCA: {remoteKey(t)}}
	refused("another signer's key", "start.SignerMissing", c)
	c = fresh()
	if err := copyFile(filepath.Join(c.Dir, "host-ca.pem"), filepath.Join(c.Dir, "user-ca.pem")); err != nil {
		t.Fatal(err)
	}
	refused("a private key too", "start.KeyTwice", c)
	c = fresh()
	if err := os.Chmod(filepath.Join(c.Dir, "user-ca.pub"), 0o666); err != nil {
		t.Fatal(err)
	}
	refused("a public half that others write", "start.KeyFileUnsafe.mode", c)
	c = fresh()
	if err := os.Remove(filepath.Join(c.Dir, "user-ca.pub")); err != nil {
		t.Fatal(err)
	}
	refused("no public half", "start.KeyMissing", c)
}

// TestCreate_EveryAlgorithm: the authorities' keys are of the kind asked for,
// and are opened again.
func TestCreate_EveryAlgorithm(t *testing.T) {
	bits := map[keystore.Algorithm]int{keystore.Ed25519: 0, keystore.ECDSAP256: 256, keystore.ECDSAP384: 384, keystore.RSA3072: 3072, keystore.RSA4096: 4096}
	for _, a := range keystore.Algorithms() {
		parsed, err := keystore.ParseAlgorithm(string(a))
		if err != nil || parsed != a {
			t.Fatal(a, err)
		}
		c := keystore.Config{Dir: filepath.Join(t.TempDir(), "keys"), Rand: rand.Reader, Algorithms: map[keystore.Purpose]keystore.Algorithm{protocol.UserCA: a}}
		s, err := keystore.Create(c)
		if err != nil {
			t.Fatal(a, err)
		}
		key, err := s.Signer(protocol.UserCA)
		if err != nil {
			t.Fatal(err)
		}
		have := 0
		switch k := key.Public().(type) {
		case *ecdsa.PublicKey:
			have = k.Curve.Params().BitSize
		case *rsa.PublicKey:
			have = k.N.BitLen()
		}
		if have != bits[a] {
			t.Errorf("%s: %d bits", a, have)
		}
	}
	if _, err := keystore.ParseAlgorithm("rsa-2048"); err == nil {
		t.Error("rsa-2048 is an algorithm")
	}
}

// TestOpen_WeakAuthorityIsRefused: a CA key below what is allowed, put in place
// by hand, is not opened.
func TestOpen_WeakAuthorityIsRefused(t *testing.T) {
	c := create(t, "")
	if err := copyFile(filepath.Join(c.Dir, "token.pem"), filepath.Join(c.Dir, "user-ca.pem")); err != nil { // RSA of 2048 bits
		t.Fatal(err)
	}
	if _, err := keystore.Open(c); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Fatalf("got %v", err)
	}
}

func id(t *testing.T, k crypto.PublicKey) string {
	t.Helper()
	id, err := protocol.Thumbprint(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestMake_RotatesToASigner: from a file to a signer, from there to the next one,
// and never back to a file by itself. A second server, which has the signers
// configured, adopts what the first one did.
func TestMake_RotatesToASigner(t *testing.T) {
	first, second := remoteKey(t), remoteKey(t)
	c := create(t, "")
	c.External = map[keystore.Purpose][]keystore.External{protocol.UserCA: {first}}
	s, err := keystore.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	file, err := s.Signer(protocol.UserCA)
	if err != nil {
		t.Fatal(err)
	}
	// As a kill in the middle of an earlier try leaves it.
	if err := os.WriteFile(filepath.Join(c.Dir, "user-ca."+id(t, first.key.Public())+".pub.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := s.Make(protocol.UserCA)
	if err != nil || id(t, made) != id(t, first.key.Public()) {
		t.Fatal(made, err)
	}
	if now, err := s.Signer(protocol.UserCA); err != nil || id(t, now.Public()) != id(t, file.Public()) {
		t.Fatal("in use before Use", err)
	}
	if err := s.Use(protocol.UserCA, id(t, made)); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(protocol.UserCA, id(t, file.Public())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(c.Dir, "user-ca.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the private file is still there")
	}
	if _, err := s.Make(protocol.UserCA); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.As(err).Public(), "a second time") {
		t.Fatalf("made a key in a file, or the same again: %v", err)
	}
	c.External[protocol.UserCA] = []keystore.External{remote{key: first.key, away: true}, second}
	if s, err = keystore.Open(c); err != nil {
		t.Fatal(err)
	}
	if made, err = s.Make(protocol.UserCA); err != nil || id(t, made) != id(t, second.key.Public()) {
		t.Fatal(made, err)
	}
	if err := errors.Join(s.Use(protocol.UserCA, id(t, made)), s.Destroy(protocol.UserCA, id(t, first.key.Public()))); err != nil {
		t.Fatal(err)
	}
	c.External[protocol.UserCA] = []keystore.External{second}
	if s, err = keystore.Open(c); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Signer(protocol.UserCA); err != nil || id(t, now.Public()) != id(t, second.key.Public()) {
		t.Fatal(err)
	}

	other := create(t, "")
	other.External = map[keystore.Purpose][]keystore.External{protocol.UserCA: {first, second}}
	if s, err = keystore.Open(other); err != nil {
		t.Fatal(err)
	}
	if err := s.Use(protocol.UserCA, id(t, second.key.Public())); err != nil {
		t.Fatal(err)
	}
	if err := s.Use(protocol.UserCA, id(t, remoteKey(t).key.Public())); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("used a key that nobody holds: %v", err)
	}
}
