package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"sallyport/internal/fault"
)

// maxDepth bounds nesting, of JSON and of expressions; no template needs more.
const maxDepth = 64

// The codes of refusals: Invalid of how a template is written, InvalidName of a
// resource that it calls something that no resource can be called.
const (
	Invalid     = "InvalidTemplate"
	InvalidName = "InvalidResourceName"
)

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, Invalid, format, args...)
}

// Read decodes a request for a deployment. Beside JSON it takes what Azure takes
// and what az sends, which puts the text of a template file into its request as it
// is: comments, and names without quotes.
func Read(raw []byte, v any) error { return read(raw, v, false) }

// ReadKnown is Read that refuses, as Azure does, a member that v does not have.
func ReadKnown(raw []byte, v any) error { return read(raw, v, true) }

func read(raw []byte, v any, known bool) error {
	strict, err := quote(raw)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(strict))
	d.UseNumber()
	if known {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return fault.Wrap(err, fault.Invalid, "InvalidRequestContent", "The request content was invalid and could not be deserialized: could not find member '%s'.", clip(strings.Trim(name, `"`))).
				WithRemedy("Leave it out: this server refuses what it would not act on.").WithTarget(clip(strings.Trim(name, `"`)))
		}
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return fault.Wrap(err, fault.Invalid, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s' cannot be a JSON %s.", clip(kind.Field), clip(kind.Value)).WithTarget(clip(kind.Field))
		}
		return fault.Wrap(err, fault.Invalid, "InvalidRequestContent", "The request content was invalid and could not be deserialized: it is not JSON.")
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "InvalidRequestContent", "The request content was invalid: there is more behind the JSON value.")
	}
	return nil
}

// quote returns the text as JSON: without comments, with names in quotes.
func quote(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	depth := 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			n := stringEnd(raw[i:])
			out = append(out, raw[i:i+n]...)
			i += n
		case bytes.HasPrefix(raw[i:], []byte("//")):
			n := bytes.IndexByte(raw[i:], '\n')
			if n < 0 {
				n = len(raw) - i
			}
			i += n
		case bytes.HasPrefix(raw[i:], []byte("/*")):
			n := bytes.Index(raw[i+2:], []byte("*/"))
			if n < 0 {
				return nil, fault.New(fault.Invalid, "InvalidRequestContent", "The request content was invalid: a comment does not end.")
			}
			out = append(out, ' ')
			i += n + 4
		case isLetter(c):
			n := 1
			for i+n < len(raw) && (isLetter(raw[i+n]) || isDigit(raw[i+n])) {
				n++
			}
			out = append(out, word(raw, i, n)...)
			i += n
		default:
			switch c {
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			if depth > maxDepth {
				return nil, fault.New(fault.Invalid, "InvalidRequestContent", "The request content was invalid: it nests deeper than %d levels.", maxDepth)
			}
			out = append(out, c)
			i++
		}
	}
	return out, nil
}

// word is a bare word as it goes on: in quotes when a colon follows.
func word(raw []byte, i, n int) []byte {
	for _, c := range raw[i+n:] {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case ':':
			return append(append([]byte{'"'}, raw[i:i+n]...), '"')
		}
		break
	}
	return raw[i : i+n]
}

// stringEnd is the length of the string that begins a text.
func stringEnd(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
