package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVMCreate_AdminPassword(t *testing.T) {
	f, p := signedIn(t)
	machinesOf(f)
	const word = "Meadow-Quartz-83-Lamp"
	file := filepath.Join(p.dir, "word")
	if err := os.WriteFile(file, []byte(word+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(more ...string) []string {
		f.log = nil
		return append([]string{"vm", "create", "-g", "RG", "-n", "myVM", "--image", "UbuntuLTS", "--admin-username", "azureuser"}, more...)
	}
	sent := func(has bool, words ...string) {
		t.Helper()
		all := strings.Join(f.log, "\n")
		for _, w := range words {
			if strings.Contains(all, w) != has {
				t.Errorf("sent is not %v: %s\n%s", has, w, all)
			}
		}
	}
	said := p.run(create("--admin-password", "@"+file)...).err
	sent(true, `"adminPassword":"`+word+`"`, `"disablePasswordAuthentication":false`)
	sent(false, "publicKeys")
	if !strings.Contains(said, "no role, policy, second factor or revocation reaches it") || strings.Contains(said, word) {
		t.Errorf("said: %s", said)
	}
	p.stdin = word + "\n"
	p.must(create("--authentication-type", "all", "--generate-ssh-keys")...)
	sent(true, `"adminPassword":"`+word+`"`, `"disablePasswordAuthentication":false`, "publicKeys")
	p.must(create("--generate-ssh-keys")...)
	sent(true, `"disablePasswordAuthentication":true`, "publicKeys")
	sent(false, "adminPassword")

	// Nothing is made for what would be refused.
	for _, tc := range []struct {
		says string
		more []string
	}{
		{"cannot be used with SSH", []string{"--authentication-type", "ssh", "--admin-password", "@" + file}},
		{"cannot be used with password", []string{"--authentication-type", "password", "--ssh-key-values", "x"}},
		{"between 12 and 72", []string{"--admin-password", "Short-1"}},
		{"between 12 and 72", []string{"--admin-password", "only small letters"}},
		{"between 12 and 72", []string{"--admin-password", strings.Repeat("Ab1-", 19)}},
	} {
		p.fails(1, []string{tc.says}, create(tc.more...)...)
		sent(false, "PUT ")
	}
	p.fails(2, []string{"not one of ssh, password, all"}, create("--authentication-type", "certificate")...)
	sent(false, "PUT ")
}
