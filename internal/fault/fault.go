package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what went wrong. The zero value is Internal, so that an error
// nobody classified never shows its text to a stranger.
type Kind uint8

// The kinds. New ones are added at the end only: edges map them to wire codes.
const (
	Internal        Kind = iota // a fault of ours; the public text says nothing about it
	Invalid                     // the request cannot be right, whoever sends it
	NotFound                    // the thing named does not exist, or the caller may not know that it does
	Conflict                    // the request is right, the present state forbids it
	Forbidden                   // known caller, no permission
	Unauthenticated             // caller unknown, or proof not accepted
	Exhausted                   // too many requests, or a quota is used up
	Unavailable                 // cannot be answered now; the same request may succeed later
	Precondition                // an If-Match or version condition failed
)

// String returns the kind's name as logs show it.
func (k Kind) String() string {
	names := [...]string{"internal", "invalid", "not-found", "conflict", "forbidden", "unauthenticated", "exhausted", "unavailable", "precondition"}
	if int(k) < len(names) {
		return names[k]
	}
	return "internal"
}

// Error carries both sides of a failure. It is immutable after creation.
type Error struct {
	// Kind is what went wrong.
	Kind Kind
	// Code is the public machine-readable code in Azure's style, e.g. "ResourceNotFound".
	Code string
	// Text is the public sentence. It holds no secret and no internal detail.
	Text string
	// Remedy says what to do next; it may be empty.
	Remedy string
	// Target names the parameter or field at fault; it may be empty.
	Target string
	cause  error
}

// Sentence puts values into a sentence that somebody will read who is refused, or
// whose work failed. Every such sentence is made here: what is said in tests is
// kept, and compared with the handbook (build tag heard).
func Sentence(format string, args ...any) string {
	s := fmt.Sprintf(format, args...)
	told(format, s)
	return s
}

// New makes an error without a private cause.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Text: Sentence(format, args...)}
}

// Wrap makes an error whose cause is kept for the log and for errors.Is/As,
// and is never shown to the caller.
func Wrap(cause error, kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Text: Sentence(format, args...), cause: cause}
}

// WithRemedy returns a copy that says what to do next.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	c := *e
	c.Remedy = fmt.Sprintf(format, args...)
	remedied(e.Text, c.Public())
	return &c
}

// WithTarget returns a copy that names the field at fault.
func (e *Error) WithTarget(target string) *Error {
	c := *e
	c.Target = target
	return &c
}

// Error returns code, public text and cause: the operator's view. Edges show
// Public instead.
func (e *Error) Error() string {
	s := e.Code + ": " + e.Text
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Public returns the sentence for the caller: the text and, where there is one,
// the remedy.
func (e *Error) Public() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + joint(e.Text, e.Remedy) + e.Remedy
}

// joint is what stands between text and remedy, so that two sentences do not
// run into each other.
func joint(text, remedy string) string {
	switch {
	case text == "" || strings.ContainsRune(".!?:;,", rune(text[len(text)-1])):
		return " "
	case remedy[0] >= 'A' && remedy[0] <= 'Z':
		return ". "
	}
	return "; "
}

// As returns the first *Error in err's chain, or an Internal one that hides err.
// It returns nil for a nil error.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(err, Internal, "InternalServerError", "the server could not complete the request")
}

// KindOf returns the kind of err; Internal for an unclassified error.
func KindOf(err error) Kind {
	if e := As(err); e != nil {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is a fault of the given kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
