package storetest

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/internal/store"
)

// Follower brings an index up to date with one change of the feed.
type Follower func(tx *store.Tx, kind, key string) error

// Index makes a follower of an index's Refresh. R is what the index reads from;
// a *store.Tx must be one.
func Index[R any](refresh func(r R, kind, key string) error) Follower {
	return func(tx *store.Tx, kind, key string) error { return refresh(any(tx).(R), kind, key) }
}

// Store is a store that lives as long as its test.
type Store struct {
	*store.Store
	followers []Follower
	mu        sync.Mutex
	at        int64
}

// New makes a store. Followers see each change in their order.
func New(t testing.TB, now func() time.Time, followers ...Follower) *Store {
	t.Helper()
	s, err := store.Create(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "s.db"), Now: now, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &Store{Store: s, followers: followers}
}

// Write writes and returns when the followers know what was committed, also
// when the caller has gone meanwhile.
func (s *Store) Write(ctx context.Context, f func(*store.Tx) error) error {
	err := s.Store.Write(ctx, f)
	if followed := s.follow(context.WithoutCancel(ctx)); err == nil {
		err = followed
	}
	return err
}

func (s *Store) follow(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := s.Changes(ctx, s.at, 10_000)
	if err != nil {
		return err
	}
	return s.Read(ctx, func(tx *store.Tx) error {
		for _, c := range changes {
			for _, f := range s.followers {
				if err := f(tx, c.Kind, c.Key); err != nil {
					return err
				}
			}
			s.at = c.Position
		}
		return nil
	})
}

// Write is s.Write as a domain that declares the transaction T takes it.
func Write[T any](s *Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return s.Write(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
	}
}

// Read is s.Read as a domain that declares the transaction T takes it.
func Read[T any](s *Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return s.Read(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
	}
}
