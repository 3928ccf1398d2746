//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serverState makes a folder that the server's uid owns.
func serverState(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(theWorld.dir, "state-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, serverUID, serverUID); err != nil {
		t.Fatal(err)
	}
	return dir
}

func initArgs(state string) []string {
	return []string{"server", "init", "--state", state, "--domain", "other.example", "--url", "https://other.example"}
}

// TestServer_Refusals: each wrong start ends with a sentence, and loses nothing.
func TestServer_Refusals(t *testing.T) {
	state := serverState(t)
	if r := capture(theWorld.asServer(initArgs(state)...)); r.code != 0 || !strings.Contains(r.out, "https://other.example#") || !strings.Contains(r.out, "admin@other.example") {
		t.Fatalf("init: %s", r)
	}
	before, err := os.ReadFile(filepath.Join(state, "keys", "user-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(name string, cmd *exec.Cmd, words ...string) {
		t.Helper()
		r := captureFor(cmd, crowded(10*time.Second))
		if r.code == 0 || r.code == -1 {
			t.Errorf("%s: %s", name, r)
		}
		says(t, r.err, words...)
	}
	refuse("init twice", theWorld.asServer(initArgs(state)...), "already holds a deployment")
	if after, err := os.ReadFile(filepath.Join(state, "keys", "user-ca.pem")); err != nil || string(after) != string(before) {
		t.Error("the second init touched the keys")
	}
	refuse("as root", exec.Command(theWorld.sally, initArgs(filepath.Join(theWorld.dir, "rootstate"))...), "does not run as root", "setpriv")
	for _, url := range []string{"http://x.example", "x.example", "https://x.example/path", "https://", "https://u:p@x.example"} {
		args := initArgs(serverState(t))
		args[len(args)-1] = url
		refuse("url "+url, theWorld.asServer(args...), "https URL")
	}
	args := initArgs(serverState(t))
	args[5] = "not a domain"
	refuse("domain", theWorld.asServer(args...), "domain")
	run := []string{"server", "run", "--state", state, "--listen"}
	refuse("port taken", theWorld.asServer(append(run, fmt.Sprintf("127.0.0.1:%d", theWorld.port))...), "cannot listen")
	refuse("empty folder", theWorld.asServer("server", "run", "--state", serverState(t)), "sally server init")
	if err := os.Chmod(state, 0o750); err != nil {
		t.Fatal(err)
	}
	refuse("loose folder", theWorld.asServer(append(run, "127.0.0.1:0")...), "0700")
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	foreignKeys(t, state)
	refuse("another deployment's key", theWorld.asServer(append(run, "127.0.0.1:0")...), "user-ca", "manifest")
}

// foreignKeys puts another deployment's user CA in place.
func foreignKeys(t *testing.T, state string) {
	t.Helper()
	key, err := os.ReadFile(theWorld.path("server/keys/user-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(state, "keys", "user-ca.pem")
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestServer_PassphraseEncryptsTheKeys at rest, and is needed to run.
func TestServer_PassphraseEncryptsTheKeys(t *testing.T) {
	state := serverState(t)
	file := filepath.Join(theWorld.dir, "passphrase")
	if err := os.WriteFile(file, []byte("correct horse battery staple\n"), 0o644); err != nil { //nolint:gosec // refused first
		t.Fatal(err)
	}
	if err := os.Chown(file, serverUID, serverUID); err != nil {
		t.Fatal(err)
	}
	if r := capture(theWorld.asServer(append(initArgs(state), "--key-passphrase-file", file)...)); r.code == 0 || !strings.Contains(r.err, "chmod 600") {
		t.Fatalf("a passphrase that everybody reads: %s", r)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := capture(theWorld.asServer(append(initArgs(state), "--key-passphrase-file", file)...)); r.code != 0 {
		t.Fatalf("init: %s", r)
	}
	key, err := os.ReadFile(filepath.Join(state, "keys", "user-ca.pem"))
	if err != nil || strings.Contains(string(key), "BEGIN PRIVATE KEY") {
		t.Fatalf("the key is not encrypted: %v", err)
	}
	r := captureFor(theWorld.asServer("server", "run", "--state", state, "--listen", "127.0.0.1:0"), crowded(10*time.Second))
	if r.code <= 0 || !strings.Contains(r.err, "--key-passphrase-file") {
		t.Fatalf("run without the passphrase: %s", r)
	}
}
