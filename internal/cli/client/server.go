package client

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

const (
	manifestPath   = "/.well-known/sallyport/manifest"
	manifestHeader = "X-Sallyport-Manifest"
	maxAnswer      = 64 << 20
	requestTime    = 100 * time.Second
	dialTime       = 10 * time.Second
	clockSlack     = 5 * time.Minute
)

// Config is what every part of the package needs from outside.
type Config struct {
	Folder *Folder
	Now    func() time.Time
	Rand   io.Reader
	// Wait returns after d, or with ctx's error.
	Wait func(ctx context.Context, d time.Duration) error
	// Log takes a line for --debug: never a header, a body or a query.
	Log func(format string, args ...any)
	// Notice takes a sentence for the person.
	Notice func(text string)
	// Agent is the User-Agent.
	Agent string
	// Metadata is the instance metadata service of this machine; "" for the usual
	// address.
	Metadata string
	// SystemRoots stands in for the system's roots; nil means those.
	SystemRoots *x509.CertPool
}

// Server is one trusted server: every request goes over TLS whose chain ends in
// the roots that the pinned manifest names. It is safe for concurrent use.
type Server struct {
	cfg      Config
	mu       sync.Mutex
	record   ServerRecord
	manifest protocol.Manifest
	http     *http.Client
}

// Connect establishes trust for a sign-in. address is the text that people
// copy; with a thumbprint the manifest is fetched first over TLS that nobody
// has vouched for yet and must verify with that thumbprint; without one, and
// never seen before, the server needs a certificate that this computer trusts,
// and what it shows is pinned from then on. A server
// that is known is dialled where it was found before.
func Connect(ctx context.Context, cfg Config, address string) (*Server, error) {
	serverURL, _, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	profile, err := cfg.Folder.Profile()
	if err != nil {
		return nil, err
	}
	known, _ := profile.Record(serverURL)
	return ConnectAt(ctx, cfg, address, known.Address)
}

// ConnectAt is Connect to a server whose name does not lead to it: dial is the
// HOST:PORT that does, "" for the URL's own. It is kept for later commands.
func ConnectAt(ctx context.Context, cfg Config, address, dial string) (*Server, error) {
	serverURL, pin, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	profile, err := cfg.Folder.Profile()
	if err != nil {
		return nil, err
	}
	known, isKnown := profile.Record(serverURL)
	if pin == "" {
		pin = known.Pin
	}
	signed, err := fetchManifest(ctx, cfg, serverURL, dial, pin == "")
	if err != nil {
		return nil, err
	}
	if pin == "" {
		if pin, err = thumbprint(signed); err != nil {
			return nil, notPinned(serverURL, err)
		}
		cfg.Notice(fmt.Sprintf("%s is trusted from now on by its TLS certificate; its manifest key %s is remembered.", serverURL, pin))
	} else if isKnown && known.Pin != pin {
		cfg.Notice(fmt.Sprintf("%s was known by manifest key %s; %s replaces it, as you asked.", serverURL, known.Pin, pin))
		known = ServerRecord{}
	}
	s := &Server{cfg: cfg}
	if err := s.accept(ServerRecord{URL: serverURL, Pin: pin, Address: dial, Manifest: signed}, known); err != nil {
		return nil, err
	}
	return s, s.remember(ctx)
}

// Resume returns the server of a record made by Connect, without any request.
func Resume(cfg Config, record ServerRecord) (*Server, error) {
	s := &Server{cfg: cfg}
	return s, s.accept(record, ServerRecord{})
}

func thumbprint(m protocol.SignedManifest) (string, error) {
	pub, err := x509.ParsePKIXPublicKey(m.ManifestKey)
	if err != nil {
		return "", err
	}
	return protocol.Thumbprint(pub)
}

func notPinned(serverURL string, err error) error {
	return fault.Wrap(err, fault.Unauthenticated, "ServerNotTrusted", "%s did not prove that it is the server of the pinned thumbprint: %v", serverURL, err).
		WithRemedy("Nothing was sent to it. If its keys were replaced on purpose, ask its administrator for the new address and run: sally login --server https://HOST#THUMBPRINT")
}

// accept verifies a record and rebuilds the transport from its TLS roots. A
// manifest older than the one held is refused: an old list may name a key that
// has been withdrawn.
func (s *Server) accept(r, held ServerRecord) error {
	m, err := r.Manifest.Open(r.Pin)
	if err != nil {
		return notPinned(r.URL, err)
	}
	if held.Pin == r.Pin && held.Pin != "" {
		if old, err := held.Manifest.Open(held.Pin); err == nil && !m.Newer(old) {
			return notPinned(r.URL, errors.New("its list of keys is older than one already seen"))
		}
		r.Endpoints = held.Endpoints
	}
	own, _, err := ParseAddress(m.URL)
	if err != nil {
		return notPinned(r.URL, err)
	}
	if own != r.URL {
		s.cfg.Notice(fmt.Sprintf("%s calls itself %s; that address is used from now on.", r.URL, own))
		r.URL, r.Endpoints = own, nil
	}
	roots, alpn := s.cfg.SystemRoots, []string(nil)
	if len(m.TLSRoots) > 0 {
		roots, alpn = x509.NewCertPool(), []string{"h2", "http/1.1", protocol.ALPNPinned}
		for _, der := range m.TLSRoots {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return notPinned(r.URL, err)
			}
			roots.AddCert(c)
		}
	}
	s.record, s.manifest = r, m
	s.http = newHTTP(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, NextProtos: alpn, Time: s.cfg.Now}, r.Address)
	return nil
}

// newHTTP makes a client that follows no redirect: a token must not travel to
// wherever an answer points.
func newHTTP(t *tls.Config, dial string) *http.Client {
	dialer := &net.Dialer{Timeout: dialTime}
	return &http.Client{
		Timeout:       requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTime,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if dial != "" {
					address = dial
				}
				return dialer.DialContext(ctx, network, address)
			}, MaxIdleConnsPerHost: 8, IdleConnTimeout: requestTime,
		},
	}
}

// fetchManifest sends one request without any secret. Unless verify is set the
// chain is not checked here: the caller checks the manifest's own signature.
func fetchManifest(ctx context.Context, cfg Config, serverURL, dial string, verify bool) (protocol.SignedManifest, error) {
	var m protocol.SignedManifest
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.SystemRoots, Time: cfg.Now, InsecureSkipVerify: !verify} //nolint:gosec // see above
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, serverURL+manifestPath, nil)
	if err != nil {
		return m, err
	}
	client := newHTTP(t, dial)
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		var chain *tls.CertificateVerificationError
		if verify && errors.As(err, &chain) {
			return m, fault.Wrap(err, fault.Unauthenticated, "ServerNotTrusted", "%s has no TLS certificate that this computer trusts: %v", serverURL, chain.Err).
				WithRemedy("Use the address with its thumbprint, which the server prints when it starts: sally login --server %s#THUMBPRINT", serverURL)
		}
		return m, unreachable(serverURL, err)
	}
	body, err := readAll(res)
	if err != nil {
		return m, unreachable(serverURL, err)
	}
	if err := checkClock(cfg.Now(), res.Header); err != nil {
		return m, err
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &m) != nil {
		return m, fault.New(fault.Unavailable, "NotSallyport", "%s does not answer as a Sallyport server (status %d)", serverURL, res.StatusCode).
			WithRemedy("Check the address and the port.")
	}
	return m, nil
}

func readAll(res *http.Response) ([]byte, error) {
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("the answer is too large")
	}
	return body, err
}

func unreachable(serverURL string, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "cannot reach the server %s: %v", serverURL, err).
		WithRemedy("Check that it is running and that this computer can connect to it; for another server run: sally login --server https://HOST#THUMBPRINT")
}

// checkClock compares this computer's clock with the server's Date header:
// tokens, certificates and their proofs are refused when the two disagree.
func checkClock(now time.Time, h http.Header) error {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return nil
	}
	off := now.Sub(date)
	word := "ahead of"
	if off < 0 {
		off, word = -off, "behind"
	}
	if off <= clockSlack {
		return nil
	}
	return fault.New(fault.Precondition, "ClockWrong", "this computer's clock is %s %s the server's: here it is %s, there %s.", off.Round(time.Minute), word,
		now.UTC().Format(time.RFC3339), date.UTC().Format(time.RFC3339)).
		WithRemedy("Tokens and certificates are valid for a short time only: set the clock (for example: sudo timedatectl set-ntp true) and try again.")
}

// remember writes the server into the profile.
func (s *Server) remember(ctx context.Context) error {
	return s.cfg.Folder.UpdateProfile(ctx, func(p *Profile) error {
		r := s.Record()
		p.Put(r)
		if p.Server == "" {
			p.Server = r.URL
		}
		return nil
	})
}

// URL returns the server's own address.
func (s *Server) URL() string { return s.Record().URL }

// Record returns what the profile keeps.
func (s *Server) Record() ServerRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record
}

// Manifest returns the verified list of the server's keys.
func (s *Server) Manifest() protocol.Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manifest
}

// Renew fetches the manifest again: the server may have rotated a key since.
func (s *Server) Renew(ctx context.Context) error {
	held := s.Record()
	signed, err := fetchManifest(ctx, s.cfg, held.URL, held.Address, false)
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.accept(ServerRecord{URL: held.URL, Pin: held.Pin, Address: held.Address, Manifest: signed}, held)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.remember(ctx)
}

// send sends one request with a body that can be sent again. When the chain of
// the TLS certificate does not verify, the manifest is fetched again, once.
func (s *Server) send(req *http.Request, body []byte) (*http.Response, []byte, error) {
	req.Header.Set("User-Agent", s.cfg.Agent)
	res, data, err := s.once(req, body)
	var chain *tls.CertificateVerificationError
	if errors.As(err, &chain) {
		if rerr := s.Renew(req.Context()); rerr != nil {
			return nil, nil, rerr
		}
		res, data, err = s.once(req, body)
		if errors.As(err, &chain) {
			return nil, nil, fault.Wrap(err, fault.Unauthenticated, "ServerNotTrusted",
				"the TLS certificate of %s does not come from the pinned server: %v", s.URL(), chain.Err).
				WithRemedy("Nothing was sent to it. Somebody may be in between, or the server's certificate is broken: ask its administrator.")
		}
	}
	if err != nil {
		return nil, nil, unreachable(s.URL(), err)
	}
	if err := checkClock(s.cfg.Now(), res.Header); err != nil {
		return nil, nil, err
	}
	s.keepUp(req.Context(), res.Header.Get(manifestHeader))
	return res, data, nil
}

// keepUp fetches the manifest when the server names a newer one than is held.
// The header is a hint: what is fetched must be signed by the pinned key, and a
// failure leaves things as they are.
func (s *Server) keepUp(ctx context.Context, named string) {
	before, after, _ := strings.Cut(named, ".")
	epoch, errE := strconv.ParseInt(before, 10, 64)
	version, errV := strconv.ParseInt(after, 10, 64)
	held := s.Manifest()
	if errE != nil || errV != nil || epoch < held.Epoch || epoch == held.Epoch && version <= held.Version {
		return
	}
	if err := s.Renew(ctx); err != nil {
		s.cfg.Log("the newer list of keys cannot be taken over: %v", err)
	}
}

func (s *Server) once(req *http.Request, body []byte) (*http.Response, []byte, error) {
	s.mu.Lock()
	client := s.http
	s.mu.Unlock()
	req.Body, req.ContentLength = http.NoBody, 0
	if len(body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	from := s.cfg.Now()
	res, err := client.Do(req)
	if err != nil {
		s.cfg.Log("%s %s: %v", req.Method, req.URL.Path, err)
		return nil, nil, err
	}
	data, err := readAll(res)
	s.cfg.Log("%s %s: %d, %d bytes, %s", req.Method, req.URL.Path, res.StatusCode, len(data), s.cfg.Now().Sub(from).Round(10*time.Microsecond))
	return res, data, err
}

// random returns n random bytes in unpadded base64url.
func (s *Server) random(n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("random: %w", err)
	}
	return b64(b), nil
}

// same compares in constant time.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
