package shim

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// line is one accepted connection, which does not block. Go's own connections
// cost a registration with epoll and two changes of threads for each question,
// which is more than all that the question takes besides.
type line struct {
	fd    int
	until time.Time
	rest  []byte // received and not yet read
	space [1024]byte
}

// Read waits for bytes until the deadline.
func (l *line) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		n, err := l.retry(unix.POLLIN, func() (int, error) { return unix.Read(l.fd, l.space[:]) })
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.EOF
		}
		l.rest = l.space[:n]
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// Write sends all of b before the deadline.
func (l *line) Write(b []byte) (int, error) {
	at := 0
	for at < len(b) {
		n, err := l.retry(unix.POLLOUT, func() (int, error) { return unix.SendmsgN(l.fd, b[at:], nil, nil, unix.MSG_NOSIGNAL) })
		if err != nil {
			return at, err
		}
		at += n
	}
	return at, nil
}

// retry repeats a call that would block when the kernel says so.
func (l *line) retry(events int16, call func() (int, error)) (int, error) {
	for {
		n, err := call()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return max(n, 0), err
		}
		left := time.Until(l.until)
		if left <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: events}}, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
	}
}

// patience is a context with a deadline that needs a timer only if somebody
// waits for it: a decision does not.
type patience struct {
	context.Context
	until time.Time

	once   sync.Once
	timed  context.Context //nolint:containedctx // it is one
	cancel context.CancelFunc
}

func (p *patience) timer() context.Context {
	p.once.Do(func() { p.timed, p.cancel = context.WithDeadline(p.Context, p.until) })
	return p.timed
}

// Deadline is when the client gives up.
func (p *patience) Deadline() (time.Time, bool) { return p.until, true }

// Done is closed then, or when the server stops.
func (p *patience) Done() <-chan struct{} { return p.timer().Done() }

// Err says whether that has been.
func (p *patience) Err() error { return p.timer().Err() }

// end stops the timer, if there is one.
func (p *patience) end() {
	p.once.Do(func() { p.timed, p.cancel = context.WithCancel(p.Context) })
	p.cancel()
}
