package output

import (
	"bytes"
	"fmt"
	"io"

	"sallyport/internal/cli/output/jmespath"
)

// Column is one default column of a command's table.
type Column struct {
	// Title is the heading, as printed.
	Title string
	// Expression is the JMESPath of the cell, applied to each row.
	Expression string
}

// Config says how a document is printed.
type Config struct {
	// Format is the chosen format.
	Format Format
	// Query is the compiled --query, or nil.
	Query *jmespath.Query
	// Columns are the table's columns when there is no Query. Without them a
	// table shows the scalar members of each row.
	Columns []Column
	// Color allows colours in jsonc and yamlc.
	Color bool
	// Terminal says that a person's terminal reads the output. It makes tsv
	// escape control characters, which scripts get unchanged.
	Terminal bool
}

// Write applies the query to a JSON document and prints the result with one
// call of w.Write. An empty document and a null result print nothing. Faults of
// kind Invalid say what is wrong with the document or the query.
func Write(w io.Writer, c Config, doc []byte) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil
	}
	v, err := jmespath.Decode(doc)
	if err != nil {
		return err
	}
	if c.Query != nil {
		if v, err = c.Query.Search(v); err != nil {
			return err
		}
	}
	if v.IsNull() || c.Format == None {
		return nil
	}
	text, err := c.render(v)
	if err != nil || len(text) == 0 {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func (c Config) render(v jmespath.Value) ([]byte, error) {
	switch c.Format {
	case YAML, YAMLC:
		return renderYAML(v, choose(c.Color && c.Format == YAMLC))
	case Table:
		return c.renderTable(v)
	case TSV:
		return renderTSV(v, c.Terminal), nil
	default:
		return renderJSON(v, choose(c.Color && c.Format == JSONC))
	}
}

// palette holds the escape sequences of each part, empty without colour.
type palette struct{ key, text, number, word, reset string }

func choose(color bool) palette {
	if !color {
		return palette{}
	}
	return palette{key: "\x1b[94m", text: "\x1b[33m", number: "\x1b[34m", word: "\x1b[35m", reset: "\x1b[0m"}
}

func (p palette) of(k jmespath.Kind) string {
	switch k {
	case jmespath.String:
		return p.text
	case jmespath.Number:
		return p.number
	default:
		return p.word
	}
}
