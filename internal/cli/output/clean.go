package output

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sallyport/internal/cli/output/jmespath"
)

// Clean makes a message safe for a terminal: line feeds and tabs stay, every
// other character that could move the cursor, reorder or hide text, and every
// byte that is not UTF-8, becomes a visible escape such as \x1b or \u202e.
// Values of others that must not begin a line of their own go through CleanLine
// first.
func Clean(s string) string { return clean(s, "\n\t") }

// CleanLine is Clean for text that must stay on one line: line feeds and tabs
// become \n and \t as well.
func CleanLine(s string) string { return clean(s, "") }

func clean(s, keep string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !jmespath.Steers(r) || strings.ContainsRune(keep, r):
			b.WriteString(s[i : i+size])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		default:
			writeEscape(&b, r)
		}
		i += size
	}
	return b.String()
}

// writeEscape writes r in the shortest of the three forms that YAML, Go and
// Python share.
func writeEscape(b *strings.Builder, r rune) {
	switch {
	case r <= 0xff:
		fmt.Fprintf(b, `\x%02x`, r)
	case r <= 0xffff:
		fmt.Fprintf(b, `\u%04x`, r)
	default:
		fmt.Fprintf(b, `\U%08x`, r)
	}
}
