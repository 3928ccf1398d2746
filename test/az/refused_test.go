//go:build e2e

package az

import (
	"strings"
	"testing"
)

// TestRefused: what is refused, and what Azure has and this server has not, ends
// with a sentence of az and never with a traceback, whatever az reads of the answer.
func TestRefused(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own = "Refused"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--query", "id", "-o", "tsv")
	vm := func(name string, more ...string) []string {
		return append([]string{"vm", "create", "-g", own, "-n", name, "--image", "UbuntuLTS", "--admin-username", "azureuser", "--generate-ssh-keys"}, more...)
	}
	for _, c := range []struct {
		code  int
		says  string
		words []string
	}{
		{1, "InvalidResourceName", vm("bad!name")},
		{1, "dataDisks", vm("box", "--data-disk-sizes-gb", "10")},
		{1, "customData", vm("box", "--custom-data", "hello")},
		{1, "Microsoft.Network/loadBalancers", []string{"vmss", "create", "-g", own, "-n", "set", "--image", "UbuntuLTS", "--admin-username", "azureuser", "--generate-ssh-keys"}},
		{3, "(ResourceNotFound)", []string{"vm", "show", "-g", own, "-n", "box"}}, // nothing of it was made
		{3, "(InvalidResourceType)", []string{"disk", "list", "-g", own}},
		{3, "one disk", []string{"disk", "create", "-g", own, "-n", "d", "--size-gb", "1"}},
		{3, "sally ssh vm", []string{"vm", "run-command", "invoke", "-g", own, "-n", "box", "--command-id", "RunShellScript", "--scripts", "id"}},
		{3, "A size decides", []string{"vm", "list-skus", "-l", place}},
		{3, "no quotas", []string{"vm", "list-usage", "-l", place}},
		{3, "sally audit list", []string{"monitor", "activity-log", "list", "-g", own}},
		{3, "sally role assignment list", []string{"lock", "create", "-g", own, "-n", "l", "--lock-type", "CanNotDelete"}},
		{3, "(InvalidResourceNamespace)", []string{"storage", "account", "list"}},
		{3, "(InvalidResourceNamespace)", []string{"resource", "create", "-g", own, "-n", "x", "--resource-type", "Microsoft.Foo/bars", "--properties", "{}"}},
		{1, "InvalidResourceType", []string{"rest", "--method", "put", "--url", rg + "/providers/Microsoft.Compute/disks/d?api-version=2024-03-02", "--body", "{}"}},
		{3, "az deployment group create", []string{"deployment", "sub", "list"}},
	} {
		r := a.az(c.words...)
		if r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("az %s: exit %d and %q wanted: %s", strings.Join(c.words, " "), c.code, c.says, r)
		}
		for _, bad := range []string{"Traceback", "unexpected error", "<html", "InternalServerError"} {
			if strings.Contains(r.err, bad) {
				t.Errorf("az %s shows %s: %s", strings.Join(c.words, " "), bad, r)
			}
		}
	}
	if images := a.must(t, "vm", "image", "list", "--all", "-l", place, "-p", "Debian", "--query", "sort([].sku)", "-o", "tsv"); strings.Join(strings.Fields(images), " ") != "11-backports-gen2 12-gen2 13-gen2" {
		t.Errorf("vm image list --all: %s", images)
	}
	failed := a.must(t, "deployment", "group", "list", "-g", own, "--query", "[?properties.error.details[0].code=='InvalidResourceName'].name | [0]", "-o", "tsv")
	if why := a.must(t, "deployment", "operation", "group", "list", "-g", own, "-n", failed, "--query", "[0].properties.statusMessage.error.code", "-o", "tsv"); why != "InvalidResourceName" {
		t.Errorf("why the deployment failed: %q", why)
	}
	if left := a.must(t, "resource", "list", "-g", own, "--query", "[].name", "-o", "tsv"); left != "" {
		t.Errorf("something was made: %s", left)
	}
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}
