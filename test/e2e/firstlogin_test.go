//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	roleAdmin = "Virtual Machine Administrator Login"
	roleUser  = "Virtual Machine User Login"
)

// TestArticle_FirstLogin walks the article's commands, with sally for az.
func TestArticle_FirstLogin(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	username := a.must(t, "account", "show", "--query", "user.name", "--output", "tsv")
	if username != adminUPN {
		t.Fatalf("user.name is %q", username)
	}
	rg := a.must(t, "group", "show", "--resource-group", group, "--query", "id", "-o", "tsv")
	id := grant(t, roleAdmin, username, rg)
	t.Cleanup(func() { a.must(t, "role", "assignment", "delete", "--ids", id) })

	// The machine learns of the grant within a moment.
	if err := until(limitGrant, func() error { return wants(a.ssh(m, "sudo", "-n", "whoami"), "root") }); err != nil {
		t.Fatal(err)
	}
	if r := a.ssh(m, "id"); r.code != 0 || !strings.Contains(r.out, "("+adminUPN+")") || !strings.Contains(r.out, "(sallyport-admins)") {
		t.Fatalf("login: %s", r)
	}
	if r := a.ssh(m, "-A", "-o", "ServerAliveInterval=30", "sudo", "whoami"); r.code != 0 || strings.TrimSpace(r.out) != "root" {
		t.Fatalf("sudo: %s", r)
	}
	if r := a.sshIP(m, "pwd"); r.code != 0 || strings.TrimSpace(r.out) != "/home/"+adminUPN {
		t.Fatalf("--ip: %s", r)
	}
	if r := a.ssh(m, "stat -c %a:%U ~"); strings.TrimSpace(r.out) != "700:"+adminUPN {
		t.Fatalf("home: %s", r)
	}
	t.Run("RSA", func(t *testing.T) { rsaLogin(t, a, m) })
	t.Run("Config", func(t *testing.T) { configLogin(t, a, m) })
	t.Run("Cert", func(t *testing.T) { certFile(t, a, m) })
	t.Run("LocalAdministrator", func(t *testing.T) {
		if r := m.ssh("azureuser", []string{"-i", m.key}, "sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" {
			t.Fatalf("azureuser: %s", r)
		}
	})
}

func rsaLogin(t *testing.T, a *person, m *vm) {
	key := filepath.Join(t.TempDir(), "id_rsa")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	r := a.run("ssh", "vm", "-n", m.name, "-g", group, "--public-key-file", key+".pub", "--private-key-file", key, "--", "-A", "-o", "PubkeyAcceptedKeyTypes= +ssh-rsa-cert-v01@openssh.com", "whoami")
	if r.code != 0 || strings.TrimSpace(r.out) != adminUPN {
		t.Fatalf("RSA key: %s", r)
	}
}

// configLogin uses the exported configuration with stock ssh, removes the
// certificate, and expects the configuration to renew it by itself.
func configLogin(t *testing.T, a *person, m *vm) {
	dir := t.TempDir()
	cfg := filepath.Join(dir, "cfg")
	a.must(t, "ssh", "config", "--file", cfg, "-n", m.name, "-g", group)
	use := func(host string) result {
		cmd := exec.Command("ssh", "-F", cfg, "-o", "BatchMode=yes", host, "sudo", "whoami")
		cmd.Env = a.command().Env
		return capture(cmd)
	}
	for _, host := range []string{group + "-" + m.name, m.host} {
		if r := use(host); r.code != 0 || strings.TrimSpace(r.out) != "root" {
			t.Fatalf("ssh -F cfg %s: %s", host, r)
		}
	}
	removed := 0
	_ = filepath.Walk(dir, func(path string, _ os.FileInfo, _ error) error {
		if strings.HasSuffix(path, "cert.pub") {
			removed++
			return os.Remove(path)
		}
		return nil
	})
	if removed == 0 {
		t.Fatal("no certificate was written")
	}
	if r := use(group + "-" + m.name); r.code != 0 || strings.TrimSpace(r.out) != "root" {
		t.Fatalf("the configuration did not renew its certificate: %s", r)
	}
}

func certFile(t *testing.T, a *person, m *vm) {
	dir := t.TempDir()
	key := filepath.Join(dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	a.must(t, "ssh", "cert", "--file", key+"-cert.pub", "--public-key-file", key+".pub")
	text, err := exec.Command("ssh-keygen", "-L", "-f", key+"-cert.pub").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, text)
	}
	says(t, string(text), "user certificate", adminUPN, "Valid: from")
	if r := m.ssh(adminUPN, []string{"-i", key, "-o", "CertificateFile=" + key + "-cert.pub"}, "whoami"); strings.TrimSpace(r.out) != adminUPN {
		t.Fatalf("plain ssh with the certificate: %s", r)
	}
}

// TestArticle_ServicePrincipal: create-for-rbac, a role by object id, a login.
func TestArticle_ServicePrincipal(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	out := a.must(t, "ad", "sp", "create-for-rbac", "--name", "deployer", "--query", "[appId, password, tenant]", "-o", "tsv")
	f := strings.Fields(out)
	if len(f) != 3 {
		t.Fatalf("create-for-rbac: %q", out)
	}
	p := theWorld.person(f[0], f[1])
	login := func() result {
		return p.run("login", "--server", theWorld.address, "--service-principal", "-u", f[0], "-p", f[1], "--tenant", f[2], "--allow-no-subscriptions")
	}
	if r := login(); r.code != 0 {
		t.Fatalf("login: %s", r)
	}
	refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned", roleUser)
	object := a.must(t, "ad", "sp", "show", "--id", f[0], "--query", "id", "-o", "tsv")
	sub := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	a.must(t, "role", "assignment", "create", "--role", roleUser, "--assignee-object-id", object, "--assignee-principal-type", "ServicePrincipal", "--scope", "/subscriptions/"+sub+"/resourceGroups/"+group)
	if err := until(limitGrant, func() error { return wants(p.sshIP(m, "whoami"), object) }); err != nil {
		t.Fatal(err)
	}
	refused(t, p.sshIP(m, "sudo", "-n", "whoami"), roleAdmin)
}
