package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/keystore"
)

// childCommand tells the re-run test binary to be `sally server`, with these words;
// childUID is who it then is, where root runs the test.
const (
	childCommand = "SALLYPORT_TEST_COMMAND"
	childUID     = 7701
)

// command is `sally server WORDS` as the packaged server's user runs it. It says on
// its standard output what the program says before it ends.
func command(text string) error {
	var words []string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(childUID), syscall.Setuid(childUID)); err != nil {
			return err
		}
	}
	cmd := Command("test")
	cmd.SetArgs(words)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(os.Stderr)
	err := cmd.Execute()
	var said *fault.Error
	if errors.As(err, &said) {
		fmt.Println(said.Public())
		return nil
	}
	return err
}

// host is a computer with the folders of deployments.
type serverHost struct {
	t    *testing.T
	dir  string
	made string // a deployment that is copied
}

func newServerHost(t *testing.T) *serverHost {
	t.Helper()
	h := &serverHost{t: t, dir: t.TempDir()}
	for _, dir := range []string{h.dir, filepath.Dir(h.dir)} {
		h.must(os.Chmod(dir, 0o755)) // other users come through
	}
	h.made = h.folder("made")
	if said := h.run("init", "--state", h.made, "--domain", "corp.example", "--url", "https://login.corp.example"); said != "" {
		t.Fatal(said)
	}
	return h
}

func (h *serverHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// own gives what is in a folder to the server's user.
func (h *serverHost) own(path string) {
	h.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	h.must(filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, childUID, childUID))
	}))
}

func (h *serverHost) folder(name string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	h.must(os.Mkdir(path, 0o700))
	h.own(path)
	return path
}

// copied is another folder with the same deployment.
func (h *serverHost) copied(name string) string {
	h.t.Helper()
	to := h.folder(name)
	h.must(os.CopyFS(to, os.DirFS(h.made)))
	h.must(filepath.WalkDir(to, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return errors.Join(err, os.Chmod(p, 0o600))
	}))
	h.own(to)
	return to
}

// run runs `sally server` to its end and returns what it says; a server that starts
// is a failure, and is ended.
func (h *serverHost) run(words ...string) string {
	h.t.Helper()
	text, err := json.Marshal(words)
	h.must(err)
	return h.result(text, os.Args[0])
}

// onDisk runs it as run does, with its state on a disk of its own, which nobody else
// sees and on which a script is run first.
func (h *serverHost) onDisk(state, script string) string {
	h.t.Helper()
	text, err := json.Marshal([]string{"run", "--state", state, "--listen", "127.0.0.1:0"})
	h.must(err)
	script = `set -e; mount -t tmpfs -o size=16m,mode=700,uid="$2",gid="$2" disk "$1"; cp -a "$3/." "$1"; cd "$1"; ` + script + `; cd /; exec "$0"`
	return h.result(text, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, os.Args[0], state, strconv.Itoa(childUID), h.made)
}

func (h *serverHost) result(command []byte, program ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Env = append(os.Environ(), childCommand+"="+string(command))
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	if err := cmd.Run(); err != nil {
		return fmt.Sprintf("not explained: %v %s", err, log.String())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func (h *serverHost) write(path, text string, mode os.FileMode) {
	h.t.Helper()
	_ = os.Remove(path)
	h.must(os.WriteFile(path, []byte(text), mode))
	h.must(os.Chmod(path, mode))
	h.own(path)
}

// TestStart_SaysWhy: the real command, as a user of its own, with what keeps it from
// starting; the page has each sentence.
func TestStart_SaysWhy(t *testing.T) {
	h := newServerHost(t)
	n := 0
	for _, cells := range []map[string]func(state string) []string{h.folderCells(), h.dataCells(), h.keyCells(), h.fileCells()} {
		for sentence, spoil := range cells {
			n++
			state := h.copied(fmt.Sprint("state", n))
			words := append([]string{"run", "--state", state, "--listen", "127.0.0.1:0"}, spoil(state)...)
			t.Run(sentence, func(t *testing.T) {
				t.Parallel()
				handbooktest.Said(t, h.run(words...), sentence)
			})
		}
	}
	for sentence, words := range h.initCells() {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			handbooktest.Said(t, h.run(append([]string{"init", "--url", "https://login.corp.example"}, words...)...), sentence)
		})
	}
}

// TestStart_OnADiskThatTakesNothing: the cause is in the sentence.
func TestStart_OnADiskThatTakesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("a disk of its own needs root")
	}
	h := newServerHost(t)
	for name, c := range map[string]struct{ script, sentence, why string }{
		"full":      {"cat /dev/zero >ballast 2>/dev/null || true", "start.StoreNotOpened.full", "full"},
		"read-only": {`mount -o remount,ro "$1"`, "start.StoreLock", "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			state := h.folder(name)
			text := h.onDisk(state, c.script)
			handbooktest.Said(t, text, c.sentence, "FILE", filepath.Join(state, storeFile))
			if !strings.Contains(text, c.why) {
				t.Errorf("%q is not in %q", c.why, text)
			}
		})
	}
}

func (h *serverHost) initCells() map[string][]string {
	keys := h.copied("keys-only")
	for _, file := range []string{storeFile, storeFile + ".lock"} {
		h.must(os.Remove(filepath.Join(keys, file)))
	}
	return map[string][]string{
		"start.StoreExists": {"--domain", "corp.example", "--state", h.copied("twice")},
		"start.KeysExist":   {"--domain", "corp.example", "--state", keys},
		"start.DomainName":  {"--domain", "corp example", "--state", h.folder("empty")},
	}
}

func (h *serverHost) folderCells() map[string]func(string) []string {
	config := func(text string, mode os.FileMode) func(string) []string {
		return func(state string) []string {
			h.write(state+".json", text, mode)
			return []string{"--config", state + ".json"}
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	h.t.Cleanup(func() { _ = taken.Close() })
	return map[string]func(string) []string{
		"start.StateFolder":          func(state string) []string { h.must(os.Chmod(state, 0o755)); return nil },
		"start.StateFolder.make":     func(string) []string { return []string{"--state", "/proc/nothing/here"} },
		"start.ComputerIsMachine":    func(state string) []string { h.write(filepath.Join(state, "nss.db"), "", 0o600); return nil },
		"start.Configuration.read":   func(state string) []string { return []string{"--config", state + "/none.json"} },
		"start.Configuration.open":   config(`{}`, 0o666),
		"start.Configuration.large":  config(strings.Repeat(" ", maxSettings+1), 0o600),
		"start.Configuration.line":   config("{\n\"listen\": 7,\n}", 0o600),
		"start.Configuration.many":   config(`{"metrics":"x","logFormat":"y"}`, 0o600),
		"start.CannotListen":         func(string) []string { return []string{"--listen", taken.Addr().String()} },
		"start.CannotListen.metrics": func(string) []string { return []string{"--metrics", taken.Addr().String()} },
		"start.PasswordInURL": func(string) []string {
			return []string{"--database", "postgres://sallyport:secret@localhost/sallyport"}
		},
	}
}

func (h *serverHost) dataCells() map[string]func(string) []string {
	file := func(f func(path string)) func(string) []string {
		return func(state string) []string { f(filepath.Join(state, storeFile)); return nil }
	}
	return map[string]func(string) []string{
		"start.StoreNotFound":       file(func(p string) { h.must(os.Remove(p)) }),
		"start.StoreNotFound.empty": file(func(p string) { h.must(os.Truncate(p, 0)) }),
		"start.StoreNotPrivate":     file(func(p string) { h.must(os.Chmod(p, 0o644)) }),
		"start.StoreDamaged":        file(func(p string) { h.write(p, strings.Repeat("no store ", 2_000), 0o600) }),
		"start.StoreNotOpened":      file(func(p string) { h.must(os.Mkdir(p+"-wal", 0o700)) }),
		"start.StoreLock": file(func(p string) {
			h.must(os.Remove(p + ".lock"))
			h.must(os.Mkdir(p+".lock", 0o700))
		}),
		"start.StoreInUse": file(func(p string) {
			f, err := os.OpenFile(p+".lock", os.O_RDWR, 0)
			h.must(err)
			h.must(syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
			h.t.Cleanup(func() { _ = f.Close() })
		}),
		"start.SchemaNewer": file(func(p string) {
			db, err := sql.Open("sqlite", p)
			h.must(err)
			_, err = db.Exec(`INSERT INTO schema_migration (name, at) VALUES ('schema/999_later.sql', 0)`)
			h.must(errors.Join(err, db.Close()))
			h.own(filepath.Dir(p))
		}),
	}
}

func (h *serverHost) keyCells() map[string]func(string) []string {
	key := func(name string, f func(path string)) func(string) []string {
		return func(state string) []string { f(filepath.Join(state, keysDir, name)); return nil }
	}
	block := func(kind, text string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(text)}))
	}
	like := func(other string) func(string) {
		return func(p string) {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(p), other))
			h.must(err)
			h.write(p, string(text), 0o600)
		}
	}
	cells := map[string]func(string) []string{
		"start.KeysMissing":        key("", func(p string) { h.must(os.RemoveAll(p)) }),
		"start.KeyMissing":         key("token.pem", func(p string) { h.must(os.Remove(p)) }),
		"start.KeyFileUnsafe.mode": key("token.pem", func(p string) { h.must(os.Chmod(p, 0o640)) }),
		"start.KeyFileUnsafe.read": key("token.pem", func(p string) { h.must(os.Chmod(p, 0o200)) }),
		"start.KeyFileUnsafe": key("token.pem", func(p string) {
			h.must(os.Rename(p, p+".away"))
			h.must(os.Symlink(p+".away", p))
		}),
		"start.KeyFileUnsafe.folder": key("", func(p string) {
			h.must(os.RemoveAll(p))
			h.write(filepath.Clean(p), "", 0o600)
		}),
		"start.KeyInvalid":         key("token.pem", func(p string) { h.write(p, "no key", 0o600) }),
		"start.KeyInvalid.kind":    key("token.pem", func(p string) { h.write(p, block("CERTIFICATE", "x"), 0o600) }),
		"start.KeyInvalid.key":     key("token.pem", func(p string) { h.write(p, block("PRIVATE KEY", "x"), 0o600) }),
		"start.KeyInvalid.hash":    key("hash.key", func(p string) { h.write(p, block("SALLYPORT HASH KEY", "x"), 0o600) }),
		"start.KeyInvalid.purpose": key("token.pem", like("snapshot.pem")),
		"start.KeyReused":          key("audit.pem", like("snapshot.pem")),
		"start.KeyNotListed": key("", func(p string) {
			h.must(os.RemoveAll(p))
			_, err := keystore.Create(keystore.Config{Dir: filepath.Clean(p), Rand: rand.Reader})
			h.must(err)
			h.own(p)
		}),
		"start.KeyNotSealed": func(state string) []string {
			h.write(state+".pass", "four unrelated words", 0o600)
			return []string{"--key-passphrase-file", state + ".pass"}
		},
	}
	cells["start.SignerAway"] = func(state string) []string {
		path := filepath.Join(state, keysDir, "user-ca.pem")
		text, err := os.ReadFile(path)
		h.must(err)
		private, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(private.Bytes)
		h.must(err)
		public := key.(crypto.Signer).Public()
		der, err := x509.MarshalPKIXPublicKey(public)
		h.must(err)
		h.must(os.Remove(path))
		h.write(filepath.Join(state, keysDir, "user-ca.pub"), block("PUBLIC KEY", string(der)), 0o600)
		blob, err := ssh.NewPublicKey(public)
		h.must(err)
		return []string{"--check-config", "--user-ca-signer", "ssh-agent:" + state + "/away.sock#" + ssh.FingerprintSHA256(blob)}
	}
	if os.Geteuid() == 0 { // nobody else can give a file away
		cells["start.KeyFileUnsafe.owner"] = key("token.pem", func(p string) { h.must(os.Chown(p, 0, 0)) })
	}
	sealed := func(state, passphrase string) {
		p := filepath.Join(state, keysDir)
		h.must(os.RemoveAll(p))
		_, err := keystore.Create(keystore.Config{Dir: p, Rand: rand.Reader, Passphrase: []byte("four unrelated words")})
		h.must(err)
		h.own(p)
		h.write(state+".pass", passphrase, 0o600)
	}
	cells["start.PassphraseMissing"] = func(state string) []string { sealed(state, ""); return nil }
	cells["start.PassphraseWrong"] = func(state string) []string {
		sealed(state, "other words")
		return []string{"--key-passphrase-file", state + ".pass"}
	}
	return cells
}

// fileCells are files that settings name.
func (h *serverHost) fileCells() map[string]func(string) []string {
	now := time.Now()
	tls := func(host string, end time.Time, change func(cert, key string)) func(string) []string {
		return func(state string) []string {
			cert, key := pair(h.t, host, now.Add(-time.Hour), end)
			h.write(state+".crt", string(cert), 0o644)
			h.write(state+".key", string(key), 0o600)
			change(state+".crt", state+".key")
			return []string{"--tls-certificate", state + ".crt", "--tls-key", state + ".key"}
		}
	}
	good, later := "login.corp.example", now.Add(time.Hour)
	packages := func(change func(dir string)) func(string) []string {
		return func(state string) []string {
			dir := state + ".packages"
			h.must(os.Mkdir(dir, 0o755))
			change(dir)
			return []string{"--packages", dir}
		}
	}
	passphrase := func(text string, mode os.FileMode) func(string) []string {
		return func(state string) []string {
			h.write(state+".pass", text, mode)
			return []string{"--key-passphrase-file", state + ".pass"}
		}
	}
	return map[string]func(string) []string{
		"start.PassphraseFile.read":  func(state string) []string { return []string{"--key-passphrase-file", state + "/none"} },
		"start.PassphraseFile.open":  passphrase("words", 0o644),
		"start.PassphraseFile.empty": passphrase("\n", 0o600),
		"start.TLSCertificate.read":  tls(good, later, func(cert, _ string) { h.must(os.Remove(cert)) }),
		"start.TLSCertificate.file": tls(good, later, func(cert, _ string) {
			h.must(os.Remove(cert))
			h.must(os.Mkdir(cert, 0o755))
		}),
		"start.TLSCertificate.open": tls(good, later, func(_, key string) { h.must(os.Chmod(key, 0o644)) }),
		"start.TLSCertificate.pair": tls(good, later, func(_, key string) {
			_, other := pair(h.t, good, now, later)
			h.write(key, string(other), 0o600)
		}),
		"start.TLSCertificate.host":     tls("other.example", later, func(_, _ string) {}),
		"start.TLSCertificate.time":     tls(good, now.Add(-time.Minute), func(_, _ string) {}),
		"start.TLSCertificate.together": func(state string) []string { return []string{"--tls-certificate", state + ".crt"} },
		"start.TLSCertificate.acme": func(state string) []string {
			return []string{"--tls-certificate", state + ".crt", "--tls-key", state + ".key", "--acme-directory", "https://acme.example/directory"}
		},
		"start.Packages.open": packages(func(dir string) { h.must(os.Chmod(dir, 0o777)) }),
		"start.Packages.folder": packages(func(dir string) {
			h.must(os.Remove(dir))
			h.write(dir, "", 0o644)
		}),
		"start.Packages.read":    packages(func(dir string) { h.must(os.Remove(dir)) }),
		"start.Packages.package": packages(func(dir string) { h.write(filepath.Join(dir, "sallyport_1.0_amd64.deb"), "no package", 0o644) }),
	}
}
