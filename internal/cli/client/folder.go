package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

const (
	profileFile = "profile.json"
	tokensFile  = "tokens.json"
	lockWait    = 50 * time.Millisecond
	lockTries   = 1200 // a minute: longer than any refresh may take
)

// Folder is a person's configuration folder. Readers take no lock: files are
// replaced whole. Writers hold a lock file, so that two commands at the same
// time neither lose a change nor use a refresh token twice.
type Folder struct {
	dir  string
	wait func(context.Context, time.Duration) error
}

// OpenFolder makes the folder, mode 0700, where it is missing, and refuses one
// that belongs to somebody else: whoever owns it could choose whom we trust.
func OpenFolder(dir string, wait func(context.Context, time.Duration) error) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return nil, fault.New(fault.Forbidden, "ConfigFolder", "the configuration folder %s belongs to another user", dir).
			WithRemedy("Set SALLY_CONFIG_DIR to a folder of your own.")
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x bit
			return nil, unwritable(dir, err)
		}
	}
	return &Folder{dir: dir, wait: wait}, nil
}

func unwritable(path string, err error) error {
	reason := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		reason = pe.Err
	}
	return fault.Wrap(err, fault.Forbidden, "ConfigFolder", "cannot write %s: %v", path, reason).
		WithRemedy("Make the folder writable, or set SALLY_CONFIG_DIR to one that is.")
}

// load reads a JSON file into v; a file that does not exist leaves v as it is.
func (f *Folder) load(name string, v any) error {
	path := filepath.Join(f.dir, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unwritable(path, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.Wrap(err, fault.Invalid, "ConfigFile", "%s is damaged: %v", path, err).
			WithRemedy("Remove the file and run: sally login")
	}
	return nil
}

// save replaces a file whole, mode 0600.
func (f *Folder) save(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(f.dir, name), append(data, '\n'), 0o600)
}

// WriteFile writes data beside path and renames it into place: a reader sees
// the old file or the new one, and a kill leaves one of them.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return unwritable(path, err)
	}
	_, err = t.Write(data)
	if e := t.Chmod(mode); err == nil {
		err = e
	}
	if e := t.Sync(); err == nil {
		err = e
	}
	if e := t.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
		return unwritable(path, err)
	}
	return nil
}

// lock takes the named lock and returns what releases it. The kernel drops the
// lock of a process that dies.
func (f *Folder) lock(ctx context.Context, name string) (func(), error) {
	path := filepath.Join(f.dir, name+".lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, unwritable(path, err)
	}
	for range lockTries {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		if wait := f.wait(ctx, lockWait); errors.Is(wait, context.DeadlineExceeded) {
			break
		} else if wait != nil {
			_ = file.Close()
			return nil, wait
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "ConfigLocked", "another sally command holds %s", path).
			WithRemedy("Wait for it to end, then try again.")
	}
	return func() { _ = file.Close() }, nil
}

// Profile reads the profile as it is now.
func (f *Folder) Profile() (Profile, error) {
	var p Profile
	if err := f.load(profileFile, &p); err != nil {
		return Profile{}, err
	}
	return p, nil
}

// UpdateProfile reads, changes and writes the profile under its lock.
func (f *Folder) UpdateProfile(ctx context.Context, change func(*Profile) error) error {
	unlock, err := f.lock(ctx, "profile")
	if err != nil {
		return err
	}
	defer unlock()
	p, err := f.Profile()
	if err != nil {
		return err
	}
	if err := change(&p); err != nil {
		return err
	}
	if err := f.save(profileFile, p); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}

// updateTokens does the same for the token cache; change says whether it
// changed anything.
func (f *Folder) updateTokens(ctx context.Context, change func(*tokenCache) (bool, error)) error {
	unlock, err := f.lock(ctx, "tokens")
	if err != nil {
		return err
	}
	defer unlock()
	var c tokenCache
	if err := f.load(tokensFile, &c); err != nil {
		return err
	}
	changed, err := change(&c)
	if changed {
		if e := f.save(tokensFile, c); err == nil {
			err = e
		}
	}
	return err
}
