//go:build e2e

package e2e

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
)

// wiredFiles prints everything that wiring changes, byte for byte. The host
// certificate and the right of the local administrator that vm create asked for
// are not the extension's.
const wiredFiles = `cd /etc && find ssh pam.d sudoers sudoers.d nsswitch.conf ! -name sallyport_host_key-cert.pub ! -name 'ssh_host_*' ! -name 90-vm-administrator | LC_ALL=C sort >/tmp/wired && xargs -d '\n' stat -c '%n %a %U %G' </tmp/wired && { xargs -d '\n' sha256sum </tmp/wired 2>/dev/null || true; }`

// TestPackages_Life: a computer of each system gets the agent from the server's
// own repository by apt over TLS, is upgraded while somebody is logged in, and
// is without it again, byte for byte; and again where the agent is broken. What
// somebody else made of the repositories is refused, by dnf too.
func TestPackages_Life(t *testing.T) {
	w := packagesWorld(t)
	script := w.person(adminUPN, "").must(t, "repository", "script", "--type", "apt")
	older := w.copied(t)
	newer := w.signedAnew(t, older)
	t.Run("systems", func(t *testing.T) {
		for _, system := range []string{debian11, debian12, debian13} {
			t.Run(system, func(t *testing.T) {
				t.Parallel()
				m := packageLife(t, w, system, script)
				forgedAreRefused(t, w, m, older, newer)
			})
		}
		t.Run("dnf", func(t *testing.T) {
			t.Parallel()
			dnfTakesTheServersOwn(t, w)
		})
	})
}

func packageLife(t *testing.T, w *world, system, script string) *vm {
	t.Helper()
	m := w.barely(t, "pkg-"+system, system)
	before := m.mustSuper(t, wiredFiles)
	m.give(t, "/root/repository.sh", strings.NewReader(script))
	m.mustSuper(t, "sh /root/repository.sh")
	m.apt(t, "update")
	m.apt(t, "install sallyport="+olderPackages+"-1 sallyport-agent="+olderPackages+"-1")
	if after := m.mustSuper(t, wiredFiles); after != before {
		t.Fatalf("installing changed: %s", difference(before, after))
	}
	if r := m.super("systemctl is-active sallyport-agent sallyport-agent-root sallyport-server"); strings.Contains("\n"+r.out, "\nactive") {
		t.Fatalf("installing started something: %s", r)
	}
	m.joinByHand(t)
	m.extend(t)
	p := packageUser(t, w, m, system)
	upgradeUnderASession(t, w, m, p)
	removed(t, m, before)
	byHand(t, m, p, before)
	broken(t, m, p, before)
	becomesAServer(t, m, system)
	return m
}

// apt runs apt-get as an administrator would.
func (m *vm) apt(t *testing.T, words string) string {
	t.Helper()
	return m.mustSuper(t, "DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends "+words+" 2>&1")
}

// joinByHand makes the computer the machine that its token names.
func (m *vm) joinByHand(t *testing.T) {
	t.Helper()
	m.mustSuper(t, "sally agent join --token-file /var/lib/sallyport/join-token --address 10.77.0.1:443 && systemctl enable --now sallyport-agent-root sallyport-agent")
}

func packageUser(t *testing.T, w *world, m *vm, system string) *person {
	t.Helper()
	p := w.person("pkg-"+system+"@"+domain, "Copper-Harbor-41-Willow")
	m.admin.must(t, "ad", "user", "create", "--display-name", "pkg-"+system, "--user-principal-name", p.name, "--password", p.password)
	if r := p.login(); r.code != 0 {
		t.Fatalf("login: %s", r)
	}
	m.admin.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee", p.name, "--scope", m.id)
	allowedSoon(t, p, m)
	return p
}

// upgradeUnderASession: an open session goes on and may still sudo, logins are
// refused for no longer than the agent's restart takes, and what runs afterwards
// is the new build.
func upgradeUnderASession(t *testing.T, w *world, m *vm, p *person) {
	t.Helper()
	held := certificate(t, p)
	say, hear := held.open(t, m, p.name)
	logins, stop := make(chan []string, 1), make(chan struct{})
	go func() {
		var failed []string
		for {
			select {
			case <-stop:
				logins <- failed
				return
			default:
			}
			if r := m.ssh(p.name, held.options(), "true"); r.code != 0 {
				failed = append(failed, r.String())
			}
		}
	}()
	files := `stat -c %i /lib/*-linux-gnu/libnss_sallyport.so.2 /lib/*-linux-gnu/security/pam_sallyport.so /usr/libexec/sallyport-principals /usr/bin/sally; systemctl show -P MainPID sallyport-agent-root sallyport-agent`
	before, daemon := strings.Fields(m.mustSuper(t, files)), m.mustSuper(t, "systemctl show -P MainPID ssh")
	m.apt(t, "install sallyport-agent")
	after := strings.Fields(m.mustSuper(t, files))
	for i := range before {
		if i >= len(after) || before[i] == after[i] {
			t.Errorf("the upgrade did not replace all parts: %v, %v", before, after)
			break
		}
	}
	if now := m.mustSuper(t, "systemctl show -P MainPID ssh"); now != daemon {
		t.Errorf("sshd was restarted: pid %s, then %s", daemon, now)
	}
	says(t, m.mustSuper(t, "dpkg-query -W -f '${Package} ${Version}\n' sallyport sallyport-agent"), "sallyport "+newerPackages+"-1", "sallyport-agent "+newerPackages+"-1")
	if _, err := io.WriteString(say, "sudo -n whoami; whoami\n"); err != nil {
		t.Fatal(err)
	}
	if got := []string{hear(), hear()}; got[0] != "root" || got[1] != p.name {
		t.Errorf("the session that was open says %q", got)
	}
	close(stop)
	// The restart takes a moment, in which a login that is under way is refused.
	if failed := <-logins; len(failed) > 3 {
		t.Errorf("%d logins failed during the upgrade: %s", len(failed), failed[len(failed)-1])
	}
	allowedSoon(t, p, m)
}

// open starts a shell that lives until its input ends, and reads its lines.
func (id identity) open(t *testing.T, m *vm, login string) (io.Writer, func() string) {
	t.Helper()
	args := append([]string{"-F", "none", "-p", m.port, "-l", login, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"}, id.options()...)
	cmd := exec.Command("ssh", append(args, m.host, "sh")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := make(chan string, 16)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	hear := func() string {
		select {
		case line := <-lines:
			return line
		case <-time.After(crowded(4 * limitGrant)):
			return "nothing"
		}
	}
	if _, err := io.WriteString(in, "echo open\n"); err != nil {
		t.Fatal(err)
	}
	if hear() != "open" {
		t.Fatal("no session")
	}
	return in, hear
}

// removed: apt takes the package away, and with it everything that was wired.
func removed(t *testing.T, m *vm, before string) {
	t.Helper()
	if r := m.super("sally agent uninstall"); r.code == 0 {
		t.Errorf("an agent that runs would put everything in again: %s", r)
	} else {
		handbooktest.Said(t, r.err, "AgentRuns")
	}
	m.apt(t, "remove sallyport-agent")
	if after := m.mustSuper(t, wiredFiles); after != before {
		t.Fatalf("something is left or lost: %s", difference(before, after))
	}
	m.mustSuper(t, "! ls /lib/*-linux-gnu/libnss_sallyport.so.2 /lib/*-linux-gnu/security/pam_sallyport.so /usr/libexec/sallyport-principals 2>/dev/null && test -f /etc/sallyport/machine.json")
}

// broken: the package comes back, the older one this time, and the machine is what
// it was; then its program dies, and the removal goes on without it. A purge
// leaves nothing.
func broken(t *testing.T, m *vm, p *person, before string) {
	t.Helper()
	m.apt(t, "install --allow-downgrades sallyport="+olderPackages+"-1 sallyport-agent="+olderPackages+"-1")
	m.mustSuper(t, "systemctl enable --now sallyport-agent-root sallyport-agent")
	allowedSoon(t, p, m)
	m.mustSuper(t, `printf '#!/bin/sh\nexit 1\n' >/usr/bin/sally.broken && chmod 755 /usr/bin/sally.broken && mv /usr/bin/sally.broken /usr/bin/sally`)
	says(t, m.apt(t, "purge sallyport-agent"), "taken out by hand instead")
	if after := m.mustSuper(t, wiredFiles); after != before {
		t.Fatalf("something is left or lost: %s", difference(before, after))
	}
	m.mustSuper(t, "! ls -d /var/lib/sallyport/root /var/lib/sallyport/agent /var/lib/sallyport/nss.db /etc/sallyport/machine.json 2>/dev/null")
}
