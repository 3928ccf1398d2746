package root

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/machine/protocol"
)

// TestAdministrator_CVE_2025_54882_KeysAreWrittenByTheAccount: root writes nothing
// where a user can put a link. The keys of the machine's own administrator are
// written by a process of that account, and useradd and visudo are all that runs
// as root.
func TestAdministrator_CVE_2025_54882_KeysAreWrittenByTheAccount(t *testing.T) {
	r := newRig(t)
	pub, err := ssh.NewPublicKey(r.userCA.Public())
	if err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Administrator = &protocol.LocalAdministrator{Name: "azureuser", Keys: []string{string(ssh.MarshalAuthorizedKey(pub))}}
	})
	programs := []string{}
	for i, argv := range r.commands {
		programs = append(programs, argv[0])
		asRoot := r.as[i] == nil
		if touchesHome := strings.Contains(strings.Join(argv, " "), "HOME"); touchesHome == asRoot {
			t.Errorf("%v runs as %+v", argv, r.as[i])
		}
		if !asRoot && (r.as[i].UID != 1000 || r.as[i].GID != 1000) {
			t.Errorf("%v runs as %+v", argv, r.as[i])
		}
	}
	if !slices.Equal(programs, []string{"useradd", "visudo", "/bin/sh"}) {
		t.Fatalf("%v", programs)
	}
}

// TestState_CVE_2025_54882_NothingPrivateIsReadable: of what the root part keeps,
// others may read the name service file alone, and write nothing.
func TestState_CVE_2025_54882_NothingPrivateIsReadable(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	seen := 0
	err := filepath.WalkDir(r.root+stateFolder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		limit := fs.FileMode(0o600)
		if path == r.root+nssPath {
			limit = 0o644
		}
		if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&^limit != 0 {
			t.Errorf("%s has mode %v", path, mode)
		}
		return nil
	})
	if err != nil || seen < 3 {
		t.Fatalf("%d files, %v", seen, err)
	}
}

// TestSnapshot_DomainsThatWiden: domains stand in sshd's Match line and in PAM's
// arguments. One that is a pattern, a list or a second line is refused, whoever
// signed it.
func TestSnapshot_DomainsThatWiden(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	for _, d := range []string{"", "*", "*.example", "a.example,*@*", "a.example *@*", "a.example\nMatch all\n\tPermitRootLogin yes", "A.example", "a..example", "-a.example", "a.example debug", "a.example]", "ä.example"} {
		if err := r.deliver(func(doc *protocol.SnapshotDocument) { doc.Domains = []string{"corp.example", d} }); err == nil {
			t.Errorf("the domain %q was taken", d)
		}
	}
	if err := r.deliver(func(doc *protocol.SnapshotDocument) { doc.Domains = []string{"corp.example", "b-1.example"} }); err != nil {
		t.Error(err)
	}
}
