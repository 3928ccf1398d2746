package httpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// WaitingConfig says when waiting ends.
type WaitingConfig struct {
	// Until returns a context that ends when all that wait have to be answered.
	Until func() context.Context
	// Leaving reports whether answers say that the connection ends with them.
	Leaving func() bool
	// Idle is how long an answered connection may be without a request.
	Idle time.Duration
}

// Waiting holds connections over HTTP/1.1 and TLS whose request waits for
// something, which takes a quarter of the memory that it takes in net/http's
// hands: no buffers, no request, two small stacks. It is the net.Listener
// through which such a connection comes back to net/http with its next request.
// A client that goes away ends its waiting, as with net/http.
//
// Connections over HTTP/2 are net/http's all the time.
type Waiting struct {
	cfg  WaitingConfig
	back chan net.Conn
	done chan struct{}
	busy atomic.Int64 // without an answer yet

	mu     sync.Mutex
	closed bool
	held   map[*place]struct{}
}

// NewWaiting returns one that holds nothing.
func NewWaiting(cfg WaitingConfig) *Waiting {
	return &Waiting{cfg: cfg, back: make(chan net.Conn), done: make(chan struct{}), held: map[*place]struct{}{}}
}

// Busy reports whether a request waits for its answer.
func (w *Waiting) Busy() bool { return w.busy.Load() > 0 }

// Accept returns the next connection whose client has sent another request.
func (w *Waiting) Accept() (net.Conn, error) {
	select {
	case c := <-w.back:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Addr is not one of a socket.
func (w *Waiting) Addr() net.Addr { return &net.UnixAddr{Name: "waiting", Net: "unix"} }

// Close ends every connection that is held.
func (w *Waiting) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	close(w.done)
	for p := range w.held {
		go p.conn.Close() // says goodbye, which may block
	}
	return nil
}

// again is a connection that comes back, with what has been read of its next
// request.
type again struct {
	*tls.Conn
	first []byte
}

// Read returns what has been read already before what comes then.
func (a *again) Read(b []byte) (int, error) {
	if len(a.first) == 0 {
		return a.Conn.Read(b)
	}
	n := copy(b, a.first)
	a.first = a.first[n:]
	return n, nil
}

// place is one held connection.
type place struct {
	in       *Waiting
	conn     *tls.Conn
	gone     context.CancelFunc // ends the waiting
	answered chan struct{}
}

// take makes the connection of a request ours; nil where it has to stay
// net/http's. The context ends with the client, or with all waiting.
func (w *Waiting) take(answer http.ResponseWriter, r *http.Request) (*place, context.Context) {
	if w == nil || r.ProtoMajor != 1 || !r.ProtoAtLeast(1, 1) || r.Close || r.TLS == nil {
		return nil, nil
	}
	conn, buffered, err := http.NewResponseController(answer).Hijack()
	if err != nil {
		return nil, nil
	}
	p := &place{in: w, answered: make(chan struct{})}
	switch c := conn.(type) {
	case *tls.Conn:
		p.conn = c
	case *again:
		p.conn = c.Conn
	}
	var ctx context.Context
	ctx, p.gone = context.WithCancel(w.cfg.Until())
	// What has come behind the request is the beginning of the next one.
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	w.mu.Lock()
	closed := w.closed || p.conn == nil
	if !closed {
		w.held[p] = struct{}{}
	}
	w.mu.Unlock()
	w.busy.Add(1)
	if closed {
		p.gone()
		_ = conn.Close()
		return p, ctx
	}
	go p.watch(bytes.Clone(early))
	return p, ctx
}

// watch waits for the client's next word and gives the connection back then.
func (p *place) watch(word []byte) {
	if len(word) == 0 {
		word = make([]byte, 1)
		if _, err := p.conn.Read(word); err != nil {
			p.gone()
			<-p.answered
			p.leave()
			_ = p.conn.Close()
			return
		}
	}
	<-p.answered
	p.leave()
	select {
	case p.in.back <- &again{Conn: p.conn, first: word}:
	case <-p.in.done:
		_ = p.conn.Close()
	}
}

func (p *place) leave() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	delete(p.in.held, p)
}

// answer sends what was written and lets the client go on, or not.
func (p *place) answer(a *written, within time.Duration) {
	defer close(p.answered)
	defer p.in.busy.Add(-1)
	defer p.gone()
	last := p.in.cfg.Leaving() || a.header.Get("Connection") == "close"
	if last {
		a.header.Set("Connection", "close")
	}
	if p.conn == nil {
		return
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(within))
	if _, err := p.conn.Write(a.bytes()); err != nil || last {
		_ = p.conn.Close()
		return
	}
	_ = p.conn.SetWriteDeadline(time.Time{})
	_ = p.conn.SetReadDeadline(time.Now().Add(p.in.cfg.Idle))
}

// written is an answer that is put together before it is sent.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is what the answer will bear.
func (a *written) Header() http.Header { return a.header }

// WriteHeader sets the status, once.
func (a *written) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write adds to the body.
func (a *written) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// bytes is the answer as RFC 9112 has it.
func (a *written) bytes() []byte {
	a.WriteHeader(http.StatusOK)
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if a.status != http.StatusNoContent {
		a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_ = a.header.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	b.Write(a.body.Bytes())
	return b.Bytes()
}

// Later ends the handler and answers the call when f has returned, which waits.
// What f returns is what a handler returns; it finds its context in c.R, of
// which nothing else is left. Where the connection cannot be held apart, f runs
// within the handler.
func (c *Call) Later(f func() error) error {
	c.later = f
	return nil
}

// wait answers a call whose handler wants it later.
func (s *Server) wait(c *Call, answer *recorder) {
	p, ctx := s.cfg.Waiting.take(answer.ResponseWriter, c.R)
	if p == nil {
		s.end(c, answer, s.guarded(c.later))
		return
	}
	// The request, and what net/http keeps with it, is free from here on.
	c.R = (&http.Request{Method: c.R.Method, Proto: c.R.Proto, Header: http.Header{}}).WithContext(context.WithValue(ctx, correlationKey{}, c.By.CorrelationID))
	late := &written{header: answer.Header()}
	answer.ResponseWriter = late
	go func() {
		// Where no net/http catches it, a panic of what tells of the answer would end
		// the server, and who waits would wait for ever.
		defer p.answer(late, s.cfg.AnswerTime)
		err := s.guarded(c.later)
		if err := s.guarded(func() error { s.end(c, answer, err); return nil }); err != nil {
			s.cfg.Log.Error("an answer could not be told of", "error", err, "correlation", c.By.CorrelationID)
			late.WriteHeader(http.StatusInternalServerError)
		}
	}()
}
