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

func statusCommand() *cobra.Command {
	var address string
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Ask a server whether it is ready; the exit code says so.", Args: cobra.NoArgs,
		Example: "  sally server status --server https://login.corp.example#THUMBPRINT --wait 30s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit := statusTime
			if patience > 0 {
				limit = patience
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			for {
				answer, err := status(ctx, address)
				if err == nil {
					return printReadiness(cmd.OutOrStdout(), answer)
				}
				if patience == 0 || fault.Is(err, fault.Invalid) {
					return err
				}
				if wait(ctx, statusAgain, nil); ctx.Err() != nil {
					return err
				}
			}
		},
	}
	cmd.Flags().StringVar(&address, "server", "", "Address of the server, URL#THUMBPRINT.")
	cmd.Flags().DurationVar(&patience, "wait", 0, "Keep asking this long until it is ready.")
	_ = cmd.MarkFlagRequired("server") // the flag exists above
	return cmd
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
		err = fault.New(fault.Unavailable, "NotReady", "the server is not ready: %s", strings.Join(failed(answer), "; ")).WithRemedy("Its log says why.")
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
