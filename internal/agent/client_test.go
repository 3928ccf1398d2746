package agent

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The agent speaks HTTP/1.1 to a server that also speaks HTTP/2, and the kernel
// gives a silent path up within half a minute, whichever way it is silent.
func TestClient_Connections(t *testing.T) {
	var major int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { major = r.ProtoMajor }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c, err := newClient(clientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.call(t.Context(), "GET", "/", nil, nil); err != nil || major != 1 {
		t.Fatalf("HTTP/%d, %v", major, err)
	}
	conn, err := c.http.Transport.(*http.Transport).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][3]int{"keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, "idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 20}, "interval": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
		"probes": {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 2}, "unacknowledged": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000}} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), want[0], want[1]) }); err != nil || failed != nil || got != want[2] {
			t.Errorf("%s: %d, %v %v", name, got, err, failed)
		}
	}
}
