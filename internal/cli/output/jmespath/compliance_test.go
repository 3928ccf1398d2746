package jmespath

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"sallyport/internal/fault"
)

// compliant is how many cases the fixtures hold, so that none is lost unseen.
const compliant = 862

func TestCompliance_Fixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/compliance/*.json")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, file := range files {
		for i, suite := range decodeFile(t, file).Items() {
			given, _ := suite.Get("given")
			tests, _ := suite.Get("cases")
			for j, c := range tests.Items() {
				cases++
				name := filepath.Base(file) + "/" + strconv.Itoa(i) + "/" + strconv.Itoa(j)
				t.Run(name, func(t *testing.T) { checkCase(t, given, c) })
			}
		}
	}
	if cases != compliant {
		t.Errorf("%d cases, want %d", cases, compliant)
	}
}

func decodeFile(t *testing.T, path string) Value {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func checkCase(t *testing.T, given, c Value) {
	t.Helper()
	expression, _ := c.Get("expression")
	got, err := search(expression.Text(), given)
	if want, fails := c.Get("error"); fails {
		codes := map[string]string{
			"syntax": CodeSyntax, "invalid-arity": CodeArity, "invalid-type": CodeType,
			"invalid-value": CodeValue, "unknown-function": CodeUnknownFunction,
		}
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Invalid || f.Code != codes[want.Text()] {
			t.Fatalf("%q: got %v, want %s", expression.Text(), err, want.Text())
		}
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", expression.Text(), err)
	}
	want, ok := c.Get("result")
	if !ok {
		return
	}
	r := &run{steps: maxSteps}
	if same, err := r.equal(got, want); !same || err != nil {
		t.Fatalf("%q: got %s, want %s", expression.Text(), text(t, got), text(t, want))
	}
}

func search(expression string, v Value) (Value, error) {
	q, err := Compile(expression)
	if err != nil {
		return Value{}, err
	}
	return q.Search(v)
}

func text(t *testing.T, v Value) string {
	t.Helper()
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
