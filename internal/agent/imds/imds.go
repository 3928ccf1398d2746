package imds

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/machine/protocol"
)

// Server is the server, asked with the machine's key. agent.Agent satisfies it.
// Its refusals are faults.
type Server interface {
	IdentityToken(ctx context.Context, r protocol.IdentityTokenRequest) (protocol.IdentityToken, error)
	IdentityCertificate(ctx context.Context, r protocol.IdentityCertificateRequest) (protocol.IdentityToken, error)
	Instance(ctx context.Context) (protocol.Instance, error)
}

// Config is what a Service stands on.
type Config struct {
	Server     Server
	Tenant     string
	Interfaces func() []Interface // the machine's network, for /metadata/instance
	Now        func() time.Time
	Log        func(format string, args ...any)
}

// Interface is one network interface.
type Interface struct {
	MAC  string // twelve hexadecimal digits
	IPv4 []Prefix
	IPv6 []string
}

// Prefix is an address within its network.
type Prefix struct {
	Address, Network string
	Bits             int
}

// Service answers connections that the root part has judged. It is safe for
// concurrent use.
type Service struct {
	cfg    Config
	tokens cache
	rate   limiter
	facts  facts

	in      chan net.Conn
	allowed chan struct{} // slots of allowed callers
	refused chan struct{} // slots of the others, who cannot take the allowed ones'
}

// Bounds of what callers can make this process hold.
const (
	allowedSlots = 64
	refusedSlots = 16
	headerTime   = 5 * time.Second
	answerTime   = 60 * time.Second
	maxHeader    = 16 << 10
	maxBody      = 16 << 10
)

// New makes a Service.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, tokens: cache{held: map[kept]entry{}}, rate: limiter{now: cfg.Now, by: map[uint32]bucket{}}, in: make(chan net.Conn, allowedSlots+refusedSlots),
		allowed: make(chan struct{}, allowedSlots), refused: make(chan struct{}, refusedSlots)}
}

// judged is a connection with its verdict and its slot.
type judged struct {
	caller.Taken
	free func()
}

// Close frees the slot.
func (j *judged) Close() error {
	j.free()
	return j.Taken.Close()
}

// Take answers one connection; where there is no room it is closed.
func (s *Service) Take(t caller.Taken) {
	slots := s.refused
	if t.Verdict.Allowed {
		slots = s.allowed
	}
	select {
	case slots <- struct{}{}:
	default:
		_ = t.Close()
		return
	}
	j := &judged{Taken: t, free: sync.OnceFunc(func() { <-slots })}
	s.in <- j
}

// Run answers until ctx ends.
func (s *Service) Run(ctx context.Context) {
	server := &http.Server{Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(discard{}, "", 0), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			j, _ := c.(*judged)
			return context.WithValue(ctx, verdictKey{}, j)
		}}
	// One verdict, one request: the next one is judged anew.
	server.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(&queue{in: s.in, done: ctx.Done()}); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		s.cfg.Log("identity service: %v", err)
	}
}

type verdictKey struct{}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// queue is the connections as net/http wants them.
type queue struct {
	in   chan net.Conn
	done <-chan struct{}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.in:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: what is handed over ends with its context.
func (q *queue) Close() error { return nil }

// Addr is the service's.
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Sallyport")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	j, ok := r.Context().Value(verdictKey{}).(*judged)
	if !ok || j == nil {
		// A connection that nobody judged: there is no way here, and no answer.
		panic(http.ErrAbortHandler)
	}
	v := j.Verdict
	w.Header().Set("X-Ms-Request-Id", v.CorrelationID)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	form := formOf(r.URL.Path)
	if !v.Allowed {
		s.refuseCaller(w, form, v)
		return
	}
	if p := forwarded(r); p != nil {
		form.write(w, *p)
		return
	}
	if wait := s.rate.take(v.UID); wait > 0 {
		w.Header().Set("Retry-After", "1")
		form.write(w, problem{Status: http.StatusTooManyRequests, Code: "too_many_requests", Text: "Too many requests. Wait a second and try again."})
		return
	}
	s.route(w, r, v, form)
}

// refuseCaller tells somebody whom the root part refused why.
func (s *Service) refuseCaller(w http.ResponseWriter, f form, v caller.Verdict) {
	if v.Code == caller.CodeNoIdentity {
		s.tokens.drop()
		f.write(w, problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: v.Text})
		return
	}
	f.write(w, problem{Status: http.StatusForbidden, Code: "access_denied", Text: v.Text})
}

// forwarded refuses what somebody else sent on: a proxy says so, and a browser
// or a redirect names another host or lacks the header. As Azure's does
// (https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#security-and-authentication).
func forwarded(r *http.Request) *problem {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Real-Ip", "Forwarded", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return &problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: "Forwarded requests are refused: the request has the header " + name + "."}
		}
	}
	if host := strings.TrimSuffix(r.Host, ":80"); host != hostName || r.URL.Host != "" && r.URL.Host != r.Host {
		return &problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: "Forwarded requests are refused: the request names another host. Ask http://" + hostName + "."}
	}
	if values := r.Header.Values("Metadata"); len(values) != 1 || !strings.EqualFold(values[0], "true") {
		return &problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: "Required metadata header not specified"}
	}
	return nil
}

const hostName = "169.254.169.254"

// route finds the operation. Paths are Azure's, in any case as there.
func (s *Service) route(w http.ResponseWriter, r *http.Request, v caller.Verdict, f form) {
	path := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"))
	method, answer := http.MethodGet, http.HandlerFunc(nil)
	switch {
	case path == tokenPath:
		answer = func(w http.ResponseWriter, r *http.Request) { s.token(w, r, v) }
	case path == infoPath:
		answer = func(w http.ResponseWriter, r *http.Request) { s.info(w, r, v) }
	case path == certificatePath:
		method, answer = http.MethodPost, func(w http.ResponseWriter, r *http.Request) { s.certificate(w, r, v) }
	case path == "/metadata/versions":
		answer = s.versions
	case path == instancePath || strings.HasPrefix(path, instancePath+"/"):
		answer = func(w http.ResponseWriter, r *http.Request) { s.instance(w, r, v) }
	default:
		f.write(w, problem{Status: http.StatusNotFound, Code: "not_found", Text: "Not found"})
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		f.write(w, problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Text: "Method not allowed"})
		return
	}
	answer(w, r)
}
