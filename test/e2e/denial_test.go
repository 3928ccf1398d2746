//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
)

// limitGrant bounds how long a change of rights may take to reach a machine.
const limitGrant = 10 * time.Second

// wants is nil when a login printed the given word.
func wants(r result, word string) error {
	if r.code != 0 || strings.TrimSpace(r.out) != word {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// refusedSoon waits until a login is refused with all words, which are those of
// says: the machine learns of a change within a moment.
func refusedSoon(t *testing.T, try func() result, words ...string) {
	t.Helper()
	page, last := handbooktest.Open(t), result{}
	err := until(limitGrant, func() error {
		r := try()
		if r.code == 0 {
			return fmt.Errorf("the login succeeded: %s", r)
		}
		for _, w := range words {
			if id, ok := strings.CutPrefix(w, "page:"); ok && page[id].In(r.out+r.err) {
				continue
			}
			if !strings.Contains(r.out+r.err, w) {
				return fmt.Errorf("the text does not say %q: %s", w, r)
			}
		}
		last = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	says(t, last.out+last.err, words...)
}

// allowedSoon waits until a login as the person works.
func allowedSoon(t *testing.T, p *person, m *vm) {
	t.Helper()
	if err := until(limitGrant, func() error { return wants(p.sshIP(m, "whoami"), p.name) }); err != nil {
		t.Fatal(err)
	}
}

func TestDenial_NoRole(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "norole")
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "page:no-role", p.name, "--scope "+m.id, "orrelation id")
}

// Owner and Contributor run the machine and do not log in to it.
func TestDenial_OwnerOnlyAndAudited(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "owner")
	grant(t, "Owner", p.name, m.id)
	r := result{}
	refusedSoon(t, func() result { r = p.ssh(m, "true"); return r }, "Owner", roleUser, "orrelation id")
	id := correlation(t, r)
	if err := until(limitGrant, func() error {
		list := admin(t).run("audit", "list", "--correlation-id", id, "-o", "json")
		if list.code != 0 || !strings.Contains(list.out, p.name) || !strings.Contains(list.out, "denied") {
			return fmt.Errorf("the refusal %s is not in the audit log: %s", id, list)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func correlation(t *testing.T, r result) string {
	t.Helper()
	_, rest, ok := strings.Cut(strings.ToLower(r.out+r.err), "correlation id")
	if !ok {
		t.Fatalf("no correlation id: %s", r)
	}
	rest = strings.TrimLeft(rest, ": ")
	if len(rest) < 36 {
		t.Fatalf("no correlation id: %s", r)
	}
	return rest[:36]
}

func TestDenial_RoleOnAnotherGroup(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "elsewhere")
	a := admin(t)
	a.must(t, "group", "create", "--name", "Other", "--location", "southcentralus")
	grant(t, roleAdmin, p.name, a.must(t, "group", "show", "-n", "Other", "--query", "id", "-o", "tsv"))
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned")
}

func TestDenial_NestedGroupThenRemoved(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "nested")
	a := admin(t)
	outer := a.must(t, "ad", "group", "create", "--display-name", "outer", "--mail-nickname", "outer", "--query", "id", "-o", "tsv")
	inner := a.must(t, "ad", "group", "create", "--display-name", "inner", "--mail-nickname", "inner", "--query", "id", "-o", "tsv")
	user := a.must(t, "ad", "user", "show", "--id", p.name, "--query", "id", "-o", "tsv")
	a.must(t, "ad", "group", "member", "add", "--group", outer, "--member-id", inner)
	a.must(t, "ad", "group", "member", "add", "--group", inner, "--member-id", user)
	a.must(t, "role", "assignment", "create", "--role", roleUser, "--assignee-object-id", outer, "--assignee-principal-type", "Group", "--scope", m.id)
	allowedSoon(t, p, m)
	a.must(t, "ad", "group", "member", "remove", "--group", inner, "--member-id", user)
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned")
}

func TestDenial_DisabledBetweenCertificateAndLogin(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "disabled")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	admin(t).must(t, "ad", "user", "update", "--id", p.name, "--account-enabled", "false")
	refusedSoon(t, func() result { return m.ssh(p.name, key.options(), "true") }, "page:disabled", "account "+p.name+" is", "orrelation id")
	r := p.sshIP(m, "true")
	refused(t, r, "page:AADSTS50057")
}

// The article's case: the identity is removed, nobody logs in; assigned again,
// people do.
func TestDenial_IdentityRemovedThenAssigned(t *testing.T) {
	m := machine(t, "identityVM")
	p := newUser(t, "identity")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	admin(t).must(t, "vm", "identity", "remove", "-g", group, "-n", m.name)
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "managed identity", "sally vm identity assign")
	admin(t).must(t, "vm", "identity", "assign", "-g", group, "-n", m.name)
	allowedSoon(t, p, m)
}

func TestDenial_UpperCaseName(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "shouting")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	refused(t, m.ssh(strings.ToUpper(p.name), key.options(), "true"), "Permission denied")
	refused(t, m.ssh("Shouting@"+domain, key.options(), "true"), "Permission denied")
}

func TestDenial_DeletedAndRecreated(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "phoenix")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	old := certificate(t, p)
	a := admin(t)
	a.must(t, "ad", "user", "delete", "--id", p.name)
	a.must(t, "ad", "user", "create", "--display-name", "phoenix", "--user-principal-name", p.name, "--password", p.password)
	grant(t, roleUser, p.name, m.id)
	if r := p.login(); r.code != 0 {
		t.Fatalf("login of the new person: %s", r)
	}
	// The old certificate names the old object id.
	refusedSoon(t, func() result { return m.ssh(p.name, old.options(), "true") }, "Permission denied")
	// The new person meets the old person's name and home.
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, p.name, "home", "sally agent home")
	m.mustRoot(t, "sally agent home archive "+p.name)
	allowedSoon(t, p, m)
}

func TestDenial_AgentStoppedAndKilled(t *testing.T) {
	m := machine(t, "agentVM")
	p := newUser(t, "agentless")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	// Stopped: connections are accepted and never answered.
	m.mustRoot(t, "pkill -STOP -f '[s]ally agent root'")
	began := time.Now()
	r := m.ssh(p.name, key.options(), "true")
	refused(t, r)
	if took := time.Since(began); took > crowded(8*time.Second) {
		t.Errorf("the refusal took %s", took)
	}
	refused(t, p.sshIP(m, "true"), "login service does not answer", "sally agent status")
	began = time.Now()
	if r := m.ssh("azureuser", []string{"-i", m.key}, "sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" || time.Since(began) > crowded(3*time.Second) {
		t.Errorf("azureuser with the agent stopped (%s): %s", time.Since(began), r)
	}
	m.mustRoot(t, "pkill -CONT -f '[s]ally agent root'")
	allowedSoon(t, p, m)
	// A session that is open meets a dead agent at sudo and gets a sentence.
	m.mustRoot(t, "mv /run/sallyport/pam.sock /run/sallyport/pam.sock.away")
	refused(t, m.ssh(p.name, key.options(), "true"), "page:pam-away")
	m.mustRoot(t, "mv /run/sallyport/pam.sock.away /run/sallyport/pam.sock")
	m.mustRoot(t, "pkill -KILL -f '[s]ally agent root'")
	if r := m.ssh("azureuser", []string{"-i", m.key}, "true"); r.code != 0 {
		t.Errorf("azureuser with the agent killed: %s", r)
	}
	allowedSoon(t, p, m) // the init starts it again
}

// TestDenial_AdministratorBecomesUser: the running session loses sudo at once.
func TestDenial_AdministratorBecomesUser(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "demoted")
	id := grant(t, roleAdmin, p.name, m.id)
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	if err := until(limitGrant, func() error { return wants(m.ssh(p.name, key.options(), "sudo", "-n", "whoami"), "root") }); err != nil {
		t.Fatal(err)
	}
	script := `sudo -n whoami; touch ~/began; while [ ! -e ~/go ]; do sleep 0.1; done; for c in "sudo -n true" "sudo -n -i true" "sudo -n -s true"; do $c && echo "OPEN $c"; done; echo end`
	done := make(chan result, 1)
	go func() { done <- m.ssh(p.name, key.options(), script) }()
	if err := until(limitGrant, func() error {
		if r := m.ssh(p.name, key.options(), "test", "-e", "began"); r.code != 0 {
			return fmt.Errorf("the session has not begun: %s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	admin(t).must(t, "role", "assignment", "delete", "--ids", id)
	refusedSoon(t, func() result { return m.ssh(p.name, key.options(), "sudo", "-n", "true") }, roleAdmin)
	if r := m.ssh(p.name, key.options(), "touch", "go"); r.code != 0 {
		t.Fatalf("the user role no longer logs in: %s", r)
	}
	r := <-done
	if strings.Contains(r.out, "OPEN") || !strings.Contains(r.out, "root\n") || !strings.Contains(r.out, "end") {
		t.Fatalf("in the running session: %s", r)
	}
	if n := strings.Count(r.err, roleAdmin); n < 3 {
		t.Errorf("%d of 3 sentences: %s", n, r)
	}
}

func TestDenial_NoExtension(t *testing.T) {
	m := bareMachine(t, "bareVM")
	p := newUser(t, "toosoon")
	grant(t, roleUser, p.name, m.id)
	grant(t, "Reader", p.name, m.id)
	refused(t, p.ssh(m, "true"), "AADSSHLoginForLinux", "sally vm extension set")
	key := certificate(t, p)
	refused(t, m.ssh(p.name, key.options(), "true"), "Permission denied")
	t.Run("Stopped", func(t *testing.T) {
		admin(t).must(t, "vm", "stop", "-g", group, "-n", m.name)
		refused(t, p.ssh(m, "true"), "stopped", "sally vm start")
		admin(t).must(t, "vm", "start", "-g", group, "-n", m.name)
	})
	t.Run("NoIdentity", func(t *testing.T) {
		admin(t).must(t, "vm", "identity", "remove", "-g", group, "-n", m.name)
		admin(t).fails(t, []string{"22", "identity"}, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "-g", group, "--vm-name", m.name)
	})
}

func TestDenial_ExtensionRemovedRestoresTheMachine(t *testing.T) {
	m := bareMachine(t, "undoVM")
	// The host certificate is the agent's own file, with and without the extension.
	content := `cd /etc && find ssh pam.d nsswitch.conf sudoers sudoers.d -type f ! -name sallyport_host_key-cert.pub | LC_ALL=C sort > /tmp/files && xargs stat -c '%n %a %U %G %s' < /tmp/files && xargs sha256sum < /tmp/files`
	before := m.mustRoot(t, content)
	set := []string{"vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "-g", group, "--vm-name", m.name}
	remove := []string{"vm", "extension", "delete", "-g", group, "--vm-name", m.name, "--name", "AADSSHLoginForLinux"}
	p := newUser(t, "undo")
	grant(t, roleUser, p.name, m.id)
	for range 2 {
		admin(t).must(t, set...)
		if m.mustRoot(t, content) == before {
			t.Fatal("the extension changed nothing")
		}
		allowedSoon(t, p, m)
		admin(t).must(t, remove...)
		if after := m.mustRoot(t, content); after != before {
			t.Fatalf("something is left or lost: %s", difference(before, after))
		}
		refused(t, p.sshIP(m, "true"))
	}
}

// difference lists the lines that only one of the texts has.
func difference(before, after string) string {
	var out []string
	for _, pair := range [][3]string{{"- ", before, after}, {"+ ", after, before}} {
		other := strings.Split(pair[2], "\n")
		for line := range strings.SplitSeq(pair[1], "\n") {
			if !slices.Contains(other, line) {
				out = append(out, pair[0]+line)
			}
		}
	}
	return strings.Join(out, "\n")
}

// identity is a key with a certificate, for plain ssh.
type identity struct{ key, cert string }

func (i identity) options() []string {
	return []string{"-i", i.key, "-o", "CertificateFile=" + i.cert}
}

// certificate asks for a certificate the way people with other clients do.
func certificate(t *testing.T, p *person) identity {
	t.Helper()
	dir, err := os.MkdirTemp(theWorld.dir, "id-")
	if err != nil {
		t.Fatal(err)
	}
	i := identity{key: newKey(t, dir), cert: dir + "/cert.pub"}
	p.must(t, "ssh", "cert", "--file", i.cert, "--public-key-file", i.key+".pub")
	return i
}

// TestScopes_InheritDownwards: a role at the management group, the subscription
// and the resource itself opens the machine; the article's login roles can be
// assigned at each.
func TestScopes_InheritDownwards(t *testing.T) {
	m := machine(t, "myVM")
	a := admin(t)
	sub := "/subscriptions/" + a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	tenant := a.must(t, "account", "show", "--query", "tenantId", "-o", "tsv")
	for name, at := range map[string]string{"root": "/providers/Microsoft.Management/managementGroups/" + tenant, "subscription": sub, "group": sub + "/resourceGroups/" + group, "resource": m.id} {
		p := newUser(t, "scope-"+name)
		id := grant(t, roleUser, p.name, at)
		allowedSoon(t, p, m)
		a.must(t, "role", "assignment", "delete", "--ids", id)
		refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned")
	}
}

// TestConfig_ByAddress: a configuration made for an address alone.
func TestConfig_ByAddress(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "byaddress")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	cfg := t.TempDir() + "/cfg"
	p.must(t, "ssh", "config", "--file", cfg, "--ip", m.host)
	cmd := exec.Command("ssh", "-F", cfg, "-o", "BatchMode=yes", m.host, "whoami")
	cmd.Env = p.command().Env
	if err := wants(capture(cmd), p.name); err != nil {
		t.Fatal(err)
	}
}

// TestCVE_2023_28436_SameGroupsInEverySession: a command, a terminal and a
// login shell run with the same ids, and none brings a group of the machine's
// own.
func TestCVE_2023_28436_SameGroupsInEverySession(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "grouped")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	plain := strings.TrimSpace(m.ssh(p.name, key.options(), "id").out)
	for name, r := range map[string]result{
		"terminal":    m.ssh(p.name, append(key.options(), "-tt"), "id"),
		"login shell": m.ssh(p.name, key.options(), "bash -lc id"),
		"subsystem":   m.ssh(p.name, append(key.options(), "-o", "RequestTTY=no"), "exec id"),
	} {
		if got := strings.TrimSpace(r.out); got != plain {
			t.Errorf("%s: %q, a command has %q", name, got, plain)
		}
	}
	_, groups, _ := strings.Cut(plain, "groups=")
	for g := range strings.SplitSeq(groups, ",") {
		if !strings.Contains(g, "("+p.name+")") && !strings.Contains(g, "(sallyport-users)") {
			t.Errorf("the user role brings the group %s", g)
		}
	}
}
