package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/httpd/arm"
	"sallyport/internal/httpd/operations"
	"sallyport/internal/route"
)

// statusPath is where the metrics listener answers `sally server status`.
const statusPath = "/status"

// Report is what an operator asks first. It is told on the metrics listener,
// which only this computer reaches.
type Report struct {
	route.Readiness
	Build    string         `json:"build"`
	Started  time.Time      `json:"started"`
	Now      time.Time      `json:"now"`
	URL      string         `json:"url"`
	Tenant   string         `json:"tenant"`
	Store    StoreReport    `json:"store"`
	Machines MachinesReport `json:"machines"`
	// Revocations are those of the last day.
	Revocations RevocationsReport `json:"revocations"`
	Keys        arm.KeyList       `json:"keys"`
	TLS         TLSReport         `json:"tls"`
	Backup      *LastBackup       `json:"lastBackup,omitempty"`
	// Gate says why the server serves administrators alone; "" when it does not.
	Gate string `json:"gate,omitempty"`
	// Refused counts since the start: certificates by Entra error code, and
	// failed sign-ins as "sign-ins".
	Refused map[string]float64 `json:"refused"`
}

// StoreReport is the change feed of a server.
type StoreReport struct {
	Position   int64   `json:"position"`
	LagSeconds float64 `json:"lagSeconds"`
}

// MachinesReport counts machines as the metrics do.
type MachinesReport struct {
	Joined    int `json:"joined"`
	Connected int `json:"connected"`
	Behind    int `json:"behind"`
}

// RevocationsReport counts what was taken away within a day as the metrics do.
type RevocationsReport struct {
	Day            int     `json:"day"`
	Unacknowledged int     `json:"unacknowledged"`
	Waiting        int     `json:"machinesWaiting"`
	OldestSeconds  float64 `json:"oldestSeconds"`
}

// TLSReport is the certificate that clients without our manifest are shown.
type TLSReport struct {
	Source string    `json:"source"` // own, file, acme
	Ends   time.Time `json:"ends"`
	Wrong  string    `json:"wrong,omitempty"`
}

// LastBackup is what `sally server backup` leaves in the state folder.
type LastBackup struct {
	Taken time.Time `json:"taken"`
	File  string    `json:"file"`
}

// lastBackupFile lies in the state folder.
const lastBackupFile = "last-backup.json"

// report looks at everything once.
func (d *deployment) report(ctx context.Context) (Report, error) {
	fleet, revoked, now := d.fleet(), d.revocations(), d.cfg.Now()
	r := Report{Build: d.cfg.Build, Started: d.started.UTC(), Now: now.UTC(), URL: d.manifest.URL, Tenant: d.manifest.Tenant,
		Store:       StoreReport{Position: d.store.Position(), LagSeconds: d.lag.now(now).Seconds()},
		Revocations: RevocationsReport{Day: int(revoked[0]), Unacknowledged: int(revoked[1]), Waiting: int(revoked[2]), OldestSeconds: revoked[3]},
		Machines:    MachinesReport{Joined: int(fleet[0]), Connected: int(fleet[1]), Behind: int(fleet[2])},
		Refused:     map[string]float64{}}
	r.Readiness = route.Readiness{Status: "ready", Checks: d.ready(ctx)}
	for _, state := range r.Checks {
		if !operations.Well(state) {
			r.Status = "unready"
		}
	}
	if last, closed := d.gate.closed(); closed {
		r.Gate = "closed: restored at " + last.At.UTC().Format(time.RFC3339) + " from a backup of " + last.BackupAt.UTC().Format(time.RFC3339) + ", not confirmed; run: sally access review"
	}
	var err error
	if r.Keys, err = d.trust.Keys(ctx); err != nil {
		return r, err
	}
	if d.tls != nil {
		r.TLS.Source = d.tls.source()
		r.TLS.Ends, r.TLS.Wrong = d.tls.expiry()
	}
	if r.Backup, err = readLastBackup(d.cfg.State); err != nil {
		d.cfg.Log.WarnContext(ctx, "last backup", "error", err.Error())
	}
	var text strings.Builder
	if err := d.meter.registry.Write(&text); err != nil {
		return r, err
	}
	for _, m := range refusedLine.FindAllStringSubmatch(text.String(), -1) {
		n, _ := strconv.ParseFloat(m[3], 64) // the registry wrote it
		if m[2] != "" {
			r.Refused["AADSTS"+m[2]] += n
		} else {
			r.Refused["sign-ins"] += n
		}
	}
	return r, nil
}

var refusedLine = regexp.MustCompile(`(?m)^(sallyport_certificates_refused_total\{reason="([^"]+)"\}|sallyport_signins_total\{proof="[a-z]+",outcome="denied"\}) (\S+)$`)

// source says where the public certificate comes from.
func (c *certificates) source() string {
	switch c.public.(type) {
	case *tlsFiles:
		return "file"
	case *acmeSource:
		return "acme"
	}
	return "own"
}

// serveStatus answers the report. A page of the web that has its own name point
// at this computer must not read it, so the request names the address itself.
func (d *deployment) serveStatus(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "ask by the loopback address", http.StatusForbidden)
		return
	}
	report, err := d.report(r.Context())
	if err != nil {
		d.cfg.Log.Error("status", "error", err.Error())
		http.Error(w, "the report cannot be made; the log says why", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(report)
}

// readLastBackup is nil where none was taken.
func readLastBackup(state string) (*LastBackup, error) {
	b, err := os.ReadFile(filepath.Join(state, lastBackupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var last LastBackup
	return &last, json.Unmarshal(b, &last)
}

// writeLastBackup remembers a backup that is whole. It is a note for people;
// nothing depends on it.
func writeLastBackup(state string, last LastBackup) error {
	b, err := json.Marshal(last)
	if err != nil {
		return err
	}
	path := filepath.Join(state, lastBackupFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
