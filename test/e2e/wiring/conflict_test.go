//go:build e2e

package wiring

import (
	"strings"
	"testing"
)

// conflict is something that other people have configured.
type conflict struct {
	name string
	make string   // a script; sshd is not told by it
	says []string // words of the refusal; nil: the extension works beside it
	note []string // words of doctor's notes, where it works
}

const mainFile = "/etc/ssh/sshd_config"

// ahead puts lines before everything else of sshd_config; behind, at its end.
func ahead(lines string) string {
	return "printf '" + lines + "\\n' | cat - " + mainFile + " > /tmp/new && cat /tmp/new > " + mainFile
}
func behind(lines string) string { return "printf '" + lines + "\\n' >> " + mainFile }

const noInclude = "sed -i '/^Include/d' " + mainFile + "; "

func conflicts() []conflict {
	return []conflict{
		{name: "sshd refuses it before us", make: behind("NoSuchKeyword yes"), says: []string{"refuses its configuration as it is, so nothing was changed", mainFile, "NoSuchKeyword"}},
		{name: "AuthorizedKeysCommand", make: ahead("AuthorizedKeysCommand /bin/false %%u\\nAuthorizedKeysCommandUser nobody"), note: []string{mainFile + ":1: AuthorizedKeysCommand goes on for local accounts"}},
		{name: "AuthorizedPrincipalsFile", make: ahead("AuthorizedPrincipalsFile /etc/ssh/principals/%%u"), note: []string{mainFile + ":1: AuthorizedPrincipalsFile goes on for local accounts"}},
		{name: "TrustedUserCAKeys", make: "cp /root/.ssh/id.pub /etc/ssh/their_ca.pub; " + ahead("TrustedUserCAKeys /etc/ssh/their_ca.pub"), note: []string{mainFile + ":1: TrustedUserCAKeys goes on for local accounts"}},
		{name: "PermitUserEnvironment yes", make: ahead("PermitUserEnvironment yes"), says: []string{"PermitUserEnvironment yes (" + mainFile + ":1)", "no Match can take back"}},
		{name: "PermitUserEnvironment with harmless names", make: ahead("PermitUserEnvironment LANG,LC_*")},
		{name: "ForceCommand", make: ahead("ForceCommand /bin/true"), note: []string{mainFile + ":1: ForceCommand holds for directory accounts too"}},
		{name: "AllowUsers", make: ahead("AllowUsers root local helper"), note: []string{mainFile + ":1: AllowUsers does not apply to directory accounts"}},
		{name: "AllowGroups", make: "groupadd -f staff; usermod -aG staff local; usermod -aG staff helper; usermod -aG staff root; " + ahead("AllowGroups staff"), note: []string{mainFile + ":1: AllowGroups does not apply to directory accounts", "sallyport-users"}},
		{name: "DenyUsers of others", make: ahead("DenyUsers mallory"), note: []string{mainFile + ":1: DenyUsers holds for directory accounts too"}},
		{name: "DenyUsers of everybody of ours", make: ahead("DenyUsers *-*-*-*-*"), says: []string{mainFile + ":1 refuses people of the directory", "DenyUsers"}},
		{name: "DenyGroups of ours", make: ahead("X11Forwarding no\\nDenyGroups sallyport-users"), says: []string{mainFile + ":2 refuses people of the directory", "DenyGroups sallyport-users"}},
		{name: "algorithms without certificates", make: behind("CASignatureAlgorithms rsa-sha2-512"), says: []string{mainFile + ":", "refuses people of the directory", "CASignatureAlgorithms"}},
		{name: "a chroot that is not there", make: behind("Match User *-*-*-*-*\\n  ChrootDirectory /nowhere"), says: []string{mainFile + ":", "refuses people of the directory", "ChrootDirectory"}},
		{name: "UsePAM no", make: "sed -i 's/^UsePAM.*/UsePAM no/' " + mainFile, says: []string{"UsePAM no (" + mainFile + ":", "roles are checked through PAM"}},
		{name: "a drop-in before ours, Match User", make: "printf 'Match User *\\n  AuthorizedKeysFile .ssh/authorized_keys /etc/keys/%%u\\n' > /etc/ssh/sshd_config.d/00-before.conf",
			says: []string{"authorizedkeysfile", "/etc/ssh/sshd_config.d/00-before.conf:2"}},
		{name: "a drop-in before ours, Match Address", make: "printf 'Match Address 10.0.0.0/8\\n  AuthenticationMethods any\\n' > /etc/ssh/sshd_config.d/00-before.conf",
			says: []string{"authenticationmethods any", "10.0.0.0", "/etc/ssh/sshd_config.d/00-before.conf:2"}},
		{name: "a drop-in before ours, Match Group", make: "printf 'Match Group sudo\\n  PasswordAuthentication no\\n' > /etc/ssh/sshd_config.d/00-before.conf"},
		{name: "a drop-in behind ours", make: "printf 'Match User *\\n  AuthorizedKeysFile .ssh/authorized_keys\\n  PasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/zz.conf"},
		{name: "Match blocks behind", make: behind("Match Address 127.0.0.0/8\\n  AuthorizedKeysFile .ssh/authorized_keys\\nMatch Group sudo\\n  X11Forwarding no\\nMatch User *\\n  PasswordAuthentication yes")},
		{name: "no Include", make: noInclude + "true"},
		{name: "no Include, Match blocks", make: noInclude + behind("Match User local\\n  X11Forwarding no\\nMatch Address 10.0.0.0/8\\n  PasswordAuthentication yes")},
		{name: "Include at the end, behind a Match", make: noInclude + behind("Match User local\\n  X11Forwarding no\\nInclude /etc/ssh/sshd_config.d/*.conf")},
		{name: "Include in another spelling, with a Match before ours", make: "sed -i 's,^Include.*,include=\"/etc/ssh/sshd_config.d/*\",' " + mainFile + "; printf 'Match User *\\n  TrustedUserCAKeys /etc/ssh/x.pub\\n' > /etc/ssh/sshd_config.d/x.conf",
			says: []string{"trustedusercakeys", "/etc/ssh/sshd_config.d/x.conf:2"}},
		{name: "nsswitch without systemd", make: "printf 'passwd: files\\ngroup: files\\nshadow: files\\nhosts: files dns\\n' > /etc/nsswitch.conf"},
		{name: "nsswitch with sss", make: "printf 'passwd: files sss systemd\\ngroup: files [SUCCESS=merge] sss [SUCCESS=merge] systemd\\nshadow: files sss\\nsudoers: files sss\\n' > /etc/nsswitch.conf"},
		{name: "nsswitch with compat", make: "printf 'passwd: compat\\ngroup: compat\\nshadow: compat\\n' > /etc/nsswitch.conf"},
		{name: "nsswitch with initgroups", make: "printf 'passwd:files systemd\\ngroup:files systemd\\ninitgroups: files\\n' > /etc/nsswitch.conf"},
		{name: "nsswitch is a link", make: "mv /etc/nsswitch.conf /etc/nsswitch.real; ln -s nsswitch.real /etc/nsswitch.conf", says: []string{"/etc/nsswitch.conf is not a regular file"}},
		{name: "pam-auth-update: mkhomedir", make: "pam-auth-update --force --enable mkhomedir >/dev/null 2>&1; grep -q mkhomedir /etc/pam.d/common-session"},
		{name: "PAM by hand: sufficient before everything", make: "sed -i '1i account sufficient pam_permit.so' /etc/pam.d/sshd /etc/pam.d/sudo"},
		{name: "PAM by hand: access.conf denies", make: "echo 'account required pam_access.so' >> /etc/pam.d/sshd; printf '+:root local helper:ALL\\n-:ALL:ALL\\n' > /etc/security/access.conf", says: []string{"PAM refused it", "/etc/pam.d/sshd"}},
		{name: "PAM by hand: a session that fails", make: "printf 'session [success=1 default=ignore] pam_succeed_if.so quiet uid < 1000000000\\nsession requisite pam_deny.so\\n' >> /etc/pam.d/sshd", says: []string{"PAM refused it", "/etc/pam.d/sshd"}},
		{name: "PAM by hand: no account phase", make: "sed -i '/account/d' /etc/pam.d/sudo", says: []string{"/etc/pam.d/sudo has no account phase"}},
		{name: "sudoers without a folder", make: "sed -i '/includedir/d' /etc/sudoers; echo 'helper ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers", says: []string{"/etc/sudoers does not include the folder"}},
		{name: "a group of our name", make: "groupadd sallyport-admins", says: []string{"local user or group named sallyport-admins"}},
	}
}

// TestWiring_Conflicts: over each configuration that others have made, the
// extension either works, and doctor notes what an administrator should know, or
// refuses with the place and the reason and leaves every byte. Local people log in
// all the time, and removing restores what was.
func TestWiring_Conflicts(t *testing.T) {
	eachSystem(t, func(t *testing.T, b *box) {
		b.join()
		a := b.agent()
		if _, ok := a.state(); !ok {
			t.Fatal("no agent")
		}
		a.say("off")
		b.must("cp -a /etc/passwd /etc/group /etc/gshadow /root/; rsync -aAX --delete /etc/ /saved-etc/")
		for _, c := range conflicts() {
			t.Run(c.name, func(t *testing.T) {
				c.try(t, b.in(t), a)
				b.must("rsync -aAXc --delete /saved-etc/ /etc/; " + hup)
			})
		}
	})
}

func (c conflict) try(t *testing.T, b *box, a *running) {
	t.Helper()
	b.must(c.make)
	before := b.picture()
	st := a.say("on")
	if c.says != nil {
		if st.Extension || st.Provisioned != "Failed" {
			t.Errorf("installed: %+v", st.Message)
		}
		for _, w := range c.says {
			if !strings.Contains(st.Message, w) {
				t.Errorf("the refusal does not say %q: %s", w, st.Message)
			}
		}
		if after := b.picture(); after != before {
			t.Errorf("something was changed:\n%s", difference(before, after))
		}
		b.oneComesIn(c.name)
		if out, err := b.sh("sally agent doctor"); err == nil || !strings.Contains(out, "FAIL") || !strings.Contains(out, c.says[0]) {
			t.Errorf("doctor: %v\n%s", err, out)
		}
		a.say("off")
		return
	}
	if !st.Extension {
		t.Fatalf("not installed: %s", st.Message)
	}
	if !strings.Contains(strings.Join(c.note, " "), "ForceCommand") {
		if out, err := b.alice(); err != nil || !strings.HasSuffix(out, alice) {
			t.Errorf("alice does not get in: %v\n%s", err, out)
		}
		b.oneComesIn(c.name)
	}
	out, err := b.sh("sally agent doctor")
	if !strings.Contains(out, "ok    people can log in") || !strings.Contains(out, "as they must be") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	for _, w := range c.note {
		if !strings.Contains(out, w) {
			t.Errorf("doctor does not note %q:\n%s", w, out)
		}
	}
	if st := a.say("off"); st.Extension {
		t.Errorf("not removed: %s", st.Message)
	}
	if after := b.picture(); after != before {
		t.Errorf("not restored:\n%s", difference(before, after))
	}
}
