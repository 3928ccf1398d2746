package keystore_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/keystore/keystoretest"
)

func create(t *testing.T, pass string) keystore.Config {
	t.Helper()
	c := keystore.Config{Dir: filepath.Join(t.TempDir(), "keys"), Rand: rand.Reader, Passphrase: []byte(pass)}
	if _, err := keystore.Create(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFile_Conformance(t *testing.T) {
	for _, pass := range []string{"", "correct horse"} {
		c := create(t, pass)
		keystoretest.Run(t, func(t *testing.T) keystoretest.Keys {
			s, err := keystore.Open(c)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	}
}

func TestCreate_NeverReplaces(t *testing.T) {
	c := create(t, "")
	if _, err := keystore.Create(c); !fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v", err)
	}
}

func TestOpen_RefusesUnsafeFiles(t *testing.T) {
	cases := map[string]func(dir string) error{
		"group readable key":  func(d string) error { return os.Chmod(filepath.Join(d, "user-ca.pem"), 0o640) },
		"world readable hash": func(d string) error { return os.Chmod(filepath.Join(d, "hash.key"), 0o604) },
		"open folder":         func(d string) error { return os.Chmod(d, 0o750) },
		"symbolic link": func(d string) error {
			p := filepath.Join(d, "user-ca.pem")
			if err := os.Rename(p, p+".real"); err != nil {
				return err
			}
			return os.Symlink(p+".real", p)
		},
		"missing key": func(d string) error { return os.Remove(filepath.Join(d, "audit.pem")) },
		"one key twice": func(d string) error {
			return copyFile(filepath.Join(d, "audit.pem"), filepath.Join(d, "user-ca.pem"))
		},
		"wrong kind": func(d string) error {
			return copyFile(filepath.Join(d, "token.pem"), filepath.Join(d, "user-ca.pem"))
		},
		"trailing bytes": func(d string) error {
			f, err := os.OpenFile(filepath.Join(d, "tls.pem"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("x")
			return err
		},
		"empty": func(d string) error { return os.Truncate(filepath.Join(d, "tls.pem"), 0) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			c := create(t, "")
			if err := spoil(c.Dir); err != nil {
				t.Fatal(err)
			}
			if _, err := keystore.Open(c); err == nil {
				t.Fatal("opened")
			}
		})
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

func TestOpen_ManifestKeyMayBeOffline(t *testing.T) {
	c := create(t, "")
	if err := os.Remove(filepath.Join(c.Dir, "manifest.pem")); err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Signer(keystore.Manifest); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("got %v", err)
	}
}

// TestAddRepository_MadeOnceForDeploymentsThatHandOutPackages: Create makes none,
// AddRepository one that lasts, and a key of another kind in its place is refused.
func TestAddRepository_MadeOnceForDeploymentsThatHandOutPackages(t *testing.T) {
	c := create(t, "correct horse")
	s, err := keystore.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Signer(keystore.Repository); !fault.Is(err, fault.Precondition) {
		t.Fatalf("before it was made: %v", err)
	}
	if err := s.AddRepository(); err != nil {
		t.Fatal(err)
	}
	made, err := s.Signer(keystore.Repository)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keystore.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.AddRepository(); err != nil {
		t.Fatal(err)
	}
	if key, err := again.Signer(keystore.Repository); err != nil || !made.Public().(*rsa.PublicKey).Equal(key.Public()) {
		t.Errorf("another key: %v", err)
	}
	if len(again.Public()) != len(keystore.Purposes())+1 {
		t.Error("certificates could be asked for the repository key")
	}
	plain := create(t, "")
	if err := copyFile(filepath.Join(plain.Dir, "audit.pem"), filepath.Join(plain.Dir, "repository.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Open(plain); err == nil || fault.As(err).Code != "KeyInvalid" {
		t.Errorf("an Ed25519 key signs packages: %v", err)
	}
}

func TestPassphrase_WrongMissingAndSwapped(t *testing.T) {
	c := create(t, "right")
	for _, pass := range []string{"", "wrong"} {
		c.Passphrase = []byte(pass)
		if _, err := keystore.Open(c); err == nil {
			t.Fatalf("opened with %q", pass)
		}
	}
	c.Passphrase = []byte("right")
	if err := copyFile(filepath.Join(c.Dir, "audit.pem"), filepath.Join(c.Dir, "user-ca.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Open(c); err == nil {
		t.Fatal("a sealed key stood in for another purpose")
	}
	plain := create(t, "")
	plain.Passphrase = []byte("right")
	if _, err := keystore.Open(plain); err == nil {
		t.Fatal("plain files accepted where a passphrase is configured")
	}
}

func TestTLS_CertificateVerifiesUnderTheRoot(t *testing.T) {
	s, err := keystore.Open(create(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	root, err := s.TLSRoot("contoso.test", from, from.AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.TLSCertificate(root, keystore.TLSNames{Hosts: []string{"localhost", "127.0.0.1"}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(r)
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: from.Add(time.Hour)}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}
