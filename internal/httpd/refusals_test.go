package httpd

import (
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/internal/route"
)

// A form is one by its type, and can be read.
func TestForm_Refusals(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	s := serve(t, route.Row{Method: "POST", Pattern: "/x", Door: route.Public, Surface: route.OAuth}, func(c *Call) error {
		if _, err := c.Form(); err != nil {
			return err
		}
		return c.NoContent(204)
	})
	for _, c := range []struct {
		kind, body string
		status     int
		words      string
	}{
		{form, "a=1&b=2", 204, ""},
		{"application/json", `{"a":1}`, 400, "the request's body must be application/x-www-form-urlencoded"},
		{form, "a=%zz", 400, "the request's form could not be read"},
		{form, "a=1&a=2", 400, "is given more than once"},
	} {
		r := httptest.NewRequest("POST", "/x", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.words) {
			t.Errorf("%s as %s: %d %s", c.body, c.kind, w.Code, w.Body)
		}
	}
}

// A door that nobody knows is closed.
func TestDoor_UnknownIsClosed(t *testing.T) {
	s := serve(t, route.Row{Method: "GET", Pattern: "/x", Door: route.Machine + 99}, func(c *Call) error { return c.NoContent(204) })
	if w := do(s, "GET", "/x", "Authorization", "Bearer good"); w.Code != 403 || !strings.Contains(w.Body.String(), "this operation is closed") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
