package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"

	_ "modernc.org/sqlite" // the pure-Go driver keeps the binary free of cgo
)

//go:embed schema/*.sql
var schema embed.FS

// readers is how many reads may run beside each other.
const readers = 4

// Config describes a store.
type Config struct {
	// Path of the SQLite file. Its folder must be private to the caller.
	Path string
	// Now is the clock; every transaction reads it once.
	Now func() time.Time
	// Writer names this server's audit chain, [a-z0-9-]+.
	Writer string
	// Committed, where set, is told of every commit: how many writes shared it,
	// and their audit events. It runs in the writer and must be quick.
	Committed func(writes int, events []audit.Event)
}

// Store is an open database, safe for concurrent use.
type Store struct {
	cfg    Config
	db     *sql.DB
	writes chan *write
	pool   chan *conn
	chain  chain
	stop   chan struct{}
	done   chan struct{}

	mu       sync.Mutex
	position int64         // of the last committed feed row
	moved    chan struct{} // closed and replaced when position moves
	closed   bool
}

// Create makes a new store and opens it. It refuses an existing file, so that
// nobody initialises over a deployment.
func Create(ctx context.Context, cfg Config) (*Store, error) {
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.Wrap(err, fault.Conflict, "StoreExists", "%s already holds a deployment", cfg.Path).
			WithRemedy("Choose another --state folder, or remove this one if its contents may be lost.")
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "StoreNotCreated", "cannot create %s", cfg.Path)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	return open(ctx, cfg)
}

// Open opens an existing store, checks who owns it and brings its schema up to
// this build's. A file that others may read is refused.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	info, err := os.Lstat(cfg.Path)
	if err != nil {
		return nil, fault.Wrap(err, fault.NotFound, "StoreNotFound", "there is no deployment at %s", cfg.Path).
			WithRemedy("Make one with: sally server init")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return nil, fault.New(fault.Forbidden, "StoreNotPrivate", "%s must be a regular file of uid %d with mode 0600", cfg.Path, os.Geteuid())
	}
	return open(ctx, cfg)
}

func open(ctx context.Context, cfg Config) (*Store, error) {
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(cfg.Path, "?", "%3f")+
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{cfg: cfg, db: db, writes: make(chan *write, 1024), pool: make(chan *conn, readers),
		stop: make(chan struct{}), done: make(chan struct{}), moved: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		_ = db.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot open the deployment at %s", cfg.Path)
	}
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	w, err := newConn(ctx, s.db)
	if err != nil {
		return err
	}
	if err := migrate(ctx, w); err != nil {
		return err
	}
	t := &Tx{ctx: ctx, conn: w, store: s}
	if _, err := t.row(`SELECT position FROM feed_position WHERE id = 1`, nil, &s.position); err != nil {
		return err
	}
	if s.chain, err = t.tail(s.cfg.Writer); err != nil {
		return err
	}
	for range readers {
		c, err := newConn(ctx, s.db)
		if err != nil {
			return err
		}
		if _, err := c.raw.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
			return err
		}
		s.pool <- c
	}
	go s.writer(w)
	return nil
}

// migrate runs the schema files that this database has not seen, in the order
// of their names, each in a transaction of its own. Forward only.
func migrate(ctx context.Context, c *conn) error {
	if _, err := c.raw.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migration (name TEXT PRIMARY KEY, at BIGINT NOT NULL)`); err != nil {
		return err
	}
	names, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		t := &Tx{ctx: ctx, conn: c}
		var seen string
		found, err := t.row(`SELECT name FROM schema_migration WHERE name = $1`, []any{name}, &seen)
		if err != nil {
			return err
		}
		if found {
			continue
		}
		text, err := schema.ReadFile(name)
		if err != nil {
			return err
		}
		script := "BEGIN IMMEDIATE;\n" + string(text) + "\nINSERT INTO schema_migration (name, at) VALUES ('" + name + "', 0);\nCOMMIT;"
		if _, err := c.raw.ExecContext(ctx, script); err != nil {
			_, _ = c.raw.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

// Close waits for the write under way, refuses new ones and closes the
// database. It may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	return s.db.Close()
}

// Now is the store's clock.
func (s *Store) Now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// conn is one database connection with its prepared statements.
type conn struct {
	raw        *sql.Conn
	statements map[string]*sql.Stmt
}

func newConn(ctx context.Context, db *sql.DB) (*conn, error) {
	raw, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, statements: map[string]*sql.Stmt{}}, nil
}

// prepare returns the statement for query, prepared once per connection.
func (c *conn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := c.statements[query]; ok {
		return st, nil
	}
	st, err := c.raw.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	c.statements[query] = st
	return st, nil
}

func (c *conn) do(ctx context.Context, query string) error {
	st, err := c.prepare(ctx, query)
	if err != nil {
		return err
	}
	_, err = st.ExecContext(ctx)
	return err
}
