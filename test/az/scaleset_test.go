//go:build e2e

package az

import (
	"strings"
	"testing"
)

// TestScaleSet: the article's part about scale sets, and what is needed around it.
// az makes a set of the kind Flexible with a load balancer unless it is told not to.
func TestScaleSet(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own, set = "Sets", "myVMSS"
	a.must(t, "group", "create", "-n", own, "-l", place)
	a.must(t, "vmss", "create", "-g", own, "-n", set, "--image", "UbuntuLTS", "--admin-username", "azureuser", "--generate-ssh-keys", "--instance-count", "1", "--orchestration-mode", "Uniform", "--load-balancer", "")
	given := a.answer(t, "vmss", "identity", "assign", "--name", set, "--resource-group", own)
	if text(given, "systemAssignedIdentity") == "" {
		t.Errorf("vmss identity assign: %v", given)
	}
	a.must(t, "vmss", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", own, "--vmss-name", set)
	of := func(words ...string) []string { return append(words, "-g", own, "-n", set) }
	latest := func() string {
		return a.must(t, append(of("vmss", "list-instances"), "--query", "[].latestModelApplied", "-o", "tsv")...)
	}
	if got := latest(); got != "false" {
		t.Errorf("an old model is the latest: %q", got)
	}
	a.must(t, append(of("vmss", "update-instances"), "--instance-ids", "*")...)
	if got := latest(); got != "true" {
		t.Errorf("after update-instances: %q", got)
	}
	if got := a.must(t, append(of("vmss", "get-instance-view"), "--instance-id", "0", "--query", "extensions[].statuses[0].code", "-o", "tsv")...); !strings.Contains(got, "succeeded") {
		t.Errorf("the extension of the instance: %q", got)
	}
	if got := a.must(t, "vmss", "nic", "list", "-g", own, "--vmss-name", set, "--query", "length([].ipConfigurations[].privateIPAddress)"); got != "1" {
		t.Errorf("vmss nic list: %q", got)
	}
	a.must(t, append(of("vmss", "update"), "--set", "tags.a=b")...)
	a.must(t, append(of("vmss", "scale"), "--new-capacity", "2")...)
	a.must(t, append(of("vmss", "delete-instances"), "--instance-ids", "1")...)
	if got := latest(); got != "true" {
		t.Errorf("what is left: %q", got)
	}
	a.must(t, "vmss", "extension", "delete", "-g", own, "--vmss-name", set, "-n", "AADSSHLoginForLinux")
	a.must(t, of("vmss", "delete")...)
	a.fails(t, 3, []string{"ResourceNotFound"}, of("vmss", "show")...)
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}
