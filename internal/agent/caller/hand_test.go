package caller

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// pair is an accepted connection and its other end.
func pair(t *testing.T) (*net.TCPConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return s.(*net.TCPConn), c
}

func socketAt(t *testing.T) (string, *net.UnixListener) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	return path, l
}

func TestHand_GivesTheConnectionWithItsVerdict(t *testing.T) {
	path, l := socketAt(t)
	ctx, cancel := context.WithCancel(t.Context())
	var h Hand
	var all sync.WaitGroup
	attached := make(chan struct{}, 4)
	all.Go(func() {
		_ = h.Serve(ctx, l, func(uid uint32) bool { attached <- struct{}{}; return uid == uint32(os.Geteuid()) })
	})
	got := make(chan Taken)
	all.Go(func() { _ = Take(ctx, path, uint32(os.Geteuid()), func(x Taken) { got <- x }) })
	defer all.Wait()
	defer cancel()
	<-attached
	server, client := pair(t)
	want := Verdict{UID: 1000, Name: "robot", Allowed: true, CorrelationID: "c", Revision: 7}
	for h.Give(server, want) != nil { // until the network part is noted
		server, client = pair(t)
	}
	x := <-got
	defer x.Close()
	if x.Verdict != want {
		t.Fatalf("%+v", x.Verdict)
	}
	if _, err := x.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = x.Close()
	if b, err := io.ReadAll(client); err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}
}

func TestHand_SaysThatThereIsNoNetworkPart(t *testing.T) {
	var h Hand
	server, client := pair(t)
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := h.Give(server, Verdict{}); err == nil {
		t.Fatal("given to nobody")
	}
	resp, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != 503 || body["error"] != "temporarily_unavailable" || resp.Header.Get("Retry-After") != "1" {
		t.Fatal(resp.Status, body, err)
	}
}

// Who is not the network part gets no connection; who is not root's process is
// not believed.
func TestHand_StrangersAtEitherEnd(t *testing.T) {
	path, l := socketAt(t)
	ctx, cancel := context.WithCancel(t.Context())
	var h Hand
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, l, func(uint32) bool { return false }) }()
	patient, enough := context.WithTimeout(t.Context(), 20*time.Second)
	defer enough()
	if err := Take(patient, path, uint32(os.Geteuid()), func(Taken) { t.Error("a connection") }); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the refused network part was not closed: %v", err)
	}
	if err := Take(t.Context(), path, uint32(os.Geteuid())+1, func(Taken) { t.Error("a connection") }); err == nil {
		t.Error("another's socket was believed")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
