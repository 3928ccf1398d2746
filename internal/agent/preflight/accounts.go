package preflight

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport/internal/agent/shim"
	"sallyport/internal/guid"
)

// maxFile bounds a file that is read whole.
const maxFile = 64 << 20

func (h Host) read(path string) (string, error) {
	full := filepath.Join(h.Root, path)
	if info, err := os.Stat(full); err != nil || info.Size() > maxFile {
		return "", os.ErrNotExist
	}
	b, err := os.ReadFile(full)
	return string(b), err
}

// first and last bound the ids of directory accounts.
const (
	first uint64 = uint64(shim.IDMin)
	last  uint64 = 1<<31 - 1
)

func inRange(id uint64) bool { return id >= first && id <= last }

const idRange = "1879048192 to 2147483647"

// ids looks for our range in the host's own files.
func (h Host) ids() (list []error) {
	for _, path := range []string{"/etc/passwd", "/etc/group"} {
		for _, f := range h.lines(path, 3) {
			for i, field := range f[2:min(len(f), 4)] {
				id, err := strconv.ParseUint(field, 10, 64)
				if err == nil && inRange(id) && (i == 0 || path == "/etc/passwd") {
					list = append(list, refuse("IDInUse", "%s: %s has the id %d, and directory accounts have the ids %s", path, f[0], id, idRange).
						WithRemedy("Give it another id."))
					break
				}
			}
		}
	}
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
		for _, f := range h.lines(path, 3) {
			from, err := strconv.ParseUint(f[1], 10, 64)
			count, err2 := strconv.ParseUint(f[2], 10, 64)
			if err == nil && err2 == nil && count > 0 && from <= last && from+count > first {
				list = append(list, refuse("IDInUse", "%s gives %s the ids from %d on, and directory accounts have the ids %s", path, f[0], from, idRange).
					WithRemedy("Give it another range with usermod."))
			}
		}
	}
	return list
}

// lines are the records of a file of colons that have at least n fields.
func (h Host) lines(path string, n int) (out [][]string) {
	text, err := h.read(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) >= n && f[0] != "" {
			out = append(out, f)
		}
	}
	return out
}

// names looks for local users and groups with names of ours.
func (h Host) names(q Question) (list []error) {
	seen := map[string]bool{}
	for _, path := range []string{"/etc/passwd", "/etc/group"} {
		for _, f := range h.lines(path, 3) {
			name := f[0]
			reserved := name == shim.GroupUsers || name == shim.GroupAdmins || name == shim.GroupIdentity && path == "/etc/passwd"
			if seen[name] || !reserved && !guid.Valid(name) && !shim.Ours(name, q.Domains) {
				continue
			}
			seen[name] = true
			list = append(list, refuse("NameInUse", "%s has %s, which is a name of directory accounts", path, name).WithRemedy("Rename it."))
		}
	}
	return list
}

// idMap asks whether this user namespace has our range at all: a container that
// was given 65,536 ids cannot have directory accounts.
func (h Host) idMap() error {
	for _, path := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := h.read(path)
		if err != nil || strings.TrimSpace(text) == "" {
			continue
		}
		covered := false
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue
			}
			from, err := strconv.ParseUint(f[0], 10, 64)
			count, err2 := strconv.ParseUint(f[2], 10, 64)
			covered = covered || err == nil && err2 == nil && from <= first && from+count > uint64(shim.GIDIdentity)
		}
		if !covered {
			return refuse("IDsNotMapped", "this container was not given the ids %s, which directory accounts have", idRange).WithRemedy("Give its user namespace these ids, or join the host that it runs on.")
		}
	}
	return nil
}

// running looks for processes whose ids are in our range although no file knows
// them: a container's, say.
func (h Host) running() error {
	all, err := h.Processes()
	if err != nil {
		return nil
	}
	for _, p := range all {
		for _, uid := range p.UIDs {
			if inRange(uint64(uid)) {
				return refuse("IDInUse", "process %d (%s) runs as uid %d, and directory accounts have the uids %s", p.PID, p.Comm, uid, idRange).
					WithRemedy("End it, or give its container other ids.")
			}
		}
	}
	return nil
}

// sources asks every other source of users, through the host's own getent, for
// names of our domains and ids of our range.
func (h Host) sources(ctx context.Context, q Question) (list []error) {
	said := map[string]bool{}
	for _, database := range []string{"passwd", "group"} {
		for _, key := range probes(database, q.Domains) {
			out, err := h.Run(ctx, "getent", database, key)
			line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
			name, _, found := bytes.Cut(line, []byte(":"))
			if err != nil || !found || said[key] {
				continue
			}
			said[key] = true
			list = append(list, refuse("OtherSource", "another source of users answers for %s, which is of directory accounts here: %q", key, clip(string(name))).
				WithRemedy("Take that domain or range from it: /etc/nsswitch.conf names the sources, and sssd or winbind may be one."))
		}
	}
	return append(list, h.sssd(q.Domains)...)
}

// probes are keys that nobody but us may answer for.
func probes(database string, domains []string) (keys []string) {
	for _, d := range domains {
		keys = append(keys, "sallyport-probe@"+d)
		if database == "passwd" {
			keys = append(keys, "administrator@"+d, "root@"+d)
		}
	}
	const span = last - first
	for _, id := range []uint64{first, first + 1, first + span/4, first + span/2, uint64(shim.UIDMax)} {
		keys = append(keys, strconv.FormatUint(id, 10))
	}
	return keys
}

// sssd reads which domains it is responsible for: a probe finds only names that
// exist there.
func (h Host) sssd(domains []string) (list []error) {
	text, err := h.read("/etc/sssd/sssd.conf")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		section := strings.TrimSpace(line)
		name, ok := strings.CutPrefix(strings.ToLower(section), "[domain/")
		name, closed := strings.CutSuffix(name, "]")
		for _, d := range domains {
			if ok && closed && name == d {
				list = append(list, refuse("OtherSource", "sssd answers for the domain %s, which is the directory's", d).
					WithRemedy("Take [domain/%s] out of /etc/sssd/sssd.conf, or join a directory with another domain.", d))
			}
		}
	}
	return list
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return s
}
