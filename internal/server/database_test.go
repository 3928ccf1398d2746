package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
)

// A server that starts before its database waits for it; what a database that
// answers refuses is said at once.
func TestOpenStore_WaitsForTheDatabase(t *testing.T) {
	server := postgrestest.New(t)
	cfg := moved(t, server)
	cfg.Replica, cfg.Log = "server-a", slog.New(slog.DiscardHandler)
	cfg, err := cfg.located()
	if err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	if _, err := openStore(t.Context(), cfg, newMeter(), 0); !store.Away(err) {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		st, err := openStore(context.Background(), cfg, newMeter(), time.Minute)
		if err == nil {
			err = st.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatal("it did not wait:", err)
	case <-time.After(1500 * time.Millisecond):
	}
	server.Start(t)
	if err := <-opened; err != nil {
		t.Error(err)
	}
	cfg.at.URL = server.Database(t) // without a deployment
	if _, err := openStore(t.Context(), cfg, newMeter(), time.Minute); err == nil || store.Away(err) {
		t.Error(err)
	}
	none := Config{State: filepath.Join(t.TempDir(), "none"), Now: time.Now}
	if _, err := openStore(t.Context(), none, newMeter(), time.Minute); err == nil || store.Away(err) {
		t.Error(err)
	}
}
