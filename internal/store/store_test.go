package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

func clock() time.Time { return time.Unix(1_800_000_000, 0) }

// place4test is where a store of a test goes: a file, or where the environment
// names a PostgreSQL database, a schema of it (as storetest does it).
func place4test(t *testing.T) Config {
	t.Helper()
	admin := os.Getenv("SALLYPORT_TEST_DATABASE")
	if admin == "" {
		return Config{Path: filepath.Join(t.TempDir(), "s.db"), Now: clock, Writer: "w"}
	}
	db, err := sql.Open("pgx", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	name := fmt.Sprintf("s%d_%d", os.Getpid(), time.Now().UnixNano())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return Config{URL: admin + "&search_path=" + name, Now: clock, Writer: "w"}
}

func open4test(t *testing.T) *Store {
	t.Helper()
	s, err := Create(t.Context(), place4test(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestWrite_ErrorUndoesOnlyItself(t *testing.T) { undoAlone(t, open4test(t)) }

func undoAlone(t *testing.T, s *Store) {
	t.Helper()
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := s.Write(context.Background(), func(tx *Tx) error {
				if err := tx.SetFact(fmt.Sprintf("f%d", i), i); err != nil {
					return err
				}
				if err := tx.changed("user", fmt.Sprint(i)); err != nil {
					return err
				}
				if err := tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success}); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return boom
				case 2:
					panic("boom")
				}
				return nil
			})
			if (err != nil) != (i%4 == 1 || i%4 == 2) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	err := s.Read(t.Context(), func(tx *Tx) error {
		n, heads, err := tx.VerifyAudit()
		if err != nil || n != 100 || len(heads) != 1 || heads[0].Sequence != 100 {
			t.Errorf("audit %d %v %v", n, heads, err)
		}
		var v int
		for i := range 200 {
			found, _ := tx.Fact(fmt.Sprintf("f%d", i), &v)
			if found != (i%4 == 0 || i%4 == 3) {
				t.Errorf("fact %d: %v", i, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(t.Context(), 0, 1000)
	if err != nil || len(changes) != 100 || s.Position() != 100 || changes[99].Position != 100 {
		t.Fatalf("feed %d position %d %v", len(changes), s.Position(), err)
	}
}

func TestMoved_WakesAfterCommit(t *testing.T) {
	s := open4test(t)
	moved := s.Moved()
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.changed("user", "a") }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-moved:
	default:
		t.Fatal("a committed change did not wake")
	}
}

func TestVerifyAudit_ShowsAlterationAndLoss(t *testing.T) {
	for name, sql := range map[string]string{
		"altered body":   `UPDATE audit SET body = replace(body, 'denied', 'success') WHERE sequence = 2`,
		"altered column": `UPDATE audit SET hash = 'AAAA' WHERE sequence = 2`,
		"removed":        `DELETE FROM audit WHERE sequence = 2`,
		"cut beginning":  `DELETE FROM audit WHERE sequence = 1`,
	} {
		s := open4test(t)
		for range 3 {
			if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Audit(audit.By{}, audit.Event{Type: "x", Outcome: audit.Denied}) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Write(t.Context(), func(tx *Tx) error { _, err := tx.exec(sql); return err }); err != nil {
			t.Fatal(err)
		}
		_ = s.Read(t.Context(), func(tx *Tx) error {
			if _, _, err := tx.VerifyAudit(); err == nil {
				t.Errorf("%s: not seen", name)
			}
			return nil
		})
	}
}

func TestRead_RefusesToWrite(t *testing.T) {
	s := open4test(t)
	err := s.Read(t.Context(), func(tx *Tx) error { return tx.SetFact("a", 1) })
	if err == nil {
		t.Fatal("a read wrote")
	}
	if err := s.Read(t.Context(), func(tx *Tx) error { return tx.Audit(audit.By{}, audit.Event{}) }); err == nil {
		t.Fatal("a read audited")
	}
}

func TestCreate_RefusesWhatExists(t *testing.T) {
	s := open4test(t)
	if _, err := Create(t.Context(), s.cfg); !fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v", err)
	}
}

// A path is a path, whatever its letters mean in the URI that SQLite takes.
func TestCreate_AnyPath(t *testing.T) {
	for _, name := range []string{"a#b", "a?b", "a%41b", "a b&c=d"} {
		cfg := Config{Path: filepath.Join(t.TempDir(), name, "s.db"), Now: time.Now, Writer: "w"}
		if err := os.Mkdir(filepath.Dir(cfg.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := Create(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(cfg.Path); err != nil || info.Size() == 0 {
			t.Errorf("%s: the store is elsewhere: %v, %v", name, info, err)
		}
	}
}

func TestOpen_RefusesALooseFile(t *testing.T) {
	s := open4test(t)
	_ = s.Close()
	if err := os.Chmod(s.cfg.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s.cfg); !fault.Is(err, fault.Forbidden) {
		t.Fatalf("got %v", err)
	}
	if err := os.Chmod(s.cfg.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	err = again.Write(t.Context(), func(*Tx) error { return nil })
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("a closed store answered %v", err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "trouble.Stopping")
}
