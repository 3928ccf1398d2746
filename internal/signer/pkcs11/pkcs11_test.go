//go:build pkcs11

package pkcs11_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/signer/pkcs11"
)

// module is where Debian's softhsm2 has its library (packaging/deps.sh).
const module = "/usr/lib/softhsm/libsofthsm2.so"

// hsm is a SoftHSM of one test.
type hsm struct {
	dir    string
	config pkcs11.Config
	mu     sync.Mutex
	asked  int
	pin    string
	clock  time.Time
}

func newHSM(t *testing.T) *hsm {
	t.Helper()
	dir := t.TempDir()
	h := &hsm{dir: dir, pin: "123456", clock: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(dir+"/tokens", 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	h.initToken(t, "ca")
	h.config = pkcs11.Config{Module: module, Label: "ca",
		PIN: func() (string, error) { h.mu.Lock(); defer h.mu.Unlock(); h.asked++; return h.pin, nil },
		Now: func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.clock }}
	return h
}

func (h *hsm) initToken(t *testing.T, label string) {
	t.Helper()
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", "123456", "--so-pin", "654321").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v %s", err, out)
	}
}

func (h *hsm) later() { h.mu.Lock(); h.clock = h.clock.Add(time.Minute); h.mu.Unlock() }

func (h *hsm) open(t *testing.T) *pkcs11.Token {
	t.Helper()
	token, err := pkcs11.Open(h.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(token.Close)
	return token
}

// verified signs a message and says whether the signature is good.
func verified(k *pkcs11.Key, message []byte) error {
	switch pub := k.Public().(type) {
	case ed25519.PublicKey:
		sig, err := k.Sign(rand.Reader, message, crypto.Hash(0))
		if err == nil && !ed25519.Verify(pub, message, sig) {
			err = errors.New("it does not verify")
		}
		return err
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(pub, sum[:], sig) {
			err = errors.New("it does not verify")
		}
		return err
	}
	return errors.New("another kind of key")
}

func TestToken_MakesFindsAndSigns(t *testing.T) {
	h := newHSM(t)
	token := h.open(t)
	for _, a := range []pkcs11.Algorithm{pkcs11.Ed25519, pkcs11.ECDSAP256} {
		made, err := token.Generate(string(a), a)
		if err != nil {
			t.Fatal(err)
		}
		found, err := token.Key(string(a))
		if err != nil || !found.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) {
			t.Fatal(a, err)
		}
		for range 20 { // numbers with leading zeros too
			if err := verified(found, []byte("message")); err != nil {
				t.Fatal(a, err)
			}
		}
		if err := found.Probe(); err != nil {
			t.Error(err)
		}
		for _, wrong := range []crypto.Hash{crypto.SHA1, crypto.SHA512} {
			if _, err := found.Sign(rand.Reader, make([]byte, wrong.Size()), wrong); err == nil {
				t.Errorf("%s signed with %v", a, wrong)
			}
		}
		if _, err := token.Generate(string(a), a); !fault.Is(err, fault.Conflict) {
			t.Errorf("a second key of one label: %v", err)
		}
	}
	if _, err := token.Key("none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	if _, err := token.Generate("x", "rsa-1024"); !fault.Is(err, fault.Invalid) {
		t.Errorf("another algorithm: %v", err)
	}
}

func TestToken_ManyAtOnce(t *testing.T) {
	h := newHSM(t)
	k, err := h.open(t).Generate("k", pkcs11.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 10 {
				if err := verified(k, []byte("message")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestToken_WrongPINIsTriedOnce: tokens count wrong PINs and lock themselves.
func TestToken_WrongPINIsTriedOnce(t *testing.T) {
	h := newHSM(t)
	h.pin = "000000"
	if _, err := pkcs11.Open(h.config); !fault.Is(err, fault.Forbidden) || !strings.Contains(fault.As(err).Public(), "refuses the PIN") {
		t.Fatalf("got %v", err)
	}
	h.pin = "123456"
	token := h.open(t)
	k, err := token.Generate("k", pkcs11.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	h.pin = "000000" // the file is changed while the token is away
	h.take(t)
	if err := verified(k, []byte("m")); err == nil {
		t.Fatal("signed without a token")
	}
	h.back(t)
	h.asked = 0
	for range 5 {
		h.later()
		if err := verified(k, []byte("m")); err == nil || !strings.Contains(err.Error(), "refuses the PIN") {
			t.Fatal(err)
		}
	}
	if h.asked != 1 {
		t.Errorf("the PIN was tried %d times", h.asked)
	}
}

// take takes the token out: its folder goes, and what the library has of it.
func (h *hsm) take(t *testing.T) {
	t.Helper()
	if err := os.Rename(h.dir+"/tokens", h.dir+"/drawer"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.dir+"/tokens", 0o700); err != nil {
		t.Fatal(err)
	}
}

func (h *hsm) back(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.Remove(h.dir+"/tokens"), os.Rename(h.dir+"/drawer", h.dir+"/tokens")); err != nil {
		t.Fatal(err)
	}
}

// TestToken_TakenOutAndPutBack: while it is away signatures fail with a
// sentence, afterwards the same key signs without a restart.
func TestToken_TakenOutAndPutBack(t *testing.T) {
	h := newHSM(t)
	k, err := h.open(t).Generate("k", pkcs11.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	h.take(t)
	for range 2 {
		h.later()
		if err := verified(k, []byte("m")); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.As(err).Public(), `the token "ca" does not`) {
			t.Fatalf("without a token: %v", err)
		}
		if k.Probe() == nil {
			t.Fatal("the probe found a token")
		}
	}
	h.back(t)
	h.later()
	if err := verified(k, []byte("m")); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_Refusals(t *testing.T) {
	h := newHSM(t)
	c := h.config
	c.Module = "/nonexistent.so"
	if _, err := pkcs11.Open(c); !fault.Is(err, fault.Invalid) {
		t.Errorf("no library: %v", err)
	}
	c = h.config
	c.Label = "other"
	if _, err := pkcs11.Open(c); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), `"ca"`) {
		t.Errorf("no token: %v", err)
	}
	h.initToken(t, "ca")
	if _, err := pkcs11.Open(h.config); !fault.Is(err, fault.Conflict) {
		t.Errorf("two tokens of one label: %v", err)
	}
	if h.asked != 0 {
		t.Error("the PIN was given away")
	}
}
