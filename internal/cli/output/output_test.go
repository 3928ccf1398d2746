package output

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

func render(t *testing.T, c Config, doc string) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, c, []byte(doc)); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return out.String()
}

func TestWrite_Departures(t *testing.T) {
	columns := []Column{{"Name", "name"}, {"State", "properties.state"}}
	cases := []struct {
		name   string
		config Config
		doc    string
		want   string
	}{
		{"json keeps order", Config{}, `{"z":1.50,"a":"é"}`, "{\n  \"z\": 1.50,\n  \"a\": \"é\"\n}\n"},
		{"json escapes controls", Config{}, `"\u001b[31m\u009b\u202e"`, "\"\\u001b[31m\\u009b\\u202e\"\n"},
		{"nothing for no document", Config{}, " \n", ""},
		{"nothing for null", Config{}, "null", ""},
		{"nothing for none", Config{Format: None}, "[1]", ""},
		{"empty table", Config{Format: Table}, "[]", "\n"},
		{"table of an object without a cell", Config{Format: Table}, `{"value":[1]}`, "\n"},
		{"empty table with columns", Config{Format: Table, Columns: columns}, "[]", "\n"},
		{"table escapes controls", Config{Format: Table}, `{"na\u001bme":"a\u001b[2Jb\nc\td\u009b31m\u202e"}`, "Na\\x1bme\n----------------------------\na\\x1b[2Jb\\nc\\td\\x9b31m\\u202e\n"},
		{"table of nested rows", Config{Format: Table}, `[["a",{"k":[1]},[]]]`, "Column1    Column2    Column3\n---------  ---------  ---------\na          {\"k\":[1]}  []\n"},
		{"columns skip what no row has", Config{Format: Table, Columns: columns}, `[{"name":"a"},null]`, "Name    Result\n------  --------\na\n\n"},
		{"tsv for scripts", Config{Format: TSV}, `["a\u001b[2J\tb\nc"]`, "a\x1b[2J\tb\nc\n"},
		{"tsv for a person", Config{Format: TSV, Terminal: true}, `["a\u001b[2J\tb\nc",["d","e"]]`, "a\\x1b[2J\\tb\\nc\nd\te\n"},
		{"color off", Config{Format: JSONC}, `{"a":1}`, "{\n  \"a\": 1\n}\n"},
		{"no color in json", Config{Color: true}, `1`, "1\n"},
		{"jsonc", Config{Format: JSONC, Color: true}, `{"a":["s",1,null]}`, "{\n  \x1b[94m\"a\"\x1b[0m: [\n    \x1b[33m\"s\"\x1b[0m,\n    \x1b[34m1\x1b[0m,\n    \x1b[35mnull\x1b[0m\n  ]\n}\n"},
		{"yamlc", Config{Format: YAMLC, Color: true}, `{"a":true}`, "\x1b[94ma\x1b[0m: \x1b[35mtrue\x1b[0m\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := render(t, c.config, c.doc); got != c.want {
				t.Fatalf("got\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}

// Each expectation was read back as the same value by PyYAML 6.0.3 (YAML 1.1) and
// ruamel.yaml 0.19.1 (YAML 1.2).
func TestWrite_YAMLText(t *testing.T) {
	long := strings.Repeat("k", longKey+1)
	cases := []struct{ doc, want string }{
		{`"plain text, with [most] signs & a:b #x"`, "'plain text, with [most] signs & a:b #x'\n"},
		{`"a:b, [c] & d#e"`, "a:b, [c] & d#e\n...\n"},
		{`2`, "2\n...\n"},
		{`""`, "''\n"},
		{`["true","No","null","~","y"]`, "- 'true'\n- 'No'\n- 'null'\n- '~'\n- 'y'\n"},
		{`["1","-1","1.5","0x1F","1e3",".5","+.inf",".NaN","1_000","12:30:45","2022-11-01","10.0.0.4"]`, "- '1'\n- '-1'\n- '1.5'\n- '0x1F'\n- '1e3'\n- '.5'\n- '+.inf'\n- '.NaN'\n- '1_000'\n- '12:30:45'\n- '2022-11-01'\n- 10.0.0.4\n"},
		{`["0b9cd3a1-5c1f-4a1e-9d0a-000000000001","1.2 GiB","v1.2"]`, "- 0b9cd3a1-5c1f-4a1e-9d0a-000000000001\n- 1.2 GiB\n- v1.2\n"},
		{`["- a","? a","a: b","a:","a #b","a#b"," a","a ","---","...","it's","'q'","\"q\"","*a","&a","!a","%a","@a","{}","[]","<<","=","|"]`,
			"- '- a'\n- '? a'\n- 'a: b'\n- 'a:'\n- 'a #b'\n- a#b\n- ' a'\n- 'a '\n- '---'\n- '...'\n- it's\n- '''q'''\n- '\"q\"'\n- '*a'\n- '&a'\n- '!a'\n- '%a'\n- '@a'\n- '{}'\n- '[]'\n- '<<'\n- '='\n- '|'\n"},
		{`{"key":"line 1\n  line 2\n\nline 4\n"}`, "key: |\n  line 1\n    line 2\n\n  line 4\n"},
		{`[{"key":"a\nb"}]`, "- key: |-\n    a\n    b\n"},
		{`"a\nb"`, "|-\n  a\n  b\n"},
		{`["one\n","\na"," a\nb","a\n\n","a\n  \nb","a\tb\nc"]`, "- \"one\\n\"\n- \"\\na\"\n- \" a\\nb\"\n- \"a\\n\\n\"\n- \"a\\n  \\nb\"\n- \"a\\tb\\nc\"\n"},
		{`["\u001b[31m","\u0085\u2028\ufeff\udb40\udc41\uffff","\\\"\r"]`, "- \"\\x1b[31m\"\n- \"\\x85\\u2028\\ufeff\\U000e0041\\uffff\"\n- \"\\\\\\\"\\r\"\n"},
		{`[1e3,1.5E-7,-0,12345678901234567890]`, "- 1.0e+3\n- 1.5e-7\n- -0\n- 12345678901234567890\n"},
		{`{"":1,"1":2,"true":3,"a: b":4,"x\ny":5}`, "'': 1\n'1': 2\n'true': 3\n'a: b': 4\n\"x\\ny\": 5\n"},
		{`{"` + long + `":{"a":[1]},"` + long + `2":[1],"` + long + `3":1}`, "? " + long + "\n:\n  a:\n  - 1\n? " + long + "2\n:\n- 1\n? " + long + "3\n: 1\n"},
	}
	for _, c := range cases {
		if got := render(t, Config{Format: YAML}, c.doc); got != c.want {
			t.Errorf("%s: got\n%q\nwant\n%q", c.doc, got, c.want)
		}
	}
}

func TestWrite_Refusals(t *testing.T) {
	sharing := compile(t, "[@]"+strings.Repeat("|[@,@]", 40))
	deep := compile(t, "[@]"+strings.Repeat("|[@]", 7000)+strings.Repeat("|[@,@]", 20))
	cases := []struct {
		name   string
		config Config
		doc    string
		code   string
	}{
		{"not JSON", Config{}, "<html>", "InvalidJSON"},
		{"query fails", Config{Query: compile(t, "length(a)")}, `{"a":1}`, "InvalidQueryType"},
		{"no column", Config{Format: Table}, `[{"id":1,"x":[]}]`, "TableUnavailable"},
		{"too large for json", Config{Query: sharing}, "1", "QueryTooLarge"},
		{"too deep for json", Config{Query: deep}, "1", "QueryTooLarge"},
		{"too large for yaml", Config{Format: YAML, Query: sharing}, "1", "QueryTooLarge"},
		{"too deep for yaml", Config{Format: YAML, Query: deep}, "1", "QueryTooLarge"},
		{"too large for a table", Config{Format: Table, Query: sharing}, "1", "QueryTooLarge"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Write(&out, c.config, []byte(c.doc))
			if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Code != c.code || out.Len() > 0 {
				t.Fatalf("got %v after %d bytes", err, out.Len())
			}
		})
	}
}

type brokenPipe struct{}

var errPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestWrite_ReportsAFailedWrite(t *testing.T) {
	if err := Write(brokenPipe{}, Config{}, []byte("1")); !errors.Is(err, errPipe) {
		t.Fatalf("got %v", err)
	}
}

func TestParseFormat_NamesAndRefusal(t *testing.T) {
	for i, name := range Formats() {
		f, err := ParseFormat(strings.ToUpper(name))
		if err != nil || f != Format(i) || f.String() != name {
			t.Errorf("%s: got %v, %v", name, f, err)
		}
	}
	_, err := ParseFormat("xml\x1b")
	want := `'xml\x1b' is not a valid value for '--output'. Allowed values: json, jsonc, yaml, yamlc, table, tsv, none.`
	if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Public() != want {
		t.Fatalf("got %v", err)
	}
}

func TestClean_NeutralisesTerminalControl(t *testing.T) {
	in := "ok é✓\n\ta\x1b]0;t\x07\r\x7f\u009b1m\x9b\xff\u202e\u2066\u200b\u2028\U000e0041👩\u200d💻"
	want := "ok é✓\n\ta\\x1b]0;t\\x07\\r\\x7f\\x9b1m\\x9b\\xff\\u202e\\u2066\\u200b\\u2028\\U000e0041👩\u200d💻"
	if got := Clean(in); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if got := CleanLine("a\n\tb"); got != `a\n\tb` {
		t.Fatalf("got %q", got)
	}
}
