package session

import (
	"slices"

	"sallyport/internal/agent/proc"
)

// Origin is where a login begins: the process in which PAM opened it, and the
// audit session that pam_loginuid(8) began there, which every process below
// inherits and no unprivileged one can leave.
type Origin struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`           // of that process, so that its id cannot mean another
	Audit string `json:"audit,omitempty"` // "" where the kernel keeps none
}

// Scene is the process table at one moment, without the processes that no login
// owns.
type Scene struct {
	list  []proc.Process
	byPID map[int]proc.Process // all of them
}

func scene(all []proc.Process, spared func(proc.Process) bool) Scene {
	s := Scene{byPID: make(map[int]proc.Process, len(all))}
	for _, p := range all {
		s.byPID[p.PID] = p
		if !spared(p) {
			s.list = append(s.list, p)
		}
	}
	return s
}

// maxDepth ends the walk up a process tree that changes while it is read.
const maxDepth = 256

// of reports whether a process was begun by a login. Without audit sessions only
// the process tree tells, which a detached child has left.
func (s Scene) of(o Origin, p proc.Process) bool {
	if o.Audit != "" {
		return p.Audit == o.Audit
	}
	for range maxDepth {
		if p.PID == o.PID {
			return p.Start == o.Start
		}
		up, ok := s.byPID[p.PPID]
		if !ok {
			return false
		}
		p = up
	}
	return false
}

func (s Scene) began(origins []Origin, p proc.Process) bool {
	return slices.ContainsFunc(origins, func(o Origin) bool { return s.of(o, p) })
}

// Present lists the uids in a range that have a process or a login here.
func (s Scene) Present(low, high uint32) []uint32 {
	var uids []uint32
	for _, p := range s.list {
		for _, u := range append(p.UIDs[:], p.LoginUID) {
			if u >= low && u <= high && !slices.Contains(uids, u) {
				uids = append(uids, u)
			}
		}
	}
	slices.Sort(uids)
	return uids
}

// taken is a process of the target with that index.
type taken struct {
	proc.Process
	target int
}

func (s Scene) find(targets []Target) []taken {
	var found []taken
	for _, p := range s.list {
		if i := slices.IndexFunc(targets, func(t Target) bool { return t.takes(s, p) }); i >= 0 {
			found = append(found, taken{p, i})
		}
	}
	return found
}
