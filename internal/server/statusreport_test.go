package server

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// reports serves a deployment's metrics listener and returns its address.
func reports(t *testing.T, d *deployment) string {
	t.Helper()
	s := httptest.NewServer(d.metricsHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestReport_TellsWhatAnOperatorAsksFirst(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { return now })
	d.measure()
	d.cfg.Build = "1.2.3"
	if err := d.openTLS(); err != nil {
		t.Fatal(err)
	}
	d.meter.refused.Add("50079")
	d.meter.signIns.Add("password", "denied")
	d.meter.signIns.Add("client", "denied")
	if err := writeLastBackup(d.cfg.State, LastBackup{Taken: now.Add(-time.Hour), File: "/b/data.age"}); err != nil {
		t.Fatal(err)
	}
	d.gate.known, d.gate.last = true, restored{At: now.Add(-time.Minute), BackupAt: now.Add(-time.Hour)}
	words := statusFlags{metrics: reports(t, d)}
	now = now.Add(90 * time.Second)
	var out strings.Builder
	if err := words.local(t.Context(), &out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ready\n", "version 1.2.3, up 1m30s", "0 joined", "0 in 24 hours, 0 not acknowledged by 0 machines\n", "key user-ca", "active since 2026-11-22", "epoch 1, version 1", "own, ends 2026-12-22T12:00:00Z", "2026-11-22T11:00:00Z, /b/data.age", "1 AADSTS50079", "closed: restored at 2026-11-22T11:59:00Z", "2 sign-ins"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	now = now.Add(-10 * time.Minute)
	out.Reset()
	err := words.local(t.Context(), &out, true)
	var r Report
	if jsonErr := json.Unmarshal([]byte(out.String()), &r); jsonErr != nil || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "clock") || r.Status != "unready" {
		t.Fatalf("%v %v %s", err, jsonErr, out.String())
	}
}

func TestStatus_OfADeadServerIsASentence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = statusFlags{metrics: dead}.local(ctx, &strings.Builder{}, false)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "no server answers at "+dead) || !strings.Contains(fault.As(err).Remedy, "journalctl") {
		t.Fatal(err)
	}
	if _, err := (statusFlags{metrics: "0.0.0.0:9464"}).question(); !fault.Is(err, fault.Invalid) {
		t.Fatal("a status was asked over the network")
	}
}

// A name that somebody points at this computer does not open the report to a
// page of theirs.
func TestStatus_IsAskedByTheAddressAlone(t *testing.T) {
	d := rig(t, time.Now)
	d.measure()
	for host, want := range map[string]int{"127.0.0.1:9464": 200, "[::1]:9464": 200, "evil.example:9464": 403, "localhost:9464": 403, "192.0.2.1:9464": 403} {
		r := httptest.NewRequest(http.MethodGet, statusPath, nil)
		r.Host = host
		w := httptest.NewRecorder()
		if d.metricsHandler().ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
}
