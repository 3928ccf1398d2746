package postgrestest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Secure is a server that also takes TCP connections on loopback: with TLS, a
// certificate of CA for "localhost", and the password of the role "sallyport".
type Secure struct {
	*Server
	CA       string // PEM file
	OtherCA  string // PEM file of an authority that has certified nothing here
	Port     int
	Password string
}

// NewSecure makes and starts one. On TCP, connections without TLS are refused.
func NewSecure(t testing.TB) *Secure {
	t.Helper()
	s := &Secure{Server: prepare(t), Password: "Walnut-Ferry-52-Anvil"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.CA, s.OtherCA = filepath.Join(s.folder, "ca.pem"), filepath.Join(s.folder, "other-ca.pem")
	ca, caKey := certificate(t, nil, nil, s.CA, "")
	certificate(t, nil, nil, s.OtherCA, "")
	certificate(t, ca, caKey, filepath.Join(s.folder, "server.pem"), filepath.Join(s.folder, "server.key"))
	hba := filepath.Join(s.folder, "data", "pg_hba.conf")
	err = os.WriteFile(hba, []byte("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n"), 0o600)
	if s.as != nil {
		err = errors.Join(err, os.Chown(hba, int(s.as.Uid), int(s.as.Gid)), os.Chown(filepath.Join(s.folder, "server.key"), int(s.as.Uid), int(s.as.Gid)))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.port = strconv.Itoa(s.Port)
	s.args = []string{"-c", "listen_addresses=localhost", "-c", "port=" + s.port, "-c", "ssl=on", "-c", "ssl_cert_file=" + filepath.Join(s.folder, "server.pem"), "-c", "ssl_key_file=" + filepath.Join(s.folder, "server.key")}
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	s.SQL(t, s.URL("postgres"), "ALTER ROLE sallyport PASSWORD '"+s.Password+"'")
	return s
}

// Authority makes an authority and returns its PEM file.
func Authority(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	certificate(t, nil, nil, file, "")
	return file
}

// certificate makes one for "localhost", signed by an authority, or without one
// an authority.
func certificate(t testing.TB, ca *x509.Certificate, caKey *ecdsa.PrivateKey, file, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: filepath.Base(file)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: ca == nil, KeyUsage: x509.KeyUsageDigitalSignature}
	if ca == nil {
		template.KeyUsage |= x509.KeyUsageCertSign
		ca, caKey = template, key
	} else {
		template.DNSNames = []string{"localhost"}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644) //nolint:gosec // a certificate
	if keyFile != "" {
		err = errors.Join(err, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}
