package httpd

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/route"
)

// keyDoor lets every machine in under the name of its key.
type keyDoor struct{ doors }

func (keyDoor) Machine(_ context.Context, thumbprint string) (audit.By, error) {
	return audit.By{Principal: thumbprint, Type: audit.Machine}, nil
}

// station is a server of one operation that is answered when somebody says what.
type station struct {
	*httptest.Server
	waiting *Waiting
	words   chan string // the next answer
	begun   chan string // who waits
	over    chan error  // why a waiting ended without a word
	leaving atomic.Bool
	angry   atomic.Bool // whoever hears of answers panics
	ends    context.CancelFunc
	news    atomic.Int64 // connections that were accepted from the network
}

func newStation(t *testing.T, idle time.Duration) *station {
	t.Helper()
	s := &station{words: make(chan string), begun: make(chan string, 10), over: make(chan error, 10)}
	until, end := context.WithCancel(context.Background())
	s.ends = end
	s.waiting = NewWaiting(WaitingConfig{Until: func() context.Context { return until }, Leaving: s.leaving.Load, Idle: idle})
	m := NewMux()
	m.Handle("wait", func(c *Call) error {
		if _, err := c.Body(); err != nil {
			return err
		}
		return c.Later(func() error {
			s.begun <- c.By.Principal
			select {
			case word := <-s.words:
				if word == "panic" {
					panic(word)
				}
				return c.JSON(http.StatusOK, word+" "+c.By.Principal)
			case <-c.R.Context().Done():
				s.over <- c.R.Context().Err()
				return c.R.Context().Err()
			}
		})
	})
	m.Handle("now", func(c *Call) error { return c.JSON(http.StatusOK, c.By.Principal) })
	rows := []route.Row{{ID: "wait", Method: "POST", Pattern: "/wait", Door: route.Machine, Surface: route.Agent}, {ID: "now", Method: "POST", Pattern: "/now", Door: route.Machine, Surface: route.Agent}}
	h, err := New(Config{Rows: rows, Mux: m, Authenticator: keyDoor{}, Limits: limits(), Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Waiting: s.waiting,
		Answered: func(row string, _ int, _ time.Duration) {
			if s.angry.Load() && row == "wait" {
				panic("angry")
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = true
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if _, fresh := c.(*tls.Conn); fresh && state == http.StateNew {
			s.news.Add(1)
		}
	}
	s.StartTLS()
	go func() { _ = s.Config.Serve(s.waiting) }()
	t.Cleanup(func() { end(); _ = s.waiting.Close(); s.Close() })
	return s
}

// caller is a client with a key of its own and one connection.
type caller struct {
	t      *testing.T
	conn   *tls.Conn
	answer *bufio.Reader
}

func (s *station) call(t *testing.T, protocols ...string) *caller {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}) //nolint:gosec // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &caller{t, conn, bufio.NewReader(conn)}
}

func (c *caller) send(paths ...string) {
	text := ""
	for _, p := range paths {
		text += fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", p)
	}
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) hear() (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.answer, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(text)
}

// Two machines wait, again and again and with other requests between, each on
// the one connection that it made: each is known by its own key every time.
func TestWaiting_OneConnectionOneKey(t *testing.T) {
	s := newStation(t, time.Minute)
	one, two := s.call(t), s.call(t, "http/1.1")
	who := map[*caller]string{}
	for round := range 3 {
		for _, c := range []*caller{one, two} {
			c.send("/wait")
			id := <-s.begun
			if round == 0 {
				who[c] = id
			}
			if !s.waiting.Busy() {
				t.Fatal("nobody waits")
			}
			s.words <- "word"
			if res, text := c.hear(); res.StatusCode != 200 || text != fmt.Sprintf("%q", "word "+who[c]) || res.Header.Get("Date") == "" || res.Header.Get("X-Ms-Request-Id") == "" || res.Close {
				t.Fatalf("%d %s %v", res.StatusCode, text, res.Header)
			}
			c.send("/now")
			if res, text := c.hear(); res.StatusCode != 200 || text != fmt.Sprintf("%q", who[c]) {
				t.Fatalf("%d %s", res.StatusCode, text)
			}
		}
	}
	if who[one] == who[two] || s.news.Load() != 2 || s.waiting.Busy() {
		t.Errorf("%v, %d connections", who, s.news.Load())
	}
}

// What comes behind a request that waits is answered after it.
func TestWaiting_NextRequestComesEarly(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	c.send("/wait", "/now")
	id := <-s.begun
	s.words <- "a"
	_, first := c.hear()
	_, second := c.hear()
	c.send("/wait")
	<-s.begun
	c.send("/now") // the byte that is waited for
	s.words <- "b"
	_, third := c.hear()
	_, fourth := c.hear()
	if got, want := []string{first, second, third, fourth}, []string{`"a ` + id + `"`, `"` + id + `"`, `"b ` + id + `"`, `"` + id + `"`}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q", got)
	}
}

// Who goes away waits no longer.
func TestWaiting_ClientGone(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	c.send("/wait")
	<-s.begun
	_ = c.conn.Close()
	if err := <-s.over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A panic is an answer, and the connection goes on.
func TestWaiting_Panic(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	c.send("/wait")
	<-s.begun
	s.words <- "panic"
	if res, _ := c.hear(); res.StatusCode != http.StatusInternalServerError {
		t.Error(res.StatusCode)
	}
	c.send("/now")
	if res, _ := c.hear(); res.StatusCode != http.StatusOK {
		t.Error(res.StatusCode)
	}
}

// A panic of what is told of an answer, on a connection that is not net/http's any
// more, ends neither the server nor the connection.
func TestWaiting_PanicBehindTheAnswer(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	s.angry.Store(true)
	c.send("/wait")
	<-s.begun
	s.words <- "word"
	if res, body := c.hear(); res.StatusCode != http.StatusOK || len(body) == 0 {
		t.Error(res.StatusCode, body)
	}
	s.angry.Store(false)
	c.send("/now")
	if res, _ := c.hear(); res.StatusCode != http.StatusOK {
		t.Error(res.StatusCode)
	}
}

// A server that leaves answers all who wait and says that the connection ends.
func TestWaiting_Leaving(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	c.send("/wait")
	<-s.begun
	s.leaving.Store(true)
	s.ends()
	if res, _ := c.hear(); res.StatusCode < 500 || !res.Close {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if _, err := c.answer.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	<-s.over
}

// An answered connection without a request ends after its time, and all that are
// held when they are closed.
func TestWaiting_Idle(t *testing.T) {
	for name, idle := range map[string]time.Duration{"idle": 50 * time.Millisecond, "closed": time.Minute} {
		s := newStation(t, idle)
		c := s.call(t)
		c.send("/wait")
		<-s.begun
		s.words <- "a"
		c.hear()
		if name == "closed" {
			_ = s.waiting.Close()
		}
		if _, err := c.answer.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Over HTTP/2, and where the client wants no other request, net/http waits.
func TestWaiting_NotHeld(t *testing.T) {
	s := newStation(t, time.Minute)
	c := s.call(t)
	fmt.Fprint(c.conn, "POST /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
	<-s.begun
	if s.waiting.Busy() {
		t.Error("held")
	}
	s.words <- "a"
	if res, _ := c.hear(); res.StatusCode != 200 || !res.Close {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	two := s.call(t, "h2")
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{NextProtos: []string{"h2"}, InsecureSkipVerify: true}, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return two.conn, nil }} //nolint:gosec // the test's own server
	defer transport.CloseIdleConnections()
	done := make(chan *http.Response, 1)
	go func() {
		res, err := (&http.Client{Transport: transport}).Post(s.URL+"/wait", "application/json", nil)
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	<-s.begun
	if s.waiting.Busy() {
		t.Error("held")
	}
	s.words <- "a"
	if res := <-done; res == nil || res.ProtoMajor != 2 || res.StatusCode != 200 {
		t.Errorf("%v", res)
	} else {
		_ = res.Body.Close()
	}
}
