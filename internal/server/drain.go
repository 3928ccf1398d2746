package server

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// lingerTime is how long connections may learn that the server is leaving.
const lingerTime = 300 * time.Millisecond

// pollPath is the one request that waits on purpose.
const pollPath = "/machine/v1/poll"

// lifetimes are two contexts that outlive the order to stop: requests under way
// finish with what they need, the indexes too, while long polls end at once.
type lifetimes struct {
	requests, polls context.Context //nolint:containedctx // they are what this is about
	end, endPolls   context.CancelFunc
	leaving         *atomic.Bool // answers over HTTP/1.1 ask for another connection
}

func newLifetimes(ctx context.Context) lifetimes {
	l := lifetimes{leaving: new(atomic.Bool)}
	l.requests, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.polls, l.endPolls = context.WithCancel(l.requests)
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

// drain asks clients for another connection, takes no new one, ends long polls,
// and returns when the other requests are answered or their time is over. A
// connection that is closed while its client writes the next request would cost
// that request; so busy connections over HTTP/1.1 end with an answer that says
// so, before the idle ones are closed. HTTP/2 has a message for it.
func (l lifetimes) drain(server *http.Server) error {
	defer l.end()
	l.leaving.Store(true)
	l.endPolls()
	wait(l.requests, lingerTime, nil)
	late, cancel := context.WithTimeout(l.requests, drainTime)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		return server.Close()
	}
	return nil
}
