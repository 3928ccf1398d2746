//go:build e2e

package az

import (
	"strings"
	"testing"
)

// TestOwners: who owns a group and an application, what one owns, and what one is in,
// through other groups and by directory roles.
func TestOwners(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	person := user(t, "owner")
	who := a.must(t, "ad", "user", "show", "--id", person.name, "--query", "id", "-o", "tsv")
	made := func(name string) string {
		return a.must(t, "ad", "group", "create", "--display-name", name, "--mail-nickname", name, "--query", "id", "-o", "tsv")
	}
	inner, outer := made("owned-inner"), made("owned-outer")
	owner := func(verb string, more ...string) []string {
		return append([]string{"ad", "group", "owner", verb, "-g", inner}, more...)
	}
	list := owner("list", "--query", "sort([].displayName)", "-o", "tsv")
	if got := a.must(t, list...); got != "" {
		t.Errorf("a new group belongs to %q", got)
	}
	a.must(t, owner("add", "--owner-object-id", who)...)
	a.must(t, owner("add", "--owner-object-id", who)...) // az looks first
	a.fails(t, 1, []string{"at least one owner"}, owner("remove", "--owner-object-id", who)...)
	me := a.must(t, "ad", "signed-in-user", "show", "--query", "id", "-o", "tsv")
	a.must(t, owner("add", "--owner-object-id", me)...)
	if got := a.answer(t, owner("list")...).([]any); len(got) != 2 {
		t.Errorf("owners: %v", got)
	}
	a.must(t, owner("remove", "--owner-object-id", me)...)
	app := a.must(t, "ad", "app", "create", "--display-name", "owned-app", "--query", "appId", "-o", "tsv")
	a.must(t, "ad", "sp", "create", "--id", app)
	a.must(t, "ad", "app", "owner", "add", "--id", app, "--owner-object-id", who)
	a.must(t, "ad", "group", "member", "add", "-g", inner, "--member-id", who)
	a.must(t, "ad", "group", "member", "add", "-g", outer, "--member-id", inner)
	a.must(t, "rest", "-m", "post", "--url", theWorld.url+"/v1.0/roleManagement/directory/roleAssignments", "--resource", theWorld.url,
		"--body", `{"roleDefinitionId":"f2ef992c-3afb-46b9-b7cf-a126ee74c451","principalId":"`+who+`","directoryScopeId":"/"}`)
	if got := a.must(t, "ad", "user", "get-member-groups", "--id", person.name, "--query", "sort([].displayName)", "-o", "tsv"); strings.Join(strings.Fields(got), " ") != "owned-inner owned-outer" {
		t.Errorf("groups of a person: %q", got)
	}
	if got := a.must(t, "ad", "group", "get-member-groups", "-g", "owned-inner", "-o", "tsv"); got != outer {
		t.Errorf("groups of a group: %q", got)
	}
	if got := a.must(t, "ad", "group", "member", "check", "-g", outer, "--member-id", who, "--query", "value", "-o", "tsv"); got != "true" {
		t.Errorf("a member through another group: %s", got)
	}
	if got := a.must(t, "rest", "-m", "post", "--url", theWorld.url+"/v1.0/users/"+who+"/getMemberObjects", "--resource", theWorld.url, "--body", `{"securityEnabledOnly":false}`, "--query", "length(value)", "-o", "tsv"); got != "3" {
		t.Errorf("%s groups and roles", got)
	}
	p := person.inOne(t)
	if got := p.must(t, "ad", "signed-in-user", "list-owned-objects", "--query", "sort([].displayName)", "-o", "tsv"); strings.Join(strings.Fields(got), " ") != "owned-app owned-app owned-inner" {
		t.Errorf("owned objects: %q", got)
	}
	for want, words := range map[string][]string{
		"owned-inner": {"ad", "signed-in-user", "list-owned-objects", "-t", "group", "--query", "[].displayName"},
		app:           {"ad", "app", "list", "--show-mine", "--query", "[].appId"},
		"Application": {"ad", "sp", "list", "--show-mine", "--query", "[].servicePrincipalType"},
		who:           {"ad", "sp", "owner", "list", "--id", app, "--query", "[?id=='" + who + "'].id"},
	} {
		if got := p.must(t, append(words, "-o", "tsv")...); got != want {
			t.Errorf("%s: %q, want %q", strings.Join(words, " "), got, want)
		}
	}
	p.fails(t, 1, []string{"insufficient privileges"}, "ad", "group", "member", "add", "-g", inner, "--member-id", me)
	p.fails(t, 1, []string{"insufficient privileges"}, "ad", "group", "delete", "-g", inner)
	p.fails(t, 1, []string{"insufficient privileges"}, "ad", "group", "owner", "add", "-g", inner, "--owner-object-id", me)
}
