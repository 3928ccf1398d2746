package many

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// A frame is the stream's id (u32), its kind (u8), the length of what follows
// (u24) and that; all big-endian.
const (
	kindOpen = 1 // carries the address and port that the stream comes from
	kindData = 2
	kindEnd  = 3

	frameHeader = 8
	frameMax    = 1 << 20
)

// link is one connection that carries streams.
type link struct {
	conn    net.Conn
	arrived func(*stream) // of the other side's making; nil where it makes none

	writing sync.Mutex
	out     []byte

	mu      sync.Mutex
	streams map[uint32]*stream
	err     error
}

func newLink(conn net.Conn, arrived func(*stream)) *link {
	l := &link{conn: conn, arrived: arrived, streams: map[uint32]*stream{}}
	go l.read()
	return l
}

func (l *link) send(id uint32, kind byte, payload []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.out = binary.BigEndian.AppendUint32(l.out[:0], id)
	l.out = binary.BigEndian.AppendUint32(l.out, uint32(kind)<<24|uint32(len(payload)))
	l.out = append(l.out, payload...)
	_, err := l.conn.Write(l.out)
	return err
}

func (l *link) forget(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, id)
}

// read hands frames out until the connection ends, and everything with it.
func (l *link) read() {
	r := bufio.NewReaderSize(l.conn, 1<<16)
	var payload []byte
	for {
		var h [frameHeader]byte
		_, err := io.ReadFull(r, h[:])
		id, rest := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[4:])
		n := int(rest & 0xffffff)
		if err == nil && n > frameMax {
			err = fmt.Errorf("a frame of %d bytes", n)
		}
		if err == nil {
			if cap(payload) < n {
				payload = make([]byte, n)
			}
			payload = payload[:n]
			_, err = io.ReadFull(r, payload)
		}
		if err == nil {
			err = l.take(id, byte(rest>>24), payload)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *link) take(id uint32, kind byte, payload []byte) error {
	l.mu.Lock()
	s := l.streams[id]
	if kind == kindOpen && l.arrived != nil && s == nil {
		peer, err := netip.ParseAddrPort(string(payload))
		if err != nil {
			l.mu.Unlock()
			return err
		}
		s = newStream(l, id, l.conn.LocalAddr(), net.TCPAddrFromAddrPort(peer))
		l.streams[id] = s
		l.mu.Unlock()
		l.arrived(s)
		return nil
	}
	l.mu.Unlock()
	switch {
	case s == nil: // closed here, and the other side does not know yet
	case kind == kindData:
		s.arrived(payload)
	case kind == kindEnd:
		s.over()
	default:
		return fmt.Errorf("a frame of kind %d", kind)
	}
	return nil
}

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(err, l.conn.Close())
	for _, s := range l.streams {
		s.over()
	}
}

// Dialer opens streams to a Listener in another process.
type Dialer struct {
	links []*link

	mu   sync.Mutex
	next uint32
}

// Connect makes a dialer that spreads its streams over so many connections.
func Connect(socket string, connections int) (*Dialer, error) {
	d := &Dialer{}
	for range connections {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.links = append(d.links, newLink(c, nil))
	}
	return d, nil
}

// Dial opens a stream that comes from an address, so it says.
func (d *Dialer) Dial(from netip.AddrPort) (net.Conn, error) {
	d.mu.Lock()
	d.next++
	id := d.next
	d.mu.Unlock()
	l := d.links[int(id)%len(d.links)]
	s := newStream(l, id, net.TCPAddrFromAddrPort(from), l.conn.RemoteAddr())
	l.mu.Lock()
	err := l.err
	l.streams[id] = s
	l.mu.Unlock()
	if err == nil {
		err = l.send(id, kindOpen, []byte(from.String()))
	}
	return s, err
}

// Close ends all streams.
func (d *Dialer) Close() error {
	var all []error
	for _, l := range d.links {
		all = append(all, l.conn.Close())
	}
	return errors.Join(all...)
}

// Listener accepts the streams of all dialers that connect to a socket.
type Listener struct {
	socket  net.Listener
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// Listen makes one of a listening socket, which it owns from then on.
func Listen(socket net.Listener) *Listener {
	l := &Listener{socket: socket, streams: make(chan net.Conn), done: make(chan struct{})}
	go func() {
		for {
			c, err := socket.Accept()
			if err != nil {
				return
			}
			newLink(c, func(s *stream) {
				select {
				case l.streams <- s:
				case <-l.done:
				}
			})
		}
	}()
	return l
}

// Accept returns the next stream.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.streams:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Addr is the socket's.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Close accepts no more; streams that are open stay so.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.socket.Close()
}
