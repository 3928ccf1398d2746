package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"sallyport/internal/fault"
)

const (
	// acmeFolder holds the ACME account's key and the certificate, 0600 in a
	// folder of 0700.
	acmeFolder = "acme"
	// acmeSoon and acmeLate are the first and the longest pause after a
	// failure: issuers count failed attempts by the hour.
	acmeSoon = time.Minute
	acmeLate = time.Hour
)

type acmeConfig struct {
	Directory, Email, State, Host string
	Now                           func() time.Time
	Log                           *slog.Logger
}

// acmeSource gets and renews a certificate from an ACME server (RFC 8555),
// which it lets see by tls-alpn-01 (RFC 8737) that this server answers for its
// host. No handshake waits for it.
type acmeSource struct {
	cfg acmeConfig

	mu      sync.Mutex
	manager *autocert.Manager // replaced after a failure, which it would remember
	ends    time.Time         // zero before the first certificate
	wrong   string
}

func openACME(cfg acmeConfig) (*acmeSource, error) {
	if err := checkACME(cfg.Directory); err != nil {
		return nil, err
	}
	if net.ParseIP(cfg.Host) != nil || !strings.Contains(cfg.Host, ".") {
		return nil, fault.New(fault.Invalid, "ACMEHost", "an ACME server gives no certificate for %q, the host of the server's URL", cfg.Host).
			WithRemedy("Give a certificate by file: --tls-certificate and --tls-key.")
	}
	return &acmeSource{cfg: cfg, manager: cfg.manager()}, nil
}

func (c acmeConfig) manager() *autocert.Manager {
	return &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(c.State, acmeFolder)), HostPolicy: autocert.HostWhitelist(c.Host), Email: c.Email,
		Client: &acme.Client{DirectoryURL: c.Directory, UserAgent: "sallyport"},
	}
}

// checkACME checks the directory's URL.
func checkACME(directory string) error {
	u, err := url.Parse(directory)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fault.New(fault.Invalid, "ACMEDirectory", "%q is no https URL of an ACME directory", directory).WithTarget("acmeDirectory").
			WithRemedy("For example: --acme-directory %s", acme.LetsEncryptURL)
	}
	return nil
}

func (a *acmeSource) certificate(hello *tls.ClientHelloInfo) *tls.Certificate {
	a.mu.Lock()
	have, manager := !a.ends.IsZero(), a.manager
	a.mu.Unlock()
	challenge := slices.Contains(hello.SupportedProtos, acme.ALPNProto)
	if !challenge && (!have || !strings.EqualFold(hello.ServerName, a.cfg.Host)) {
		return nil
	}
	cert, err := manager.GetCertificate(hello)
	if err != nil {
		a.cfg.Log.Debug("acme", "challenge", challenge, "error", err.Error())
		return nil
	}
	return cert
}

func (a *acmeSource) state() (time.Time, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ends, a.wrong
}

// obtain asks for the certificate as a modern client would. The manager
// answers from memory, its folder, or the ACME server, and renews by itself.
func (a *acmeSource) obtain() error {
	a.mu.Lock()
	manager := a.manager
	a.mu.Unlock()
	cert, err := manager.GetCertificate(&tls.ClientHelloInfo{ServerName: a.cfg.Host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.manager = a.cfg.manager()
		a.wrong = "no TLS certificate from the ACME server"
		a.cfg.Log.Error("acme", "directory", a.cfg.Directory, "error", err.Error())
		return err
	}
	if !a.ends.Equal(cert.Leaf.NotAfter) {
		a.cfg.Log.Info("tls certificate from acme", "directory", a.cfg.Directory, "ends", cert.Leaf.NotAfter)
	}
	a.ends, a.wrong = cert.Leaf.NotAfter, ""
	return nil
}

func (a *acmeSource) run(ctx context.Context, reload <-chan struct{}) {
	pause := acmeSoon
	for {
		next := acmeLate
		if err := a.obtain(); err != nil {
			next, pause = pause, min(2*pause, acmeLate)
		} else {
			pause = acmeSoon
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-reload:
			timer.Stop()
		}
	}
}
