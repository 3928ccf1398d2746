//go:build e2e

package wiring

import (
	"strings"
	"testing"
)

// TestWiring_InstallAndRemove: on and off, with logins of everybody, and /etc as it
// was before: modes, owners and extended attributes too.
func TestWiring_InstallAndRemove(t *testing.T) {
	eachSystem(t, func(t *testing.T, b *box) {
		b.join()
		b.must("tester mark /etc/pam.d/sshd && tester mark /etc/nsswitch.conf && chgrp adm /etc/pam.d/su && chmod 0640 /etc/pam.d/su")
		before := b.picture()
		a := b.agent()
		if _, ok := a.state(); !ok {
			t.Fatal("no agent")
		}
		st := a.say("on")
		if st.Provisioned != "Succeeded" || !st.Extension {
			t.Fatalf("%+v\n%s", st, b.must("tail -50 /run/agent.log"))
		}
		b.aliceComesIn("installed")
		b.localsComeIn("installed")
		if now := b.picture(); !strings.Contains(now, "/etc/pam.d/sshd user.note \"kept\"") && !strings.Contains(now, "pam.d/sshd user.note \"kept\"") || !strings.Contains(now, "pam.d/su f 640 0 4") {
			t.Errorf("attributes were lost while installed:\n%s", now)
		}
		if out, err := b.sh("sally agent doctor"); !strings.Contains(out, "ok    people can log in") {
			t.Errorf("doctor: %v\n%s", err, out)
		}
		if st = a.say("off"); st.Extension {
			t.Fatalf("%+v", st)
		}
		if after := b.picture(); after != before {
			t.Fatalf("/etc is not what it was:\n%s", difference(before, after))
		}
		b.localsComeIn("removed")
	})
}
