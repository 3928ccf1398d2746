package httpd

import (
	"context"
	"log/slog"
)

// correlationKey is the context's key of a request's correlation id.
type correlationKey struct{}

// LogHandler adds the correlation id of the request that a line is written for,
// where the line is written with the request's context.
func LogHandler(next slog.Handler) slog.Handler { return correlated{next} }

type correlated struct{ slog.Handler }

// Handle adds the id and passes the line on.
func (h correlated) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(correlationKey{}).(string); ok {
		r.AddAttrs(slog.String("correlation", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the id on the lines of a logger with attributes.
func (h correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{h.Handler.WithAttrs(attrs)}
}

// WithGroup is the same for a group.
func (h correlated) WithGroup(name string) slog.Handler {
	return correlated{h.Handler.WithGroup(name)}
}
