package httpd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/route"
)

func at(seconds float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestLimiter_RateAndBurst(t *testing.T) {
	l := newLimiter(map[string]Limit{"c": {PerSecond: 2, Burst: 3}})
	allowed := func(address string, when float64) bool { return l.address("c", address, at(when)) == nil }
	for i, c := range []struct {
		address string
		when    float64
		want    bool
	}{{"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, false}, {"192.0.2.1", 0.4, false}, {"192.0.2.1", 0.5, true}, {"192.0.2.1", 0.5, false},
		{"192.0.2.2", 0.5, true}, {"192.0.2.1", 10, true}, {"192.0.2.1", 10, true}, {"192.0.2.1", 10, true}, {"192.0.2.1", 10, false},
		// one customer, one /64
		{"2001:db8::1", 0, true}, {"2001:db8::2", 0, true}, {"2001:db8::ffff:0:3", 0, true}, {"2001:db8::4", 0, false}, {"2001:db8:0:1::1", 0, true}} {
		if got := allowed(c.address, c.when); got != c.want {
			t.Errorf("%d: %s at %v: %v", i, c.address, c.when, got)
		}
	}
}

// A flood from more addresses than the limiter knows one by one does not give
// anybody a new bucket, and nobody of the flood gets through for long.
func TestLimiter_AddressFloodForgetsNobody(t *testing.T) {
	l := newLimiter(map[string]Limit{"c": {PerSecond: 0.01, Burst: 2}})
	spent := func(address string) bool {
		for range 2 {
			_ = l.address("c", address, at(0))
		}
		return l.address("c", address, at(0)) != nil
	}
	if !spent("192.0.2.1") {
		t.Fatal("no limit")
	}
	through := 0
	for i := range 3 * maxKnown {
		if l.address("c", fmt.Sprintf("2001:db8:%x:%x::1", i>>8, i&0xff), at(1)) == nil {
			through++
		}
	}
	if l.address("c", "192.0.2.1", at(2)) == nil {
		t.Error("a flood of addresses gave a spent bucket back")
	}
	if len(l.known) > maxKnown {
		t.Errorf("%d buckets", len(l.known))
	}
	if limit := maxKnown + 2*sharedSize; through > limit {
		t.Errorf("%d of the flood got through, more than %d", through, limit)
	}
	// What is full again makes room: nobody is shut out for good.
	if l.address("c", "198.51.100.1", at(300)) != nil || len(l.known) != 1 {
		t.Errorf("%d buckets after the flood", len(l.known))
	}
}

// A flood that fills what is known takes nothing from another class, nor from
// callers: rates that differ by a thousand never share a bucket.
func TestLimiter_FloodStaysInItsClass(t *testing.T) {
	l := newLimiter(map[string]Limit{"slow": {PerSecond: 1, Burst: 100}, "quick": {PerSecond: 5_000, Burst: 20_000, PrincipalPerSecond: 10, PrincipalBurst: 100}})
	at := time.Unix(1e9, 0)
	place := func(i int) string { return fmt.Sprintf("%d.%d.%d.%d", 11+i>>24, i>>16&255, i>>8&255, i&255) }
	for i := range 4 * maxKnown {
		_ = l.address("slow", place(i*7), at)
	}
	for i := range 20_000 {
		if err := l.address("quick", place(i*263), at); err != nil {
			t.Fatalf("place %d: %v", i, err)
		}
		if err := l.caller("quick", audit.By{Principal: fmt.Sprint(i), Type: audit.Machine}, at); err != nil {
			t.Fatalf("caller %d: %v", i, err)
		}
	}
}

func TestLimiter_OneCallerFromManyAddresses(t *testing.T) {
	l := newLimiter(map[string]Limit{"c": {PerSecond: 100, Burst: 100, PrincipalPerSecond: 1, PrincipalBurst: 2}})
	by := audit.By{Principal: "u1", Type: audit.User}
	for i, want := range []bool{true, true, false} {
		if got := l.caller("c", by, at(0)) == nil; got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if l.caller("c", audit.By{Principal: "u2"}, at(0)) != nil || l.caller("c", by, at(1)) != nil {
		t.Error("another caller, or the next second")
	}
}

func TestPrincipalLimit(t *testing.T) {
	l := NewPrincipalLimit(1, 2)
	by := audit.By{Principal: "u1", Type: audit.User, At: at(0)}
	first, second := l.Allow(by), l.Allow(by)
	if first != nil || second != nil || !fault.Is(l.Allow(by), fault.Exhausted) || l.Allow(audit.By{Principal: "u2", At: at(0)}) != nil {
		t.Error("one principal, two tokens")
	}
}

// The principal's limit is asked on every door that names one.
func TestDoor_CallersAreLimited(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Caller, Why: "a test", Surface: route.ARM, Limiter: "person"}, func(c *Call) error { return c.NoContent(204) })
	var codes []int
	for i := range 3 {
		r := httptest.NewRequest("GET", "/a", nil)
		r.RemoteAddr = "192.0.2." + strconv.Itoa(i) + ":1"
		r.Header.Set("Authorization", "Bearer good")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		codes = append(codes, w.Code)
	}
	if codes[0] != 204 || codes[1] != 204 || codes[2] != 429 {
		t.Fatal(codes)
	}
}

// Only what passes by itself is told when to come again: a client that repeats a
// request for a locked name, or for what is used up, makes its person wait for nothing.
func TestExhausted_IsNotThrottled(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Surface: route.Agent}, func(*Call) error { return fault.New(fault.Exhausted, "AccountLocked", "locked") })
	if w := do(s, "GET", "/a"); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

// 429 in each surface's own shape. A token answer has no Retry-After: MSAL
// replays what has one (azure reference, section 7).
func TestThrottled_Shapes(t *testing.T) {
	for surface, code := range map[route.Surface]string{route.OAuth: "", route.ARM: "TooManyRequests", route.Graph: "TooManyRequests", route.Agent: "TooManyRequests", route.Page: ""} {
		s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Surface: surface}, func(*Call) error { return errTooMany("from a test", 2500*time.Millisecond) })
		w := do(s, "GET", "/a")
		if w.Code != http.StatusTooManyRequests {
			t.Fatalf("surface %d: %d", surface, w.Code)
		}
		want := "3"
		if surface == route.OAuth {
			want = ""
		}
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("surface %d: Retry-After %q", surface, got)
		}
		var body struct {
			Code  string
			Error json.RawMessage
		}
		_ = json.Unmarshal(w.Body.Bytes(), &body)
		switch surface {
		case route.OAuth:
			if !strings.Contains(w.Body.String(), `"error":"temporarily_unavailable"`) || !strings.Contains(w.Body.String(), "[90055]") {
				t.Error(w.Body)
			}
		case route.ARM, route.Graph:
			var e struct {
				Code       string
				Message    string
				InnerError map[string]string
			}
			if json.Unmarshal(body.Error, &e) != nil || e.Code != code || !strings.Contains(e.Message, "3 seconds") || surface == route.Graph && e.InnerError["status"] != "429" {
				t.Error(w.Body)
			}
		case route.Agent:
			if body.Code != code {
				t.Error(w.Body)
			}
		case route.Page:
		}
	}
}

// A class that is full refuses at once, and one place cannot fill it.
func TestGate_RoomAndShares(t *testing.T) {
	g := newGate(map[string]Limit{"c": {InFlight: 8}, "free": {}})
	var leave []func()
	enter := func(address string) bool {
		out, err := g.enter("c", address)
		if err == nil {
			leave = append(leave, out)
		}
		return err == nil
	}
	for i := range 4 {
		if !enter("192.0.2.1") {
			t.Fatal(i)
		}
	}
	if enter("192.0.2.1") {
		t.Error("one place took more than its share of a half-full class")
	}
	for i := range 4 {
		if !enter("192.0.2." + strconv.Itoa(10+i)) {
			t.Errorf("place %d found no room", i)
		}
	}
	if enter("192.0.2.99") {
		t.Error("more than the room")
	}
	for _, out := range leave {
		out()
	}
	if in := g.classes["c"]; in.total != 0 || len(in.from) != 0 {
		t.Errorf("left behind: %+v", in)
	}
	if _, err := g.enter("free", "192.0.2.1"); err != nil {
		t.Error(err)
	}
}
