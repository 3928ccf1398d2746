//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestDrift_ReachesTheAudit: on whole systems, doctor finds nothing wrong; then
// somebody takes our line out of sudo's PAM service, people of the directory read
// where, doctor fails with the place, and the server's audit log has the beginning
// and, when it is undone, the end.
func TestDrift_ReachesTheAudit(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "sd-"+system, platform{system, nspawn})
		p := newUser(t, "drift-"+system)
		grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		if r := m.root(t, "sally agent doctor"); r.code != 0 || !strings.Contains(r.out, "ok    people can log in") {
			t.Fatalf("doctor of a machine that is well: %s", r)
		}
		start := time.Now().UTC().Add(-time.Second).Format(time.RFC3339)
		told := func(kind string) {
			t.Helper()
			err := until(4*limitGrant, func() error {
				list := admin(t).run("audit", "list", "--start-time", start, "-o", "json")
				for record := range strings.SplitSeq(list.out, "\n  {") {
					if strings.Contains(record, kind) && strings.Contains(record, "/etc/pam.d/sudo:") && strings.Contains(strings.ToLower(record), strings.ToLower(m.id)) {
						return nil
					}
				}
				return fmt.Errorf("no %s in the audit log: %s", kind, list)
			})
			if err != nil {
				t.Error(err)
			}
		}
		m.mustRoot(t, "cp -a /etc/pam.d/sudo /root/sudo.pam; grep -v pam_sallyport /root/sudo.pam > /etc/pam.d/sudo")
		refusedSoon(t, func() result { return p.sshIP(m, "true") }, "no longer protects directory accounts", "/etc/pam.d/sudo:", "sally agent doctor")
		if r := m.root(t, "sally agent doctor"); r.code == 0 || !strings.Contains(r.out, "FAIL") || !strings.Contains(r.out, "/etc/pam.d/sudo:") {
			t.Errorf("doctor: %s", r)
		}
		told("machine.drift.fail")
		m.mustRoot(t, "cat /root/sudo.pam > /etc/pam.d/sudo")
		allowedSoon(t, p, m)
		told("machine.drift.heal")
	})
}
