//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestArticle_ScaleSet walks the article's section on scale sets, with sally for
// az: a set of two, the identity, the extension in the model, the upgrade that
// brings it to an instance, logins by number and, from inside the network, by
// address; then what machines have and what ends them.
func TestArticle_ScaleSet(t *testing.T) {
	a, set := admin(t), "myVMSS"
	key := theWorld.path("azureuser")
	if err := theWorld.administratorKey(key); err != nil {
		t.Fatal(err)
	}
	a.must(t, "vmss", "create", "-g", group, "-n", set, "--image", "Debian12", "--instance-count", "2", "--upgrade-policy-mode", "manual", "--admin-username", "azureuser", "--ssh-key-values", key+".pub")
	setID := a.must(t, "vmss", "show", "-g", group, "-n", set, "--query", "id", "-o", "tsv")
	alice := newUser(t, "vmss-alice")
	grant(t, roleUser, alice.name, setID)
	ssh := func(n int, words ...string) result {
		return alice.run(append([]string{"ssh", "vm", "-g", group, "-n", set, "--instance-id", fmt.Sprint(n), "--"}, words...)...)
	}
	models := func() string {
		return strings.Join(strings.Fields(a.must(t, "vmss", "list-instances", "-g", group, "-n", set, "--query", "[].[instanceId, latestModelApplied]", "-o", "tsv")), " ")
	}

	// Neither the identity nor the extension reaches an instance by itself.
	r := a.run("vmss", "identity", "assign", "--name", set, "--resource-group", group)
	if r.code != 0 || !strings.Contains(r.err, "sally vmss update-instances") {
		t.Fatalf("identity assign: %s", r)
	}
	a.must(t, "vmss", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vmss-name", set)
	if got := models(); !strings.EqualFold(got, "0 false 1 false") {
		t.Errorf("before the upgrade: %s", got)
	}
	upgrade := "sally vmss update-instances -g " + group + " -n " + set + " --instance-ids "
	refused(t, ssh(0, "true"), "directory login is not enabled on "+set+"_0", "old model", upgrade+"0")
	a.must(t, "vmss", "update-instances", "-g", group, "-n", set, "--instance-ids", "0")
	if got := models(); !strings.EqualFold(got, "0 true 1 false") {
		t.Errorf("after the upgrade of one: %s", got)
	}
	if err := until(limitGrant, func() error { return wants(ssh(0, "whoami"), alice.name) }); err != nil {
		t.Fatal(err)
	}
	refused(t, ssh(1, "true"), "old model", upgrade+"1")
	refused(t, ssh(0, "sudo", "-n", "whoami"), roleAdmin)

	t.Run("ByAddress", func(t *testing.T) { insideTheNetwork(t, alice, set, upgrade) })
	t.Run("LikeAnyMachine", func(t *testing.T) { instanceIsMachine(t, alice, set, setID) })

	// One that is new has the model, one that goes goes for good.
	a.must(t, "vmss", "scale", "-g", group, "-n", set, "--new-capacity", "3")
	a.must(t, "vmss", "delete-instances", "-g", group, "-n", set, "--instance-ids", "1")
	if got := models(); !strings.EqualFold(got, "0 true 2 true") {
		t.Errorf("after scaling: %s", got)
	}
	if err := until(limitGrant, func() error { return wants(ssh(2, "whoami"), alice.name) }); err != nil {
		t.Fatal(err)
	}
	a.must(t, "vmss", "delete", "-g", group, "-n", set)
	if r := a.run("vmss", "show", "-g", group, "-n", set); r.code != 3 {
		t.Errorf("the deleted set: %s", r)
	}
	if got := a.must(t, "machine", "list", "-g", group, "--query", "[?contains(properties.resourceId, '"+set+"')].name", "-o", "tsv"); got != "" {
		t.Errorf("machines live on: %s", got)
	}
}

// insideTheNetwork is the article's example: a person on a machine of the same
// network connects to an instance's private address.
func insideTheNetwork(t *testing.T, alice *person, set, upgrade string) {
	a, m := admin(t), machine(t, "myVM")
	private := a.must(t, "vmss", "nic", "list", "-g", group, "--vmss-name", set, "--query", "[].ipConfigurations[0].privateIPAddress", "-o", "tsv")
	at := strings.Fields(private)
	if len(at) != 2 {
		t.Fatalf("addresses: %q", private)
	}
	if got := a.must(t, "vmss", "list-instance-connection-info", "-g", group, "-n", set, "--query", "\"instance 1\"", "-o", "tsv"); got != at[1]+":22" {
		t.Errorf("connection of 1: %s", got)
	}
	there := func(words string) result {
		return m.root(t, "mkdir -p -m 700 /run/vmss && export HOME=/run/vmss SALLY_CONFIG_DIR=/run/vmss/.sallyport && cd / && sally "+words)
	}
	// The machine's own sign-in tells sally how the server is reached from there.
	if r := there("login --identity --allow-no-subscriptions -o none"); r.code != 0 {
		t.Fatalf("the machine's login on %s: %s", m.name, r)
	}
	if r := there("login -u " + alice.name + " -p " + alice.password + " --allow-no-subscriptions -o none"); r.code != 0 {
		t.Fatalf("login on %s: %s", m.name, r)
	}
	if r := there("ssh vm --ip " + at[0] + " -- whoami"); r.code != 0 || strings.TrimSpace(r.out) != alice.name {
		t.Errorf("--ip %s: %s", at[0], r)
	}
	refused(t, there("ssh vm --ip "+at[1]+" -- true"), "old model", upgrade+"1")
}

// instanceIsMachine: who, explain, sessions and metadata know an instance.
func instanceIsMachine(t *testing.T, alice *person, set, setID string) {
	a, one := admin(t), setID+"/virtualMachines/0"
	if got := a.must(t, "access", "who", "--scope", one, "--query", "[?principal.name=='"+alice.name+"'].access", "-o", "tsv"); !strings.EqualFold(got, "login") {
		t.Errorf("who: %q", got)
	}
	if got := a.must(t, "access", "explain", "--user", alice.name, "-g", group, "-n", set, "--instance-id", "0", "--query", "verdict.reason", "-o", "tsv"); got != "granted" {
		t.Errorf("explain: %q", got)
	}
	open := alice.command("ssh", "vm", "-g", group, "-n", set, "--instance-id", "0", "--", "sleep 300")
	if err := open.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Process.Kill(); _ = open.Wait() }()
	id := ""
	if err := until(limitEnd, func() error {
		id = a.must(t, "session", "list", "-g", group, "-n", set, "--instance-id", "0", "--query", "[?properties.principalName=='"+alice.name+"'].name | [0]", "-o", "tsv")
		if id == "" || id == "None" {
			return fmt.Errorf("no session is listed")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := a.must(t, "session", "show", id, "-g", group, "-n", set, "--instance-id", "0", "--query", "properties.machine", "-o", "tsv"); got != set+"_0" {
		t.Errorf("the session is on %q", got)
	}
	a.must(t, "session", "end", id, "-g", group, "-n", set, "--instance-id", "0")
	if got := a.must(t, "machine", "show", "--ids", one, "--query", "properties.snapshot.loginEnabled", "-o", "tsv"); !strings.EqualFold(got, "true") {
		t.Errorf("machine show: %s", got)
	}
}
