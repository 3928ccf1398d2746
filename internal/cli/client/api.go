package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// Surface selects audience and error shape of a call.
type Surface uint8

// The surfaces. Anonymous calls carry no token.
const (
	ARM Surface = iota
	Graph
	Anonymous
)

const (
	armVersion   = "2022-09-01"
	graphPrefix  = "/v1.0"
	pollDelay    = time.Second
	pollShortest = 50 * time.Millisecond
	pollLongest  = 30 * time.Second
	tries        = 4
	maxPages     = 10_000
)

// Call is one request to Resource Manager or Graph.
type Call struct {
	Surface Surface
	Method  string
	// Path begins with / and is already escaped; Graph's without /v1.0. An
	// absolute link is accepted when it stays on the server.
	Path   string
	Query  url.Values
	Body   any // marshalled as JSON; json.RawMessage as it is
	Header http.Header
}

// Answer is a successful answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	URL    string // of the request
}

// Send does one call. A 401 renews the token once. What the server has not begun
// and says when to ask for again is tried again a few times; of a GET, also 408
// and 5xx answers.
func (s *Session) Send(ctx context.Context, c Call) (Answer, error) {
	body, err := marshal(c.Body)
	if err != nil {
		return Answer{}, err
	}
	link, err := s.link(c)
	if err != nil {
		return Answer{}, err
	}
	stale, refused := "", false
	for attempt := 1; ; attempt++ {
		token, err := s.bearer(ctx, c.Surface, stale)
		if err != nil {
			return Answer{}, err
		}
		res, data, err := s.attempt(ctx, c, link, token, body)
		if err != nil {
			return Answer{}, err
		}
		switch {
		case res.StatusCode < http.StatusMultipleChoices:
			return Answer{Status: res.StatusCode, Header: res.Header, Body: data, URL: link}, nil
		case res.StatusCode == http.StatusUnauthorized && c.Surface != Anonymous && !refused:
			stale, refused = token, true
			continue
		case attempt < tries && (putOff(res) || c.Method == http.MethodGet && transient(res.StatusCode)):
			if err := s.server.cfg.Wait(ctx, delayOf(res.Header, time.Duration(attempt)*pollDelay)); err != nil {
				return Answer{}, err
			}
			continue
		}
		return Answer{}, apiError(res.StatusCode, res.Header, data)
	}
}

func transient(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// putOff reports whether the server turned a request away before it did anything,
// for as long as somebody waits.
func putOff(res *http.Response) bool {
	named := res.Header.Get("Retry-After") != "" && delayOf(res.Header, 0) < pollLongest
	return named && (res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable)
}

func marshal(v any) ([]byte, error) {
	switch b := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return b, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("request body: %w", err)
	}
	return data, nil
}

// link makes the absolute URL and keeps it on the pinned server.
func (s *Session) link(c Call) (string, error) {
	link := c.Path
	if strings.HasPrefix(link, "/") {
		base := s.server.URL()
		if c.Surface == Graph {
			base += graphPrefix
		}
		link = base + link
	}
	if !sameOrigin(s.server.URL(), link) {
		return "", fault.New(fault.Unauthenticated, "ForeignLink", "%s is not an address of %s; no token is sent there", link, s.server.URL())
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", fault.New(fault.Invalid, "BadLink", "%q is not an address", link)
	}
	q := u.Query()
	for k, v := range c.Query {
		q[k] = v
	}
	if c.Surface == ARM && !q.Has("api-version") {
		q.Set("api-version", armVersion)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String(), nil
}

func (s *Session) bearer(ctx context.Context, surface Surface, stale string) (string, error) {
	scope := s.server.ARMScope()
	switch surface {
	case Anonymous:
		return "", nil
	case Graph:
		scope = s.server.GraphScope()
	case ARM:
	}
	t, err := s.Access(ctx, scope, stale)
	return t.Text, err
}

func (s *Session) attempt(ctx context.Context, c Call, link, token string, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, link, nil)
	if err != nil {
		return nil, nil, err
	}
	for k, v := range c.Header {
		req.Header[k] = v
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if len(body) > 0 && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	id, err := guid.New(s.server.cfg.Rand)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("x-ms-client-request-id", id)
	return s.server.send(req, body)
}

// Do sends a call and waits for the long-running operation that it may start.
// The result is the resource as it is afterwards; empty for none.
func (s *Session) Do(ctx context.Context, c Call) ([]byte, error) {
	a, err := s.Send(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.Await(ctx, c, a)
}

// Await follows Azure-AsyncOperation, else Location, of an answer to its end.
func (s *Session) Await(ctx context.Context, c Call, a Answer) ([]byte, error) {
	poll := a.Header.Get("Azure-AsyncOperation")
	byStatus := poll == ""
	if byStatus && a.Status == http.StatusAccepted {
		poll = a.Header.Get("Location")
	}
	if poll == "" {
		return a.Body, nil
	}
	h := a.Header
	for {
		if err := s.server.cfg.Wait(ctx, delayOf(h, pollDelay)); err != nil {
			return nil, err
		}
		p, err := s.Send(ctx, Call{Surface: c.Surface, Method: http.MethodGet, Path: poll})
		if err != nil {
			return nil, err
		}
		h = p.Header
		done, err := finished(p, byStatus)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
	}
	if c.Method != http.MethodPut && c.Method != http.MethodPatch {
		return nil, nil
	}
	final, err := s.Send(ctx, Call{Surface: c.Surface, Method: http.MethodGet, Path: a.URL})
	return final.Body, err
}

// finished reads one poll's answer.
func finished(p Answer, byStatus bool) (bool, error) {
	if byStatus {
		return p.Status != http.StatusAccepted, nil
	}
	var op struct {
		Status string `json:"status"`
		Error  struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(p.Body, &op); err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "BadOperation", "the server's operation status cannot be read")
	}
	switch strings.ToLower(op.Status) {
	case "succeeded":
		return true, nil
	case "failed", "canceled":
		if op.Error.Code == "" {
			op.Error.Code, op.Error.Message = "Operation"+op.Status, "the operation ended without an explanation"
		}
		return false, &APIError{Status: http.StatusConflict, Code: op.Error.Code, Message: op.Error.Message, CorrelationID: p.Header.Get("x-ms-correlation-request-id")}
	case "":
		return false, fault.New(fault.Unavailable, "BadOperation", "the server's operation status cannot be read")
	}
	return false, nil
}

// delayOf reads Azure's two ways to say when to ask again, within bounds.
func delayOf(h http.Header, otherwise time.Duration) time.Duration {
	d := otherwise
	if v, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		d = time.Duration(v * float64(time.Second))
	}
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if v, err := strconv.ParseFloat(h.Get(name), 64); err == nil {
			d = time.Duration(v * float64(time.Millisecond))
		}
	}
	return min(max(d, pollShortest), pollLongest)
}

// List follows nextLink to the end and returns the items of all pages.
func (s *Session) List(ctx context.Context, c Call) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	for range maxPages {
		a, err := s.Send(ctx, c)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value     []json.RawMessage `json:"value"`
			NextLink  string            `json:"nextLink"`
			ODataNext string            `json:"@odata.nextLink"`
		}
		if err := json.Unmarshal(a.Body, &page); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's list cannot be read")
		}
		items = append(items, page.Value...)
		next := page.NextLink + page.ODataNext
		switch next {
		case "":
			return items, nil
		case c.Path: // a page that follows itself
			return nil, endless()
		}
		c.Path, c.Query = next, nil
	}
	return nil, endless()
}

func endless() error {
	return fault.New(fault.Unavailable, "BadAnswer", "the server's list does not end")
}

// Public posts JSON to a public page of the server, for a person who is not
// signed in.
func (s *Server) Public(ctx context.Context, path string, body any) error {
	_, err := s.As(Account{}).Send(ctx, Call{Surface: Anonymous, Method: http.MethodPost, Path: path, Body: body})
	return err
}
