package resource

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// RFC 7396 appendix A, the cases whose result is an object.
func TestMergePatch_RFC7396(t *testing.T) {
	for _, tc := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"Name":"b"}`, `{"name":"c"}`, `{"Name":"c"}`}, // ours: names match in any case
	} {
		got, err := mergePatch(json.RawMessage(tc[0]), json.RawMessage(tc[1]), 0)
		if err != nil || string(got) != tc[2] {
			t.Errorf("%s + %s = %s %v, want %s", tc[0], tc[1], got, err, tc[2])
		}
	}
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	if _, err := mergePatch(json.RawMessage(deep), json.RawMessage(deep), 0); !fault.Is(err, fault.Invalid) {
		t.Errorf("depth: %v", err)
	}
}

func TestOperation_StatusIsDerived(t *testing.T) {
	born := time.Unix(100, 0)
	op := Operation{Born: born, Revision: 3, Verb: "write"}
	del := Operation{Born: born, Revision: 4, Verb: "delete"}
	for _, tc := range []struct {
		name  string
		op    Operation
		r     Resource
		found bool
		want  string
	}{
		{"not yet", op, Resource{CreatedAt: born, Revision: 3, Observed: 2, State: Updating}, true, InProgress},
		{"reached", op, Resource{CreatedAt: born, Revision: 3, Observed: 3, State: Succeeded}, true, Succeeded},
		{"overtaken and not yet", op, Resource{CreatedAt: born, Revision: 4, Observed: 3, State: Updating}, true, Succeeded},
		{"failed", op, Resource{CreatedAt: born, Revision: 3, Observed: 3, State: Failed, Error: &Failure{Code: "X"}}, true, Failed},
		{"deleted meanwhile", op, Resource{}, false, Canceled},
		{"made again meanwhile", op, Resource{CreatedAt: born.Add(1), Revision: 3, Observed: 3, State: Succeeded}, true, Canceled},
		{"deletion runs", del, Resource{CreatedAt: born, Revision: 4, Observed: 3, State: Deleting}, true, InProgress},
		{"gone", del, Resource{}, false, Succeeded},
		{"gone and made again", del, Resource{CreatedAt: born.Add(1), Revision: 1}, true, Succeeded},
	} {
		if got := tc.op.status(tc.r, tc.found); got.Status != tc.want || (got.Status == Canceled && got.Error == nil) {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}

func TestTouch_GivesANewETagEachTime(t *testing.T) {
	r := Resource{}
	seen := map[string]bool{}
	for i := range 5 {
		r.Touch(time.Unix(int64(i/3), 0))
		if seen[r.ETag] {
			t.Fatalf("%s again", r.ETag)
		}
		seen[r.ETag] = true
	}
}

// row is a transaction that keeps one resource.
type row struct {
	Tx
	kept Resource
}

func (r *row) Now() time.Time                    { return time.Unix(200, 0) }
func (r *row) Audit(audit.By, audit.Event) error { return nil }
func (r *row) PutResource(x Resource) (_ error)  { r.kept = x; return nil }

// What a worker learned of an older wish does not make a success of a newer one that
// its write has settled as failed, as a deployment whose part is refused.
func TestOutcome_NewsOfTheOlderWish(t *testing.T) {
	failed := Resource{ID: scope.Subscription("s"), Revision: 2, Observed: 2, State: Failed, Error: &Failure{Code: "X"}}
	for _, p := range []Progress{{Done: true}, {Failure: &Failure{Code: "Y"}}} {
		tx, r := &row{}, failed
		if err := (&Engine{}).outcome(tx, Resource{Revision: 1, State: Creating}, &r, p); err != nil || r.State != Failed || r.Error.Code != "X" || tx.kept.State != "" {
			t.Errorf("%+v: %v %+v", p, err, r)
		}
	}
	tx, r := &row{}, Resource{ID: scope.Subscription("s"), Revision: 1, State: Creating}
	if err := (&Engine{}).outcome(tx, r, &r, Progress{Done: true}); err != nil || tx.kept.State != Succeeded || tx.kept.Observed != 1 {
		t.Errorf("its own: %v %+v", err, tx.kept)
	}
}

// A number of a megabyte is not said again, nor kept in a deployment that failed.
func TestStrict_SaysLittle(t *testing.T) {
	var v struct{ A string }
	if err := Strict([]byte(`{"a":`+strings.Repeat("9", 1<<20)+`}`), &v, "body"); err == nil || len(err.Error()) > 1<<10 && len(fault.As(err).Public()) > 500 {
		t.Errorf("%d bytes", len(fault.As(err).Public()))
	}
}

func TestDenied_NamesTheSmallestRole(t *testing.T) {
	for action, role := range map[string]string{"A.B/c/read": "Reader", "Microsoft.Authorization/roleAssignments/write": "User Access Administrator", "A.B/c/write": "Contributor"} {
		if text := roleFor(action); text != role {
			t.Errorf("%s: %s", action, text)
		}
	}
	if !errors.As(missing(scope.Subscription("s")), new(*fault.Error)) {
		t.Error("not a fault")
	}
}

func FuzzReadBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"location":"x","tags":{"a":"b"},"identity":{"type":"None"},"zones":["1"]}`, `{"identity":null}`, `[]`, `null`, `{"LOCATION":1}`} {
		f.Add(s)
	}
	kind := Type{Name: "A.B/c", Title: "thing", Located: true, Identity: true, Top: []string{"zones"}}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := readBody(&kind, []byte(s))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if b.identity != nil && b.identity.user {
			t.Fatalf("%q: identity %v", s, *b.identity)
		}
		for name := range b.top {
			if name != "zones" {
				t.Fatalf("%q kept %q", s, name)
			}
		}
	})
}
