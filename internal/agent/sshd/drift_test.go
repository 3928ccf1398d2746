package sshd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A question to sshd that failed for the moment is no finding; one that sshd
// answered with no is, and so is what else was found.
func TestCheck_UnsureIsNoFinding(t *testing.T) {
	killed, refused := exec.Command("/bin/sh", "-c", "kill -9 $$").Run(), exec.Command("/bin/sh", "-c", "exit 255").Run()
	for name, c := range map[string]struct {
		status error
		unsure bool
	}{
		"killed": {killed, true}, "out of time": {context.DeadlineExceeded, true}, "no fork": {&fs.PathError{Op: "fork/exec", Path: "/usr/sbin/sshd", Err: unix.EAGAIN}, true},
		"no memory": {&fs.PathError{Op: "fork/exec", Path: "/usr/sbin/sshd", Err: unix.ENOMEM}, true}, "no pipe": {os.NewSyscallError("pipe2", unix.EMFILE), true},
		"refused": {refused, false}, "not there": {&fs.PathError{Op: "fork/exec", Path: "/usr/sbin/sshd", Err: unix.ENOENT}, false},
	} {
		for _, change := range []func(f *fakeSSHD){func(f *fakeSSHD) { f.broken = "line 3: no" }, func(f *fakeSSHD) { f.silent = true }} {
			root, f, w := machineRoot(t)
			if err := w.Apply(t.Context(), wanted()); err != nil {
				t.Fatal(err)
			}
			f.status = c.status
			change(f)
			if err := w.Check(t.Context(), wanted()); err == nil || Unsure(err) != c.unsure {
				t.Errorf("%s: %v", name, err)
			}
			if err := os.Remove(root + dropInPath); err != nil {
				t.Fatal(err)
			}
			if err := w.Check(t.Context(), wanted()); err == nil || Unsure(err) {
				t.Errorf("%s, and a file is gone: %v", name, err)
			}
		}
	}
}

func TestWorst(t *testing.T) {
	unsure, weak, open := error(unix.EMFILE), error(drifted("weak")), error(wideOpen("open"))
	for _, c := range []struct {
		found []error
		want  error
	}{{nil, nil}, {[]error{unsure}, unsure}, {[]error{unsure, weak}, weak}, {[]error{weak, unsure, open}, open}, {[]error{unsure, open}, open}} {
		if got := worst(c.found); !errors.Is(got, c.want) {
			t.Errorf("%v: %v", c.found, got)
		}
	}
}

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
