//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestLive_WhatEscapesOneSession: what a session gave the person's own service
// manager or at(1) is not the session's any more. Its end does not reach that, and
// says so, in the session and in the list of revocations; what was put into a scope
// of its own is still the session's. The person's end reaches all of it.
func TestLive_WhatEscapesOneSession(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "sd-"+system, platform{system, nspawn})
		if system == debian11 {
			// glibc before 2.33 reads nsswitch.conf once.
			m.mustRoot(t, "systemctl restart atd")
		}
		p := newUser(t, "live-escape-"+system)
		role := grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		key := certificate(t, p)
		uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
		stays := m.client(t, "exec", p.name, key.options(), "echo began; sleep 411")
		// On a busy computer systemd may have given up starting it, or just stopped it
		// after the sessions before.
		if err := until(limitEnd, func() error {
			return m.root(t, "systemctl reset-failed user@"+uid+"; systemctl start user@"+uid+" || { journalctl -n 20 -u user@"+uid+"; false; }").failure()
		}); err != nil {
			// Machines under systemd may share one pot of these.
			watchers, _ := exec.Command("sh", "-c", `cat /proc/sys/user/max_inotify_instances; find /proc/[0-9]*/fd -lname anon_inode:inotify 2>/dev/null | wc -l`).Output()
			t.Fatalf("the person's service manager: %v\ninotify's instances for each person here, and all that are open: %s", err, watchers)
		}
		session := m.client(t, "pty", p.name, append(key.options(), "-tt"), `systemd-run --user --quiet sleep 412; systemd-run --user --quiet --scope setsid sleep 413 & echo "exec sleep 414" | at now; sleep 415`)
		runs := []string{"sleep 411", "sleep 412", "sleep 414", "sleep 415"}
		if system != debian11 { // systemd 247 puts no process of a session into a scope of the person's manager
			runs = append(runs, "sleep 413")
		}
		awaitRemains(t, m, uid, session, runs...)
		id := ""
		if err := until(limitEnd, func() error {
			all, err := sessionsOf(t, m, p)
			for _, l := range all {
				if l.Properties.Kind == "pty" {
					id = l.Name
				}
			}
			if err == nil && id == "" {
				err = fmt.Errorf("listed are %+v", all)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		p.must(t, "session", "end", id)
		if err := until(limitEnd, func() error {
			left := m.remains(t, uid)
			if strings.Contains(left, "sleep 413") || strings.Contains(left, "sleep 415") {
				return fmt.Errorf("it goes on: %s", left)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if left := m.remains(t, uid); !strings.Contains(left, "sleep 411") || !strings.Contains(left, "sleep 412") || !strings.Contains(left, "sleep 414") || stays.over() {
			t.Errorf("what is not the session's ended: %s", left)
		}
		const told = "a service manager (systemd --user) among them"
		if err := until(limitGrant, func() error {
			if r := admin(t).run("session", "show", id, "--query", "properties.ending.left", "-o", "tsv"); !strings.Contains(r.out, told) {
				return fmt.Errorf("%s", r)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		says(t, leftOf(t, "machineSession.end", "session "+id), told)
		admin(t).must(t, "role", "assignment", "delete", "--ids", role)
		ended(t, m, []*running{stays, session}, uid)
	})
}

// awaitRemains waits until a person runs all of that, by what a client has begun.
func awaitRemains(t *testing.T, m *vm, uid string, by *running, all ...string) {
	t.Helper()
	if err := until(limitEnd, func() error {
		runs := m.remains(t, uid)
		for _, what := range all {
			if !strings.Contains(runs, what) {
				return fmt.Errorf("%s is not there: %s; the client has said: %s", what, runs, by.text())
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// leftOf is what a revocation shows that machines could not end.
func leftOf(t *testing.T, kind, what string) string {
	t.Helper()
	var list []revocation
	r := admin(t).run("access", "revocation", "list", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		t.Fatalf("%v %s", err, r)
	}
	for _, x := range list {
		if x.Properties.Type == kind && strings.Contains(x.Properties.What, what) {
			return admin(t).must(t, "access", "revocation", "show", "--id", x.Name, "--query", "properties.left[].left", "-o", "tsv")
		}
	}
	t.Errorf("there is no %s of %s", kind, what)
	return ""
}
