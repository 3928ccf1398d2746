package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// pair is a certificate with its key, PEM.
func pair(t *testing.T, host string, notBefore, notAfter time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(notAfter.Unix()), Subject: pkix.Name{CommonName: "public"}, DNSNames: []string{host}, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func put(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	// A new file under the name, as those who renew certificates do it.
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func filesConfig(t *testing.T, now time.Time) tlsFilesConfig {
	t.Helper()
	dir := t.TempDir()
	return tlsFilesConfig{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Host: "login.corp.example", Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
}

func TestTLSFiles_RefuseAtTheStart(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	cert, key := pair(t, "login.corp.example", now.Add(-time.Hour), now.Add(time.Hour))
	other, _ := pair(t, "login.corp.example", now.Add(-time.Hour), now.Add(time.Hour))
	elsewhere, elsewhereKey := pair(t, "other.example", now.Add(-time.Hour), now.Add(time.Hour))
	ended, endedKey := pair(t, "login.corp.example", now.Add(-2*time.Hour), now.Add(-time.Hour))
	future, futureKey := pair(t, "login.corp.example", now.Add(time.Hour), now.Add(2*time.Hour))
	for name, c := range map[string]struct {
		cert, key         []byte
		certMode, keyMode os.FileMode
		want              string
	}{
		"good":                       {cert, key, 0o644, 0o600, ""},
		"key that a group may read":  {cert, key, 0o644, 0o640, ""},
		"key that others may read":   {cert, key, 0o644, 0o644, "read or changed by others"},
		"certificate others write":   {cert, key, 0o666, 0o600, "changed by others"},
		"key of another certificate": {other, key, 0o644, 0o600, "no certificate with its key"},
		"no PEM":                     {[]byte("x"), key, 0o644, 0o600, "no certificate with its key"},
		"another host":               {elsewhere, elsewhereKey, 0o644, 0o600, "does not name login.corp.example"},
		"ended":                      {ended, endedKey, 0o644, 0o600, "not now"},
		"not begun":                  {future, futureKey, 0o644, 0o600, "not now"},
	} {
		cfg := filesConfig(t, now)
		put(t, cfg.Certificate, c.cert, c.certMode)
		put(t, cfg.Key, c.key, c.keyMode)
		_, err := openTLSFiles(cfg)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openTLSFiles(filesConfig(t, now)); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("no files: %v", err)
	}
}

// A renewal replaces one file and then the other. Between the two, and when the
// new pair is broken for good, the old one is served and the state says so.
func TestTLSFiles_BrokenPairKeepsTheOldOne(t *testing.T) {
	now := time.Now()
	cfg := filesConfig(t, now)
	cert, key := pair(t, cfg.Host, now.Add(-time.Hour), now.Add(time.Hour))
	put(t, cfg.Certificate, cert, 0o644)
	put(t, cfg.Key, key, 0o600)
	f, err := openTLSFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := f.certificate(&tls.ClientHelloInfo{ServerName: cfg.Host})
	f.look(false)
	if f.certificate(&tls.ClientHelloInfo{}) != first {
		t.Fatal("files that did not change were loaded again")
	}
	cert2, key2 := pair(t, cfg.Host, now.Add(-time.Hour), now.Add(2*time.Hour))
	put(t, cfg.Certificate, cert2, 0o644)
	f.look(false)
	c := &certificates{public: f, now: cfg.Now}
	if f.certificate(&tls.ClientHelloInfo{}) != first || c.ready() != "ok; the new TLS certificate is not taken" || c.gauges()[1] != 1 {
		t.Fatalf("%q %v", c.ready(), c.gauges())
	}
	put(t, cfg.Key, key2, 0o600)
	f.look(false)
	if got := f.certificate(&tls.ClientHelloInfo{}); got == first || c.ready() != "ok" || c.gauges()[1] != 0 || c.gauges()[0] != float64(got.Leaf.NotAfter.Unix()) {
		t.Fatalf("%q %v", c.ready(), c.gauges())
	}
	if err := os.Remove(cfg.Key); err != nil {
		t.Fatal(err)
	}
	if f.look(false); c.ready() == "ok" {
		t.Fatal("a lost key does not show")
	}
	if f.certificate(&tls.ClientHelloInfo{ServerName: "elsewhere.example"}) != nil {
		t.Fatal("another name was given this certificate")
	}
	now = now.Add(3 * time.Hour)
	f.cfg.Now = func() time.Time { return now }
	c.now = f.cfg.Now
	if c.ready() != "the TLS certificate has ended" {
		t.Fatal(c.ready())
	}
}

// Machines and the CLI are shown the chain that the manifest names, whatever
// browsers are shown: a switch of the public certificate locks nobody out.
func TestTLS_PinnedClientsSeeTheManifestsRoot(t *testing.T) {
	d := rig(t, time.Now)
	cfg := filesConfig(t, time.Now())
	cert, key := pair(t, cfg.Host, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	put(t, cfg.Certificate, cert, 0o644)
	put(t, cfg.Key, key, 0o600)
	d.cfg.TLS = TLSConfig{Certificate: cfg.Certificate, Key: cfg.Key}
	told := make(chan string, 2)
	d.cfg.Notify = func(state string) error { told <- state; return nil }
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Sockets = []net.Listener{socket}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.serve(ctx) }()
	<-told
	shown := func(roots [][]byte, alpn ...string) (string, error) {
		conf := &tls.Config{ServerName: cfg.Host, NextProtos: alpn, RootCAs: x509.NewCertPool()}
		for _, der := range roots {
			root, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			conf.RootCAs.AddCert(root)
		}
		c, err := tls.Dial("tcp", socket.Addr().String(), conf)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.ConnectionState().NegotiatedProtocol, nil
	}
	block, _ := pem.Decode(cert)
	if p, err := shown(d.manifest.TLSRoots, "h2", "http/1.1", protocol.ALPNPinned); err != nil || p != "h2" {
		t.Errorf("a machine: %q %v", p, err)
	}
	if p, err := shown([][]byte{block.Bytes}, "h2", "http/1.1"); err != nil || p != "h2" {
		t.Errorf("a browser: %q %v", p, err)
	}
	if _, err := shown(d.manifest.TLSRoots, "h2", "http/1.1"); err == nil {
		t.Error("a client that did not announce itself was shown the manifest's chain")
	}
	if w := get(t, d, "/readyz"); w.Code != 200 || !strings.Contains(w.Body.String(), `"tls":"ok"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestTLS_Settings(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  TLSConfig
		want string
	}{
		"none":             {TLSConfig{}, ""},
		"both files":       {TLSConfig{Certificate: "a", Key: "b"}, ""},
		"half":             {TLSConfig{Certificate: "a"}, "together"},
		"two sources":      {TLSConfig{Certificate: "a", Key: "b", ACMEDirectory: "https://acme.example/d"}, "not from both"},
		"acme":             {TLSConfig{ACMEDirectory: "https://acme.example/d", ACMEEmail: "x@corp.example"}, ""},
		"acme, no https":   {TLSConfig{ACMEDirectory: "http://acme.example/d"}, "no https URL"},
		"an email for all": {TLSConfig{ACMEEmail: "x@corp.example"}, "needs the ACME server's directory"},
	} {
		if err := checkTLS(c.cfg); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, host := range []string{"localhost", "192.0.2.1"} {
		if _, err := openACME(acmeConfig{Directory: "https://acme.example/d", Host: host}); err == nil {
			t.Errorf("ACME for %s was accepted", host)
		}
	}
}

func TestInherited_TakesWhatIsOursAlone(t *testing.T) {
	env := func(pid, n string) func(string) string {
		return func(name string) string { return map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": n}[name] }
	}
	for _, e := range []func(string) string{env("", ""), env("8", "1")} {
		if l, err := inherited(e, 7, 100); l != nil || err != nil {
			t.Errorf("%v %v", l, err)
		}
	}
	for _, n := range []string{"", "0", "-1", "x", "17"} {
		if _, err := inherited(env("7", n), 7, 100); err == nil {
			t.Errorf("LISTEN_FDS=%s was accepted", n)
		} else if n != "" {
			handbooktest.Said(t, fault.As(err).Public(), "start.InheritedSocket.number")
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	copied := func(f *os.File) int { // inherited closes what it takes
		t.Helper()
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	if _, err := inherited(env("7", "1"), 7, copied(null)); err == nil {
		t.Error("a file is no socket")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "start.InheritedSocket")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	got, err := inherited(env("7", "1"), 7, copied(file))
	if err != nil || len(got) != 1 || got[0].Addr().String() != l.Addr().String() {
		t.Fatal(got, err)
	}
	_ = got[0].Close()
}
