//go:build e2e

package az

import (
	"strings"
	"testing"
)

// TestManagementGroups: the tree, a subscription in it and out again, and a role at
// a management group. Nobody else's subscription moves: the world has one, which
// comes back to where it was.
func TestManagementGroups(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	mg := func(words ...string) []string { return append([]string{"account", "management-group"}, words...) }
	const quick = "--no-register" // az waits ten seconds otherwise
	a.must(t, mg("create", "-n", "platform", "--display-name", "Platform", quick)...)
	made := a.answer(t, mg("create", "-n", "linux", "--parent", "platform", quick)...)
	a.must(t, mg("update", "-n", "linux", "--display-name", "Linux machines")...)
	subscription := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	if got := a.must(t, mg("subscription", "add", "--name", "linux", "--subscription", subscription, "--query", "parent.id", "-o", "tsv")...); got != text(made, "id") {
		t.Errorf("subscription add: %s", got)
	}
	tree := a.answer(t, mg("show", "-n", "platform", "-e", "-r", quick)...)
	if text(tree, "children", 0, "displayName") != "Linux machines" || text(tree, "children", 0, "children", 0, "name") != subscription {
		t.Errorf("show -e -r: %v", tree)
	}
	bob := user(t, "bob-of-groups")
	a.must(t, "role", "assignment", "create", "--role", "Reader", "--assignee", bob.name, "--scope", text(made, "id"))
	bob.must(t, "login", "-u", bob.name, "-p", bob.password)
	if got := bob.must(t, "group", "show", "-n", group, "--query", "name", "-o", "tsv"); got != group {
		t.Errorf("a Reader of the management group reads %q", got)
	}
	if got := a.must(t, mg("entities", "list", "--query", "[?name=='linux'].parentNameChain[-1]", "-o", "tsv")...); got != "platform" {
		t.Errorf("entities: %q", got)
	}
	if got := a.must(t, mg("check-name-availability", "-n", "linux", "--query", "reason", "-o", "tsv")...); got != "AlreadyExists" {
		t.Errorf("check-name-availability: %q", got)
	}
	a.fails(t, 1, []string{"ManagementGroupNotEmpty"}, mg("delete", "-n", "linux", quick)...)
	a.must(t, mg("subscription", "remove", "--name", "linux", "--subscription", subscription)...)
	bob.fails(t, 1, []string{"AuthorizationFailed"}, "group", "show", "-n", group)
	for _, name := range []string{"linux", "platform"} {
		a.must(t, mg("delete", "-n", name, quick)...)
	}
	if left := a.must(t, mg("list", quick, "--query", "length([?name=='linux' || name=='platform'])")...); left != "0" {
		t.Errorf("%s management groups are left", left)
	}
}

// TestResources: az resource and az tag, which know no type and ask the catalogue.
func TestResources(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own = "Generic"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--tags", "team=red", "--query", "id", "-o", "tsv")
	address := []string{"-g", own, "-n", "web", "--resource-type", "Microsoft.Network/publicIPAddresses"}
	of := func(verb string, more ...string) []string {
		return append(append([]string{"resource", verb}, address...), more...)
	}
	id := a.must(t, of("create", "--properties", "{}", "-l", place, "--query", "id", "-o", "tsv")...)
	a.must(t, of("tag", "--tags", "team=red")...)
	a.must(t, of("update", "--set", "tags.stage=try")...)
	if got := a.must(t, "resource", "show", "--ids", id, "--query", "tags.[team,stage]", "-o", "tsv"); strings.Join(strings.Fields(got), " ") != "red try" {
		t.Errorf("resource show: %q", got)
	}
	for want, words := range map[string][]string{
		"web": {"-g", own, "--query", "[?createdTime!=null].name"}, own + "/web": {"--tag", "stage=try", "--query", "[].join('/', [resourceGroup, name])"},
		"": {"-g", own, "--resource-type", "Microsoft.Compute/virtualMachines", "--query", "[].name"},
	} {
		if got := a.must(t, append([]string{"resource", "list", "-o", "tsv"}, words...)...); got != want {
			t.Errorf("resource list %v: %q", words, got)
		}
	}
	tag := func(words ...string) []string { return append([]string{"tag"}, words...) }
	a.must(t, tag("update", "--resource-id", id, "--operation", "Merge", "--tags", "Stage=live")...)
	a.must(t, tag("update", "--resource-id", id, "--operation", "Delete", "--tags", "team=red")...)
	if got := a.must(t, tag("list", "--resource-id", id, "--query", "properties.tags.Stage", "-o", "tsv")...); got != "live" {
		t.Errorf("tag list: %q", got)
	}
	a.must(t, tag("create", "--resource-id", rg, "--tags", "team=blue")...)
	if got := a.must(t, "group", "list", "--tag", "team=blue", "--query", "[].name", "-o", "tsv"); got != own {
		t.Errorf("group list --tag: %q", got)
	}
	a.must(t, tag("create", "-n", "owner")...)
	a.must(t, tag("add-value", "-n", "owner", "--value", "me")...)
	if got := a.must(t, tag("list", "--query", "[?tagName=='owner'].values[0].tagValue", "-o", "tsv")...); got != "me" {
		t.Errorf("tag list: %q", got)
	}
	a.fails(t, 1, []string{"PredefinedTagNameHasValues"}, tag("delete", "-n", "owner", "--yes")...) // as in Azure
	a.must(t, tag("remove-value", "-n", "owner", "--value", "me")...)
	a.must(t, tag("delete", "-n", "owner", "--yes")...)
	a.fails(t, 1, []string{"OnlyHere"}, "resource", "show", "-g", own, "-n", "x", "--resource-type", "Microsoft.Compute/OnlyHere")
	a.must(t, of("delete")...)
	a.must(t, "group", "delete", "-n", own, "--yes")
}
