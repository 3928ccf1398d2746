package sshd

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

// CVE-2026-34397, CVE-2025-59044: a group whose name somebody chose got the
// rights of a local group of that name. Rights hang on our group ids, and a
// machine on which one of the names is taken is refused.
func TestApply_CVE_2026_34397_CVE_2025_59044_GroupsCountByID(t *testing.T) {
	root, _, w := machineRoot(t)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(root + sudoersPath)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		who := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "Defaults:"))
		if len(who) == 0 || strings.HasPrefix(who[0], "#") {
			continue
		}
		if who[0] != "%#2147483640" && who[0] != "%#2147483641" || who[0] == "%#2147483640" && strings.Contains(line, "ALL") {
			t.Errorf("sudoers has %q", line)
		}
	}
	for _, name := range []string{"sallyport-users", "sallyport-admins", "sallyport-identity"} {
		for _, file := range []string{"/etc/group", "/etc/passwd"} {
			root, _, w := machineRoot(t)
			f, err := os.OpenFile(root+file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString(name + ":x:27:27::/:/bin/sh\n")
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			if err := w.Apply(context.Background(), wanted()); err == nil || !strings.Contains(fault.As(err).Public(), name) {
				t.Errorf("%s in %s: %v", name, file, err)
			}
		}
	}
}
