package output

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/cli/output/jmespath"
	"sallyport/internal/fault"
)

// renderTable prints az's table: titles, dashes, a line for each row.
func (c Config) renderTable(v jmespath.Value) ([]byte, error) {
	rows := []jmespath.Value{v}
	if v.Kind() == jmespath.Array {
		rows = v.Items()
	}
	shaped := c.Query != nil
	if !shaped && len(c.Columns) > 0 {
		var err error
		if rows, err = shape(rows, c.Columns); err != nil {
			return nil, err
		}
		shaped = true
	}
	if len(rows) == 0 {
		return []byte("\n"), nil
	}
	t := table{}
	for _, row := range rows {
		t.rows = append(t.rows, map[string]string{})
		if err := t.fill(row, shaped); err != nil {
			return nil, err
		}
	}
	if len(t.titles) == 0 && len(rows) == 1 && v.Kind() == jmespath.Object {
		return []byte("\n"), nil
	}
	if len(t.titles) == 0 {
		return nil, fault.New(fault.Invalid, "TableUnavailable", "Table output unavailable.").
			WithRemedy("Use the --query option to specify an appropriate query, or another --output.")
	}
	return t.render(), nil
}

// shape applies a command's own columns to each row, as if they were a query.
func shape(rows []jmespath.Value, columns []Column) ([]jmespath.Value, error) {
	var hash []string
	for _, c := range columns {
		hash = append(hash, string(jmespath.AppendString(nil, c.Title))+": "+c.Expression)
	}
	q, err := jmespath.Compile("{" + strings.Join(hash, ", ") + "}")
	if err != nil {
		return nil, fmt.Errorf("columns of this command: %w", err)
	}
	shaped := make([]jmespath.Value, len(rows))
	for i, row := range rows {
		if shaped[i], err = q.Search(row); err != nil {
			return nil, fmt.Errorf("columns of this command: %w", err)
		}
	}
	return shaped, nil
}

// table collects cells under titles in the order in which those first appear.
type table struct {
	titles []string
	rows   []map[string]string
	known  map[string]bool
}

// fill adds the cells of the last row: of an object its scalar members without
// az's hidden ones, of an array a numbered column for each element, of anything
// else the column Result. An object that nobody shaped goes by sorted keys.
func (t *table) fill(row jmespath.Value, shaped bool) error {
	switch row.Kind() {
	case jmespath.Array:
		for i, v := range row.Items() {
			text, err := cellText(v)
			if err != nil {
				return err
			}
			t.set(fmt.Sprintf("Column%d", i+1), text)
		}
	case jmespath.Object:
		keys := row.Keys()
		if !shaped {
			keys = slices.Sorted(slices.Values(keys))
		}
		for _, key := range keys {
			v, _ := row.Get(key)
			if hidden(key) || v.IsNull() || v.Kind() == jmespath.Array || v.Kind() == jmespath.Object {
				continue
			}
			t.set(title(key), cell(scalar(v)))
		}
	default:
		text, err := cellText(row)
		if err != nil {
			return err
		}
		t.set("Result", text)
	}
	return nil
}

func (t *table) set(title, text string) {
	if t.known == nil {
		t.known = map[string]bool{}
	}
	if !t.known[title] {
		t.known[title] = true
		t.titles = append(t.titles, title)
	}
	t.rows[len(t.rows)-1][title] = text
}

func hidden(key string) bool { return key == "id" || key == "type" || key == "etag" }

// title gives a key a capital first letter.
func title(key string) string {
	first, size := utf8.DecodeRuneInString(key)
	if size == 0 {
		return key
	}
	return cell(string(unicode.ToUpper(first)) + key[size:])
}

// cell is text as a table shows it: on one line, nothing that steers a terminal.
func cell(text string) string { return CleanLine(strings.TrimSpace(text)) }

// cellText is a cell of a row without keys. What is nested there appears as
// compact JSON, and null as nothing.
func cellText(v jmespath.Value) (string, error) {
	switch v.Kind() {
	case jmespath.Null:
		return "", nil
	case jmespath.Array, jmespath.Object:
		text, err := jmespath.Encode(v)
		return cell(string(text)), err
	default:
		return cell(scalar(v)), nil
	}
}

const (
	columnGap    = 2
	titlePadding = 2
)

func (t *table) render() []byte {
	widths := make([]int, len(t.titles))
	titles, dashes := map[string]string{}, map[string]string{}
	for i, title := range t.titles {
		widths[i] = utf8.RuneCountInString(title) + titlePadding
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[title]))
		}
		titles[title], dashes[title] = title, strings.Repeat("-", widths[i])
	}
	var out []byte
	for _, row := range append([]map[string]string{titles, dashes}, t.rows...) {
		var line strings.Builder
		for i, title := range t.titles {
			text := row[title]
			line.WriteString(text)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+columnGap))
		}
		out = append(out, strings.TrimRight(line.String(), " ")...)
		out = append(out, '\n')
	}
	return out
}
