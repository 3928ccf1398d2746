package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/backup"
	"sallyport/internal/fault"
	"sallyport/internal/store"
)

// secretPair is a lock with what opens it.
func secretPair(t testing.TB) (backup.Lock, backup.Opener) {
	t.Helper()
	identity, recipient, err := backup.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return backup.Lock{Recipients: []string{recipient}}, backup.Opener{Identities: []byte(identity)}
}

// backedUp backs a deployment up, data and keys.
type backedUp struct {
	cfg              BackupConfig
	openData, openKs backup.Opener
	Backed
}

func backUpOf(t testing.TB, d *deployment, dir string) backedUp {
	t.Helper()
	b := backedUp{cfg: BackupConfig{State: d.cfg.State, File: filepath.Join(dir, "data.age"), KeysFile: filepath.Join(dir, "keys.age"), Build: "test", Now: d.cfg.Now, Rand: rand.Reader}}
	b.cfg.Lock, b.openData = secretPair(t)
	b.cfg.KeysLock, b.openKs = secretPair(t)
	var err error
	if b.Backed, err = backUp(context.Background(), b.cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// A backup of a deployment that is being served holds all of it as of one
// moment, and no private key.
func TestBackup_WhileServed(t *testing.T) {
	d := rig(t, time.Now)
	b := backUpOf(t, d, t.TempDir())
	for _, path := range []string{b.cfg.File, b.cfg.KeysFile} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(info, err)
		}
		if _, err := os.Stat(path + ".partial"); !os.IsNotExist(err) {
			t.Error("the partial file is left")
		}
	}
	h, sum, err := VerifyBackup(b.cfg.File, backup.Data, b.openData)
	if err != nil || sum != b.Data || h.Tenant != d.manifest.Tenant || h.Position != d.store.Position() || h.ManifestPin != d.trust.now().signed.Envelope.KeyID {
		t.Fatalf("%+v %+v %v", h, sum, err)
	}
	k, sum, err := VerifyBackup(b.cfg.KeysFile, backup.Keys, b.openKs)
	if err != nil || sum.Rows != 9 || k.ID != h.ID || k.Migrations != nil {
		t.Fatalf("%+v %+v %v", k, sum, err)
	}
	sums, err := d.store.Sums(t.Context())
	if err != nil || len(sums) < sum.Tables {
		t.Fatal(err)
	}
	var rows int64
	for _, x := range sums {
		rows += x.Rows
	}
	if rows != b.Data.Rows {
		t.Errorf("%d rows of %d", b.Data.Rows, rows)
	}
	assertNoKeyIn(t, d, b)
}

// assertNoKeyIn looks for every line of every key file in the data's plain text.
func assertNoKeyIn(t *testing.T, d *deployment, b backedUp) {
	t.Helper()
	var plain strings.Builder
	if _, err := readBackup(b.cfg.File, backup.Data, b.openData, func(r *backup.Reader) error {
		_, err := r.Rows(func(_ string, _ []string, values []any) error {
			for _, v := range values {
				switch v := v.(type) {
				case string:
					plain.WriteString(v)
				case []byte:
					plain.Write(v)
				}
			}
			return nil
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	files := 0
	if err := eachKeyFile(filepath.Join(d.cfg.State, keysDir), func(name string, content []byte) error {
		files++
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); len(line) > 20 && !strings.HasPrefix(line, "---") && strings.Contains(plain.String(), line) {
				t.Errorf("the data holds a line of %s", name)
			}
		}
		return nil
	}); err != nil || files == 0 {
		t.Fatal(files, err)
	}
}

func TestBackup_Refusals(t *testing.T) {
	d := rig(t, time.Now)
	dir := t.TempDir()
	lock, open := secretPair(t)
	other, _ := secretPair(t)
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := BackupConfig{State: d.cfg.State, Now: time.Now, Rand: rand.Reader}
	for name, c := range map[string]struct {
		change func(*BackupConfig)
		code   string
	}{
		"no file":       {func(*BackupConfig) {}, "BackupFile"},
		"in clear":      {func(c *BackupConfig) { c.File = filepath.Join(dir, "a") }, "BackupRecipient"},
		"keys in clear": {func(c *BackupConfig) { c.KeysFile = filepath.Join(dir, "a") }, "BackupRecipient"},
		"one secret for both": {func(c *BackupConfig) {
			c.File, c.KeysFile, c.Lock, c.KeysLock = filepath.Join(dir, "a"), filepath.Join(dir, "b"), lock, lock
		}, "BackupNotApart"},
		"existing": {func(c *BackupConfig) { c.File, c.Lock = taken, lock }, "FileExists"},
		"second existing": {func(c *BackupConfig) {
			c.File, c.Lock, c.KeysFile, c.KeysLock = filepath.Join(dir, "a"), lock, taken, other
		}, "FileExists"},
		"no folder": {func(c *BackupConfig) { c.File, c.Lock = filepath.Join(dir, "no", "a"), lock }, "CannotWrite"},
		"no deployment": {func(c *BackupConfig) {
			c.File, c.Lock, c.State = filepath.Join(dir, "a"), lock, filepath.Join(dir, "none")
		}, "StoreNotFound"},
	} {
		cfg := base
		c.change(&cfg)
		if _, err := backUp(t.Context(), cfg); fault.As(err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := filepath.Glob(filepath.Join(dir, "[ab]*")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "mine" {
		t.Error("a file was replaced")
	}
	b := backUpOf(t, d, t.TempDir())
	if _, _, err := VerifyBackup(b.cfg.KeysFile, backup.Data, b.openKs); fault.As(err).Code != "BackupKind" {
		t.Error(err)
	}
	if _, _, err := VerifyBackup(b.cfg.File, backup.Data, open); fault.As(err).Code != "BackupIdentityWrong" {
		t.Error(err)
	}
	if _, _, err := VerifyBackup(filepath.Join(dir, "nothing"), backup.Data, open); fault.As(err).Code != "BackupNotFound" {
		t.Error(err)
	}
}

// A key folder with something that is no key file, or that others can read, is
// not backed up in part.
func TestBackup_StrangeKeyFolder(t *testing.T) {
	lock, _ := secretPair(t)
	for name, change := range map[string]func(dir string) error{
		"folder":  func(dir string) error { return os.Mkdir(filepath.Join(dir, "more"), 0o700) },
		"link":    func(dir string) error { return os.Symlink("/etc/hostname", filepath.Join(dir, "x.pem")) },
		"fifo":    func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "x.pem"), 0o600) },
		"public":  func(dir string) error { return os.Chmod(filepath.Join(dir, "token.pem"), 0o644) },
		"opened":  func(dir string) error { return os.Chmod(dir, 0o755) },
		"name":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "a b"), []byte("x"), 0o600) },
		"too big": func(dir string) error { return os.Truncate(filepath.Join(dir, "token.pem"), maxKeyFile+1) },
	} {
		d := rig(t, time.Now)
		if err := change(filepath.Join(d.cfg.State, keysDir)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "keys")
		if _, err := backUp(t.Context(), BackupConfig{State: d.cfg.State, KeysFile: file, KeysLock: lock, Now: time.Now, Rand: rand.Reader}); err == nil {
			t.Errorf("%s: backed up", name)
		}
		if entries, _ := filepath.Glob(file + "*"); len(entries) != 0 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
}

// What a killed backup left does not stand in the way, unless it is somebody
// else's.
func TestPending_TakesOverOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "b")
	if err := os.WriteFile(path+".partial", bytes.Repeat([]byte("old"), 1000), 0o644); err != nil { //nolint:gosec // what is taken over is made private
		t.Fatal(err)
	}
	p, err := newPending(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPending(path); fault.As(err).Code != "CannotWrite" {
		t.Errorf("two at a time: %v", err)
	}
	if _, err := io.WriteString(p, "new"); err != nil {
		t.Fatal(err)
	}
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
	p.discard()
	if b, err := os.ReadFile(path); err != nil || string(b) != "new" {
		t.Fatalf("%q %v", b, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	link := filepath.Join(dir, "c")
	if err := os.Symlink(path, link+".partial"); err != nil {
		t.Fatal(err)
	}
	if _, err := newPending(link); err == nil {
		t.Error("a link was followed")
	}
	// A file that got the name meanwhile is not replaced.
	q, err := newPending(filepath.Join(dir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "d"), []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := q.commit(); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "d")); err != nil || string(b) != "first" {
		t.Errorf("%q %v", b, err)
	}
}

// A full disk ends in a sentence, and in no file. /dev/full is one.
func TestBackup_FullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	lock, _ := secretPair(t)
	d := rig(t, time.Now)
	err = d.store.Read(t.Context(), func(tx *store.Tx) error {
		_, err := seal(&pending{File: full, path: "/somewhere/b"}, lock, backup.Header{}, func(w *backup.Writer) error { return tx.EachRow(w.Row) })
		return err
	})
	if fault.As(err).Code != "CannotWrite" || !strings.Contains(fault.As(err).Public(), "no space left") {
		t.Fatal(err)
	}
}
