//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// balancer passes TCP connections to the servers in turn, to the other one
// where one does not take it.
type balancer struct {
	listener net.Listener
	ports    [2]int

	mu     sync.Mutex
	next   int
	pinned int // -1: none
	conns  map[net.Conn]int
}

func newBalancer(port int, ports [2]int) (*balancer, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	b := &balancer{listener: l, ports: ports, pinned: -1, conns: map[net.Conn]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b, nil
}

func (b *balancer) serve(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	order := []int{b.next % 2, 1 - b.next%2}
	if b.next++; b.pinned >= 0 {
		order = []int{b.pinned}
	}
	b.mu.Unlock()
	for _, i := range order {
		to, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", b.ports[i]), time.Second)
		if err != nil {
			continue
		}
		defer to.Close()
		b.mu.Lock()
		b.conns[c] = i
		b.mu.Unlock()
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		_, _ = io.Copy(c, to)
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
		return
	}
}

// only sends new connections to one server; -1 to both in turn.
func (b *balancer) only(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pinned = i
}

// open counts the connections to a server.
func (b *balancer) open(i int) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.conns {
		if at == i {
			n++
		}
	}
	return n
}

// drop breaks every connection.
func (b *balancer) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
	clear(b.conns) // who goes has not gone yet
}

func (b *balancer) close() {
	_ = b.listener.Close()
	b.drop()
}
