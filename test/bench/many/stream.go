package many

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// stream is one net.Conn of a link.
type stream struct {
	link  *link
	id    uint32
	local net.Addr
	peer  net.Addr

	mu    sync.Mutex
	come  sync.Cond // something has changed for who reads
	bytes []byte
	ended bool // the other side says no more
	gone  bool // closed here
	until time.Time
	timer *time.Timer // for until
}

func newStream(l *link, id uint32, local, peer net.Addr) *stream {
	s := &stream{link: l, id: id, local: local, peer: peer}
	s.come.L = &s.mu
	return s
}

// Read waits for bytes until the deadline.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case !s.until.IsZero() && !time.Now().Before(s.until):
			return 0, os.ErrDeadlineExceeded
		case len(s.bytes) > 0:
			n := copy(b, s.bytes)
			if s.bytes = s.bytes[n:]; len(s.bytes) == 0 {
				s.bytes = nil
			}
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.come.Wait()
	}
}

// Write hands bytes to the link.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	over := s.gone || s.ended
	s.mu.Unlock()
	if over {
		return 0, net.ErrClosed
	}
	for n := 0; n < len(b); {
		part := b[n:min(len(b), n+frameMax)]
		if err := s.link.send(s.id, kindData, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(b), nil
}

// Close ends both directions.
func (s *stream) Close() error {
	s.mu.Lock()
	before := s.gone
	s.gone, s.bytes = true, nil
	s.setTimer(time.Time{})
	s.come.Broadcast()
	s.mu.Unlock()
	if before {
		return nil
	}
	s.link.forget(s.id)
	return s.link.send(s.id, kindEnd, nil)
}

func (s *stream) LocalAddr() net.Addr  { return s.local }
func (s *stream) RemoteAddr() net.Addr { return s.peer }

// SetDeadline is SetReadDeadline: what is written is taken at once.
func (s *stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetWriteDeadline changes nothing.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline also counts for a Read that waits.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setTimer(t)
	s.come.Broadcast()
	return nil
}

// setTimer wakes who reads at a time; the caller holds mu.
func (s *stream) setTimer(t time.Time) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.until = t; !t.IsZero() && time.Until(t) > 0 {
		s.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.come.Broadcast()
		})
	}
}

// arrived takes bytes of the other side in.
func (s *stream) arrived(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.bytes = append(s.bytes, b...)
		s.come.Broadcast()
	}
}

func (s *stream) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.come.Broadcast()
}
