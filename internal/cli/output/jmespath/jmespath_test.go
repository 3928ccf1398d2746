package jmespath

import (
	"errors"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

func decode(t *testing.T, doc string) Value {
	t.Helper()
	v, err := Decode([]byte(doc))
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return v
}

func TestSearch_KeepsOrderAndNumbers(t *testing.T) {
	cases := []struct{ name, expression, doc, want string }{
		{"document order", "@", `{"z":1,"a":{"y":2,"b":3}}`, `{"z":1,"a":{"y":2,"b":3}}`},
		{"hash order", "[].{Zed:z, Name:n, Loc:l}", `[{"n":"x","l":"y","z":1}]`, `[{"Zed":1,"Name":"x","Loc":"y"}]`},
		{"repeated hash key", "{a:x, b:y, a:y}", `{"x":1,"y":2}`, `{"a":2,"b":2}`},
		{"repeated document key", "@", `{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{"values order", "*", `{"z":1,"a":2}`, `[1,2]`},
		{"keys order", "keys(@)", `{"z":1,"a":2}`, `["z","a"]`},
		{"merge order", "merge(@, {a:`9`, q:`1`})", `{"z":1,"a":2}`, `{"z":1,"a":9,"q":1}`},
		{"wide object", "p", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":7}`, `7`},
		{"exact number", "@", `[1.50,1e3,-0,12345678901234567890123]`, `[1.50,1e3,-0,12345678901234567890123]`},
		{"numbers by value", "[?@ == `1.0`]", `[1,1.00,"1",true,10e-1]`, `[1,1.00,10e-1]`},
		{"large integers", "[?@ > `9007199254740992`]", `[9007199254740992,9007199254740993,-9007199254740999]`, `[9007199254740993]`},
		{"large numbers sorted", "sort(@)", `[10,9,-10,-9,-0,0,1.5]`, `[-10,-9,-0,0,1.5,9,10]`},
		{"sum of integers", "sum(@)", `[9223372036854775807,1]`, `9223372036854775808`},
		{"sum of floats", "sum(@)", `[1,0.5]`, `1.5`},
		{"avg", "avg(@)", `[10,30]`, `20.0`},
		{"small float", "avg(@)", `[0.00001]`, `1e-05`},
		{"ceil", "ceil(@)", `-0.5`, `0`},
		{"floor", "floor(@)", `1.00e2`, `100`},
		{"old string literal", "[?@==`abc`]", `["abc","d"]`, `["abc"]`},
		{"strings ordered", "[?@ < 'b']", `["a","b","c"]`, `["a"]`},
		{"to_number strict", "map(&to_number(@), @)", `["1","1.5e3"," 1","0x1","","nan"]`, `[1,1.5e3,null,null,null,null]`},
		{"to_string keeps order", "to_string(@)", `{"z":"é","a":[1]}`, `"{\"z\":\"é\",\"a\":[1]}"`},
		{"contains needs one type", "contains(@, `1`)", `"a1"`, `false`},
		{"negative step", "[::-2]", `[1,2,3,4,5]`, `[5,3,1]`},
		{"huge step", "[1::999999999999999999]", `[1,2,3]`, `[2]`},
		{"huge negative step", "[::-999999999999999999]", `[1,2,3]`, `[3]`},
		{"slice of an index", "[0][0:2].a", `[[{"a":1},{"a":2},{"a":3}]]`, `[1,2]`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := search(c.expression, decode(t, c.doc))
			if err != nil {
				t.Fatal(err)
			}
			if s := text(t, got); s != c.want {
				t.Fatalf("got %s, want %s", s, c.want)
			}
		})
	}
}

func TestCompile_ErrorsPointAtThePlace(t *testing.T) {
	long := strings.Repeat("a", 80)
	cases := []struct{ name, expression, code, want string }{
		{"empty", "", CodeSyntax, "''\nthe expression is incomplete, an expression is missing:\n  \n  ^"},
		{"incomplete", "[].{a:", CodeSyntax, "'[].{a:'\nthe expression is incomplete, an expression is missing:\n  [].{a:\n        ^"},
		{"single equals", "[?a=b]", CodeSyntax, "'[?a=b]'\nwrite == to compare:\n  [?a=b]\n     ^"},
		{"beyond ASCII", "'é✓' $", CodeSyntax, "''é✓' $'\nthe character '$' has no meaning here:\n  'é✓' $\n       ^"},
		{"quoted name", `"\q"`, CodeSyntax, "'\"\\q\"'\nthis quoted name is not a JSON string:\n  \"\\q\"\n  ^"},
		{"unclosed", "a.'b", CodeSyntax, "'a.'b'\nthis ' is never closed:\n  a.'b\n    ^"},
		{"trailing", "a b", CodeSyntax, "'a b'\nexpected the end or an operator:\n  a b\n    ^"},
		{"missing comma", "join(a b)", CodeSyntax, "'join(a b)'\nexpected ',' or ')':\n  join(a b)\n         ^"},
		{"trailing comma", "{a:b,}", CodeSyntax, "'{a:b,}'\nexpected a name for the column:\n  {a:b,}\n       ^"},
		{"expression alone", "&a", CodeSyntax, "'&a'\n&expression stands only as an argument of a function:\n  &a\n  ^"},
		{"unknown function", "a | foo(@)", CodeUnknownFunction, "'a | foo(@)'\nthere is no function foo():\n  a | foo(@)\n      ^"},
		{"arity", "length()", CodeArity, "'length()'\nlength() takes 1 argument, 0 given:\n  length()\n  ^"},
		{"variadic arity", "merge()", CodeArity, "'merge()'\nmerge() takes at least 1 argument, 0 given:\n  merge()\n  ^"},
		{"expression as value", "sort_by(@, a)", CodeType, "'sort_by(@, a)'\nargument 2 of sort_by() is &expression, not a value:\n  sort_by(@, a)\n  ^"},
		{"big index", "[12345678901234567890]", CodeSyntax, "'[12345678901234567890]'\na whole number of at most 18 digits is needed here:\n  [12345678901234567890]\n   ^"},
		{"lone minus", "[-]", CodeSyntax, "'[-]'\na whole number of at most 18 digits is needed here:\n  [-]\n   ^"},
		{"terminal control", "a\x1b[2J", CodeSyntax, "'a [2J'\nthe character '\\x1b' has no meaning here:\n  a [2J\n   ^"},
		{"newline", "a\n b", CodeSyntax, "'a  b'\nexpected the end or an operator:\n  a  b\n     ^"},
		{
			"long", long + " $ " + long, CodeSyntax,
			"'..." + long[:49] + " $ " + long[:48] + "...'\nthe character '$' has no meaning here:\n  ..." + long[:49] + " $ " + long[:48] + "...\n  " + strings.Repeat(" ", 53) + "^",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.expression)
			var f *fault.Error
			if !errors.As(err, &f) || f.Kind != fault.Invalid || f.Code != c.code {
				t.Fatalf("got %v", err)
			}
			if want := "invalid jmespath_type value: " + c.want; f.Public() != want {
				t.Fatalf("got\n%s\nwant\n%s", f.Public(), want)
			}
		})
	}
}

func TestSearch_TypeErrorNamesTheArgument(t *testing.T) {
	_, err := search("[].length(@)", decode(t, `["a",1]`))
	want := "invalid jmespath_type value: '[].length(@)'\nargument 1 of length() is string or array or object, not number:\n  [].length(@)\n     ^"
	if f := fault.As(err); f.Code != CodeType || f.Public() != want {
		t.Fatalf("got %v", err)
	}
}

func TestSearch_LimitsHold(t *testing.T) {
	doubling := "[@]" + strings.Repeat("|[@,@][]", 60)
	sharing := "[@]" + strings.Repeat("|[@,@]", 60)
	cases := []struct{ name, expression, code string }{
		{"long expression", strings.Repeat("a", maxExpression+1), CodeSyntax},
		{"deep parentheses", strings.Repeat("(", 5000) + "a" + strings.Repeat(")", 5000), CodeSyntax},
		{"deep not", strings.Repeat("!", 5000) + "a", CodeSyntax},
		{"deep list", strings.Repeat("[", 5000), CodeSyntax},
		{"doubling list", doubling, "QueryTooLarge"},
		{"doubling compared", "[" + sharing + "," + sharing + "] | [0]==[1]", "QueryTooLarge"},
		{"doubling as text", "to_string(" + sharing + ")", "QueryTooLarge"},
		{"sum out of range", "sum(`[1e308,1e308]`)", CodeValue},
		{"ceil out of range", "ceil(`1e999`)", CodeValue},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := search(c.expression, Text("x"))
			if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Code != c.code {
				t.Fatalf("got %v", err)
			}
		})
	}
	v, err := search(sharing, Text("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Encode(v); fault.As(err) == nil || fault.As(err).Code != "QueryTooLarge" {
		t.Fatalf("got %v", err)
	}
}

func TestSearch_LongChainIsFine(t *testing.T) {
	doc := decode(t, `{"a":1}`)
	if v, err := search(strings.Repeat("@|", 10000)+"a", doc); err != nil || v.Text() != "1" {
		t.Fatalf("got %v, %v", v, err)
	}
}

func TestDecode_RefusesWhatIsNotJSON(t *testing.T) {
	for _, doc := range []string{
		"", " ", "{", "[1 2]", "[1,]", "{,}", `{"a" 1}`, `{"a":1,}`, `{1:2}`, "01", "1.", "nul", `"a`, "1 2", "[]]", `"` + "\x01" + `"`,
		"\"\xff\"", "'a'", "NaN", "\ufeff1", `"\x"`, "]", "}", ":", ",",
	} {
		if _, err := Decode([]byte(doc)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", doc, err)
		}
	}
	deep := strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2)
	if _, err := Decode([]byte(deep)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("deep document: got %v", err)
	}
}

func TestAppendString_EscapesWhatSteersATerminal(t *testing.T) {
	in := "a\"\\\n\t\r\b\f\x00\x1b[2J\x7f\u009b\u202e\u2028\U000e0041é✓𝄞\u200d"
	got := string(AppendString(nil, in))
	want := `"a\"\\\n\t\r\b\f\u0000\u001b[2J\u007f\u009b\u202e\u2028\udb40\udc41é✓𝄞` + "\u200d\""
	if got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if v := decode(t, got); v.Text() != in {
		t.Fatalf("read back %q", v.Text())
	}
}

func FuzzSearch(f *testing.F) {
	for _, seed := range []string{"a.b[0].c", "[?a=='x'].{N:a,M:to_string(@)}", "sort_by([*],&a)[::-1]", "*.*|[].`1`", "!(a&&b)||@", "sum(@)>`1`", "\"\\u00e9\"[1:2]"} {
		f.Add(seed, `{"a":[1,2.5,{"b":null}],"c":"x"}`)
	}
	f.Fuzz(func(t *testing.T, expression, doc string) {
		v, err := Decode([]byte(doc))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("document: %v", err)
			}
			return
		}
		got, err := search(expression, v)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("query: %v", err)
			}
			return
		}
		once, err := Encode(got)
		if err != nil {
			return
		}
		back, err := Decode(once)
		if err != nil {
			if strings.Contains(err.Error(), "deeper") {
				return
			}
			t.Fatalf("%q gives %s: %v", expression, once, err)
		}
		if twice, _ := Encode(back); string(twice) != string(once) {
			t.Fatalf("%q gives %s, then %s", expression, once, twice)
		}
	})
}
