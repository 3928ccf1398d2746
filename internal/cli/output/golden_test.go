package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/cli/output/jmespath"
)

type goldenCase struct {
	Name     string
	Document json.RawMessage
	Query    *string
	Columns  [][2]string
}

// TestWrite_AsKnack compares with what az's own output library printed;
// testdata/golden/README.md says how the files were made.
func TestWrite_AsKnack(t *testing.T) {
	data, err := os.ReadFile("testdata/golden/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	compared := map[Format]int{}
	for _, c := range cases {
		for _, format := range []Format{JSON, YAML, Table, TSV} {
			want, err := os.ReadFile(filepath.Join("testdata", "golden", c.Name+"."+format.String()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			compared[format]++
			t.Run(c.Name+"/"+format.String(), func(t *testing.T) {
				if got := c.write(t, format); got != string(want) {
					t.Fatalf("got\n%q\nwant\n%q", got, want)
				}
			})
		}
	}
	if compared[JSON] < 20 || compared[YAML] < 9 || compared[Table] < 30 || compared[TSV] != len(cases) {
		t.Fatalf("golden files are missing: %v of %d cases", compared, len(cases))
	}
}

func (c goldenCase) write(t *testing.T, format Format) string {
	t.Helper()
	config := Config{Format: format}
	for _, column := range c.Columns {
		config.Columns = append(config.Columns, Column{Title: column[0], Expression: column[1]})
	}
	if c.Query != nil {
		config.Query = compile(t, *c.Query)
	}
	var out bytes.Buffer
	if err := Write(&out, config, c.Document); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func compile(t *testing.T, expression string) *jmespath.Query {
	t.Helper()
	q, err := jmespath.Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
