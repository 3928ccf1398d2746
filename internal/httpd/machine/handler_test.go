package machine_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/httpd/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/route"
)

// machines notes what arrives.
type machines struct {
	calls []string
}

func (m *machines) Join(_ context.Context, by audit.By, r protocol.JoinRequest, thumbprint string) (protocol.JoinAnswer, error) {
	m.calls = append(m.calls, "join "+r.Token+" "+by.Principal+" "+thumbprint)
	return protocol.JoinAnswer{MachineID: "m"}, nil
}

func (m *machines) Poll(_ context.Context, by audit.By, _ protocol.PollRequest) (protocol.PollAnswer, error) {
	m.calls = append(m.calls, "poll "+by.Principal)
	return protocol.PollAnswer{}, fault.New(fault.Conflict, "SnapshotFromTheFuture", "no").WithRemedy("Raise it.")
}

func (m *machines) Report(_ context.Context, by audit.By, _ protocol.Report) error {
	m.calls = append(m.calls, "report "+by.Principal)
	return nil
}

func (m *machines) HostCertificate(_ context.Context, by audit.By, _ protocol.HostCertificateRequest) (protocol.HostCertificateAnswer, error) {
	m.calls = append(m.calls, "certificate "+by.Principal)
	return protocol.HostCertificateAnswer{Certificate: "c"}, nil
}

func (m *machines) Inventory(_ context.Context, by audit.By, _ protocol.Inventory) error {
	m.calls = append(m.calls, "inventory "+by.Principal)
	return nil
}

func (m *machines) Leave(_ context.Context, by audit.By) error {
	m.calls = append(m.calls, "leave "+by.Principal)
	return nil
}

func (m *machines) IdentityToken(_ context.Context, by audit.By, r protocol.IdentityTokenRequest) (protocol.IdentityToken, error) {
	m.calls = append(m.calls, "token "+by.Principal+" "+r.Resource)
	return protocol.IdentityToken{TokenType: "Bearer", AccessToken: "t"}, nil
}

func (m *machines) IdentityCertificate(_ context.Context, by audit.By, r protocol.IdentityCertificateRequest) (protocol.IdentityToken, error) {
	m.calls = append(m.calls, "ssh "+by.Principal+" "+r.Confirmation)
	return protocol.IdentityToken{}, fault.New(fault.Invalid, "invalid_request", "no key")
}

func (m *machines) Instance(_ context.Context, by audit.By) (protocol.Instance, error) {
	m.calls = append(m.calls, "instance "+by.Principal)
	return protocol.Instance{Location: "here"}, nil
}

// doors knows one machine, by its key, and takes every bearer token.
type doors struct{ key string }

func (doors) Bearer(context.Context, string, route.Surface, time.Time) (audit.By, error) {
	return audit.By{Principal: "bearer"}, nil
}

func (d doors) Machine(_ context.Context, thumbprint string) (audit.By, error) {
	if thumbprint != d.key {
		return audit.By{}, fault.New(fault.Unauthenticated, "MachineUnknown", "unknown")
	}
	return audit.By{Principal: "m1"}, nil
}

// key makes a TLS client certificate and its thumbprint.
func key(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	thumb, err := protocol.Thumbprint(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, thumb
}

type front struct {
	t      *testing.T
	server *httptest.Server
	domain *machines
}

func newFront(t *testing.T, known string) *front {
	t.Helper()
	m := &machines{}
	mux := httpd.NewMux()
	machine.New(machine.Config{Machines: m, Identities: m}).Mount(mux)
	rows := slices.DeleteFunc(route.All(), func(r route.Row) bool { return !strings.HasPrefix(r.ID, "machine.") })
	limit := httpd.Limit{PerSecond: 1000, Burst: 1000}
	h, err := httpd.New(httpd.Config{Rows: rows, Mux: mux, Authenticator: doors{known}, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
		Limits: map[string]httpd.Limit{"login": limit, "token": limit, "read": limit, "write": limit, "poll": limit, "report": limit}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return &front{t, s, m}
}

func (f *front) post(path, body string, cert *tls.Certificate, header string) (int, string) {
	f.t.Helper()
	transport := f.server.Client().Transport.(*http.Transport).Clone()
	if cert != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(f.t.Context(), "POST", f.server.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		f.t.Fatal(err)
	}
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHandler_MachineKeyOpensAndNothingElseDoes(t *testing.T) {
	cert, thumb := key(t)
	stranger, _ := key(t)
	f := newFront(t, thumb)
	for _, path := range []string{"/machine/v1/poll", "/machine/v1/report", "/machine/v1/hostcertificate", "/machine/v1/token", "/machine/v1/certificate", "/machine/v1/leave", "/machine/v1/inventory"} {
		if code, body := f.post(path, "{}", nil, ""); code != 401 {
			t.Errorf("%s without a key: %d %s", path, code, body)
		}
		if code, body := f.post(path, "{}", nil, "Bearer token"); code != 401 {
			t.Errorf("%s with a bearer token: %d %s", path, code, body)
		}
		if code, body := f.post(path, "{}", &stranger, "Bearer token"); code != 401 || !strings.Contains(body, `"code":"MachineUnknown"`) {
			t.Errorf("%s with another key: %d %s", path, code, body)
		}
	}
	if len(f.domain.calls) != 0 {
		t.Fatalf("%v", f.domain.calls)
	}
	if code, body := f.post("/machine/v1/poll", "{}", &cert, ""); code != 409 || !strings.Contains(body, `"code":"SnapshotFromTheFuture"`) || !strings.Contains(body, "Raise it.") {
		t.Errorf("poll: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/report", "{}", &cert, ""); code != 204 || body != "" {
		t.Errorf("report: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/hostcertificate", "{}", &cert, ""); code != 200 || !strings.Contains(body, `"certificate":"c"`) {
		t.Errorf("certificate: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/report", `{"surprise":1}`, &cert, ""); code != 400 {
		t.Errorf("an unknown field: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/token", `{"resource":"r"}`, &cert, ""); code != 200 || !strings.Contains(body, `"accessToken":"t"`) {
		t.Errorf("token: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/certificate", `{"confirmation":"c"}`, &cert, ""); code != 400 || !strings.Contains(body, `"code":"invalid_request"`) {
		t.Errorf("certificate of the identity: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/leave", "", &cert, ""); code != 204 || body != "" {
		t.Errorf("leave: %d %s", code, body)
	}
	if code, body := f.post("/machine/v1/inventory", "{}", &cert, ""); code != 204 || body != "" {
		t.Errorf("inventory: %d %s", code, body)
	}
	if want := []string{"poll m1", "report m1", "certificate m1", "token m1 r", "ssh m1 c", "leave m1", "inventory m1"}; !slices.Equal(f.domain.calls, want) {
		t.Fatalf("%v", f.domain.calls)
	}
}

func TestHandler_JoinCarriesTheKey(t *testing.T) {
	cert, thumb := key(t)
	f := newFront(t, "")
	if code, body := f.post("/machine/v1/join", `{"token":"t"}`, &cert, ""); code != 200 {
		t.Fatal(code, body)
	}
	if want := []string{"join t  " + thumb}; !slices.Equal(f.domain.calls, want) {
		t.Fatalf("%v", f.domain.calls)
	}
}
