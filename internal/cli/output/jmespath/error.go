package jmespath

import (
	"strings"

	"sallyport/internal/fault"
)

// The public codes of faults, all of kind Invalid.
const (
	CodeSyntax          = "InvalidQuerySyntax"
	CodeUnknownFunction = "UnknownQueryFunction"
	CodeArity           = "InvalidQueryArity"
	CodeType            = "InvalidQueryType"
	CodeValue           = "InvalidQueryValue"
)

// window is how many characters of a long expression stand on each side of the
// place that an error points at.
const window = 50

// place is a position in an expression, counted in characters.
type place struct {
	expression string
	at         int
}

// fault says what is wrong, and where, in the form in which az names a bad
// --query value, followed by the expression with a caret under the place.
func (p place) fault(code, format string, args ...any) *fault.Error {
	line, caret := p.excerpt()
	e := fault.New(fault.Invalid, code, format, args...)
	e.Text = "invalid jmespath_type value: '" + line + "'\n" + e.Text + ":\n  " + line + "\n  " + strings.Repeat(" ", caret) + "^"
	return e
}

// excerpt returns one line of plain characters around the place, and the caret's
// column in it. Everything that could steer a terminal becomes a space.
func (p place) excerpt() (line string, caret int) {
	runes := []rune(p.expression)
	for i, r := range runes {
		if Steers(r) {
			runes[i] = ' '
		}
	}
	caret = min(p.at, len(runes))
	if end := caret + window; end < len(runes) {
		runes = append(runes[:end:end], []rune("...")...)
	}
	if start := caret - window; start > 0 {
		runes = append([]rune("..."), runes[start:]...)
		caret = window + len("...")
	}
	return string(runes), caret
}
