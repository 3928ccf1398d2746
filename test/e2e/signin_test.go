//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// A sign-in is listed and revoked: its certificate, which has an hour left,
// opens the machine no more, and says so; another sign-in goes on.
func TestSignIn_RevokedCertificateOpensNothing(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "revoked")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	if err := wants(m.ssh(p.name, key.options(), "whoami"), p.name); err != nil {
		t.Fatal(err)
	}
	listed := p.must(t, "account", "session", "list", "--query", "[].[name, properties.client, properties.address, properties.factors[0]]", "-o", "tsv")
	row := strings.Split(listed, "\t")
	if len(row) != 4 || row[2] != "127.0.0.1" || row[3] != "pwd" {
		t.Fatalf("%q", listed)
	}
	newUser(t, "stranger").fails(t, []string{"insufficient privileges"}, "account", "session", "revoke", "--id", row[0], "--user", p.name)
	p.must(t, "account", "session", "revoke", "--id", row[0])
	refusedSoon(t, func() result { return m.ssh(p.name, key.options(), "true") }, "was revoked", "orrelation id")
	refused(t, p.sshIP(m, "true"), "AADSTS50173", "sally login")
	if r := p.login(); r.code != 0 {
		t.Fatal(r)
	}
	allowedSoon(t, p, m)
	refusedSoon(t, func() result { return m.ssh(p.name, key.options(), "true") }, "was revoked")
	// An administrator ends all of somebody else's.
	admin(t).must(t, "account", "session", "revoke", "--all", "--user", p.name, "--yes")
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "AADSTS50173")
}

// The tenant's switches refuse with a sentence that names the way out.
func TestSignIn_PasswordGrantSwitchedOff(t *testing.T) {
	p := newUser(t, "switched")
	admin(t).must(t, "tenant", "update", "--allow-password-grant", "false")
	t.Cleanup(func() {
		if r := admin(t).run("tenant", "update", "--allow-password-grant", "true"); r.code != 0 {
			t.Error(r)
		}
	})
	if r := p.login(); r.code == 0 || !strings.Contains(r.err, "Programs may not send passwords") || !strings.Contains(r.err, "sally login") {
		t.Errorf("%s", r)
	}
	p.fails(t, []string{"Sallyport.Access/tenantSettings/write"}, "tenant", "update", "--allow-password-grant", "true")
	if got := p.must(t, "tenant", "show", "--query", "properties.allowPasswordGrant"); got != "false" {
		t.Error(got)
	}
}
