package session

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/agent/proc"
)

// Who is asked after: a person whose processes were ended.
type Who struct {
	UID       uint32
	LoginName string
	// Since is when the oldest of the ended logins began.
	Since time.Time
	// Admin says that the person may have been root in the meantime.
	Admin bool
	// Others are logins that were not to be ended.
	Others []Origin
}

// Left says in words what a person may have running, or set to run, that ending
// processes did not reach. Where he was root, nobody can tell all of it; what
// the service manager was given while he was there is named.
func (e *Ender) Left(w Who) []string {
	var left []string
	if s, err := e.Look(); err == nil {
		n, managed := 0, false
		for _, p := range s.list {
			if (p.Has(w.UID) || p.LoginUID == w.UID) && !s.began(w.Others, p) {
				n++
				managed = managed || manager(p)
			}
		}
		if managed {
			left = append(left, fmt.Sprintf("%d processes of the person, a service manager (systemd --user) among them", n))
		} else if n > 0 {
			left = append(left, fmt.Sprintf("%d processes of the person", n))
		}
	}
	if n := e.jobs(w); n > 0 {
		left = append(left, fmt.Sprintf("%d at jobs of the person (each is asked about before it runs)", n))
	}
	if e.exists("var/spool/cron/crontabs/"+w.LoginName) || e.exists("var/spool/cron/"+w.LoginName) {
		left = append(left, "a crontab of the person (each run is asked about)")
	}
	if e.exists("var/lib/systemd/linger/" + w.LoginName) {
		left = append(left, "lingering is on for the person (each start of the service manager is asked about)")
	}
	if units := e.transient(w.Since); w.Admin && len(units) > 0 {
		left = append(left, "units that somebody gave the system's service manager since: "+strings.Join(units, " "))
	}
	return left
}

// manager reports whether a process is a service manager of a person.
func manager(p proc.Process) bool {
	return p.Comm == "systemd" && strings.Contains(p.Title, "--user")
}

// Managers are the service managers of a uid, as logins: their audit sessions are
// their own (pam_loginuid of systemd-user).
func (s Scene) Managers(uid uint32) []Origin {
	var list []Origin
	for _, p := range s.list {
		if manager(p) && p.Has(uid) && p.LoginUID == uid {
			list = append(list, Origin{PID: p.PID, Start: p.Start, Audit: p.Audit})
		}
	}
	return list
}

func (e *Ender) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(e.cfg.Root, path))
	return err == nil
}

// jobs counts at(1) jobs: regular files whose owner is the person.
func (e *Ender) jobs(w Who) int {
	n := 0
	for _, dir := range []string{"var/spool/cron/atjobs", "var/spool/at"} {
		files, _ := os.ReadDir(filepath.Join(e.cfg.Root, dir))
		for _, f := range files {
			if info, err := f.Info(); err == nil && info.Mode().IsRegular() && owner(info) == w.UID {
				n++
			}
		}
	}
	return n
}

func owner(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return proc.NoLogin
}

// maxUnits bounds what is named.
const maxUnits = 8

// transient lists units that systemd-run(1) and the like made since a moment;
// those of logind and of service managers are left out.
func (e *Ender) transient(since time.Time) []string {
	files, _ := os.ReadDir(filepath.Join(e.cfg.Root, "run/systemd/transient"))
	var units []string
	for _, f := range files {
		name := f.Name()
		ours := slices.ContainsFunc([]string{".service", ".scope", ".timer", ".path", ".socket"}, func(kind string) bool { return strings.HasSuffix(name, kind) }) && !strings.HasPrefix(name, "session-") && !strings.HasPrefix(name, "user")
		info, err := f.Info()
		if ours && err == nil && info.Mode().IsRegular() && !info.ModTime().Before(since) && len(units) < maxUnits {
			units = append(units, name)
		}
	}
	return units
}
