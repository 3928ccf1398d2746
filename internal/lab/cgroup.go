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

// groups is the control group below which machines have theirs: nspawn machines
// one of the common hierarchy, which systemd divides up among its services, and
// all of them those of their limits. They are held by mounts that are attached
// nowhere.
type groups struct {
	mu     sync.Mutex
	root   *os.Root // the common hierarchy's
	name   string   // the lab's own group, which is there while a machine has one
	limits []limit  // all that this computer offers
	why    error    // why there are not more
}

// openGroups takes the group of a lab with this state directory, and removes
// what a killed one left in it: a group without processes does nothing and takes
// no part in anything, but it does not end by itself.
func openGroups(dir string) (*groups, error) {
	fd, err := mountHierarchy("cgroup2", "")
	if err != nil {
		return nil, fmt.Errorf("control groups (version 2): %w", err)
	}
	root, err := rootOf(fd)
	if err != nil {
		return nil, err
	}
	g := &groups{root: root, name: groupName(dir)}
	g.limits, g.why = openLimits(root)
	g.clear(g.name)
	return g, nil
}

// groupName is the group of the lab with this state directory.
func groupName(dir string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(dir))
	return fmt.Sprintf("sallyport-lab-%016x", sum.Sum64())
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

// remove removes a machine's groups, and the lab's with the last.
func (g *groups) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clear(g.name + "/" + id)
	for _, root := range g.roots() {
		_ = root.Remove(g.name) // refused while others are in it
	}
}

// roots are the hierarchies that machines have groups in.
func (g *groups) roots() []*os.Root {
	roots := []*os.Root{g.root}
	for _, l := range g.limits {
		if l.root != g.root {
			roots = append(roots, l.root)
		}
	}
	return roots
}

// clear removes a group with all below it, in each hierarchy. One that stays is
// removed when the lab is opened again.
func (g *groups) clear(path string) {
	for _, root := range g.roots() {
		clearBelow(root, path)
	}
}

func clearBelow(root *os.Root, path string) {
	var below []string
	_ = fs.WalkDir(root.FS(), path, func(at string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			below = append(below, at)
		}
		return nil
	})
	for i := len(below) - 1; i >= 0; i-- {
		for deadline := time.Now().Add(groupTime); ; time.Sleep(5 * time.Millisecond) {
			if err := root.Remove(below[i]); !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				break
			}
		}
	}
}
