//go:build e2e

package az

import (
	"os"
	"strings"
	"testing"
)

// TestAdminPassword: az vm create --admin-password, with a password alone and with a
// key beside it, and a login by each way that was asked for and by no other.
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
	for kind, more := range map[string][]string{"password": {"--admin-password", word}, "all": {"--admin-password", word, "--generate-ssh-keys"}, "ssh": {"--generate-ssh-keys"}} {
		made := a.answer(t, append([]string{"vm", "create", "-g", own, "-n", kind, "--image", "UbuntuLTS", "--admin-username", "azureuser", "--authentication-type", kind}, more...)...)
		address := text(made, "publicIpAddress")
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
	a.must(t, "vm", "update", "-g", own, "-n", "password", "--set", "tags.a=b")
	// Nothing that az can read has it.
	for _, words := range [][]string{{"vm", "list", "-g", own}, {"deployment", "group", "list", "-g", own}, {"resource", "list", "-g", own}} {
		if out := a.must(t, words...); strings.Contains(out, word) || strings.Contains(out, "$6$") {
			t.Errorf("%v: %s", words, out)
		}
	}
	if r := a.az("vm", "create", "-g", own, "-n", "password", "--image", "UbuntuLTS", "--admin-username", "azureuser", "--admin-password", word+"s"); r.code == 0 {
		t.Errorf("another password for a machine that is there: %s", r)
	}
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}
