package sshd

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// A service whose PAM file is in the vendor's folder alone, as systemd-user's from
// Debian 12 on, is asked about too: otherwise a person's service manager starts
// after his role is gone. The copy goes with the extension.
func TestApply_PAMFileOfTheVendor(t *testing.T) {
	root, _, w := machineRoot(t)
	vendor := "# systemd's\n@include common-account\nsession required pam_loginuid.so\n"
	put(t, root, vendorPAM+"/systemd-user", vendor)
	path := pamFolder + "/systemd-user"
	for range 2 {
		if err := w.Apply(t.Context(), wanted()); err != nil {
			t.Fatal(err)
		}
		if err := w.Check(t.Context(), wanted()); err != nil {
			t.Fatal(err)
		}
		got := read(t, root, path)
		if !strings.Contains(got, "pam_sallyport.so domains=") || strings.Index(got, "pam_sallyport.so") > strings.Index(got, "@include common-account") || strings.Count(got, begin) != 2 || !strings.Contains(got, "# systemd's\n") {
			t.Fatalf("%s", got)
		}
		// The vendor's next version closes nobody out.
		put(t, root, vendorPAM+"/systemd-user", vendor+"# newer\n")
	}
	if err := w.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(root + path); !errors.Is(err, fs.ErrNotExist) || read(t, root, vendorPAM+"/systemd-user") != vendor+"# newer\n" {
		t.Fatalf("%v", err)
	}
	// What an administrator made himself is his, and stays.
	put(t, root, path, "account required pam_unix.so\n")
	if err := w.Apply(t.Context(), wanted()); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(t.Context()); err != nil || read(t, root, path) != "account required pam_unix.so\n" {
		t.Fatalf("%v %s", err, read(t, root, path))
	}
}
