package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whom a machine trusts is root's word alone.
func TestJoined_OnlyWhatItsOwnerWrote(t *testing.T) {
	root := t.TempDir()
	a := &app{cfg: Config{MachineRoot: root, MachineOwner: uint32(os.Geteuid())}}
	path := filepath.Join(root, pinsPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := a.joined(); err == nil {
		t.Fatal("no machine")
	}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	const good = `{"url":"https://server.example","address":"10.0.0.1:443","manifestPin":"pin","tenant":"t"}`
	write(good, 0o644)
	if p, err := a.joined(); err != nil || p != (pins{"https://server.example", "10.0.0.1:443", "pin"}) {
		t.Fatalf("%+v %v", p, err)
	}
	a.cfg.MachineOwner++
	if _, err := a.joined(); err == nil || !strings.Contains(err.Error(), "root's alone") {
		t.Error(err)
	}
	a.cfg.MachineOwner--
	for text, mode := range map[string]os.FileMode{good + " ": 0o666, good + "  ": 0o664, "{}": 0o644, "x": 0o644} {
		write(text, mode)
		if p, err := a.joined(); err == nil {
			t.Errorf("%q with mode %o: %+v", text, mode, p)
		}
	}
}
