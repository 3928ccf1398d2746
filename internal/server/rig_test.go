package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/keystore/keystoretest"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// rig is a deployment in a temporary folder with every service connected and no
// listener. It goes around the refusal of root, under which tests may run.
func rig(t testing.TB, now func() time.Time) *deployment {
	t.Helper()
	dir, ctx := t.TempDir(), context.Background()
	fine := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fine(os.Chmod(dir, 0o700))
	place := storetest.Place(t)
	if place.URL == "" {
		made := place.Path
		place.Path = filepath.Join(dir, storeFile)
		fine(os.Rename(made, place.Path))
	} else {
		fine(Database{URL: place.URL}.keep(dir))
	}
	place.Now, place.Writer, place.Declared = now, writerName, audit.Declared
	st, err := store.Open(ctx, place)
	fine(err)
	keys := keystoretest.Open(t, filepath.Join(dir, keysDir))
	_, err = bootstrap(ctx, InitConfig{State: dir, Domain: "corp.example", URL: "https://login.corp.example", DisplayName: "Corp", Admin: "admin", Now: now, Rand: rand.Reader}, st, keys)
	fine(err)
	fine(st.Close())
	cfg := Config{State: dir, Listen: "127.0.0.1:0", Now: now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	meter := newMeter()
	cfg, err = cfg.located()
	fine(err)
	st, err = store.Open(ctx, cfg.storeConfig(meter))
	fine(err)
	d := &deployment{cfg: cfg, store: st, meter: meter, started: now()}
	t.Cleanup(func() { _ = st.Close() })
	fine(d.connect(ctx))
	// Nobody else has its store: it stays fit for as long as a test takes, in which
	// nobody confirms what it knows, and no other server makes machines. TestReplicas
	// and TestReplica_Fresh hold servers to maxLag.
	d.replica.within, d.replica.makers, d.replica.made = 24*time.Hour, false, false
	return d
}

// get asks a deployment's doors.
func get(t *testing.T, d *deployment, target string) *httptest.ResponseRecorder {
	t.Helper()
	doors, err := d.doors()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	doors.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
	return w
}
