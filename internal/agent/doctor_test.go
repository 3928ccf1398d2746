package agent

import (
	"net"
	"strings"
	"testing"

	"sallyport/internal/agent/pin"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// TestDoctor_NamesTheAddressThatFails: the one address that a machine needs, and
// what to do about it.
func TestDoctor_NamesTheAddressThatFails(t *testing.T) {
	for _, c := range []struct {
		pins pin.Machine
		want string
	}{
		{pin.Machine{URL: "https://server.example"}, "server.example:443"}, {pin.Machine{URL: "https://server.example:8443"}, "server.example:8443"},
		{pin.Machine{URL: "https://[2001:db8::1]:8443"}, "[2001:db8::1]:8443"}, {pin.Machine{URL: "https://server.example", Address: "10.0.0.1:443"}, "10.0.0.1:443"},
	} {
		if got := serverAddress(c.pins); got != c.want {
			t.Errorf("%+v: %s", c.pins, got)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := connects(t.Context(), address); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := connects(t.Context(), address); err == nil || !strings.Contains(plain(err).Error(), "refused") {
		t.Errorf("%v", err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "doctor-server", "ADDRESS", address)
	}
}
