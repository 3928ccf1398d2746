package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRun_CountsAnswersAndFailures(t *testing.T) {
	var connections, requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.Host != "ca.example" || string(body) != "a=b" {
			http.Error(w, "not what was sent", http.StatusBadRequest)
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()

	cfg := Config{
		Address: strings.TrimPrefix(s.URL, "https://"), TLS: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"},
		Clients: 4, Duration: time.Hour, Now: time.Now,
		Next: func(_, n int) []byte {
			if n == 25 {
				return nil
			}
			return Post("ca.example", "/x", "application/x-www-form-urlencoded", []byte("a=b"))
		},
		Check: func(client, n, status int, _ []byte) error {
			if status != http.StatusOK || (client == 0 && n == 3) {
				return errors.New("refused")
			}
			return nil
		},
	}
	r, err := Run(context.Background(), cfg)
	if err != nil || r.Answers != 99 || r.Failures != 1 || requests.Load() != 100 {
		t.Fatalf("%+v, %d requests, %v", r, requests.Load(), err)
	}
	if connections.Load() != 4 {
		t.Errorf("%d connections for 4 clients", connections.Load())
	}
	if r.P50 <= 0 || r.P99 < r.P50 || r.Rate() <= 0 {
		t.Fatalf("%+v", r)
	}
}

func TestRun_RefusesOtherComputers(t *testing.T) {
	for _, address := range []string{"192.0.2.1:443", "localhost:443", "127.0.0.1"} {
		if _, err := Run(context.Background(), Config{Address: address}); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

// A busy server's answers are counted apart; clients come from addresses of
// their own.
func TestRun_BusyAnswersAndAddresses(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.RemoteAddr, "127.1.0.2:") {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer s.Close()
	cfg := Config{
		Address: strings.TrimPrefix(s.URL, "https://"), TLS: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"},
		Clients: 2, Duration: time.Hour, Now: time.Now, Busy: http.StatusTooManyRequests,
		From: func(client int) string { return []string{"127.1.0.1", "127.1.0.2"}[client] },
		Next: func(_, n int) []byte {
			if n == 7 {
				return nil
			}
			return Post("h", "/", "text/plain", nil)
		},
		Check: func(client, _, _ int, _ []byte) error {
			if client != 0 {
				return errors.New("a busy answer was checked")
			}
			return nil
		},
	}
	if r, err := Run(t.Context(), cfg); err != nil || r.Answers != 7 || r.Busy != 7 || r.Failures != 0 || r.BusyP99 == 0 || r.BusyRate() == 0 {
		t.Fatalf("%+v %v", r, err)
	}
	cfg.From = func(int) string { return "192.0.2.1" }
	if _, err := Run(t.Context(), cfg); err == nil {
		t.Error("an address that is not this computer's own")
	}
}
