package httpd

import (
	"slices"
	"strings"
	"testing"
)

func TestOData(t *testing.T) {
	for given, want := range map[string]string{
		"v1.0/users('a')/memberOf":                          "v1.0/users/a/memberOf",
		"v1.0/users('o''neil@corp.example')":                "v1.0/users/o'neil@corp.example",
		"v1.0/applications(appId='x')/owners":               "v1.0/applications/(appId='x')/owners",
		"v1.0/users/a/microsoft.graph.revokeSignInSessions": "v1.0/users/a/revokeSignInSessions",
		"v1.0/me/graph.memberOf":                            "v1.0/me/memberOf",
		"v1.0/users/graph.smith@corp.example":               "v1.0/users/graph.smith@corp.example", // a person
		"v1.0/users/microsoft.graph.7@corp.example":         "v1.0/users/microsoft.graph.7@corp.example",
		"v1.0/groups/g/members/$count":                      "v1.0/groups/g/members #",
		"v1.0/users/$count":                                 "v1.0/users #",
		"v1.0/$count":                                       "v1.0/$count",
		"v1.0/groups/g/members/microsoft.graph.user":        "v1.0/groups/g/members user",
		"v1.0/me/memberOf/Graph.Group/$count":               "v1.0/me/memberOf # Group",
		"v1.0/users/user":                                   "v1.0/users/user", // a name
		"v1.0/groups/g/members/a/$ref":                      "v1.0/groups/g/members/a/$ref",
		"v1.0/users()":                                      "v1.0/users()",
		"v1.0/users('')":                                    "v1.0/users/('')",
		"v1.0/users('a'":                                    "v1.0/users('a'",
	} {
		out, how := odata(strings.Split(given, "/"), true)
		got := strings.Join(out, "/")
		if how.counted {
			got += " #"
		}
		if how.cast != "" {
			got += " " + how.cast
		}
		if got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
	if out, how := odata([]string{"v1.0", "users", "$count"}, false); len(out) != 3 || how.counted {
		t.Error("a write asks for no number")
	}
}

// What needs no rewriting is left alone, so that no id becomes another one's, and what
// was rewritten is not rewritten again.
func FuzzOData(f *testing.F) {
	f.Add("users('a')/memberOf/$count")
	f.Add("applications(appId='x')")
	f.Add("users/microsoft.graph.user")
	f.Fuzz(func(t *testing.T, path string) {
		given := append([]string{"v1.0"}, strings.Split(path, "/")...)
		was := slices.Clone(given)
		out, _ := odata(given, true)
		if !slices.Equal(given, was) {
			t.Fatal("the path was changed in place")
		}
		if len(out) > 2*len(given) || out[0] != "v1.0" {
			t.Fatal(out)
		}
		if !strings.ContainsAny(path, "($.") && len(given) < 4 && !slices.Equal(out, given) {
			t.Errorf("%q became %q", given, out)
		}
	})
}
