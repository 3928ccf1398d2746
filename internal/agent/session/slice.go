package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Holder stops everything that a person runs until it is released, whatever it
// forks. Slices satisfies it.
type Holder interface {
	// Hold reports whether there is a way to do so for this uid.
	Hold(uid uint32) (bool, error)
	// Held reports whether everything has stopped.
	Held(uid uint32) bool
	Release(uid uint32) error
}

// Slices are the control groups in which logind keeps what persons run:
// user.slice/user-UID.slice of the version 2 hierarchy, with all sessions of the
// person and his service manager below (systemd.special(7), user-UID.slice). The
// freezer is there since Linux 5.2. Nobody's processes are ended by it; who is not
// concerned stops for some milliseconds.
type Slices struct {
	// Folders are where the hierarchy may be mounted: /sys/fs/cgroup, and
	// /sys/fs/cgroup/unified where controllers are in version 1 (hybrid).
	Folders []string
	// Self is /proc/self/cgroup: who was started by hand in a person's session may
	// not stop himself.
	Self string
}

const (
	freezeFile = "cgroup.freeze"
	eventsFile = "cgroup.events"
)

func slice(uid uint32) string { return fmt.Sprintf("user-%d.slice", uid) }

// of returns the folder of a person's slice; "" where there is none that may be
// stopped.
func (s Slices) of(uid uint32) string {
	own, err := os.ReadFile(s.Self)
	if err != nil || strings.Contains(string(own), "/"+slice(uid)) {
		return ""
	}
	for _, folder := range s.Folders {
		dir := filepath.Join(folder, "user.slice", slice(uid))
		if info, err := os.Lstat(filepath.Join(dir, freezeFile)); err == nil && info.Mode().IsRegular() {
			return dir
		}
	}
	return ""
}

// Hold freezes the slice.
func (s Slices) Hold(uid uint32) (bool, error) {
	dir := s.of(uid)
	if dir == "" {
		return false, nil
	}
	return true, set(dir, "1")
}

// Held reads what the kernel says of the slice.
func (s Slices) Held(uid uint32) bool {
	b, err := os.ReadFile(filepath.Join(s.of(uid), eventsFile))
	return err == nil && strings.Contains("\n"+string(b), "\nfrozen 1\n")
}

// Release thaws the slice, wherever it is: what says who may be stopped is not asked
// again. One that has gone with its last process needs none.
func (s Slices) Release(uid uint32) error {
	var all error
	for _, folder := range s.Folders {
		all = errors.Join(all, set(filepath.Join(folder, "user.slice", slice(uid)), "0"))
	}
	return all
}

// ReleaseAll thaws the slices of a range of uids: a kill of the agent may have
// left one frozen.
func (s Slices) ReleaseAll(low, high uint32) error {
	var all error
	for _, folder := range s.Folders {
		found, _ := filepath.Glob(filepath.Join(folder, "user.slice", "user-*.slice", freezeFile))
		for _, file := range found {
			var uid uint32
			dir := filepath.Dir(file)
			if n, err := fmt.Sscanf(filepath.Base(dir), "user-%d.slice", &uid); n != 1 || err != nil || uid < low || uid > high || filepath.Base(dir) != slice(uid) {
				continue
			}
			if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == "1" {
				all = errors.Join(all, set(dir, "0"))
			}
		}
	}
	return all
}

func set(dir, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, freezeFile), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) { // it went between the two calls
		return nil
	}
	return err
}
