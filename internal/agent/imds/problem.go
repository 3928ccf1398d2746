package imds

import (
	"encoding/json"
	"net/http"
	"strings"

	"sallyport/internal/fault"
)

// Paths of the service. Those under /metadata/identity/ssh are ours.
const (
	identityPath    = "/metadata/identity"
	tokenPath       = identityPath + "/oauth2/token"
	infoPath        = identityPath + "/info"
	certificatePath = identityPath + "/ssh/certificate"
	instancePath    = "/metadata/instance"
)

// problem is a refusal before it has a form.
type problem struct {
	Status int
	Code   string // OAuth's word, for the identity paths
	Text   string
	// Newest lists versions, where the one that was asked for is not served.
	Newest []string
}

// form is how a path's refusals look: OAuth's two members for the identity, one
// member for the instance.
type form bool

const (
	identityForm form = true
	instanceForm form = false
)

func formOf(path string) form {
	return form(strings.HasPrefix(strings.ToLower(path), identityPath+"/"))
}

func (f form) write(w http.ResponseWriter, p problem) {
	body := map[string]any{"error": p.Code, "error_description": p.Text}
	if f == instanceForm {
		text := p.Text
		if p.Status == http.StatusBadRequest {
			text = "Bad request. " + text
		}
		body = map[string]any{"error": text}
	}
	if p.Newest != nil {
		body["newest-versions"] = p.Newest
	}
	writeJSON(w, p.Status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // maps and structs of texts always marshal
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// problemOf puts the server's refusal into this service's words. What may pass by
// itself has a status that clients try again.
func problemOf(err error) problem {
	f := fault.As(err)
	p := problem{Status: http.StatusInternalServerError, Code: "unknown", Text: "Failed to retrieve token: " + f.Public()}
	switch f.Kind {
	case fault.Invalid:
		p = problem{Status: http.StatusBadRequest, Code: oauthCode(f.Code), Text: f.Public()}
	case fault.Forbidden, fault.Unauthenticated, fault.NotFound:
		p = problem{Status: http.StatusForbidden, Code: "access_denied", Text: f.Public()}
	case fault.Exhausted:
		p = problem{Status: http.StatusTooManyRequests, Code: "too_many_requests", Text: f.Public()}
	case fault.Unavailable:
		p.Status, p.Code = http.StatusServiceUnavailable, "temporarily_unavailable"
	}
	return p
}

// oauthCode keeps words of OAuth, which are in lower case.
func oauthCode(code string) string {
	if code == "" || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "invalid_request"
	}
	return code
}
