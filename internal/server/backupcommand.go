package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/internal/backup"
	"sallyport/internal/fault"
)

// secretFlags are the words that open or close a file of a backup.
type secretFlags struct {
	recipients               []string
	identityFile, passphrase string
}

// lock is whom a file is written to.
func (s secretFlags) lock() (backup.Lock, error) {
	phrase, err := passphrase(s.passphrase)
	return backup.Lock{Recipients: s.recipients, Passphrase: phrase}, err
}

// opener is what a file is read with.
func (s secretFlags) opener() (o backup.Opener, err error) {
	if o.Passphrase, err = passphrase(s.passphrase); err != nil || s.identityFile == "" {
		return o, err
	}
	o.Identities, err = passphrase(s.identityFile) // the same checks: private, bounded, not empty
	return o, err
}

// register adds the flags; prefix is "" for the data and "keys-" for the keys.
func (s *secretFlags) register(f *pflag.FlagSet, prefix, what string, write bool) {
	if write {
		f.StringArrayVar(&s.recipients, prefix+"recipient", nil, "Recipient (age1...) to encrypt "+what+" to; may be given again for another.")
	}
	f.StringVar(&s.identityFile, prefix+"identity-file", "", "File with the identity (AGE-SECRET-KEY-1...) that opens "+what+".")
	f.StringVar(&s.passphrase, prefix+"passphrase-file", "", "File with the passphrase of "+what+".")
}

func backupCommand(version string) *cobra.Command {
	cfg := BackupConfig{Build: version, Now: time.Now, Rand: rand.Reader}
	var data, keys secretFlags
	verify := false
	cmd := &cobra.Command{
		Use: "backup", Short: "Write a deployment, encrypted, to files; a server may go on serving it.", Args: cobra.NoArgs,
		Long: "Writes the data of a deployment to one file and its keys to another, each encrypted to a recipient or passphrase of its own. Run it as the server's own user.\n" +
			"A file is there whole or not at all, and never replaces another. --verify reads files back instead, to their last byte.",
		Example: "  sally server backup --state /var/lib/sallyport --file data.age --recipient age1... --keys keys.age --keys-recipient age1...\n" +
			"  sally server backup --verify --file data.age --identity-file data.identity",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verify {
				return verifyFiles(cmd.OutOrStdout(), cfg, data, keys)
			}
			var err, keysErr error
			cfg.Lock, err = data.lock()
			cfg.KeysLock, keysErr = keys.lock()
			if err := errors.Join(err, keysErr); err != nil {
				return err
			}
			if cfg.State == "" {
				return fault.New(fault.Invalid, "StateMissing", "the folder of the deployment is not set").WithRemedy("Give it with --state.")
			}
			b, err := Backup(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return printBacked(cmd.OutOrStdout(), cfg, b)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder of the deployment.")
	f.StringVar(&cfg.File, "file", "", "New file for the data.")
	f.StringVar(&cfg.KeysFile, "keys", "", "New file for the keys.")
	f.BoolVar(&verify, "verify", false, "Read the files back and say what they hold; write nothing.")
	data.register(f, "", "the data", true)
	keys.register(f, "keys-", "the keys", true)
	return cmd
}

func printBacked(out io.Writer, cfg BackupConfig, b Backed) error {
	var text strings.Builder
	if cfg.File != "" {
		fmt.Fprintf(&text, "Data:  %s (%d tables, %d rows, position %d, epoch %d)\n", cfg.File, b.Data.Tables, b.Data.Rows, b.Header.Position, b.Header.Epoch)
	}
	if cfg.KeysFile != "" {
		fmt.Fprintf(&text, "Keys:  %s (%d files)\n", cfg.KeysFile, b.Keys.Rows)
	}
	fmt.Fprintf(&text, "Taken: %s\n", b.Header.At.Format(time.RFC3339))
	if cfg.File != "" && cfg.KeysFile == "" {
		fmt.Fprintln(&text, "The data alone restores nothing: the keys need a file of their own, once and after each `sally ca rotate`.")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func verifyFiles(out io.Writer, cfg BackupConfig, data, keys secretFlags) error {
	if cfg.File == "" && cfg.KeysFile == "" {
		return fault.New(fault.Invalid, "BackupFile", "say which file is to be verified").WithRemedy("Give --file FILE, --keys FILE, or both.")
	}
	for _, x := range []struct {
		path string
		kind backup.Kind
		with secretFlags
	}{{cfg.File, backup.Data, data}, {cfg.KeysFile, backup.Keys, keys}} {
		if x.path == "" {
			continue
		}
		open, err := x.with.opener()
		if err != nil {
			return err
		}
		h, sum, err := VerifyBackup(x.path, x.kind, open)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s is whole: %s of tenant %s, taken %s by sally %s, epoch %d, position %d; %d rows.\n",
			x.path, kindText(h.Kind), h.Tenant, h.At.Format(time.RFC3339), h.Build, h.Epoch, h.Position, sum.Rows); err != nil {
			return err
		}
	}
	return nil
}

// identityCommand makes an identity, so that a backup needs no other program.
func identityCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "backup-identity", Short: "Make an identity that opens backups, and print its recipient.", Args: cobra.NoArgs,
		Long: "Writes a new identity to a file and prints the recipient that belongs to it. The recipient is no secret: the server needs it alone.\nKeep the identity away from the server; the `age` program reads it too.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			identity, recipient, err := backup.NewIdentity()
			if err != nil {
				return err
			}
			f, err := newFile(path, 0o600)
			if err != nil {
				return err
			}
			if err := write(f, "# public key: "+recipient+"\n"+identity+"\n"); err != nil {
				return errors.Join(err, os.Remove(path))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), recipient)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "file", "", "New file for the identity.")
	_ = cmd.MarkFlagRequired("file") // the flag exists above
	return cmd
}
