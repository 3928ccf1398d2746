package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"sync"

	"sallyport/internal/fault"
)

// repositoryPath is where the server hands out packages.
const repositoryPath = "/repository/"

// Repository is how a machine's package manager trusts the server's packages.
type Repository struct {
	URL  string // without the kind of repository behind it
	Key  string // OpenPGP key, armored
	Root []byte // PEM of the deployment's TLS roots; nil where its certificate is one of the system's
}

// armorForm is an armored OpenPGP key: nothing that a shell would read as more.
var armorForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n([A-Za-z0-9+/=]{1,76}\n)+-----END PGP PUBLIC KEY BLOCK-----\n$`)
})

// Repository fetches the key of the server's package repositories over pinned
// TLS, and looks which certificate programs without a manifest are shown.
func (s *Server) Repository(ctx context.Context) (Repository, error) {
	r := Repository{URL: s.URL() + repositoryPath}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"key.asc", nil)
	if err != nil {
		return r, err
	}
	res, body, err := s.send(req, nil)
	if err != nil {
		return r, err
	}
	if res.StatusCode != http.StatusOK {
		return r, apiError(res.StatusCode, res.Header, body)
	}
	if r.Key = string(body); !armorForm().MatchString(r.Key) {
		return r, fault.New(fault.Unavailable, "NotSallyport", "%s does not answer with an OpenPGP key", r.URL+"key.asc")
	}
	if r.Root, err = s.ShownRoot(ctx); err != nil {
		return r, err
	}
	return r, nil
}

// ShownRoot returns the deployment's own TLS roots if the certificate that
// everybody else is shown ends in them.
func (s *Server) ShownRoot(ctx context.Context) ([]byte, error) {
	roots := x509.NewCertPool()
	var text []byte
	for _, der := range s.Manifest().TLSRoots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		roots.AddCert(c)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		return nil, err
	}
	address := s.Record().Address
	if address == "" {
		if address = u.Host; u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: u.Hostname(), Time: s.cfg.Now}}
	ctx, cancel := context.WithTimeout(ctx, 2*dialTime)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil //nolint:nilerr // another chain: the system's roots decide
	}
	return text, conn.Close()
}
