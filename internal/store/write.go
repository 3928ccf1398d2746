package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// batch is how many writes may share one commit.
const batch = 256

// write is one request to the writer.
type write struct {
	ctx  context.Context
	run  func(*Tx) error
	done chan error
}

var errClosed = fault.New(fault.Unavailable, "ServerStopping", "the server is stopping; try again")

// Write runs f in a transaction and returns when its effects are on stable
// storage. An error from f undoes f alone and is returned as it is. Many
// writes share one commit; they run one after another, in the writer.
func (s *Store) Write(ctx context.Context, f func(*Tx) error) error {
	if s.readOnly {
		return fault.New(fault.Forbidden, "StoreReadOnly", "the store was opened to be read")
	}
	w := &write{ctx: ctx, run: f, done: make(chan error, 1)}
	select {
	case <-s.stop:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	case s.writes <- w:
	}
	// From here the answer is the writer's: giving up would leave the caller
	// not knowing whether the write happened.
	select {
	case err := <-w.done:
		return err
	case <-s.done:
		select {
		case err := <-w.done:
			return err
		default:
			return errClosed
		}
	}
}

// writer owns the one writing connection.
func (s *Store) writer(c *conn) {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		case first := <-s.writes:
			s.commit(c, s.gather(first))
		}
	}
}

// gather takes what is waiting, without waiting for more: under load the
// commit before this one was the wait.
func (s *Store) gather(first *write) []*write {
	group := []*write{first}
	for len(group) < batch {
		select {
		case w := <-s.writes:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

// commit runs a group in one transaction, a savepoint each, and answers all of
// them only after the commit.
func (s *Store) commit(c *conn, group []*write) {
	ctx := context.Background()
	errs := make([]error, len(group))
	chain := s.chain
	position := int64(0)
	var events []audit.Event
	err := c.do(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		for i, w := range group {
			t := &Tx{ctx: ctx, conn: c, store: s, now: s.Now(), chain: chain, writing: true}
			if errs[i] = s.runOne(t, w); errs[i] == nil {
				chain = t.chain
				position = max(position, t.position)
				events = append(events, t.events...)
			}
		}
		if err = c.do(ctx, "COMMIT"); err != nil {
			_ = c.do(ctx, "ROLLBACK")
		}
	}
	if err != nil {
		lost := fault.Wrap(err, fault.Unavailable, "StoreUnavailable", "the server could not store the change; nothing was changed")
		for i := range errs {
			if errs[i] == nil {
				errs[i] = lost
			}
		}
	} else {
		s.chain = chain
		s.advance(position)
		if s.cfg.Committed != nil {
			s.cfg.Committed(len(group), events)
		}
	}
	for i, w := range group {
		w.done <- errs[i]
	}
}

// runOne runs one function inside its savepoint; a panic is an error of that
// function alone.
func (s *Store) runOne(t *Tx, w *write) (err error) {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := t.conn.do(t.ctx, "SAVEPOINT one"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a write: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			if back := t.conn.do(t.ctx, "ROLLBACK TO one"); back != nil {
				err = errors.Join(err, back)
			}
		}
		if rel := t.conn.do(t.ctx, "RELEASE one"); rel != nil && err == nil {
			err = fmt.Errorf("release: %w", rel)
		}
	}()
	return w.run(t)
}

// Read runs f on a consistent view of the database. f must not write.
func (s *Store) Read(ctx context.Context, f func(*Tx) error) error {
	var c *conn
	select {
	case <-s.stop:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	case c = <-s.pool:
	}
	defer func() { s.pool <- c }()
	// The driver abandons a connection whose context ends in mid-statement; a
	// read is short, so it runs to its end instead.
	own := context.WithoutCancel(ctx)
	if err := c.do(own, "BEGIN"); err != nil {
		return fault.Wrap(err, fault.Unavailable, "StoreUnavailable", "the server cannot read its store now")
	}
	defer func() { _ = c.do(own, "ROLLBACK") }()
	return f(&Tx{ctx: own, conn: c, store: s, now: s.Now()})
}
