package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// echoServer answers with what it got, once the sender
// has finished.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				all, _ := io.ReadAll(conn)
				_, _ = conn.Write(all)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func startForwarder(t *testing.T, dial dialer) (*forwarder, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := forward(l, dial)
	t.Cleanup(f.close)
	return f, l.Addr().String()
}

func dialTo(address string) dialer {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

func TestForwarder_PassesHalfClose(t *testing.T) {
	_, address := startForwarder(t, dialTo(echoServer(t)))
	for range 3 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "there and back"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "there and back" {
			t.Errorf("%q %v", got, err)
		}
		_ = conn.Close()
	}
}

func TestForwarder_CloseEndsOpenConnections(t *testing.T) {
	f, address := startForwarder(t, dialTo(echoServer(t)))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "waiting"); err != nil {
		t.Fatal(err)
	}
	f.close()
	f.close() // twice is once
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("the connection ended with %v", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the listener is still open")
	}
}

func TestForwarder_UnreachableClosesTheCaller(t *testing.T) {
	_, address := startForwarder(t, func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestListenLoopback_TakenPortGivesAnother(t *testing.T) {
	const address = "127.0.0.1"
	first, taken, err := listenLoopback(t.Context(), address, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	port := first.Addr().(*net.TCPAddr).Port
	second, got, err := listenLoopback(t.Context(), address, []int{port, taken})
	if err != nil || got != taken {
		t.Fatalf("port %d %v, want the one after the taken one", got, err)
	}
	defer func() { _ = second.Close() }()
	if _, _, err := listenLoopback(t.Context(), address, []int{port}); err == nil {
		t.Error("all taken: accepted")
	}
	if ports := sshPorts(); ports[0] != 22 || ports[1] != 2222 {
		t.Errorf("sshd is not reached on port 22 first: %v", ports)
	}
}
