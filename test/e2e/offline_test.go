//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestOffline_ByRole: the server dies. Logins and sudo go on for as long as the
// tenant allows each, the status says until when, then the sentence says why not;
// what happened meanwhile, with the agent killed in between, is in the audit log
// once when the server is back.
func TestOffline_ByRole(t *testing.T) {
	t.Parallel() // it waits, while other worlds work
	a, m := anotherWorld(t, nil)
	w := a.w
	a.must(t, "tenant", "update", "--offline-user", "33s", "--offline-administrator", "30s")
	if err := until(limitGrant, func() error {
		if r := m.root(t, "sally agent status --json"); !strings.Contains(r.out, `"adminStale": 30`) {
			return fmt.Errorf("the machine has not heard of it: %s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	alice := w.person("alice@"+domain, "Copper-Harbor-41-Willow")
	a.must(t, "ad", "user", "create", "--display-name", "alice", "--user-principal-name", alice.name, "--password", alice.password)
	if r := alice.login(); r.code != 0 {
		t.Fatal(r)
	}
	a.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee", alice.name, "--scope", m.id)
	allowedSoon(t, alice, m)
	dir, err := os.MkdirTemp(w.dir, "id-")
	if err != nil {
		t.Fatal(err)
	}
	key := identity{key: newKey(t, dir), cert: dir + "/cert.pub"}
	alice.must(t, "ssh", "cert", "--file", key.cert, "--public-key-file", key.key+".pub")
	ssh := func(command ...string) result { return m.ssh(alice.name, key.options(), command...) }

	w.kill9()
	if r := ssh("sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" {
		t.Fatalf("sudo right after the server died: %s", r)
	}
	m.mustRoot(t, "pkill -KILL -f '[s]ally agent root'; pkill -KILL -f '[s]ally agent run'")
	if err := until(limitGrant, func() error { return wants(ssh("whoami"), alice.name) }); err != nil {
		t.Fatalf("the agent was killed without a server: %v", err)
	}
	says(t, m.mustRoot(t, "sally agent status"), "logins           of users until", "sudo             of administrators until", "(30s without it)", "wait for the server")
	if err := until(time.Minute, func() error {
		if r := ssh("sudo", "-n", "true"); r.code == 0 || !strings.Contains(r.err+r.out, "has not heard from the server") || !strings.Contains(r.err+r.out, "grants hold for 30s") {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatalf("sudo goes on: %v", err)
	}
	if err := until(time.Minute, func() error {
		if r := ssh("true"); r.code == 0 || !strings.Contains(r.err+r.out, "grants hold for 33s") || !strings.Contains(r.err+r.out, "sally agent status") {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatalf("logins go on: %v", err)
	}
	says(t, m.mustRoot(t, "sally agent status"), "REFUSED: users", "REFUSED: administrators")

	if err := w.runServer(); err != nil {
		t.Fatal(err)
	}
	if err := until(2*limitGrant, func() error { return wants(ssh("sudo", "-n", "whoami"), "root") }); err != nil {
		t.Fatal(err)
	}
	onceInOrder(t, a, m)
}

// onceInOrder: what the machine numbered is in the audit log, each number once and
// none missing, and its host key stands behind it.
func onceInOrder(t *testing.T, a *person, m *vm) {
	t.Helper()
	if err := until(2*limitGrant, func() error {
		if r := m.root(t, "sally agent status"); strings.Contains(r.out, "wait for the server") {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var records []struct {
		Type   string            `json:"type"`
		Detail map[string]string `json:"detail"`
	}
	list := a.must(t, "audit", "list", "--resource", m.id, "-o", "json")
	if err := json.Unmarshal([]byte(list), &records); err != nil {
		t.Fatalf("%v: %.500s", err, list)
	}
	seen, highest, stale := map[int]bool{}, 0, 0
	for _, r := range records {
		if strings.HasPrefix(r.Type, "machine.event") && r.Type != "machine.eventQueue.fail" {
			t.Errorf("%s: %v", r.Type, r.Detail)
		}
		n, err := strconv.Atoi(r.Detail["sequence"])
		if err != nil {
			continue
		}
		if seen[n] {
			t.Errorf("number %d is there twice", n)
		}
		seen[n], highest = true, max(highest, n)
		if r.Detail["reason"] == "stale" {
			stale++
			if r.Detail["proof"] != "hostKey" {
				t.Errorf("nobody stands behind %v", r)
			}
		}
	}
	if len(seen) != highest || stale < 2 {
		t.Errorf("%d events up to number %d, %d refusals for age", len(seen), highest, stale)
	}
}
