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
	localWord = "Meadow-Quartz-83-Lamp"
	otherWord = "Meadow-Quartz-83-Lamps"
)

// TestAdminPassword: the password of a machine's administrator account opens it,
// with sudo, and is nowhere else; a machine that was made with keys takes none, even
// where somebody sets one.
func TestAdminPassword(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		on := platform{system, netns}
		if system == debian13 {
			on.backend = nspawn
		}
		a, dir := admin(t), t.TempDir()
		word := filepath.Join(dir, "word")
		if err := os.WriteFile(word, []byte(localWord+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &vm{name: "word-" + system, admin: a}
		made := a.run("vm", "create", "-g", group, "-n", m.name, "--image", on.image(), "--size", on.size(), "--admin-username", "azureuser", "--admin-password", "@"+word, "--authentication-type", "password")
		if made.code != 0 || strings.Contains(made.out+made.err, localWord) {
			t.Fatalf("vm create: %s", made)
		}
		m.host = a.must(t, "vm", "show", "-d", "-g", group, "-n", m.name, "--query", "publicIps", "-o", "tsv")
		m.port = a.must(t, "machine", "show", "-g", group, "-n", m.name, "--query", "properties.sshPort", "-o", "tsv")
		r := m.byPassword(dir, localWord, "sudo -n sh -c 'whoami; cat /etc/shadow; sshd -T | grep ^passwordauthentication; ls -A /var/lib/sallyport /home/azureuser'")
		if r.code != 0 || !strings.HasPrefix(r.out, "root\n") || !strings.Contains(r.out, "\nazureuser:$6$rounds=50000$") || !strings.Contains(r.out, "passwordauthentication yes") {
			t.Fatalf("login by password: %s", r)
		}
		if strings.Contains(r.out, "administrator-password") || strings.Contains(r.out, ".ssh") {
			t.Errorf("left behind: %s", r.out)
		}
		if r := m.byPassword(dir, otherWord, "true"); r.code == 0 || !strings.Contains(r.err, "Permission denied (publickey,password)") {
			t.Errorf("another password: %s", r)
		}
		if shown := a.must(t, "vm", "show", "-g", group, "-n", m.name); strings.Contains(shown, "$6$") || strings.Contains(shown, "dminPassword") || strings.Contains(shown, localWord) {
			t.Errorf("shown: %s", shown)
		}
		a.must(t, "vm", "delete", "-g", group, "-n", m.name, "--yes", "--no-wait")
	})
	keys, dir := machine(t, "myVM"), t.TempDir()
	keys.mustRoot(t, "id worded || useradd -m worded; echo 'worded:"+localWord+"' | chpasswd")
	for _, name := range []string{"azureuser", "worded"} {
		if r := keys.byPasswordAs(name, dir, localWord, "true"); r.code == 0 || !strings.Contains(r.err, "Permission denied (publickey)") {
			t.Errorf("%s by password, on a machine with keys: %s", name, r)
		}
	}
}

// byPassword logs in as the administrator with a password alone.
func (m *vm) byPassword(dir, word string, command ...string) result {
	return m.byPasswordAs("azureuser", dir, word, command...)
}

func (m *vm) byPasswordAs(name, dir, word string, command ...string) (r result) {
	ask := filepath.Join(dir, "askpass")
	if err := os.WriteFile(ask, []byte("#!/bin/sh\necho '"+word+"'\n"), 0o700); err != nil { //nolint:gosec // it is run
		return result{err: err.Error(), code: 127}
	}
	_ = until(limitEnd, func() error { // sshd may hang up while it is told to read its configuration anew
		cmd := exec.Command("ssh", append([]string{"-F", "none", "-p", m.port, "-l", name, "-o", quickKex, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
			"-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "NumberOfPasswordPrompts=1", m.host}, command...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
		if r = capture(cmd); r.code == 255 && strings.Contains(r.err, "kex_exchange_identification: ") {
			return r.failure()
		}
		return nil
	})
	return r
}
