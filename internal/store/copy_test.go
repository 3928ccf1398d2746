package store

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// filled is a store with rows in several tables.
func filled(t *testing.T) *Store {
	t.Helper()
	s := open4test(t)
	for _, name := range []string{"b", "a", "ä\n'\"", "Z"} {
		if err := s.Write(t.Context(), func(tx *Tx) error {
			if err := tx.SetFact(name, map[string]string{"value": name}); err != nil {
				return err
			}
			if err := tx.changed("user", name); err != nil {
				return err
			}
			return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success, Target: name})
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func restored(t *testing.T, from *Store, change func(*Contents)) (*Store, error) {
	t.Helper()
	names, err := from.Migrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := Contents{Migrations: names, Rows: func(put Row) error { return from.Dump(t.Context(), put) }}
	if change != nil {
		change(&c)
	}
	cfg := Config{Path: filepath.Join(t.TempDir(), "r.db"), Now: clock, Writer: "w"}
	if err := Restore(t.Context(), cfg, c); err != nil {
		if _, open := Open(t.Context(), cfg); !fault.Is(open, fault.NotFound) {
			t.Errorf("a failed restore left a store: %v", open)
		}
		return nil, err
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, nil
}

func TestRestore_HoldsWhatWasDumped(t *testing.T) {
	from := filled(t)
	to, err := restored(t, from, func(c *Contents) {
		c.Finish = func(tx *Tx) error {
			if err := tx.SetFact("finished", true); err != nil {
				return err
			}
			return tx.Audit(audit.By{}, audit.Event{Type: "restore", Outcome: audit.Success})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Read(t.Context(), func(tx *Tx) error {
		n, heads, err := tx.VerifyAudit()
		if n != 5 || len(heads) != 1 {
			t.Errorf("%d records, %v", n, heads)
		}
		var done bool
		if found, err := tx.Fact("finished", &done); !found || err != nil {
			t.Errorf("finish: %v %v", found, err)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if to.Position() != from.Position() {
		t.Errorf("position %d", to.Position())
	}
	same, err := restored(t, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := from.Sums(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := same.Sums(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("sums differ: %v\n%v\n%v", err, got, want)
	}
	changed, err := to.Sums(t.Context())
	if err != nil || slices.Equal(changed, want) {
		t.Fatalf("sums of other contents are equal (%v)", err)
	}
}

func TestRestore_RefusesAndLeavesNothing(t *testing.T) {
	from := filled(t)
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		change func(*Contents)
		code   string
	}{
		"schema of a newer build": {func(c *Contents) { c.Migrations = append(c.Migrations, "schema/99_later.sql") }, "SchemaNewer"},
		"no schema":               {func(c *Contents) { c.Migrations = nil }, "SchemaMissing"},
		"rows that end in error":  {func(c *Contents) { c.Rows = func(Row) error { return boom } }, "boom"},
		"finish fails":            {func(c *Contents) { c.Finish = func(*Tx) error { return boom } }, "boom"},
		"unknown table":           {func(c *Contents) { c.Rows = oneRow(`x"; DROP TABLE audit; --`, "a") }, "SchemaMismatch"},
		"unknown column":          {func(c *Contents) { c.Rows = oneRow(`deployment`, `name", "value`) }, "SchemaMismatch"},
		"migration table":         {func(c *Contents) { c.Rows = oneRow(migrationTable, "name", "at") }, "SchemaMismatch"},
	} {
		if _, err := restored(t, from, c.change); err == nil || !strings.Contains(err.Error(), c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func oneRow(table string, columns ...string) func(Row) error {
	return func(put Row) error { return put(table, columns, make([]any, len(columns))) }
}

func TestOpen_RefusesASecondWriterAndLetsReadersIn(t *testing.T) {
	s := filled(t)
	if _, err := Open(t.Context(), s.cfg); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a second writer: %v", err)
	}
	r, err := OpenRead(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("later", 1) }); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(t.Context(), func(tx *Tx) error {
		var n int
		found, err := tx.Fact("later", &n)
		if !found {
			t.Error("the reader does not see a commit")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(context.Background(), func(*Tx) error { return nil }); !fault.Is(err, fault.Forbidden) {
		t.Fatalf("a reader wrote: %v", err)
	}
}

func TestOpen_RefusesTheSchemaOfANewerBuild(t *testing.T) {
	s := open4test(t)
	if err := s.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO schema_migration (name, at) VALUES ('schema/99_later.sql', 0)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := Open(t.Context(), s.cfg); err == nil || fault.As(err).Code != "SchemaNewer" {
		t.Fatalf("got %v", err)
	}
}
