package store

import (
	"context"
	"fmt"
	"strings"
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

// Changes returns at most limit changes after a position, oldest first.
func (s *Store) Changes(ctx context.Context, after int64, limit int) ([]Change, error) {
	var changes []Change
	err := s.Read(ctx, func(t *Tx) error {
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
	var oldest int64
	if found, err := t.row(`SELECT position FROM feed ORDER BY position LIMIT 1`, nil, &oldest); err != nil || !found || oldest > after+1 {
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
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		args = append(args, w)
		fmt.Fprintf(&b, "$%d", len(args))
	}
	return b.String(), args
}
