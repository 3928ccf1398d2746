package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"sallyport/internal/fault"

	driver "modernc.org/sqlite" // pure Go: it keeps the binary free of cgo
)

// sqlite is one file of one process.
func sqlite() dialect {
	return dialect{
		readers: 4, begin: "BEGIN IMMEDIATE", read: "BEGIN", readOnly: "PRAGMA query_only = 1",
		tables: `SELECT m.name, c.name, c.pk FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.cid`,
		place:  func(cfg Config) string { return cfg.Path },
		connect: func(cfg Config) (*sql.DB, error) {
			// What means something in a URI stands for itself in a path.
			db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(cfg.Path)+
				"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
			if err != nil {
				return nil, fmt.Errorf("open store: %w", err)
			}
			return db, nil
		},
		reserve: reserveFile, discard: discardFile, own: ownFile,
		check: func(context.Context, *conn) error { return nil },
		script: func(ctx context.Context, c *conn, text string) error {
			_, err := c.raw.ExecContext(ctx, text)
			return err
		},
		commit: func(ctx context.Context, c *conn) error { return c.do(ctx, "COMMIT") },
		again:  func(error) bool { return false }, broken: func(*conn) bool { return false },
	}
}

// unusableFile says that SQLite finds no store in the file, or no room beside it: its
// manual's result codes SQLITE_CORRUPT and SQLITE_NOTADB, SQLITE_FULL and
// SQLITE_IOERR_SHMSIZE. The last one's text says nothing of a disk that is full.
func unusableFile(err error, place string) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch code := e.Code(); {
	case code&0xff == 11, code&0xff == 26:
		return fault.Wrap(err, fault.Conflict, "StoreDamaged", "%s is damaged, or is no store", place).
			WithRemedy("Put the folder away as it is, and restore the newest backup into a new one: sally server restore")
	case code&0xff == 13, code == 4874:
		return fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot open the deployment in %s: its disk is full (%v)", place, err).
			WithRemedy("Make room there, then start the server again.")
	}
	return nil
}

func reserveFile(cfg Config) error {
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errExists(err, cfg.Path)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "StoreNotCreated", "cannot create %s", cfg.Path)
	}
	return f.Close()
}

func discardFile(cfg Config) {
	for _, f := range []string{cfg.Path, cfg.Path + "-wal", cfg.Path + "-shm", cfg.Path + lockSuffix} {
		_ = os.Remove(f)
	}
}

// ownFile holds the file to its owner and locks it for a writer.
func ownFile(cfg Config, writer bool) (io.Closer, error) {
	info, err := os.Lstat(cfg.Path)
	if err != nil {
		return nil, fault.Wrap(err, fault.NotFound, "StoreNotFound", "there is no deployment at %s", cfg.Path).
			WithRemedy("Make one with: sally server init")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || writer && info.Mode().Perm()&0o600 != 0o600 || int(st.Uid) != os.Geteuid() {
		return nil, fault.New(fault.Forbidden, "StoreNotPrivate", "%s must be a regular file of uid %d with mode 0600", cfg.Path, os.Geteuid())
	}
	if !writer {
		return nil, nil
	}
	return lockFile(cfg.Path)
}

// lockSuffix is of the file whose lock says that the store is open to write.
// SQLite's own locks are of one moment; two servers on one file would each
// continue the same audit chain.
const lockSuffix = ".lock"

func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "StoreNotOpened", "cannot lock the deployment at %s: %v", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits
		return nil, errors.Join(fault.Wrap(err, fault.Conflict, "StoreInUse", "another process serves the deployment at %s", path).
			WithRemedy("Stop that server first."), f.Close())
	}
	return fileLock{f}, nil
}

// fileLock is unlocked before it is closed: a program that this process is just
// starting has a copy of the descriptor for a moment, and would keep the lock.
type fileLock struct{ *os.File }

// Close unlocks and closes.
func (l fileLock) Close() error {
	return errors.Join(syscall.Flock(int(l.Fd()), syscall.LOCK_UN), l.File.Close()) //nolint:gosec // a descriptor fits
}
