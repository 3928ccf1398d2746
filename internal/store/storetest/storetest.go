package storetest

import (
	"context"
	"database/sql"
	"errors"
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
// PostgreSQL database: each store becomes a database beside it instead of a file.
const Database = "SALLYPORT_TEST_DATABASE"

// Place makes an empty store and says where it is; the caller adds clock and
// writer and opens it. What store.Create makes takes a while; it is made once and
// copied: nothing in it tells one store from another.
func Place(t testing.TB) (cfg store.Config) {
	t.Helper()
	admin := os.Getenv(Database)
	if admin == "" {
		data, err := file()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Path = filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(cfg.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	template, err := database()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d_%d", os.Getpid(), time.Now().UnixNano())
	if err := run(admin, "CREATE DATABASE "+name+" TEMPLATE "+template+" STRATEGY FILE_COPY"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, admin, name) })
	cfg.URL, err = beside(admin, name)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// file is the content of an empty store's file.
var file = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sallyport-storetest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "s.db")
	if err := create(store.Config{Path: path}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// database is the name of a database with an empty store, of this process.
var database = sync.OnceValues(func() (string, error) {
	admin, name := os.Getenv(Database), fmt.Sprintf("template_%d", os.Getpid())
	if err := run(admin, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	url, err := beside(admin, name)
	if err != nil {
		return "", err
	}
	return name, create(store.Config{URL: url})
})

func create(cfg store.Config) error {
	cfg.Now, cfg.Writer = time.Now, "w"
	s, err := store.Create(context.Background(), cfg)
	if err != nil {
		return err
	}
	return s.Close()
}

// beside is the URL of another database of the same server.
func beside(admin, name string) (string, error) {
	u, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

func run(url string, statements ...string) (err error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Written is a table of the database of Database: the names of the tables in
// which a test has left a row.
const Written = "storetest_written"

// drop removes a database, and remembers which of its tables were written.
func drop(t testing.TB, admin, name string) {
	tables, err := written(admin, name)
	if err == nil {
		err = run(admin, "CREATE TABLE IF NOT EXISTS "+Written+" (name text PRIMARY KEY)",
			"INSERT INTO "+Written+" SELECT unnest(string_to_array('"+tables+"', ' ')) ON CONFLICT DO NOTHING",
			"DROP DATABASE "+name+" WITH (FORCE)")
	}
	if err != nil {
		t.Errorf("dropping the database %s: %v", name, err)
	}
}

// written lists the tables of a database that have a row.
func written(admin, name string) (tables string, err error) {
	url, err := beside(admin, name)
	if err != nil {
		return "", err
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	statement := ""
	if err := db.QueryRow(`SELECT string_agg(format('SELECT %L::text AS name WHERE EXISTS (SELECT 1 FROM %I.%I)', tablename, schemaname, tablename), ' UNION ALL ')
FROM pg_tables WHERE schemaname = 'public'`).Scan(&statement); err != nil {
		return "", err
	}
	return tables, db.QueryRow("SELECT coalesce(string_agg(name, ' '), '') FROM (" + statement + ") AS left_rows").Scan(&tables)
}

// New makes a store. Followers see each change in their order.
func New(t testing.TB, now func() time.Time, followers ...Follower) *Store {
	t.Helper()
	cfg := Place(t)
	cfg.Now, cfg.Writer = now, "w"
	s, err := store.Open(t.Context(), cfg)
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
