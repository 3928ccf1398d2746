package keystore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
)

// told requires what an operator reads.
func told(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(fault.As(err).Public(), words) {
		t.Errorf("got %v, want: %s", err, words)
	}
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	if err := copyFile(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestOpenManifestKey_SealedFilesThatWereAltered: what is not of this program's making is
// refused before the passphrase is tried on it.
func TestOpenManifestKey_SealedFilesThatWereAltered(t *testing.T) {
	c := create(t, "right")
	path := filepath.Join(c.Dir, "manifest.pem")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for words, change := range map[string]func(*pem.Block){
		"a key file has a malformed salt":             func(b *pem.Block) { b.Headers["Salt"] = base64.StdEncoding.EncodeToString([]byte("short")) },
		`is sealed with unknown parameters "rot13"`:   func(b *pem.Block) { b.Headers["KDF"] = "rot13" },
		"manifest.pem is too short":                   func(b *pem.Block) { b.Bytes = b.Bytes[:8] },
		`holds "CERTIFICATE", expected "PRIVATE KEY"`: func(b *pem.Block) { b.Type, b.Headers = "CERTIFICATE", nil },
	} {
		block, _ := pem.Decode(good)
		change(block)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keystore.OpenManifestKey(path, c.Passphrase)
		told(t, err, words)
	}
}

// TestOpen_KeysUnderOtherNames: a file of a rotation is the key that its name says.
func TestOpen_KeysUnderOtherNames(t *testing.T) {
	c := create(t, "")
	s, err := keystore.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	told(t, func() error { _, err := s.Make("manifest"); return err }(), `keys of purpose "manifest" are not replaced`)
	key, err := s.Signer(protocol.UserCA)
	if err != nil {
		t.Fatal(err)
	}
	own := id(t, key.Public())
	told(t, s.Destroy(protocol.UserCA, own), "the user-ca key "+own+" is in use")
	path := filepath.Join(c.Dir, "user-ca.pem")
	again := filepath.Join(c.Dir, "user-ca."+own+".pem")
	copied(t, path, again)
	_, err = keystore.Open(c)
	told(t, err, "is the same key as user-ca.pem")
	if err := os.Rename(again, filepath.Join(c.Dir, "user-ca."+strings.Repeat("A", len(own))+".pem")); err != nil {
		t.Fatal(err)
	}
	_, err = keystore.Open(c)
	told(t, err, "holds another key than its name says")
}

// TestExternal_OneSignerAndOneThatIsFit: init takes one signer of a purpose, and a
// public half that cannot be an authority's is refused at each start.
func TestExternal_OneSignerAndOneThatIsFit(t *testing.T) {
	c := keystore.Config{Dir: filepath.Join(t.TempDir(), "keys"), Rand: rand.Reader, External: map[keystore.Purpose][]keystore.External{protocol.UserCA: {remoteKey(t), remoteKey(t)}}}
	_, err := keystore.Create(c)
	told(t, err, "2 signers are given for user-ca; a new deployment has one key of each purpose")
	c.Dir, c.External = filepath.Join(t.TempDir(), "keys"), map[keystore.Purpose][]keystore.External{protocol.UserCA: {remoteKey(t)}}
	if _, err := keystore.Create(c); err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(weak.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "user-ca.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = keystore.Open(c)
	told(t, err, "user-ca.pub holds no key that is fit for its purpose")
}
