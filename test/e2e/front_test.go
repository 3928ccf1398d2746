//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// front passes TCP connections of machines to the server. It can keep what the
// machines say, and lose what the server answers.
type front struct {
	listener net.Listener
	server   int

	mu             sync.Mutex
	stall, swallow bool
	conns          map[*fronted]bool
}

// fronted is one connection of a machine, with what waits for the server.
type fronted struct {
	machine, server net.Conn
	waits           []byte
	since           time.Time // when it began to wait
}

func newFront(server int) (*front, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &front{listener: l, server: server, conns: map[*fronted]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f, nil
}

func (f *front) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

func (f *front) serve(machine net.Conn) {
	defer machine.Close()
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.server))
	if err != nil {
		return
	}
	defer server.Close()
	c := &fronted{machine: machine, server: server}
	f.mu.Lock()
	f.conns[c] = true
	f.mu.Unlock()
	go func() {
		defer server.Close()
		f.copy(machine, func(b []byte) error {
			if len(c.waits) == 0 {
				c.since = time.Now()
			}
			if c.waits = append(c.waits, b...); f.stall {
				return nil
			}
			return c.flush()
		})
	}()
	f.copy(server, func(b []byte) error {
		if f.swallow {
			return nil
		}
		_, err := machine.Write(b)
		return err
	})
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

// copy hands over what comes, until somebody closes.
func (f *front) copy(from net.Conn, each func([]byte) error) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			f.mu.Lock()
			failed := each(buffer[:n])
			f.mu.Unlock()
			if failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *fronted) flush() error {
	_, err := c.server.Write(c.waits)
	c.waits = nil
	return err
}

// keep keeps what machines say from the server, from now on; pass gives it to the
// server.
func (f *front) keep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stall = true
}

func (f *front) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stall = false
	for c := range f.conns {
		_ = c.flush()
	}
}

// waiting counts the connections in which at least that much is kept, and not for
// longer than a machine waits for its answer. What begins a new connection, which
// may be as long, is none of it (RFC 8446 section 5.1: 23 is application data).
func (f *front) waiting(least int, most time.Duration) (n int) {
	const data = 23
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if len(c.waits) >= least && c.waits[0] == data && time.Since(c.since) < most {
			n++
		}
	}
	return n
}

// lose lets no answer through any more; find breaks the connections that lost
// one, and lets through what others hear.
func (f *front) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.swallow = true
}

func (f *front) find() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.swallow = false
	for c := range f.conns {
		_ = c.machine.Close()
		_ = c.server.Close()
	}
}

func (f *front) close() {
	_ = f.listener.Close()
	f.find()
}
