package sshd

import (
	"os"
	"testing"
)

// TestMark_FollowsLinks: a drop-in that is a link changes where it leads to.
func TestMark_FollowsLinks(t *testing.T) {
	root, _, w := machineRoot(t)
	put(t, root, "/srv/corp.conf", "X11Forwarding no\n")
	if err := os.Symlink(root+"/srv/corp.conf", root+dropInFolder+"/50-corp.conf"); err != nil {
		t.Fatal(err)
	}
	mark := w.Mark()
	put(t, root, "/srv/corp.conf", "UsePAM no\nX11Forwarding no\n")
	if w.Mark() == mark {
		t.Error("the mark did not change")
	}
}

// TestAsked_AsPAMReadsIt: a line before ours that PAM takes for one of the account
// phase could be sufficient.
func TestAsked_AsPAMReadsIt(t *testing.T) {
	account, _ := pamBlocks([]string{"corp.example"})
	for before, want := range map[string]bool{
		"": true, "auth required pam_unix.so\n": true, "@include common-auth\n": true, "# account sufficient pam_permit.so\n": true,
		"account sufficient pam_permit.so\n": false, "ACCOUNT sufficient pam_permit.so\n": false, "-Account sufficient pam_permit.so\n": false,
		"account \\\n sufficient pam_permit.so\n": false, "@include site\n": false, "@include site-auth\n": false, "@include common-account\n": false,
	} {
		if got := asked(before + account); got != want {
			t.Errorf("%q: %v", before, got)
		}
	}
}
