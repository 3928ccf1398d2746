package lab

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bound what one machine may take of this computer.
type Limits struct {
	Tasks  int // processes and threads
	Memory int // MiB, with the pages of its files and of its tmpfs
}

// defaultLimits let 200 people log in at once, and keep a machine that forks
// without end from the computer.
var (
	defaultLimits = Limits{Tasks: 4096, Memory: 4096}
	leastLimits   = Limits{Tasks: 64, Memory: 64}
)

func (l Limits) orDefault() Limits {
	return Limits{Tasks: cmp.Or(l.Tasks, defaultLimits.Tasks), Memory: cmp.Or(l.Memory, defaultLimits.Memory)}
}

// limit is one controller in the hierarchy that this computer has it in: the
// common one (version 2), or one of its own (version 1).
type limit struct {
	root  *os.Root
	name  string // of the controller, where groups have to be given it; "" in a hierarchy of its own
	file  string
	value func(Limits) int
}

func tasksOf(l Limits) int  { return l.Tasks }
func memoryOf(l Limits) int { return l.Memory << 20 }

// openLimits finds the controllers that limits need.
func openLimits(common *os.Root) ([]limit, error) {
	var list []limit
	for _, c := range []struct {
		name, file, old string
		value           func(Limits) int
	}{{"pids", "pids.max", "pids.max", tasksOf}, {"memory", "memory.max", "memory.limit_in_bytes", memoryOf}} {
		offered, err := common.ReadFile("cgroup.controllers")
		if err != nil {
			return list, err
		}
		if slices.Contains(strings.Fields(string(offered)), c.name) {
			list = append(list, limit{common, c.name, c.file, c.value})
			continue
		}
		fd, err := mountHierarchy("cgroup", c.name)
		if err != nil {
			return list, fmt.Errorf("controller %s: %w", c.name, err)
		}
		own, err := rootOf(fd)
		if err != nil {
			return list, err
		}
		list = append(list, limit{own, "", c.old, c.value})
	}
	return list, nil
}

// enable gives a controller to the lab's group and the groups in it.
func enable(common *os.Root, group, controller string) error {
	for _, at := range []string{"", group + "/"} {
		file := at + "cgroup.subtree_control"
		has, err := common.ReadFile(file)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Fields(string(has)), controller) {
			continue
		}
		if err := put(common, file, "+"+controller); err != nil {
			return err
		}
	}
	return nil
}

// mountHierarchy mounts a hierarchy of control groups where nobody sees it; one
// of version 1 by its controller.
func mountHierarchy(kind, controller string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }()
	if controller != "" {
		if err := unix.FsconfigSetFlag(fs, controller); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// rootOf opens what a mount's descriptor holds, and closes the descriptor.
func rootOf(fd int) (*os.Root, error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	return root, errors.Join(err, unix.Close(fd))
}

func put(root *os.Root, file, text string) error {
	f, err := root.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// confine puts a machine's first process, which waits, under the machine's
// limits. What it starts inherits them. The files of the limits belong to this
// computer's root, also where the machine's root has the group.
func (g *groups) confine(id string, pid int, limits Limits) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	path := g.name + "/" + id
	for _, l := range g.limits {
		if err := l.root.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if l.name != "" {
			if err := enable(l.root, g.name, l.name); err != nil {
				return fmt.Errorf("controller %s: %w", l.name, err)
			}
		}
		if err := put(l.root, path+"/"+l.file, strconv.Itoa(l.value(limits))); err != nil {
			return err
		}
		if err := put(l.root, path+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// confine is groups.confine for a machine that was spawned. A computer whose
// control groups cannot be had runs machines of netns without limits, and the
// lab says so.
func (l *Lab) confine(r record, pid int) error {
	groups, err := l.groups()
	if err == nil && len(groups.limits) == controllers {
		err = groups.confine(r.ID, pid, l.cfg.Limits.orDefault())
		if err != nil {
			return fmt.Errorf("limit the machine: %w", err)
		}
		return nil
	}
	if err == nil {
		err = groups.why
	}
	l.cfg.Log.Warn("the machine has no limits on its processes and memory", "machine", r.ID, "error", err)
	return nil
}

// controllers is how many openLimits finds.
const controllers = 2
