package sshd

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestTry_SaysThatItTookTooLong: a check that ran out of its time says so, and not
// only by which signal the last program ended.
func TestTry_SaysThatItTookTooLong(t *testing.T) {
	d := Daemon{Root: t.TempDir(), Run: func(ctx context.Context, _ ...string) ([]byte, error) { return nil, ctx.Err() }}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := d.Try(late); err == nil || !strings.Contains(err.Error(), "too busy") || strings.Contains(err.Error(), ": :") {
		t.Error(err)
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Try(left); err == nil || strings.Contains(err.Error(), "too busy") {
		t.Error(err)
	}
}
