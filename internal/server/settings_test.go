package server

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"sallyport/internal/fault"
)

func settingFlags() *pflag.FlagSet { return runCommand("test").Flags() }

func TestSettings_TheFileFillsWhatTheCommandLineLeavesOpen(t *testing.T) {
	flags := settingFlags()
	if err := flags.Parse([]string{"--listen", "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	text := `{"state": "/s", "listen": "0.0.0.0:8443", "labSocket": "/l", "metrics": "127.0.0.1:9464", "keyPassphraseFile": "/p", "debug": true}`
	if faults := parseSettings("f", []byte(text), flags); len(faults) > 0 {
		t.Fatal(faults)
	}
	for name, want := range map[string]string{"state": "/s", "listen": "127.0.0.1:1", "lab-socket": "/l", "metrics": "127.0.0.1:9464", "key-passphrase-file": "/p", "debug": "true"} {
		if got := flags.Lookup(name).Value.String(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestSettings_EveryKeyIsAFlag(t *testing.T) {
	flags := settingFlags()
	for key, name := range settingKeys() {
		if flags.Lookup(name) == nil {
			t.Errorf("%s: no flag --%s", key, name)
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		named := false
		for _, name := range settingKeys() {
			named = named || name == f.Name
		}
		if !named && !slices.Contains([]string{"config", "check-config", "help"}, f.Name) {
			t.Errorf("--%s cannot be set in the file", f.Name)
		}
	})
}

func TestSettings_FaultsAreAllNamedAtOnce(t *testing.T) {
	text := "{\n\"listne\": \"x\",\n\"listen\": 8443,\n\"debug\": \"yes\",\n\"state\": \"/a\",\n\"state\": \"/b\"\n} {}"
	faults := parseSettings("f.json", []byte(text), settingFlags())
	err := all(faults)
	if len(faults) != 5 || !fault.Is(err, fault.Invalid) {
		t.Fatalf("%d: %v", len(faults), err)
	}
	public := fault.As(err).Public()
	for _, want := range []string{"5 settings are wrong", `f.json, line 2: the key "listne" is unknown`, "keyPassphraseFile", `line 3: the key "listen"`, `line 4: the key "debug"`, `line 6: the key "state" is there twice`, "something follows"} {
		if !strings.Contains(public, want) {
			t.Errorf("%q is missing in %s", want, public)
		}
	}
}

func TestSettings_BrokenFiles(t *testing.T) {
	for _, text := range []string{"", "[]", "null", "7", "{", `{"state"`, `{"state":`, `{"state":"/s"`, `{"state":"/s",}`, `{state:"/s"}`, "{\"state\":\"\x00\"}", `{"state":null}`, `{"listen":["a"]}`, `{"debug":1}`, "// words\n{}"} {
		if faults := parseSettings("f", []byte(text), settingFlags()); len(faults) == 0 {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range []string{`{"state":"/s","debug":true}`, `{"x":1,"state":2}`, "{\"state\":\"a\xff\"", "[]", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		flags := settingFlags()
		faults := parseSettings("f", text, flags)
		if err := all(faults); (err == nil) != (len(faults) == 0) {
			t.Fatalf("%v of %d faults", err, len(faults))
		}
	})
}

func TestSettings_NobodyElseWritesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.json")
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o640: true, 0o664: false, 0o646: false} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if faults := readSettings(path, settingFlags()); (len(faults) == 0) != fine {
			t.Errorf("%o: %v", mode, faults)
		}
	}
	if err := os.WriteFile(path, []byte("{"+strings.Repeat(" ", maxSettings)+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".none", filepath.Dir(path)} {
		if faults := readSettings(p, settingFlags()); len(faults) == 0 {
			t.Errorf("%s was accepted", p)
		}
	}
}

// The command tells what is wrong in the file, on the command line and missing
// altogether in one answer.
func TestRunCommand_CheckConfigNamesEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.json")
	if err := os.WriteFile(path, []byte(`{"colour": "red"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := runCommand("test")
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"--config", path, "--check-config", "--listen", "nowhere", "--metrics", "0.0.0.0:1", "--key-passphrase-file", path + ".none"})
	err := cmd.Execute()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"5 settings are wrong", "colour", "nowhere", "0.0.0.0:1", ".none", "--state"} {
		if public := fault.As(err).Public(); !strings.Contains(public, want) {
			t.Errorf("%q is missing in %s", want, public)
		}
	}
}

func TestCheckState_ChangesNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	if err := checkState(Config{State: missing}); err == nil {
		t.Fatal("accepted")
	}
	if _, err := os.Lstat(missing); !os.IsNotExist(err) {
		t.Fatal("the folder was made")
	}
	err := checkState(rig(t, time.Now).cfg)
	if root := os.Geteuid() == 0; root != fault.Is(err, fault.Forbidden) || !root && err != nil {
		t.Fatal(err)
	}
}

func TestNotify_IsOneDatagram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := notifier(path)("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := c.ReadFrom(b); err != nil || string(b[:n]) != "READY=1" {
		t.Fatalf("%q %v", b[:n], err)
	}
	if err := notifier("")("READY=1"); err != nil {
		t.Fatal(err)
	}
	if err := notifier(path + ".none")("READY=1"); err == nil {
		t.Fatal("nobody listens, and nobody says so")
	}
}
