package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
	"sallyport/internal/httpd/operations"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/route"
)

const (
	// statusTime is how long one answer may take.
	statusTime = 5 * time.Second
	// statusAgain is the pause between two tries of --wait.
	statusAgain = 50 * time.Millisecond
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
)

// statusFlags say which server to ask, and how.
type statusFlags struct {
	address, config, metrics string
	patience                 time.Duration
}

func statusCommand() *cobra.Command {
	var words statusFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Ask a server whether it is ready, and how it is; the exit code says so.", Args: cobra.NoArgs,
		Long: "With --server it asks from anywhere whether the server is ready, and believes only the server that the address names.\n" +
			"With --config or --metrics, on the server's own computer, it also tells its version, store, machines, keys, TLS certificate, last backup and refusals.\n" +
			"The exit code is 0 when the server is ready and 1 when it is not or does not answer.",
		Example: "  sally server status --server https://login.corp.example#THUMBPRINT --wait 30s\n  sally server status --config /etc/sallyport/server.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask, err := words.question()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), max(statusTime, words.patience))
			defer cancel()
			format := cmd.Flags().Lookup("output")
			asJSON := format != nil && format.Changed && format.Value.String() == "json"
			for {
				err := ask(ctx, cmd.OutOrStdout(), asJSON)
				if err == nil || words.patience == 0 || fault.Is(err, fault.Invalid) {
					return err
				}
				if wait(ctx, statusAgain, nil); ctx.Err() != nil {
					return err
				}
			}
		},
	}
	cmd.Flags().StringVar(&words.address, "server", "", "Address of the server, URL#THUMBPRINT.")
	cmd.Flags().StringVar(&words.config, "config", "", "Configuration file of the server on this computer.")
	cmd.Flags().StringVar(&words.metrics, "metrics", "", "Address of the metrics listener of the server on this computer.")
	cmd.Flags().DurationVar(&words.patience, "wait", 0, "Keep asking this long until it is ready.")
	cmd.MarkFlagsMutuallyExclusive("server", "config", "metrics")
	cmd.MarkFlagsOneRequired("server", "config", "metrics")
	return cmd
}

// question is what the flags ask.
func (w statusFlags) question() (func(ctx context.Context, out io.Writer, asJSON bool) error, error) {
	if w.address != "" {
		return func(ctx context.Context, out io.Writer, asJSON bool) error {
			answer, err := status(ctx, w.address)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(out, answer)
			}
			return printReadiness(out, answer)
		}, nil
	}
	if w.config != "" {
		flags := runCommand("").Flags()
		if err := all(readSettings(w.config, flags)); err != nil {
			return nil, err
		}
		if w.metrics = flags.Lookup("metrics").Value.String(); w.metrics == "" {
			return nil, fault.New(fault.Invalid, "MetricsMissing", "%s sets no metrics listener, which answers the status", w.config).
				WithRemedy("Set \"metrics\": \"127.0.0.1:9464\" there, or ask with --server ADDRESS.")
		}
	}
	return func(ctx context.Context, out io.Writer, asJSON bool) error { return w.local(ctx, out, asJSON) }, loopback(w.metrics)
}

// local asks the server on this computer.
func (w statusFlags) local(ctx context.Context, out io.Writer, asJSON bool) error {
	var r Report
	code, err := fetch(ctx, nil, "http://"+w.metrics+statusPath, &r)
	if err != nil || code != http.StatusOK {
		return fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "no server answers at %s", w.metrics).
			WithRemedy("See whether it runs and what it said last: systemctl status sallyport-server; journalctl -u sallyport-server -n 50")
	}
	if asJSON {
		err = writeJSON(out, r)
	} else {
		err = printReport(out, r)
	}
	if err == nil && r.Status != "ready" {
		err = notReady(r.Readiness)
	}
	return err
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func notReady(r route.Readiness) error {
	return fault.New(fault.Unavailable, "NotReady", "the server is not ready: %s", strings.Join(failed(r), "; ")).WithRemedy("Its log says why.")
}

// since says how long the oldest one has waited.
func (r RevocationsReport) since() string {
	if r.Unacknowledged == 0 {
		return ""
	}
	return fmt.Sprintf(", the oldest for %s: sally access revocation list", time.Duration(r.OldestSeconds*float64(time.Second)).Round(time.Second))
}

// printReport writes a report for people.
func printReport(out io.Writer, r Report) error {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("status", "%s", r.Status)
	line("server", "%s, version %s, up %s", r.URL, r.Build, r.Now.Sub(r.Started).Round(time.Second))
	line("tenant", "%s", r.Tenant)
	for _, check := range slices.Sorted(maps.Keys(r.Checks)) {
		line("check "+check, "%s", r.Checks[check])
	}
	if r.Gate != "" {
		line("gate", "%s", r.Gate)
	}
	line("store", "change %d, indexes %.1f s behind", r.Store.Position, r.Store.LagSeconds)
	line("machines", "%d joined, %d connected, %d with an older snapshot, %d with an older list of keys", r.Machines.Joined, r.Machines.Connected, r.Machines.Behind, r.Keys.Behind)
	line("revocations", "%d in 24 hours, %d not acknowledged by %d machines%s", r.Revocations.Day, r.Revocations.Unacknowledged, r.Revocations.Waiting, r.Revocations.since())
	for _, k := range r.Keys.Value {
		line("key "+k.Purpose, "%s since %s, %s", k.State, k.Since.UTC().Format(time.DateOnly), k.ID)
	}
	line("manifest", "epoch %d, version %d, of %s", r.Keys.Manifest.Epoch, r.Keys.Manifest.Version, r.Keys.Manifest.IssuedAt.UTC().Format(time.RFC3339))
	if !r.TLS.Ends.IsZero() {
		line("tls", "%s, ends %s, in %d days", r.TLS.Source, r.TLS.Ends.UTC().Format(time.RFC3339), int(r.TLS.Ends.Sub(r.Now).Hours()/24))
	}
	if r.Backup != nil {
		line("last backup", "%s, %s", r.Backup.Taken.UTC().Format(time.RFC3339), r.Backup.File)
	} else {
		line("last backup", "none taken here")
	}
	if len(r.Refused) == 0 {
		line("refused", "nothing since the start")
	}
	for _, what := range slices.Sorted(maps.Keys(r.Refused)) {
		line("refused", "%.0f %s since the start", r.Refused[what], what)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printReadiness(out io.Writer, r route.Readiness) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.Status)
	for _, check := range slices.Sorted(maps.Keys(r.Checks)) {
		fmt.Fprintf(&b, "  %-8s %s\n", check, r.Checks[check])
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// status asks a server for its readiness. The first request, for the signed
// manifest, trusts nobody and sends nothing secret; the second accepts only TLS
// that ends in the roots of a manifest which the address's thumbprint vouches
// for.
func status(ctx context.Context, address string) (route.Readiness, error) {
	serverURL, pin, _ := strings.Cut(address, "#")
	serverURL, err := checkURL(serverURL)
	if err != nil {
		return route.Readiness{}, err
	}
	if pin == "" {
		return route.Readiness{}, fault.New(fault.Invalid, "InvalidAddress", "the server's address is without the thumbprint after '#'").WithRemedy("Give all of the address that `sally server init` printed.")
	}
	var signed protocol.SignedManifest
	untrusted := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // the manifest proves itself
	if _, err := fetch(ctx, untrusted, serverURL+"/.well-known/sallyport/manifest", &signed); err != nil {
		return route.Readiness{}, err
	}
	manifest, err := signed.Open(pin)
	if err != nil {
		return route.Readiness{}, fault.Wrap(err, fault.Forbidden, "ServerNotPinned", "%s is not the server that the address names", serverURL)
	}
	trusted := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(manifest.TLSRoots) > 0 {
		trusted.RootCAs, trusted.NextProtos = x509.NewCertPool(), []string{"h2", "http/1.1", protocol.ALPNPinned}
	}
	for _, der := range manifest.TLSRoots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return route.Readiness{}, fmt.Errorf("manifest: TLS root: %w", err)
		}
		trusted.RootCAs.AddCert(root)
	}
	var answer route.Readiness
	code, err := fetch(ctx, trusted, serverURL+"/readyz", &answer)
	if err == nil && (code != http.StatusOK || answer.Status != "ready") {
		err = notReady(answer)
	}
	return answer, err
}

func failed(r route.Readiness) []string {
	var out []string
	for _, check := range slices.Sorted(maps.Keys(r.Checks)) {
		if !operations.Well(r.Checks[check]) {
			out = append(out, check+": "+r.Checks[check])
		}
	}
	return out
}

// fetch reads one JSON answer and follows nothing.
func fetch(ctx context.Context, trust *tls.Config, address string, into any) (code int, err error) {
	transport := &http.Transport{TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: statusTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "the server does not answer: %v", err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "ServerUnreachable", "the server's answer (status %d) cannot be read", res.StatusCode)
	}
	return res.StatusCode, nil
}

func openapiCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI 3.1 description of everything that a server answers.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			document, err := operations.Document(route.All(), address)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(document, '\n'))
			return err
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "URL to name as the server's.")
	return cmd
}
