//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func newKey(t *testing.T, dir string) string {
	t.Helper()
	key := filepath.Join(dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return key
}

// forge signs whatever is asked with a CA key: the server's own, as a thief of
// it would, or a foreign one.
func forge(t *testing.T, ca ssh.Signer, change func(*ssh.Certificate)) identity {
	t.Helper()
	dir := t.TempDir()
	i := identity{key: newKey(t, dir), cert: filepath.Join(dir, "cert.pub")}
	text, err := os.ReadFile(i.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: pub, Serial: 7, CertType: ssh.UserCert, KeyId: "forged", ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": ""}}}
	change(c)
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.cert, ssh.MarshalAuthorizedKey(c), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func userCA(t *testing.T) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(signer(t, "user-ca"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestForged_CertificatesOpenNothing: even with the real CA key, a certificate
// opens only the account of the object id that it names, and only with a grant.
func TestForged_CertificatesOpenNothing(t *testing.T) {
	m := machine(t, "myVM")
	victim := newUser(t, "victim")
	thief := newUser(t, "thief")
	grant(t, roleAdmin, victim.name, m.id)
	allowedSoon(t, victim, m)
	id := admin(t).must(t, "ad", "user", "show", "--id", victim.name, "--query", "id", "-o", "tsv")
	thiefID := admin(t).must(t, "ad", "user", "show", "--id", thief.name, "--query", "id", "-o", "tsv")
	ours := userCA(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	principals := func(p ...string) func(*ssh.Certificate) { return func(c *ssh.Certificate) { c.ValidPrincipals = p } }
	for name, tc := range map[string]struct {
		login string
		ca    ssh.Signer
		make  func(*ssh.Certificate)
	}{
		"root as principal":           {"root", ours, principals("root")},
		"root as principal, our name": {victim.name, ours, principals("root")},
		"root beside an object id":    {"root", ours, principals("root", id)},
		"azureuser as principal":      {"azureuser", ours, principals("azureuser")},
		"no principal":                {victim.name, ours, principals()},
		"no principal, root":          {"root", ours, principals()},
		"star":                        {victim.name, ours, principals("*")},
		"the name without the id":     {victim.name, ours, principals(victim.name)},
		"another's name and own id":   {victim.name, ours, principals(victim.name, thiefID)},
		"own id at another's account": {victim.name, ours, principals(thief.name, thiefID)},
		"foreign CA":                  {victim.name, foreign, principals(victim.name, id)},
		"expired": {victim.name, ours, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{victim.name, id}
			c.ValidAfter -= 7200
			c.ValidBefore -= 7200
		}},
		"not yet valid":    {victim.name, ours, func(c *ssh.Certificate) { c.ValidPrincipals = []string{victim.name, id}; c.ValidAfter += 1800 }},
		"host certificate": {victim.name, ours, func(c *ssh.Certificate) { c.ValidPrincipals = []string{victim.name, id}; c.CertType = ssh.HostCert }},
		"source address elsewhere": {victim.name, ours, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{victim.name, id}
			c.CriticalOptions = map[string]string{"source-address": "192.0.2.1/32"}
		}},
		"made for another machine": {victim.name, ours, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{victim.name, id}
			c.Extensions["machine@sallyport"] = "00000000-0000-4000-8000-000000000000"
		}},
		"critical option of the future": {victim.name, ours, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{victim.name, id}
			c.CriticalOptions = map[string]string{"future@example.com": "1"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			i := forge(t, tc.ca, tc.make)
			// All are refused by sshd itself or before a role is asked for, so the
			// client shows OpenSSH's own words.
			refused(t, m.ssh(tc.login, i.options(), "true"), "Permission denied (publickey")
		})
	}
}

// TestForged_StrongerOfferedWeakerSigned: the decision is about the certificate
// that signed, not about one that was only offered (CVE-2024-45337).
func TestForged_StrongerOfferedWeakerSigned(t *testing.T) {
	m := machine(t, "myVM")
	strong := newUser(t, "strong")
	weak := newUser(t, "weak")
	grant(t, roleAdmin, strong.name, m.id)
	allowedSoon(t, strong, m)
	good, bad := certificate(t, strong), certificate(t, weak)
	// ssh offers the strong certificate without its key, then signs with the
	// weak one.
	r := m.ssh(strong.name, []string{"-o", "CertificateFile=" + good.cert, "-i", bad.key, "-o", "CertificateFile=" + bad.cert}, "true")
	refused(t, r, "Permission denied")
	r = m.ssh(weak.name, []string{"-o", "CertificateFile=" + good.cert, "-i", bad.key, "-o", "CertificateFile=" + bad.cert}, "true")
	refused(t, r, "Azure role not assigned")
}
