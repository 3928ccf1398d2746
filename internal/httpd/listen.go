package httpd

import (
	"net"
	"net/netip"
	"sync"

	"sallyport/internal/address"
)

// Connections bounds how many connections one place on the network holds open.
// Proxies and loopback are many people behind one address and are not counted.
// All listeners of one Connections count together.
type Connections struct {
	perPlace int
	proxies  Proxies

	mu   sync.Mutex
	open map[string]int
}

// NewConnections returns a bound; perPlace 0 stands for any number.
func NewConnections(perPlace int, proxies Proxies) *Connections {
	return &Connections{perPlace: perPlace, proxies: proxies, open: map[string]int{}}
}

// Listen returns a listener that closes what is beyond the bound before a byte
// of it is read.
func (c *Connections) Listen(l net.Listener) net.Listener {
	if c.perPlace <= 0 {
		return l
	}
	return &boundedListener{Listener: l, all: c}
}

type boundedListener struct {
	net.Listener
	all *Connections
}

// Accept waits for the next connection within the bound.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		place, counted := l.all.place(c.RemoteAddr())
		if !counted {
			return c, nil
		}
		if l.all.enter(place) {
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { l.all.leave(place) })}, nil
		}
		_ = c.Close()
	}
}

func (c *Connections) place(peer net.Addr) (place string, counted bool) {
	ap, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return "", false
	}
	a := ap.Addr().Unmap().WithZone("")
	return address.Network(a.String()), !a.IsLoopback() && !c.proxies.trusts(a)
}

func (c *Connections) enter(place string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[place] >= c.perPlace {
		return false
	}
	c.open[place]++
	return true
}

func (c *Connections) leave(place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[place]--; c.open[place] <= 0 {
		delete(c.open, place)
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

// Close gives the place back, once.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
