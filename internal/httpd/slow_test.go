package httpd

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/route"
)

// A body that does not arrive is given up, and the connection with it. A long
// poll after a body that did arrive is not bounded by that.
func TestBody_SlowSenderIsCutOff(t *testing.T) {
	m := NewMux()
	m.Handle("x", func(c *Call) error {
		if _, err := c.Body(); err != nil {
			return err
		}
		<-c.R.Context().Done() // as a long poll waits
		return nil
	})
	m.Handle("y", func(c *Call) error {
		b, err := c.Body()
		if err != nil {
			return err
		}
		timer := time.NewTimer(300 * time.Millisecond) // longer than a body may take
		defer timer.Stop()
		select {
		case <-timer.C:
			return c.JSON(200, string(b))
		case <-c.R.Context().Done():
			return c.R.Context().Err()
		}
	})
	rows := []route.Row{{ID: "x", Method: "POST", Pattern: "/x", Door: route.Public, Surface: route.Agent}, {ID: "y", Method: "POST", Pattern: "/y", Door: route.Public, Surface: route.Agent}}
	s, err := New(Config{Rows: rows, Mux: m, Authenticator: doors{}, Limits: limits(), Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), BodyTime: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, two := range []bool{false, true} {
		server := httptest.NewUnstartedServer(s)
		server.EnableHTTP2 = two
		server.StartTLS()
		t.Cleanup(server.Close)
		res, err := server.Client().Post(server.URL+"/y", "application/json", strings.NewReader(`"z"`))
		if err != nil || res.StatusCode != http.StatusOK || (res.ProtoMajor == 2) != two {
			t.Fatalf("a quick body with a slow answer: %v %v", res, err)
		}
		_ = res.Body.Close()
		body, hold := io.Pipe()
		res, err = server.Client().Post(server.URL+"/x", "application/json", body)
		if err == nil && res.StatusCode < 400 {
			t.Fatalf("HTTP/%d: a body that never came was answered with %d", res.ProtoMajor, res.StatusCode)
		}
		_ = hold.Close()
	}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	// A body that nobody reads holds nothing either.
	for path, want := range map[string]int{"/x": http.StatusBadRequest, "/unknown": http.StatusNotFound} {
		c, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own server
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nab", path)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%s: %v %v", path, res, err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatalf("%s: the connection stayed open: %v", path, err)
		}
	}
}

// Whoever does not take an answer is cut off, on both versions of HTTP, and a
// connection that took its answers goes on.
func TestAnswer_SlowReaderIsCutOff(t *testing.T) {
	m := NewMux()
	m.Handle("x", func(c *Call) error {
		block := make([]byte, 1<<20)
		for range 256 {
			if _, err := c.W.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
	m.Handle("y", func(c *Call) error { return c.JSON(200, "y") })
	rows := []route.Row{{ID: "x", Method: "GET", Pattern: "/x", Door: route.Public, Surface: route.Agent}, {ID: "y", Method: "GET", Pattern: "/y", Door: route.Public, Surface: route.Agent}}
	ended := make(chan int, 1)
	s, err := New(Config{Rows: rows, Mux: m, Authenticator: doors{}, Limits: limits(), Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), AnswerTime: 200 * time.Millisecond,
		Answered: func(row string, status int, _ time.Duration) {
			if row == "x" {
				ended <- status
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	for _, two := range []bool{false, true} {
		server := httptest.NewUnstartedServer(s)
		server.EnableHTTP2 = two
		server.StartTLS()
		t.Cleanup(server.Close)
		for range 2 {
			res, err := server.Client().Get(server.URL + "/y")
			if err != nil || (res.ProtoMajor == 2) != two {
				t.Fatal(res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			<-time.After(250 * time.Millisecond) // longer than the answer before had: its time must not end this one
		}
		res, err := server.Client().Get(server.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("HTTP/%d: a handler waits for a reader that does not read", res.ProtoMajor)
		}
		_ = res.Body.Close()
	}
}

// Bodies that trickle in hold nobody up: a request that proves nothing in its
// headers takes up no room among those that are worked on before it is there.
func TestGate_SlowBodiesLeaveRoom(t *testing.T) {
	m := NewMux()
	m.Handle("x", func(c *Call) error {
		_, err := c.Form()
		if err != nil {
			return err
		}
		return c.NoContent(204)
	})
	rows := []route.Row{{ID: "x", Method: "POST", Pattern: "/x", Door: route.Client, Surface: route.OAuth, Limiter: "c"}}
	s, err := New(Config{Rows: rows, Mux: m, Authenticator: doors{}, Limits: map[string]Limit{"c": {PerSecond: 1e6, Burst: 1e6, InFlight: 4}}, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	post := func(address string, body io.Reader) int {
		r := httptest.NewRequest("POST", "/x", body)
		r.RemoteAddr = address
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code
	}
	var slow []*io.PipeWriter
	var wg sync.WaitGroup
	begin := func(address string) {
		r, w := io.Pipe()
		slow = append(slow, w)
		wg.Go(func() { post(address, r) })
		_, _ = w.Write([]byte("a")) // taken: the server reads
	}
	for i := range 4 {
		for range 3 {
			begin(fmt.Sprintf("192.0.2.%d:1", i))
		}
	}
	if code := post("198.51.100.1:1", strings.NewReader("a=1")); code != 204 {
		t.Errorf("a person while bodies trickle in: %d", code)
	}
	begin("192.0.2.0:1")
	if code := post("192.0.2.0:1", strings.NewReader("a=1")); code != 429 {
		t.Errorf("a fifth body on its way from one address: %d", code)
	}
	if code := post("198.51.100.1:1", strings.NewReader("a="+strings.Repeat("x", 64<<10))); code != 413 {
		t.Errorf("a body without end: %d", code)
	}
	for _, w := range slow {
		_ = w.Close()
	}
	wg.Wait()
	if in := s.coming.classes["c"]; in.total != 0 || len(in.from) != 0 {
		t.Errorf("left behind: %+v", in)
	}
}

// What no row answers is bounded too.
func TestUnmatched_IsLimited(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Surface: route.Agent}, func(c *Call) error { return c.NoContent(204) })
	last := 0
	for range 20_000 { // what is asked comes back while a busy computer asks
		if last = do(s, "GET", "/nothing").Code; last == 429 {
			break
		}
	}
	if last != 429 {
		t.Errorf("%d", last)
	}
	if code := do(s, "GET", "/a").Code; code != 204 {
		t.Errorf("what there is: %d", code)
	}
}
