package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

func idOf(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func openTest(t *testing.T, dir string) *state {
	t.Helper()
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func TestState_SurvivesReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	s := openTest(t, dir)
	s.octet = 200
	want := record{ID: idOf(1), Name: "web-1", System: labwire.SystemDebian11, Backend: labwire.BackendNspawn, Host: 7, Lower: []string{"/a", "/b"}, Run: true, Booted: true}
	if err := s.put(want); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{idOf(1), idOf(2)} {
		if err := os.MkdirAll(s.in(id, "upper"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openState(dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("two at once: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	if got := s.records[idOf(1)]; fmt.Sprint(got) != fmt.Sprint(want) || s.octet != 200 {
		t.Errorf("got %v, octet %d", got, s.octet)
	}
	left, err := os.ReadDir(filepath.Join(dir, "machines"))
	if err != nil || len(left) != 1 || left[0].Name() != idOf(1) {
		t.Errorf("files of an unstored machine are kept: %v %v", left, err)
	}
	if err := s.remove(idOf(1)); err != nil || len(s.list()) != 0 {
		t.Errorf("remove: %v %v", err, s.list())
	}
}

func TestState_DamagedFileIsRefusedAndKeepsMachines(t *testing.T) {
	for name, content := range map[string]string{
		"not json":     "{",
		"no octet":     `{"machines":[]}`,
		"bad octet":    `{"octet":256,"machines":[]}`,
		"path as id":   `{"octet":7,"machines":[{"id":"../../x","name":"a","host":2}]}`,
		"bad name":     `{"octet":7,"machines":[{"id":"` + idOf(1) + `","name":"A b","host":2}]}`,
		"bridge's own": `{"octet":7,"machines":[{"id":"` + idOf(1) + `","name":"a","host":1}]}`,
	} {
		dir := filepath.Join(t.TempDir(), "lab")
		if err := os.MkdirAll(filepath.Join(dir, "machines", idOf(1)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openState(dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "machines", idOf(1))); err != nil {
			t.Errorf("%s: a machine's files were swept: %v", name, err)
		}
	}
}

func TestState_DirectoryMustBeRootsAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(dir); !fault.Is(err, fault.Forbidden) {
		t.Errorf("open to others: %v", err)
	}
	for _, bad := range []string{"relative", "/a:b", "/a,b", `/a\b`} {
		if _, err := openState(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(link); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestState_AddressesAreReusedAndRunOut(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "lab"))
	for host := firstHost; host <= lastHost; host++ {
		if got, err := s.freeHost(); err != nil || got != host {
			t.Fatalf("got %d %v, want %d", got, err, host)
		}
		s.records[idOf(host)] = record{ID: idOf(host), Name: "a", Host: host}
	}
	if _, err := s.freeHost(); !fault.Is(err, fault.Exhausted) {
		t.Errorf("full: %v", err)
	}
	delete(s.records, idOf(9))
	if got, _ := s.freeHost(); got != 9 {
		t.Errorf("got %d", got)
	}
}

func TestLowerLayers_AreCheckedDirectories(t *testing.T) {
	good, open := t.TempDir(), t.TempDir()
	for dir, mode := range map[string]os.FileMode{good: 0o755, open: 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := lowerLayers([]string{good + "/", good}); err != nil || len(got) != 2 || got[0] != good {
		t.Errorf("got %v %v", got, err)
	}
	for name, dirs := range map[string][]string{
		"none": nil, "empty": {""}, "relative": {"x"}, "missing": {good + "/none"}, "comma": {"/a,upperdir=/"}, "others can write": {open}, "too many": {good, good, good, good, good},
	} {
		if _, err := lowerLayers(dirs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPrintMachines_ShowsWhereToConnect(t *testing.T) {
	var out strings.Builder
	err := printMachines(&out, []labwire.Machine{
		{MachineID: idOf(1), Name: "web-1", State: labwire.StateRunning, Address: "10.77.0.2", Loopback: "127.77.0.2", SSHPort: 2222},
		{MachineID: idOf(2), Name: "web-2", State: labwire.StateStopped, Address: "10.77.0.3"},
	})
	if err != nil || !strings.Contains(out.String(), "127.77.0.2:2222") || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

func TestCommand_KnowsItsWords(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"proxy", "--socket", "x"}, {"status"}, {"serve", "--nonsense"}, {"stage"}, {"init"}, {"status", "--socket", "x", "extra"}} {
		c := Command()
		c.SetArgs(args)
		c.SetOut(&strings.Builder{})
		c.SetErr(&strings.Builder{})
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v: accepted", args)
		}
	}
}

// A machine that a lab of before there was a choice has stored is what machines
// then were.
func TestState_MachineWithoutASystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	if err := openTest(t, dir).close(); err != nil {
		t.Fatal(err)
	}
	old := `{"octet":3,"machines":[{"id":"` + idOf(1) + `","name":"web-1","host":7,"lower":["/a"],"run":true,"booted":true}]}`
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := openTest(t, dir).records[idOf(1)]; r.System != labwire.SystemDebian12 || r.Backend != labwire.BackendNetns {
		t.Errorf("read as %s under %s", r.System, r.Backend)
	}
}
