package store

import (
	"context"
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
