//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestLive_Moved: a machine moved to another resource group is the same machine
// for other people: those of the old group lose it with what they have running,
// and so do those whose role was at the machine itself; those of the new group
// log in, and the extension, the identity and the host certificate stay.
func TestLive_Moved(t *testing.T) {
	a, target := admin(t), group+"-moved"
	a.must(t, "group", "create", "-n", target, "-l", "southcentralus")
	m := machine(t, "movedVM")
	scopeOf := func(name string) string { return a.must(t, "group", "show", "-n", name, "--query", "id", "-o", "tsv") }
	old, own, next := newUser(t, "live-moved-old"), newUser(t, "live-moved-own"), newUser(t, "live-moved-new")
	grant(t, roleAdmin, old.name, scopeOf(group))
	grant(t, roleUser, own.name, m.id)
	grant(t, roleUser, next.name, scopeOf(target))
	allowedSoon(t, old, m)
	allowedSoon(t, own, m)
	keyOld, keyOwn, keyNext := certificate(t, old), certificate(t, own), certificate(t, next)
	refused(t, m.ssh(next.name, keyNext.options(), "true"), "Azure role not assigned")
	uidOld := strings.TrimSpace(m.ssh(old.name, keyOld.options(), "id -u").out)
	uidOwn := strings.TrimSpace(m.ssh(own.name, keyOwn.options(), "id -u").out)
	theirs := open(t, m, old, keyOld, allKinds()).clients
	exec := m.client(t, "exec", own.name, keyOwn.options(), "echo began; sleep 351")
	if err := until(limitEnd, func() error { return lists(t, m, own, map[string]int{"exec": 1}, false) }); err != nil {
		t.Fatal(err)
	}

	if r := old.run("resource", "move", "--destination-group", target, "--ids", m.id); r.code == 0 || !strings.Contains(r.err, "AuthorizationFailed") {
		t.Errorf("who may only log in moved it: %s", r)
	}
	a.must(t, "resource", "move", "--destination-group", target, "--ids", m.id)

	ended(t, m, theirs, uidOld)
	ended(t, m, []*running{exec}, uidOwn)
	for _, r := range append(theirs, exec) {
		if !r.wordless() {
			says(t, r.text(), "Azure role not assigned")
		}
	}
	refused(t, m.ssh(old.name, keyOld.options(), "true"), "Azure role not assigned")
	refused(t, m.ssh(own.name, keyOwn.options(), "true"), "Azure role not assigned")
	allowedSoon(t, next, m)
	if r := m.ssh(next.name, keyNext.options(), "whoami"); r.code != 0 || !strings.Contains(r.out, next.name) {
		t.Errorf("the new group's: %s", r)
	}
	if got := a.must(t, "vm", "show", "-g", target, "-n", m.name, "--query", "vmId", "-o", "tsv"); got != m.machineID {
		t.Errorf("another machine: %s, it was %s", got, m.machineID)
	}
	if got := a.must(t, "vm", "extension", "list", "-g", target, "--vm-name", m.name, "--query", "[0].provisioningState", "-o", "tsv"); got != "Succeeded" {
		t.Errorf("the extension: %s", got)
	}
	if r := a.run("vm", "show", "-g", group, "-n", m.name); r.code != 3 {
		t.Errorf("the old id: %s", r)
	}
}
