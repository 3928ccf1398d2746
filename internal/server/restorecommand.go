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

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

func restoreCommand() *cobra.Command {
	cfg := RestoreConfig{Now: time.Now, Rand: rand.Reader}
	var data, keys secretFlags
	var authority authorityFlags
	var passphraseFile string
	cmd := &cobra.Command{
		Use: "restore", Short: "Make a deployment from a backup, in a folder that holds none.", Args: cobra.NoArgs,
		Long: "Makes a deployment from a backup, in a folder that holds none, whole or not at all. Everything that was issued before ends: sessions, tokens, certificates, join tokens.\n" +
			"Machines follow because the manifest is signed again with a higher epoch. The server then issues nothing until an administrator has looked through the backup's role\n" +
			"assignments (sally access review) and confirmed them (sally access confirm-restore): a backup gives back what was taken away after it.",
		Example: "  sally server restore --state /var/lib/sallyport --file data.age --identity-file data.identity --keys keys.age --keys-identity-file keys.identity",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var errs [3]error
			cfg.Open, errs[0] = data.opener()
			cfg.KeysOpen, errs[1] = keys.opener()
			cfg.Passphrase, errs[2] = passphrase(passphraseFile)
			var faults []error
			_, cfg.Signers, faults = authority.keyConfig()
			if err := errors.Join(append(faults, errs[:]...)...); err != nil {
				return err
			}
			r, err := Restore(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return printRestored(cmd.OutOrStdout(), cfg, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder for the deployment, mode 0700, owned by the server's uid.")
	cfg.Database.flags(f)
	f.StringVar(&cfg.File, "file", "", "File of the data.")
	f.StringVar(&cfg.KeysFile, "keys", "", "File of the keys; leave it out where the key folder is in its place.")
	f.StringVar(&passphraseFile, "key-passphrase-file", "", "File with the passphrase that encrypts the keys at rest.")
	f.StringVar(&cfg.Request, "manifest-request", "", "New file for what the manifest key must sign, where that key is on another computer.")
	data.register(f, "", "the data", false)
	keys.register(f, "keys-", "the keys", false)
	authority.signerFlags(f)
	for _, name := range []string{"state", "file"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
	return cmd
}

func printRestored(out io.Writer, cfg RestoreConfig, r RestoredBackup) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Restored to %s: tenant %s as of %s, now of epoch %d.\n", cfg.State, r.Header.Tenant, r.Header.At.Format(time.RFC3339), r.Epoch)
	if r.Rotated {
		fmt.Fprintln(&text, "Keys were rotated between the backup of the keys and that of the data: rotate them again (sally ca rotate).")
	}
	next := ""
	if r.Request != nil {
		fmt.Fprintf(&text, "\nThe epoch has to be signed where the manifest key is: sally ca sign-manifest, with %s. Machines refuse this server before.\n", cfg.Request)
		next = "sally server restore-epoch, "
	}
	fmt.Fprintf(&text, "\nNothing is issued until an administrator has confirmed the role assignments of the backup. What was changed after it is not in it: people who left, roles that were taken away, passwords that were replaced.\n"+
		"Next: %ssally server run, then: sally access review, and: sally access confirm-restore --restore-id %s\n", next, r.Restore)
	_, err := io.WriteString(out, text.String())
	return err
}

// epochCommand gives a restored deployment the manifest that was signed on
// another computer.
func epochCommand() *cobra.Command {
	cfg := Config{Now: time.Now, Rand: rand.Reader}
	var path string
	cmd := &cobra.Command{
		Use: "restore-epoch", Short: "Give a restored deployment its manifest, signed on another computer.", Args: cobra.NoArgs,
		Long: "Takes over the manifest that a restore asked for (--manifest-request), after it was signed where the manifest key is. No server may serve the deployment meanwhile.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := os.ReadFile(path)
			var signed protocol.SignedManifest
			if err == nil {
				err = protocol.Decode(text, &signed)
			}
			if err != nil {
				return fault.Wrap(err, fault.Invalid, "ManifestRefused", "%s is no signed manifest: %v", path, err)
			}
			if err := AcceptEpoch(cmd.Context(), cfg, signed); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The epoch is signed. Next: sally server run, and then: sally access review")
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.State, "state", "", "Folder of the restored deployment.")
	f.StringVar(&path, "manifest", "", "File with the signed manifest.")
	for _, name := range []string{"state", "manifest"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
	return cmd
}
