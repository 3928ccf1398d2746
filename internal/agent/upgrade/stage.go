package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// partial is behind the name of a file that is not whole yet.
const partial = ".part"

// staged names a file by what is in it.
func staged(p protocol.ReleasePackage) string { return p.SHA256 + "." + p.Format }

// Have says how much of a file is here, and whether it is all of it, verified.
func (m *Machine) Have(p protocol.ReleasePackage) (size int64, whole bool) {
	path := filepath.Join(m.at(stageFolder), staged(p))
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == p.Size {
		return p.Size, true
	}
	if info, err := os.Lstat(path + partial); err == nil && info.Mode().IsRegular() && info.Size() < p.Size {
		return info.Size(), false
	}
	return 0, false
}

// Append adds bytes of a file that a signed release names. They come from somebody
// who is not trusted: never more than the release says is written, nothing is
// looked at before all of it is there, and what then has another hash goes.
func (m *Machine) Append(p protocol.ReleasePackage, offset int64, data []byte) error {
	if err := errors.Join(durable.Folder(m.at(Folder), 0o700), durable.Folder(m.at(stageFolder), 0o700)); err != nil {
		return err
	}
	have, whole := m.Have(p)
	if whole || offset != have || len(data) == 0 || int64(len(data)) > p.Size-have {
		return fault.New(fault.Conflict, "PartMisplaced", "the part at %d of %s does not continue what is here", offset, p.File)
	}
	path := filepath.Join(m.at(stageFolder), staged(p))
	flags := os.O_WRONLY | os.O_CREATE | unix.O_NOFOLLOW
	if offset == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path+partial, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, offset)
	if err == nil && offset+int64(len(data)) == p.Size {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || offset+int64(len(data)) < p.Size {
		return err
	}
	if err := m.verify(path+partial, p); err != nil {
		return errors.Join(err, os.Remove(path+partial))
	}
	if err := os.Rename(path+partial, path); err != nil {
		return err
	}
	return durable.SyncFolder(m.at(stageFolder))
}

// verify holds a file to what its release says.
func (m *Machine) verify(path string, p protocol.ReleasePackage) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || st.Uid != m.cfg.Owner || info.Mode().Perm()&0o022 != 0 || info.Size() != p.Size {
		return fmt.Errorf("%s is not the file that was kept", path)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return fault.New(fault.Forbidden, "DocumentRefused", "%s is not the file that the signed release names", p.File)
	}
	return nil
}

// Room refuses where the file systems have too little for both builds.
func (m *Machine) Room(packages []protocol.ReleasePackage) error {
	need := int64(spare)
	for _, p := range packages {
		need += unpacked * p.Size
	}
	for _, path := range []string{"/usr", filepath.Dir(Folder)} {
		var st unix.Statfs_t
		if err := unix.Statfs(m.at(path), &st); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		if free := int64(st.Bavail) * st.Bsize; free < need { //nolint:gosec // blocks of a file system
			return fault.New(fault.Precondition, "DiskFull", "%s has %d MiB left, and an upgrade wants %d MiB", path, free>>20, need>>20)
		}
	}
	return nil
}

// What an upgrade wants of a disk: unpacked times the packages, and something to
// spare.
const (
	unpacked = 3
	spare    = 64 << 20
)
