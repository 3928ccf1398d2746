package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"sallyport/internal/fault"
)

// APIError is an error answer of Resource Manager, Graph or a page of the
// server, as the server worded it.
type APIError struct {
	Status        int
	Code          string
	Message       string
	CorrelationID string
}

// Error returns "(Code) message", az's form.
func (e *APIError) Error() string {
	s := "(" + e.Code + ") " + e.Message
	if e.Status >= http.StatusInternalServerError && e.CorrelationID != "" {
		s += " (correlation id " + e.CorrelationID + ")"
	}
	return s
}

// IsNotFound reports whether err is an answer with status 404.
func IsNotFound(err error) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// IsHidden reports whether err says that a thing is not there, or that the caller
// may not know whether it is.
func IsHidden(err error) bool {
	var e *APIError
	return errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusForbidden)
}

// IsAway reports whether the server, or the way to it, failed for now: the same
// request may succeed later.
func IsAway(err error) bool {
	var e *APIError
	if errors.As(err, &e) {
		return transient(e.Status)
	}
	return fault.Is(err, fault.Unavailable)
}

// OAuthError is an error answer of a token, device or authorize endpoint
// (RFC 6749 5.2, with Entra's additional fields).
type OAuthError struct {
	Code          string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Suberror      string `json:"suberror"`
	Claims        string `json:"claims"`
	CorrelationID string `json:"correlation_id"`
	Status        int    `json:"-"`
}

// Error returns the server's description.
func (e *OAuthError) Error() string {
	if e.Description == "" {
		return "the server refused the sign-in: " + e.Code
	}
	return e.Description
}

// NeedsInteraction reports whether a person at a sign-in page can mend this.
func (e *OAuthError) NeedsInteraction() bool {
	return e.Code == "interaction_required" || e.Code == "login_required" || e.Code == "consent_required" ||
		e.Code == "invalid_grant" && (e.Claims != "" || e.Suberror == "basic_action")
}

// apiError reads the error shapes of the server's surfaces.
func apiError(status int, header http.Header, body []byte) error {
	e := &APIError{Status: status, CorrelationID: header.Get("x-ms-correlation-request-id")}
	var doc struct {
		Error   json.RawMessage `json:"error"`
		Code    string          `json:"code"`
		Message string          `json:"message"`
	}
	if json.Unmarshal(body, &doc) == nil {
		e.Code, e.Message = doc.Code, doc.Message
		var inner struct{ Code, Message string }
		if json.Unmarshal(doc.Error, &inner) == nil && inner.Code != "" {
			e.Code, e.Message = inner.Code, inner.Message
		}
	}
	if e.Code == "" {
		e.Code = strings.ReplaceAll(http.StatusText(status), " ", "")
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the server answered with status %d and no explanation", status)
	}
	return e
}

// ErrNoToken is why a command that needs a signed-in account stops.
func ErrNoToken() error {
	return fault.New(fault.Unauthenticated, "NotSignedIn",
		"the token couldn't be retrieved from the local cache: nobody is signed in.").WithRemedy("Please run: sally login")
}
