//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// vault is where a test's backups are, with the identities that open them.
type vault struct {
	w                *world
	dir              string
	data, keys       string // recipients
	dataFile, keyAge string
}

func newVault(t *testing.T, w *world) vault {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "vault-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, serverUID, serverUID); err != nil {
		t.Fatal(err)
	}
	v := vault{w: w, dir: dir, dataFile: dir + "/data.age", keyAge: dir + "/keys.age"}
	for name, recipient := range map[string]*string{"data": &v.data, "keys": &v.keys} {
		r := capture(w.asServer("server", "backup-identity", "--file", dir+"/"+name))
		if r.code != 0 || !strings.HasPrefix(r.out, "age1") {
			t.Fatal(r)
		}
		*recipient = strings.TrimSpace(r.out)
	}
	return v
}

func (v vault) backup(state, data, keys string) *exec.Cmd {
	return v.w.asServer("server", "backup", "--state", state, "--file", data, "--recipient", v.data, "--keys", keys, "--keys-recipient", v.keys)
}

func (v vault) restore(state string) *exec.Cmd {
	return v.w.asServer("server", "restore", "--state", state, "--file", v.dataFile, "--identity-file", v.dir+"/data", "--keys", v.keyAge, "--keys-identity-file", v.dir+"/keys")
}

// kill9 ends the world's server as a crash does.
func (w *world) kill9() {
	_ = w.server.Process.Kill()
	_ = w.server.Wait()
}

// TestRestore_OnAMachine: a machine that knows more than a backup believes the
// restored server because of the signed epoch and of nothing else, and gives
// nobody back what was taken away before an administrator has confirmed it.
func TestRestore_OnAMachine(t *testing.T) {
	a, m := anotherWorld(t, nil)
	w := a.w
	alice := w.person("alice@"+domain, "Copper-Harbor-41-Willow")
	a.must(t, "ad", "user", "create", "--display-name", "alice", "--user-principal-name", alice.name, "--password", alice.password)
	if r := alice.login(); r.code != 0 {
		t.Fatal(r)
	}
	role := a.must(t, "role", "assignment", "create", "--role", roleUser, "--assignee", alice.name, "--scope", m.id, "--query", "id", "-o", "tsv")
	allowedSoon(t, alice, m)
	dir, err := os.MkdirTemp(w.dir, "id-")
	if err != nil {
		t.Fatal(err)
	}
	old := identity{key: newKey(t, dir), cert: dir + "/cert.pub"}
	alice.must(t, "ssh", "cert", "--file", old.cert, "--public-key-file", old.key+".pub")
	withOld := func() result { return m.ssh(alice.name, old.options(), "whoami") }
	if r := withOld(); strings.TrimSpace(r.out) != alice.name {
		t.Fatal(r)
	}

	v := newVault(t, w)
	state := w.path("server")
	if r := capture(v.backup(state, v.dataFile, v.keyAge)); r.code != 0 {
		t.Fatal(r)
	}
	older := copyOfState(t, w)

	// After the backup: alice loses her role, somebody else comes.
	a.must(t, "role", "assignment", "delete", "--ids", role)
	refusedSoon(t, withOld, "Azure role not assigned")
	later := w.person("later@"+domain, "Copper-Harbor-41-Willow")
	a.must(t, "ad", "user", "create", "--display-name", "later", "--user-principal-name", later.name, "--password", later.password)
	laterUID := m.uidOf(t, later.name)

	olderIsRefused(t, w, older, withOld)

	// The restored one.
	w.kill9()
	for _, err := range []error{os.Rename(state, state+".lost"), os.Mkdir(state, 0o700), os.Chown(state, serverUID, serverUID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := capture(v.restore(state))
	if r.code != 0 {
		t.Fatal(r)
	}
	says(t, r.out, "Nothing is issued until", "confirm-restore --restore-id")
	if err := w.runServer(); err != nil {
		t.Fatal(err)
	}
	restoredGate(t, a, alice, withOld)
	restoredOpen(t, a, alice, m, withOld)

	// Nobody gets the uid of who came after the backup.
	next := w.person("next@"+domain, "Copper-Harbor-41-Willow")
	a.must(t, "ad", "user", "create", "--display-name", "next", "--user-principal-name", next.name, "--password", next.password)
	if uid := m.uidOf(t, next.name); uid <= laterUID {
		t.Errorf("uid %d after %d", uid, laterUID)
	}
	if ok := a.must(t, "audit", "verify", "--query", "ok", "-o", "tsv"); ok != "true" && ok != "True" {
		t.Errorf("audit verify: %s", ok)
	}
}

// olderIsRefused runs the older state as it was, without a new epoch.
func olderIsRefused(t *testing.T, w *world, older string, withOld func() result) {
	t.Helper()
	w.kill9()
	swap(t, older, w.path("server"))
	if err := w.runServer(); err != nil {
		t.Fatal(err)
	}
	if err := until(limitGrant, func() error {
		log, err := os.ReadFile(w.path("server.log"))
		if err == nil && !strings.Contains(string(log), `"row":"machine.poll","method":"POST","status":409`) {
			err = fmt.Errorf("the machine has not been told that the server is older than it")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if r := withOld(); r.code == 0 {
		t.Fatalf("the machine believed the older server: %s", r)
	}
}

// restoredGate: before the confirmation.
func restoredGate(t *testing.T, a, alice *person, withOld func() result) {
	t.Helper()
	if r := alice.run("ssh", "cert", "--file", alice.config+"/c"); r.code == 0 {
		t.Error("a sign-in of before the restore still gives certificates")
	}
	r := alice.login()
	if r.code == 0 {
		t.Fatal("alice signed in")
	}
	says(t, r.err, "restored", "backup", "confirm-restore")
	if r := withOld(); r.code == 0 {
		t.Fatal("whoever lost his role after the backup is back before anybody has confirmed it")
	}
	if r := a.login(); r.code != 0 {
		t.Fatalf("the administrator: %s", r)
	}
	if r := a.run("ssh", "cert", "--file", a.config+"/c"); r.code == 0 || !strings.Contains(r.err, "restored") {
		t.Errorf("a certificate before the confirmation: %s", r)
	}
	if list := a.must(t, "access", "review", "-o", "table"); !strings.Contains(list, alice.name) || !strings.Contains(list, roleUser) {
		t.Errorf("the review does not show what the backup gives back: %s", list)
	}
}

// restoredOpen: the confirmation, and after it.
func restoredOpen(t *testing.T, a, alice *person, m *vm, withOld func() result) {
	t.Helper()
	id := a.must(t, "access", "review", "--query", "restoreId", "-o", "tsv")
	a.must(t, "access", "confirm-restore", "--restore-id", id, "--yes")
	if r := alice.login(); r.code != 0 {
		t.Fatal(r)
	}
	allowedSoon(t, alice, m)
	if r := withOld(); r.code == 0 {
		t.Errorf("a certificate of before the restore opens the machine: %s", r)
	}
	if err := until(limitGrant, func() error { return wants(a.ssh(m, "sudo", "-n", "whoami"), "root") }); err != nil {
		t.Error(err)
	}
}

// uidOf waits until the machine knows a name.
func (m *vm) uidOf(t *testing.T, name string) int {
	t.Helper()
	uid := 0
	if err := until(limitGrant, func() (err error) {
		r := m.root(t, "id -u "+name)
		uid, err = strconv.Atoi(strings.TrimSpace(r.out))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return uid
}

// copyOfState copies the state of the stopped server and starts it again.
func copyOfState(t *testing.T, w *world) string {
	t.Helper()
	w.kill9()
	to := w.path("server.older")
	if out, err := exec.Command("cp", "-a", w.path("server"), to).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := w.runServer(); err != nil {
		t.Fatal(err)
	}
	return to
}

func swap(t *testing.T, from, to string) {
	t.Helper()
	for _, err := range []error{os.Rename(to, to+".newer"), os.Rename(from, to)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackup_Killed: a backup that is killed at any moment leaves nothing under
// the final names or whole files, and the next one succeeds.
func TestBackup_Killed(t *testing.T) {
	v := newVault(t, theWorld)
	state := theWorld.path("server")
	killed, whole := 0, 0
	for i := range 25 {
		data, keys := fmt.Sprintf("%s/d%d", v.dir, i), fmt.Sprintf("%s/k%d", v.dir, i)
		cmd := v.backup(state, data, keys)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i*4)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() != nil {
			killed++
		}
		timer.Stop()
		for flag, path := range map[string]string{"--file": data, "--keys": keys} {
			if _, err := os.Lstat(path); err != nil {
				continue
			}
			whole++
			with := map[string]string{"--file": "--identity-file", "--keys": "--keys-identity-file"}[flag]
			secret := v.dir + map[string]string{"--file": "/data", "--keys": "/keys"}[flag]
			if r := capture(theWorld.asServer("server", "backup", "--verify", flag, path, with, secret)); r.code != 0 {
				t.Fatalf("round %d: %s", i, r)
			}
		}
		_ = os.Remove(data)
		_ = os.Remove(keys)
		if r := capture(v.backup(state, data, keys)); r.code != 0 {
			t.Fatalf("round %d: the next backup: %s", i, r)
		}
	}
	t.Logf("%d of 25 were killed, %d files were whole", killed, whole)
	if killed < 5 {
		t.Error("too few were killed to show anything")
	}
}

// TestRestore_Killed: after a kill at any moment a server starts from a whole
// deployment or from none, and the next restore succeeds or finds it.
func TestRestore_Killed(t *testing.T) {
	v := newVault(t, theWorld)
	if r := capture(v.backup(theWorld.path("server"), v.dataFile, v.keyAge)); r.code != 0 {
		t.Fatal(r)
	}
	none, there := 0, 0
	for i := range 30 {
		state := serverState(t)
		cmd := v.restore(state)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i*5)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		check := func() result {
			return capture(theWorld.asServer("server", "run", "--state", state, "--check-config"))
		}
		switch r := check(); {
		case r.code == 0:
			there++
			if r := capture(v.restore(state)); r.code == 0 || !strings.Contains(r.err, "already holds a deployment") {
				t.Fatalf("round %d: %s", i, r)
			}
		case strings.Contains(r.err, "there is no deployment"):
			none++
			if r := capture(v.restore(state)); r.code != 0 {
				t.Fatalf("round %d: the next restore: %s", i, r)
			}
			if r := check(); r.code != 0 {
				t.Fatalf("round %d: %s", i, r)
			}
		default:
			t.Fatalf("round %d: half a deployment: %s", i, r)
		}
		if entries, err := os.ReadDir(state); err != nil || len(entries) > 3 {
			t.Errorf("round %d: %v %v", i, entries, err)
		}
		_ = os.RemoveAll(state)
	}
	t.Logf("%d rounds left nothing, %d a deployment", none, there)
	if none < 5 {
		t.Error("too few were killed to show anything")
	}
}

// TestBackup_FullDisk: a disk that is full at any point ends in a sentence and
// leaves nothing under a final name, and no deployment.
func TestBackup_FullDisk(t *testing.T) {
	v := newVault(t, theWorld)
	if r := capture(v.backup(theWorld.path("server"), v.dataFile, v.keyAge)); r.code != 0 {
		t.Fatal(r)
	}
	small := func(kib int) string {
		dir := serverState(t)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=700,uid=%d,gid=%d", kib, serverUID, serverUID)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
		return dir
	}
	for _, kib := range []int{4, 8, 16} {
		dir := small(kib)
		r := capture(v.backup(theWorld.path("server"), dir+"/d", dir+"/k"))
		if r.code == 0 || !strings.Contains(r.err, "no space left") {
			t.Errorf("a backup to %d KiB: %s", kib, r)
		}
		if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
			t.Errorf("a backup to %d KiB left %v", kib, left)
		}
	}
	failed := 0
	for _, kib := range []int{8, 40, 64, 128, 256, 512, 768, 1024, 4096} {
		state := small(kib)
		r := capture(v.restore(state))
		check := capture(theWorld.asServer("server", "run", "--state", state, "--check-config"))
		if (r.code == 0) != (check.code == 0) {
			t.Errorf("a restore to %d KiB: %s\nand then: %s", kib, r, check)
		}
		if left, _ := filepath.Glob(state + "/*"); r.code != 0 {
			failed++
			if len(left) != 0 {
				t.Errorf("a restore to %d KiB left %v: %s", kib, left, r)
			}
		}
	}
	if failed < 4 {
		t.Error("too few restores failed to show anything")
	}
}
