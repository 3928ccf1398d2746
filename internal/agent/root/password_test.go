package root

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/machine/protocol"
)

const wordHash = "$6$rounds=50000$./0123456789ABCD$67dW3DKA1O.UqApLQpz.FO/ZA5xgxP1Ob.lJq2aVMqsv0gtnTSLo61qJ3LIepUBjC6oekYRT6ThCkMIglOY/m0"

func (r *rig) leavePassword(content string, mode os.FileMode) string {
	r.t.Helper()
	path := filepath.Join(r.root, passwordPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// TestAdministrator_PasswordOnceAndNeverInArguments: chpasswd reads the hash that
// was left for the account, and the file is gone then.
func TestAdministrator_PasswordOnceAndNeverInArguments(t *testing.T) {
	r := newRig(t)
	path := r.leavePassword(wordHash+"\n", 0o600)
	want := func(d *protocol.SnapshotDocument) {
		d.Administrator = &protocol.LocalAdministrator{Name: "azureuser"}
	}
	r.mustDeliver(want)
	i := slices.IndexFunc(r.commands, func(argv []string) bool { return argv[0] == "chpasswd" })
	if i < 0 || !slices.Equal(r.commands[i], []string{"chpasswd", "--encrypted"}) || r.stdin[i] != "azureuser:"+wordHash+"\n" || r.as[i] != nil {
		t.Fatalf("%v %v", r.commands, r.stdin)
	}
	for _, argv := range r.commands {
		if strings.Contains(strings.Join(argv, " "), "$6$") {
			t.Errorf("in arguments: %v", argv)
		}
	}
	if len(r.commands) != 3 { // useradd, visudo, chpasswd: there is no key to write
		t.Errorf("%v", r.commands)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the hash is still there: %v", err)
	}
	if text := r.file(adminPath); !strings.Contains(text, "azureuser") || strings.Contains(text, "$6$") {
		t.Errorf("kept: %s", text)
	}
	// Whatever lies there later is nobody's password.
	r.leavePassword(strings.Replace(wordHash, "67dW", "aaaa", 1), 0o600)
	r.mustDeliver(want)
	if len(r.commands) != 3 {
		t.Errorf("set again: %v", r.commands)
	}
}

func TestAdministrator_RefusesAPasswordThatIsNone(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"a second account": {wordHash + "\nroot:" + wordHash, 0o600}, "no hash": {"Meadow-Quartz-83-Lamp", 0o600}, "another scheme": {"$1$" + wordHash[3:], 0o600},
		"everybody's file": {wordHash, 0o622}, "empty": {"", 0o600}, "long": {strings.Repeat(wordHash, 20), 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.leavePassword(tc.content, tc.mode)
			r.mustDeliver(func(d *protocol.SnapshotDocument) {
				d.Administrator = &protocol.LocalAdministrator{Name: "azureuser"}
			})
			if slices.ContainsFunc(r.commands, func(argv []string) bool { return argv[0] == "chpasswd" }) {
				t.Errorf("set: %q", r.stdin)
			}
			if st := r.Status(); st.Provisioned != "Failed" || strings.Contains(st.Message, "$6$") || !strings.Contains(st.Message, passwordPath) {
				t.Errorf("%+v", st)
			}
		})
	}
}
