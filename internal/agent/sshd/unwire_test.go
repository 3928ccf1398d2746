package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/internal/handbooktest"
)

// The package's own script for a machine whose agent is damaged: of a file it takes
// our lines alone, and where it cannot, the file is as it was.
func TestUnwireScript(t *testing.T) {
	script, err := filepath.Abs("../../../packaging/scripts/unwire")
	if err != nil {
		t.Fatal(err)
	}
	const theirs, more = "auth required pam_unix.so\n", "session required pam_limits.so\n"
	whole := theirs + block("auth sufficient pam_sallyport.so", "auth optional pam_x.so") + more
	cut := theirs + begin + "\nauth sufficient pam_sallyport.so\n" + more
	for name, c := range map[string]struct {
		text, want string
		broken     bool
	}{
		"a block":            {whole, theirs + more, false},
		"a block cut off":    {cut, theirs + more, false},
		"nothing of ours":    {theirs + more, theirs + more, false},
		"a program is amiss": {whole, whole, true},
	} {
		root := t.TempDir()
		files := map[string]string{"etc/pam.d/sshd": c.text, "etc/nsswitch.conf": "passwd: files sallyport\n", "etc/sudoers.d/sallyport": "x\n"}
		for path, text := range files {
			full := filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// A link, as authselect makes them, is one afterwards.
		if err := os.MkdirAll(filepath.Join(root, "etc/profile"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Rename(filepath.Join(root, "etc/pam.d/sshd"), filepath.Join(root, "etc/profile/sshd")), os.Symlink("../profile/sshd", filepath.Join(root, "etc/pam.d/sshd"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "sh", script, root)
		if c.broken {
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, "awk"), []byte("#!/bin/sh\nhead -n 1\nexit 1\n"), 0o755); err != nil { //nolint:gosec // a program
				t.Fatal(err)
			}
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		}
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.broken {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if c.broken {
			handbooktest.Said(t, string(out), "package.unwire", "NAME", "awk")
		}
		got, err := os.ReadFile(filepath.Join(root, "etc/pam.d/sshd"))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		if to, err := os.Readlink(filepath.Join(root, "etc/pam.d/sshd")); err != nil || to != "../profile/sshd" {
			t.Errorf("%s: the link is %q: %v", name, to, err)
		}
		entries, err := os.ReadDir(filepath.Join(root, "etc/pam.d"))
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: something is left over: %v", name, entries)
		}
		_, err = os.Stat(filepath.Join(root, "etc/sudoers.d/sallyport"))
		if (err == nil) != c.broken {
			t.Errorf("%s: the rest was taken away: %v", name, err)
		}
	}
}
