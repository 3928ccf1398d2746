package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"sallyport/internal/audit"
	"sallyport/internal/collector"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd/operations"
	"sallyport/internal/store"
)

// Collectors say where audit records go besides the store.
type Collectors struct {
	Syslog, SyslogCA    string // address; file with the roots of its TLS certificate
	OTLP, OTLPCA        string
	OTLPHeaders         string // file with a JSON object of request headers
	syslogRoots, otlpCA *x509.CertPool
	headers             http.Header
}

func (c *Collectors) flags(f *pflag.FlagSet) {
	f.StringVar(&c.Syslog, "audit-syslog", "", "Also send audit records to this syslog collector: unix:///PATH, udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT.")
	f.StringVar(&c.SyslogCA, "audit-syslog-ca", "", "File with the roots that a tls:// collector's certificate ends in; the system's without it.")
	f.StringVar(&c.OTLP, "audit-otlp", "", "Also send audit records to this OpenTelemetry collector, for example https://collector:4318/v1/logs.")
	f.StringVar(&c.OTLPCA, "audit-otlp-ca", "", "File with the roots that its certificate ends in; the system's without it.")
	f.StringVar(&c.OTLPHeaders, "audit-otlp-headers-file", "", "File (0600) with a JSON object of headers to send to it, for its authentication.")
}

// check reads the files and says what is wrong with the settings.
func (c *Collectors) check() error {
	var err error
	if c.syslogRoots, err = rootsFile(c.SyslogCA); err != nil {
		return err
	}
	if c.otlpCA, err = rootsFile(c.OTLPCA); err != nil {
		return err
	}
	if c.OTLPHeaders != "" {
		text, err := passphrase(c.OTLPHeaders)
		if err != nil {
			return err
		}
		var m map[string]string
		if err := json.Unmarshal(text, &m); err != nil {
			return fault.New(fault.Invalid, "AuditHeaders", "%s is no JSON object of header names and texts", c.OTLPHeaders).WithTarget("auditOTLPHeadersFile")
		}
		c.headers = http.Header{}
		for k, v := range m {
			c.headers.Set(k, v)
		}
	}
	_, err = c.outputs(nil)
	return err
}

func rootsFile(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, fault.Wrap(err, fault.Invalid, "AuditRoots", "%s holds no certificate that can be read", path)
	}
	return pool, nil
}

// outputs makes what is configured, by name.
func (c *Collectors) outputs(rejected func(output string, n int64, why string)) (map[string]collector.Output, error) {
	out := map[string]collector.Output{}
	if c.Syslog != "" {
		host, _ := os.Hostname()
		s, err := collector.NewSyslog(c.Syslog, host, c.syslogRoots, func(n int64, why string) { rejected("syslog", n, why) })
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "AuditSyslog", "%q is no address of a syslog collector: %v", c.Syslog, err).WithTarget("auditSyslog")
		}
		out["syslog"] = s
	}
	if c.OTLP != "" {
		o, err := collector.NewOTLP(c.OTLP, c.headers, c.otlpCA, func(n int64, why string) { rejected("otlp", n, why) })
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "AuditOTLP", "the address of the OpenTelemetry collector is wrong: %v", err).WithTarget("auditOTLP")
		}
		out["otlp"] = o
	}
	return out, nil
}

// openCollectors makes the deliverers; serve runs them.
func (d *deployment) openCollectors() error {
	holder, err := guid.New(d.cfg.Rand)
	if err != nil {
		return err
	}
	outputs, err := d.cfg.Collectors.outputs(func(name string, n int64, why string) {
		d.meter.undelivered.AddN(float64(n), name)
		d.cfg.Log.Error("the collector does not keep audit records whole", "output", name, "records", n, "error", why)
	})
	if err != nil {
		return err
	}
	d.collectors = map[string]*collector.Deliverer{}
	for name, output := range outputs {
		d.collectors[name] = collector.New(collector.Config{Name: name, Holder: holder, Output: output, Queue: auditQueue{d.store}, Now: d.cfg.Now,
			Wait: func(ctx context.Context, t time.Duration) { wait(ctx, t, nil) },
			Count: func(n int, err error) {
				if err == nil {
					d.meter.delivered.AddN(float64(n), name)
					return
				}
				d.meter.deliveryFailures.Add(name)
				d.cfg.Log.Warn("audit records cannot be delivered; they wait", "output", name, "error", err.Error())
			}})
	}
	return nil
}

// deliver runs the deliverers until the context ends.
func (d *deployment) deliver(ctx context.Context) error {
	var all errgroup.Group
	for _, c := range d.collectors {
		all.Go(func() error { c.Run(ctx); return nil })
	}
	return all.Wait()
}

// collectorsReady is the state of the check "audit": a dead collector is told,
// and takes no server out of service.
func (d *deployment) collectorsReady() string {
	for name, c := range d.collectors {
		if since, err := c.Failing(); err != nil {
			return fmt.Sprintf("%s; the %s collector has taken no audit record since %s", operations.OK, name, since.UTC().Format(time.RFC3339))
		}
	}
	return operations.OK
}

// auditBehind is how many records the slowest collector has not taken.
func (d *deployment) auditBehind() float64 {
	behind := int64(0)
	_ = d.store.Read(context.Background(), func(t *store.Tx) error {
		heads, err := t.AuditHeads()
		if err != nil {
			return err
		}
		for name := range d.collectors {
			cursor, err := t.AuditCursor(name)
			if err != nil {
				return err
			}
			var n int64
			for _, h := range heads {
				n += h.Sequence - cursor[h.Writer]
			}
			behind = max(behind, n)
		}
		return nil
	})
	return float64(behind)
}

// othersFor is how long a collector that another server delivered to counts as
// one of the deployment's, while that server is away.
const othersFor = 7 * 24 * time.Hour

// deliveredUpTo is how far every collector has a writer's records: what it has
// not is not deleted, whichever server delivers to it.
func (d *deployment) deliveredUpTo(t *store.Tx, writer string) (int64, error) {
	names, err := t.AuditOutputs(t.Now().Add(-othersFor))
	if err != nil {
		return 0, err
	}
	for name := range d.collectors {
		names = append(names, name)
	}
	upTo := int64(math.MaxInt64)
	for _, name := range names {
		c, err := t.AuditCursor(name)
		if err != nil {
			return 0, err
		}
		upTo = min(upTo, c[writer])
	}
	return upTo, nil
}

// auditQueue is the store as collector wants it.
type auditQueue struct{ store *store.Store }

// Hold takes or renews the lease of an output.
func (q auditQueue) Hold(ctx context.Context, output, holder string, until time.Time) (ok bool, err error) {
	err = q.store.Write(ctx, func(t *store.Tx) error {
		ok, err = t.HoldAuditOutput(output, holder, until)
		return err
	})
	return ok, err
}

// Next reads what an output has not.
func (q auditQueue) Next(ctx context.Context, output string, limit int) (records []audit.Record, c audit.Cursor, err error) {
	err = q.store.Read(ctx, func(t *store.Tx) error {
		if c, err = t.AuditCursor(output); err == nil {
			records, err = t.AuditAfter(c, limit)
		}
		return err
	})
	return records, c, err
}

// Delivered moves an output's cursor.
func (q auditQueue) Delivered(ctx context.Context, output string, c audit.Cursor) error {
	return q.store.Write(ctx, func(t *store.Tx) error { return t.SaveAuditCursor(output, c) })
}
