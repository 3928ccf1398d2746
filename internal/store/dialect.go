package store

import (
	"context"
	"database/sql"
	"io"
)

// dialect is everything in which two databases differ. The statements of the
// domains do not: they are written once, in what both understand.
type dialect struct {
	// shared: several processes may have it open to write.
	shared bool
	// readers is how many reads run beside each other.
	readers int
	// begin and read begin a transaction that writes, and one that sees one
	// moment. readOnly, where set, makes a connection unable to write.
	begin, read, readOnly string
	// serialize, where set, is the first statement of each writing transaction:
	// it waits until no other process is in one.
	serialize string
	// tables lists table, column and whether that is part of the primary key.
	tables string

	// place names the database to people, without a secret.
	place func(cfg Config) string
	// connect opens it.
	connect func(cfg Config) (*sql.DB, error)
	// reserve makes room for a new store, or refuses; discard undoes that.
	reserve func(cfg Config) error
	discard func(cfg Config)
	// own checks the owner of an existing store and, for a writer, locks it.
	own func(cfg Config, writer bool) (io.Closer, error)
	// check refuses a server whose settings would break a promise of this package.
	check func(ctx context.Context, c *conn) error
	// script runs a schema file.
	script func(ctx context.Context, c *conn, text string) error
	// commit commits, or returns an error and has not, unless broken says that
	// nobody knows.
	commit func(ctx context.Context, c *conn) error
	// again: the transaction was in the way of another one and may simply be
	// repeated. broken: the connection is lost.
	again  func(err error) bool
	broken func(c *conn) bool
}

func dialectOf(cfg Config) dialect {
	if cfg.URL != "" {
		return postgres()
	}
	return sqlite()
}
