package template

import (
	"encoding/json"
	"strconv"
	"strings"
)

// unknown stands for a value that is known only when the template runs. Whatever
// is made of it is unknown, too.
type unknown struct{}

// scopeOf is what expressions can see.
type scopeOf struct {
	parameters map[string]any
	variables  map[string]any // not evaluated
	loops      map[string]int // copy loops that are running, by lower-cased name
	loop       string         // the innermost
	env        *Env
	// reference reads a resource; nil makes references unknown and notes them in
	// seen.
	reference func(id string, full bool) (any, error)
	seen      *[]string
	steps     *int
	depth     int
}

// maxSteps bounds the work of one template. What is read or made counts by its
// whole weight each time, because a value that holds another one twice is small
// only until it is written out.
const maxSteps = 400_000

// stepBytes are worth a step: of text that is parsed, and of values.
const stepBytes = 64

// maxExpression is Azure's limit.
const maxExpression = 24_576

// weight is what a value is worth in steps, counted no further than limit.
func weight(v any, limit int) int {
	n := 1
	switch v := v.(type) {
	case string:
		n += len(v) / stepBytes
	case json.Number:
		n += len(v) / stepBytes
	case []any:
		for _, x := range v {
			if n > limit {
				break
			}
			n += weight(x, limit-n)
		}
	case map[string]any:
		for name, x := range v {
			if n > limit {
				break
			}
			n += len(name)/stepBytes + weight(x, limit-n)
		}
	}
	return n
}

// made counts a value that a function gives.
func (s *scopeOf) made(v any) error { return s.work(weight(v, maxSteps-*s.steps)) }

func (s *scopeOf) step() error { return s.work(1) }

func (s *scopeOf) work(n int) error {
	if *s.steps += n; *s.steps > maxSteps {
		return invalid("The template is too complicated: more than %d steps.", maxSteps)
	}
	if s.depth > maxDepth {
		return invalid("The template nests deeper than %d levels.", maxDepth)
	}
	return nil
}

// value evaluates every expression in a JSON value. Null members are left out:
// they mean the default.
func (s scopeOf) value(v any) (any, error) {
	s.depth++
	if err := s.step(); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		return s.text(v)
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			x, err := s.value(item)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return out, nil
	case map[string]any:
		if _, loops := v["copy"]; loops {
			return nil, invalid("'copy' inside of properties, variables or outputs is not known here.").WithRemedy("Use it on a resource, or write the items out.")
		}
		out := make(map[string]any, len(v))
		for name, item := range v {
			x, err := s.value(item)
			if err != nil {
				return nil, err
			}
			if x != nil {
				out[name] = x
			}
		}
		return out, nil
	}
	return v, nil
}

// text evaluates one string: "[...]" is an expression, "[[...]" a text in
// brackets.
func (s scopeOf) text(t string) (any, error) {
	if err := s.work(len(t) / stepBytes); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(t, "[") || !strings.HasSuffix(t, "]") {
		return t, nil
	}
	if strings.HasPrefix(t, "[[") {
		return t[1:], nil
	}
	if len(t) > maxExpression {
		return nil, invalid("The language expression '%s' is longer than %d characters.", clip(t), maxExpression)
	}
	p := parser{text: t[1 : len(t)-1], whole: t}
	x, err := p.expression(0)
	if err == nil {
		err = s.work(p.nodes)
	}
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.wrong()
	}
	return s.eval(x)
}

// node is a parsed expression.
type node struct {
	literal any    // of a leaf
	name    string // of a call, lower-cased
	shown   string // as it is written
	args    []node
	members []node // what follows: each a literal name or an index
}

type parser struct {
	text, whole string
	at, nodes   int
}

func (p *parser) wrong() error {
	return invalid("Unable to parse language expression '%s': unexpected text at position %d.", clip(p.whole), p.at+1)
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) expression(depth int) (node, error) {
	p.nodes++
	p.space()
	if depth > maxDepth || p.at >= len(p.text) {
		return node{}, p.wrong()
	}
	var n node
	var err error
	switch c := p.text[p.at]; {
	case c == '\'':
		n.literal, err = p.quoted()
	case c == '-' || isDigit(c):
		n.literal, err = p.number()
	case isLetter(c):
		n, err = p.call(depth)
	default:
		err = p.wrong()
	}
	for err == nil {
		switch {
		case p.take('.'):
			var word string
			if word = p.word(); word == "" {
				err = p.wrong()
			}
			n.members = append(n.members, node{literal: word})
		case p.take('['):
			var index node
			if index, err = p.expression(depth + 1); err == nil && !p.take(']') {
				err = p.wrong()
			}
			n.members = append(n.members, index)
		default:
			return n, nil
		}
	}
	return n, err
}

func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for i := p.at + 1; i < len(p.text); i++ {
		if p.text[i] != '\'' {
			b.WriteByte(p.text[i])
			continue
		}
		if i+1 < len(p.text) && p.text[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.at = i + 1
		return b.String(), nil
	}
	return "", p.wrong()
}

func (p *parser) number() (json.Number, error) {
	end := p.at + 1
	for end < len(p.text) && isDigit(p.text[end]) {
		end++
	}
	text := p.text[p.at:end]
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return "", p.wrong()
	}
	p.at = end
	return json.Number(text), nil
}

func (p *parser) word() string {
	p.space()
	end := p.at
	for end < len(p.text) && (isLetter(p.text[end]) || isDigit(p.text[end]) || p.text[end] == '-' || p.text[end] == '$') {
		end++
	}
	word := p.text[p.at:end]
	p.at = end
	return word
}

func (p *parser) call(depth int) (node, error) {
	n := node{shown: p.word()}
	n.name = strings.ToLower(n.shown)
	if !p.take('(') {
		return n, p.wrong()
	}
	for !p.take(')') {
		if len(n.args) > 0 && !p.take(',') {
			return n, p.wrong()
		}
		arg, err := p.expression(depth + 1)
		if err != nil {
			return n, err
		}
		n.args = append(n.args, arg)
	}
	return n, nil
}

// eval works an expression out. if() leaves its other branch alone.
func (s scopeOf) eval(n node) (any, error) {
	s.depth++
	if err := s.step(); err != nil {
		return nil, err
	}
	v, err := s.head(n)
	for _, m := range n.members {
		if err != nil {
			return nil, err
		}
		var index any
		if index, err = s.eval(m); err == nil {
			v, err = s.member(v, index)
		}
	}
	if err == nil && n.name != "" {
		err = s.made(v) // of a parameter, what is taken out of it
	}
	return v, err
}

func (s scopeOf) head(n node) (any, error) {
	if n.name == "" {
		return n.literal, nil
	}
	if n.name == "if" && len(n.args) == 3 {
		c, err := s.eval(n.args[0])
		if err != nil {
			return nil, err
		}
		switch c := c.(type) {
		case bool:
			if c {
				return s.eval(n.args[1])
			}
			return s.eval(n.args[2])
		case unknown:
			return c, nil
		}
		return nil, invalid("The first argument of 'if' is true or false.")
	}
	args := make([]any, 0, len(n.args))
	for _, a := range n.args {
		v, err := s.eval(a)
		if err != nil {
			return nil, err
		}
		if _, ok := v.(unknown); ok {
			return unknown{}, nil
		}
		args = append(args, v)
	}
	return s.call(n, args)
}

// member is a property of an object, in any case as Azure has it, or an item.
func (s scopeOf) member(v, index any) (any, error) {
	switch v := v.(type) {
	case unknown:
		return v, nil
	case map[string]any:
		name, _ := index.(string)
		if x, ok := v[name]; ok {
			return x, nil
		}
		if err := s.work(len(v)); err != nil {
			return nil, err
		}
		for k, x := range v {
			if strings.EqualFold(k, name) {
				return x, nil
			}
		}
		return nil, invalid("The language expression property '%s' doesn't exist.", clip(name))
	case []any:
		if i, ok := whole(index); ok && i >= 0 && i < int64(len(v)) {
			return v[i], nil
		}
		return nil, invalid("The language expression property array index is out of bounds.")
	}
	if _, ok := index.(unknown); ok {
		return index, nil
	}
	return nil, invalid("The language expression property '%s' can't be read: what it is of is neither an object nor an array.", clip(plain(index)))
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
