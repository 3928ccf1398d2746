package httpd

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/route"
)

const (
	maxBody = 4 << 20
	maxForm = 64 << 10 // of a form, and of everything that comes without proof in its headers
)

// Call is one request on its way through a handler.
type Call struct {
	W   http.ResponseWriter
	R   *http.Request
	By  audit.By
	Row route.Row

	vars       map[string]string
	asked      asked
	thumbprint string
	leave      func()       // gives its room back; nil before it has some
	later      func() error // answers it, when the handler has ended
}

// Var returns a variable of the row's pattern, decoded.
func (c *Call) Var(name string) string { return c.vars[name] }

// MachineThumbprint returns the thumbprint of the TLS client key, "" when the
// client showed none. On the machine door httpd has checked it.
func (c *Call) MachineThumbprint() string { return c.thumbprint }

// JSON writes a JSON answer.
func (c *Call) JSON(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.W.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.W.WriteHeader(status)
	_, err = c.W.Write(b)
	return err
}

// NoContent writes an answer without a body.
func (c *Call) NoContent(status int) error {
	c.W.WriteHeader(status)
	return nil
}

// Body reads the request's body, at most 4 MiB of JSON in which no member of an
// object stands twice. What is no JSON is left to whoever decodes it.
func (c *Call) Body() ([]byte, error) {
	if err := c.mediaType(); err != nil {
		return nil, err
	}
	b, err := c.read(maxBody)
	if err != nil {
		return nil, err
	}
	return b, c.once(b)
}

// waitForBody gives the request's body that long to arrive; 0 means for ever. A
// caller that sends a byte a minute must not hold a connection, whether or not
// anybody reads what it sends. A writer without deadlines (a test's) says so
// with an error, which changes nothing.
func (c *Call) waitForBody(d time.Duration) {
	if c.R.Body == nil || c.R.Body == http.NoBody {
		return
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = http.NewResponseController(c.W).SetReadDeadline(until)
}

func (c *Call) read(limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(c.W, c.R.Body, limit))
	if err == nil {
		c.waitForBody(0) // all of it is here; the answer may take its time
	}
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return nil, fault.Wrap(err, fault.Invalid, "RequestTooLarge", "the request's body is larger than %d bytes", limit)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "InvalidRequestContent", "the request's body could not be read")
	}
	return b, nil
}

// Decode reads one JSON value into v and refuses unknown fields.
func (c *Call) Decode(v any) error { return c.decode(v, true) }

// DecodeLenient reads one JSON value into v; the caller looks after fields that
// v does not have.
func (c *Call) DecodeLenient(v any) error { return c.decode(v, false) }

func (c *Call) decode(v any, strict bool) error {
	b, err := c.Body()
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return NotDecoded(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "InvalidRequestContent", "the request's body holds more than one JSON value")
	}
	return nil
}

// NotDecoded is the refusal of a body that encoding/json could not decode. It names
// the member, of the caller's own body, and nothing of ours.
func NotDecoded(err error) error {
	const code, wanted = "InvalidRequestContent", "the request's body is not the JSON that is wanted here: "
	var kind *json.UnmarshalTypeError
	unknown, isUnknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	unknown = strings.Trim(unknown, `"`)
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return fault.Wrap(err, fault.Invalid, code, wanted+"%q cannot be a JSON %s", clipped(kind.Field), clipped(kind.Value)).WithTarget(clipped(kind.Field))
	case isUnknown:
		return fault.Wrap(err, fault.Invalid, code, wanted+"%q is not known", clipped(unknown)).WithRemedy("Leave it out: this server refuses what it would not act on.").WithTarget(clipped(unknown))
	case errors.Is(err, io.EOF):
		return fault.Wrap(err, fault.Invalid, code, wanted+"it is empty")
	case errors.As(err, &kind):
		return fault.Wrap(err, fault.Invalid, code, wanted+"it cannot be a JSON %s", clipped(kind.Value))
	}
	return fault.Wrap(err, fault.Invalid, code, wanted+"%s", strings.TrimPrefix(err.Error(), "json: "))
}

// Form reads an application/x-www-form-urlencoded body, at most 64 KiB. A
// parameter given twice is refused (RFC 6749 section 3.2).
func (c *Call) Form() (url.Values, error) {
	kind, _, err := mime.ParseMediaType(c.R.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fault.New(fault.Invalid, "InvalidRequestContent", "the request's body must be application/x-www-form-urlencoded")
	}
	b, err := c.read(maxForm)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(b))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "InvalidRequestContent", "the request's form could not be read")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, fault.New(fault.Invalid, "InvalidRequestContent", "parameter %q is given more than once", name).WithTarget(name)
		}
	}
	return form, nil
}
