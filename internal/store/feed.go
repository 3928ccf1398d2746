package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/fault"
)

// Change is one row of the change feed.
type Change struct {
	Position  int64
	Kind, Key string
}

// Position returns the position of the newest change that is known here to be
// committed; Confirm learns of those of other servers.
func (s *Store) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// Moved returns a channel that is closed when the feed has moved past the
// position that Position returned before the call. It only wakes; readers
// select past their own position with Changes.
func (s *Store) Moved() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

func (s *Store) advance(position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if position <= s.position {
		return
	}
	s.position = position
	close(s.moved)
	s.moved = make(chan struct{})
}

// Changes returns at most limit changes after a position, oldest first. A reader
// that is behind what TrimFeed has deleted gets an error: it must begin anew.
func (s *Store) Changes(ctx context.Context, after int64, limit int) ([]Change, error) {
	var changes []Change
	err := s.Read(ctx, func(t *Tx) error {
		trimmed, err := t.feedTrimmed()
		if err != nil {
			return err
		}
		if after < trimmed {
			return fault.New(fault.Conflict, "FeedTrimmed", "this server stood still for so long that the changes since then are no longer listed").
				WithRemedy("Start the server again: it reads what the database holds now.")
		}
		return t.query(`SELECT position, kind, key FROM feed WHERE position > $1 ORDER BY position LIMIT $2`, []any{after, limit},
			func(scan func(...any) error) error {
				var c Change
				if err := scan(&c.Position, &c.Kind, &c.Key); err != nil {
					return err
				}
				changes = append(changes, c)
				return nil
			})
	})
	return changes, err
}

// factTrimmed is the position up to which rows of the feed may be missing.
const factTrimmed = "feedTrimmed"

func (t *Tx) feedTrimmed() (position int64, err error) {
	_, err = t.Fact(factTrimmed, &position)
	return position, err
}

// TrimFeed deletes changes from before a time, limit to a write, and returns how
// many. The newest change of each kind stays, however old: LastChange reads it.
func (s *Store) TrimFeed(ctx context.Context, before time.Time, limit int64) (deleted int64, err error) {
	var from, to int64
	kept := []any{nil, nil}
	err = s.Read(ctx, func(t *Tx) error {
		if from, err = t.feedTrimmed(); err != nil {
			return err
		}
		if _, err := t.row(`SELECT COALESCE(MAX(position), 0) FROM feed WHERE at < $1`, []any{micros(before)}, &to); err != nil {
			return err
		}
		return t.query(`SELECT MAX(position) FROM feed GROUP BY kind`, nil, func(scan func(...any) error) error {
			var position int64
			err := scan(&position)
			kept = append(kept, position)
			return err
		})
	})
	for err == nil && from < to && ctx.Err() == nil {
		last, n := min(from+limit, to), int64(0)
		kept[0], kept[1] = from, last
		err = s.Write(ctx, func(t *Tx) (err error) {
			n, err = t.exec(`DELETE FROM feed WHERE position > $1 AND position <= $2 AND position NOT IN (`+placeholders(3, len(kept)-2)+`)`, kept...)
			if err != nil {
				return err
			}
			return t.SetFact(factTrimmed, last)
		})
		from, deleted = last, deleted+n
	}
	return deleted, err
}

// placeholders lists n of them, the first one with a number.
func placeholders(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(list, ", ")
}

// LastChange returns the position of the newest change of one of the kinds; 0 for
// none.
func (t *Tx) LastChange(kinds []string) (int64, error) {
	var position int64
	in, args := oneOf(kinds, nil)
	_, err := t.row(`SELECT position FROM feed WHERE kind IN (`+in+`) ORDER BY position DESC LIMIT 1`, args, &position)
	return position, err
}

// ChangedKeys lists what changed in (after, to], each once. known is false when
// the feed does not reach back that far, or there are more than limit.
func (t *Tx) ChangedKeys(kinds []string, after, to int64, limit int) (keys []string, known bool, err error) {
	if trimmed, err := t.feedTrimmed(); err != nil || after < trimmed {
		return nil, false, err
	}
	in, args := oneOf(kinds, []any{after, to, limit + 1})
	err = t.query(`SELECT DISTINCT key FROM feed WHERE position > $1 AND position <= $2 AND kind IN (`+in+`) ORDER BY key LIMIT $3`, args, func(scan func(...any) error) error {
		var key string
		err := scan(&key)
		keys = append(keys, key)
		return err
	})
	return keys, err == nil && len(keys) <= limit, err
}

// oneOf makes the placeholders of a list that follows other arguments.
func oneOf(words []string, args []any) (string, []any) {
	in := placeholders(len(args)+1, len(words))
	for _, w := range words {
		args = append(args, w)
	}
	return in, args
}
