package operations

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/httpd"
	"sallyport/internal/route"
)

func get(t *testing.T, state map[string]string, target string) *httptest.ResponseRecorder {
	t.Helper()
	rows := slices.DeleteFunc(route.All(), func(r route.Row) bool { return !strings.HasPrefix(r.ID, "operations.") })
	h, err := New(Config{Rows: route.All(), URL: "https://h", Ready: func(context.Context) map[string]string { return state }})
	if err != nil {
		t.Fatal(err)
	}
	mux := httpd.NewMux()
	h.Mount(mux)
	s, err := httpd.New(httpd.Config{Rows: rows, Mux: mux, Limits: map[string]httpd.Limit{"read": {PerSecond: 100, Burst: 100}, "package": {PerSecond: 100, Burst: 100}, "login": {PerSecond: 1, Burst: 1}}, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
	return w
}

func TestHealth_AnswersWhateverIsNotReady(t *testing.T) {
	if w := get(t, map[string]string{"store": "no answer"}, "/healthz"); w.Code != 200 || w.Body.String() != `{"status":"ok"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestReady_OneFailedCheckIsEnough(t *testing.T) {
	if w := get(t, map[string]string{"store": "ok", "keys": "ok"}, "/readyz"); w.Code != 200 || w.Body.String() != `{"status":"ready","checks":{"keys":"ok","store":"ok"}}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := get(t, map[string]string{"store": "no answer", "keys": "ok"}, "/readyz"); w.Code != 503 || !strings.Contains(w.Body.String(), `"status":"unready"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestOpenAPI_IsServed(t *testing.T) {
	w := get(t, nil, "/openapi.json")
	var d doc
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 || d.Paths["/openapi.json"] == nil || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Fatalf("%d %v %v", w.Code, err, w.Header())
	}
}
