package server

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/backup"
	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// saysTo requires what a person reads.
func saysTo(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(fault.As(err).Public(), words) {
		t.Errorf("got %v, want: %s", err, words)
	}
}

// typed runs a command of an operator's.
func typed(t *testing.T, cmd *cobra.Command, words ...string) error {
	t.Helper()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(words)
	cmd.SetIn(strings.NewReader("no\n"))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	return cmd.ExecuteContext(t.Context())
}

// TestCommands_WordsThatDoNotDo: each names what is missing before it touches anything.
func TestCommands_WordsThatDoNotDo(t *testing.T) {
	_, recipient, err := backup.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	saysTo(t, typed(t, backupCommand("test"), "--verify"), "say which file is to be verified. Give --file FILE, --keys FILE, or both.")
	saysTo(t, typed(t, backupCommand("test"), "--file", none, "--recipient", recipient), "the folder of the deployment is not set. Give it with --state.")
	saysTo(t, typed(t, migrateCommand(), "--from", "postgres", "--to", "sqlite", "--state", none, "--database", "postgres://127.0.0.1/s"), `not from "postgres" to "sqlite"`)
	saysTo(t, typed(t, epochCommand(), "--state", none, "--manifest", garbage), "is no signed manifest")
	saysTo(t, typed(t, runCommand("test"), "--check-config", "--state", none, "--log-format", "xml"), `the log is written as json or text, not as "xml"`)
	saysTo(t, typed(t, runCommand("test"), "--check-config", "--state", none, "--longest-certificate", "48h"), "the longest life of a certificate must be between 1m and 24h, not 48h")
	saysTo(t, ownFolder(none), "cannot read the state folder "+none)
	saysTo(t, (&Collectors{OTLPHeaders: garbage}).check(), "is no JSON object of header names and texts")
	config := filepath.Join(t.TempDir(), "server.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = statusFlags{config: config}.question()
	saysTo(t, err, "sets no metrics listener, which answers the status. Set")
}

func TestStatus_AnAnswerThatIsNone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer s.Close()
	var into any
	_, err := fetch(t.Context(), nil, s.URL, &into)
	saysTo(t, err, "the server's answer (status 200) cannot be read")
}

// TestSignManifest_NothingIsSigned: on the computer of the manifest key.
func TestSignManifest_NothingIsSigned(t *testing.T) {
	c := newCA(t)
	key := filepath.Join(c.cfg.State, keysDir, "manifest.pem")
	elsewhere := filepath.Join(t.TempDir(), "manifest.pem")
	c.must(os.Rename(key, elsewhere))
	c.reopen()
	c.must(c.trust.Rotate(t.Context(), c.by(), rotationOf(protocol.UserCA)))
	request, err := c.trust.Request(t.Context())
	c.must(err)
	path := filepath.Join(t.TempDir(), "request.json")
	signed := filepath.Join(t.TempDir(), "signed.json")
	writeDocument(t, path, request)
	sign := func(key string, words ...string) error {
		return typed(t, SignManifestCommand(), append([]string{"--request", path, "--key", key, "--file", signed}, words...)...)
	}
	saysTo(t, sign(elsewhere), "nothing was signed")
	saysTo(t, sign(filepath.Join(c.cfg.State, keysDir, "audit.pem"), "--yes"), "Is this the manifest key of the deployment, and the request from its server?")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	saysTo(t, sign(elsewhere, "--yes"), "is not what is expected here")
	if _, err := os.Stat(signed); err == nil {
		t.Error("something was signed")
	}
	// What was signed in the future would have every machine wait for that time.
	key2, err := keystore.OpenManifestKey(elsewhere, nil)
	c.must(err)
	request.Next.IssuedAt = c.now.read().Add(time.Hour)
	late, err := protocol.SignManifest(rand.Reader, key2, request.Next)
	c.must(err)
	saysTo(t, c.trust.Apply(t.Context(), c.by(), late), "which is in the future")
}

// TestMigrate_HoldsTheCopyToItsSource: a copy that differs is not switched to.
func TestMigrate_HoldsTheCopyToItsSource(t *testing.T) {
	d, other := rig(t, time.Now), &deployment{cfg: Config{State: t.TempDir()}}
	target := store.Config{Path: filepath.Join(other.cfg.State, storeFile), Now: time.Now, Writer: "w"}
	empty, err := store.Create(t.Context(), target)
	if err == nil {
		err = empty.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = compare(t.Context(), d.store, target)
	saysTo(t, err, "or their contents differ. Nothing points at the database yet: empty it, and try again.")
	tamper(t, other, "DROP TABLE conditional_policy")
	_, err = compare(t.Context(), d.store, target)
	saysTo(t, err, "tables became")
}

// TestRestore_WhatDoesNotBelongTogether: a header and rows, keys and data, two
// restores in one folder, and a store that is still open.
func TestRestore_WhatDoesNotBelongTogether(t *testing.T) {
	d, other := rig(t, time.Now), rig(t, time.Now)
	err := d.follow.Write(t.Context(), func(tx *store.Tx) error { return restoring{}.end(tx, d.keys, &RestoredBackup{}) })
	saysTo(t, err, "its header and its rows are of two deployments")
	err = d.store.Read(t.Context(), func(tx *store.Tx) error { return holdsKeys(tx, other.keys, d.manifest) })
	saysTo(t, err, "Give the file of keys that was written together with this data.")
	_, _, err = keyRow(keysTable, []any{"../../etc/passwd", []byte("x")})
	saysTo(t, err, "the file of keys holds something that is no key file")
	dir := t.TempDir()
	first, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	_, err = lockFolder(dir)
	saysTo(t, err, "another restore is at work in "+dir)
	if err := os.WriteFile(filepath.Join(dir, storeFile+"-wal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	saysTo(t, restoring{partial: dir}.finish(), "the database left "+dir)
}

// TestPending_OfSomebodyElse: the remains of another user's try are not written into.
func TestPending_OfSomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.age")
	if err := os.WriteFile(path+".partial", []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path+".partial", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := newPending(path)
	saysTo(t, err, "is not a file of uid")
	if b, err := os.ReadFile(path + ".partial"); err != nil || !bytes.Equal(b, []byte("theirs")) {
		t.Errorf("%q %v", b, err)
	}
}
