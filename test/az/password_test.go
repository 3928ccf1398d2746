//go:build e2e

package az

import (
	"os"
	"strings"
	"testing"
)

// TestAdminPassword: az vm create --admin-password, with a password alone and with a
// key beside it, and of az vmss create, and a login by each way that was asked for and
// by no other.
func TestAdminPassword(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own, word = "Passwords", "Meadow-Quartz-83-Lamp"
	a.must(t, "group", "create", "-n", own, "-l", place)
	ask := a.config + "/askpass"
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho "+word+"\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	login := func(address string, options ...string) result {
		return a.run(append(append([]string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "ssh", address, "-l", "azureuser", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "NumberOfPasswordPrompts=1", "-o", "IdentitiesOnly=yes"}, options...), "sudo -n whoami")...)
	}
	byWord, byKey := []string{"-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no"}, []string{"-o", "BatchMode=yes", "-i", a.config + "/.ssh/id_rsa"}
	addresses := map[string]string{}
	for kind, more := range map[string][]string{"password": {"--admin-password", word}, "all": {"--admin-password", word, "--generate-ssh-keys"}, "ssh": {"--generate-ssh-keys"}} {
		made := a.answer(t, append([]string{"vm", "create", "-g", own, "-n", kind, "--image", "UbuntuLTS", "--admin-username", "azureuser", "--authentication-type", kind}, more...)...)
		address := text(made, "publicIpAddress")
		addresses[kind] = address
		for way, tc := range map[string]struct {
			options []string
			opens   bool
		}{"password": {byWord, kind != "ssh"}, "key": {byKey, kind != "password"}} {
			if r := login(address, tc.options...); (r.code == 0) != tc.opens || tc.opens && strings.TrimSpace(r.out) != "root" || !tc.opens && !strings.Contains(r.err, "Permission denied") {
				t.Errorf("made with %s, %s: %s", kind, way, r)
			}
		}
		off := a.must(t, "vm", "show", "-g", own, "-n", kind, "--query", "osProfile.linuxConfiguration.disablePasswordAuthentication", "-o", "tsv")
		if off != map[bool]string{true: "true", false: "false"}[kind == "ssh"] {
			t.Errorf("disablePasswordAuthentication of %s: %q", kind, off)
		}
	}
	// An instance of a scale set has an address inside the lab's network alone.
	set := func(words ...string) []string { return append(words, "-g", own, "-n", "set") }
	a.must(t, append(set("vmss", "create"), "--image", "UbuntuLTS", "--admin-username", "azureuser", "--authentication-type", "password", "--admin-password", word, "--instance-count", "1", "--orchestration-mode", "Uniform", "--load-balancer", "")...)
	inside := a.must(t, "vmss", "nic", "list", "-g", own, "--vmss-name", "set", "--query", "[0].ipConfigurations[0].privateIPAddress", "-o", "tsv")
	if off := a.must(t, append(set("vmss", "show"), "--query", "virtualMachineProfile.osProfile.linuxConfiguration.disablePasswordAuthentication", "-o", "tsv")...); off != "false" {
		t.Errorf("disablePasswordAuthentication of the scale set: %q", off)
	}
	try := func(password string) result {
		return a.run(append(append([]string{"ssh", addresses["all"], "-l", "azureuser", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}, byKey...),
			"umask 077; printf '#!/bin/sh\\necho "+password+"\\n' >ask && chmod 700 ask && SSH_ASKPASS=./ask SSH_ASKPASS_REQUIRE=force DISPLAY=none ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o NumberOfPasswordPrompts=1 -o PreferredAuthentications=password azureuser@"+inside+" sudo -n whoami")...)
	}
	if r := try(word); strings.TrimSpace(r.out) != "root" {
		t.Errorf("login to the instance %s: %s", inside, r)
	}
	if r := try(word + "x"); r.code == 0 || !strings.Contains(r.err, "Permission denied") {
		t.Errorf("another password opens the instance: %s", r)
	}
	a.fails(t, 1, []string{"password length"}, append(set("vmss", "create"), "--image", "UbuntuLTS", "--admin-username", "azureuser", "--authentication-type", "password", "--admin-password", "short")...)
	a.must(t, "vm", "update", "-g", own, "-n", "password", "--set", "tags.a=b")
	// Nothing that az can read has it.
	for _, words := range [][]string{{"vm", "list", "-g", own}, {"vmss", "list", "-g", own}, {"deployment", "group", "list", "-g", own}, {"resource", "list", "-g", own}} {
		if out := a.must(t, words...); strings.Contains(out, word) || strings.Contains(out, "$6$") {
			t.Errorf("%v: %s", words, out)
		}
	}
	if r := a.az("vm", "create", "-g", own, "-n", "password", "--image", "UbuntuLTS", "--admin-username", "azureuser", "--admin-password", word+"s"); r.code == 0 {
		t.Errorf("another password for a machine that is there: %s", r)
	}
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}
