package graph

import (
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// object is one directory object as it is shown: property name to a string,
// bool, []string, nil or a nested value.
type object map[string]any

// filter is a compiled $filter. It reads only properties that are in the
// entity's schema.
type filter struct {
	holds func(object) bool
	// equal holds property -> lower-cased literal when the whole filter is one
	// "property eq 'literal'", so that an index can answer it.
	property, equal string
	cost            int // terms, at most, of one object
}

const (
	maxFilter = 4096
	maxDepth  = 16
	maxNodes  = 128
)

func unsupported(format string, args ...any) error {
	return fault.New(fault.Invalid, "Request_UnsupportedQuery", format, args...).WithTarget("$filter").
		WithRemedy("Filters are made of: PROPERTY eq 'TEXT', ne, in ('A','B'), startswith(PROPERTY,'TEXT'), endswith, LIST/any(x:x eq 'TEXT'), and, or, not, parentheses.")
}

// parseFilter reads the part of OData 4.01's filter grammar (section 5.1.1 of
// the URL conventions) that makes sense over the given properties. Text compares
// without case, as directory properties do in Graph.
func parseFilter(text string, schema map[string]kind) (filter, error) {
	if len(text) > maxFilter || !utf8.ValidString(text) {
		return filter{}, unsupported("the filter is too long or not UTF-8.")
	}
	p := parser{schema: schema}
	if err := p.lex(text); err != nil {
		return filter{}, err
	}
	holds, err := p.or(0)
	if err != nil {
		return filter{}, err
	}
	if p.at < len(p.tokens) {
		return filter{}, unsupported("the filter has %q where it should end.", bounded(p.tokens[p.at].text))
	}
	f := filter{holds: holds, cost: p.nodes}
	if t := p.tokens; len(t) == 3 && t[0].kind == name && t[1].text == "eq" && t[2].kind == literal {
		f.property, f.equal = t[0].text, strings.ToLower(t[2].text)
	}
	return f, nil
}

type tokenKind uint8

const (
	name tokenKind = iota
	literal
	punctuation
)

type token struct {
	kind tokenKind
	text string
}

type parser struct {
	schema map[string]kind
	tokens []token
	at     int
	nodes  int
}

func (p *parser) lex(s string) error {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			i++
		case strings.IndexByte("(),:/", c) >= 0:
			p.tokens = append(p.tokens, token{punctuation, s[i : i+1]})
			i++
		case c == '\'':
			text, n, ok := quoted(s[i:])
			if !ok {
				return unsupported("the filter holds a text without its closing quote.")
			}
			p.tokens = append(p.tokens, token{literal, text})
			i += n
		case isName(c):
			j := i
			for j < len(s) && isName(s[j]) {
				j++
			}
			p.tokens = append(p.tokens, token{name, s[i:j]})
			i = j
		default:
			return unsupported("the filter holds the character %q.", bounded(s[i:]))
		}
	}
	return nil
}

// quoted reads 'text' with doubled quotes inside, and returns its length.
func quoted(s string) (text string, n int, ok bool) {
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
		return b.String(), i + 1, true
	}
	return "", 0, false
}

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// take consumes the token when it has this text and is no literal.
func (p *parser) take(text string) bool {
	if p.at < len(p.tokens) && p.tokens[p.at].kind != literal && p.tokens[p.at].text == text {
		p.at++
		return true
	}
	return false
}

func (p *parser) next(k tokenKind) (string, bool) {
	if p.at < len(p.tokens) && p.tokens[p.at].kind == k {
		p.at++
		return p.tokens[p.at-1].text, true
	}
	return "", false
}

func (p *parser) or(depth int) (func(object) bool, error) {
	left, err := p.and(depth)
	for err == nil && p.take("or") {
		var right func(object) bool
		if right, err = p.and(depth); err == nil {
			l := left
			left = func(o object) bool { return l(o) || right(o) }
		}
	}
	return left, err
}

func (p *parser) and(depth int) (func(object) bool, error) {
	left, err := p.unary(depth)
	for err == nil && p.take("and") {
		var right func(object) bool
		if right, err = p.unary(depth); err == nil {
			l := left
			left = func(o object) bool { return l(o) && right(o) }
		}
	}
	return left, err
}

func (p *parser) unary(depth int) (func(object) bool, error) {
	p.nodes++
	if depth > maxDepth || p.nodes > maxNodes {
		return nil, unsupported("the filter is too complicated.")
	}
	if p.take("not") {
		inner, err := p.unary(depth + 1)
		return func(o object) bool { return !inner(o) }, err
	}
	if p.take("(") {
		inner, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = unsupported("the filter lacks a closing parenthesis.")
		}
		return inner, err
	}
	return p.term()
}

// term is a comparison, a function or LIST/any(...).
func (p *parser) term() (func(object) bool, error) {
	word, ok := p.next(name)
	if !ok {
		return nil, unsupported("the filter lacks a property.")
	}
	if test := textTest(word); test != nil && p.take("(") {
		return p.function(word, test)
	}
	k, known := p.schema[word]
	if !known || k == other {
		return nil, unsupported("unsupported or invalid query filter clause specified for property '%s'.", bounded(word))
	}
	switch {
	case k == list && p.take("/"):
		return p.any(word)
	case k == list:
		return nil, unsupported("the property '%s' is a list; ask with any.", word)
	case p.take("eq"):
		return p.compare(word, k, false)
	case p.take("ne"):
		return p.compare(word, k, true)
	case k == text && p.take("in"):
		return p.in(word)
	}
	return nil, unsupported("the filter has no comparison that is known here after '%s'.", bounded(word))
}

// textTest is the test of a function; part is in lower case.
func textTest(word string) func(s, part string) bool {
	switch word {
	case "startswith", "startsWith":
		return func(s, part string) bool {
			if ascii(s) {
				return len(s) >= len(part) && strings.EqualFold(s[:len(part)], part)
			}
			return strings.HasPrefix(strings.ToLower(s), part)
		}
	case "endswith", "endsWith":
		return func(s, part string) bool {
			if ascii(s) {
				return len(s) >= len(part) && strings.EqualFold(s[len(s)-len(part):], part)
			}
			return strings.HasSuffix(strings.ToLower(s), part)
		}
	}
	return nil
}

// ascii reports that letters of another case are as long: nothing is copied then, for
// each of a hundred terms and a hundred thousand people.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (p *parser) function(word string, test func(s, part string) bool) (func(object) bool, error) {
	property, ok := p.next(name)
	if !ok || p.schema[property] != text {
		return nil, unsupported("%s needs a text property, not '%s'.", word, bounded(property))
	}
	if !p.take(",") {
		return nil, unsupported("%s needs a property and a text.", word)
	}
	part, ok := p.next(literal)
	if !ok || !p.take(")") {
		return nil, unsupported("%s needs a property and a text.", word)
	}
	part = strings.ToLower(part)
	return func(o object) bool {
		s, ok := o[property].(string)
		return ok && test(s, part)
	}, nil
}

func (p *parser) compare(property string, k kind, negate bool) (func(object) bool, error) {
	if want, ok := p.next(literal); ok && k == text {
		return func(o object) bool {
			s, ok := o[property].(string)
			return (ok && strings.EqualFold(s, want)) != negate
		}, nil
	}
	for _, word := range []string{"true", "false", "null"} {
		if (k == boolean || word == "null") && p.take(word) {
			want := map[string]any{"true": true, "false": false, "null": nil}[word]
			return func(o object) bool { return (o[property] == want) != negate }, nil
		}
	}
	return nil, unsupported("the property '%s' is compared with a value of another type.", property)
}

func (p *parser) in(property string) (func(object) bool, error) {
	if !p.take("(") {
		return nil, unsupported("in needs a list in parentheses.")
	}
	want := map[string]bool{}
	for n := 0; ; n++ {
		v, ok := p.next(literal)
		if !ok || n >= maxNodes {
			return nil, unsupported("in needs a list of texts.")
		}
		want[strings.ToLower(v)] = true
		if p.take(")") {
			break
		}
		if !p.take(",") {
			return nil, unsupported("in needs a list of texts.")
		}
	}
	return func(o object) bool {
		s, ok := o[property].(string)
		return ok && want[strings.ToLower(s)]
	}, nil
}

// any reads any(x:x eq 'text') after the list and the slash.
func (p *parser) any(property string) (func(object) bool, error) {
	wrong := unsupported("a list is asked with: %s/any(x:x eq 'TEXT').", property)
	if !p.take("any") || !p.take("(") {
		return nil, wrong
	}
	variable, ok := p.next(name)
	if !ok || !p.take(":") || !p.take(variable) || !p.take("eq") {
		return nil, wrong
	}
	want, ok := p.next(literal)
	if !ok || !p.take(")") {
		return nil, wrong
	}
	return func(o object) bool {
		values, _ := o[property].([]string)
		return slices.ContainsFunc(values, func(s string) bool { return strings.EqualFold(s, want) })
	}, nil
}

// bounded keeps foreign text short where it is quoted back.
func bounded(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
