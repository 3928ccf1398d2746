package httpd

import (
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestLogHandler_NamesTheRequest(t *testing.T) {
	var out strings.Builder
	log := slog.New(LogHandler(slog.NewJSONHandler(&out, nil))).With("a", 1).WithGroup("g")
	log.InfoContext(context.WithValue(t.Context(), correlationKey{}, "the-id"), "x")
	log.Info("y")
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], `"correlation":"the-id"`) || strings.Contains(lines[1], "correlation") {
		t.Fatal(out.String())
	}
}
