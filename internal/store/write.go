package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

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
	var beat <-chan time.Time
	if s.dialect.shared {
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		beat = tick.C
	}
	idle := true
	for {
		select {
		case <-s.stop:
			s.release(c)
			c.close()
			return
		case <-beat:
			if idle {
				c = s.commit(c, nil)
			}
			idle = true
		case first := <-s.writes:
			c = s.commit(c, s.gather(first))
			idle = false
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

// commit runs a group and answers all of it, only after its commit. It returns
// the connection to go on with, nil when that is lost.
func (s *Store) commit(c *conn, group []*write) *conn {
	ctx, cancel := context.WithTimeout(context.Background(), commitLimit)
	defer cancel()
	g := &attempt{errs: make([]error, len(group))}
	var err error
	for try := range tries {
		if c, err = s.attempt(ctx, c, g, group); err == nil || !g.repeat {
			break
		}
		pause(ctx, try)
	}
	if nameTaken(err) {
		s.lose(errNameTaken(s.cfg.Writer))
	}
	if err != nil {
		err = s.failed(err, g)
		for i := range g.errs {
			if g.errs[i] == nil {
				g.errs[i] = err
			}
		}
	} else {
		s.chain = g.chain
		s.lease.commits = g.commits
		s.advance(g.position)
		if s.cfg.Committed != nil && len(group) > 0 {
			s.cfg.Committed(len(group), g.events)
		}
	}
	for i, w := range group {
		w.done <- g.errs[i]
	}
	return c
}

const (
	// tries is how often a group is begun in all when other servers, or a lost
	// connection, are in its way; commitLimit is how long that may take.
	tries       = 6
	commitLimit = 20 * time.Second
)

// pause waits a little longer after each try, and not as long as the next one
// who waits.
func pause(ctx context.Context, try int) {
	longest := 5 * time.Millisecond << try
	t := time.NewTimer(longest/2 + rand.N(longest))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// CodeOutcomeUnknown is the code of a write that may have been stored or not.
const CodeOutcomeUnknown = "OutcomeUnknown"

// failed is what the callers of a group read that was not stored.
func (s *Store) failed(err error, g *attempt) error {
	switch {
	case nameTaken(err):
		return fault.Wrap(err, fault.Unavailable, "ReplicaNameTaken", "this server was replaced by another one; nothing was changed")
	case g.unknown:
		return fault.Wrap(err, fault.Unavailable, CodeOutcomeUnknown, "the database went away while the change was being stored: it may have been stored or not").
			WithRemedy("Look whether it is there before you try again.")
	}
	return fault.Wrap(err, fault.Unavailable, "StoreUnavailable", "the server could not store the change; nothing was changed")
}

// attempt is one try to commit a group, and what came of it.
type attempt struct {
	errs     []error // of each write
	chain    chain
	commits  int64
	position int64
	events   []audit.Event
	repeat   bool // it certainly was not committed, and another try may be
	unknown  bool // COMMIT was sent, and whether it took place cannot be told
}

// attempt runs a group in one transaction, a savepoint each, and commits it.
func (s *Store) attempt(ctx context.Context, c *conn, g *attempt, group []*write) (*conn, error) {
	*g = attempt{errs: make([]error, len(group)), repeat: true}
	var err error
	if c == nil {
		if c, err = s.reconnect(ctx); err != nil {
			g.repeat = !nameTaken(err)
			return nil, err
		}
	}
	g.chain, g.commits = s.chain, s.lease.commits
	sent, err := s.run(ctx, c, g, group)
	if err == nil {
		return c, nil
	}
	if !c.dialect.broken(c) {
		// An answer that says no is one: nothing was committed.
		_ = c.do(ctx, "ROLLBACK")
		g.repeat = c.dialect.again(err)
		return c, err
	}
	c.close()
	if !sent {
		return nil, err
	}
	// Nobody knows. The next connection does: each commit counts itself.
	for try := 0; ctx.Err() == nil; try++ {
		again, lost := s.reconnect(ctx)
		switch {
		case lost == nil && s.lease.commits == g.commits:
			return again, nil
		case lost == nil:
			return again, err
		case nameTaken(lost):
			g.repeat, g.unknown = false, true
			s.lose(errNameTaken(s.cfg.Writer))
			return nil, err
		}
		pause(ctx, min(try, tries))
	}
	g.repeat, g.unknown = false, true
	return nil, err
}

// run is the transaction; sent says that COMMIT was.
func (s *Store) run(ctx context.Context, c *conn, g *attempt, group []*write) (sent bool, err error) {
	if err := c.do(ctx, c.dialect.begin); err != nil {
		return false, err
	}
	if c.dialect.serialize != "" {
		t := &Tx{ctx: ctx, conn: c, store: s}
		if _, err := t.row(c.dialect.serialize, nil, &g.position); err != nil {
			return false, err
		}
		if err := s.fence(t); err != nil {
			return false, err
		}
		g.commits++
	}
	for i, w := range group {
		t := &Tx{ctx: ctx, conn: c, store: s, now: s.Now(), chain: g.chain, writing: true}
		if g.errs[i] = s.runOne(t, w); g.errs[i] == nil {
			g.chain = t.chain
			g.position = max(g.position, t.position)
			g.events = append(g.events, t.events...)
		} else if c.dialect.again(g.errs[i]) || c.dialect.broken(c) {
			return false, g.errs[i] // the fault is the transaction's, not this write's
		}
	}
	return true, c.dialect.commit(ctx, c)
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
	if err := w.run(t); err != nil {
		return err
	}
	return t.keepRevocations()
}

// readLimit is how long a shared database may say nothing in a read before it
// counts as gone. A read that goes on, over a million records, may take longer.
const readLimit = time.Minute

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
	whole := false
	defer func() {
		if !whole { // f panicked: the connection is still in its transaction
			_ = c.do(context.WithoutCancel(ctx), "ROLLBACK")
			c.close()
			c = nil
		}
		s.pool <- c
	}()
	// The driver abandons a connection whose context ends in mid-statement; a
	// read is short, so it runs to its end instead.
	own, progress := context.WithoutCancel(ctx), func() {}
	if s.dialect.shared && !s.readOnly {
		silent, cancel := context.WithCancel(own)
		defer cancel()
		timer := time.AfterFunc(s.silence, cancel)
		defer timer.Stop()
		own, progress = silent, func() { timer.Reset(s.silence) }
	}
	err := s.begin(own, &c)
	if err != nil {
		whole = true
		return errRead(err)
	}
	err = f(&Tx{ctx: own, conn: c, store: s, now: s.Now(), progress: progress})
	whole = true
	if back := c.do(own, "ROLLBACK"); back != nil && s.dialect.broken(c) {
		c.close()
		c = nil
		if err == nil {
			err = back
		}
		return errRead(err)
	}
	return err
}

func errRead(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "StoreUnavailable", "the server cannot read its store now").WithRemedy("Try again.")
}

// begin begins a read, on a new connection where the old one is lost.
func (s *Store) begin(ctx context.Context, c **conn) (err error) {
	if *c != nil {
		if err = (*c).do(ctx, s.dialect.read); err == nil || !s.dialect.broken(*c) {
			return err
		}
		(*c).close()
	}
	if *c, err = s.newReader(ctx); err != nil {
		return err
	}
	return (*c).do(ctx, s.dialect.read)
}
