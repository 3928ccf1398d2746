//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestLive_Systemd: what leaves a login by way of systemd, at and cron ends with
// the rest where it is the person's, is refused from then on, and is told where
// it is root's.
func TestLive_Systemd(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "sd-"+system, platform{system, nspawn})
		p := newUser(t, "live-sd-"+system)
		id := grant(t, roleAdmin, p.name, m.id)
		allowedSoon(t, p, m)
		key := certificate(t, p)
		uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
		escape := "escape-" + system
		if system == debian11 {
			// glibc before 2.33 reads nsswitch.conf once: a daemon that is older than
			// the extension does not know our users.
			m.mustRoot(t, "systemctl restart atd cron")
		}
		prepare := m.ssh(p.name, key.options(), `set -e
mkdir -p ~/.config/systemd/user
printf '[Service]\nExecStart=/bin/sleep 401\n' >~/.config/systemd/user/live.service
systemctl --user daemon-reload && systemctl --user start live
echo "exec sleep 402" | at now 2>&1; echo true | at now + 1 day 2>&1
echo "0 0 1 1 * true" | crontab -
sudo loginctl enable-linger "$(id -un)"
sudo systemd-run --quiet --unit=`+escape+` sleep 403
echo prepared`)
		if prepare.code != 0 || !strings.Contains(prepare.out, "prepared") {
			t.Fatalf("%s", prepare)
		}
		session := m.client(t, "pty", p.name, append(key.options(), "-tt"), "grep ^0:: /proc/self/cgroup; echo began; sleep 404")
		if err := until(limitEnd, func() error {
			runs := m.remains(t, uid)
			for _, what := range []string{"sleep 401", "sleep 402", "sleep 404", "systemd --user"} {
				if !strings.Contains(runs, what) {
					return fmt.Errorf("%s is not there: %s\n%s", what, runs, session.text())
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		says(t, session.text(), "user-"+uid+".slice/session-")
		admin(t).must(t, "role", "assignment", "delete", "--ids", id)
		ended(t, m, []*running{session}, uid)
		says(t, session.text(), "Azure role not assigned")

		told := ""
		if err := until(limitGrant, func() error {
			told = admin(t).run("audit", "list", "--correlation-id", correlation(t, result{out: session.text()}), "-o", "json").out
			if !strings.Contains(told, "machine.session.end") {
				return fmt.Errorf("the end is not in the audit log: %s", told)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		says(t, told, escape+".service", "lingering", "a crontab", "1 at jobs")
		if got := m.mustRoot(t, "systemctl is-active "+escape+" || true; systemctl stop "+escape); !strings.Contains(got, "active") {
			t.Errorf("the unit that root was given: %s", got)
		}
		for _, service := range []string{"cron", "atd", "systemd-user"} {
			r := m.root(t, "pamtester -v "+service+" "+p.name+" acct_mgmt 2>&1")
			if r.code == 0 || !strings.Contains(r.out+r.err, "Azure role not assigned") {
				t.Errorf("%s: %s", service, r)
			}
		}
		m.root(t, "systemctl start user@"+uid+".service")
		if left := m.remains(t, uid); left != "" {
			t.Errorf("the service manager was started again: %s", left)
		}
	})
}
