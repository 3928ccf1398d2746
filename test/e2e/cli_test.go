//go:build e2e

package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestCLI_NoCachedToken(t *testing.T) {
	p := theWorld.person("nobody@"+domain, "x")
	for _, args := range [][]string{{"account", "show"}, {"group", "list"}, {"ssh", "vm", "-n", "a", "-g", "b"}, {"account", "get-access-token"}} {
		p.fails(t, []string{"sally login"}, args...)
	}
}

// TestCLI_StartsLean: what every start of the program makes before main, agent's
// parts included, stays small. A regular expression with counted repetitions took
// 2 ms and half a megabyte.
func TestCLI_StartsLean(t *testing.T) {
	cmd := exec.Command("../../out/sally", "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all := 0
	for _, l := range regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes, `).FindAllStringSubmatch(string(out), -1) {
		bytes, _ := strconv.Atoi(l[2])
		if all += bytes; bytes > 100_000 {
			t.Errorf("%s makes %d bytes", l[1], bytes)
		}
	}
	if all == 0 || all > 400_000 {
		t.Errorf("%d bytes are made before main, of 302,704 when this was written", all)
	}
}

func TestCLI_WrongPasswordAndLockout(t *testing.T) {
	p := newUser(t, "locked")
	for range 12 {
		p.fails(t, []string{"AADSTS50"}, "login", "--server", theWorld.address, "-u", p.name, "-p", "wrong-password-1")
	}
	// Locked says what wrong says: three answers would tell which names exist.
	p.fails(t, []string{"AADSTS50126", "too many attempts"}, "login", "--server", theWorld.address, "-u", p.name, "-p", p.password)
	p.fails(t, []string{"AADSTS50126"}, "login", "--server", theWorld.address, "-u", "no-such-person@"+domain, "-p", "wrong-password-1")
}

func TestCLI_ServerUnreachableAndNotPinned(t *testing.T) {
	p := theWorld.person("offline@"+domain, "x")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "https://localhost:" + strings.TrimPrefix(l.Addr().String(), "127.0.0.1:")
	_ = l.Close()
	_, pin, _ := strings.Cut(theWorld.address, "#")
	p.fails(t, []string{dead, "sally"}, "login", "--server", dead+"#"+pin, "-u", "a@"+domain, "-p", "b")
	url, _, _ := strings.Cut(theWorld.address, "#")
	p.fails(t, []string{"thumbprint"}, "login", "--server", url+"#"+strings.Repeat("A", 43), "-u", "a@"+domain, "-p", "b")
}

func TestCLI_WrongTenantFlagFolder(t *testing.T) {
	a := admin(t)
	p := theWorld.person("tenant@"+domain, "x")
	p.fails(t, []string{"AADSTS90002"}, "login", "--server", theWorld.address, "--service-principal", "-u", "5a11e9c1-0000-4000-8000-000000000000", "-p", "x", "--tenant", "11111111-1111-4111-8111-111111111111")
	if r := a.fails(t, []string{"--resorce-group"}, "vm", "show", "--resorce-group", "x", "-n", "y"); r.code != 2 {
		t.Errorf("an unknown flag exits with %d", r.code)
	}
	cmd := a.command("login", "--server", theWorld.address, "-u", adminUPN, "-p", "x")
	cmd.Env = append(cmd.Env, "SALLY_CONFIG_DIR=/proc/nowhere")
	if r := capture(cmd); r.code == 0 || !strings.Contains(r.err, "/proc/nowhere") {
		t.Errorf("unwritable folder: %s", r)
	}
}

func TestCLI_Article_GroupsAndLists(t *testing.T) {
	a := admin(t)
	machine(t, "myVM")
	for _, args := range [][]string{
		{"--version"}, {"account", "list"}, {"group", "list", "-o", "table"}, {"vm", "list", "-d", "-o", "table"}, {"vm", "show", "-d", "-g", group, "-n", "myVM"},
		{"vm", "identity", "show", "-g", group, "-n", "myVM"}, {"vm", "extension", "list", "-g", group, "--vm-name", "myVM", "-o", "table"},
		{"vm", "extension", "show", "-g", group, "--vm-name", "myVM", "--name", "AADSSHLoginForLinux"},
		{"role", "definition", "list", "--name", "Virtual Machine User Login"}, {"role", "assignment", "list", "--all"},
		{"ad", "user", "list", "-o", "table"}, {"ad", "group", "list"}, {"ad", "sp", "list", "--all"}, {"ad", "signed-in-user", "show"},
		{"extension", "add", "--name", "ssh"}, {"extension", "show", "--name", "ssh"}, {"machine", "list", "-o", "table"}, {"audit", "verify"}, {"audit", "list", "-o", "table"},
		{"account", "get-access-token"}, {"completion", "bash"},
	} {
		if out := a.must(t, args...); out == "" && args[0] != "extension" {
			t.Errorf("sally %s prints nothing", strings.Join(args, " "))
		}
	}
	var def []struct{ RoleName, Name string }
	if err := json.Unmarshal([]byte(a.must(t, "role", "definition", "list", "--name", roleUser)), &def); err != nil || len(def) != 1 || def[0].Name != "fb879df8-f326-4884-b1cf-06f3ad86be52" {
		t.Errorf("role definition: %v %+v", err, def)
	}
	r := a.run("group", "show", "-n", "nowhere")
	if r.code != 3 || !strings.Contains(r.err, "ResourceGroupNotFound") {
		t.Errorf("show of what does not exist: %s", r)
	}
}

// A role assignment with a condition is refused, never made without it.
func TestARM_ConditionIsRefused(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	id := a.must(t, "ad", "signed-in-user", "show", "--query", "id", "-o", "tsv")
	body := `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/fb879df8-f326-4884-b1cf-06f3ad86be52","principalId":"` + id + `","condition":"false","conditionVersion":"2.0"}}`
	a.fails(t, []string{"condition"}, "rest", "--method", "put", "--url", m.id+"/providers/Microsoft.Authorization/roleAssignments/12345678-1234-4234-8234-123456789012?api-version=2022-04-01", "--body", body)
}

// -A forwards the user's own agent and never the ephemeral key: a hostile
// machine that reads the forwarded agent finds the user's key and no other.
func TestSSH_AgentForwardingNeverCarriesOurKey(t *testing.T) {
	a := admin(t)
	m := machine(t, "myVM")
	p := newUser(t, "forwarder")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	dir := t.TempDir()
	key := newKey(t, dir)
	sock := filepath.Join(dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", sock)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Process.Kill(); _ = agent.Wait() }()
	if err := until(limitGrant, func() error { return answers(sock) }); err != nil {
		t.Fatal(err)
	}
	add := exec.Command("ssh-add", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	cmd := p.command("ssh", "vm", "--ip", m.host, "--port", m.port, "--", "-A", "ssh-add -L; ls -la /tmp ~")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+sock)
	r := capture(cmd)
	if r.code != 0 || strings.Count(r.out, "ssh-ed25519 ") != 1 || strings.Contains(r.out, "cert-v01") {
		t.Fatalf("the machine saw: %s", r)
	}
	_ = a
}

// What a hostile server answers must not reach ssh's command line or its
// configuration file.
func TestSSH_ServerValuesAreChecked(t *testing.T) {
	a := admin(t)
	for _, ip := range []string{"-oProxyCommand=touch /tmp/owned", "a b", "a\nHost *", "a`b`", "a%h", `a"b`, "$(x)"} {
		r := a.run("ssh", "vm", "--ip="+ip)
		if r.code == 0 || !strings.Contains(r.err, "ERROR") {
			t.Errorf("%q: %s", ip, r)
		}
		cfg := filepath.Join(t.TempDir(), "cfg")
		r = a.run("ssh", "config", "--file", cfg, "--ip="+ip)
		if r.code == 0 {
			t.Errorf("config %q: %s", ip, r)
		}
		if _, err := os.Stat(cfg); err == nil {
			t.Errorf("config %q wrote a file", ip)
		}
	}
}

func TestAudit_EveryCertificateIsARecord(t *testing.T) {
	a := admin(t)
	p := newUser(t, "audited")
	i := certificate(t, p)
	out, err := exec.Command("ssh-keygen", "-L", "-f", i.cert).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), `Key ID: "`)
	id, _, _ := strings.Cut(rest, `"`)
	list := a.must(t, "audit", "list", "--correlation-id", id, "-o", "json")
	says(t, list, "certificate", p.name, id)
	says(t, a.must(t, "audit", "verify"), "true")
}
