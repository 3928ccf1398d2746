package output

import (
	"strings"

	"sallyport/internal/cli/output/jmespath"
)

// renderYAML prints block style that YAML 1.1 and 1.2 parsers read alike.
func renderYAML(v jmespath.Value, colors palette) ([]byte, error) {
	y := yamlWriter{colors: colors, parts: maxParts}
	ok := true
	switch {
	case flat(v):
		y.scalar(v, 0)
		if last := strings.TrimSuffix(y.out.String(), "\n"); v.Kind() != jmespath.Array && v.Kind() != jmespath.Object && !strings.ContainsAny(last, "\n\"'") {
			y.out.WriteString("...\n") // what ends a document that is one plain value
		}
	case v.Kind() == jmespath.Array:
		ok = y.sequence(v, 0, false)
	default:
		ok = y.mapping(v, 0, false)
	}
	if !ok {
		return nil, tooLarge()
	}
	return []byte(y.out.String()), nil
}

type yamlWriter struct {
	out    strings.Builder
	colors palette
	parts  int
}

// flat reports whether v stands on the line of its key or dash.
func flat(v jmespath.Value) bool { return len(v.Items()) == 0 && len(v.Keys()) == 0 }

func (y *yamlWriter) indent(n int) { y.out.WriteString(strings.Repeat(" ", n)) }

func (y *yamlWriter) spend(indent int) bool {
	y.parts -= indent/2 + 1
	return y.parts >= 0
}

// sequence prints the elements of an array; the first one continues the present
// line when inline.
func (y *yamlWriter) sequence(v jmespath.Value, indent int, inline bool) bool {
	for i, item := range v.Items() {
		if !y.spend(indent) {
			return false
		}
		if i > 0 || !inline {
			y.indent(indent)
		}
		y.out.WriteString("- ")
		ok := true
		switch {
		case flat(item):
			y.scalar(item, indent+2)
		case item.Kind() == jmespath.Array:
			ok = y.sequence(item, indent+2, true)
		default:
			ok = y.mapping(item, indent+2, true)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (y *yamlWriter) mapping(v jmespath.Value, indent int, inline bool) bool {
	for i, key := range v.Keys() {
		if !y.spend(indent) {
			return false
		}
		if i > 0 || !inline {
			y.indent(indent)
		}
		y.key(key, indent)
		item, ok := v.Values()[i], true
		switch {
		case flat(item):
			y.out.WriteByte(' ')
			y.scalar(item, indent+2)
		case item.Kind() == jmespath.Array:
			y.out.WriteByte('\n')
			ok = y.sequence(item, indent, false)
		default:
			y.out.WriteByte('\n')
			ok = y.mapping(item, indent+2, false)
		}
		if !ok {
			return false
		}
	}
	return true
}

// longKey is the length from which a key takes the explicit form: YAML ends
// simple keys at 1024 characters.
const longKey = 128

func (y *yamlWriter) key(key string, indent int) {
	text := quoteYAML(key)
	if len(text) <= longKey {
		y.paint(y.colors.key, text)
		y.out.WriteByte(':')
		return
	}
	y.out.WriteString("? ")
	y.paint(y.colors.key, text)
	y.out.WriteByte('\n')
	y.indent(indent)
	y.out.WriteByte(':')
}

func (y *yamlWriter) paint(color, text string) {
	y.out.WriteString(color)
	y.out.WriteString(text)
	if color != "" {
		y.out.WriteString(y.colors.reset)
	}
}

// scalar prints a flat value and ends the line; lines of a literal block stand
// at the given indent.
func (y *yamlWriter) scalar(v jmespath.Value, indent int) {
	color := y.colors.of(v.Kind())
	switch v.Kind() {
	case jmespath.Array:
		y.out.WriteString("[]")
	case jmespath.Object:
		y.out.WriteString("{}")
	case jmespath.String:
		if isLiteralBlock(v.Text()) {
			y.literal(v.Text(), max(indent, 2))
			return
		}
		y.paint(color, quoteYAML(v.Text()))
	case jmespath.Number:
		y.paint(color, numberYAML(v.Text()))
	default:
		y.paint(color, string(jmespath.AppendScalar(nil, v)))
	}
	y.out.WriteByte('\n')
}

// literal prints several lines as they are; "|-" says that no line feed follows
// the last one.
func (y *yamlWriter) literal(text string, indent int) {
	lines, ended := strings.CutSuffix(text, "\n")
	y.out.WriteByte('|')
	if !ended {
		y.out.WriteByte('-')
	}
	y.out.WriteByte('\n')
	for line := range strings.SplitSeq(lines, "\n") {
		if line != "" {
			y.indent(indent)
			y.paint(y.colors.text, line)
		}
		y.out.WriteByte('\n')
	}
}
