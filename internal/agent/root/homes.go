package root

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/names"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// homes lists the names that belong to somebody here, and who claims them now.
func (s *Service) homes() []control.Home {
	people := s.now().people
	var list []control.Home
	for name, e := range s.names.All() {
		h := control.Home{Name: name, ObjectID: e.ObjectID}
		if p := people[name]; p != nil && p.ObjectID != e.ObjectID {
			h.Claimant = p.ObjectID
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b control.Home) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// claim finds a name that belongs to one object and is claimed by another.
func (s *Service) claim(name string) (names.Entry, *protocol.Principal, error) {
	e, kept := s.names.Owner(name)
	p := s.now().people[name]
	switch {
	case p == nil:
		return e, nil, fault.New(fault.NotFound, "NameUnknown", "nobody in the directory has the login name %s", name)
	case !kept:
		e = names.Entry{UID: ^uint32(0)} // a folder that was there before us
	case e.ObjectID == p.ObjectID:
		return e, nil, fault.New(fault.Conflict, "NameUnclaimed", "the home of %s belongs to the account that has the name; there is nothing to decide", name)
	}
	return e, p, nil
}

// archive moves the old home away, with its owner, and gives the name to who
// has it now. The folder of homes is root's, so the rename is safe.
func (s *Service) archive(name string) (string, error) {
	_, p, err := s.claim(name)
	if err != nil {
		return "", err
	}
	from := s.at(homeFolder + "/" + name)
	to := homeFolder + "/" + name + ".archived-" + s.cfg.Now().UTC().Format("20060102T150405Z")
	err = os.Rename(from, s.at(to))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		to = ""
	case err != nil:
		return "", fault.Wrap(err, fault.Unavailable, "HomeNotMoved", "the home of %s could not be moved", name)
	}
	return to, s.names.HandOver(name, p.ObjectID, p.UID)
}

// adopt gives the old home's files to who has the name now. Only files of the
// old owner change hands: a hard link to somebody else's file does not.
func (s *Service) adopt(name string) error {
	e, p, err := s.claim(name)
	if err != nil {
		return err
	}
	root, err := unix.Open(s.at(homeFolder+"/"+name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fault.Wrap(err, fault.Unavailable, "HomeNotAdopted", "the home of %s could not be opened", name)
	}
	if err == nil {
		from := e.UID
		var st unix.Stat_t
		if from == ^uint32(0) && unix.Fstat(root, &st) == nil {
			from = st.Uid
		}
		err = chownTree(root, from, p.UID, 0)
		if err = errors.Join(err, unix.Close(root)); err != nil {
			return fault.Wrap(err, fault.Unavailable, "HomeNotAdopted", "the home of %s could not be handed over completely", name).WithRemedy("Correct the cause and run the command again.")
		}
	}
	return s.names.HandOver(name, p.ObjectID, p.UID)
}

const maxDepth = 200

// chownTree walks by file descriptor and follows no link, so that a tree which
// changes under it cannot lead it elsewhere.
func chownTree(dir int, from, to uint32, depth int) error {
	if from == 0 || depth > maxDepth {
		return errors.New("refusing to hand over files of root, or a tree this deep")
	}
	again, err := unix.Dup(dir)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(again), "home")
	entries, err := f.Readdirnames(-1)
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := handOver(dir, name, from, to, depth); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || st.Uid != from {
		return err
	}
	return unix.Fchown(dir, int(to), int(to))
}

// handOver gives one entry away. It is looked at and changed through one
// descriptor: nobody can put another file under its name in between.
func handOver(dir int, name string, from, to uint32, depth int) (err error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		sub, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(chownTree(sub, from, to, depth+1), unix.Close(sub))
	}
	if st.Uid != from || st.Nlink > 1 {
		return nil
	}
	return unix.Fchownat(fd, "", int(to), int(to), unix.AT_EMPTY_PATH)
}
