//go:build pkcs11

package pkcs11_test

import (
	"crypto"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	raw "github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/signer/pkcs11"
)

// told requires what an operator reads.
func told(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(fault.As(err).Public(), words) {
		t.Errorf("got %v, want: %s", err, words)
	}
}

// configure writes SoftHSM's settings anew, for the next time that it is opened.
func (h *hsm) configure(t *testing.T, folder, more string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "softhsm2.conf"), []byte("directories.tokendir = "+folder+"\nobjectstore.backend = file\nlog.level = ERROR\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
}

// within uses the library as another program would, as user or security officer.
func (h *hsm) within(t *testing.T, use func(lib *raw.Ctx, slot uint, session raw.SessionHandle) error) {
	t.Helper()
	lib := raw.New(module)
	defer lib.Destroy()
	if err := lib.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lib.Finalize() }()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	session, err := lib.OpenSession(slots[0], raw.CKF_SERIAL_SESSION|raw.CKF_RW_SESSION)
	if err == nil {
		err = errors.Join(lib.Login(session, raw.CKU_USER, "123456"), use(lib, slots[len(slots)-1], session))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestToken_KeysThatCannotSign: what other programs have left under a label.
func TestToken_KeysThatCannotSign(t *testing.T) {
	h := newHSM(t)
	label := func(name string) *raw.Attribute { return raw.NewAttribute(raw.CKA_LABEL, name) }
	h.within(t, func(lib *raw.Ctx, _ uint, s raw.SessionHandle) error {
		onToken := raw.NewAttribute(raw.CKA_TOKEN, true)
		public := []*raw.Attribute{onToken, raw.NewAttribute(raw.CKA_MODULUS_BITS, 2048), raw.NewAttribute(raw.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}
		for _, name := range []string{"rsa", "half"} {
			pub, _, err := lib.GenerateKeyPair(s, []*raw.Mechanism{raw.NewMechanism(raw.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}, append(public, label(name)), []*raw.Attribute{onToken, raw.NewAttribute(raw.CKA_SIGN, true), label(name)})
			if err == nil && name == "half" {
				err = lib.DestroyObject(s, pub)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	token := h.open(t)
	_, err := token.Key("rsa")
	told(t, err, `the key "rsa" is not on an elliptic curve`)
	h.later()
	_, err = token.Key("half")
	told(t, err, `has 0 public keys "half", and one is needed`)
	_, err = token.Generate("", pkcs11.Ed25519)
	told(t, err, "a key needs a label")
}

// TestToken_WithoutTheMechanism: a token that may not use Ed25519 does not sign with
// a key of that kind.
func TestToken_WithoutTheMechanism(t *testing.T) {
	h := newHSM(t)
	token := h.open(t)
	if _, err := token.Generate("k", pkcs11.Ed25519); err != nil {
		t.Fatal(err)
	}
	token.Close()
	h.configure(t, h.dir+"/tokens", "slots.mechanisms = CKM_ECDSA,CKM_EC_KEY_PAIR_GEN\n")
	token = h.open(t)
	k, err := token.Key("k")
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(rand.Reader, []byte("m"), crypto.Hash(0))
	told(t, err, `the token "ca" does not sign`)
}

// TestOpen_TokensThatAreNotReady: a library that finds no place for its tokens, and a
// token whose user has no PIN yet.
func TestOpen_TokensThatAreNotReady(t *testing.T) {
	h := newHSM(t)
	h.within(t, func(lib *raw.Ctx, free uint, _ raw.SessionHandle) error {
		return lib.InitToken(free, "654321", "fresh")
	})
	c := h.config
	c.Label = "fresh"
	_, err := pkcs11.Open(c)
	told(t, err, `the token "fresh" lets nobody log in`)
	h.configure(t, "/nonexistent", "")
	_, err = pkcs11.Open(h.config)
	told(t, err, "the PKCS#11 library cannot be initialized")
}

// TestToken_ReadOnly: a token that takes nothing more makes no key. Its files are
// root's, and the thread that asks is nobody's meanwhile.
func TestToken_ReadOnly(t *testing.T) {
	h := newHSM(t)
	token := h.open(t)
	open := func(path string, info os.FileInfo, err error) error {
		mode := os.FileMode(0o644)
		if err == nil && info.IsDir() {
			mode = 0o755
		}
		return errors.Join(err, os.Chmod(path, mode))
	}
	if err := errors.Join(os.Chmod(filepath.Dir(h.dir), 0o755), filepath.Walk(h.dir, open)); err != nil {
		t.Fatal(err)
	}
	as := func(uid uintptr) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0)); errno != 0 {
			panic(errno)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	as(65534)
	_, err := token.Generate("new", pkcs11.Ed25519)
	as(0)
	told(t, err, `the token "ca" makes no ed25519 key`)
}
