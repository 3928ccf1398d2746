package types

import (
	"strings"

	"sallyport/internal/fault"
)

// Term is one condition of a $filter: "name eq 'value'", or a function call with
// at most one text argument.
type Term struct {
	Name  string // lower case
	Value string
	Call  bool
}

// ParseFilter reads the part of OData's $filter that Resource Manager's lists
// know: terms joined with "and". Anything else is refused, never ignored: an
// ignored filter shows more than was asked for.
func ParseFilter(s string) ([]Term, error) {
	var out []Term
	rest := strings.TrimSpace(s)
	for rest != "" {
		t, after, ok := term(rest)
		if !ok {
			return nil, badFilter(s)
		}
		out = append(out, t)
		rest = strings.TrimSpace(after)
		if rest == "" {
			return out, nil
		}
		word, more, _ := strings.Cut(rest, " ")
		if rest = strings.TrimSpace(more); !strings.EqualFold(word, "and") || rest == "" || len(out) > 8 {
			return nil, badFilter(s)
		}
	}
	return out, nil
}

func badFilter(s string) error {
	return fault.New(fault.Invalid, "InvalidFilter", "the filter %q is not one that this list knows", clip(s)).
		WithRemedy("Filters are terms such as name eq 'myVM', principalId eq 'ID' or atScope(), joined with and.").WithTarget("$filter")
}

func term(s string) (t Term, rest string, ok bool) {
	n := 0
	for n < len(s) && (s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] == '.' || s[n] == '/') {
		n++
	}
	if n == 0 {
		return t, "", false
	}
	t.Name, rest = strings.ToLower(s[:n]), s[n:]
	if after, call := strings.CutPrefix(rest, "("); call {
		t.Call = true
		after = strings.TrimSpace(after)
		if strings.HasPrefix(after, "'") {
			if t.Value, after, ok = quoted(after); !ok {
				return t, "", false
			}
		}
		rest, ok = strings.CutPrefix(strings.TrimSpace(after), ")")
		return t, rest, ok
	}
	fields := strings.TrimLeft(rest, " ")
	if len(fields) < 3 || len(fields) == len(rest) || !strings.EqualFold(fields[:2], "eq") || fields[2] != ' ' {
		return t, "", false
	}
	t.Value, rest, ok = quoted(strings.TrimLeft(fields[2:], " "))
	return t, rest, ok
}

// quoted reads an OData string: quotes around it, quotes inside doubled.
func quoted(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "'") {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}
