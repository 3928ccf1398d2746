package jmespath

import (
	"strconv"
	"strings"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenIdentifier
	tokenQuoted
	tokenLiteral
	tokenNumber
	tokenDot
	tokenStar
	tokenComma
	tokenColon
	tokenCurrent
	tokenLeftParen
	tokenRightParen
	tokenLeftBrace
	tokenRightBrace
	tokenLeftBracket
	tokenRightBracket
	tokenFlatten
	tokenFilter
	tokenPipe
	tokenOr
	tokenAnd
	tokenExpression
	tokenNot
	tokenEqual
	tokenNotEqual
	tokenLess
	tokenLessEqual
	tokenGreater
	tokenGreaterEqual
)

type token struct {
	kind  tokenKind
	text  string // as written, or an identifier's name
	value Value  // of a literal
	index int    // of a number
	at    int    // where it starts, in characters
}

type lexer struct {
	expression string
	runes      []rune
	at         int
	tokens     []token
}

// lex splits an expression into tokens; the last one is tokenEnd.
func lex(expression string) ([]token, error) {
	l := &lexer{expression: expression, runes: []rune(expression)}
	for l.at < len(l.runes) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	l.emit(tokenEnd, 0)
	return l.tokens, nil
}

func (l *lexer) fault(at int, format string, args ...any) error {
	return place{l.expression, at}.fault(CodeSyntax, format, args...)
}

// emit adds a token of the given width and moves past it.
func (l *lexer) emit(kind tokenKind, width int) {
	l.tokens = append(l.tokens, token{kind: kind, text: string(l.runes[l.at : l.at+width]), at: l.at})
	l.at += width
}

func (l *lexer) next() error {
	r := l.runes[l.at]
	switch {
	case strings.ContainsRune(" \t\r\n", r):
		l.at++
	case startsName(r):
		l.emit(tokenIdentifier, l.run(func(r rune) bool { return startsName(r) || isDigit(r) }))
	case isDigit(r) || r == '-':
		return l.number()
	case r == '"':
		return l.quoted()
	case r == '\'':
		return l.raw()
	case r == '`':
		return l.literal()
	default:
		kind, width := l.sign()
		if width == 0 {
			if r == '=' {
				return l.fault(l.at, "write == to compare")
			}
			return l.fault(l.at, "the character %q has no meaning here", r)
		}
		l.emit(kind, width)
	}
	return nil
}

// sign recognises punctuation, the longest first.
func (l *lexer) sign() (tokenKind, int) {
	two := string(l.runes[l.at:min(l.at+2, len(l.runes))])
	switch two {
	case "[]":
		return tokenFlatten, 2
	case "[?":
		return tokenFilter, 2
	case "||":
		return tokenOr, 2
	case "&&":
		return tokenAnd, 2
	case "==":
		return tokenEqual, 2
	case "!=":
		return tokenNotEqual, 2
	case "<=":
		return tokenLessEqual, 2
	case ">=":
		return tokenGreaterEqual, 2
	}
	const signs = ".*,:@(){}[]|&!<>"
	kinds := [...]tokenKind{
		tokenDot, tokenStar, tokenComma, tokenColon, tokenCurrent, tokenLeftParen, tokenRightParen, tokenLeftBrace,
		tokenRightBrace, tokenLeftBracket, tokenRightBracket, tokenPipe, tokenExpression, tokenNot, tokenLess, tokenGreater,
	}
	if i := strings.IndexRune(signs, l.runes[l.at]); i >= 0 {
		return kinds[i], 1
	}
	return tokenEnd, 0
}

func startsName(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' }

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// run counts the characters from here that belong.
func (l *lexer) run(belongs func(rune) bool) int {
	n := 0
	for l.at+n < len(l.runes) && belongs(l.runes[l.at+n]) {
		n++
	}
	return n
}

func (l *lexer) number() error {
	at := l.at
	l.at++
	width := 1 + l.run(isDigit)
	l.at = at
	index, err := strconv.Atoi(string(l.runes[at : at+width]))
	if err != nil {
		return l.fault(at, "a whole number of at most 18 digits is needed here")
	}
	l.emit(tokenNumber, width)
	l.tokens[len(l.tokens)-1].index = index
	return nil
}

// enclosed returns what stands between the delimiter here and its next
// unescaped occurrence, escapes untouched, and moves past it.
func (l *lexer) enclosed() (string, error) {
	start, delimiter := l.at, l.runes[l.at]
	for i := start + 1; i < len(l.runes); i++ {
		switch l.runes[i] {
		case '\\':
			i++
		case delimiter:
			l.at = i + 1
			return string(l.runes[start+1 : i]), nil
		}
	}
	return "", l.fault(start, "this %c is never closed", delimiter)
}

func (l *lexer) quoted() error {
	start := l.at
	text, err := l.enclosed()
	if err != nil {
		return err
	}
	v, err := Decode([]byte(`"` + text + `"`))
	if err != nil {
		return l.fault(start, "this quoted name is not a JSON string")
	}
	l.tokens = append(l.tokens, token{kind: tokenQuoted, text: v.text, at: start})
	return nil
}

func (l *lexer) raw() error {
	start := l.at
	text, err := l.enclosed()
	if err != nil {
		return err
	}
	l.tokens = append(l.tokens, token{kind: tokenLiteral, text: "'" + text + "'", value: Text(strings.ReplaceAll(text, `\'`, `'`)), at: start})
	return nil
}

// literal reads `JSON`. Text that is not JSON counts as a string: JEP-12 retired
// that form, az still takes it and many scripts use it.
func (l *lexer) literal() error {
	start := l.at
	text, err := l.enclosed()
	if err != nil {
		return err
	}
	text = strings.ReplaceAll(text, "\\`", "`")
	v, err := Decode([]byte(text))
	if err != nil {
		v, err = Decode([]byte(`"` + strings.TrimLeft(text, " \t\r\n") + `"`))
	}
	if err != nil {
		return l.fault(start, "this literal is not JSON")
	}
	l.tokens = append(l.tokens, token{kind: tokenLiteral, text: "`" + text + "`", value: v, at: start})
	return nil
}
