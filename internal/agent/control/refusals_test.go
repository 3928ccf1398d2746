package control

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// TestServe_ASocketThatAcceptsNoMore: the root part ends with it, and its unit
// starts it again.
func TestServe_ASocketThatAcceptsNoMore(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, ServerConfig{}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "cannot accept connections on the control socket") {
		t.Errorf("got %v", err)
	}
}
