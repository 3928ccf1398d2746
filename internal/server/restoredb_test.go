package server

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
)

// A backup of a file is restored into a database, and backed up, restored and
// recovered from there.
func TestRestore_IntoADatabase(t *testing.T) {
	pg := postgrestest.New(t)
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	state := emptyState(t)
	cfg := restoreConfig(b, state, time.Now)
	cfg.Database.URL = pg.Database(t)
	out, err := restoreInto(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{databaseFile: true, keysDir: true, storeFile: false, partialDir: false} {
		if exists(filepath.Join(state, name)) != there {
			t.Errorf("%s: %v", name, !there)
		}
	}
	// Neither the folder nor the database is taken twice.
	if _, err := restoreInto(t.Context(), cfg); fault.As(err).Code != "StoreExists" {
		t.Error(err)
	}
	other := cfg
	other.State = emptyState(t)
	if _, err := restoreInto(t.Context(), other); fault.As(err).Code != "StoreExists" {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(other.State); len(entries) != 0 {
		t.Error(entries)
	}
	if _, err := recoverAdministrator(t.Context(), RecoverConfig{State: state, UPN: "alice@corp.example", Now: time.Now, Rand: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	read, err := Database{}.place(state, "")
	if err != nil {
		t.Fatal(err)
	}
	read.Now = time.Now
	st, err := store.OpenRead(t.Context(), read)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Read(t.Context(), func(tx *store.Tx) error {
		var r restored
		found, err := tx.RestoreFact(&r)
		if !found || r.ID != out.Restore || r.Confirmed {
			t.Errorf("%+v", r)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	// And back into a file.
	again := b
	again.cfg.State, again.cfg.File, again.cfg.KeysFile = state, filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "k")
	if _, err := backUp(t.Context(), again.cfg); err != nil {
		t.Fatal(err)
	}
	file := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(again, file, time.Now)); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, file, time.Now)
	if err := d.principalGate(l.alice.ID, false); err != nil {
		t.Error("alice was recovered in the database: ", err)
	}
}

// A restore into a database that was killed before the database took the data
// over leaves no deployment, and the next one succeeds.
func TestRestore_IntoADatabaseKilled(t *testing.T) {
	pg := postgrestest.New(t)
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	state := emptyState(t)
	cfg := restoreConfig(b, state, time.Now)
	cfg.Database.URL = pg.Database(t)
	for _, err := range []error{os.MkdirAll(filepath.Join(state, partialDir), 0o700), os.Mkdir(filepath.Join(state, keysDir), 0o700), os.WriteFile(filepath.Join(state, partialDir, ownKeys), nil, 0o600), cfg.Database.keep(state)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreInto(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(state, keysDir, "user-ca.pem")) {
		t.Fatal("the keys are not in their place")
	}
	// Without what a restore leaves, the folder is somebody's deployment whose
	// database may only be away.
	foreign := cfg
	foreign.State = emptyState(t)
	foreign.Database.URL = pg.Database(t)
	for _, err := range []error{os.Mkdir(foreign.State, 0o700), foreign.Database.keep(foreign.State)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := restoreInto(t.Context(), foreign); fault.As(err).Code != "StoreExists" {
		t.Fatal(err)
	}
}
