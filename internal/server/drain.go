package server

import (
	"context"
	"net/http"
)

// pollPath is the one request that waits on purpose.
const pollPath = "/machine/v1/poll"

// lifetimes are two contexts that outlive the order to stop: requests under way
// finish with what they need, the indexes too, while long polls end at once.
type lifetimes struct {
	requests, polls context.Context //nolint:containedctx // they are what this is about
	end, endPolls   context.CancelFunc
}

func newLifetimes(ctx context.Context) lifetimes {
	var l lifetimes
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
		next.ServeHTTP(w, r)
	})
}

// drain takes no new connection, ends long polls, and returns when the other
// requests are answered or their time is over.
func (l lifetimes) drain(server *http.Server) error {
	defer l.end()
	l.endPolls()
	late, cancel := context.WithTimeout(l.requests, drainTime)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		return server.Close()
	}
	return nil
}
