package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/route"
	"sallyport/internal/store"
)

func TestLag_IsHowLongWhatIsStoredWaits(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var stored, indexed int64
	l := &lagMeter{at: positions{stored: func() int64 { return stored }, indexed: func() int64 { return indexed }}}
	for i, step := range []struct {
		after           time.Duration
		stored, indexed int64
		want            time.Duration
	}{
		{0, 5, 5, 0},                              // nothing to do
		{time.Second, 6, 5, 0},                    // seen just now
		{2 * time.Second, 9, 5, time.Second},      // stuck
		{4 * time.Second, 9, 5, 3 * time.Second},  // still
		{5 * time.Second, 12, 6, 4 * time.Second}, // the first is there, four seconds late
		{6 * time.Second, 12, 11, 4 * time.Second},
		{7 * time.Second, 12, 12, 0},
		{8 * time.Second, 13, 12, 0},
		{11 * time.Second, 13, 12, 3 * time.Second},
	} {
		stored, indexed = step.stored, step.indexed
		if got := l.now(start.Add(step.after)); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}

func TestReady_EachCheckFailsAlone(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { return now })
	wants := func(check string) {
		t.Helper()
		w := get(t, d, "/readyz")
		var r route.Readiness
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || len(r.Checks) == 0 {
			t.Fatalf("%v %s", err, w.Body)
		}
		if healthy := check == ""; healthy != (w.Code == 200) || healthy != (r.Status == "ready") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		for name, state := range r.Checks {
			if (state != "ok") != (name == check) {
				t.Errorf("%s is %q while %q is wrong", name, state, check)
			}
		}
	}
	wants("")
	now = now.Add(-6 * time.Minute)
	wants("clock")
	now = now.Add(6 * time.Minute)
	stuck := d.lag.at
	d.lag.at.stored = func() int64 { return stuck.stored() + 1 }
	wants("")
	now = now.Add(3 * time.Second)
	wants("indexes")
	d.lag.at = stuck
	wants("")
}

// A store that does not answer is a failed check, not a probe that hangs, and
// the process is alive all the same.
func TestReady_StoreThatHangs(t *testing.T) {
	d := rig(t, time.Now)
	release := make(chan struct{})
	var held, holding sync.WaitGroup
	for range 4 { // all that the store reads with
		held.Add(1)
		holding.Go(func() {
			_ = d.store.Read(context.Background(), func(*store.Tx) error { held.Done(); <-release; return nil })
		})
	}
	held.Wait()
	over, cancel := context.WithCancel(t.Context())
	cancel() // the probe's patience is at its end
	if state := d.ready(over); state["store"] == "ok" || state["keys"] != "ok" {
		t.Errorf("%v", state)
	}
	if w := get(t, d, "/healthz"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	close(release)
	holding.Wait()
}

func TestOpenAPI_TheCommandPrintsWhatTheServerServes(t *testing.T) {
	d := rig(t, time.Now)
	cmd := openapiCommand()
	var out strings.Builder
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--url", "https://login.corp.example"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if w := get(t, d, "/openapi.json"); w.Code != 200 || w.Body.String()+"\n" != out.String() {
		t.Fatalf("%d, %d bytes against %d", w.Code, w.Body.Len(), out.Len())
	}
}

// front serves a deployment over TLS as the real server does.
func front(t *testing.T, d *deployment) (full, plain string) {
	t.Helper()
	doors, err := d.doors()
	if err != nil {
		t.Fatal(err)
	}
	leaf := &leaf{keys: d.keys, root: d.manifest.TLSRoots[0], hosts: []string{"127.0.0.1"}, now: time.Now}
	s := httptest.NewUnstartedServer(doors)
	cert, err := leaf.certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	full, err = address(s.URL, d.trust.now().signed)
	if err != nil {
		t.Fatal(err)
	}
	return full, s.URL
}

// status trusts the server only through the thumbprint in its address.
func TestStatus_BelievesOnlyTheNamedServer(t *testing.T) {
	good, plain := front(t, rig(t, time.Now))
	if r, err := status(t.Context(), good); err != nil || r.Status != "ready" || len(r.Checks) == 0 {
		t.Fatalf("%+v %v", r, err)
	}
	other, _ := front(t, rig(t, time.Now))
	_, pin, _ := strings.Cut(other, "#")
	for name, at := range map[string]string{"no thumbprint": plain, "another thumbprint": plain + "#" + pin, "plain HTTP": "http" + good[5:]} {
		if r, err := status(t.Context(), at); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestStatus_NamesWhatIsMissing(t *testing.T) {
	d := rig(t, time.Now)
	d.lag.at.stored = func() int64 { return 1 << 40 }
	d.lag.target, d.lag.since = 1<<40, time.Now().Add(-time.Minute)
	at, _ := front(t, d)
	if _, err := status(t.Context(), at); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "indexes: ") {
		t.Fatal(err)
	}
}
