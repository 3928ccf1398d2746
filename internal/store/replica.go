package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/internal/fault"
)

const (
	// beatEvery is how long a server of a shared database is idle before it
	// commits nothing, to show that it lives.
	beatEvery = time.Second
	// leaseTime is how long a name must not have moved before another process may
	// take it. Nobody's clock is compared: the claimant watches for that long.
	leaseTime = 5 * time.Second
	// watchEvery is how often it looks.
	watchEvery = 250 * time.Millisecond
)

// Replica is a server that shares, or shared, this database.
type Replica struct {
	Name    string
	Ability string // what it said at its start that it can do
	Held    bool   // false after an orderly stop
	Commits int64  // moves at least every second while it lives
}

// lease is this process's claim to its name.
type lease struct {
	epoch   int64
	commits int64 // of this name, as last committed
}

// claim takes this server's name, or refuses when another process bears it.
func (s *Store) claim(ctx context.Context, w *conn) error {
	t := &Tx{ctx: ctx, conn: w, store: s}
	var first lease
	var since time.Time
	for {
		var now lease
		var held int
		found, err := t.row(`SELECT epoch, commits, held FROM replica WHERE name = $1`, []any{s.cfg.Writer}, &now.epoch, &now.commits, &held)
		if err != nil {
			return err
		}
		if since.IsZero() {
			first, since = now, time.Now()
		}
		if now != first {
			return errNameTaken(s.cfg.Writer)
		}
		var n int64
		switch {
		case !found:
			n, err = t.exec(`INSERT INTO replica (name, epoch, commits, held, ability) VALUES ($1, 0, 0, 1, $2) ON CONFLICT (name) DO NOTHING`, s.cfg.Writer, s.cfg.Ability)
		case held == 0 || time.Since(since) >= leaseTime:
			n, err = t.exec(`UPDATE replica SET epoch = epoch + 1, held = 1, ability = $1 WHERE name = $2 AND epoch = $3 AND commits = $4`, s.cfg.Ability, s.cfg.Writer, now.epoch, now.commits)
			now.epoch++
		}
		if err != nil {
			return err
		}
		if n == 1 {
			s.lease, s.epoch = now, now.epoch
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

func errNameTaken(name string) error {
	return fault.New(fault.Conflict, "ReplicaNameTaken", "another server runs under the name %q on this database", name).
		WithRemedy("Give each server a name of its own with --replica. The name of one that crashed is free after %d seconds.", int(leaseTime/time.Second))
}

// fence counts this commit under this server's name, in the transaction. A
// server whose name was taken over commits nothing.
func (s *Store) fence(t *Tx) error {
	var commits int64
	found, err := t.row(`UPDATE replica SET commits = commits + 1 WHERE name = $1 AND epoch = $2 RETURNING commits`, []any{s.cfg.Writer, s.lease.epoch}, &commits)
	if err != nil {
		return err
	}
	if !found {
		return errNameTaken(s.cfg.Writer)
	}
	if commits != s.lease.commits+1 {
		return fmt.Errorf("replica %s: commit %d follows %d", s.cfg.Writer, commits, s.lease.commits)
	}
	return nil
}

// release gives the name back, so that the next start need not wait.
func (s *Store) release(c *conn) {
	if !s.dialect.shared || c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	t := &Tx{ctx: ctx, conn: c, store: s}
	_, _ = t.exec(`UPDATE replica SET held = 0 WHERE name = $1 AND epoch = $2`, s.cfg.Writer, s.lease.epoch)
}

// lose marks that this process must end, and why.
func (s *Store) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.lost:
	default:
		s.why = why
		close(s.lost)
	}
}

// Lost is closed when another process has taken this server's name, so that it
// writes nothing any more, or when the database is an older one than this server
// knows, so that what it holds in memory is not true. Either way it should end.
func (s *Store) Lost() <-chan struct{} { return s.lost }

// Why says why Lost is closed; nil while it is open.
func (s *Store) Why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// mark is the newest change at the last Confirm, by which a database that went
// back is known even when it has moved on since.
type mark struct{ position, at int64 }

// errWentBack: after a failover to a copy that had not got everything, or a
// restore under running servers, positions are given a second time and every
// index holds what never was.
func errWentBack() error {
	return fault.New(fault.Unavailable, "DatabaseWentBack", "the database has lost changes that this server knows, by a failover or a restore").
		WithRemedy("Start the server again: it reads what the database holds now. Look at the audit log for what is missing.")
}

// Confirm reads the feed's position from the database, so that changes of other
// servers are known here, and checks that this server still bears its name. It
// uses a connection of its own: many reads at once do not delay it.
func (s *Store) Confirm(ctx context.Context) (position int64, err error) {
	s.confirm.Lock()
	defer s.confirm.Unlock()
	select {
	case <-s.stop:
		return 0, errClosed
	default:
	}
	if s.confirmer == nil {
		if s.confirmer, err = s.newReader(ctx); err != nil {
			return 0, err
		}
	}
	known := s.Position() // before the question: it moves while that is answered
	t := &Tx{ctx: ctx, conn: s.confirmer, store: s}
	var epoch, at, before int64
	found, err := t.row(`SELECT p.position, r.epoch, COALESCE((SELECT at FROM feed WHERE position = p.position), 0), COALESCE((SELECT at FROM feed WHERE position = $2), 0)
FROM feed_position p, replica r WHERE p.id = 1 AND r.name = $1`, []any{s.cfg.Writer, s.seen.position}, &position, &epoch, &at, &before)
	switch {
	case err != nil:
		s.confirmer.close()
		s.confirmer = nil
		return 0, err
	case found && epoch > s.epoch:
		err = errNameTaken(s.cfg.Writer)
	case !found || epoch < s.epoch || position < known || before != s.seen.at:
		err = errWentBack()
	}
	if err != nil {
		s.lose(err)
		return 0, err
	}
	s.seen = mark{position, at}
	s.advance(position)
	return position, nil
}

// Replicas lists every server that has borne a name on this database.
func (t *Tx) Replicas() (list []Replica, err error) {
	err = t.query(`SELECT name, ability, held, commits FROM replica ORDER BY name`, nil, func(scan func(...any) error) error {
		var r Replica
		var held int
		err := scan(&r.Name, &r.Ability, &held, &r.Commits)
		r.Held = held != 0
		list = append(list, r)
		return err
	})
	return list, err
}

// reconnect opens a new writing connection and reads from the database what the
// writer remembers.
func (s *Store) reconnect(ctx context.Context) (*conn, error) {
	c, err := newConn(ctx, s.db, s.dialect)
	if err != nil {
		return nil, err
	}
	// The lock waits for a transaction of the lost connection, should one live.
	err = c.inTransaction(ctx, func() error {
		t := &Tx{ctx: ctx, conn: c, store: s}
		found, err := t.row(`SELECT commits FROM replica WHERE name = $1 AND epoch = $2 FOR UPDATE`, []any{s.cfg.Writer, s.lease.epoch}, &s.lease.commits)
		if err != nil {
			return err
		}
		if !found {
			return errNameTaken(s.cfg.Writer)
		}
		s.chain, err = t.tail(s.cfg.Writer)
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// nameTaken reports whether err is errNameTaken.
func nameTaken(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Code == "ReplicaNameTaken"
}
