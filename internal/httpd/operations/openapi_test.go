package operations

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/route"
)

type doc struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Servers    []struct{ URL string }
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas, Responses, SecuritySchemes map[string]json.RawMessage
	}
}

type op struct {
	OperationID string `json:"operationId"`
	Tags        []string
	Description string
	Security    *[]map[string][]string
	Responses   map[string]json.RawMessage
	RequestBody *struct{ Content map[string]json.RawMessage }
}

func parse(t *testing.T, rows []route.Row) (doc, []byte) {
	t.Helper()
	b, err := Document(rows, "https://login.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	var d doc
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d, b
}

func TestDocument_HasEveryRowAndNothingElse(t *testing.T) {
	d, _ := parse(t, route.All())
	if d.OpenAPI != "3.1.1" || d.Info.Title == "" || d.Info.Version == "" || d.Servers[0].URL != "https://login.corp.example" {
		t.Fatalf("%+v", d)
	}
	seen := map[string]op{}
	for path, item := range d.Paths {
		for method, text := range item {
			if method == "parameters" {
				continue
			}
			var o op
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			if _, twice := seen[o.OperationID]; twice {
				t.Errorf("%s is there twice", o.OperationID)
			}
			seen[o.OperationID] = o
			if i := slices.IndexFunc(route.All(), func(r route.Row) bool { return r.ID == o.OperationID }); i < 0 || strings.ToLower(route.All()[i].Method) != method ||
				strings.ReplaceAll(route.All()[i].Pattern, "...}", "}") != path {
				t.Errorf("%s is at %s %s", o.OperationID, method, path)
			}
		}
	}
	for _, r := range route.All() {
		o, found := seen[r.ID]
		if !found {
			t.Errorf("row %s is missing", r.ID)
			continue
		}
		proven := o.Security != nil && len(*o.Security) == 1
		if wants := r.Door == route.Caller || r.Door == route.Machine; o.Security == nil || proven != wants {
			t.Errorf("%s: security %v", r.ID, o.Security)
		}
		if strings.HasSuffix(o.Description, ": .") || o.Responses["400"] == nil || o.Responses["default"] != nil || len(o.Responses) < 2 {
			t.Errorf("%s: %+v", r.ID, o)
		}
		if (r.Method == "GET" || r.Method == "HEAD") && o.RequestBody != nil {
			t.Errorf("%s has a body", r.ID)
		}
	}
}

// The parts of OpenAPI 3.1 that a reader of the document relies on: variables
// and parameters agree, references lead somewhere, no two paths are the same.
func TestDocument_IsValidOpenAPI(t *testing.T) {
	d, b := parse(t, route.All())
	variable, component := regexp.MustCompile(`\{([^{}]+)\}`), regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	shapes := map[string]string{}
	for path, item := range d.Paths {
		var parameters []struct {
			Name, In string
			Required bool
			Schema   map[string]any
		}
		if text := item["parameters"]; text != nil {
			if err := json.Unmarshal(text, &parameters); err != nil {
				t.Fatal(err)
			}
		}
		var want, have []string
		for _, m := range variable.FindAllStringSubmatch(path, -1) {
			want = append(want, m[1])
		}
		for _, p := range parameters {
			have = append(have, p.Name)
			if p.In != "path" || !p.Required || p.Schema["type"] != "string" {
				t.Errorf("%s: %+v", path, p)
			}
		}
		if !slices.Equal(want, have) || !strings.HasPrefix(path, "/") {
			t.Errorf("%s has the parameters %v", path, have)
		}
		shape := variable.ReplaceAllString(path, "{}")
		if other := shapes[shape]; other != "" {
			t.Errorf("%s and %s are the same path", path, other)
		}
		shapes[shape] = path
	}
	for _, set := range []map[string]json.RawMessage{d.Components.Schemas, d.Components.Responses, d.Components.SecuritySchemes} {
		for name := range set {
			if !component.MatchString(name) {
				t.Errorf("component %q", name)
			}
		}
	}
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/(\w+)/([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		if set := map[string]map[string]json.RawMessage{"schemas": d.Components.Schemas, "responses": d.Components.Responses}[m[1]]; set[m[2]] == nil {
			t.Errorf("%s leads nowhere", m[0])
		}
	}
	for _, m := range regexp.MustCompile(`"(armToken|graphToken|machineKey)": \[`).FindAllStringSubmatch(string(b), -1) {
		if d.Components.SecuritySchemes[m[1]] == nil {
			t.Errorf("no security scheme %s", m[1])
		}
	}
}

func TestDocument_IsTheSameEachTime(t *testing.T) {
	_, first := parse(t, route.All())
	backwards := route.All()
	slices.Reverse(backwards)
	if _, again := parse(t, route.All()); !bytes.Equal(first, again) {
		t.Fatal("the same rows gave another document")
	}
	if _, other := parse(t, backwards); !bytes.Equal(first, other) {
		t.Fatal("the order of the rows shows")
	}
}

func TestDocument_RefusesWhatItCannotSay(t *testing.T) {
	for name, rows := range map[string][]route.Row{
		"two rows, one path": {{ID: "a", Method: "GET", Pattern: "/a/{x}"}, {ID: "b", Method: "GET", Pattern: "/a/{x}"}},
		"half a variable":    {{ID: "a", Method: "GET", Pattern: "/a/b{x}"}},
	} {
		if _, err := Document(rows, ""); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

type inner struct {
	Kept string `json:"kept"`
}

type sample struct {
	inner
	At     time.Time         `json:"at"`
	Bytes  []byte            `json:"bytes"`
	Raw    json.RawMessage   `json:"raw"`
	Next   *sample           `json:"next,omitempty"`
	Words  map[string]string `json:"words"`
	Count  uint32            `json:"count,omitzero"`
	Any    any               `json:"any"`
	Pair   [2]float64        `json:"pair"`
	Plain  bool
	Secret string `json:"-"`
	hidden string
}

func TestSchema_SaysWhatJSONWrites(t *testing.T) {
	s := newSchemas()
	_ = sample{hidden: ""}.hidden
	if ref := s.of(sample{}); ref["$ref"] != "#/components/schemas/operations.sample" {
		t.Fatal(ref)
	}
	got, err := json.Marshal(s.named["operations.sample"])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"properties":{"Plain":{"type":"boolean"},"any":{},"at":{"format":"date-time","type":"string"},"bytes":{"contentEncoding":"base64","type":["string","null"]},"count":{"minimum":0,"type":"integer"},` +
		`"kept":{"type":"string"},"next":{"anyOf":[{"$ref":"#/components/schemas/operations.sample"},{"type":"null"}]},"pair":{"items":{"type":"number"},"maxItems":2,"minItems":2,"type":"array"},"raw":{},` +
		`"words":{"additionalProperties":{"type":"string"},"type":["object","null"]}},"required":["kept","at","bytes","raw","words","any","pair","Plain"],"type":"object"}`
	if string(got) != want {
		t.Fatalf("\n%s\n%s", got, want)
	}
}

// TestDocument_Options: what a row reads of its query is described, and nothing else:
// httpd refuses what is not in these lists.
func TestDocument_Options(t *testing.T) {
	d, _ := parse(t, route.All())
	described := map[string][]string{}
	for _, item := range d.Paths {
		for _, text := range item {
			var o struct {
				OperationID string `json:"operationId"`
				Parameters  []struct {
					Name, In string
					Schema   map[string]any
				}
			}
			if json.Unmarshal(text, &o) != nil || o.OperationID == "" {
				continue // the parameters of a path
			}
			for _, p := range o.Parameters {
				if p.Schema["type"] == nil {
					t.Errorf("%s: %s has no type", o.OperationID, p.Name)
				}
				described[o.OperationID] = append(described[o.OperationID], p.In+" "+p.Name)
			}
		}
	}
	for _, r := range route.All() {
		var want []string
		names := r.DirectoryOptions()
		if r.Surface == route.ARM {
			names = append(append([]string{"api-version"}, r.Options()...), r.Parameters()...)
		}
		for _, name := range names {
			want = append(want, "query "+name)
		}
		if r.Conditional() {
			want = append(want, "header If-Match", "header If-None-Match")
		}
		have := described[r.ID]
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s: described are %v, read are %v", r.ID, have, want)
		}
	}
}
