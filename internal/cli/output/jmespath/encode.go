package jmespath

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// Encode returns v as compact JSON. It fails only when a query has built a value
// of more than five million parts, which sharing lets it do in little memory.
func Encode(v Value) ([]byte, error) {
	e := encoder{nodes: maxNodes}
	if !e.value(v) {
		return nil, tooLarge()
	}
	return e.out, nil
}

func tooLarge() *fault.Error {
	return fault.New(fault.Invalid, "QueryTooLarge", "the result of this query is too large").
		WithRemedy("Select less with --query.")
}

type encoder struct {
	out   []byte
	nodes int
}

func (e *encoder) value(v Value) bool {
	if e.nodes--; e.nodes < 0 {
		return false
	}
	switch v.kind {
	case Bool, Number, String, Null:
		e.out = AppendScalar(e.out, v)
	case Array:
		return e.array(v.items)
	case Object:
		return e.object(v.fields)
	}
	return true
}

func (e *encoder) array(items []Value) bool {
	e.out = append(e.out, '[')
	for i, item := range items {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if !e.value(item) {
			return false
		}
	}
	e.out = append(e.out, ']')
	return true
}

func (e *encoder) object(f *fields) bool {
	e.out = append(e.out, '{')
	for i, key := range f.keys {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.out = append(AppendString(e.out, key), ':')
		if !e.value(f.values[i]) {
			return false
		}
	}
	e.out = append(e.out, '}')
	return true
}

// AppendScalar appends a null, boolean, number or string as JSON.
func AppendScalar(out []byte, v Value) []byte {
	switch v.kind {
	case Bool:
		return fmt.Append(out, v.truth)
	case Number:
		return append(out, v.text...)
	case String:
		return AppendString(out, v.text)
	default:
		return append(out, "null"...)
	}
}

// AppendString appends s as a JSON string. Text beyond ASCII stays as it is;
// what steers a terminal or hides text (controls of both sets, line separators,
// invisible format characters) is written as an escape, which every JSON parser
// reads back as the same text.
func AppendString(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r == '\t':
			out = append(out, `\t`...)
		case r == '\b':
			out = append(out, `\b`...)
		case r == '\f':
			out = append(out, `\f`...)
		case !Steers(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"')
}

// Steers reports whether r can move a cursor, reorder or hide text on a
// terminal: C0 and C1 controls, line and paragraph separators, and format
// characters other than the two joiners that scripts and emoji need.
func Steers(r rune) bool {
	if r < 0x7f {
		return r < 0x20
	}
	if r == 0x200c || r == 0x200d {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
