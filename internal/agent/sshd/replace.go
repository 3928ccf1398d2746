package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
)

// Files beside the one that changes, while a change is under way. No program that
// reads a folder reads them: sshd's Include takes *.conf and sudo no name with a
// dot, and PAM opens services by name.
const (
	freshPrefix = ".sallyport-new." // the new text, whole and synced
	oldPrefix   = ".sallyport-old." // a second link to the file as it was
)

func beside(path, prefix string) string {
	return filepath.Join(filepath.Dir(path), prefix+filepath.Base(path))
}

// kill is an error of a test's Step: everything stays as a kill would leave it.
type killed struct{ error }

// step is where a kill, or a full disk, is tried by tests.
func (w *Wiring) step(name string) error {
	if w.cfg.Step == nil {
		return nil
	}
	if err := w.cfg.Step(name); err != nil {
		return killed{err}
	}
	return nil
}

// attributes are what a file has beside its content.
type attributes struct {
	Mode     fs.FileMode       `json:"mode"`
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Extended map[string][]byte `json:"extended,omitempty"` // xattr(7): labels and access lists too
}

// attributesOf reads them of a regular file.
func attributesOf(path string) (attributes, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return attributes{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return attributes{}, errNotRegular
	}
	a := attributes{Mode: info.Mode().Perm(), UID: int(st.Uid), GID: int(st.Gid)}
	a.Extended, err = extended(path)
	return a, err
}

var errNotRegular = errors.New("not a regular file")

// extended reads the extended attributes of a file. A file system without any has
// none.
func extended(path string) (map[string][]byte, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("extended attributes of %s: %w", path, err)
	}
	m := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "security.ima" || name == "security.evm" {
			continue // of the content, and the kernel's to write (ima(7))
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s of %s: %w", name, path, err)
		}
		m[name] = value[:n]
	}
	return m, nil
}

// set gives a new file its attributes. The mode comes last: a change of owner
// takes set-id bits away.
func (a attributes) set(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if int(st.Uid) != a.UID || int(st.Gid) != a.GID {
		if err := f.Chown(a.UID, a.GID); err != nil {
			return err
		}
	}
	for name, value := range a.Extended {
		if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return f.Chmod(a.Mode)
}

// stage writes the new text of a file beside it, with the attributes of the file
// that is there, else with those of the journal. Nothing is in force yet.
func (w *Wiring) stage(e entry, text string) error {
	if err := w.step("3 stage " + e.Path); err != nil {
		return err
	}
	path := w.at(e.Path)
	a, err := attributesOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		a, err = e.attributes, nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	fresh := beside(path, freshPrefix)
	if err := durable.Remove(fresh); err != nil {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = a.set(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", e.Path, err), durable.Remove(fresh))
	}
	return nil
}

// unstage removes what was staged and not switched.
func (w *Wiring) unstage(files []entry) error {
	var all error
	for _, e := range files {
		all = errors.Join(all, durable.Remove(beside(w.at(e.Path), freshPrefix)))
	}
	return all
}

// switchTo puts the staged text in force. The file as it was stays beside it under
// a second name, so that going back is a rename: it needs no room on the disk, and
// brings back the very file.
func (w *Wiring) switchTo(path string) error {
	if err := w.step("4 switch " + path); err != nil {
		return err
	}
	target := w.at(path)
	old := beside(target, oldPrefix)
	if err := durable.Remove(old); err != nil {
		return err
	}
	if err := os.Link(target, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(beside(target, freshPrefix), target); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(target))
}

// takeAway removes a file of ours in a way that putBack undoes.
func (w *Wiring) takeAway(path string) error {
	if err := w.step("4 remove " + path); err != nil {
		return err
	}
	return durable.Remove(w.at(path))
}

// putBack makes a file what it was before the change.
func (w *Wiring) putBack(e entry) error {
	if err := w.step("11 put back " + e.Path); err != nil {
		return err
	}
	target := w.at(e.Path)
	old := beside(target, oldPrefix)
	if _, err := os.Lstat(old); err == nil {
		if err := os.Rename(old, target); err != nil {
			return err
		}
		// A rename onto another link of the same file does nothing (rename(2)).
		return errors.Join(durable.Remove(old), durable.Remove(beside(target, freshPrefix)), durable.SyncFolder(filepath.Dir(target)))
	}
	if err := durable.Remove(beside(target, freshPrefix)); err != nil {
		return err
	}
	now, err := w.text(e.Path)
	switch {
	case e.Before == "" && err == nil && digest(now) == e.Written, e.Before == "" && errors.Is(err, fs.ErrNotExist):
		return durable.Remove(target)
	case e.Before == "" || err == nil && digest(now) == e.Before:
		return err // never switched
	}
	text, err := w.kept(e.Before)
	if err == nil {
		err = w.stage(e, text)
	}
	if err == nil {
		err = os.Rename(beside(target, freshPrefix), target)
	}
	return errors.Join(err, durable.SyncFolder(filepath.Dir(target)))
}

// sweep removes what a change left beside the files.
func (w *Wiring) sweep(files []entry) error {
	if err := w.step("9 sweep"); err != nil {
		return err
	}
	for _, e := range files {
		target := w.at(e.Path)
		if err := errors.Join(durable.Remove(beside(target, freshPrefix)), durable.Remove(beside(target, oldPrefix))); err != nil {
			return err
		}
	}
	return nil
}
