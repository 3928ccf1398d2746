package imds

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/machine/protocol"
)

// renewBefore is how much life a kept token must have; lastUse how much it must
// have when the server does not answer.
const (
	renewBefore = 10 * time.Minute
	lastUse     = time.Minute
	maxTokens   = 32
	maxResource = 1024
)

// firstVersion is the oldest version of the token operation, and the newest too.
const firstVersion = "2018-02-01"

// token answers GET /metadata/identity/oauth2/token. Numbers are texts, as in
// Azure's answers.
func (s *Service) token(w http.ResponseWriter, r *http.Request, v caller.Verdict) {
	q := r.URL.Query()
	refuse := func(code, text string) {
		identityForm.write(w, problem{Status: http.StatusBadRequest, Code: code, Text: text})
	}
	resource := q.Get("resource")
	switch {
	case !dated(q["api-version"]) || q.Get("api-version") < firstVersion:
		refuse("invalid_request", "Required query variable 'api-version' is missing or not supported. Use "+firstVersion+".")
		return
	case len(q["resource"]) != 1 || resource == "":
		refuse("invalid_request", "Required query variable 'resource' is missing")
		return
	case len(resource) > maxResource || !printable(resource):
		refuse("invalid_resource", "The resource cannot be read.")
		return
	}
	named, ok := selected(q)
	if !ok {
		refuse("invalid_request", "Identity not found")
		return
	}
	named.Resource, named.Caller = resource, v.Name
	t, err := s.get(r, named, v)
	if err != nil {
		identityForm.write(w, problemOf(err))
		return
	}
	left := t.NotBefore + t.ExpiresIn - s.cfg.Now().Unix()
	writeJSON(w, http.StatusOK, map[string]string{"access_token": t.AccessToken, "client_id": t.ClientID, "expires_in": strconv.FormatInt(left, 10), "ext_expires_in": strconv.FormatInt(left, 10),
		"expires_on": strconv.FormatInt(t.NotBefore+t.ExpiresIn, 10), "not_before": strconv.FormatInt(t.NotBefore, 10), "resource": resource, "token_type": t.TokenType})
}

// selected reads which identity a request names; ok is false for one that names two.
func selected(q url.Values) (out protocol.IdentityTokenRequest, ok bool) {
	for name, at := range map[string]*string{"client_id": &out.ClientID, "object_id": &out.ObjectID, "principal_id": &out.ObjectID, "mi_res_id": &out.ResourceID, "msi_res_id": &out.ResourceID} {
		values := q[name]
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 || values[0] == "" || len(values[0]) > maxResource || !printable(values[0]) || (*at != "" && !strings.EqualFold(*at, values[0])) {
			return out, false
		}
		*at = strings.ToLower(values[0])
	}
	return out, true
}

// get returns a kept token or a new one. The server is asked again when the
// resource of the machine has changed: the identity may be another.
func (s *Service) get(r *http.Request, q protocol.IdentityTokenRequest, v caller.Verdict) (protocol.IdentityToken, error) {
	key := kept{q.Resource, q.ClientID, q.ObjectID, q.ResourceID}
	held, ok := s.tokens.get(key, v.Revision, s.cfg.Now())
	if ok && held.left(s.cfg.Now()) > renewBefore {
		return held.token, nil
	}
	t, err := s.cfg.Server.IdentityToken(r.Context(), q)
	switch {
	case err == nil:
		s.tokens.put(key, entry{token: t, revision: v.Revision})
		return t, nil
	case ok && problemOf(err).Status == http.StatusServiceUnavailable:
		return held.token, nil
	}
	if q.ClientID+q.ObjectID+q.ResourceID == "" {
		s.tokens.drop() // what somebody names wrongly says nothing of the others
	}
	return protocol.IdentityToken{}, err
}

// kept is what a token is kept by: whom it is for, and how its identity was named.
type kept struct{ resource, client, object, id string }

// entry is a kept token, of one revision of the machine's resource.
type entry struct {
	token    protocol.IdentityToken
	revision int64
}

func (e entry) left(now time.Time) time.Duration {
	return time.Unix(e.token.NotBefore+e.token.ExpiresIn, 0).Sub(now)
}

type cache struct {
	mu   sync.Mutex
	held map[kept]entry
}

// get returns a kept token that is still good for a while.
func (c *cache) get(key kept, revision int64, now time.Time) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.held[key]
	if ok && (e.revision != revision || e.left(now) < lastUse) {
		delete(c.held, key)
		return entry{}, false
	}
	return e, ok
}

func (c *cache) put(key kept, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) >= maxTokens {
		clear(c.held)
	}
	c.held[key] = e
}

// drop forgets everything: the identity is gone, or may be.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.held)
}

// info answers GET /metadata/identity/info.
func (s *Service) info(w http.ResponseWriter, r *http.Request, _ caller.Verdict) {
	if !dated(r.URL.Query()["api-version"]) {
		identityForm.write(w, problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: "Required query variable 'api-version' is missing or not supported. Use " + firstVersion + "."})
		return
	}
	i, err := s.facts.get(r.Context(), s.cfg)
	if err != nil {
		identityForm.write(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"tenantId": s.cfg.Tenant, "clientId": i.ClientID, "objectId": i.ObjectID})
}

// certificate answers POST /metadata/identity/ssh/certificate, a form with the
// fields of the token endpoint: req_cnf, key_id, machine. Nothing is kept.
func (s *Service) certificate(w http.ResponseWriter, r *http.Request, v caller.Verdict) {
	refuse := func(text string) {
		identityForm.write(w, problem{Status: http.StatusBadRequest, Code: "invalid_request", Text: text})
	}
	if err := r.ParseForm(); err != nil {
		refuse("The body is not a form.")
		return
	}
	for name := range r.PostForm {
		if !slices.Contains([]string{"req_cnf", "key_id", "machine", "token_type"}, name) || len(r.PostForm[name]) != 1 {
			refuse("The body has a field that is not known, or one twice.")
			return
		}
	}
	if r.PostForm.Get("req_cnf") == "" {
		refuse("Required field 'req_cnf' is missing: the public key, as a JSON Web Key.")
		return
	}
	t, err := s.cfg.Server.IdentityCertificate(r.Context(), protocol.IdentityCertificateRequest{Confirmation: r.PostForm.Get("req_cnf"), KeyID: r.PostForm.Get("key_id"),
		Machine: r.PostForm.Get("machine"), Caller: v.Name})
	if err != nil {
		identityForm.write(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"token_type": t.TokenType, "access_token": t.AccessToken, "expires_in": t.ExpiresIn, "client_id": t.ClientID})
}

var version = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}$`)

// dated reports whether a query names one version, a date.
func dated(values []string) bool { return len(values) == 1 && version.MatchString(values[0]) }

func printable(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

// bucket is one caller's allowance.
type bucket struct {
	left float64
	at   time.Time
}

// Azure answers 20 token requests a second.
const (
	perSecond = 20
	burst     = 40
	maxUIDs   = 1024
)

// limiter counts requests by uid.
type limiter struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[uint32]bucket
}

// take returns how long to wait; 0 for a request that is in time.
func (l *limiter) take(uid uint32) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b, ok := l.by[uid]
	if !ok {
		if len(l.by) >= maxUIDs {
			clear(l.by)
		}
		b = bucket{left: burst, at: now}
	}
	b.left = min(burst, b.left+max(0, now.Sub(b.at).Seconds())*perSecond)
	b.at = now
	if b.left < 1 {
		l.by[uid] = b
		return time.Second
	}
	b.left--
	l.by[uid] = b
	return 0
}
