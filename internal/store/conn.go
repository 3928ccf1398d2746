package store

import (
	"context"
	"database/sql"
	"fmt"
)

// conn is one database connection with its prepared statements.
type conn struct {
	raw        *sql.Conn
	dialect    dialect
	statements map[string]*sql.Stmt
}

func newConn(ctx context.Context, db *sql.DB, d dialect) (*conn, error) {
	raw, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, dialect: d, statements: map[string]*sql.Stmt{}}, nil
}

// newReader opens a connection that cannot write.
func (s *Store) newReader(ctx context.Context) (*conn, error) {
	c, err := newConn(ctx, s.db, s.dialect)
	if err != nil {
		return nil, err
	}
	if s.dialect.readOnly != "" {
		if _, err := c.raw.ExecContext(ctx, s.dialect.readOnly); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// close gives a connection up; it may be broken, so its error says nothing. A
// statement that stayed open would keep it.
func (c *conn) close() {
	if c == nil {
		return
	}
	for _, st := range c.statements {
		_ = st.Close()
	}
	_ = c.raw.Close()
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
	if err := c.do(ctx, c.dialect.begin); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = c.dialect.commit(ctx, c)
	}
	if err != nil {
		_ = c.do(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}
