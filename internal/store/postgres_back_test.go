package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/crowdtest"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/store/postgrestest"
)

// wentBack: a database that lost changes which servers know, by a failover or a
// restore, ends them: their indexes hold what never was, and would never hear
// of what is written under the same positions.
func wentBack(t *testing.T, server *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	put := func(s *Store, name string) {
		t.Helper()
		if err := s.Write(t.Context(), func(tx *Tx) error { return tx.PutGroup(directory.Group{ID: name, DisplayName: name}) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"one", "two", "three"} {
		put(a, name)
	}
	for _, s := range []*Store{a, b} {
		if _, err := s.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(s *Store, who string) {
		t.Helper()
		if _, err := s.Confirm(t.Context()); err == nil || fault.As(err).Code != "DatabaseWentBack" {
			t.Errorf("%s: %v", who, err)
		}
		select {
		case <-s.Lost():
			if fault.As(s.Why()).Code != "DatabaseWentBack" {
				t.Error(s.Why())
			}
		default:
			t.Errorf("%s goes on", who)
		}
	}
	// As a copy that had not got the last two has it.
	server.SQL(t, url, `DELETE FROM feed WHERE position > 1; UPDATE feed_position SET position = 1`)
	ended(a, "a position that is lower")
	// The other one looks only when as many others have been written since.
	time.Sleep(time.Millisecond) // another moment
	server.SQL(t, url, `INSERT INTO feed (position, kind, key, at) SELECT n, 'group', 'other', 5 FROM generate_series(2, 9) n; UPDATE feed_position SET position = 9`)
	ended(b, "positions given again")
}

// upgradedTogether: servers of a new build that start at the same moment move
// the schema once.
func upgradedTogether(t *testing.T, server *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	_, _ = a.Close(), b.Close()
	for range 5 {
		server.SQL(t, url, `DROP TABLE machine_manifest; DELETE FROM schema_migration WHERE name = 'schema/50_manifest.sql'`)
		var wg sync.WaitGroup
		for _, name := range []string{"server-a", "server-b", "server-c", "server-d"} {
			wg.Go(func() {
				s, err := Open(context.Background(), Config{URL: url, Now: clock, Writer: name})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				_ = s.Close()
			})
		}
		wg.Wait()
	}
}

// longRead: a read takes as long as it needs while the database answers, and is
// given up when it says nothing.
func longRead(t *testing.T, _ *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	a.silence = time.Second
	if err := a.Write(t.Context(), func(tx *Tx) error {
		for range 3 {
			if err := tx.Audit(audit.By{}, audit.Event{Type: "x", Outcome: audit.Success}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slow := func(statement string, times int) error {
		return a.Read(t.Context(), func(tx *Tx) error {
			for range times {
				var one string
				if _, err := tx.row(statement, nil, &one); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// On a crowded computer a database may say nothing for a second now and then.
	if err := crowdtest.Until(5*time.Second, func() error { return slow(`SELECT pg_sleep(0.3)::text`, 6) }); err != nil {
		t.Errorf("a long read: %v", err)
	}
	if err := slow(`SELECT pg_sleep(20)::text`, 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a silent database: %v", err)
	}
	if err := slow(`SELECT 'x'`, 1); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// readPanics: a read that panics takes no connection with it.
func readPanics(t *testing.T, s *Store) {
	for range 2 * cap(s.pool) {
		func() {
			defer func() { _ = recover() }()
			_ = s.Read(t.Context(), func(*Tx) error { panic("in a read") })
		}()
	}
	for range 2 * cap(s.pool) {
		if err := s.Read(t.Context(), func(tx *Tx) error { _, err := tx.Replicas(); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRead_PanicTakesNoConnection(t *testing.T) {
	s, err := Create(t.Context(), Config{Path: t.TempDir() + "/store.db", Now: clock, Writer: "server-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	readPanics(t, s)
}
