//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"sallyport/internal/handbooktest"
)

// becomesAServer: the steps of docs/how-to/packages.md on a computer that is no
// machine any more. Installing enables nothing, removing takes the units away and
// leaves the deployment, and the computer is not a machine beside that.
func becomesAServer(t *testing.T, m *vm, system string) {
	t.Helper()
	states := func(units string) string {
		return strings.Join(strings.Fields(m.super("systemctl is-enabled "+units+" 2>&1; systemctl is-active "+units).out), " ")
	}
	const units, serving = "sallyport-server.socket sallyport-server.service", "enabled enabled active active"
	m.apt(t, "install --reinstall sallyport")
	if got := states(units); strings.Contains(got, "enabled") || strings.HasPrefix(got, "active") || strings.Contains(got, " active") {
		t.Errorf("installing began: %s", got)
	}
	m.mustSuper(t, `install -d -m 0700 -o sallyport -g sallyport /var/lib/sallyport
setpriv --reuid sallyport --regid sallyport --clear-groups sally server init --state /var/lib/sallyport --domain corp.example --url https://localhost:8443 \
    --password-file /var/lib/sallyport/first-password --address-file /var/lib/sallyport/address >/dev/null
systemctl enable --now `+units)
	if got := states(units); got != serving {
		t.Errorf("the server: %s\n%s", got, m.super("journalctl -n 20 --no-pager -u sallyport-server").out)
	}
	if system != debian11 { // whose glibc is older than the signer's
		m.apt(t, "install sallyport-signer")
		m.mustSuper(t, "sally-signer --version && id -nG sallyport | grep -w sally-signer")
		if got := states("sally-signer"); got != "disabled inactive" {
			t.Errorf("the signer: %s", got)
		}
		m.mustSuper(t, "mkdir -p /var/lib/sally-signer")
		handbooktest.Said(t, m.apt(t, "purge sallyport-signer"), "package.signer")
	}
	m.apt(t, "install sallyport-agent")
	if got := states(units); got != serving {
		t.Errorf("the server, after installing the agent's package: %s", got)
	}
	refused(t, m.super("echo none | sally machine join -g x"), "is a Sallyport server", "not both")
	// Its program is lost: the package's script does what it would have done.
	r := m.super("mv /usr/bin/sally /usr/bin/sally.lost; sh /var/lib/dpkg/info/sallyport-agent.prerm remove; mv /usr/bin/sally.lost /usr/bin/sally")
	handbooktest.Said(t, r.String(), "package.uninstall")
	handbooktest.Said(t, m.apt(t, "purge sallyport-agent sallyport"), "package.deployment")
	if got := states(units); strings.Contains(got, "enabled") || strings.Contains(got, " active") {
		t.Errorf("after the removal: %s", got)
	}
	m.mustSuper(t, "test -d /var/lib/sallyport/keys")
}
