package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/httpd"
)

// idleTime is how long a connection may be without a request.
const idleTime = 2 * time.Minute

// lingerTime is how long connections may learn that the server is leaving.
const lingerTime = 300 * time.Millisecond

const (
	// lookAgain is the pause between two looks at the connections.
	lookAgain = 10 * time.Millisecond
	// newTime is how long a connection may be without a request and still be
	// waited for.
	newTime = time.Second
)

// pollPath is the one request that waits on purpose.
const pollPath = "/machine/v1/poll"

// lifetimes are two contexts that outlive the order to stop: requests under way
// finish with what they need, the indexes too, while long polls end at once.
type lifetimes struct {
	requests, polls context.Context //nolint:containedctx // they are what this is about
	end, endPolls   context.CancelFunc
	leaving         *atomic.Bool // answers over HTTP/1.1 ask for another connection
	connections     *connections
	waiting         *httpd.Waiting // polls over HTTP/1.1
}

// newLifetimes makes them; polls also end with what fresh makes of their context.
func newLifetimes(ctx context.Context, now func() time.Time, fresh func(context.Context) context.Context) lifetimes {
	l := lifetimes{leaving: new(atomic.Bool), connections: &connections{now: now, state: map[net.Conn]connection{}}}
	l.requests, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.polls, l.endPolls = context.WithCancel(l.requests)
	l.waiting = httpd.NewWaiting(httpd.WaitingConfig{Until: func() context.Context { return fresh(l.polls) }, Leaving: l.leaving.Load, Idle: idleTime})
	return l
}

// bound makes long polls end with theirs.
func (l lifetimes) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pollPath {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(l.polls, cancel)()
			r = r.WithContext(ctx)
		}
		if l.leaving.Load() && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// drain takes no new connection, ends long polls, and returns when what had
// begun is answered or its time is over. net/http drops a request that it reads
// after Shutdown was called, and one that crosses the closing of its connection
// on the wire is lost too. So Shutdown comes last: before it, connections that
// have been accepted get their answer, and answers over HTTP/1.1 say that the
// connection ends with them. HTTP/2 has a message of its own for that.
func (l lifetimes) drain(server *http.Server, listeners []net.Listener) error {
	defer l.end()
	l.leaving.Store(true)
	l.endPolls()
	for _, x := range listeners {
		_ = x.Close() // a service manager's copy stays open
	}
	late, cancel := context.WithTimeout(l.requests, drainTime)
	defer cancel()
	wait(late, lingerTime, nil)
	for late.Err() == nil && (l.connections.busy() || l.waiting.Busy()) {
		wait(late, lookAgain, nil)
	}
	if err := server.Shutdown(late); err != nil {
		return server.Close()
	}
	return nil
}

// connections knows what each connection is about.
type connections struct {
	now func() time.Time

	mu    sync.Mutex
	state map[net.Conn]connection
}

type connection struct {
	state http.ConnState
	since time.Time
}

// changed is net/http's hook.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(c.state, conn)
		return
	}
	c.state[conn] = connection{state, c.now()}
}

// busy says whether a connection over HTTP/1.1 waits for an answer, or has just
// been accepted and will send its first request.
func (c *connections) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, is := range c.state {
		switch is.state {
		case http.StateNew:
			if c.now().Sub(is.since) < newTime {
				return true
			}
		case http.StateActive: // the handshake is over, so that this does not wait
			if tc, ok := conn.(*tls.Conn); !ok || tc.ConnectionState().NegotiatedProtocol != "h2" {
				return true
			}
		default:
		}
	}
	return false
}
