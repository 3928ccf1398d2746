package server

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/keystore"
	"sallyport/internal/sshca"
)

// runFlags are the words of `sally server run` that are not the server's own
// configuration.
type runFlags struct {
	config, passphraseFile string
	check, verbose         bool
	authority              authorityFlags
	logFormat              string
}

func runCommand(version string) *cobra.Command {
	cfg := Config{Build: version, Now: time.Now, Rand: rand.Reader}
	var words runFlags
	cmd := &cobra.Command{
		Use: "run", Short: "Serve a deployment until SIGTERM.", Args: cobra.NoArgs,
		Long: "Serves a deployment until SIGTERM. Settings come from flags and, where a flag is not given, from a configuration file (JSON).\n" +
			"At the end it takes no new requests, gives those under way five seconds, and closes the store.",
		Example: "  sally server run --config /etc/sallyport/server.json --check-config",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var faults []error
			if words.config != "" {
				faults = readSettings(words.config, cmd.Flags())
			}
			if err := all(append(faults, complete(&cfg, words)...)); err != nil {
				return err
			}
			if words.check {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
				return err
			}
			level := slog.LevelInfo
			if words.verbose {
				level = slog.LevelDebug
			}
			cfg.Log = slog.New(httpd.LogHandler(logHandler(cmd.ErrOrStderr(), words.logFormat, level)))
			cfg.Notify = notifier(os.Getenv("NOTIFY_SOCKET"))
			var err error
			if cfg.Sockets, err = inherited(os.Getenv, os.Getpid(), firstSocket); err != nil {
				return err
			}
			var unhook func()
			cfg.Reload, unhook = reloads()
			defer unhook()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&words.config, "config", "", "JSON file with these settings; flags win.")
	f.BoolVar(&words.check, "check-config", false, "Check all settings, the folder and the keys, and serve nothing.")
	f.StringVar(&cfg.State, "state", "", "Folder that `sally server init` made.")
	cfg.Database.flags(f)
	f.StringVar(&cfg.Replica, "replica", writerName, "Name of this server among those that share the database: a-z, 0-9 and -.")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8443", "Address and port to serve on.")
	f.StringVar(&cfg.LabSocket, "lab-socket", "", "Socket of `sally lab serve`, to make machines with.")
	f.StringVar(&cfg.Packages, "packages", "", "Folder of packages (*.deb, *.rpm) to hand out as apt and yum repositories.")
	f.StringVar(&cfg.Metrics, "metrics", "", "Loopback address and port to serve Prometheus metrics on, for example 127.0.0.1:9464; off without it.")
	f.StringVar(&words.passphraseFile, "key-passphrase-file", "", "File with the passphrase of the keys.")
	words.authority.signerFlags(f)
	cfg.Abuse.flags(f)
	f.DurationVar(&cfg.LongestCertificate, "longest-certificate", 0, "Longest life of a user certificate, 1m to 24h; 24h without it.")
	cfg.Collectors.flags(f)
	f.BoolVar(&words.verbose, "debug", false, "Log more.")
	f.StringVar(&words.logFormat, "log-format", "json", "json or text: how a line of the log is written.")
	f.StringVar(&cfg.TLS.Certificate, "tls-certificate", "", "PEM file with a certificate and its chain for browsers and Azure's clients; read again on change and on SIGHUP.")
	f.StringVar(&cfg.TLS.Key, "tls-key", "", "PEM file with the key of --tls-certificate.")
	f.StringVar(&cfg.TLS.ACMEDirectory, "acme-directory", "", "URL of an ACME directory to get such a certificate from; naming it agrees to the issuer's terms.")
	f.StringVar(&cfg.TLS.ACMEEmail, "acme-email", "", "Address that the ACME issuer may write to.")
	return cmd
}

// logHandler writes one line for each record.
func logHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}

// reloads passes SIGHUP on, at most one ahead.
func reloads() (asked <-chan struct{}, stop func()) {
	signals, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { signal.Stop(signals); close(signals) }
}

// complete reads the passphrase and returns everything that is wrong with the
// settings. For --check-config it looks at the folder and the keys too, and
// changes nothing.
func complete(cfg *Config, words runFlags) (faults []error) {
	note := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	var err error
	cfg.Passphrase, err = passphrase(words.passphraseFile)
	note(err)
	_, signers, wrong := words.authority.keyConfig()
	cfg.Signers, faults = signers, append(faults, wrong...)
	if cfg.State == "" {
		note(fault.New(fault.Invalid, "StateMissing", "the folder of the deployment is not set").WithRemedy(`Give it with --state, or as "state" in the configuration file.`))
	}
	note(cfg.Database.check())
	note(checkReplica(cfg.Replica))
	note(listenAddress(cfg.Listen))
	note(longestCertificate(cfg.LongestCertificate))
	if cfg.Metrics != "" {
		note(loopback(cfg.Metrics))
	}
	note(cfg.Abuse.check())
	note(cfg.Collectors.check())
	note(checkTLS(cfg.TLS))
	if words.logFormat != "json" && words.logFormat != "text" {
		note(fault.New(fault.Invalid, "LogFormat", "the log is written as json or text, not as %q", words.logFormat).WithTarget("logFormat"))
	}
	if words.check && cfg.State != "" {
		note(checkState(*cfg))
		note(checkTLSFiles(*cfg))
	}
	return faults
}

func longestCertificate(d time.Duration) error {
	if d != 0 && (d < sshca.MinLifetime || d > sshca.MaxLifetime) {
		return fault.New(fault.Invalid, "LongestCertificate", "the longest life of a certificate must be between 1m and 24h, not %s", d).WithTarget("longestCertificate")
	}
	return nil
}

func listenAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
		return fault.New(fault.Invalid, "ListenAddress", "%q is no address and port to listen on", address).WithTarget("listen").WithRemedy("For example: --listen 0.0.0.0:8443")
	}
	return nil
}

// checkState says whether this uid could serve the folder: what open would
// check, without opening the store, which may be in use.
func checkState(cfg Config) error {
	if err := notRoot(); err != nil {
		return err
	}
	database, err := cfg.Database.found(cfg.State)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(cfg.State, storeFile)); err != nil && database.URL == "" {
		return fault.Wrap(err, fault.NotFound, "StoreNotFound", "there is no deployment at %s", cfg.State).WithRemedy("Make one with: sally server init")
	}
	if err := privateDir(cfg.State); err != nil {
		return err
	}
	keys, err := keystore.Open(cfg.keyConfig())
	if err != nil {
		return err
	}
	return checkSigners(keys)
}
