package jmespath

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxExact bounds the digits of integers that are added exactly.
const maxExact = 1000

// isInteger reports whether a JSON number literal has neither fraction nor
// exponent.
func isInteger(literal string) bool { return !strings.ContainsAny(literal, ".eE") }

// float returns the nearest float64; a literal out of range gives an infinity.
func float(literal string) float64 {
	f, _ := strconv.ParseFloat(literal, 64) // ErrRange comes with the infinity wanted here
	return f
}

// compareNumbers orders two literals: integers exactly whatever their size,
// everything else as float64.
func compareNumbers(a, b string) int {
	if isInteger(a) && isInteger(b) {
		return compareIntegers(a, b)
	}
	x, y := float(a), float(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	default:
		return 0
	}
}

// compareIntegers relies on JSON's ban on leading zeros: of two magnitudes the
// longer is the larger.
func compareIntegers(a, b string) int {
	x, xNegative := magnitude(a)
	y, yNegative := magnitude(b)
	switch {
	case xNegative && !yNegative:
		return -1
	case !xNegative && yNegative:
		return 1
	case xNegative:
		return compareMagnitudes(y, x)
	default:
		return compareMagnitudes(x, y)
	}
}

func magnitude(literal string) (digits string, negative bool) {
	digits, negative = strings.CutPrefix(literal, "-")
	return digits, negative && digits != "0"
}

func compareMagnitudes(x, y string) int {
	if len(x) != len(y) {
		if len(x) < len(y) {
			return -1
		}
		return 1
	}
	return strings.Compare(x, y)
}

// sum adds numbers: exactly when all are integers of sane length, else as
// float64. It reports false when the result is no JSON number.
func sum(items []Value) (Value, bool) {
	total := new(big.Int)
	for _, v := range items {
		term, ok := new(big.Int), isInteger(v.text) && len(v.text) <= maxExact
		if ok {
			term, ok = term.SetString(v.text, 10)
		}
		if !ok {
			return sumFloats(items)
		}
		total.Add(total, term)
	}
	return number(total.String()), true
}

func sumFloats(items []Value) (Value, bool) {
	total := 0.0
	for _, v := range items {
		total += float(v.text)
	}
	return fromFloat(total)
}

// fromFloat writes f the way Python does, so that results read as in az: the
// shortest text that parses back, always with a fraction or an exponent.
func fromFloat(f float64) (Value, bool) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return Value{}, false
	}
	if size := math.Abs(f); size != 0 && (size < 1e-4 || size >= 1e16) {
		return number(strconv.FormatFloat(f, 'e', -1, 64)), true
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return number(s), true
}

// whole rounds a literal to an integer with the given rounding.
func whole(literal string, round func(float64) float64) (Value, bool) {
	if isInteger(literal) {
		return number(literal), true
	}
	f := round(float(literal))
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return Value{}, false
	}
	s := strconv.FormatFloat(f, 'f', 0, 64)
	if s == "-0" {
		s = "0"
	}
	return number(s), true
}

func integer(n int) Value { return number(strconv.Itoa(n)) }
