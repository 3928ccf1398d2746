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
	// Declared, where set, refuses events that may not be written; an event that
	// it refuses is an error of the write.
	Declared func(e audit.Event) error
}

// Store is an open database, safe for concurrent use.
type Store struct {
	cfg      Config
	db       *sql.DB
	lock     *os.File // nil for one that only reads
	readOnly bool
	writes   chan *write
	pool     chan *conn
	chain    chain
	stop     chan struct{}
	done     chan struct{}

	mu       sync.Mutex
	position int64         // of the last committed feed row
	moved    chan struct{} // closed and replaced when position moves
	closed   bool
}

// Create makes a new store and opens it. It refuses an existing file, so that
// nobody initialises over a deployment.
func Create(ctx context.Context, cfg Config) (*Store, error) {
	err := create(ctx, cfg, func(ctx context.Context, _ *Store, w *conn) error { return migrate(ctx, w, nil) })
	if err != nil {
		return nil, err
	}
	return Open(ctx, cfg)
}

// create makes a new file and fills it in one transaction; it leaves nothing
// when that fails.
func create(ctx context.Context, cfg Config, fill func(context.Context, *Store, *conn) error) (err error) {
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.Wrap(err, fault.Conflict, "StoreExists", "%s already holds a deployment", cfg.Path).
			WithRemedy("Choose another --state folder, or remove this one if its contents may be lost.")
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "StoreNotCreated", "cannot create %s", cfg.Path)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	defer func() {
		if err != nil {
			removeStore(cfg.Path)
		}
	}()
	db, err := connect(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w, err := newConn(ctx, db)
	if err != nil {
		return err
	}
	// A connection that is still out keeps the log beside the file, with the rows
	// in it: the file alone is the store only after both are closed.
	defer func() { err = errors.Join(err, w.close()) }()
	return w.inTransaction(ctx, func() error { return fill(ctx, &Store{cfg: cfg, db: db}, w) })
}

// removeStore removes the files of a store that was not finished.
func removeStore(path string) {
	for _, f := range []string{path, path + "-wal", path + "-shm", path + lockSuffix} {
		_ = os.Remove(f)
	}
}

// Open opens an existing store, checks who owns it and brings its schema up to
// this build's. A file that others may read is refused, and one that another
// process has open to write.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := private(cfg.Path); err != nil {
		return nil, err
	}
	lock, err := lockStore(cfg.Path)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, false)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return s, nil
}

// OpenRead opens an existing store to read it while a server may serve it. It
// leaves the schema as it is; Write is refused.
func OpenRead(ctx context.Context, cfg Config) (*Store, error) {
	if err := private(cfg.Path); err != nil {
		return nil, err
	}
	return open(ctx, cfg, true)
}

// private holds the file to its owner.
func private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fault.Wrap(err, fault.NotFound, "StoreNotFound", "there is no deployment at %s", path).
			WithRemedy("Make one with: sally server init")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return fault.New(fault.Forbidden, "StoreNotPrivate", "%s must be a regular file of uid %d with mode 0600", path, os.Geteuid())
	}
	return nil
}

// lockSuffix is of the file whose lock says that the store is open to write.
// SQLite's own locks are of one moment; two servers on one file would each
// continue the same audit chain.
const lockSuffix = ".lock"

func lockStore(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot lock the deployment at %s", path)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits
		return nil, errors.Join(fault.Wrap(err, fault.Conflict, "StoreInUse", "another process serves the deployment at %s", path).
			WithRemedy("Stop that server first."), f.Close())
	}
	return f, nil
}

func connect(cfg Config) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(cfg.Path, "?", "%3f")+
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return db, nil
}

func open(ctx context.Context, cfg Config, readOnly bool) (*Store, error) {
	db, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, db: db, writes: make(chan *write, 1024), pool: make(chan *conn, readers), readOnly: readOnly,
		stop: make(chan struct{}), done: make(chan struct{}), moved: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		_ = db.Close()
		var said *fault.Error
		if errors.As(err, &said) {
			return nil, err
		}
		return nil, fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot open the deployment at %s", cfg.Path)
	}
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	w, err := newConn(ctx, s.db)
	if err != nil {
		return err
	}
	if !s.readOnly {
		if err := w.inTransaction(ctx, func() error { return migrate(ctx, w, nil) }); err != nil {
			return err
		}
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
	if s.readOnly {
		close(s.done)
		return w.raw.Close()
	}
	go s.writer(w)
	return nil
}

// migrate runs the schema files that this database has not seen, in the order
// of their names, inside the caller's transaction; only those named where names
// are given. Forward only: a database of a newer build is refused.
func migrate(ctx context.Context, c *conn, only []string) error {
	t := &Tx{ctx: ctx, conn: c}
	if _, err := t.exec(`CREATE TABLE IF NOT EXISTS ` + migrationTable + ` (name TEXT PRIMARY KEY, at BIGINT NOT NULL)`); err != nil {
		return err
	}
	seen, err := t.migrations()
	if err != nil {
		return err
	}
	if len(seen) > 0 {
		if err := knownMigrations(seen); err != nil {
			return err
		}
	}
	names, err := schemaFiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(seen, name) || only != nil && !slices.Contains(only, name) {
			continue
		}
		text, err := schema.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := c.raw.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
		if _, err := t.exec(`INSERT INTO `+migrationTable+` (name, at) VALUES ($1, 0)`, name); err != nil {
			return err
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
	err := s.db.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
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

// close ends the connection; a statement that stayed open would keep it.
func (c *conn) close() (err error) {
	for _, st := range c.statements {
		err = errors.Join(err, st.Close())
	}
	return errors.Join(err, c.raw.Close())
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

// inTransaction runs f in a writing transaction of its own.
func (c *conn) inTransaction(ctx context.Context, f func() error) error {
	if err := c.do(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = c.do(ctx, "COMMIT")
	}
	if err != nil {
		_ = c.do(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// Remove takes a store away that was made a moment ago and holds nothing worth
// keeping. The store must be closed.
func Remove(cfg Config) { removeStore(cfg.Path) }
