package sshd

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// openSSH74 is what OpenSSH 7.4 knows, by kind; testdata/openssh-7.4.txt names its
// source.
func openSSH74(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/openssh-7.4.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] != "#" {
			known[f[0]] = append(known[f[0]], f[1:]...)
		}
	}
	if len(known["keyword"]) < 80 || len(known["match"]) < 40 || len(known["criterion"]) != 6 {
		t.Fatalf("the list of 7.4 is damaged: %d keywords, %d in Match", len(known["keyword"]), len(known["match"]))
	}
	return known
}

// unknownTo74 names the lines that OpenSSH 7.4 would refuse or read otherwise.
func unknownTo74(known map[string][]string, text string) (bad []string) {
	token := regexp.MustCompile(`%.`)
	matching := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		ok := len(f) > 1
		switch {
		case f[0] == "Match":
			matching = true
			for i := 1; i < len(f); i += 2 { // pairs of criterion and pattern
				ok = ok && i+1 < len(f) && slices.Contains(known["criterion"], f[i])
			}
		case matching:
			ok = ok && slices.Contains(known["match"], f[0])
		default:
			ok = ok && slices.Contains(known["keyword"], f[0])
		}
		for _, used := range token.FindAllString(line, -1) {
			ok = ok && f[0] == "AuthorizedPrincipalsCommand" && slices.Contains(known["principals-token"], used)
		}
		if !ok {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	return bad
}

// TestOpenSSH74_KnowsEveryLine: what we write into sshd's configuration, as a
// drop-in and into a file without Include (7.4 has none), is made of what 7.4's
// manual has.
func TestOpenSSH74_KnowsEveryLine(t *testing.T) {
	known := openSSH74(t)
	root, _, w := machineRoot(t)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	lines := sshdLines(wanted().Domains, "/usr/libexec/sallyport-principals", true, manner{})
	for name, text := range map[string]string{
		"drop-in":            read(t, root, dropInPath),
		"in sshd_config":     editMain("Port 22\n", lines),
		"before their Match": editMain("Port 22\nMatch User bob\n  X11Forwarding no\n", lines),
	} {
		if bad := unknownTo74(known, text); len(bad) > 0 {
			t.Errorf("%s: OpenSSH 7.4 does not know %q", name, bad)
		}
		if !strings.Contains(text, "Match User ") || !strings.Contains(text, "AuthorizedPrincipalsCommand ") {
			t.Errorf("%s: our block is not there:\n%s", name, text)
		}
	}
}

// TestOpenSSH74_ListRefuses: the check sees what came later.
func TestOpenSSH74_ListRefuses(t *testing.T) {
	known := openSSH74(t)
	for _, line := range []string{
		"Include /etc/ssh/sshd_config.d/*.conf",                // 8.2
		"Match User x\n  ExposeAuthInfo yes",                   // 7.6
		"CASignatureAlgorithms ssh-ed25519",                    // 7.9
		"Match User x\n  PubkeyAcceptedAlgorithms +ssh-rsa",    // 8.5
		"Match User x\n  HostCertificate /etc/ssh/x",           // global
		"Match LocalNetwork 10.0.0.0/8",                        // 9.4
		"Match User x\n  AuthorizedPrincipalsCommand /x %U",    // 8.5
		"Match User x\n  AuthorizedPrincipalsFile /etc/ssh/%u", // a token where ours has none
		"Match User x\n  PermitListen none",                    // 7.8
	} {
		if len(unknownTo74(known, line)) != 1 {
			t.Errorf("passes: %q", line)
		}
	}
}
