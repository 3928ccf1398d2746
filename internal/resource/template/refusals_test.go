package template

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// wants checks that a template is refused with these words, by New, by a body or by
// the outputs.
func wants(t *testing.T, text, words string) {
	t.Helper()
	p, err := New(parse(t, text), nil, env(t))
	nothing := func(scope.ID, bool) (any, error) { return map[string]any{}, nil }
	for i := 0; err == nil && i < len(p.Resources); i++ {
		_, err = p.Resources[i].Body(p, nothing)
	}
	if err == nil {
		_, err = p.Outputs(nothing)
	}
	if f := fault.As(err); err == nil || f.Code != Invalid || !strings.Contains(f.Text, words) {
		t.Errorf("%.200s: %v, want %q", text, err, words)
	}
}

func many(n int) string {
	entries := make([]string, n)
	for i := range entries {
		b, _ := json.Marshal("n" + strings.Repeat("x", i))
		entries[i] = string(b) + `:1`
	}
	return strings.Join(entries, ",")
}

// What a template may hold, and what its functions take.
func TestTemplate_Refusals(t *testing.T) {
	outputs := func(expression string) string {
		return `{"resources":[],"outputs":{"o":{"type":"string","value":"` + expression + `"}}}`
	}
	const kind = `{"resources":[{"type":"Microsoft.Compute/virtualMachines","name":"a","copy":{"name":"l","count":800}},{"type":"Microsoft.Compute/disks","name":"b"}]}`
	for _, c := range []struct{ text, words string }{
		{`{"resources":[],"variables":{` + many(257) + `}}`, "and 256 parameters, variables or outputs"},
		{strings.Replace(kind, `"name":"a"`, `"name":"[concat('a', copyIndex())]"`, 1), "at most 800 resources."},
		{outputs("[if('yes', 1, 2)]"), "The first argument of 'if' is true or false."},
		{outputs("[createArray('a')[1]]"), "array index is out of bounds"},
		{outputs("[reference()]"), "takes a resource, an api version and 'Full'"},
		{outputs("[resourceId('a')]"), "takes a resource type and its names"},
		{outputs("[reference('nosuch', '2024').x]"), "could not find a template resource or a copy of it with this name"},
		{`{"resources":[{"type":"Microsoft.Compute/virtualMachines/providers/Microsoft.Authorization/roleAssignments","name":"a"}]}`, "The name 'a' has not as many parts as the type"},
		{`{"resources":[{"type":"Microsoft.Compute/virtualMachines","name":"a","scope":"b"}]}`, "The scope 'b' of a resource must be a full resource id."},
	} {
		wants(t, c.text, c.words)
	}
}
