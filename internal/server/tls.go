package server

import (
	"context"
	"crypto/tls"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/acme"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	meters "sallyport/internal/metrics"
)

// TLSConfig says where a certificate that browsers believe comes from. Empty:
// every client is shown the deployment's own.
type TLSConfig struct {
	Certificate, Key string // files, PEM
	ACMEDirectory    string // URL of an ACME server's directory (RFC 8555)
	ACMEEmail        string // for the ACME account
}

// publicSource is a certificate that clients without our manifest believe.
type publicSource interface {
	// certificate returns what to show, nil where there is nothing to show yet.
	certificate(hello *tls.ClientHelloInfo) *tls.Certificate
	// state is when the certificate ends (zero without one) and what is wrong
	// with the next one, "" when nothing is.
	state() (ends time.Time, wrong string)
	// run keeps the certificate fresh until the context ends; a value on
	// reload means "look now".
	run(ctx context.Context, reload <-chan struct{})
}

// certificates chooses the certificate of a handshake. Whoever announces that
// it holds a manifest (machines, our CLI) is shown the chain of the
// deployment's own root, which the manifest names; everybody else the public
// one, where there is one. So a change of the public certificate, of its issuer
// or of its source locks no machine out, and needs no new manifest.
type certificates struct {
	own    *leaf
	public publicSource // nil without one
	now    func() time.Time
}

func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.public != nil && !slices.Contains(hello.SupportedProtos, protocol.ALPNPinned) {
		if cert := c.public.certificate(hello); cert != nil {
			return cert, nil
		}
	}
	return c.own.certificate(hello)
}

// openTLS makes the source of certificates that the settings name.
func (d *deployment) openTLS() error {
	own := &leaf{keys: d.keys, root: d.manifest.TLSRoots[0], hosts: hosts(d.manifest.URL, d.cfg.Listen), now: d.cfg.Now}
	if _, err := own.certificate(nil); err != nil {
		return err
	}
	d.tls = &certificates{own: own, now: d.cfg.Now}
	address, err := url.Parse(d.manifest.URL)
	if err != nil {
		return err
	}
	switch {
	case d.cfg.TLS.Certificate != "":
		files, err := openTLSFiles(tlsFilesConfig{Certificate: d.cfg.TLS.Certificate, Key: d.cfg.TLS.Key, Host: address.Hostname(), Now: d.cfg.Now, Log: d.cfg.Log})
		if err != nil {
			return err
		}
		d.tls.public = files
	case d.cfg.TLS.ACMEDirectory != "":
		acme, err := openACME(acmeConfig{Directory: d.cfg.TLS.ACMEDirectory, Email: d.cfg.TLS.ACMEEmail, State: d.cfg.State, Host: address.Hostname(), Now: d.cfg.Now, Log: d.cfg.Log})
		if err != nil {
			return err
		}
		d.tls.public = acme
	}
	return nil
}

// measureTLS adds the gauges of what openTLS will have made.
func (d *deployment) measureTLS() {
	d.meter.registry.Gauges([]meters.Reading{
		{Name: "sallyport_tls_certificate_expiry_timestamp_seconds", Help: "When the TLS certificate that clients without our manifest are shown ends, in Unix time."},
		{Name: "sallyport_tls_certificate_stale", Help: "1 while the next TLS certificate cannot be had and the one before is shown."},
	}, func() []float64 { return d.tls.gauges() })
}

// protocols are what a handshake may agree on (RFC 7301). tls-alpn-01 is
// answered only where an ACME server may ask.
func (c TLSConfig) protocols() []string {
	if c.ACMEDirectory != "" {
		return []string{"h2", "http/1.1", acme.ALPNProto}
	}
	return []string{"h2", "http/1.1"}
}

// keepTLS keeps the public certificate fresh until the context ends.
func (d *deployment) keepTLS(ctx context.Context) error {
	if d.tls.public != nil {
		d.tls.public.run(ctx, d.cfg.Reload)
	}
	return nil
}

// expiry is when the certificate that browsers are shown ends, and what is
// wrong with its successor.
func (c *certificates) expiry() (time.Time, string) {
	if c.public != nil {
		if ends, wrong := c.public.state(); !ends.IsZero() || wrong != "" {
			return ends, wrong
		}
	}
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	return c.own.cert.Leaf.NotAfter, ""
}

func (c *certificates) gauges() []float64 {
	if c == nil {
		return []float64{0, 0}
	}
	ends, wrong := c.expiry()
	stale := 0.0
	if wrong != "" {
		stale = 1
	}
	if ends.IsZero() {
		return []float64{0, stale}
	}
	return []float64{float64(ends.Unix()), stale}
}

// ready is the readiness check "tls". A server whose next certificate is
// broken still answers with the one before, so that it stays ready and says so;
// one that could show only an ended certificate does not.
func (c *certificates) ready() (state string) {
	if c == nil {
		return "ok" // nothing is served yet
	}
	ends, wrong := c.expiry()
	switch {
	case !ends.IsZero() && !c.now().Before(ends):
		return "the TLS certificate has ended"
	case wrong != "":
		return "ok; " + wrong
	}
	return "ok"
}

// checkTLS checks the settings alone.
func checkTLS(c TLSConfig) error {
	switch {
	case (c.Certificate == "") != (c.Key == ""):
		return fault.New(fault.Invalid, "TLSCertificate", "a TLS certificate and its key are given together").WithRemedy("Give both: --tls-certificate and --tls-key.")
	case c.Certificate != "" && c.ACMEDirectory != "":
		return fault.New(fault.Invalid, "TLSCertificate", "a TLS certificate comes from a file or from an ACME server, not from both")
	case c.ACMEEmail != "" && c.ACMEDirectory == "":
		return fault.New(fault.Invalid, "ACMEDirectory", "an address for an ACME account needs the ACME server's directory").WithRemedy("Give it with --acme-directory.")
	case c.ACMEDirectory != "":
		return checkACME(c.ACMEDirectory)
	}
	return nil
}

// checkTLSFiles looks at the files for --check-config. The host that they have
// to name stands in the store, which may be in use; the start checks it.
func checkTLSFiles(cfg Config) error {
	if cfg.TLS.Certificate == "" || cfg.TLS.Key == "" {
		return nil
	}
	_, err := openTLSFiles(tlsFilesConfig{Certificate: cfg.TLS.Certificate, Key: cfg.TLS.Key, Now: cfg.Now})
	return err
}
