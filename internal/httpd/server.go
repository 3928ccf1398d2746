package httpd

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/route"
)

// Authenticator turns proof into identity. It fills principal, groups and
// client; httpd fills address, correlation id and time.
type Authenticator interface {
	// Bearer verifies an access token for a surface.
	Bearer(ctx context.Context, token string, surface route.Surface, at time.Time) (audit.By, error)
	// Machine finds the joined machine that holds a key.
	Machine(ctx context.Context, thumbprint string) (audit.By, error)
}

// Config describes a server's front.
type Config struct {
	Rows          []route.Row
	Mux           *Mux
	Authenticator Authenticator
	// Admit, where set, refuses rows that this server cannot answer now.
	Admit      func(row route.Row) error
	Limits     map[string]Limit // by limiter class
	Authority  string           // for WWW-Authenticate, "https://host/adfs"
	Now        func() time.Time
	Rand       io.Reader
	Log        *slog.Logger
	Proxies    Proxies       // whose word about a client's address counts
	BodyTime   time.Duration // within which a request's body must arrive; 0 means 30 s
	AnswerTime time.Duration // within which an answer must be taken; 0 means 60 s
	// Manifest, where set, names the manifest in force, "EPOCH.VERSION": each
	// answer bears it, so that a client knows when its own is old.
	Manifest func() string
	// Waiting, where set, holds connections of calls that are answered later.
	Waiting *Waiting
	// Nothing, where set, says what a path of Resource Manager's would be that no row
	// has; nil where it does not know either.
	Nothing func(method string, path []string) error
	// Answered, where set, is told of every answer: its row ("" where none
	// matched), status and time.
	Answered func(rowID string, status int, took time.Duration)
}

// bodyTime and answerTime are enough for 4 MiB over a slow line.
const (
	bodyTime   = 30 * time.Second
	answerTime = 60 * time.Second
)

// Unmatched is the limiter class of requests that no row answers.
const Unmatched = "unmatched"

// Server is an http.Handler over all rows.
type Server struct {
	cfg     Config
	entries map[string][]entry
	limits  *limiter
	gate    *gate
	coming  *gate
}

// New checks every row against its handler and returns the server.
func New(cfg Config) (*Server, error) {
	entries, err := cfg.Mux.compile(cfg.Rows)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	if _, ok := cfg.Limits[Unmatched]; !ok {
		cfg.Limits = maps.Clone(cfg.Limits)
		cfg.Limits[Unmatched] = Limit{PerSecond: 20, Burst: 200}
	}
	for _, row := range cfg.Rows {
		if _, ok := cfg.Limits[row.Limiter]; !ok {
			return nil, fmt.Errorf("routes: row %s names limiter %q, which does not exist", row.ID, row.Limiter)
		}
	}
	if cfg.BodyTime == 0 {
		cfg.BodyTime = bodyTime
	}
	if cfg.AnswerTime == 0 {
		cfg.AnswerTime = answerTime
	}
	return &Server{cfg: cfg, entries: entries, limits: newLimiter(cfg.Limits), gate: newGate(cfg.Limits), coming: &gate{limits: cfg.Limits, arriving: true, classes: map[string]*inside{}}}, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, answer := s.begin(w, r)
	err := s.guarded(func() error { return s.serve(c) })
	if err == nil && c.later != nil {
		s.wait(c, answer)
		return
	}
	s.end(c, answer, err)
}

// begin is a request with what every answer bears.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (*Call, *recorder) {
	started := s.cfg.Now()
	answer := &recorder{ResponseWriter: w, within: s.cfg.AnswerTime, started: started}
	answer.await(0) // the one before on this connection left its own
	c := &Call{W: answer, R: r}
	c.waitForBody(s.cfg.BodyTime)
	c.By = audit.By{Address: s.cfg.Proxies.client(r), CorrelationID: s.correlationID(), ClientRequestID: clientRequestID(r), At: started.UTC().Truncate(time.Microsecond)}
	c.R = r.WithContext(context.WithValue(r.Context(), correlationKey{}, c.By.CorrelationID))
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("x-ms-request-id", c.By.CorrelationID)
	if s.cfg.Manifest != nil {
		h.Set("x-sallyport-manifest", s.cfg.Manifest())
	}
	h.Set("x-ms-correlation-request-id", c.By.CorrelationID)
	if c.By.ClientRequestID != "" {
		h.Set("client-request-id", c.By.ClientRequestID)
	}
	return c, answer
}

// end gives the call's room back, renders what went wrong, and tells of the answer.
func (s *Server) end(c *Call, answer *recorder, err error) {
	if c.leave != nil {
		c.leave()
	}
	if err != nil && answer.status == 0 {
		s.render(c, err)
	}
	took := s.cfg.Now().Sub(answer.started)
	s.log(c, answer, took, err)
	if s.cfg.Answered != nil {
		s.cfg.Answered(c.Row.ID, answer.status, took)
	}
}

// guarded makes an error of a panic.
func (s *Server) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

func (s *Server) serve(c *Call) error {
	handle, err := s.enter(c)
	if err != nil {
		return err
	}
	if err := s.admit(c); err != nil {
		return err
	}
	if err := c.apiVersion(); err != nil {
		return err
	}
	if err := c.unread(); err != nil {
		return err
	}
	return handle(c)
}

// enter finds the row of a request and its room among those that are worked on.
// It and admit have frames of their own, which are gone while the handler waits:
// thousands of machines wait.
func (s *Server) enter(c *Call) (HandlerFunc, error) {
	e, vars, how, err := s.find(c.R)
	if e != nil {
		c.Row = e.row
	}
	if err != nil {
		// A flood of addresses that mean nothing is a flood of log lines, too.
		if limited := s.limits.address(Unmatched, c.By.Address, c.By.At); limited != nil {
			return nil, limited
		}
		return nil, err
	}
	c.vars, c.asked = vars, how
	if s.cfg.Admit != nil {
		if err := s.cfg.Admit(c.Row); err != nil {
			return nil, err
		}
	}
	if err := s.limits.address(c.Row.Limiter, c.By.Address, c.By.At); err != nil {
		return nil, err
	}
	if err := s.arrive(c); err != nil {
		return nil, err
	}
	c.leave, err = s.gate.enter(c.Row.Limiter, c.By.Address)
	return e.handle, err
}

// admit says whose request it is and whether he has asked too often.
func (s *Server) admit(c *Call) error {
	if err := s.authenticate(c); err != nil {
		return err
	}
	return s.limits.caller(c.Row.Limiter, c.By, c.By.At)
}

// arrive waits for the body of a request that shows no proof in its headers,
// before the request takes up room among those that are worked on: with a few
// bodies that trickle in, three addresses could keep everybody from signing in.
func (s *Server) arrive(c *Call) error {
	if c.Row.Door != route.Public && c.Row.Door != route.Client || c.R.Body == nil || c.R.Body == http.NoBody || s.cfg.Limits[c.Row.Limiter].InFlight <= 0 {
		return nil
	}
	leave, err := s.coming.enter(c.Row.Limiter, c.By.Address)
	if err != nil {
		return err
	}
	defer leave()
	b, err := c.read(maxForm)
	if err != nil {
		return err
	}
	c.R.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

// authenticate opens the row's door or says why not.
func (s *Server) authenticate(c *Call) error {
	c.thumbprint = peerThumbprint(c.R)
	var by audit.By
	var err error
	switch c.Row.Door {
	case route.Public, route.Client:
		return nil
	case route.Caller:
		token, ok := strings.CutPrefix(c.R.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			return fault.New(fault.Unauthenticated, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing or is no bearer token.").WithRemedy("Sign in with: sally login")
		}
		by, err = s.cfg.Authenticator.Bearer(c.R.Context(), token, c.Row.Surface, c.By.At)
	case route.Machine:
		if c.thumbprint == "" {
			return fault.New(fault.Unauthenticated, "MachineKeyMissing", "this address answers machines that show their key")
		}
		by, err = s.cfg.Authenticator.Machine(c.R.Context(), c.thumbprint)
	default:
		return fault.New(fault.Forbidden, "Closed", "this operation is closed")
	}
	if err != nil {
		return err
	}
	by.Address, by.CorrelationID, by.ClientRequestID, by.At = c.By.Address, c.By.CorrelationID, c.By.ClientRequestID, c.By.At
	c.By = by
	return nil
}

// peerThumbprint names the key of the TLS client certificate. TLS has checked
// possession of the key; the certificate's own text means nothing.
func peerThumbprint(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	id, err := protocol.Thumbprint(r.TLS.PeerCertificates[0].PublicKey)
	if err != nil {
		return ""
	}
	return id
}

// clientRequestID returns the client's own id when it is short and printable.
func clientRequestID(r *http.Request) string {
	for _, name := range []string{"x-ms-client-request-id", "client-request-id"} {
		id := r.Header.Get(name)
		if len(id) == 0 || len(id) > 64 {
			continue
		}
		if strings.IndexFunc(id, func(c rune) bool { return c < 0x21 || c > 0x7e }) < 0 {
			return id
		}
	}
	return ""
}

// correlationID makes a random GUID (RFC 9562 version 4).
func (s *Server) correlationID() string {
	var b [16]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		_, _ = rand.Read(b[:])
	}
	return guid.Of(b)
}

// log writes the one line of a request: no query, no header, no body.
func (s *Server) log(c *Call, answer *recorder, took time.Duration, err error) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("row", c.Row.ID), slog.String("method", c.R.Method), slog.Int("status", answer.status), slog.String("principal", c.By.Principal),
		slog.String("address", c.By.Address), slog.Duration("took", took),
	}
	if answer.status == http.StatusTooManyRequests {
		level = slog.LevelDebug // a flood must not fill the disk with lines; the metrics count it
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
		if fault.Is(err, fault.Internal) || answer.status >= 500 {
			level = slog.LevelError
		}
	}
	s.cfg.Log.LogAttrs(c.R.Context(), level, "request", attrs...)
}

// recorder remembers the status, and gives whoever asked a time to take the
// answer: a reader that takes a byte a minute must not hold a connection.
type recorder struct {
	http.ResponseWriter
	status  int
	within  time.Duration
	started time.Time
}

// await sets the time within which what is written must be taken; 0 means any.
// A writer without deadlines (a test's) says so with an error, which changes
// nothing.
func (r *recorder) await(d time.Duration) {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(until)
}

// WriteHeader remembers and forwards the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		r.await(r.within)
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write forwards a body; without a status before it, the status is 200.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
		r.await(r.within)
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
