package sshd

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// TestApply_SaysWhatThePageExplains: what keeps the extension from being installed,
// word for word.
func TestApply_SaysWhatThePageExplains(t *testing.T) {
	for id, c := range map[string]struct {
		change   func(root string, f *fakeSSHD) error
		meanings []string
	}{
		"ExtensionConflict.older": {func(r string, _ *fakeSSHD) error {
			return os.WriteFile(r+pamFolder+"/sshd", []byte("account sufficient pam_aad.so\n"), 0o600)
		}, []string{"FILE", "/etc/pam.d/sshd"}},
		"ExtensionConflict.sudo": {func(r string, _ *fakeSSHD) error {
			return os.WriteFile(r+sudoersMain, []byte("root ALL=(ALL) ALL\n"), 0o600)
		}, []string{"FILE", "/etc/sudoers"}},
		"ExtensionConflict.name": {func(r string, _ *fakeSSHD) error {
			return os.WriteFile(r+"/etc/group", []byte("sallyport-admins:x:77:mallory\n"), 0o600)
		}, []string{"NAME", "sallyport-admins"}},
		"ExtensionConflict.pam": {func(r string, _ *fakeSSHD) error {
			return os.WriteFile(r+pamFolder+"/sudo", []byte("auth required pam_unix.so\n"), 0o600)
		}, []string{"FILE", "/etc/pam.d/sudo"}},
		"ExtensionConflict.file":        {func(r string, _ *fakeSSHD) error { return os.Symlink(r+nssPath, r+userCAPath) }, []string{"FILE", userCAPath}},
		"ExtensionConfigurationRefused": {func(_ string, f *fakeSSHD) error { f.broken = "line 3: Bad configuration option"; return nil }, nil},
		"ExtensionConfigurationRefused.other": {func(_ string, f *fakeSSHD) error {
			f.only = "-f"
			f.broken = "line 3: Bad configuration option"
			return nil
		}, []string{"FILE", sudoersPath}},
		"ExtensionSelfTestFailed": {func(_ string, f *fakeSSHD) error { f.try = errors.New("nobody can log in"); return nil }, nil},
	} {
		root, f, w := machineRoot(t)
		if err := c.change(root, f); err != nil {
			t.Fatal(err)
		}
		err := w.Apply(context.Background(), wanted())
		if err == nil {
			t.Errorf("%s: nothing is said", id)
			continue
		}
		handbooktest.Said(t, fault.As(err).Public(), id, c.meanings...)
	}
}

// TestCheck_SaysWhatThePageExplains: what was changed on a machine, word for word.
func TestCheck_SaysWhatThePageExplains(t *testing.T) {
	for id, change := range map[string]func(root string, f *fakeSSHD) error{
		"ExtensionDrift.gone":  func(r string, _ *fakeSSHD) error { return os.Remove(r + dropInPath) },
		"ExtensionDrift.lost":  func(r string, _ *fakeSSHD) error { return os.WriteFile(r+nssPath, []byte(nsswitch), 0o600) },
		"ExtensionDrift.owner": func(r string, _ *fakeSSHD) error { return os.Chmod(r+userCAPath, 0o666) },
		"ExtensionDrift.line":  func(_ string, f *fakeSSHD) error { f.refuse = map[string]string{"allowgroups": "staff"}; return nil },
		"ExtensionDrift.environment": func(_ string, f *fakeSSHD) error {
			f.refuse = map[string]string{"permituserenvironment": "yes"}
			return nil
		},
		"ExtensionDrift.sshd":       func(_ string, f *fakeSSHD) error { f.broken = "line 3: Bad configuration option"; return nil },
		"ExtensionDrift.silent":     func(_ string, f *fakeSSHD) error { f.silent = true; return nil },
		"ExtensionDriftOpen.first":  func(r string, _ *fakeSSHD) error { return os.WriteFile(r+pamFolder+"/sshd", []byte(pamSSHD), 0o600) },
		"ExtensionDriftOpen.usepam": func(_ string, f *fakeSSHD) error { f.refuse = map[string]string{"usepam": "no"}; return nil },
		"ExtensionDriftOpen.library": func(r string, _ *fakeSSHD) error {
			return os.Remove(r + "/usr/lib/x86_64-linux-gnu/security/pam_sallyport.so")
		},
	} {
		root, f, w := machineRoot(t)
		if err := w.Apply(context.Background(), wanted()); err != nil {
			t.Fatal(err)
		}
		if err := change(root, f); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, err := range append(w.Examine(context.Background(), wanted()), w.Asks()) {
			if err != nil {
				said = append(said, fault.As(err).Public())
			}
		}
		handbooktest.Said(t, strings.Join(said, "\n"), id)
	}
}

// TestNotes_AllowAndDeny: the article's AllowGroups and DenyGroups.
func TestNotes_AllowAndDeny(t *testing.T) {
	root, _, w := machineRoot(t)
	put(t, root, dropInFolder+"/50-own.conf", "AllowGroups staff\nDenyGroups temps\n")
	said := strings.Join(w.Notes(), "\n")
	handbooktest.Said(t, said, "note-allow", "FILE", dropInFolder+"/50-own.conf", "NUMBER", "1")
	handbooktest.Said(t, said, "note-deny", "FILE", dropInFolder+"/50-own.conf", "NUMBER", "2")
}
