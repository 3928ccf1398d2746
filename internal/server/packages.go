package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd/operations"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/repository"
	"sallyport/internal/store"
)

// openPackages opens the package repositories, where a folder is configured. The
// first time the only server of a deployment makes their key; of several servers
// each would make its own.
func (d *deployment) openPackages() (err error) {
	if d.cfg.Packages == "" {
		return nil
	}
	if !d.store.Shared() {
		if err := d.keys.AddRepository(); err != nil {
			return err
		}
	}
	signer, err := d.keys.Signer(keystore.Repository)
	if err != nil {
		return err
	}
	name := ""
	if len(d.manifest.Domains) > 0 {
		name = d.manifest.Domains[0]
	}
	if d.packages, err = repository.Open(repository.Config{Folder: d.cfg.Packages, Signer: signer, Name: name, Rand: d.cfg.Rand, Now: d.cfg.Now}); err != nil {
		return err
	}
	d.cfg.Log.Info("packages", "folder", d.cfg.Packages, "packages", d.packages.Len(), "key", d.packages.Fingerprint())
	return nil
}

// keepPackages lists the repository's key in the manifest, looks at the folder
// every ten seconds, and signs the indexes anew in time. What is wrong is told
// once; what was there before stays.
func (d *deployment) keepPackages(ctx context.Context) error {
	if d.packages == nil {
		return nil
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said, unlisted, listed := "", "", false
	for {
		if !listed {
			err := d.enlistRepository(ctx)
			if listed = err == nil; err != nil && ctx.Err() == nil && err.Error() != unlisted {
				unlisted = err.Error()
				d.cfg.Log.Error("the key of the packages is not in the manifest, so no machine can be upgraded from here", "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := ""
		if err := d.packages.Look(); err != nil {
			now = err.Error()
		}
		if now != said && now != "" {
			d.cfg.Log.Error("packages not taken, those before stay", "error", now)
		}
		said = now
	}
}

// enlistRepository lists the key that vouches for packages in the manifest, so that
// machines find it behind the key that they pinned. Where several servers share a
// database the first one's counts: each would list its own in turn.
func (d *deployment) enlistRepository(ctx context.Context) error {
	signer, err := d.keys.Signer(keystore.Repository)
	if err != nil {
		return err
	}
	id, err := protocol.Thumbprint(signer.Public())
	if err != nil {
		return err
	}
	listed, found := d.trust.now().ring.Active(protocol.Repository)
	switch {
	case found && listed.ID == id:
		return nil
	case found && d.store.Shared():
		return fault.New(fault.Conflict, "KeyNotListed", "another server of this database has listed another key for packages (%s)", listed.ID).
			WithRemedy("Copy its keys/repository.pem to this server.")
	}
	by := audit.By{Type: audit.Task, Name: "packages", CorrelationID: zeroID, At: d.cfg.Now()}
	return d.trust.change(ctx, func(t *store.Tx, c *course) error {
		next, _, err := c.ring.Enlist(signer.Public(), t.Now())
		c.ring = next
		return err
	}, by)
}

// packagesAt is the repositories as the door wants them.
func (d *deployment) packagesAt() operations.Packages {
	if d.packages == nil {
		return nil
	}
	return func(path string) (io.ReadSeeker, string, time.Time, error) {
		f, ok := d.packages.File(path)
		if !ok {
			return nil, "", time.Time{}, fault.New(fault.NotFound, "NoSuchPackage", "the repositories have nothing at %s", path)
		}
		if f.Path == "" {
			return bytes.NewReader(f.Data), f.Type, f.Modified, nil
		}
		file, err := os.Open(f.Path)
		if err != nil {
			return nil, "", time.Time{}, fault.Wrap(err, fault.NotFound, "NoSuchPackage", "the package at %s is not there any more", path)
		}
		return file, f.Type, f.Modified, nil
	}
}

// repositoryKeyCommand prints the key that repositories are verified with, and
// makes it where there is none.
func repositoryKeyCommand() *cobra.Command {
	var state, passphraseFile, name string
	var authority authorityFlags
	cmd := &cobra.Command{
		Use: "repository-key", Short: "Print the key that signs this deployment's package repositories; make it where there is none.", Args: cobra.NoArgs,
		Long: "Prints the public key, as the server publishes it at /repository/key.asc, and its fingerprint on the error output.\n" +
			"Where several servers share a database, run it on one of them and copy keys/repository.pem to the others.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notRoot(); err != nil {
				return err
			}
			secret, err := passphrase(passphraseFile)
			if err != nil {
				return err
			}
			_, signers, faults := authority.keyConfig()
			if err := all(faults); err != nil {
				return err
			}
			keys, err := keystore.Open(keystore.Config{Dir: filepath.Join(state, keysDir), Rand: rand.Reader, Passphrase: secret, External: signers})
			if err != nil {
				return err
			}
			if err := keys.AddRepository(); err != nil {
				return err
			}
			signer, err := keys.Signer(keystore.Repository)
			if err != nil {
				return err
			}
			armor, print, err := repository.PublicKey(signer, rand.Reader, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "fingerprint %s\n", print)
			_, err = cmd.OutOrStdout().Write(armor)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "Folder of the deployment.")
	f.StringVar(&name, "domain", "", "Domain of the directory, which the key's name tells.")
	f.StringVar(&passphraseFile, "key-passphrase-file", "", "File with the passphrase of the keys.")
	authority.signerFlags(f)
	for _, name := range []string{"state", "domain"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
	return cmd
}
