package pin

import (
	"os"
	"testing"

	"sallyport/internal/fault"
)

func machine() Machine {
	return Machine{URL: "https://server.example", ManifestPin: "pin", Tenant: "0aaaaaaa-0000-4000-8000-000000000001", MachineID: "0aaaaaaa-0000-4000-8000-000000000002", ResourceID: "/x", KeyThumbprint: "key"}
}

func TestLoad_RoundTripAndNotJoined(t *testing.T) {
	root, me := t.TempDir(), uint32(os.Geteuid())
	if _, err := Load(root, me); !fault.Is(err, fault.Precondition) || Joined(root) {
		t.Fatal(err)
	}
	if err := machine().Save(root); err != nil {
		t.Fatal(err)
	}
	if m, err := Load(root, me); err != nil || m != machine() || !Joined(root) {
		t.Fatal(m, err)
	}
}

func TestLoad_RefusesWhatOthersCouldHaveWritten(t *testing.T) {
	root, me := t.TempDir(), uint32(os.Geteuid())
	if err := machine().Save(root); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root, me+1); err == nil {
		t.Error("another's file was read")
	}
	if err := os.Chmod(root+MachinePath, 0o646); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root, me); err == nil {
		t.Error("a file that everybody can write was read")
	}
}

// TestSave_RefusesAMissingPin (CVE-2026-31957): a pin that is not set must not
// mean that everything is accepted.
func TestSave_RefusesAMissingPin(t *testing.T) {
	for name, change := range map[string]func(*Machine){
		"manifest pin": func(m *Machine) { m.ManifestPin = "" }, "tenant": func(m *Machine) { m.Tenant = "" }, "machine": func(m *Machine) { m.MachineID = "x" },
		"key": func(m *Machine) { m.KeyThumbprint = "" }, "plain http": func(m *Machine) { m.URL = "http://server.example" }, "no URL": func(m *Machine) { m.URL = "" }, "address": func(m *Machine) { m.Address = "x" },
	} {
		m := machine()
		change(&m)
		if err := m.Save(t.TempDir()); err == nil {
			t.Errorf("%s: saved", name)
		}
	}
}
