package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// A restore with the keys that were there was killed, and the next one is given a
// file of keys: the keys that were there, which may be the only ones, stay.
func TestRestore_NeverRemovesKeysThatWereThere(t *testing.T) {
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	for _, left := range []string{storeFile, databaseFile} {
		state := t.TempDir()
		if err := os.CopyFS(filepath.Join(state, keysDir), os.DirFS(filepath.Join(l.cfg.State, keysDir))); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(state, partialDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if left == storeFile {
			left = filepath.Join(partialDir, storeFile)
		}
		if err := os.WriteFile(filepath.Join(state, left), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		private(t, state)
		if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); fault.As(err).Code != "KeysExist" {
			t.Errorf("%s: %v", left, err)
		}
		if !exists(filepath.Join(state, keysDir, "manifest.pem")) {
			t.Errorf("%s: the keys are gone", left)
		}
	}
}
