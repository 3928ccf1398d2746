package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// unsafe are the characters that no value may carry to ssh or its files.
const unsafeCharacters = " \t\r\n\"'`%$\\;&|<>(){}[]*?!#,=~^\x00\x7f"

func TestAlphabets(t *testing.T) {
	for _, ok := range []string{"10.0.0.1", "::1", "fe80::1", "host.example", "a-b.c"} {
		if err := checkHost(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-x", ".x", "a b", "fe80::1%eth0", "a\nb", "user@host", strings.Repeat("a", 254)} {
		if checkHost(bad) == nil {
			t.Errorf("host %q was accepted", bad)
		}
	}
	for _, bad := range []string{"", "-l", "a b", "o'brien@x", "a%r", "é@x"} {
		if checkLogin(bad) == nil {
			t.Errorf("login %q was accepted", bad)
		}
	}
	for _, bad := range []string{"", "x", machineID, machineID + ".machine.", machineID + ".machine.a b", "*.machine.contoso.test", machineID + ".machine.x\ny"} {
		if _, err := machineOf(bad); err == nil {
			t.Errorf("principal %q was accepted", bad)
		}
	}
	for path, want := range map[string]string{"/a/b": "/a/b", "/a b": `"/a b"`, "/a%b": "", "/a'b": "", "/a\"b": "", "/a`b": "", "/a$b": "", "rel": "", "/a\nb": ""} {
		if got, err := sshPath(path); got != want || (err == nil) != (want != "") {
			t.Errorf("path %q: %q %v", path, got, err)
		}
	}
}

func FuzzAlphabets(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "-o", "a@b", principal, "/tmp/x y", "%h", "fe80::1%lo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, notMachine := machineOf(s)
		if checkHost(s) == nil || checkLogin(s) == nil || notMachine == nil {
			if s == "" || s[0] == '-' || strings.ContainsAny(s, unsafeCharacters) {
				t.Errorf("%q was accepted", s)
			}
		}
		if checkAlias(s) == nil && (s[0] == '-' || strings.ContainsAny(strings.NewReplacer("(", "", ")", "").Replace(s), unsafeCharacters)) {
			t.Errorf("alias %q was accepted", s)
		}
		if quoted, err := sshPath(s); err == nil && (s[0] != '/' || strings.ContainsAny(s, "\"'`%$\\\n\r\x00") || strings.Trim(quoted, `"`) != s) {
			t.Errorf("path %q was accepted as %q", s, quoted)
		}
	})
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "v")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{Use: "x"}
	define(cmd, []flag{{name: "name", short: "n"}, {name: "scopes", kind: 'l'}, {name: "on", kind: 'b'}, {name: "assign", kind: 'o', def: "[system]"}})
	for in, want := range map[string]string{
		"--scopes a b --on false": "--scopes=a --scopes=b --on=false", "--on -n v": "--on --name=v", "-n -v": "--name=-v", "--assign --on": "--assign --on", "--assign [system] x": "--assign=[system] --assign=x",
		"--name @" + file: "--name=from-file", "--name=@" + file: "--name=from-file", "--on -- --scopes a @b": "--on -- --scopes a @b", "--scopes": "--scopes", "--unknown x": "--unknown x",
	} {
		got, err := expand(cmd, strings.Fields(in), strings.NewReader(""))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q %v", in, got, err)
		}
	}
	if got, err := expand(cmd, []string{"--name", "@-"}, strings.NewReader("piped\n")); err != nil || got[0] != "--name=piped" {
		t.Errorf("@-: %q %v", got, err)
	}
	if _, err := expand(cmd, []string{"--name", "@" + dir + "/none"}, nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("--scopes\x00a\x00--on")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "@") {
			return // files
		}
		cmd := &cobra.Command{Use: "x"}
		define(cmd, []flag{{name: "name", short: "n"}, {name: "scopes", kind: 'l'}, {name: "on", kind: 'b'}})
		if _, err := expand(cmd, strings.Split(text, "\x00"), strings.NewReader("")); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestReplaceBlock(t *testing.T) {
	block := "# sally begin A\nHost A\n# sally end A\n"
	for before, want := range map[string]string{"": block, "x": "x\n" + block, "x\n" + block + "y\n": "x\ny\n" + block, "# sally end A\n": "# sally end A\n" + block} {
		if got := replaceBlock(before, "A", block); got != want {
			t.Errorf("%q gives %q", before, got)
		}
	}
}

func TestBrowserCommand(t *testing.T) {
	for setting, want := range map[string]string{"firefox": "firefox U", "script %s &": "script U", "lynx --x=%s -v": "lynx --x=U -v", "a:b": "a U"} {
		if got := strings.Join(browserCommand(setting, "U"), " "); got != want {
			t.Errorf("%q: %q", setting, got)
		}
	}
	if err := openBrowser(func(string) string { return "true" }, "http://x"); err == nil {
		t.Error("an address that is not https was opened")
	}
}

func TestRunProgram_ExitCodes(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143} {
		if got, err := (Config{}).runProgram(context.Background(), Program{Path: sh, Args: []string{"-c", script}}); err != nil || got != want {
			t.Errorf("%s: %d %v", script, got, err)
		}
	}
}

// TestRunProgram_PassesSignalsOn: ended from outside, the program ends too and
// the caller gets to clean up.
func TestRunProgram_PassesSignalsOn(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	// The program itself tells its parent, this process, to end; then it waits.
	code, err := (Config{}).runProgram(context.Background(), Program{Path: sh, Args: []string{"-c", "kill -TERM $PPID; exec sleep 60"}})
	if err != nil || code != 143 {
		t.Errorf("%d %v", code, err)
	}
}

// TestRunProgram_Insists: a program that lost the first signal, as ssh can, is
// told again.
func TestRunProgram_Insists(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	const losesOne = `trap 'trap "exit 0" TERM' TERM; kill -TERM $PPID; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; exit 9`
	if code, err := (Config{}).runProgram(context.Background(), Program{Path: sh, Args: []string{"-c", losesOne}, Insist: true}); err != nil || code != 143 {
		t.Errorf("%d %v", code, err)
	}
}

// TestEveryCommand has a sentence, a path of its own and clear flags.
func TestEveryCommand(t *testing.T) {
	root := Command(Config{})
	seen := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		seen++
		if c.Short == "" || !strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s says nothing about itself", c.CommandPath())
		}
		names := map[string]bool{}
		for _, child := range c.Commands() {
			if names[child.Name()] {
				t.Errorf("%s %s exists twice", c.CommandPath(), child.Name())
			}
			names[child.Name()] = true
			walk(child)
		}
	}
	walk(root)
	if seen < 90 {
		t.Errorf("%d commands", seen)
	}
	for _, path := range []string{"login", "ssh vm", "ssh config", "ssh cert", "vm create", "vm extension set", "role assignment create", "ad sp credential reset", "account password change", "audit verify"} {
		if c, _, err := root.Find(strings.Fields(path)); err != nil || c.CommandPath() != "sally "+path {
			t.Errorf("%s is missing", path)
		}
	}
}
