package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/proc"
	"sallyport/internal/machine/protocol"
)

// Login is one login that this machine let in.
type Login struct {
	Origin
	ID            string        `json:"id"` // GUID
	ObjectID      string        `json:"objectId"`
	LoginName     string        `json:"login"`
	UID           uint32        `json:"uid"`
	Since         time.Time     `json:"since"`
	Opened        time.Duration `json:"opened"` // the same by the boot clock
	From          string        `json:"from,omitempty"`
	Service       string        `json:"service"` // of PAM; "" for one that was found and not let in by this agent
	Serial        string        `json:"serial,omitempty"`
	KeyID         string        `json:"keyId,omitempty"`
	Issued        time.Time     `json:"issued"` // of the certificate; zero: the certificate is not known
	CorrelationID string        `json:"correlationId"`
	Admin         bool          `json:"admin,omitempty"` // may have become root
	number        uint64        // of those that this process noted; 0: another one did
}

// Open is a login that has processes.
type Open struct {
	Login
	Kind      protocol.SessionKind
	TTY       string
	Elevated  int // processes that run as somebody else
	Processes int
}

// Session is the open login as it is reported.
func (o Open) Session() protocol.Session {
	return protocol.Session{ID: o.ID, ObjectID: o.ObjectID, LoginName: o.LoginName, UID: o.UID, Since: o.Since.UTC(), From: o.From, Service: o.Service, Kind: o.Kind, TTY: o.TTY,
		Elevated: o.Elevated, Serial: o.Serial, KeyID: o.KeyID, CorrelationID: o.CorrelationID}
}

// Register is the logins of this boot. It is safe for concurrent use.
type Register struct {
	path string
	boot string

	mu     sync.Mutex
	logins []Login
	noted  uint64 // how many were added
	stays  map[uint32]Stay
	seen   map[string]time.Duration // audit sessions that no login is known of, and since when
}

// kept is the register's file. Processes do not outlive a boot, so it is of one,
// and a write is not synced: what a loss of power takes away has ended with it.
type kept struct {
	Boot   string          `json:"boot"`
	Logins []Login         `json:"logins"`
	Stays  map[uint32]Stay `json:"stays"`
}

// Stay is what is known of all logins of a person in this boot, ended ones too.
type Stay struct {
	Since time.Time `json:"since"` // of the first
	Admin bool      `json:"admin,omitempty"`
}

const (
	// maxLogins bounds memory. What is forgotten, the oldest first, is found again
	// in the process table, without its certificate.
	maxLogins = 4096
	maxFile   = 16 << 20
	// adoptAfter is how long a login that nobody told of is watched before it is
	// taken for one that began without this agent, and not for one whose opening
	// is under way: PAM waits 3 s for an answer.
	adoptAfter = 10 * time.Second
)

// OpenRegister reads the register of this boot. One that cannot be read, or is of
// another boot, is empty: what runs is found again.
func OpenRegister(path string, owner uint32, boot string) (*Register, error) {
	r := &Register{path: path, boot: boot, stays: map[uint32]Stay{}, seen: map[string]time.Duration{}}
	b, err := durable.Read(path, owner, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var k kept
	if err == nil {
		err = protocol.Decode(b, &k)
	}
	if err != nil {
		return r, fmt.Errorf("the register of sessions is begun anew: %w", err)
	}
	if k.Boot == boot {
		r.logins = k.Logins
		maps.Copy(r.stays, k.Stays)
	}
	return r, nil
}

// Add notes a login. It counts from now on, also when the file could not be
// written: a full disk keeps nobody out.
func (r *Register) Add(l Login) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins = slices.DeleteFunc(r.logins, func(old Login) bool { return l.replaces(old) })
	r.noted++
	l.number = r.noted
	r.logins = append(r.logins, l)
	r.logins = r.logins[max(0, len(r.logins)-maxLogins):]
	r.stay(l)
	return r.save()
}

// replaces reports whether a login that is known has to go for this one. One whose
// process id is used again is still open where its audit session has processes:
// without its certificate they would outlive the certificate's revocation.
func (l Login) replaces(old Login) bool {
	if old.PID == l.PID && (old.Start == l.Start || old.Audit == "") {
		return true
	}
	return l.Audit != "" && old.Audit == l.Audit
}

// stay notes a login of a person.
func (r *Register) stay(l Login) {
	s, known := r.stays[l.UID]
	if !known && len(r.stays) >= maxLogins {
		return // then only the logins that are open tell
	}
	if !known || l.Since.Before(s.Since) {
		s.Since = l.Since
	}
	s.Admin = s.Admin || l.Admin
	r.stays[l.UID] = s
}

// Stay returns what is known of a person in this boot.
func (r *Register) Stay(uid uint32) (Stay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.stays[uid]
	return s, ok
}

// Stays lists the uids that had a login in this boot.
func (r *Register) Stays() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.stays))
}

// Remove forgets a login that was not let in after all.
func (r *Register) Remove(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins = slices.DeleteFunc(r.logins, func(l Login) bool { return l.ID == id })
	return r.save()
}

// Noted is the number of the login that was noted last.
func (r *Register) Noted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noted
}

// Since lists the logins of a uid that were noted after the one of that number.
func (r *Register) Since(uid uint32, number uint64) []Origin {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Origin
	if r.noted == number {
		return nil // it is asked for each process
	}
	for _, l := range r.logins {
		if l.UID == uid && l.number > number {
			list = append(list, l.Origin)
		}
	}
	return list
}

// Find returns the login that a process opened; the zero Login is none.
func (r *Register) Find(p proc.Process) Login {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.logins {
		if l.PID == p.PID && l.Start == p.Start {
			return l
		}
	}
	return Login{}
}

func (r *Register) save() error {
	b, err := json.Marshal(kept{Boot: r.boot, Logins: r.logins, Stays: r.stays})
	if err != nil {
		return err
	}
	fresh := r.path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return os.Rename(fresh, r.path)
}

// Sight is what an Update needs beside the process table.
type Sight struct {
	Low, High uint32 // our uids
	Now       time.Time
	Elapsed   time.Duration // of the boot clock, before the process table was read
	// Person says whose a uid is; NewID makes a GUID.
	Person func(uid uint32) (objectID, login string, ok bool)
	NewID  func() (string, error)
}

// Update forgets logins without processes, takes in what runs without a login
// that is known, and returns what is open, oldest first. A login that was noted
// while the process table was read may be missing there: the next look judges it.
func (r *Register) Update(s Scene, at Sight) ([]Open, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	adopted, err := r.adopt(s, at)
	var open []Open
	var stay []Login
	for _, l := range slices.Concat(r.logins, adopted) {
		// A login that is being let in has no login uid yet on a kernel without
		// audit sessions, but its process is there.
		o := s.describe(l)
		if o.Processes > 0 {
			open = append(open, o)
		}
		if o.Processes > 0 || l.Opened > at.Elapsed {
			stay = append(stay, l)
		}
	}
	for _, l := range adopted {
		r.stay(l)
	}
	if len(adopted) == 0 && len(stay) == len(r.logins) {
		return open, err
	}
	r.logins = stay
	return open, errors.Join(err, r.save())
}

// adopt makes logins of audit sessions of ours that nobody told of: an agent
// before this one let them in, or the console, cron or a service manager did.
// Which certificate opened them is not known.
func (r *Register) adopt(s Scene, at Sight) ([]Login, error) {
	first := map[string]proc.Process{}
	for _, p := range s.list {
		if p.Audit == "" || p.LoginUID < at.Low || p.LoginUID > at.High || slices.ContainsFunc(r.logins, func(l Login) bool { return l.Audit == p.Audit }) {
			continue
		}
		if f, ok := first[p.Audit]; !ok || p.Start < f.Start || p.Start == f.Start && p.PID < f.PID {
			first[p.Audit] = p
		}
	}
	for audit := range r.seen {
		if _, ok := first[audit]; !ok {
			delete(r.seen, audit)
		}
	}
	var list []Login
	for audit, p := range first {
		since, ok := r.seen[audit]
		if !ok {
			r.seen[audit] = at.Elapsed
			continue
		}
		objectID, login, known := at.Person(p.LoginUID)
		if !known || at.Elapsed-since < adoptAfter {
			continue
		}
		id, err := at.NewID()
		if err != nil {
			return list, err
		}
		age := max(at.Elapsed-time.Duration(p.Start)*(time.Second/ticks), 0)
		list = append(list, Login{Origin: Origin{PID: p.PID, Start: p.Start, Audit: audit}, ID: id, ObjectID: objectID, LoginName: login, UID: p.LoginUID,
			Since: at.Now.Add(-age), Opened: at.Elapsed - age, Service: service(p), Admin: true})
	}
	slices.SortFunc(list, func(a, b Login) int { return a.PID - b.PID })
	return list, nil
}

// ticks is the unit of start times, USER_HZ, which is 100 on every Linux.
const ticks = 100

// service guesses what opened a login that was found.
func service(p proc.Process) string {
	switch {
	case p.SSHD():
		return "sshd"
	case manager(p):
		return "systemd-user"
	}
	return ""
}

// describe looks at a login's processes.
func (s Scene) describe(l Login) Open {
	o := Open{Login: l, Kind: protocol.SessionBackground}
	uid := [4]uint32{l.UID, l.UID, l.UID, l.UID}
	monitor, shown, sftp, exec := false, "", false, false
	for _, p := range s.list {
		if !s.of(l.Origin, p) {
			continue
		}
		o.Processes++
		switch {
		case p.SSHD() && p.Privileged():
			monitor = true
		case p.SSHD():
			_, shown, _ = strings.Cut(p.Title[strings.LastIndex(p.Title, " ")+1:], l.LoginName+"@")
		case p.Comm == "sftp-server":
			sftp = true
		default:
			exec = true
		}
		if p.UIDs != uid && !p.SSHD() {
			o.Elevated++
		}
	}
	switch {
	case l.Service != "sshd":
		o.Kind = protocol.SessionLocal
	case !monitor:
	case strings.HasPrefix(shown, "pts/"):
		o.Kind, o.TTY = protocol.SessionPTY, clean(shown)
	case sftp || shown == "internal-sftp":
		o.Kind = protocol.SessionSFTP
	case exec:
		o.Kind = protocol.SessionExec
	default:
		o.Kind = protocol.SessionForward
	}
	return o
}

// clean makes a process's own words fit for a report.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), 256)]
}
