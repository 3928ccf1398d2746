package lab

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// groups is the control group below which nspawn machines have theirs: systemd
// divides it up among its services. It is held by a mount that is attached
// nowhere.
type groups struct {
	mu   sync.Mutex
	root *os.Root // the hierarchy's
	name string   // the lab's own group, which is there while a machine has one
}

// openGroups takes the group of a lab with this state directory, and removes
// what a killed one left in it: a group without processes does nothing and takes
// no part in anything, but it does not end by itself.
func openGroups(dir string) (*groups, error) {
	fd, err := mountGroups()
	if err != nil {
		return nil, fmt.Errorf("control groups (version 2): %w", err)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return nil, err
	}
	g := &groups{root: root, name: groupName(dir)}
	g.clear(g.name)
	return g, nil
}

// groupName is the group of the lab with this state directory.
func groupName(dir string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(dir))
	return fmt.Sprintf("sallyport-lab-%016x", sum.Sum64())
}

func mountGroups() (int, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// make makes a machine's group and gives it to the machine's root, in the way
// that the kernel's document on control groups calls delegation.
func (g *groups) make(id string) (*os.File, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := g.name + "/" + id
	g.clear(path)
	if err := g.root.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	for _, file := range []string{"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"} {
		if err := g.root.Chown(path+file, idBase, idBase); err != nil {
			return nil, err
		}
	}
	return g.root.Open(path)
}

// groupTime is how long a group may stay busy with processes that have ended.
const groupTime = 2 * time.Second

// remove removes a machine's group, and the lab's with the last.
func (g *groups) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clear(g.name + "/" + id)
	_ = g.root.Remove(g.name) // refused while others are in it
}

// clear removes a group with all below it. One that stays is removed when the
// lab is opened again.
func (g *groups) clear(path string) {
	var below []string
	_ = fs.WalkDir(g.root.FS(), path, func(at string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			below = append(below, at)
		}
		return nil
	})
	for i := len(below) - 1; i >= 0; i-- {
		for deadline := time.Now().Add(groupTime); ; time.Sleep(5 * time.Millisecond) {
			if err := g.root.Remove(below[i]); !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				break
			}
		}
	}
}
