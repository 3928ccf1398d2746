package rbac

import "testing"

// A role includes another only when nothing of the other is left over; where
// subtraction makes that unclear the answer is no.
func TestIncludes_NeverTooMuch(t *testing.T) {
	const plus, narrow, swallow = "10000000-0000-4000-8000-000000000001", "10000000-0000-4000-8000-000000000002", "10000000-0000-4000-8000-000000000003"
	x := newIndex(nil, append(BuiltIns(),
		Definition{ID: plus, Permissions: []Permission{{Actions: []string{"a/*/read"}}}},
		Definition{ID: narrow, Permissions: []Permission{{Actions: []string{"a/b/read"}}}},
		Definition{ID: swallow, Permissions: []Permission{{Actions: []string{"a/b/*", "a/c/read"}}}}))
	for _, tc := range []struct {
		what, a, b string
		want       bool
	}{
		{"itself", Contributor, Contributor, true},
		{"everything over reading", Owner, Reader, true},
		{"everything over everything less something", Owner, Contributor, true},
		{"less something over reading", Contributor, Reader, false},
		{"reading over everything", Reader, Owner, false},
		{"owner has no data actions", Owner, VMUserLogin, false},
		{"administrator login over user login", VMAdministratorLogin, VMUserLogin, true},
		{"user login over administrator login", VMUserLogin, VMAdministratorLogin, false},
		{"global over user administrator", GlobalAdministrator, UserAdministrator, true},
		{"user administrator over global", UserAdministrator, GlobalAdministrator, false},
		{"user over application administrator", UserAdministrator, ApplicationAdministrator, false},
		{"star over text", plus, narrow, true},
		{"text over star", narrow, plus, false},
		{"star elsewhere", swallow, plus, false},
		{"unknown", "x", Reader, false},
		{"over unknown", Owner, "x", false},
	} {
		if got := x.includes(tc.a, tc.b); got != tc.want {
			t.Errorf("%s: %v", tc.what, got)
		}
	}
}
