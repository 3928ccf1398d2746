package httpd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/route"
)

type doors struct{}

func (doors) Bearer(_ context.Context, token string, _ route.Surface, _ time.Time) (audit.By, error) {
	if token != "good" {
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "the access token is not valid")
	}
	return audit.By{Principal: "u1", Type: audit.User, Address: "forged", CorrelationID: "forged"}, nil
}

func (doors) Machine(context.Context, string) (audit.By, error) {
	return audit.By{}, fault.New(fault.Unauthenticated, "MachineUnknown", "this machine has not joined")
}

func limits() map[string]Limit {
	return map[string]Limit{"": {PerSecond: 1e6, Burst: 1e6}, "slow": {PerSecond: 0.001, Burst: 2}, "person": {PerSecond: 1e6, Burst: 1e6, PrincipalPerSecond: 0.001, PrincipalBurst: 2}}
}

func serve(t *testing.T, row route.Row, h HandlerFunc) *Server {
	t.Helper()
	m := NewMux()
	row.ID = "x"
	m.Handle("x", h)
	s, err := New(Config{Rows: []route.Row{row}, Mux: m, Authenticator: doors{}, Limits: limits(), Authority: "https://h/adfs", Now: time.Now, Rand: rand.Reader,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func do(s *Server, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestNew_RefusesHoles(t *testing.T) {
	ok := func(*Call) error { return nil }
	for name, build := range map[string]func(*Mux) []route.Row{
		"row without handler":  func(*Mux) []route.Row { return []route.Row{{ID: "a", Door: route.Public}} },
		"handler without row":  func(m *Mux) []route.Row { m.Handle("a", ok); return nil },
		"row without door":     func(m *Mux) []route.Row { m.Handle("a", ok); return []route.Row{{ID: "a"}} },
		"no action, no reason": func(m *Mux) []route.Row { m.Handle("a", ok); return []route.Row{{ID: "a", Door: route.Caller}} },
		"unknown limiter": func(m *Mux) []route.Row {
			m.Handle("a", ok)
			return []route.Row{{ID: "a", Door: route.Public, Limiter: "nope"}}
		},
		"handled twice": func(m *Mux) []route.Row {
			m.Handle("a", ok)
			m.Handle("a", ok)
			return []route.Row{{ID: "a", Door: route.Public}}
		},
	} {
		m := NewMux()
		rows := build(m)
		if _, err := New(Config{Rows: rows, Mux: m, Limits: limits()}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestMatch_FoldsARMAndGraphAndNeverTheNames(t *testing.T) {
	arm := serve(t, route.Row{Method: "GET", Pattern: "/subscriptions/{sub}/resourceGroups/{rg}", Door: route.Public, Surface: route.ARM},
		func(c *Call) error { return c.JSON(200, c.Var("sub")+"|"+c.Var("rg")) })
	if w := do(arm, "GET", "//SUBSCRIPTIONS/Aa/resourcegroups/My-RG?api-version=2022-09-01"); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `"Aa|My-RG"` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	graph := serve(t, route.Row{Method: "GET", Pattern: "/v1.0/users/{id}", Door: route.Public, Surface: route.Graph}, func(c *Call) error { return c.JSON(200, c.Var("id")) })
	if w := do(graph, "GET", "/V1.0/USERS/Aa"); w.Body.String() != `"Aa"` { // az: /v1.0/oAuth2PermissionGrants
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	agent := serve(t, route.Row{Method: "GET", Pattern: "/machine/v1/me", Door: route.Public, Surface: route.Agent}, func(c *Call) error { return c.JSON(200, "me") })
	if w := do(agent, "GET", "/machine/v1/Me"); w.Code != 404 {
		t.Fatalf("%d", w.Code)
	}
	if w := do(graph, "GET", "/v1.0/users/alice%40corp.example"); w.Body.String() != `"alice@corp.example"` {
		t.Fatalf("%s", w.Body)
	}
}

func TestMatch_TailInTheMiddle(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/{scope...}/providers/Microsoft.Authorization/roleAssignments/{name}", Door: route.Public, Surface: route.ARM},
		func(c *Call) error { return c.JSON(200, c.Var("scope")+"|"+c.Var("name")) })
	if w := do(s, "GET", "/subscriptions/S/resourceGroups/RG/providers/microsoft.authorization/roleassignments/N"); w.Body.String() != `"subscriptions/S/resourceGroups/RG|N"` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestPath_DotsAndEncodedSlashesAreRefused(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/{a}/{b}", Door: route.Public, Surface: route.ARM}, func(c *Call) error { return c.JSON(200, c.Var("b")) })
	for _, p := range []string{"/x/%2e%2e", "/x/a%2Fb", "/x/a%5Cb", "/x/%00", "/x/a%0d%0ab"} {
		if w := do(s, "GET", p); w.Code != 400 {
			t.Errorf("%s: %d %s", p, w.Code, w.Body)
		}
	}
}

func TestDoor_CallerIsCheckedAndByIsOurs(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/subscriptions", Door: route.Caller, Why: "a list of one's own", Surface: route.ARM}, func(c *Call) error { return c.JSON(200, c.By) })
	for _, h := range []string{"", "Bearer ", "Basic Zm9v", "Bearer bad", "bearer good"} {
		if w := do(s, "GET", "/subscriptions", "Authorization", h); w.Code != 401 || !strings.Contains(w.Header().Get("WWW-Authenticate"), `authorization_uri="https://h/adfs"`) {
			t.Errorf("%q: %d %v", h, w.Code, w.Header())
		}
	}
	w := do(s, "GET", "/subscriptions", "Authorization", "Bearer good", "x-ms-client-request-id", "client-1", "X-Forwarded-For", "6.6.6.6")
	var by audit.By
	if err := json.Unmarshal(w.Body.Bytes(), &by); err != nil {
		t.Fatal(err)
	}
	if by.Address != "192.0.2.1" || by.CorrelationID == "forged" || len(by.CorrelationID) != 36 || by.ClientRequestID != "client-1" || by.Principal != "u1" {
		t.Fatalf("%+v", by)
	}
}

func TestDoor_MachineTakesNoBearer(t *testing.T) {
	s := serve(t, route.Row{Method: "POST", Pattern: "/machine/v1/poll", Door: route.Machine, Surface: route.Agent}, func(c *Call) error { return c.NoContent(204) })
	if w := do(s, "POST", "/machine/v1/poll", "Authorization", "Bearer good"); w.Code != 401 {
		t.Fatalf("%d", w.Code)
	}
}

func TestErrors_ShowNoInternals(t *testing.T) {
	for _, surface := range []route.Surface{route.Page, route.OAuth, route.ARM, route.Graph, route.Agent} {
		for _, err := range []error{errors.New("sql: /var/lib/x.go:12 goroutine"), fault.Wrap(errors.New("sql: secret"), fault.NotFound, "ResourceNotFound", "no such thing")} {
			s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Surface: surface}, func(*Call) error { return err })
			w := do(s, "GET", "/a")
			for _, leak := range []string{"sql:", ".go:", "goroutine", "secret"} {
				if strings.Contains(w.Body.String(), leak) {
					t.Errorf("surface %d leaks %q: %s", surface, leak, w.Body)
				}
			}
			if w.Code < 400 || w.Header().Get("Retry-After") != "" {
				t.Errorf("surface %d: %d", surface, w.Code)
			}
		}
		s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Surface: surface}, func(*Call) error { panic("goroutine secret") })
		if w := do(s, "GET", "/a"); w.Code < 400 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("surface %d: panic gave %d %s", surface, w.Code, w.Body)
		}
	}
}

func TestErrors_PageEscapes(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/other", Door: route.Public}, func(*Call) error { return nil })
	if w := do(s, "GET", "/%3Cscript%3E"); w.Code != 404 || strings.Contains(w.Body.String(), "<script>") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestLimiter_Refuses(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/a", Door: route.Public, Limiter: "slow", Surface: route.OAuth}, func(c *Call) error { return c.NoContent(204) })
	codes := []int{do(s, "GET", "/a").Code, do(s, "GET", "/a").Code, do(s, "GET", "/a").Code}
	if codes[0] != 204 || codes[1] != 204 || codes[2] != 429 {
		t.Fatalf("%v", codes)
	}
}

func TestForm_RepeatedParameterIsRefused(t *testing.T) {
	s := serve(t, route.Row{Method: "POST", Pattern: "/t", Door: route.Client, Surface: route.OAuth}, func(c *Call) error {
		_, err := c.Form()
		return err
	})
	r := httptest.NewRequest("POST", "/t", strings.NewReader("a=1&a=2"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "invalid_request") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
