package graph_test

import (
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
)

// TestGraph_EmptyChangeAsksForRights: whoever may not change an object is not told by
// a change of nothing whether it is there.
func TestGraph_EmptyChangeAsksForRights(t *testing.T) {
	w := newWorld(t)
	somebody, other := w.user("somebody"), w.user("other")
	w.role("00000000-0000-4000-8000-0000000000b1", rbac.UserAdministrator, other)
	crew := str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"crew","mailEnabled":false,"mailNickname":"crew","securityEnabled":true}`, 201), "id")
	app := str(w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"app"}`, 201), "id")
	const nobody = "99999999-9999-4999-8999-999999999999"
	for set, id := range map[string]string{"users/": other, "groups/": crew, "applications/": app} {
		for _, body := range []string{`{}`, `{"displayName":"x"}`} {
			w.do(somebody, "PATCH", "/v1.0/"+set+id, body, 403)
			w.do(somebody, "PATCH", "/v1.0/"+set+nobody, body, 403)
			w.do(w.admin, "PATCH", "/v1.0/"+set+id, body, 204)
			w.do(w.admin, "PATCH", "/v1.0/"+set+nobody, body, 404)
		}
	}
	w.do(somebody, "PATCH", "/v1.0/users/"+nobody, `{"passwordProfile":{"password":"four unrelated words there"}}`, 403)
	w.do(w.admin, "PATCH", "/v1.0/users/"+nobody, `{"passwordProfile":{"password":"four unrelated words there"}}`, 404)
	w.do(somebody, "PATCH", "/v1.0/me", `{}`, 204) // of himself it tells nothing
}

// TestGraph_RedirectListsAreApart: an empty list of the one kind is no change of the
// other's.
func TestGraph_RedirectListsAreApart(t *testing.T) {
	w := newWorld(t)
	uris := func(at, kind string) int {
		o, _ := w.do(w.admin, "GET", at, "", 200)[kind].(map[string]any)
		list, _ := o["redirectUris"].([]any)
		return len(list)
	}
	for kind, other := range map[string]string{"web": "publicClient", "publicClient": "web"} {
		at := "/v1.0/applications/" + str(w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"app","`+kind+`":{"redirectUris":["https://a.example/"]}}`, 201), "id")
		w.do(w.admin, "PATCH", at, `{"`+other+`":{"redirectUris":[]}}`, 204)
		w.do(w.admin, "PATCH", at, `{"spa":{"redirectUris":[]}}`, 204)
		if uris(at, kind) != 1 || uris(at, other) != 0 {
			t.Errorf("%s: an empty %s left %d of it, %d of the other", kind, other, uris(at, kind), uris(at, other))
		}
		w.do(w.admin, "PATCH", at, `{"`+kind+`":{"redirectUris":[]},"`+other+`":{"redirectUris":[]}}`, 204)
		if uris(at, kind) != 0 {
			t.Errorf("%s: two empty lists left %d", kind, uris(at, kind))
		}
	}
}

// TestGraph_Nicknames: what cannot be the beginning of an address is refused.
func TestGraph_Nicknames(t *testing.T) {
	w := newWorld(t)
	at := "/v1.0/users/" + w.user("somebody")
	crew := "/v1.0/groups/" + str(w.do(w.admin, "POST", "/v1.0/groups", `{"displayName":"crew","mailEnabled":false,"mailNickname":"crew.1_2-3","securityEnabled":true}`, 201), "id")
	for _, bad := range []string{"a b", " a", "a@b", "a(b", `a\"b`, `a\\b`, "a;b", "a:b", "a,b", "ü", "a\\u0000", "a[b"} {
		body := `{"displayName":"x","mailEnabled":false,"securityEnabled":true,"mailNickname":"` + bad + `"}`
		w.do(w.admin, "PATCH", at, `{"mailNickname":"`+bad+`"}`, 400)
		w.do(w.admin, "PATCH", crew, `{"mailNickname":"`+bad+`"}`, 400)
		handbooktest.Said(t, message(w.do(w.admin, "POST", "/v1.0/groups", body, 400)), "graph.Nickname")
	}
	w.do(w.admin, "PATCH", at, `{"mailNickname":"a.b"}`, 204)
}

// TestGraph_LimitOfCredentialsIsInTheWrite: an application that has no room for a
// certificate keeps its name.
func TestGraph_LimitOfCredentialsIsInTheWrite(t *testing.T) {
	w := newWorld(t)
	at := "/v1.0/applications/" + str(w.do(w.admin, "POST", "/v1.0/applications", `{"displayName":"app"}`, 201), "id")
	for range 20 {
		w.do(w.admin, "POST", at+"/addPassword", `{"passwordCredential":{"displayName":"s"}}`, 200)
	}
	out := w.do(w.admin, "PATCH", at, `{"displayName":"other","keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"`+w.certificates()(1)+`"}]}`, 400)
	if !strings.Contains(message(out), "20 credentials") {
		t.Errorf("%v", out)
	}
	if name := str(w.do(w.admin, "GET", at, "", 200), "displayName"); name != "app" {
		t.Errorf("the application is called %q", name)
	}
}
