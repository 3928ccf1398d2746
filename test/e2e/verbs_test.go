//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerbs_Machine: a machine's whole life by the article's verbs.
func TestVerbs_Machine(t *testing.T) {
	a := admin(t)
	m := bareMachine(t, "lifeVM")
	power := func() string {
		return a.must(t, "vm", "show", "-d", "-g", group, "-n", m.name, "--query", "powerState", "-o", "tsv")
	}
	if p := power(); p != "VM running" {
		t.Fatalf("after create: %q", p)
	}
	m.mustRoot(t, "echo kept > /root/kept")
	for _, step := range [][2]string{{"stop", "VM stopped"}, {"start", "VM running"}, {"restart", "VM running"}} {
		a.must(t, "vm", step[0], "-g", group, "-n", m.name)
		if p := power(); p != step[1] {
			t.Errorf("after %s: %q", step[0], p)
		}
	}
	if err := until(limitGrant, func() error { return wants(m.root(t, "cat /root/kept"), "kept") }); err != nil {
		t.Error(err)
	}
	first := a.must(t, "vm", "identity", "show", "-g", group, "-n", m.name, "--query", "principalId", "-o", "tsv")
	a.must(t, "vm", "identity", "remove", "-g", group, "-n", m.name)
	a.must(t, "vm", "identity", "assign", "-g", group, "-n", m.name)
	if second := a.must(t, "vm", "identity", "show", "-g", group, "-n", m.name, "--query", "principalId", "-o", "tsv"); second == first || second == "" {
		t.Errorf("the identity came back as %q, was %q", second, first)
	}
	a.must(t, "vm", "delete", "-g", group, "-n", m.name, "--yes")
	if r := a.run("vm", "show", "-g", group, "-n", m.name); r.code != 3 {
		t.Errorf("after delete: %s", r)
	}
	if r := m.ssh("azureuser", []string{"-i", m.key}, "true"); r.code == 0 {
		t.Error("the deleted machine still answers")
	}
}

// TestVerbs_GroupDelete takes its machines with it.
func TestVerbs_GroupDelete(t *testing.T) {
	a := admin(t)
	a.must(t, "group", "create", "--name", "Short", "--location", "southcentralus", "--tags", "a=b")
	key := filepath.Join(t.TempDir(), "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	a.must(t, "vm", "create", "-g", "Short", "-n", "gone", "--image", "Debian11", "--admin-username", "azureuser", "--ssh-key-values", key+".pub")
	a.must(t, "group", "delete", "--name", "Short", "--yes")
	if r := a.run("group", "show", "--name", "Short"); r.code != 3 {
		t.Errorf("after delete: %s", r)
	}
	if list := a.must(t, "vm", "list", "--query", "[].name", "-o", "tsv"); strings.Contains(list, "gone") {
		t.Errorf("the machine is left: %s", list)
	}
}

// TestVerbs_Directory: users, groups, service principals.
func TestVerbs_Directory(t *testing.T) {
	a := admin(t)
	p := newUser(t, "verbose")
	a.must(t, "ad", "user", "update", "--id", p.name, "--display-name", "Verbose Person")
	if n := a.must(t, "ad", "user", "show", "--id", p.name, "--query", "displayName", "-o", "tsv"); n != "Verbose Person" {
		t.Errorf("display name %q", n)
	}
	if n := a.must(t, "ad", "user", "list", "--upn", p.name, "--query", "[0].userPrincipalName", "-o", "tsv"); n != p.name {
		t.Errorf("list --upn: %q", n)
	}
	id := a.must(t, "ad", "user", "show", "--id", p.name, "--query", "id", "-o", "tsv")
	a.must(t, "ad", "group", "create", "--display-name", "verbs", "--mail-nickname", "verbs")
	a.must(t, "ad", "group", "member", "add", "--group", "verbs", "--member-id", id)
	if n := a.must(t, "ad", "group", "member", "list", "--group", "verbs", "--query", "[0].id", "-o", "tsv"); n != id {
		t.Errorf("members: %q", n)
	}
	a.must(t, "ad", "group", "member", "remove", "--group", "verbs", "--member-id", id)
	a.must(t, "ad", "group", "delete", "--group", "verbs")
	a.fails(t, []string{"No group matches the name of 'verbs'"}, "ad", "group", "show", "--group", "verbs")
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(a.must(t, "ad", "sp", "create-for-rbac", "--name", "verbs-sp")), &sp); err != nil {
		t.Fatal(err)
	}
	if n := a.must(t, "ad", "sp", "list", "--display-name", "verbs-sp", "--query", "[0].appId", "-o", "tsv"); n != sp.AppID {
		t.Errorf("sp list: %q", n)
	}
	old := sp.Password
	if err := json.Unmarshal([]byte(a.must(t, "ad", "sp", "credential", "reset", "--id", sp.AppID)), &sp); err != nil || sp.Password == old {
		t.Fatalf("credential reset: %v", err)
	}
	q := theWorld.person(sp.AppID, sp.Password)
	login := func(secret string) result {
		return q.run("login", "--server", theWorld.address, "--service-principal", "-u", sp.AppID, "-p", secret, "--tenant", sp.Tenant, "--allow-no-subscriptions")
	}
	if r := login(old); r.code == 0 || !strings.Contains(r.err, "AADSTS7000215") {
		t.Errorf("the old secret: %s", r)
	}
	if r := login(sp.Password); r.code != 0 {
		t.Errorf("the new secret: %s", r)
	}
}

// TestVerbs_Account: show, list, set, logout, password.
func TestVerbs_Account(t *testing.T) {
	p := newUser(t, "accounts")
	a := admin(t)
	sub := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	grant(t, "Reader", p.name, "/subscriptions/"+sub)
	if r := p.login(); r.code != 0 {
		t.Fatal(r)
	}
	name := p.must(t, "account", "list", "--query", "[0].name", "-o", "tsv")
	p.must(t, "account", "set", "-s", name)
	p.fails(t, []string{"account list"}, "account", "set", "-s", "no such subscription")
	if n := p.must(t, "account", "show", "--query", "user.name", "--output", "tsv"); n != p.name {
		t.Errorf("user.name %q", n)
	}
	// A reader reads and does not write, and is told which right is missing.
	p.must(t, "group", "show", "-n", group)
	p.fails(t, []string{"AuthorizationFailed", "Microsoft.Resources/", "write", p.name}, "group", "create", "--name", "Mine", "--location", "southcentralus")
	p.fails(t, []string{"Authorization_RequestDenied"}, "ad", "user", "create", "--display-name", "x", "--user-principal-name", "x@"+domain, "--password", p.password)
	changed := "Velvet-Anchor-27-Harvest"
	p.fails(t, []string{"password"}, "account", "password", "change", "--username", p.name, "--password", p.password, "--new-password", "short")
	p.must(t, "account", "password", "change", "--username", p.name, "--password", p.password, "--new-password", changed)
	p.fails(t, []string{"sally login"}, "group", "list") // the old tokens are dead
	p.password = changed
	if r := p.login(); r.code != 0 {
		t.Fatal(r)
	}
	p.must(t, "logout")
	p.fails(t, []string{"sally login"}, "account", "show")
}

// A directory name that is also a local account of the machine is refused: two
// people would share a name.
func TestDenial_NameOfALocalUser(t *testing.T) {
	m := machine(t, "localVM")
	p := newUser(t, "twin")
	grant(t, roleAdmin, p.name, m.id)
	allowedSoon(t, p, m)
	m.mustRoot(t, "echo '"+p.name+":x:5000:5000::/home/twin:/bin/sh' >> /etc/passwd")
	refusedSoon(t, func() result { return p.sshIP(m, "id") })
	if r := m.ssh("azureuser", []string{"-i", m.key}, "true"); r.code != 0 {
		t.Errorf("azureuser: %s", r)
	}
	m.mustRoot(t, "sed -i '/^twin@/d' /etc/passwd")
	allowedSoon(t, p, m)
}

// TestAccess_WhoAndExplain: the list and the explanation agree with what the
// machine does.
func TestAccess_WhoAndExplain(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	in, out := newUser(t, "explained"), newUser(t, "unexplained")
	g := a.must(t, "ad", "group", "create", "--display-name", "explainers", "--mail-nickname", "explainers", "--query", "id", "-o", "tsv")
	a.must(t, "ad", "group", "member", "add", "--group", g, "--member-id", a.must(t, "ad", "user", "show", "--id", in.name, "--query", "id", "-o", "tsv"))
	a.must(t, "role", "assignment", "create", "--role", roleUser, "--assignee-object-id", g, "--assignee-principal-type", "Group", "--scope", m.id)
	allowedSoon(t, in, m)
	who := a.must(t, "access", "who", "--scope", m.id, "-o", "json")
	says(t, who, in.name)
	if strings.Contains(who, out.name) {
		t.Errorf("%s is listed: %s", out.name, who)
	}
	for _, p := range []*person{in, out} {
		says(t, a.must(t, "access", "explain", "--user", p.name, "--machine", m.name, "-g", group, "-o", "json"), p.name, map[bool]string{true: "explainers", false: "refused: neither"}[p == in])
	}
	refused(t, out.sshIP(m, "true"), "Azure role not assigned")
}

// TestRoles_CustomRoleOpensTheMachine: a role of one's own with the login data
// action works like the built-in one, and stops working when it loses it.
func TestRoles_CustomRoleOpensTheMachine(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	p := newUser(t, "customer")
	scope := a.must(t, "group", "show", "-n", group, "--query", "id", "-o", "tsv")
	role := func(dataActions string) string {
		return `{"Name":"Shell only","IsCustom":true,"Description":"x","Actions":[],"NotActions":[],"DataActions":[` + dataActions + `],"NotDataActions":[],"AssignableScopes":["` + scope + `"]}`
	}
	a.must(t, "role", "definition", "create", "--role-definition", role(`"Microsoft.Compute/virtualMachines/login/action"`))
	grant(t, "Shell only", p.name, m.id)
	allowedSoon(t, p, m)
	refused(t, p.sshIP(m, "sudo", "-n", "true"), roleAdmin)
	a.must(t, "role", "definition", "update", "--role-definition", role(""))
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned")
}
