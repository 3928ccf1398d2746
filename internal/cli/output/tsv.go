package output

import (
	"slices"
	"strconv"

	"sallyport/internal/cli/output/jmespath"
)

// renderTSV prints a line for each element of an array, or one for anything
// else. The rules, odd ones included, are those of knack, az's output library:
// an object that the query did not shape is printed in the order of its sorted
// keys, an array in a cell is its length, an object in a cell is empty, null is
// None, and a boolean is lower case only where it is the whole line.
func renderTSV(v jmespath.Value, terminal bool) []byte {
	rows := []jmespath.Value{v}
	if v.Kind() == jmespath.Array {
		rows = v.Items()
	}
	var out []byte
	for _, row := range rows {
		for i, cell := range tsvCells(row) {
			if i > 0 {
				out = append(out, '\t')
			}
			if terminal {
				cell = CleanLine(cell)
			}
			out = append(out, cell...)
		}
		out = append(out, '\n')
	}
	return out
}

func tsvCells(row jmespath.Value) []string {
	var values []jmespath.Value
	switch row.Kind() {
	case jmespath.Array:
		values = row.Items()
	case jmespath.Object:
		values = row.Values()
		if !row.Projected() {
			values = byKey(row)
		}
	case jmespath.Bool:
		return []string{strconv.FormatBool(row.Truth())}
	default:
		return []string{tsvCell(row)}
	}
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = tsvCell(v)
	}
	return cells
}

func tsvCell(v jmespath.Value) string {
	switch v.Kind() {
	case jmespath.Array:
		return strconv.Itoa(len(v.Items()))
	case jmespath.Object:
		return ""
	default:
		return scalar(v)
	}
}

// scalar writes a value that is neither array nor object as Python's str does.
func scalar(v jmespath.Value) string {
	switch v.Kind() {
	case jmespath.Bool:
		if v.Truth() {
			return "True"
		}
		return "False"
	case jmespath.Null:
		return "None"
	default:
		return v.Text()
	}
}

// byKey returns an object's values in the order of its sorted keys.
func byKey(v jmespath.Value) []jmespath.Value {
	keys := slices.Sorted(slices.Values(v.Keys()))
	values := make([]jmespath.Value, len(keys))
	for i, key := range keys {
		values[i], _ = v.Get(key)
	}
	return values
}
