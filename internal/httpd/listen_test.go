package httpd

import (
	"net"
	"net/netip"
	"testing"
)

// peers is a listener whose connections come from given addresses.
type peers struct {
	net.Listener
	from   []string
	closed *int
}

type peer struct {
	net.Conn
	from   string
	closed *int
}

func (p *peers) Accept() (net.Conn, error) {
	if len(p.from) == 0 {
		return nil, net.ErrClosed
	}
	c := &peer{from: p.from[0], closed: p.closed}
	p.from = p.from[1:]
	return c, nil
}

func (p *peer) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.from))
}
func (p *peer) Close() error { *p.closed++; return nil }

// One place holds so many connections and no more; others, proxies and this
// computer are not touched by it, and what is closed counts no longer.
func TestConnections_PerPlace(t *testing.T) {
	closed := 0
	source := &peers{closed: &closed}
	l := NewConnections(2, Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).Listen(source)
	var open []net.Conn
	accept := func(from ...string) int {
		source.from = from
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				return n
			}
			open = append(open, c)
			n++
		}
	}
	if n := accept("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"); n != 2 || closed != 2 {
		t.Fatalf("%d open, %d closed", n, closed)
	}
	if n := accept("[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"); n != 3 {
		t.Errorf("IPv6: %d", n)
	}
	if n := accept("10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"); n != 6 {
		t.Errorf("proxies and loopback: %d", n)
	}
	for range 3 { // closing twice gives one place back
		_ = open[0].Close()
	}
	if n := accept("192.0.2.1:5", "192.0.2.1:6"); n != 1 {
		t.Errorf("after a close: %d", n)
	}
	if NewConnections(0, Proxies{}).Listen(source) != net.Listener(source) {
		t.Error("no bound is a bound")
	}
}
