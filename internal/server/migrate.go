package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
	"sallyport/internal/store"
)

// MigrateConfig describes a move of a deployment's data.
type MigrateConfig struct {
	State string
	To    Database
	Now   func() time.Time
	Rand  io.Reader
}

// Migrated is what Migrate moved.
type Migrated struct {
	Tables, Rows, Records int64
	Kept                  string // the old file
}

// Migrate moves the data of a stopped deployment from its file into an empty
// PostgreSQL database: copies every table in one transaction, compares count
// and hash of each, verifies the audit chains there, and only then makes the
// state folder point at the database. The file is kept under another name.
func Migrate(ctx context.Context, cfg MigrateConfig) (Migrated, error) {
	if err := notRoot(); err != nil {
		return Migrated{}, err
	}
	if err := errors.Join(cfg.To.check(), ownFolder(cfg.State)); err != nil {
		return Migrated{}, err
	}
	return moveData(ctx, cfg)
}

func moveData(ctx context.Context, cfg MigrateConfig) (m Migrated, err error) {
	target, err := cfg.To.place(cfg.State, "")
	if err != nil {
		return m, err
	}
	if target.URL == "" {
		return m, fault.New(fault.Invalid, "InvalidDatabase", "say where the data is to go").WithTarget("database").WithRemedy("Give --database postgres://...")
	}
	// A file beside it is what a move left that was killed in its last step: what
	// was written since is in the database.
	now, err := Database{}.found(cfg.State)
	if err != nil {
		return m, err
	}
	if now.URL != "" {
		return m, fault.New(fault.Conflict, "AlreadyMigrated", "the data of this deployment is in a database already, which %s names", databaseFile).
			WithRemedy("Start the server. %s, where it is still there, is the state before the move: keep it elsewhere.", storeFile)
	}
	place := filePlace(cfg.State, "")
	place.Now, target.Now = cfg.Now, cfg.Now
	from, err := store.Open(ctx, place) // its lock keeps a server away
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	names, err := from.Migrations(ctx)
	if err != nil {
		return m, err
	}
	if err := store.Restore(ctx, target, store.Contents{Migrations: names, Rows: func(put store.Row) error { return from.Dump(ctx, put) }}); err != nil {
		return m, err
	}
	if m, err = compare(ctx, from, target); err != nil {
		return m, err
	}
	m.Kept = place.Path + ".migrated"
	return m, switchOver(cfg, place.Path, m.Kept)
}

// errDiffers says in what the copy is another one than its source.
func errDiffers(format string, args ...any) error {
	return fault.New(fault.Conflict, "MigrationDiffers", "the copy is not what the file holds: %s", fmt.Sprintf(format, args...)).
		WithRemedy("Nothing points at the database yet: empty it, and try again.")
}

// compare holds the copy to its source.
func compare(ctx context.Context, from *store.Store, target store.Config) (m Migrated, err error) {
	to, err := store.OpenRead(ctx, target)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	want, err := from.Sums(ctx)
	if err != nil {
		return m, err
	}
	got, err := to.Sums(ctx)
	if err != nil {
		return m, err
	}
	if len(got) != len(want) {
		return m, errDiffers("%d tables became %d", len(want), len(got))
	}
	for i, w := range want {
		if got[i] != w {
			return m, errDiffers("table %s has %d rows, its copy %d, or their contents differ", w.Table, w.Rows, got[i].Rows)
		}
		m.Tables, m.Rows = m.Tables+1, m.Rows+w.Rows
	}
	err = to.Read(ctx, func(t *store.Tx) error {
		m.Records, _, err = t.VerifyAudit()
		return err
	})
	return m, err
}

// switchOver makes the folder point at the database. A kill between its two
// steps leaves a folder that points there and a file that nobody opens.
func switchOver(cfg MigrateConfig, file, kept string) error {
	if err := cfg.To.keep(cfg.State); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := moveNew(file+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errCannotWrite(kept+suffix, err)
		}
	}
	return syncFolder(filepath.Dir(file))
}

func migrateCommand() *cobra.Command {
	cfg := MigrateConfig{Now: time.Now, Rand: rand.Reader}
	var from, to string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Move a stopped deployment's data from its file into a PostgreSQL database.", Args: cobra.NoArgs,
		Long: "Copies every table into an empty PostgreSQL database, compares count and hash of each, verifies the audit chains there, and makes the state folder point at it.\n" +
			"The server must be stopped. The old file is kept as store.db.migrated; the keys stay in the folder.",
		Example: "  sally server migrate --from sqlite --to postgres --state /var/lib/sallyport --database postgres://sallyport@db.corp.example/sallyport --database-password-file /etc/sallyport/database-password",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from != "sqlite" || to != "postgres" {
				return fault.New(fault.Invalid, "InvalidMigration", "data moves --from sqlite --to postgres, not from %q to %q", from, to).
					WithRemedy("The way back is a backup: sally server backup, and restore into a new folder.")
			}
			m, err := Migrate(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Moved %d tables with %d rows; counts and hashes agree, and %d audit records verify.\nThe old file is kept as %s.\n"+
				"Next: start the server as before (sally server run --state %s); the folder names the database. Remove the old file when a backup exists.\n", m.Tables, m.Rows, m.Records, m.Kept, cfg.State)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "sqlite", "Where the data is: sqlite.")
	f.StringVar(&to, "to", "postgres", "Where it goes: postgres.")
	f.StringVar(&cfg.State, "state", "", "Folder of the deployment.")
	cfg.To.flags(f)
	for _, name := range []string{"state", "database"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
	return cmd
}
