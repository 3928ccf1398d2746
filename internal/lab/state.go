package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

// Host numbers of machines in 10.77.0.0/24; 1 is the bridge.
const (
	firstHost = 2
	lastHost  = 254
)

// record is what survives a restart of the lab about one machine.
type record struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// System and Backend are what the machine is and what runs it. Labs before
	// there was a choice wrote neither: theirs are Debian 12 under netns.
	System  labwire.System  `json:"system,omitempty"`
	Backend labwire.Backend `json:"backend,omitempty"`
	// Host is the last byte of both addresses, kept for the machine's life.
	Host int `json:"host"`
	// Lower is what the machine was made on. An overlay whose lower layers are
	// exchanged is undefined (overlayfs documentation), so a machine keeps its own.
	Lower []string `json:"lower"`
	// Run says whether the machine shall run; Booted whether it ever did.
	Run    bool `json:"run"`
	Booted bool `json:"booted"`
}

func (r record) address() string { return fmt.Sprintf("10.77.0.%d", r.Host) }

// loopback is the machine's address on this computer, in its lab's octet.
func (r record) loopback(octet int) string { return fmt.Sprintf("127.77.%d.%d", octet, r.Host) }

// stored is the content of state.json.
type stored struct {
	Octet    int      `json:"octet"`
	Machines []record `json:"machines"`
}

// state is the lab's file state.json and the directory around it. It is not
// safe for concurrent use; Lab's lock covers it.
type state struct {
	dir     string
	lock    *os.File
	octet   int // of all loopback addresses; noOctet until claimOctet
	records map[string]record
}

// openState takes the directory for this process and reads it.
func openState(dir string) (*state, error) {
	if err := checkDirectory(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fault.Wrap(err, fault.Conflict, "LabRunning", "another lab uses the state directory %s", dir).WithRemedy("stop it, or give --state another directory"), lock.Close())
	}
	s := &state{dir: dir, lock: lock, octet: noOctet, records: map[string]record{}}
	err = s.load()
	if err == nil {
		err = s.sweep() // only with the records known
	}
	if err == nil {
		err = s.copyProgram()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// checkDirectory makes dir, or checks that only root can change it: machines'
// files hold set-user-id programs and secrets.
func checkDirectory(dir string) error {
	if !filepath.IsAbs(dir) || strings.ContainsAny(dir, ":,\\") {
		return fault.New(fault.Invalid, "InvalidDirectory", "the state directory %q must be an absolute path without ':', ',' and '\\'", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "machines"), 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fault.New(fault.Forbidden, "UnsafeDirectory", "the state directory %s must belong to root alone (mode 0700)", dir).WithRemedy("chown root %s && chmod 0700 %s", dir, dir)
	}
	return nil
}

func (s *state) file() string                     { return filepath.Join(s.dir, "state.json") }
func (s *state) machineDir(id string) string      { return filepath.Join(s.dir, "machines", id) }
func (s *state) in(id string, part string) string { return filepath.Join(s.machineDir(id), part) }

func (s *state) load() error {
	raw, err := os.ReadFile(s.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	content := stored{Octet: noOctet}
	if err := json.Unmarshal(raw, &content); err != nil {
		return fmt.Errorf("%s: %w", s.file(), err)
	}
	if content.Octet < 0 || content.Octet >= octets {
		return fmt.Errorf("%s: the octet is damaged", s.file())
	}
	s.octet = content.Octet
	for _, r := range content.Machines {
		if !labwire.ValidMachineID(r.ID) || !labwire.ValidName(r.Name) || r.Host < firstHost || r.Host > lastHost {
			return fmt.Errorf("%s: machine %q is damaged", s.file(), r.ID)
		}
		r.System, r.Backend = cmp.Or(r.System, labwire.SystemDebian12), cmp.Or(r.Backend, labwire.BackendNetns)
		s.records[r.ID] = r
	}
	return nil
}

// program is the lab's copy of its own program, which machines get mounted. A
// copy, because the file that was started may be replaced by the next build
// while the lab runs.
func (s *state) program() string { return filepath.Join(s.dir, "sally") }

func (s *state) copyProgram() error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(s.program()+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Chmod(0o755), to.Close()); err != nil {
		return err
	}
	return os.Rename(s.program()+".new", s.program())
}

// sweep removes the files of machines that a killed lab had not yet stored.
func (s *state) sweep() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "machines"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, known := s.records[e.Name()]; !known {
			if err := os.RemoveAll(s.machineDir(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// put stores r durably before it returns; remove forgets a machine likewise.
func (s *state) put(r record) error {
	old, had := s.records[r.ID]
	s.records[r.ID] = r
	err := s.save()
	if err != nil && had {
		s.records[r.ID] = old
	} else if err != nil {
		delete(s.records, r.ID)
	}
	return err
}

func (s *state) remove(id string) error {
	delete(s.records, id)
	return s.save()
}

func (s *state) list() []record {
	list := make([]record, 0, len(s.records))
	for _, r := range s.records {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (s *state) save() error {
	raw, err := json.MarshalIndent(stored{Octet: s.octet, Machines: s.list()}, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(s.file(), append(raw, '\n'))
}

// freeHost returns the lowest host number that no machine has.
func (s *state) freeHost() (int, error) {
	taken := map[int]bool{}
	for _, r := range s.records {
		taken[r.Host] = true
	}
	for host := firstHost; host <= lastHost; host++ {
		if !taken[host] {
			return host, nil
		}
	}
	return 0, fault.New(fault.Exhausted, "LabFull", "the lab holds %d machines, which is all that its network can address", lastHost-firstHost+1).WithRemedy("delete a machine first")
}

// writeDurably replaces path by a 0600 file; after a crash the old or the new
// content is there.
func writeDurably(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// close lets another lab use the directory.
func (s *state) close() error { return s.lock.Close() }
