package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/store"
)

// databaseFile in the state folder says that the deployment's data is in a
// PostgreSQL database. Without it they are in storeFile beside it.
const databaseFile = "database.json"

// Database says where a deployment's data is; the zero value means the file in
// the state folder, or what databaseFile says.
type Database struct {
	URL          string `json:"url"`
	PasswordFile string `json:"passwordFile,omitempty"`
}

func (d *Database) flags(f *pflag.FlagSet) {
	f.StringVar(&d.URL, "database", "", "postgres:// URL of the data, without a password; a file in the folder without it.")
	f.StringVar(&d.PasswordFile, "database-password-file", "", "File with the database's password; PGPASSFILE works too.")
}

// check says what is wrong with the settings. A password in a URL would be in
// every list of processes.
func (d Database) check() error {
	if d.URL == "" {
		if d.PasswordFile != "" {
			return fault.New(fault.Invalid, "InvalidDatabase", "there is a password for a database and no database").WithTarget("database-password-file").WithRemedy("Give --database too.")
		}
		return nil
	}
	if err := store.CheckURL(d.URL); err != nil {
		return err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return err
	}
	if _, secret := u.User.Password(); secret || u.Query().Has("password") || u.Query().Has("sslpassword") {
		return fault.New(fault.Invalid, "PasswordInURL", "the database's URL holds a password, which every user of this computer can read in the list of processes").WithTarget("database").
			WithRemedy("Leave it out, and give --database-password-file FILE or name a libpq password file in PGPASSFILE. Change the password: it has been seen.")
	}
	return nil
}

// found is d, or where it is zero what the state folder says.
func (d Database) found(state string) (Database, error) {
	if d.URL != "" {
		return d, nil
	}
	text, err := os.ReadFile(filepath.Join(state, databaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		return d, fault.Wrap(err, fault.Invalid, "InvalidDatabase", "%s in the state folder cannot be read", databaseFile)
	}
	return d, d.check()
}

// keep writes into the state folder where the data is.
func (d Database) keep(state string) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	f, err := newPending(filepath.Join(state, databaseFile))
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return errCannotWrite(f.path, err)
	}
	return f.commit()
}

// place is where the data of a state folder is, for the server of a name. The
// caller adds clock and more.
func (d Database) place(state, replica string) (store.Config, error) {
	cfg := filePlace(state, replica)
	d, err := d.found(state)
	if err != nil || d.URL == "" {
		return cfg, err
	}
	cfg.URL = d.URL
	password, err := passphrase(d.PasswordFile)
	cfg.Password = string(password)
	return cfg, err
}

// filePlace is the file in the state folder.
func filePlace(state, replica string) store.Config {
	if replica == "" {
		replica = writerName
	}
	return store.Config{Path: filepath.Join(state, storeFile), Writer: replica, Declared: audit.Declared}
}

// databaseWait is how long a server that starts waits for its database, which a
// computer that was switched on may bring up later. It is less than the unit's
// TimeoutStartSec and more than the interval in which its service manager counts
// failures, so that a database that is away for long keeps no server down.
const databaseWait = 90 * time.Second

// openStore opens the store; a database that does not answer is waited for.
func openStore(ctx context.Context, cfg Config, m *meter, patience time.Duration) (*store.Store, error) {
	place := cfg.storeConfig(m)
	for began, said := cfg.Now(), false; ; {
		st, err := store.Open(ctx, place)
		if err == nil || !store.Away(err) || cfg.Now().Sub(began) >= patience || ctx.Err() != nil {
			return st, err
		}
		if !said && cfg.Log != nil {
			cfg.Log.WarnContext(ctx, "waiting for the database", "error", err.Error())
		}
		said = true
		wait(ctx, time.Second, nil)
	}
}

func checkReplica(name string) error {
	if !regexp.MustCompile(`^[a-z0-9-]{1,40}$`).MatchString(name) {
		return fault.New(fault.Invalid, "InvalidReplica", "%q is no name of a server", name).WithTarget("replica").WithRemedy("Use a-z, 0-9 and -, for example: --replica server-2")
	}
	return nil
}
