package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

// pending is a new file that appears under its name when it is whole and on
// stable storage, and not before. Until then it is NAME.partial, which the next
// try takes over: what is cut off never bears the name of a backup. A nil one is
// a file that nobody asked for.
type pending struct {
	*os.File
	path string
}

func newPending(path string) (*pending, error) {
	if path == "" {
		return nil, nil
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		return nil, fault.Wrap(err, fault.Conflict, "FileExists", "%s exists already; a backup never replaces a file", path).WithRemedy("Give another name, for example with the date in it.")
	}
	f, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "CannotWrite", "cannot write %s: %v", path+".partial", errors.Unwrap(err))
	}
	p := &pending{File: f, path: path}
	if err := p.own(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// own takes over what an earlier try left, unless it is somebody else's or
// another process is at it.
func (p *pending) own() error {
	if err := syscall.Flock(int(p.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits
		return fault.Wrap(err, fault.Conflict, "CannotWrite", "another process is writing %s", p.Name())
	}
	info, err := p.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || int(st.Uid) != os.Geteuid() {
		return fault.New(fault.Forbidden, "CannotWrite", "%s is not a file of uid %d", p.Name(), os.Geteuid())
	}
	return errors.Join(p.Chmod(0o600), p.Truncate(0))
}

// commit puts the file under its name. It replaces nothing.
func (p *pending) commit() error {
	if p == nil {
		return nil
	}
	err := errors.Join(p.Sync(), p.Close())
	if err == nil {
		err = moveNew(p.Name(), p.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(p.path))
	}
	if err != nil {
		return errCannotWrite(p.path, err)
	}
	return nil
}

// discard removes what was written. After commit it does nothing.
func (p *pending) discard() {
	if p != nil && p.Close() == nil {
		_ = os.Remove(p.Name())
	}
}

func errCannotWrite(path string, err error) error {
	text := "cannot write " + path
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text += ": " + errno.Error()
	}
	return fault.Wrap(err, fault.Unavailable, "CannotWrite", "%s", text).WithRemedy("Nothing was left under that name. Free space on the disk, or choose another, and try again.")
}

// moveNew renames where nothing has the new name.
func moveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without the flag
		if _, statErr := os.Lstat(to); !os.IsNotExist(statErr) {
			return fmt.Errorf("%s: %w", to, os.ErrExist)
		}
		err = os.Rename(from, to)
	}
	return err
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
