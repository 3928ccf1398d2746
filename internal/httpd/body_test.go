package httpd

import (
	"encoding/json"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"sallyport/internal/route"
)

func TestBody_RefusesWhatTwoReadersReadInTwoWays(t *testing.T) {
	for _, c := range []struct {
		body, kind string
		surface    route.Surface
		status     int
	}{
		{`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`, "application/json", route.ARM, 200},
		{`{"a":1,"a":1}`, "application/json", route.ARM, 400},
		{`{"a":1,"A":1}`, "", route.ARM, 400},
		{`{"a":1,"\u0061":1}`, "", route.Graph, 400},
		{`{"passwordProfile":1,"pa\u017f\u017fwordProfile":1}`, "", route.Graph, 400}, // one field to encoding/json
		{strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "", route.ARM, 400},
		{`{"x":[[{"b":{},"c":[],"b":0}]]}`, "", route.Graph, 400},
		{`{"a":"a","b":"a"}`, "", route.Graph, 200},
		{`{"a":1,"A":1}`, "", route.Agent, 200}, // names of accounts are told apart by case
		{`{"a":1,"a":1}`, "", route.Agent, 400},
		{`{}`, "application/json; charset=utf-8", route.ARM, 200},
		{`{}`, "application/merge-patch+json", route.ARM, 200},
		{`{}`, "text/plain", route.ARM, 415},
		{`{}`, "application/x-www-form-urlencoded", route.Graph, 415},
		{`{}`, "application/json;;", route.Graph, 415},
		{strings.Repeat(" ", maxBody) + `{}`, "", route.ARM, 413},
	} {
		s := serve(t, route.Row{Method: "PUT", Pattern: "/x", Door: route.Public, Surface: c.surface}, func(call *Call) error {
			var v map[string]any
			if err := call.DecodeLenient(&v); err != nil {
				return err
			}
			return call.JSON(200, v)
		})
		r := httptest.NewRequest("PUT", "/x", strings.NewReader(c.body))
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%.60s as %q: %d %s, want %d", c.body, c.kind, w.Code, w.Body, c.status)
		}
	}
}

// A body that nests without an end costs no more memory than one that may be deep:
// each level of the scan is kept.
func TestRepeated_EndsAtADepth(t *testing.T) {
	body := []byte(strings.Repeat(`{"a":`, maxBody/5))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if name, err := repeated(body, true); err == nil {
		t.Errorf("%q is twice in it", name)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 5*maxBody {
		t.Errorf("%d octets for a body of %d", used, len(body))
	}
}

// FuzzRepeated: a text without a repetition means the same to a decoder that keeps
// the first of two and one that keeps the last, and the scan ends.
func FuzzRepeated(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, `{"a":{"b":[{"c":1,"C":2}]}}`, `[]`, `{`, `{"a":"a","b":"a"}`, `1 2`, `{"a":1}{"a":1}`, `]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := repeated([]byte(text), false)
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			return
		}
		again, errAgain := repeated(must(json.Marshal(v)), false)
		if errAgain == nil {
			t.Fatalf("%q twice in what encoding/json wrote", again)
		}
		if err == nil && !strings.Contains(text, ":") {
			t.Fatalf("%q twice in %q", name, text)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
