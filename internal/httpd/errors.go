package httpd

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/route"
)

// OAuthError is an error in the shape of RFC 6749 section 5.2 with Entra's
// extra fields. Cause goes to the log.
type OAuthError struct {
	Status      int // 400 when zero; 401 for bad client credentials
	Code        string
	Description string
	Codes       []int
	Suberror    string
	Claims      string
	Cause       error
}

// Error is the operator's view.
func (e *OAuthError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Description, e.Cause)
	}
	return e.Code + ": " + e.Description
}

// Unwrap returns the private cause.
func (e *OAuthError) Unwrap() error { return e.Cause }

// Status is the HTTP status of a fault kind.
func Status(f *fault.Error) int {
	switch f.Kind {
	case fault.Invalid:
		switch f.Code {
		case "MethodNotAllowed":
			return http.StatusMethodNotAllowed
		case "UnsupportedMediaType":
			return http.StatusUnsupportedMediaType
		case "RequestTooLarge":
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Exhausted:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Precondition:
		return http.StatusPreconditionFailed
	}
	return http.StatusInternalServerError
}

// codeBusy is the code of what another try a moment later may mend, without anybody
// doing anything: clients are told when. What is used up or locked has codes of its own.
const codeBusy = "TooManyRequests"

// render writes err in the shape of the call's surface.
func (s *Server) render(c *Call, err error) {
	f := fault.As(err)
	if f.Kind == fault.Exhausted && f.Code == codeBusy && c.Row.Surface != route.OAuth {
		c.W.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
	}
	switch c.Row.Surface {
	case route.OAuth:
		s.renderOAuth(c, err, f)
	case route.Graph:
		s.renderJSON(c, f, map[string]any{"error": map[string]any{"code": f.Code, "message": f.Public(),
			"innerError": graphInner(c, f)}})
	case route.ARM:
		body := map[string]any{"code": f.Code, "message": f.Public()}
		if f.Target != "" {
			body["target"] = f.Target
		}
		if f.Kind == fault.Unauthenticated {
			word, claims := claimsChallenge(err)
			c.W.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization_uri="%s", error="%s", error_description=%q%s`, s.cfg.Authority, word, f.Text, claims))
		}
		s.renderJSON(c, f, map[string]any{"error": body})
	case route.Agent:
		s.renderJSON(c, f, map[string]any{"code": f.Code, "message": f.Public(), "correlationId": c.By.CorrelationID})
	default:
		s.renderPage(c, f)
	}
}

// claimsChallenge is the error's word and the parameter with which Resource Manager
// has a client ask for another token (Entra's "claims challenge"). Older clients look
// for claims alone, newer ones for this word, too. They split the header at its
// commas and decode either alphabet of base64, with padding or without: the text is
// as long as needs none, and JSON's own characters are the same in both.
func claimsChallenge(err error) (word, parameter string) {
	var c interface{ ClaimsChallenge() string }
	if !errors.As(err, &c) {
		return "invalid_token", ""
	}
	text := c.ClaimsChallenge()
	text += strings.Repeat(" ", (3-len(text)%3)%3)
	return "insufficient_claims", `, claims="` + base64.StdEncoding.EncodeToString([]byte(text)) + `"`
}

// graphInner says of a throttled request also what Microsoft Graph says
// (https://learn.microsoft.com/graph/throttling).
func graphInner(c *Call, f *fault.Error) map[string]any {
	inner := map[string]any{"date": c.By.At.UTC().Format("2006-01-02T15:04:05"), "request-id": c.By.CorrelationID, "client-request-id": c.By.ClientRequestID}
	if f.Kind == fault.Exhausted {
		inner["code"], inner["status"] = "429", "429"
	}
	return inner
}

// retryAfter is how many seconds a throttled client is told to wait.
func retryAfter(err error) int {
	var t *throttled
	if errors.As(err, &t) {
		return int(t.After / time.Second)
	}
	return 5
}

func (s *Server) renderJSON(c *Call, f *fault.Error, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		b = []byte(`{}`)
	}
	c.W.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.W.WriteHeader(Status(f))
	_, _ = c.W.Write(b)
}

// renderOAuth never sends Retry-After: MSAL replays an answer that has one.
func (s *Server) renderOAuth(c *Call, err error, f *fault.Error) {
	var o *OAuthError
	if !errors.As(err, &o) {
		o = fromFault(f)
		if c.Row.Door == route.Caller && f.Kind == fault.Unauthenticated {
			o.Code = "invalid_token"
		}
	}
	body := map[string]any{
		"error": o.Code, "error_description": fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", o.Description, c.By.CorrelationID, c.By.CorrelationID, c.By.At.UTC().Format(time.DateTime+"Z")),
		"error_codes": o.Codes, "timestamp": c.By.At.UTC().Format(time.DateTime + "Z"), "trace_id": c.By.CorrelationID, "correlation_id": c.By.CorrelationID,
	}
	if o.Codes == nil {
		body["error_codes"] = []int{}
	}
	if o.Suberror != "" {
		body["suberror"] = o.Suberror
	}
	if o.Claims != "" {
		body["claims"] = o.Claims
	}
	status := o.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	b, err := json.Marshal(body)
	if err != nil {
		b = []byte(`{"error":"server_error"}`)
	}
	if c.Row.Door == route.Caller && (status == http.StatusUnauthorized || status == http.StatusForbidden) { // RFC 6750, section 3
		c.W.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer error=%q", o.Code))
	}
	c.W.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.W.WriteHeader(status)
	_, _ = c.W.Write(b)
}

// fromFault maps a fault that no OAuth code chose a name for.
func fromFault(f *fault.Error) *OAuthError {
	o := &OAuthError{Status: Status(f), Code: "invalid_request", Description: f.Public(), Codes: []int{900144}}
	switch f.Kind {
	case fault.Unauthenticated:
		o.Code = "invalid_client"
	case fault.Forbidden:
		o.Code = "access_denied"
	case fault.Exhausted:
		o.Code, o.Codes = "temporarily_unavailable", []int{90055} // Entra's TenantThrottlingError
	case fault.Unavailable:
		o.Code = "temporarily_unavailable"
	case fault.Internal:
		o.Code = "server_error"
	default:
	}
	return o
}

// style is inline, and the policy names its hash, so that nothing is loaded.
const style = `body{margin:0;background:#f3f4f6;color:#1f2937;font:16px/1.5 system-ui,sans-serif}main{max-width:32rem;margin:10vh auto;padding:2rem;background:#fff;border-radius:12px}h1{margin:0 0 .5rem;font-size:1.5rem}p:last-child{color:#4b5563;font-size:.8rem}@media(prefers-color-scheme:dark){body{background:#111827;color:#e5e7eb}main{background:#1f2937}p:last-child{color:#9ca3af}}`

var page = template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Sallyport: {{.Title}}</title><style>{{.Style}}</style></head>
<body><main><h1>{{.Title}}</h1><p>{{.Text}}</p><p>Correlation id: <code>{{.ID}}</code></p></main></body></html>
`))

func (s *Server) renderPage(c *Call, f *fault.Error) {
	status := Status(f)
	h := c.W.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	sum := sha256.Sum256([]byte(style))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	c.W.WriteHeader(status)
	_ = page.Execute(c.W, map[string]any{"Title": http.StatusText(status), "Text": f.Public(), "ID": c.By.CorrelationID, "Style": template.CSS(style)})
}
