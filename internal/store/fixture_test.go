package store

import (
	"compress/gzip"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/internal/directory"
	"sallyport/internal/store/postgrestest"
)

// released makes a store as a released build left it; testdata has one for each
// release that changed the schema.
func released(t *testing.T, release string) Config {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "schema-"+release+".sql.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Path: filepath.Join(t.TempDir(), "s.db"), Now: clock, Writer: "server-1"}
	if err := os.WriteFile(cfg.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(string(text)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// holdsFixture: what the release stored is there and can be written on.
func holdsFixture(t *testing.T, s *Store) {
	t.Helper()
	if got, err := s.Migrations(t.Context()); err != nil || !slices.Equal(got, mustFiles(t)) {
		t.Errorf("the schema stands at %v (%v)", got, err)
	}
	if err := s.Write(t.Context(), func(tx *Tx) error {
		if n, _, err := tx.VerifyAudit(); err != nil || n != 5 {
			t.Errorf("%d records: %v", n, err)
		}
		tenant, found, err := tx.TenantRecord()
		if !found || tenant.Domains[0] != "corp.example" {
			t.Errorf("tenant %+v", tenant)
		}
		if err != nil {
			return err
		}
		u, found, err := tx.UserByUPN("admin@corp.example")
		if err != nil || !found {
			t.Errorf("the administrator is gone: %v", err)
		}
		if _, found, err := tx.PasswordOf(u.ID); err != nil || !found {
			t.Errorf("the password is gone: %v", err)
		}
		uid, err := tx.NextPOSIXID()
		if err != nil || uid <= u.UID {
			t.Errorf("POSIX id %d after %d: %v", uid, u.UID, err)
		}
		return tx.PutUser(directory.User{ID: "new", UPN: "new@corp.example", UID: uid})
	}); err != nil {
		t.Fatal(err)
	}
}

func mustFiles(t *testing.T) []string {
	t.Helper()
	names, err := schemaFiles()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Every released schema goes forward: in its file, and when its rows are
// restored or moved to PostgreSQL by this build.
func TestReleasedSchemas_GoForward(t *testing.T) {
	server := postgrestest.New(t)
	files, err := filepath.Glob("testdata/schema-*.sql.gz")
	if err != nil || len(files) == 0 {
		t.Fatal("no release's schema is there", err)
	}
	for _, f := range files {
		release := filepath.Base(f)[len("schema-") : len(filepath.Base(f))-len(".sql.gz")]
		t.Run(release, func(t *testing.T) {
			old, err := OpenRead(t.Context(), released(t, release))
			if err != nil {
				t.Fatal(err)
			}
			names, err := old.Migrations(t.Context())
			if err != nil || slices.Equal(names, mustFiles(t)) {
				t.Fatalf("this is no old schema: %v %v", names, err)
			}
			for _, to := range []Config{{Path: filepath.Join(t.TempDir(), "r.db"), Now: clock, Writer: "server-1"}, {URL: server.Database(t), Now: clock, Writer: "server-1"}} {
				if err := Restore(t.Context(), to, Contents{Migrations: names, Rows: func(put Row) error { return old.Dump(t.Context(), put) }}); err != nil {
					t.Fatal(err)
				}
				s, err := Open(t.Context(), to)
				if err != nil {
					t.Fatal(err)
				}
				holdsFixture(t, s)
				_ = s.Close()
			}
			_ = old.Close()
			s, err := Open(t.Context(), released(t, release))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			holdsFixture(t, s)
		})
	}
}
