package oauth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sallyport/internal/fault"
)

// Error is a refusal in OAuth's words, with Entra's number. Text says what to do.
type Error struct {
	Status   int    // 400, or 401 for a client that could not prove itself
	Code     string // RFC 6749 section 5.2
	Number   int    // AADSTS
	Text     string
	Suberror string
	Claims   string
	cause    error
}

// Error is the operator's view.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Description() + ": " + e.cause.Error()
	}
	return e.Description()
}

// Unwrap returns the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Description is error_description without Entra's trailer.
func (e *Error) Description() string { return fmt.Sprintf("AADSTS%d: %s", e.Number, e.Text) }

func refuse(code string, number int, format string, args ...any) *Error {
	return &Error{Status: 400, Code: code, Number: number, Text: fault.Sentence(format, args...)}
}

// badClient is invalid_client with 401, which MSAL does not cache.
func badClient(number int, format string, args ...any) *Error {
	e := refuse("invalid_client", number, format, args...)
	e.Status = 401
	return e
}

func missing(name string) *Error {
	return refuse("invalid_request", 900144, "The request body must contain the following parameter: '%s'.", name)
}

// errFault turns a fault of another domain into OAuth's words: its code, when it
// is an AADSTS code, and invalid_grant. Other faults stay as they are.
func errFault(err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	f := fault.As(err)
	number, ok := strings.CutPrefix(f.Code, "AADSTS")
	if !ok {
		return err
	}
	n, parse := strconv.Atoi(number)
	if parse != nil {
		return err
	}
	e := refuse("invalid_grant", n, "%s", f.Public())
	e.cause = err
	return e
}
