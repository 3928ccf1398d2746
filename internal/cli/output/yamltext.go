package output

import (
	"strings"

	"sallyport/internal/cli/output/jmespath"
)

// isLiteralBlock reports whether a string of several lines survives a literal
// block. Leading blanks, blank lines of spaces and several final line feeds
// would need indicators that parsers disagree on; those are quoted instead.
func isLiteralBlock(s string) bool {
	if !strings.Contains(strings.TrimSuffix(s, "\n"), "\n") || strings.HasSuffix(s, "\n\n") || strings.ContainsAny(s[:1], " \n") {
		return false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if line != "" && strings.Trim(line, " ") == "" || unprintable(line) {
			return false
		}
	}
	return true
}

// unprintable reports whether s must be written with escapes.
func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return jmespath.Steers(r) || r == 0xfffe || r == 0xffff })
}

// quoteYAML writes a string on one line: plain where no parser can take it for
// something else, else quoted.
func quoteYAML(s string) string {
	switch {
	case unprintable(s):
		return doubleQuoted(s)
	case !isPlain(s):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	default:
		return s
	}
}

func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unprintable(string(r)):
			writeEscape(&b, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isPlain is stricter than YAML: whatever begins like an indicator, a number, a
// date, a document mark or a word with a meaning is quoted.
func isPlain(s string) bool {
	if s == "" || strings.TrimSpace(s) != s || strings.ContainsAny(s[:1], "-?:,[]{}#&*!|>'\"%@`=~<") {
		return false
	}
	if strings.Contains(s, ": ") || strings.Contains(s, " #") || strings.HasSuffix(s, ":") {
		return false
	}
	return !isNumeric(s) && !isWord(s)
}

// isNumeric reports whether YAML 1.1 or 1.2 might read s as a number, a
// sexagesimal or a time, or s begins like the mark that ends a document.
func isNumeric(s string) bool {
	if !strings.ContainsAny(s[:1], "0123456789+.") {
		return false
	}
	if strings.Count(s, ".") > 1 && s[0] != '.' && strings.Trim(s, "0123456789.") == "" {
		return false // a version or an address
	}
	if strings.Trim(s, "0123456789_.,:eE+-tTzZ ") == "" {
		return true
	}
	digits := strings.ToLower(strings.TrimLeft(s, "+"))
	switch strings.TrimPrefix(digits, ".") {
	case "inf", "nan":
		return true
	}
	if strings.HasPrefix(s, "..") {
		return true
	}
	for _, prefix := range [...]string{"0x", "0o", "0b"} {
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			return strings.Trim(rest, "0123456789abcdef_") == ""
		}
	}
	return false
}

func isWord(s string) bool {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return true
	default:
		return false
	}
}

// numberYAML gives a number with an exponent the fraction and sign without
// which YAML 1.1 reads it as text.
func numberYAML(literal string) string {
	at := strings.IndexAny(literal, "eE")
	if at < 0 {
		return literal
	}
	mantissa, exponent := literal[:at], literal[at+1:]
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if !strings.ContainsAny(exponent[:1], "+-") {
		exponent = "+" + exponent
	}
	return mantissa + "e" + exponent
}
