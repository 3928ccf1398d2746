package arm_test

import (
	"net/http"
	"strings"
)

// follow polls a long-running operation to its end, as a client would.
func (s *server) follow(answer *http.Response) {
	s.t.Helper()
	poll := answer.Header.Get("Azure-AsyncOperation")
	if poll == "" {
		return
	}
	if answer.Header.Get("x-ms-retry-after-ms") != "200" || answer.Header.Get("Retry-After") == "" || answer.Header.Get("Location") == "" {
		s.t.Errorf("headers: %v", answer.Header)
	}
	running, v := s.call(admin, http.MethodGet, strings.TrimPrefix(poll, base), "")
	if dig(v, "status") == "InProgress" && running.Header.Get("x-ms-retry-after-ms") != "200" {
		s.t.Error("a running operation does not say when to ask again")
	}
	if r, _ := s.call(admin, http.MethodGet, strings.TrimPrefix(answer.Header.Get("Location"), base), ""); dig(v, "status") == "InProgress" && r.StatusCode != http.StatusAccepted {
		s.t.Errorf("result of a running operation: %d", r.StatusCode)
	}
	s.work()
	_, v = s.call(admin, http.MethodGet, strings.TrimPrefix(poll, base), "")
	if dig(v, "status") != "Succeeded" {
		s.t.Fatalf("%s: %v", poll, v)
	}
	r, made := s.call(admin, http.MethodGet, strings.TrimPrefix(answer.Header.Get("Location"), base), "")
	if of, _ := dig(v, "properties", "resourceId").(string); dig(v, "properties", "action") == "write" {
		if id, _ := dig(made, "id").(string); r.StatusCode != http.StatusOK || !strings.EqualFold(id, of) {
			s.t.Errorf("result of a write of %s: %d %v", of, r.StatusCode, made)
		}
	} else if r.StatusCode != http.StatusNoContent {
		s.t.Errorf("result: %d", r.StatusCode)
	}
}
