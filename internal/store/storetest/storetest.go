package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/internal/store"
)

// Follower brings an index up to date with one change of the feed.
type Follower func(tx *store.Tx, kind, key string) error

// Index makes a follower of an index's Refresh. R is what the index reads from;
// a *store.Tx must be one.
func Index[R any](refresh func(r R, kind, key string) error) Follower {
	return func(tx *store.Tx, kind, key string) error { return refresh(any(tx).(R), kind, key) }
}

// Store is a store that lives as long as its test.
type Store struct {
	*store.Store
	followers []Follower
	mu        sync.Mutex
	at        int64
}

// Database, where this environment variable is set, is the URL of a
// PostgreSQL database: each store becomes a schema of it instead of a file.
const Database = "SALLYPORT_TEST_DATABASE"

// Place says where the next store goes; the caller adds clock and writer.
func Place(t testing.TB) (cfg store.Config) {
	t.Helper()
	admin := os.Getenv(Database)
	if admin == "" {
		return store.Config{Path: filepath.Join(t.TempDir(), "s.db")}
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d_%d", os.Getpid(), time.Now().UnixNano())
	db, err := sql.Open("pgx", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, admin, name) })
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return store.Config{URL: u.String()}
}

// Written is a table of the database of Database: the names of the tables in
// which a test has left a row.
const Written = "storetest_written"

// drop removes a schema, so that those to come do not wait for the catalogue of
// a thousand, and remembers which of its tables were written.
func drop(t testing.TB, admin, schema string) {
	db, err := sql.Open("pgx", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	statement := ""
	err = db.QueryRow(`SELECT coalesce(string_agg(format('SELECT %L::text AS name WHERE EXISTS (SELECT 1 FROM %I.%I)', tablename, schemaname, tablename), ' UNION ALL '), 'SELECT NULL::text WHERE false')
FROM pg_tables WHERE schemaname = $1`, schema).Scan(&statement)
	for _, s := range []string{
		"CREATE TABLE IF NOT EXISTS public." + Written + " (name text PRIMARY KEY)",
		"INSERT INTO public." + Written + " SELECT name FROM (" + statement + ") AS left_rows ON CONFLICT DO NOTHING",
		"DROP SCHEMA " + schema + " CASCADE",
	} {
		if err == nil {
			_, err = db.Exec(s)
		}
	}
	if err != nil {
		t.Errorf("dropping the schema %s: %v", schema, err)
	}
}

// New makes a store. Followers see each change in their order.
func New(t testing.TB, now func() time.Time, followers ...Follower) *Store {
	t.Helper()
	cfg := Place(t)
	cfg.Now, cfg.Writer = now, "w"
	s, err := store.Create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &Store{Store: s, followers: followers}
}

// Write writes and returns when the followers know what was committed, also
// when the caller has gone meanwhile.
func (s *Store) Write(ctx context.Context, f func(*store.Tx) error) error {
	err := s.Store.Write(ctx, f)
	if followed := s.follow(context.WithoutCancel(ctx)); err == nil {
		err = followed
	}
	return err
}

func (s *Store) follow(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := s.Changes(ctx, s.at, 10_000)
	if err != nil {
		return err
	}
	return s.Read(ctx, func(tx *store.Tx) error {
		for _, c := range changes {
			for _, f := range s.followers {
				if err := f(tx, c.Kind, c.Key); err != nil {
					return err
				}
			}
			s.at = c.Position
		}
		return nil
	})
}

// Write is s.Write as a domain that declares the transaction T takes it.
func Write[T any](s *Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return s.Write(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
	}
}

// Read is s.Read as a domain that declares the transaction T takes it.
func Read[T any](s *Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return s.Read(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
	}
}
