//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestSystemd_Logins: what the article promises, on whole systems: logind has the
// session, systemd restarts the agent, and a restart of the machine keeps logins
// working.
func TestSystemd_Logins(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "sd-"+system, platform{system, nspawn})
		p := newUser(t, "sd-"+system)
		refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned", roleUser)
		grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		refused(t, p.sshIP(m, "sudo", "-n", "whoami"), roleAdmin)
		if r := p.sshIP(m, "id; stat -c %a:%U ~"); r.code != 0 || !strings.Contains(r.out, "("+p.name+")") || !strings.Contains(r.out, "700:"+p.name) {
			t.Fatalf("login: %s", r)
		}
		admins := newUser(t, "sdadmin-"+system)
		grant(t, roleAdmin, admins.name, m.id)
		if err := until(limitGrant, func() error { return wants(admins.sshIP(m, "sudo", "-n", "whoami"), "root") }); err != nil {
			t.Fatal(err)
		}
		m.answersTheRight(t) // by units that are confined, in a user namespace
		agentRestarts(t, p, m)
		rebootKeepsLogins(t, p, m)
		logindSession(t, p, m)
	})
}

// logindSession: the login is a session of logind with a slice of its own. Asked
// after a restart of the machine: glibc before 2.33 (Debian 11) reads nsswitch.conf
// once in a process, so a D-Bus daemon that is older than the extension turns our
// users away.
func logindSession(t *testing.T, p *person, m *vm) {
	t.Helper()
	r := p.sshIP(m, `loginctl show-session "$XDG_SESSION_ID" -p Name -p Service -p Type -p Remote; grep ^0:: /proc/self/cgroup; echo "loginuid $(cat /proc/self/loginuid)"; id -u`)
	if r.code != 0 {
		t.Fatalf("loginctl: %s", r)
	}
	lines := strings.Fields(r.out)
	uid := lines[len(lines)-1]
	says(t, r.out, "Name="+p.name, "Service=sshd", "Remote=yes", "user-"+uid+".slice", "loginuid "+uid)
}

// agentRestarts: both parts of the agent come back after kill -9.
func agentRestarts(t *testing.T, p *person, m *vm) {
	t.Helper()
	for _, unit := range []string{"sallyport-agent-root", "sallyport-agent"} {
		before := m.mustRoot(t, "systemctl show -P MainPID "+unit)
		m.mustRoot(t, "systemctl kill -s KILL "+unit)
		if err := until(limitGrant, func() error {
			r := m.root(t, "systemctl is-active "+unit+" && systemctl show -P MainPID "+unit)
			if r.code != 0 || strings.HasSuffix(strings.TrimSpace(r.out), "\n"+before) {
				return fmt.Errorf("%s was pid %s: %s", unit, before, r)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	allowedSoon(t, p, m)
}

// rebootKeepsLogins: by the machine's own hand and by its owner's.
func rebootKeepsLogins(t *testing.T, p *person, m *vm) {
	t.Helper()
	boot := func() string {
		r := m.root(t, "cat /proc/sys/kernel/random/boot_id")
		return strings.TrimSpace(r.out)
	}
	key := certificate(t, p)
	for name, restart := range map[string]func(){
		"systemctl reboot": func() { m.root(t, "systemctl reboot") },
		"vm restart":       func() { m.admin.must(t, "vm", "restart", "-g", group, "-n", m.name) },
	} {
		before := boot()
		restart()
		if err := until(4*limitGrant, func() error {
			if now := boot(); now == "" || now == before {
				return fmt.Errorf("the machine has not started again (%q)", now)
			}
			return wants(m.ssh(p.name, key.options(), "whoami"), p.name)
		}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestSystemd_ExtensionRemovedRestoresTheMachine: /etc is as before, byte for
// byte, on each system.
func TestSystemd_ExtensionRemovedRestoresTheMachine(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := bareMachineOn(t, "undo-"+system, platform{system, nspawn})
		// The host certificate is the agent's own file, with and without the
		// extension; systemd's own of a first start are not ours.
		content := `cd /etc && find . -type f ! -name sallyport_host_key-cert.pub ! -name machine-id ! -name .updated | LC_ALL=C sort > /tmp/files && xargs -d '\n' stat -c '%n %a %U %G %s' < /tmp/files && xargs -d '\n' sha256sum < /tmp/files; find . -type l -printf '%p %l\n' | LC_ALL=C sort`
		before := m.mustRoot(t, content)
		m.extend(t)
		if m.mustRoot(t, content) == before {
			t.Fatal("the extension changed nothing")
		}
		m.admin.must(t, "vm", "extension", "delete", "-g", group, "--vm-name", m.name, "--name", "AADSSHLoginForLinux")
		if after := m.mustRoot(t, content); after != before {
			t.Fatalf("something is left or lost: %s", difference(before, after))
		}
	})
}

// TestSystemd_StopAndDelete: a stopped machine keeps its files, a deleted one
// leaves nothing.
func TestSystemd_StopAndDelete(t *testing.T) {
	m := bareMachineOn(t, "sd-gone", platform{debian13, nspawn})
	m.mustRoot(t, "echo kept >/var/tmp/kept; sync")
	m.admin.must(t, "vm", "stop", "-g", group, "-n", m.name)
	if r := m.ssh("azureuser", []string{"-i", m.key}, "true"); r.code == 0 {
		t.Fatal("a stopped machine lets in")
	}
	m.admin.must(t, "vm", "start", "-g", group, "-n", m.name)
	if err := until(4*limitGrant, func() error { return wants(m.root(t, "cat /var/tmp/kept"), "kept") }); err != nil {
		t.Fatal(err)
	}
	m.admin.must(t, "vm", "delete", "-g", group, "-n", m.name, "--yes")
	if out, err := exec.Command("ls", theWorld.path("lab")+"/machines").CombinedOutput(); err != nil || strings.Contains(string(out), m.machineID) {
		t.Fatalf("files are left: %s %v", out, err)
	}
}
