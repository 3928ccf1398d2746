package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/cloud"
	"sallyport/internal/fault"
)

// Command returns `sally server`; version is the build's.
func Command(version string) *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Run a Sallyport server."}
	cmd.AddCommand(initCommand(), runCommand(version), migrateCommand(), statusCommand(), openapiCommand(), backupCommand(version), identityCommand(), restoreCommand(), epochCommand(), recoverCommand(), repositoryKeyCommand())
	return cmd
}

func initCommand() *cobra.Command {
	cfg := InitConfig{Now: time.Now, Rand: rand.Reader}
	var passwordFile, addressFile, passphraseFile string
	var authority authorityFlags
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
			var faults []error
			if cfg.Algorithms, cfg.Signers, faults = authority.keyConfig(); len(faults) != 0 {
				return all(faults)
			}
			files, err := reserve(passwordFile, addressFile)
			if err != nil {
				return err
			}
			d, err := Init(cmd.Context(), cfg)
			if err != nil {
				return errors.Join(err, files.discard())
			}
			return report(cmd.OutOrStdout(), d, files)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder of the deployment, mode 0700, owned by the server's uid.")
	cfg.Database.flags(f)
	f.StringVar(&cfg.Domain, "domain", "", "Domain of the directory: people are NAME@DOMAIN.")
	f.StringVar(&cfg.URL, "url", "", "https URL that people and machines use.")
	f.StringVar(&cfg.DisplayName, "display-name", "Sallyport", "Name of the tenant.")
	f.StringVar(&cfg.Cloud, "cloud", cloud.Global, "Which of Azure's clouds clients take it for: "+strings.Join(cloud.Names(), ", ")+". It stays.")
	f.StringVar(&cfg.Admin, "admin", "admin", "Name of the first administrator before the '@'.")
	f.StringVar(&passwordFile, "password-file", "", "Write the one-time password to this new file (0600) instead of the terminal.")
	f.StringVar(&addressFile, "address-file", "", "Also write the server's address to this new file.")
	f.StringVar(&passphraseFile, "key-passphrase-file", "", "File with a passphrase that encrypts the keys at rest.")
	authority.algorithmFlags(f)
	authority.signerFlags(f)
	for _, name := range []string{"state", "domain", "url"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists two lines above
	}
	return cmd
}

// files are where a deployment's words go. They are made before the deployment:
// a password that could be written nowhere would lock everybody out.
type files struct {
	password, address *os.File // nil: the terminal alone
}

func reserve(passwordFile, addressFile string) (f files, err error) {
	if passwordFile != "" {
		if f.password, err = newFile(passwordFile, 0o600); err != nil {
			return files{}, err
		}
	}
	if addressFile != "" {
		if f.address, err = newFile(addressFile, 0o644); err != nil {
			return files{}, errors.Join(err, f.discard())
		}
	}
	return f, nil
}

func (f files) discard() error {
	var err error
	for _, x := range []*os.File{f.password, f.address} {
		if x != nil {
			err = errors.Join(err, x.Close(), os.Remove(x.Name()))
		}
	}
	return err
}

func report(out io.Writer, d Deployment, f files) error {
	fmt.Fprintf(out, "Deployment made. Tenant %s.\n\nAddress (copy all of it; the part after # lets people know that it is yours):\n  %s\n\n", d.TenantID, d.Address)
	var failed error
	if f.address != nil {
		failed = write(f.address, d.Address+"\n")
	}
	written := f.password != nil
	if written {
		if err := write(f.password, d.Password+"\n"); err != nil {
			failed, written = errors.Join(failed, err), false // it is shown here instead, or it were lost
		}
	}
	if written {
		fmt.Fprintf(out, "First administrator: %s. The one-time password is in %s; it works for 24 hours and must be changed at the first sign-in.\n", d.AdminUPN, f.password.Name())
	} else {
		fmt.Fprintf(out, "First administrator: %s\nOne-time password:   %s\nIt works for 24 hours and must be changed at the first sign-in.\n", d.AdminUPN, d.Password)
	}
	fmt.Fprintf(out, "\nNext: sally server run, and then: sally account password change --server %s --username %s\n", d.Address, d.AdminUPN)
	return failed
}

// newFile makes a file that must not exist.
func newFile(path string, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, fault.Wrap(err, fault.Conflict, "CannotWrite", "cannot write the new file %s: %v", path, err)
	}
	return f, nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fault.Wrap(err, fault.Unavailable, "CannotWrite", "cannot write the file %s", f.Name())
	}
	return nil
}

// maxPassphrase bounds what is read of a passphrase file.
const maxPassphrase = 4096

// system is what the operating system says, without what an error adds to it: for
// a sentence that names the file or address itself.
func system(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return fmt.Sprint(err)
}

// passphrase reads a passphrase from a file that only its owner and group can
// read, as a service manager hands them out.
func passphrase(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "PassphraseFile", "the passphrase file %s cannot be read: %s", path, system(err))
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || info.Mode().IsRegular() && info.Mode().Perm()&0o027 != 0 {
		return nil, fault.Wrap(err, fault.Forbidden, "PassphraseFile", "the passphrase file %s can be read or changed by others", path).WithRemedy("Run: chmod 600 %s", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxPassphrase))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "PassphraseFile", "the passphrase file %s cannot be read: %s", path, system(err))
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return nil, fault.New(fault.Invalid, "PassphraseFile", "the passphrase file %s is empty", path)
	}
	return []byte(text), nil
}
