package jmespath

import "sallyport/internal/fault"

// Limits on an expression.
const (
	maxExpression = 32 << 10
	maxNesting    = 200
)

// Query is a compiled expression. It is immutable and safe for concurrent use.
type Query struct {
	root node
}

// Compile parses an expression. Its errors are faults of kind Invalid whose text
// ends with the expression and a caret under the place at fault.
func Compile(expression string) (*Query, error) {
	if len(expression) > maxExpression {
		return nil, fault.New(fault.Invalid, CodeSyntax, "invalid jmespath_type value: it is longer than %d bytes", maxExpression)
	}
	tokens, err := lex(expression)
	if err != nil {
		return nil, err
	}
	p := &parser{expression: expression, tokens: tokens}
	root, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	if p.peek() != tokenEnd {
		return nil, p.unexpected("the end or an operator")
	}
	return &Query{root: root}, nil
}

// parser is a Pratt parser: each operator binds with its own power.
type parser struct {
	expression string
	tokens     []token
	at         int
	nesting    int
}

// projectionStop is the power below which a token ends the right side of a
// projection.
const projectionStop = 10

const (
	powerPipe    = 1
	powerOr      = 2
	powerAnd     = 3
	powerCompare = 5
	powerFlatten = 9
	powerStar    = 20
	powerFilter  = 21
	powerDot     = 40
	powerNot     = 45
	powerBracket = 55
	powerCall    = 60
)

func power(k tokenKind) int {
	switch k {
	case tokenPipe:
		return powerPipe
	case tokenOr:
		return powerOr
	case tokenAnd:
		return powerAnd
	case tokenEqual, tokenNotEqual, tokenLess, tokenLessEqual, tokenGreater, tokenGreaterEqual:
		return powerCompare
	case tokenFlatten:
		return powerFlatten
	case tokenStar:
		return powerStar
	case tokenFilter:
		return powerFilter
	case tokenDot:
		return powerDot
	case tokenLeftBracket:
		return powerBracket
	case tokenLeftParen:
		return powerCall
	default:
		return 0
	}
}

func (p *parser) peek() tokenKind { return p.tokens[p.at].kind }

func (p *parser) peekSecond() tokenKind {
	return p.tokens[min(p.at+1, len(p.tokens)-1)].kind
}

// take returns the current token and moves on; the end is never passed.
func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

func (p *parser) fault(code string, at int, format string, args ...any) error {
	return place{p.expression, at}.fault(code, format, args...)
}

func (p *parser) unexpected(wanted string) error {
	t := p.tokens[p.at]
	if t.kind == tokenEnd {
		return p.fault(CodeSyntax, t.at, "the expression is incomplete, %s is missing", wanted)
	}
	return p.fault(CodeSyntax, t.at, "expected %s", wanted)
}

func (p *parser) expect(k tokenKind, name string) error {
	if p.peek() != k {
		return p.unexpected(name)
	}
	p.at++
	return nil
}

func (p *parser) expr(bind int) (node, error) {
	if p.nesting++; p.nesting > maxNesting {
		return nil, p.fault(CodeSyntax, p.tokens[p.at].at, "the expression nests deeper than %d levels", maxNesting)
	}
	defer func() { p.nesting-- }()
	left, err := p.prefix()
	for err == nil && power(p.peek()) > bind {
		left, err = p.infix(left)
	}
	return left, err
}

// prefix parses what can begin an expression.
func (p *parser) prefix() (node, error) {
	switch t := p.take(); t.kind {
	case tokenLiteral:
		return literalNode{t.value}, nil
	case tokenIdentifier:
		if p.peek() == tokenLeftParen {
			return p.call(t)
		}
		return fieldNode{t.text}, nil
	case tokenQuoted:
		if p.peek() == tokenLeftParen {
			return nil, p.fault(CodeSyntax, t.at, "a function name is not quoted")
		}
		return fieldNode{t.text}, nil
	case tokenCurrent:
		return currentNode{}, nil
	case tokenStar:
		return p.project(valuesNode{currentNode{}}, powerStar)
	case tokenFilter:
		return p.filter(currentNode{})
	case tokenFlatten:
		return p.project(flattenNode{currentNode{}}, powerFlatten)
	case tokenLeftBrace:
		return p.hash()
	case tokenLeftBracket:
		return p.bracket()
	case tokenLeftParen:
		return p.group()
	case tokenNot:
		operand, err := p.expr(powerNot)
		return notNode{operand}, err
	case tokenExpression:
		return nil, p.fault(CodeSyntax, t.at, "&expression stands only as an argument of a function")
	case tokenEnd:
		return nil, p.unexpected("an expression")
	default:
		p.at--
		return nil, p.unexpected("an expression")
	}
}

func (p *parser) group() (node, error) {
	inner, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	return inner, p.expect(tokenRightParen, "')'")
}

// infix parses what continues an expression; left is complete.
func (p *parser) infix(left node) (node, error) {
	switch t := p.take(); t.kind {
	case tokenDot:
		if p.peek() == tokenStar {
			p.at++
			return p.project(valuesNode{left}, powerDot)
		}
		right, err := p.afterDot(powerDot)
		return chainNode{left, right}, err
	case tokenPipe:
		right, err := p.expr(powerPipe)
		return chainNode{left, right}, err
	case tokenOr:
		right, err := p.expr(powerOr)
		return orNode{left, right}, err
	case tokenAnd:
		right, err := p.expr(powerAnd)
		return andNode{left, right}, err
	case tokenEqual, tokenNotEqual, tokenLess, tokenLessEqual, tokenGreater, tokenGreaterEqual:
		right, err := p.expr(powerCompare)
		return compareNode{t.kind, left, right}, err
	case tokenFlatten:
		return p.project(flattenNode{left}, powerFlatten)
	case tokenFilter:
		return p.filter(left)
	case tokenLeftBracket:
		return p.index(left)
	default:
		p.at--
		return nil, p.unexpected("an operator")
	}
}

// project parses the right side of a projection over list.
func (p *parser) project(list node, bind int) (node, error) {
	right, err := p.projected(bind)
	return projectionNode{list, right}, err
}

func (p *parser) projected(bind int) (node, error) {
	switch k := p.peek(); {
	case power(k) < projectionStop:
		return currentNode{}, nil
	case k == tokenLeftBracket || k == tokenFilter:
		return p.expr(bind)
	case k == tokenDot:
		p.at++
		return p.afterDot(bind)
	default:
		return nil, p.unexpected("'.', '[' or an operator")
	}
}

func (p *parser) afterDot(bind int) (node, error) {
	switch p.peek() {
	case tokenIdentifier, tokenQuoted, tokenStar:
		return p.expr(bind)
	case tokenLeftBracket:
		p.at++
		return p.list()
	case tokenLeftBrace:
		p.at++
		return p.hash()
	default:
		return nil, p.unexpected("a name, '*', '[' or '{' after '.'")
	}
}

func (p *parser) filter(left node) (node, error) {
	condition, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	if err := p.expect(tokenRightBracket, "']' after the condition"); err != nil {
		return nil, err
	}
	return p.project(filterNode{left, condition}, powerFilter)
}

// bracket parses '[' at the start of an expression: an index, a slice, a
// projection or a list.
func (p *parser) bracket() (node, error) {
	switch k := p.peek(); {
	case k == tokenNumber || k == tokenColon:
		return p.index(currentNode{})
	case k == tokenStar && p.peekSecond() == tokenRightBracket:
		return p.index(currentNode{})
	default:
		return p.list()
	}
}

// index parses what stands between '[' and ']' after an expression.
func (p *parser) index(left node) (node, error) {
	switch k := p.peek(); {
	case k == tokenStar:
		p.at++
		if err := p.expect(tokenRightBracket, "']'"); err != nil {
			return nil, err
		}
		return p.project(left, powerStar)
	case k == tokenColon || k == tokenNumber && p.peekSecond() == tokenColon:
		return p.slice(left)
	case k == tokenNumber:
		i := p.take().index
		return indexNode{left, i}, p.expect(tokenRightBracket, "']'")
	default:
		return nil, p.unexpected("a number, '*' or ':'")
	}
}

func (p *parser) slice(left node) (node, error) {
	s := sliceNode{left: left, step: 1}
	parts := [...]**int{&s.start, &s.stop}
	from := p.tokens[p.at].at
	for i := 0; p.peek() != tokenRightBracket; p.at++ {
		t := p.tokens[p.at]
		switch {
		case t.kind == tokenColon && i < 2:
			i++
		case t.kind == tokenNumber && i < 2 && *parts[i] == nil:
			*parts[i] = &t.index
		case t.kind == tokenNumber && i == 2 && p.peekSecond() == tokenRightBracket:
			s.step = t.index
		default:
			return nil, p.unexpected("at most three numbers with ':' between them, then ']'")
		}
	}
	if s.step == 0 {
		return nil, p.fault(CodeValue, from, "the step of a slice is not 0")
	}
	p.at++
	return p.project(s, powerStar)
}

func (p *parser) list() (node, error) {
	var items []node
	for {
		item, err := p.expr(0)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if p.peek() != tokenComma {
			return listNode{items}, p.expect(tokenRightBracket, "',' or ']'")
		}
		p.at++
	}
}

func (p *parser) hash() (node, error) {
	var h hashNode
	for {
		if k := p.peek(); k != tokenIdentifier && k != tokenQuoted {
			return nil, p.unexpected("a name for the column")
		}
		h.keys = append(h.keys, p.take().text)
		if err := p.expect(tokenColon, "':' after the name"); err != nil {
			return nil, err
		}
		value, err := p.expr(0)
		if err != nil {
			return nil, err
		}
		h.values = append(h.values, value)
		if p.peek() != tokenComma {
			return h, p.expect(tokenRightBrace, "',' or '}'")
		}
		p.at++
	}
}

// call parses a function's arguments; name stands before '('.
func (p *parser) call(name token) (node, error) {
	p.at++
	c := callNode{place: place{p.expression, name.at}}
	for p.peek() != tokenRightParen {
		if len(c.args) > 0 {
			if err := p.expect(tokenComma, "',' or ')'"); err != nil {
				return nil, err
			}
		}
		a := argument{expression: p.peek() == tokenExpression}
		if a.expression {
			p.at++
		}
		var err error
		if a.node, err = p.expr(0); err != nil {
			return nil, err
		}
		c.args = append(c.args, a)
	}
	p.at++
	var known bool
	if c.function, known = lookup(name.text); !known {
		return nil, p.fault(CodeUnknownFunction, name.at, "there is no function %s()", name.text)
	}
	return c, c.check()
}
