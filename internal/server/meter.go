package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
	meters "sallyport/internal/metrics"
)

// connectedWithin is how lately a machine must have polled to count as
// connected: the longest poll, and time to begin the next one.
const connectedWithin = 90 * time.Second

// meter counts what this server does. Every label value is ours: the id of a
// row, a class of statuses, a number of an error, an outcome.
type meter struct {
	registry *meters.Registry

	requests, issued, refused, signIns, commits *meters.Counter
	delivered, undelivered, deliveryFailures    *meters.Counter
	durations, writes                           *meters.Histogram
}

func newMeter() *meter {
	r := meters.NewRegistry()
	return &meter{
		registry:         r,
		requests:         r.Counter("sallyport_http_requests_total", "Requests answered, by route row and status class.", "row", "code"),
		durations:        r.Histogram("sallyport_http_request_duration_seconds", "Time to answer a request, by route row; machine.poll waits on purpose.", []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}, "row"),
		issued:           r.Counter("sallyport_certificates_issued_total", "SSH certificates issued, by kind.", "kind"),
		refused:          r.Counter("sallyport_certificates_refused_total", "User certificates refused, by Entra error code.", "reason"),
		signIns:          r.Counter("sallyport_signins_total", "Proofs of identity, by what was shown and outcome.", "proof", "outcome"),
		delivered:        r.Counter("sallyport_audit_delivered_total", "Audit records that a collector has taken.", "output"),
		undelivered:      r.Counter("sallyport_audit_rejected_total", "Audit records that a collector refuses to keep.", "output"),
		deliveryFailures: r.Counter("sallyport_audit_delivery_failures_total", "Attempts to deliver audit records that failed; the records wait.", "output"),
		commits:          r.Counter("sallyport_store_commits_total", "Transactions committed to stable storage."),
		writes:           r.Histogram("sallyport_store_commit_writes", "Writes that shared one commit.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}),
	}
}

// answered counts one request.
func (m *meter) answered(row string, status int, took time.Duration) {
	if row == "" {
		row = "none"
	}
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	m.requests.Add(row, strconv.Itoa(status/100)+"xx")
	m.durations.Observe(took.Seconds(), row)
}

// committed counts one commit and what its audit events tell.
func (m *meter) committed(writes int, events []audit.Event) {
	m.commits.Add()
	m.writes.Observe(float64(writes))
	for _, e := range events {
		switch e.Type {
		case "certificate.issue":
			if e.Outcome == audit.Success {
				m.issued.Add("user")
			} else {
				m.refused.Add(e.Detail["code"])
			}
		case "hostCertificate.issue":
			m.issued.Add("host")
		case "signin.password", "signin.client", "signin.session":
			m.signIns.Add(strings.TrimPrefix(e.Type, "signin."), string(e.Outcome))
		}
	}
}

// measure adds the gauges, which need a connected deployment.
func (d *deployment) measure() {
	r := d.meter.registry
	r.Gauge("sallyport_audit_undelivered", "Audit records that the slowest collector has not taken.", d.auditBehind)
	r.Gauge("sallyport_feed_position", "Newest committed change.", func() float64 { return float64(d.store.Position()) })
	r.Gauge("sallyport_feed_indexed_position", "Newest change that every index holds.", func() float64 { return float64(d.follow.Position()) })
	r.Gauge("sallyport_feed_lag_seconds", "How long what is committed has waited for the indexes.", func() float64 { return d.lag.now(d.cfg.Now()).Seconds() })
	r.Gauges([]meters.Reading{
		{Name: "sallyport_machines", Help: "Machines that have joined."},
		{Name: "sallyport_machines_connected", Help: "Machines that polled this server within 90 seconds."},
		{Name: "sallyport_machines_snapshot_behind", Help: "Connected machines that have not acknowledged the newest snapshot signed for them."},
	}, d.fleet)
	r.Gauges([]meters.Reading{
		{Name: "sallyport_revocations", Help: "Changes of the last 24 hours that took something away from people on machines, at most 1000."},
		{Name: "sallyport_revocations_unacknowledged", Help: "Those that some machine has not acknowledged."},
		{Name: "sallyport_revocation_machines_waiting", Help: "Machines that have not acknowledged some of them."},
		{Name: "sallyport_revocation_oldest_unacknowledged_seconds", Help: "Age of the oldest one that some machine has not acknowledged."},
	}, d.revocations)
	d.measureTLS()
	for _, g := range []struct{ name, help, source string }{
		{"go_goroutines", "Goroutines that exist.", "/sched/goroutines:goroutines"},
		{"go_memstats_heap_alloc_bytes", "Bytes of heap objects, live or not yet swept.", "/memory/classes/heap/objects:bytes"},
		{"go_memstats_sys_bytes", "Bytes mapped from the operating system by the Go runtime.", "/memory/classes/total:bytes"},
		{"go_gc_heap_live_bytes", "Bytes of heap that the last collection found in use.", "/gc/heap/live:bytes"},
	} {
		r.Gauge(g.name, g.help, func() float64 { return runtimeValue(g.source) })
	}
}

// fleet counts machines: joined, connected, and of those the ones that have not
// acknowledged their newest snapshot.
func (d *deployment) fleet() []float64 {
	var joined, connected, behind float64
	since := d.cfg.Now().Add(-connectedWithin)
	for _, m := range d.machineKeys.All() {
		joined++
		s, ok := d.machines.State(m.ID)
		if !ok || s.LastSeen.Before(since) {
			continue
		}
		connected++
		if s.Acknowledged < s.Version {
			behind++
		}
	}
	return []float64{joined, connected, behind}
}

// revocationsMost bounds how many revocations the numbers are about.
const revocationsMost = 1000

// revocations counts those of the last day: all, not acknowledged by some machine, such
// machines, and the age of the oldest.
func (d *deployment) revocations() []float64 {
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	now := d.cfg.Now()
	list, err := d.machines.Revocations(ctx, machine.RevocationPlace{}, now.Add(-24*time.Hour), revocationsMost)
	if err != nil {
		return []float64{0, 0, 0, 0} // the store is away, which other numbers tell
	}
	waiting, behind, oldest := map[string]bool{}, 0, time.Duration(0)
	for _, p := range list {
		if len(p.Machines) == 0 {
			continue
		}
		behind++
		oldest = max(oldest, now.Sub(p.At))
		for _, id := range p.Machines {
			waiting[id] = true
		}
	}
	return []float64{float64(len(list)), float64(behind), float64(len(waiting)), oldest.Seconds()}
}

// runtimeValue reads one value of the Go runtime.
func runtimeValue(name string) float64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return float64(s[0].Value.Uint64())
}

// loopback checks the address of the metrics listener. The numbers tell how a
// deployment is used, and nobody signs in for them.
func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fault.New(fault.Invalid, "MetricsAddress", "%q is no loopback address and port", address).WithTarget("metrics").
			WithRemedy("Metrics are served without sign-in, so only on this computer, for example: --metrics 127.0.0.1:9464")
	}
	return nil
}

// metricsHandler answers GET /metrics, GET /status and nothing else.
func (d *deployment) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, d.serveStatus)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = d.meter.registry.Write(w)
	})
	return mux
}

// listenMetrics opens the metrics listener; nil where none is wanted. It is open
// before the server says that it is ready.
func (d *deployment) listenMetrics(ctx context.Context) (net.Listener, error) {
	if d.cfg.Metrics == "" {
		return nil, nil
	}
	if err := loopback(d.cfg.Metrics); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.cfg.Metrics)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "CannotListen", "cannot listen on %s for metrics: %s", d.cfg.Metrics, system(err)).WithRemedy("Choose another address with --metrics.")
	}
	return listener, nil
}

// serveMetrics serves the metrics listener until the context ends.
func (d *deployment) serveMetrics(ctx context.Context, listener net.Listener) error {
	if listener == nil {
		return nil
	}
	server := &http.Server{Handler: d.metricsHandler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	d.cfg.Log.Info("metrics", "listen", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
