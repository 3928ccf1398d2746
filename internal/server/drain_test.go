package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A request that has begun when the server is told to stop is answered as if
// nothing were, with its write on stable storage and in the indexes.
func TestDrain_RequestUnderWayIsAnswered(t *testing.T) {
	d := rig(t, time.Now)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Listen = free.Addr().String()
	_ = free.Close()
	told := make(chan string, 4)
	d.cfg.Notify = func(state string) error { told <- state; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.serve(ctx) }()
	<-told // READY
	c, err := tls.Dial("tcp", d.cfg.Listen, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const body = `{"username": "admin@corp.example", "password": "wrong", "newPassword": "Another-Long-One-77"}`
	fmt.Fprintf(c, "POST /sallyport/v1/password HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	answers := bufio.NewReader(c)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q %v", line, err)
	}
	_, _ = answers.ReadString('\n')
	cancel() // the handler reads the body now
	if last := <-told; last != "STOPPING=1" {
		t.Fatal(last)
	}
	before := time.Now()
	if _, err := io.WriteString(c, body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusBadRequest || strings.Contains(string(text), "InternalServerError") {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	if took := time.Since(before); took >= drainTime {
		t.Errorf("%s", took)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if stored, seen := d.store.Position(), d.follow.Position(); stored != seen {
		t.Errorf("stored %d, seen %d", stored, seen)
	}
}

// A long poll ends when the server stops, and no other request does.
func TestDrain_OnlyPollsEnd(t *testing.T) {
	l := newLifetimes(t.Context(), time.Now, func(c context.Context) context.Context { return c })
	defer l.end()
	over := map[string]error{}
	h := l.bound(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pollPath {
			<-r.Context().Done()
		}
		over[r.URL.Path] = r.Context().Err()
	}))
	l.endPolls()
	for _, path := range []string{pollPath, "/healthz"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(l.requests, "POST", path, nil))
	}
	if over[pollPath] == nil || over["/healthz"] != nil {
		t.Errorf("%v", over)
	}
}
