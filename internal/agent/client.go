package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// client speaks the machine protocol to one server.
type client struct {
	url  string
	http *http.Client
	date *time.Time // where joining, alone, wants to know what time each answer says it is
}

// clientConfig says whom to talk to and what to believe.
type clientConfig struct {
	URL     string
	Address string            // host:port to dial instead of the URL's
	Trust   protocol.Manifest // its TLS roots are the only ones
	Key     crypto.Signer     // the machine's; nil to show none
	Pinned  bool              // false: believe no certificate yet, the answer is verified by its signature
}

const (
	dialTime  = 10 * time.Second
	maxAnswer = 2 * protocol.MaxDocument

	// After so long without a word the kernel asks the other side, and after lostTime
	// without an answer to that or to anything else the connection has failed.
	quietTime = 20 * time.Second
	probeTime = 5 * time.Second
	probes    = 2
	lostTime  = quietTime + probes*probeTime

	// idleTime is less than the server's. The poll has a connection for itself, and
	// what else goes on at a time shares few.
	idleTime = 90 * time.Second
	together = 5
)

func newClient(c clientConfig) (*client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: !c.Pinned} //nolint:gosec // unpinned: only to fetch the manifest, whose signature the pin verifies; no secret is sent
	if len(c.Trust.TLSRoots) > 0 {
		conf.RootCAs, conf.NextProtos = x509.NewCertPool(), []string{"http/1.1", protocol.ALPNPinned}
		for _, der := range c.Trust.TLSRoots {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("TLS root in the manifest: %w", err)
			}
			conf.RootCAs.AddCert(cert)
		}
	}
	if c.Key != nil {
		cert, err := selfSigned(c.Key)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	// HTTP/1.1: a connection that waits costs the server a quarter of what it does
	// over HTTP/2, and this process the code.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: dialTime, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: quietTime, Interval: probeTime, Count: probes}, Control: giveUp}
	transport := &http.Transport{TLSClientConfig: conf, Protocols: protocols, TLSHandshakeTimeout: dialTime, IdleConnTimeout: idleTime, MaxConnsPerHost: together, MaxIdleConnsPerHost: together, Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if c.Address != "" {
				address = c.Address
			}
			return dialer.DialContext(ctx, network, address)
		}}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{url: c.URL, http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}, nil
}

// giveUp makes what was sent and not acknowledged for lostTime an error (tcp(7),
// TCP_USER_TIMEOUT): the keep-alive of a connection counts only while nothing is
// under way.
func giveUp(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lostTime/time.Millisecond))
	})
	return errors.Join(err, failed)
}

// selfSigned wraps the machine's key: TLS proves its possession, and the server
// knows the key itself; the certificate's text means nothing.
func selfSigned(key crypto.Signer) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sallyport machine"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: no end
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("machine certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// call sends one request and reads its answer into out; nil out wants none.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	if c.date != nil {
		*c.date, _ = http.ParseTime(resp.Header.Get("Date"))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp.StatusCode, b)
	}
	if out == nil {
		return nil
	}
	if err := protocol.Decode(b, out); err != nil {
		return fault.Wrap(err, fault.Unavailable, "AnswerUnreadable", "the server's answer cannot be read: %v", err)
	}
	return nil
}

func unreachable(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	if errors.As(err, &unknown) || errors.As(err, &host) {
		return fault.Wrap(err, fault.Unauthenticated, "ServerNotTrusted", "the server's TLS certificate is not one that the pinned manifest trusts").
			WithRemedy("Is this the right address? If the server was moved, join again with a new token.")
	}
	return fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "the server cannot be reached: %v", err)
}

// expiredTLS reports whether the server's certificate was refused for the time.
func expiredTLS(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// refusal makes a fault of the server's error answer.
func refusal(status int, body []byte) error {
	var e struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil || e.Code == "" {
		e.Code, e.Message = "ServerRefused", fmt.Sprintf("the server answered with status %d", status)
	}
	kind := fault.Unavailable
	switch status {
	case http.StatusUnauthorized:
		kind = fault.Unauthenticated
	case http.StatusForbidden:
		kind = fault.Forbidden
	case http.StatusBadRequest:
		kind = fault.Invalid
	case http.StatusConflict:
		kind = fault.Conflict
	}
	return fault.New(kind, e.Code, "%s", e.Message)
}

// newKey makes a machine key.
func newKey() (crypto.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, der, err
}

// parseKey reads a machine key.
func parseKey(der []byte) (crypto.Signer, error) {
	raw, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("machine key: %w", err)
	}
	key, ok := raw.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("machine key: not an Ed25519 key")
	}
	return key, nil
}
