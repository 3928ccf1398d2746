package upgrade

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

// byHand is the way of an agent whose files no package manager knows: they are taken
// out of the same signed Debian packages.
const byHand = "hand"

func hand() manager { return manager{name: byHand, format: "deb"} }

// part is a file that the agent consists of.
type part struct {
	member string   // pattern of its name in a Debian package
	places []string // patterns of folders in which it may lie on a machine
	must   bool     // be there, as its version has it; others may be missing, or be somebody's own
}

// parts is everything that an upgrade by hand ever replaces.
func parts() []part {
	libraries := []string{"/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*", "/usr/lib64", "/lib64", "/usr/lib", "/lib"}
	var modules []string
	for _, dir := range libraries {
		modules = append(modules, dir+"/security")
	}
	units := []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"}
	return []part{
		{"usr/bin/sally", []string{"/usr/bin"}, true},
		{"usr/libexec/sallyport-principals", []string{"/usr/libexec"}, true},
		{"lib/*-linux-gnu/libnss_sallyport.so.2", libraries, true},
		{"lib/*-linux-gnu/security/pam_sallyport.so", modules, true},
		{"usr/lib/sallyport/unwire", []string{"/usr/lib/sallyport"}, false},
		{"usr/lib/systemd/system/sallyport-agent-root.service", units, false},
		{"usr/lib/systemd/system/sallyport-agent.service", units, false},
		{"usr/lib/sysusers.d/sallyport-agent.conf", []string{"/usr/lib/sysusers.d", "/etc/sysusers.d"}, false},
	}
}

// File is one of them on this machine, in both versions.
type File struct {
	Path   string `json:"path"`
	Member string `json:"member"` // its name in the packages
	Old    string `json:"old"`    // SHA-256, hexadecimal
	New    string `json:"new"`
}

// byHandHere refuses where files may not be replaced behind somebody's back, or what
// is replaced would not be what runs: a package manager that upgrades do not go
// through has the program, it lies elsewhere, or the units do not run it.
func (m *Machine) byHandHere(ctx context.Context, path string) (manager, error) {
	for _, asked := range [][]string{{"pacman", "-Qoq"}, {"apk", "info", "--who-owns"}, {"xbps-query", "-o"}, {"qfile", "-q"}} {
		if out, err := m.cfg.Run(ctx, append(asked, path)...); err == nil && len(out) > 0 {
			return manager{}, refusedHere("%s says that %s is its own: %s", asked[0], path, reason("%s", out)).WithRemedy("Upgrade the agent with it.")
		}
	}
	pid, err := m.cfg.Run(ctx, "systemctl", "show", "-P", "MainPID", "sallyport-agent-root.service")
	if err == nil && strings.TrimSpace(string(pid)) == strconv.Itoa(os.Getpid()) && path == m.at("/usr/bin/sally") {
		_, err = m.cfg.Run(ctx, "systemctl", "is-active", "--quiet", "sallyport-agent.service")
		if err == nil {
			return hand(), nil
		}
	}
	return manager{}, refusedHere("%s was brought here neither by dpkg nor by rpm, and is not what sallyport-agent-root.service and sallyport-agent.service run from /usr/bin/sally", path).
		WithRemedy("Put the files of sallyport and sallyport-agent of the new version in the place of the present ones, and start both parts anew.")
}

// Prepared adds to a journal what has to be known of this machine before an upgrade
// begins, when the packages of both versions are here; or it refuses.
func (m *Machine) Prepared(j Journal) (Journal, error) {
	if j.Manager != byHand {
		return j, nil
	}
	var err error
	j.Files, err = m.found(j)
	return j, err
}

// found lists the agent's files on this machine, with what both versions have in
// their place. Those that have to be of the version that runs are, or it refuses.
func (m *Machine) found(j Journal) ([]File, error) {
	old, err := m.sums(j.Old)
	if err != nil {
		return nil, err
	}
	fresh, err := m.sums(j.New)
	if err != nil {
		return nil, err
	}
	var list []File
	for _, p := range parts() {
		member, sum, err := only(old, p.member, j.From)
		if err != nil {
			return nil, err
		}
		if fresh[member] == "" {
			return nil, refusedHere("version %s has no %s: it cannot be put in the place of this one", j.To, member)
		}
		n := 0
		for _, path := range m.places(p) {
			now, err := m.sum(path)
			switch {
			case errors.Is(err, fs.ErrNotExist), (err != nil || now != sum) && !p.must:
				continue
			case err != nil:
				return nil, err
			case now != sum:
				return nil, refusedHere("%s is not the file of version %s, which runs: there would be no way back to it", path, j.From).WithRemedy("Put that version's own in its place, or upgrade by hand.")
			}
			n++
			list = append(list, File{Path: path, Member: member, Old: sum, New: fresh[member]})
		}
		if p.must && n == 0 {
			return nil, refusedHere("%s is in none of the folders %s", filepath.Base(member), strings.Join(p.places, ", ")).WithRemedy("Upgrade the agent by hand.")
		}
	}
	return list, nil
}

// only is the one member that a pattern is about.
func only(sums map[string]string, pattern, version string) (member, sum string, err error) {
	for name, s := range sums {
		if ok, _ := path.Match(pattern, name); ok {
			if member != "" {
				return "", "", refusedHere("version %s has both %s and %s", version, member, name)
			}
			member, sum = name, s
		}
	}
	if member == "" {
		return "", "", refusedHere("version %s has no %s: it cannot be put in the place of this one", version, pattern)
	}
	return member, sum, nil
}

// places are the paths at which a part may lie, each folder once.
func (m *Machine) places(p part) (list []string) {
	seen := map[string]bool{}
	for _, pattern := range p.places {
		dirs, _ := filepath.Glob(m.at(pattern)) // the pattern is ours
		for _, dir := range dirs {
			if real, err := filepath.EvalSymlinks(dir); err == nil && !seen[real] {
				seen[real] = true
				list = append(list, strings.TrimPrefix(filepath.Join(real, path.Base(p.member)), strings.TrimSuffix(m.cfg.Root, "/")))
			}
		}
	}
	return list
}

// sum hashes a file of this machine.
func (m *Machine) sum(path string) (string, error) {
	f, err := os.OpenFile(m.at(path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return "", refusedHere("%s is a link, and not the file of any version", path).WithRemedy("Put the file in its place, or upgrade by hand.")
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hashed(f)
}

func hashed(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), err
}

// sums hashes what is in packages, by name.
func (m *Machine) sums(list []protocol.ReleasePackage) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range list {
		if err := m.members(p, func(name string, r io.Reader) error {
			sum, err := hashed(r)
			if out[name] != "" {
				return fmt.Errorf("%s has %s twice", p.File, name)
			}
			out[name] = sum
			return err
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxUnpacked bounds what is read of one package.
const maxUnpacked = 1 << 30

// members hands over the regular files of a Debian package (deb(5), ar(5)), after
// it has been held to its release.
func (m *Machine) members(p protocol.ReleasePackage, each func(name string, r io.Reader) error) error {
	path := m.staging(p)
	if err := m.verify(path, p); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := section(f, "data.tar.gz"); err != nil {
		return fmt.Errorf("%s: %w", p.File, err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", p.File, err)
	}
	z.Multistream(false) // behind it may be a byte that fills up
	for t := tar.NewReader(io.LimitReader(z, maxUnpacked)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && h.Typeflag == tar.TypeReg {
			err = each(strings.TrimPrefix(h.Name, "./"), t)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.File, err)
		}
	}
}

// section moves to the beginning of a member of an ar archive.
func section(f io.ReadSeeker, name string) error {
	head := make([]byte, 8)
	if _, err := io.ReadFull(f, head); err != nil || string(head) != "!<arch>\n" {
		return errors.New("it is no ar archive")
	}
	for head = make([]byte, 60); ; {
		if _, err := io.ReadFull(f, head); err != nil || string(head[58:]) != "`\n" {
			return fmt.Errorf("it has no %s", name)
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(head[48:58]), " "), 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("it has no %s", name)
		}
		if strings.TrimRight(string(head[:16]), " /") == name {
			return nil
		}
		if _, err := f.Seek(size+size%2, io.SeekCurrent); err != nil {
			return err
		}
	}
}

// laid is the version that all files are of; another word where one is of neither,
// and an error where some are of one and some of the other.
func (m *Machine) laid(j Journal) (string, error) {
	old, fresh := true, true
	for _, f := range j.Files {
		sum, err := m.sum(f.Path)
		if err != nil {
			return "", err
		}
		if sum != f.Old && sum != f.New {
			return "a third one's " + f.Path, nil
		}
		old, fresh = old && sum == f.Old, fresh && sum == f.New
	}
	switch {
	case len(j.Files) > 0 && fresh:
		return j.To + revision, nil
	case len(j.Files) > 0 && old:
		return j.From + revision, nil
	}
	return "", errors.New("the files are of two versions")
}

// beside is the name under which a file waits until all are there.
func beside(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".sallyport-upgrade")
}

// lay puts the files of one version in the place of the other's: all beside first,
// where a full disk is met, then each by a rename, the program last. What is there
// already stays. It may be repeated after a kill at any point.
func (s *Supervisor) lay(ctx context.Context, j Journal, back bool) error {
	m := s.Machine
	list, goal := j.New, func(f File) string { return f.New }
	if back {
		list, goal = j.Old, func(f File) string { return f.Old }
	}
	want := map[string][]string{}
	var order []string
	for _, f := range j.Files {
		if now, err := m.sum(f.Path); err != nil || now != goal(f) {
			want[f.Member] = append(want[f.Member], f.Path)
			order = append(order, f.Path)
		}
	}
	slices.Reverse(order) // parts begins with the program
	for _, p := range list {
		if err := m.members(p, func(name string, r io.Reader) error { return m.stage(want[name], r) }); err != nil {
			return errors.Join(err, m.unstage(j)) // on a full disk the journal needs the room
		}
	}
	for _, f := range j.Files {
		if sum, err := m.sum(beside(f.Path)); slices.Contains(order, f.Path) && (err != nil || sum != goal(f)) {
			return errors.Join(fmt.Errorf("%s is not what it was when the upgrade began", f.Member), err)
		}
	}
	for _, path := range order {
		if err := s.at("file " + path); err != nil {
			return err
		}
		if err := errors.Join(os.Rename(m.at(beside(path)), m.at(path)), durable.SyncFolder(m.at(filepath.Dir(path)))); err != nil {
			return err
		}
	}
	if out, err := m.cfg.Run(ctx, "systemd-sysusers", "sallyport-agent.conf"); err != nil {
		m.cfg.Log("systemd-sysusers: %v: %s", err, tail(string(out)))
	}
	s.restart(ctx)
	return nil
}

// label gives a file another one's SELinux label, where there are labels; else it has
// its folder's, and in /var systemd may not start it.
func label(from string, f *os.File) {
	value := make([]byte, 1024)
	if n, err := unix.Getxattr(from, "security.selinux", value); err == nil {
		_ = unix.Fsetxattr(int(f.Fd()), "security.selinux", value[:n], 0)
	}
}

// unstage removes what waits beside the files of an upgrade by hand.
func (m *Machine) unstage(j Journal) (err error) {
	for _, f := range j.Files {
		err = errors.Join(err, durable.Remove(m.at(beside(f.Path))))
	}
	return err
}

// stage writes a file beside each of the paths, with mode and label of what it takes
// the place of.
func (m *Machine) stage(paths []string, r io.Reader) error {
	if len(paths) == 0 {
		return nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for _, path := range paths {
		mode := fs.FileMode(0o644)
		if info, err := os.Lstat(m.at(path)); err == nil && info.Mode().IsRegular() { // a link's is 0777
			mode = info.Mode().Perm()
		} else if filepath.Ext(path) == "" {
			mode = 0o755
		}
		f, err := os.OpenFile(m.at(beside(path)), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
		if err != nil {
			return err
		}
		label(m.at(path), f)
		_, err = f.Write(data)
		if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
