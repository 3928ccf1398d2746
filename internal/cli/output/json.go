package output

import (
	"bytes"

	"sallyport/internal/cli/output/jmespath"
	"sallyport/internal/fault"
)

// maxParts bounds what is printed, each value counted once for every level of
// its indentation: sharing lets a query build far more than memory would hold.
const maxParts = 30_000_000

func tooLarge() error {
	return fault.New(fault.Invalid, "QueryTooLarge", "the result is too large to print.").WithRemedy("Select less with --query.")
}

// renderJSON prints as Python's json.dumps does with an indent of two.
func renderJSON(v jmespath.Value, colors palette) ([]byte, error) {
	j := jsonWriter{colors: colors, parts: maxParts}
	if !j.value(v, 0) {
		return nil, tooLarge()
	}
	return append(j.out, '\n'), nil
}

type jsonWriter struct {
	out    []byte
	colors palette
	parts  int
}

func (j *jsonWriter) value(v jmespath.Value, depth int) bool {
	if j.parts -= depth + 1; j.parts < 0 {
		return false
	}
	switch v.Kind() {
	case jmespath.Array:
		return j.block('[', ']', len(v.Items()), depth, func(i int) bool {
			return j.value(v.Items()[i], depth+1)
		})
	case jmespath.Object:
		return j.block('{', '}', len(v.Keys()), depth, func(i int) bool {
			j.out = append(j.out, j.colors.key...)
			j.out = jmespath.AppendString(j.out, v.Keys()[i])
			j.out = append(j.out, j.colors.reset...)
			j.out = append(j.out, ": "...)
			return j.value(v.Values()[i], depth+1)
		})
	default:
		j.out = append(j.out, j.colors.of(v.Kind())...)
		j.out = jmespath.AppendScalar(j.out, v)
		j.out = append(j.out, j.colors.reset...)
		return true
	}
}

// block prints n members, a line each, between two brackets.
func (j *jsonWriter) block(open, end byte, n, depth int, member func(int) bool) bool {
	j.out = append(j.out, open)
	for i := range n {
		if i > 0 {
			j.out = append(j.out, ',')
		}
		j.newline(depth + 1)
		if !member(i) {
			return false
		}
	}
	if n > 0 {
		j.newline(depth)
	}
	j.out = append(j.out, end)
	return true
}

func (j *jsonWriter) newline(depth int) {
	j.out = append(j.out, '\n')
	j.out = append(j.out, bytes.Repeat([]byte("  "), depth)...)
}
