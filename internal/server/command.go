package server

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
)

// Command returns `sally server`.
func Command() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Run a Sallyport server."}
	cmd.AddCommand(initCommand(), runCommand())
	return cmd
}

func initCommand() *cobra.Command {
	cfg := InitConfig{Now: time.Now, Rand: rand.Reader}
	var passwordFile, addressFile, passphraseFile string
	cmd := &cobra.Command{
		Use: "init", Short: "Make a new deployment: keys, directory and the first administrator.", Args: cobra.NoArgs,
		Long: "Makes a new deployment in an empty folder and prints the address that people copy and the first administrator's one-time password.\n" +
			"It refuses a folder that holds a deployment, and it refuses to run as root.",
		Example: "  setpriv --reuid 7701 --regid 7701 --clear-groups sally server init --state /var/lib/sallyport --domain corp.example --url https://login.corp.example",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Passphrase, err = passphrase(passphraseFile); err != nil {
				return err
			}
			d, err := Init(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return report(cmd, d, passwordFile, addressFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder of the deployment, mode 0700, owned by the server's uid.")
	f.StringVar(&cfg.Domain, "domain", "", "Domain of the directory: people are NAME@DOMAIN.")
	f.StringVar(&cfg.URL, "url", "", "https URL that people and machines use.")
	f.StringVar(&cfg.DisplayName, "display-name", "Sallyport", "Name of the tenant.")
	f.StringVar(&cfg.Admin, "admin", "admin", "Name of the first administrator before the '@'.")
	f.StringVar(&passwordFile, "password-file", "", "Write the one-time password to this new file (0600) instead of the terminal.")
	f.StringVar(&addressFile, "address-file", "", "Also write the server's address to this new file.")
	f.StringVar(&passphraseFile, "key-passphrase-file", "", "File with a passphrase that encrypts the keys at rest.")
	for _, name := range []string{"state", "domain", "url"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists two lines above
	}
	return cmd
}

func report(cmd *cobra.Command, d Deployment, passwordFile, addressFile string) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Deployment made. Tenant %s.\n\nAddress (copy all of it; the part after # lets people know that it is yours):\n  %s\n\n", d.TenantID, d.Address)
	if addressFile != "" {
		if err := newFile(addressFile, d.Address+"\n", 0o644); err != nil {
			return err
		}
	}
	if passwordFile != "" {
		if err := newFile(passwordFile, d.Password+"\n", 0o600); err != nil {
			return err
		}
		fmt.Fprintf(out, "First administrator: %s. The one-time password is in %s; it works for 24 hours and must be changed at the first sign-in.\n", d.AdminUPN, passwordFile)
	} else {
		fmt.Fprintf(out, "First administrator: %s\nOne-time password:   %s\nIt works for 24 hours and must be changed at the first sign-in.\n", d.AdminUPN, d.Password)
	}
	fmt.Fprintf(out, "\nNext: sally server run, and then: sally account password change --server %s --username %s\n", d.Address, d.AdminUPN)
	return nil
}

// newFile writes a file that must not exist.
func newFile(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fault.Wrap(err, fault.Conflict, "CannotWrite", "cannot write the new file %s: %v", path, err)
	}
	_, err = f.WriteString(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}

func passphrase(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "PassphraseFile", "cannot read the passphrase file %s", path)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return nil, fault.New(fault.Invalid, "PassphraseFile", "the passphrase file %s is empty", path)
	}
	return []byte(text), nil
}

func runCommand() *cobra.Command {
	cfg := Config{Now: time.Now, Rand: rand.Reader}
	var passphraseFile string
	var verbose bool
	cmd := &cobra.Command{
		Use: "run", Short: "Serve a deployment until SIGTERM.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Passphrase, err = passphrase(passphraseFile); err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			cfg.Log = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder that `sally server init` made.")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8443", "Address and port to serve on.")
	f.StringVar(&cfg.LabSocket, "lab-socket", "", "Socket of `sally lab serve`, to make machines with.")
	f.StringVar(&passphraseFile, "key-passphrase-file", "", "File with the passphrase of the keys.")
	f.BoolVar(&verbose, "debug", false, "Log more.")
	_ = cmd.MarkFlagRequired("state") // the flag exists above
	return cmd
}
