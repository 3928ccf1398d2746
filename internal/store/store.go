package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

//go:embed schema/*.sql
var schema embed.FS

// Config describes a store: a SQLite file or a PostgreSQL database.
type Config struct {
	// Path of the SQLite file. Its folder must be private to the caller.
	Path string
	// URL of a PostgreSQL database; where it is set, Path is not used.
	URL string
	// Password for the database, where neither the URL nor libpq's password file
	// has it.
	Password string
	// Now is the clock; every transaction reads it once.
	Now func() time.Time
	// Writer names this server and its audit chain, [a-z0-9-]+. In a database
	// that several servers share, only one process may bear a name.
	Writer string
	// Ability says what this server can do that others may not; see Replica.
	Ability string
	// Committed, where set, is told of every commit: how many writes shared it,
	// and their audit events. It runs in the writer and must be quick.
	Committed func(writes int, events []audit.Event)
	// Declared, where set, refuses events that may not be written; an event that
	// it refuses is an error of the write.
	Declared func(e audit.Event) error
}

// Store is an open database, safe for concurrent use.
type Store struct {
	cfg       Config
	dialect   dialect
	db        *sql.DB
	lock      io.Closer // a file's, nil for none
	readOnly  bool
	writes    chan *write
	pool      chan *conn
	chain     chain // the writer's
	lease     lease // the writer's
	epoch     int64 // of the lease; does not change while this process lives
	confirm   sync.Mutex
	confirmer *conn // guarded by confirm
	stop      chan struct{}
	done      chan struct{}
	lost      chan struct{} // closed when this process must end; why is set before
	silence   time.Duration // see readLimit

	mu       sync.Mutex
	position int64         // of the newest feed row that is known to be committed
	moved    chan struct{} // closed and replaced when position moves
	closed   bool
	why      error // that lost was closed
	seen     mark  // guarded by confirm
}

// Create makes a new store and opens it. It refuses an existing one, so that
// nobody initialises over a deployment.
func Create(ctx context.Context, cfg Config) (*Store, error) {
	err := create(ctx, cfg, func(ctx context.Context, _ *Store, w *conn) error { return w.migrate(ctx, nil) })
	if err != nil {
		return nil, err
	}
	return Open(ctx, cfg)
}

// create makes a new store and fills it in one transaction; it leaves nothing
// when that fails.
func create(ctx context.Context, cfg Config, fill func(context.Context, *Store, *conn) error) (err error) {
	d := dialectOf(cfg)
	if err := d.reserve(cfg); err != nil {
		return err
	}
	made := false
	defer func() {
		if err != nil && !made {
			d.discard(cfg)
		}
	}()
	db, err := d.connect(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w, err := newConn(ctx, db, d)
	if err != nil {
		return unreachable(err, d, cfg)
	}
	// A connection that is still out keeps the log beside the file, with the rows
	// in it: the file alone is the store only after both are closed.
	defer w.close()
	if err := d.check(ctx, w); err != nil {
		return unreachable(err, d, cfg)
	}
	err = w.inTransaction(ctx, func() error {
		tables, err := (&Tx{ctx: ctx, conn: w}).tables()
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			return errExists(nil, d.place(cfg))
		}
		return fill(ctx, &Store{cfg: cfg, dialect: d, db: db}, w)
	})
	made = err == nil
	return err
}

func errExists(cause error, place string) error {
	return fault.Wrap(cause, fault.Conflict, "StoreExists", "%s already holds a deployment", place).
		WithRemedy("Choose another place, or remove this one if its contents may be lost.")
}

// unreachable says that a database does not answer, unless err says more.
func unreachable(err error, d dialect, cfg Config) error {
	var said *fault.Error
	if err == nil || errors.As(err, &said) {
		return err
	}
	if why := refused(err, d.place(cfg)); why != nil {
		return why
	}
	if why := unusableFile(err, d.place(cfg)); why != nil {
		return why
	}
	return fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot open the deployment in %s: %v", d.place(cfg), err)
}

// Remove takes a store away that was made a moment ago and holds nothing worth
// keeping. The store must be closed.
func Remove(cfg Config) { dialectOf(cfg).discard(cfg) }

// Open opens an existing store, checks who owns it and brings its schema up to
// this build's. A file that others may read is refused, and one that another
// process has open to write; in a shared database, a name that another process
// bears.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	d := dialectOf(cfg)
	lock, err := d.own(cfg, true)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, d, false)
	if err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// OpenRead opens an existing store to read it while servers may serve it. It
// leaves the schema as it is; Write is refused.
func OpenRead(ctx context.Context, cfg Config) (*Store, error) {
	d := dialectOf(cfg)
	if _, err := d.own(cfg, false); err != nil {
		return nil, err
	}
	return open(ctx, cfg, d, true)
}

func open(ctx context.Context, cfg Config, d dialect, readOnly bool) (*Store, error) {
	db, err := d.connect(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, dialect: d, db: db, writes: make(chan *write, 1024), pool: make(chan *conn, d.readers), readOnly: readOnly,
		stop: make(chan struct{}), done: make(chan struct{}), lost: make(chan struct{}), silence: readLimit, moved: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(unreachable(err, d, cfg), db.Close())
	}
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	w, err := newConn(ctx, s.db, s.dialect)
	if err != nil {
		return err
	}
	if err := s.dialect.check(ctx, w); err != nil {
		return err
	}
	t := &Tx{ctx: ctx, conn: w, store: s}
	tables, err := t.tables()
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return errNoStore(s.dialect.place(s.cfg))
	}
	if !s.readOnly {
		if err := w.inTransaction(ctx, func() error { return s.upgrade(t) }); err != nil {
			return err
		}
	}
	if _, err := t.row(`SELECT position FROM feed_position WHERE id = 1`, nil, &s.position); err != nil {
		return err
	}
	for range s.dialect.readers {
		s.pool <- nil // connected by the first read that needs it
	}
	if s.readOnly {
		close(s.done)
		return w.raw.Close()
	}
	if s.dialect.shared {
		if err := s.claim(ctx, w); err != nil {
			return err
		}
	}
	if s.chain, err = t.tail(s.cfg.Writer); err != nil {
		return err
	}
	go s.writer(w)
	return nil
}

// upgrade brings the schema up to this build's. Of several servers that start on
// one database one does it; the others wait for it and find it done.
func (s *Store) upgrade(t *Tx) error {
	if s.dialect.serialize != "" {
		if _, err := t.row(s.dialect.serialize, nil, &s.position); err != nil {
			return err
		}
	}
	return t.conn.migrate(t.ctx, nil)
}

func errNoStore(place string) error {
	return fault.New(fault.NotFound, "StoreNotFound", "there is no deployment in %s", place).WithRemedy("Make one with: sally server init")
}

// migrate runs the schema files that this database has not seen, in the order
// of their names, inside the caller's transaction; only those named where names
// are given. Forward only: a database of a newer build is refused.
func (c *conn) migrate(ctx context.Context, only []string) error {
	t := &Tx{ctx: ctx, conn: c}
	if err := c.dialect.script(ctx, c, `CREATE TABLE IF NOT EXISTS `+migrationTable+` (name TEXT PRIMARY KEY, at BIGINT NOT NULL)`); err != nil {
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
		if err := c.dialect.script(ctx, c, string(text)); err != nil {
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
	for idle := true; idle; {
		select {
		case c := <-s.pool:
			c.close()
		default:
			idle = false
		}
	}
	s.confirm.Lock()
	s.confirmer.close()
	s.confirmer = nil
	s.confirm.Unlock()
	err := s.db.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Now is the store's clock.
func (s *Store) Now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Shared reports whether other processes may write to this store.
func (s *Store) Shared() bool { return s.dialect.shared }
