package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Limits of a forwarder.
const (
	maxConnections = 256
	dialTimeout    = 3 * time.Second
)

type dialer func(ctx context.Context) (net.Conn, error)

// forwarder accepts on one listener and joins each connection with one that
// it dials. It looks at no byte.
type forwarder struct {
	listener net.Listener
	dial     dialer
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// forward starts a forwarder and takes the listener over.
func forward(listener net.Listener, dial dialer) *forwarder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &forwarder{listener: listener, dial: dial, cancel: cancel}
	f.done.Go(func() { f.accept(ctx) })
	return f
}

// close ends the listener and every connection, and waits for them.
func (f *forwarder) close() {
	f.cancel()
	_ = f.listener.Close()
	f.done.Wait()
}

func (f *forwarder) accept(ctx context.Context) {
	slots := make(chan struct{}, maxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		near, err := f.listener.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: let some connections end.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		f.done.Go(func() {
			defer func() { <-slots }()
			f.join(ctx, near)
		})
	}
}

func (f *forwarder) join(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	far, err := f.dial(dialCtx)
	if err != nil {
		return // the caller sees its connection closed
	}
	splice(ctx, near, far)
}

// splice copies both ways until both sides have finished or ctx ends, passes
// half-closes on, and closes far.
func splice(ctx context.Context, near, far net.Conn) {
	defer func() { _ = far.Close() }()
	stop := context.AfterFunc(ctx, func() {
		_ = near.Close()
		_ = far.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { copyHalf(far, near) })
	both.Go(func() { copyHalf(near, far) })
	both.Wait()
}

// copyHalf copies one direction. When it breaks, both ends must learn: the
// receiver by end of file, the sender by a closed reading side.
func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	if c, ok := from.(interface{ CloseRead() error }); ok && err != nil {
		_ = c.CloseRead()
	}
}

// sshPorts is where this computer reaches a machine's sshd: port 22, or the
// next free one from 2222 where something that listens on every address holds 22.
func sshPorts() []int {
	ports := []int{22}
	for port := 2222; port < 2222+64; port++ {
		ports = append(ports, port)
	}
	return ports
}

// listenLoopback listens for a machine's sshd on its loopback address of this
// computer, on the first of the ports that is free.
func listenLoopback(ctx context.Context, address string, ports []int) (net.Listener, int, error) {
	for _, port := range ports {
		var l net.ListenConfig
		listener, err := l.Listen(ctx, "tcp4", fmt.Sprintf("%s:%d", address, port))
		if err == nil {
			return listener, port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("%s: all of the ports %v are taken", address, ports)
}
