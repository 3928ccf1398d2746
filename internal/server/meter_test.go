package server

import (
	"errors"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// scrape reads the exposition as a scraper does: every line is a comment of
// known form or a sample of a family that has a type.
func scrape(t *testing.T, d *deployment) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	d.metricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	comment := regexp.MustCompile(`^# (HELP|TYPE) ([a-z_]+) (.+)$`)
	sample := regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? (\S+)$`)
	kinds, values := map[string]string{}, map[string]float64{}
	for _, line := range strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n") {
		if m := comment.FindStringSubmatch(line); m != nil {
			if m[1] == "TYPE" {
				kinds[m[2]] = m[3]
			}
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a line of the format: %q", line)
		}
		family := m[1]
		if kinds[family] == "" {
			family = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(family, "")
		}
		if kind := kinds[family]; kind == "" || kind == "counter" != strings.HasSuffix(family, "_total") {
			t.Errorf("%s is a %q", family, kind)
		}
		x, err := strconv.ParseFloat(m[3], 64)
		if _, twice := values[m[1]+m[2]]; err != nil || twice {
			t.Errorf("%q: %v, twice %v", line, err, twice)
		}
		values[m[1]+m[2]] = x
	}
	return values
}

func TestMetrics_CountWhatHappened(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { return now })
	d.measure()
	get(t, d, "/healthz")
	get(t, d, "/healthz")
	get(t, d, "/subscriptions") // nobody is signed in
	get(t, d, "/no/such/"+"x")  // no row
	by := audit.By{Type: audit.Task, Name: "test", CorrelationID: zeroID, At: now}
	for _, e := range []audit.Event{
		{Type: "certificate.issue", Outcome: audit.Success},
		{Type: "certificate.issue", Outcome: audit.Denied, Detail: map[string]string{"code": "AADSTS50076"}},
		{Type: "hostCertificate.issue", Outcome: audit.Success},
		{Type: "signin.password", Outcome: audit.Denied},
		{Type: "signin.end", Outcome: audit.Success},
	} {
		if err := d.store.Write(t.Context(), func(tx *store.Tx) error { return tx.Audit(by, e) }); err != nil {
			t.Fatal(err)
		}
	}
	// What is rolled back did not happen.
	_ = d.store.Write(t.Context(), func(tx *store.Tx) error {
		_ = tx.Audit(by, audit.Event{Type: "certificate.issue", Outcome: audit.Success})
		return errors.New("no")
	})
	got := scrape(t, d)
	for name, want := range map[string]float64{
		`sallyport_http_requests_total{row="operations.health",code="2xx"}`:                  2,
		`sallyport_http_requests_total{row="arm.subscriptions.list",code="4xx"}`:             1,
		`sallyport_http_requests_total{row="none",code="4xx"}`:                               1,
		`sallyport_http_request_duration_seconds_count{row="operations.health"}`:             2,
		`sallyport_http_request_duration_seconds_bucket{row="operations.health",le="0.001"}`: 2,
		`sallyport_certificates_issued_total{kind="user"}`:                                   1,
		`sallyport_certificates_issued_total{kind="host"}`:                                   1,
		`sallyport_certificates_refused_total{reason="AADSTS50076"}`:                         1,
		`sallyport_signins_total{proof="password",outcome="denied"}`:                         1,
		`sallyport_store_commits_total`:                                                      7,
		`sallyport_store_commit_writes_sum`:                                                  7,
		`sallyport_feed_lag_seconds`:                                                         0,
		`sallyport_machines`:                                                                 0,
		`sallyport_machines_connected`:                                                       0,
		`sallyport_machines_snapshot_behind`:                                                 0,
		`sallyport_feed_position`:                                                            float64(d.store.Position()),
		`sallyport_feed_indexed_position`:                                                    float64(d.store.Position()),
	} {
		if x, found := got[name]; !found || x != want {
			t.Errorf("%s is %v (%v), want %v", name, x, found, want)
		}
	}
	for name, x := range got {
		if strings.HasPrefix(name, "go_") && x <= 0 && name != "go_gc_heap_live_bytes" {
			t.Errorf("%s is %v", name, x)
		}
	}
}

func TestMetrics_OnlyOnLoopback(t *testing.T) {
	for address, fine := range map[string]bool{"127.0.0.1:9464": true, "[::1]:9464": true, "127.9.9.9:1": true,
		"0.0.0.0:9464": false, ":9464": false, "localhost:9464": false, "10.0.0.1:9464": false, "127.0.0.1": false, "": false} {
		if err := loopback(address); (err == nil) != fine {
			t.Errorf("%q: %v", address, err)
		}
	}
	d := rig(t, time.Now)
	for _, target := range []string{"/", "/debug/pprof/", "/metrics/x"} {
		w := httptest.NewRecorder()
		d.metricsHandler().ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != 404 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

// A machine that polls is connected; it is behind from the moment in which a
// snapshot is signed for it until it says that it holds it.
func TestMetrics_MachinesBehindTheirSnapshot(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { return now })
	m := machine.Machine{ID: "11111111-1111-4111-8111-111111111111", Thumbprint: "k", ResourceID: scope.Root()}
	wants := func(want ...float64) {
		t.Helper()
		if got := d.fleet(); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	wants(0, 0, 0)
	if err := d.store.Write(t.Context(), func(tx *store.Tx) error { return tx.PutMachine(m) }); err != nil {
		t.Fatal(err)
	}
	if err := d.follow.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants(1, 0, 0)
	held := protocol.PollRequest{Capability: protocol.Capability, Epoch: d.manifest.Epoch, Manifest: d.manifest.Version}
	answer, err := d.machines.Poll(t.Context(), audit.By{Principal: m.ID, Type: audit.Machine}, held)
	if err != nil || answer.Snapshot == nil {
		t.Fatalf("%+v %v", answer, err)
	}
	wants(1, 1, 1)
	held.Version, held.AccountsEpoch, held.Accounts = d.follow.Position(), d.manifest.Epoch, d.follow.Position()
	if _, err := d.machines.Poll(t.Context(), audit.By{Principal: m.ID, Type: audit.Machine}, held); err != nil {
		t.Fatal(err)
	}
	wants(1, 1, 0)
	now = now.Add(2 * time.Minute)
	wants(1, 0, 0)
}
