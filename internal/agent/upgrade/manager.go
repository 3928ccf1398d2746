package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sallyport/internal/machine/protocol"
)

// manager is a package manager by which the agent may have come to a machine.
type manager struct {
	name   string
	format string // of its packages, in a release
	// owner prints what owned makes of the path that is put behind it, where that path
	// is basePackage's.
	owner []string
	owned func(path string) string
	// query prints a format, for each of the packages behind it. What begins each
	// line in the format is that a warning is no answer.
	query          []string
	version, whole string // format; what is before the version of a package that is installed whole
	architecture   string // format
	// install and back take the files behind them, whatever of both versions is
	// installed: one of them, both, or half of one. That is what a kill leaves.
	install, back []string
	front         string // a lock under which nobody else begins to install; "" for none
	// lock is what a manager at work holds; lockAt prints it where it is configured.
	lock   string
	lockAt []string
	// contents lists the files of packages, behind whose names a killed manager
	// leaves others; nil for one that does not.
	contents []string
	mend     string // what people do when a package is not installed whole
}

// answer begins what was asked for.
const answer = "= "

// The managers' names, in journals too.
const (
	byDpkg = "dpkg"
	byRPM  = "rpm"
)

// managers are those that can go both ways. rpm compares signatures of its own,
// which our packages do not have: what vouches for them is the release. It syncs
// nothing unless it is told to; the journal must not say that files are there which
// a loss of power takes away. It goes back only if nobody asks what needs what: the
// packages were installed a moment ago.
func managers() []manager {
	debian := []string{"env", "DEBIAN_FRONTEND=noninteractive", "DPKG_FRONTEND_LOCKED=1", "dpkg", "--force-confold", "--force-confdef", "-i"}
	red := []string{"rpm", "-U", "--replacepkgs", "--nosignature", "--define", "_flush_io 1"}
	return []manager{{
		name: byDpkg, format: "deb",
		owner: []string{"dpkg-query", "-S"}, owned: func(path string) string { return basePackage + ": " + path },
		query: []string{"dpkg-query", "-W", "-f"}, version: answer + "${db:Status-Abbrev}${Version}\n", whole: "ii ", architecture: answer + "${Architecture}\n",
		install: debian, back: debian,
		front: "/var/lib/dpkg/lock-frontend", lock: "/var/lib/dpkg/lock",
		mend: "dpkg --configure -a && apt-get -f install",
	}, {
		name: byRPM, format: "rpm",
		owner: []string{"rpm", "-qf", "--qf", answer + "%{NAME}\n"}, owned: func(string) string { return answer + basePackage },
		query: []string{"rpm", "-q", "--qf"}, version: answer + "%{VERSION}-%{RELEASE}\n", architecture: answer + "%{ARCH}\n",
		install: red, back: append(slices.Clip(red), "--oldpackage", "--nodeps"),
		lockAt:   []string{"rpm", "--eval", answer + "%{_rpmlock_path}"},
		contents: []string{"rpm", "-qpl", "--nosignature"},
		mend:     "rpm -U --replacepkgs sallyport-VERSION.rpm sallyport-agent-VERSION.rpm",
	}}
}

// managerOf is the one that a journal is about; the builds that wrote none down knew
// one.
func managerOf(j Journal) (manager, error) {
	for _, by := range append(managers(), hand()) {
		if by.name == j.Manager || j.Manager == "" && by.name == byDpkg {
			return by, nil
		}
	}
	return manager{}, fmt.Errorf("%w: the journal says %q", errDamaged, j.Manager)
}

// answers are the lines that were asked for, of all that a program said.
func answers(out []byte) (list []string) {
	for line := range strings.SplitSeq(string(out), "\n") {
		if text, ok := strings.CutPrefix(line, answer); ok {
			list = append(list, strings.TrimSpace(text))
		}
	}
	return list
}

// owner finds out who brought the program that runs: each manager is asked, and
// exactly one has to claim it.
func (m *Machine) owner(ctx context.Context) (manager, error) {
	path, err := os.Readlink(m.cfg.Program)
	if err != nil {
		return manager{}, err
	}
	path = strings.TrimSuffix(path, " (deleted)") // proc(5): replaced since it was started
	var found []manager
	for _, by := range managers() {
		out, err := m.cfg.Run(ctx, append(slices.Clip(by.owner), path)...)
		if err == nil && slices.Contains(strings.Split(string(out), "\n"), by.owned(path)) {
			found = append(found, by)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return m.byHandHere(ctx, path)
	}
	return manager{}, refusedHere("both dpkg and rpm say that %s is theirs", path).WithRemedy("Take the packages sallyport and sallyport-agent out of one of them, without their files.")
}

// installed is the version of both packages, as their manager knows it; by hand, of
// the files.
func (m *Machine) installed(ctx context.Context, by manager, j Journal) (string, error) {
	if by.name == byHand {
		return m.laid(j)
	}
	out, err := m.cfg.Run(ctx, append(slices.Clip(by.query), by.version, basePackage, agentPackage)...)
	versions := answers(out)
	if err != nil || len(versions) != 2 || versions[0] != versions[1] || !strings.HasPrefix(versions[0], by.whole) {
		return "", refusedHere("%s does not have the packages of the agent whole, and of one version: %s", by.name, reason("%s", out)).WithRemedy("Run: %s", by.mend)
	}
	return strings.TrimPrefix(versions[0], by.whole), nil
}

// Packages picks those of a release that are for this machine.
func (m *Machine) Packages(ctx context.Context, by string, d protocol.ReleaseDocument) ([]protocol.ReleasePackage, error) {
	way, err := managerOf(Journal{Manager: by})
	if err != nil {
		return nil, err
	}
	out, said := []byte(nil), []string{runtime.GOARCH} // as Debian calls it
	if way.name != byHand {
		out, err = m.cfg.Run(ctx, append(slices.Clip(way.query), way.architecture, basePackage)...)
		said = answers(out)
	}
	if err != nil || len(said) != 1 {
		return nil, fmt.Errorf("%s: %w: %s", way.name, errors.Join(err, errorIf(len(said) != 1, "no architecture")), tail(string(out)))
	}
	var list []protocol.ReleasePackage
	for _, name := range []string{basePackage, agentPackage} {
		for _, p := range d.Packages {
			if p.Format == way.format && p.Name == name && p.Architecture == said[0] {
				list = append(list, p)
			}
		}
	}
	if len(list) != 2 {
		return nil, refusedHere("the server has no %s packages of version %s for %s", way.format, d.Version, said[0])
	}
	return list, nil
}

// tidy removes what a killed manager has left of the packages of an upgrade: files
// beside those that it was to replace, under names that stand in the way of one that
// begins within the same second (rpm's own form: a semicolon and eight digits).
func (m *Machine) tidy(ctx context.Context, by manager, j Journal) error {
	if by.contents == nil {
		return nil
	}
	argv := slices.Clone(by.contents)
	for _, p := range slices.Concat(j.New, j.Old) {
		if path := m.staging(p); m.verify(path, p) == nil {
			argv = append(argv, path)
		}
	}
	out, err := m.cfg.Run(ctx, argv...)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", by.name, err, tail(string(out)))
	}
	names := map[string][]string{}
	for path := range strings.SplitSeq(string(out), "\n") {
		if path = strings.TrimSpace(path); filepath.IsAbs(path) && filepath.Clean(path) == path {
			names[filepath.Dir(path)] = append(names[filepath.Dir(path)], filepath.Base(path))
		}
	}
	for dir, files := range names {
		list, err := os.ReadDir(m.at(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range list {
			name, digits, left := strings.Cut(e.Name(), ";")
			if left && len(digits) == 8 && strings.Trim(digits, "0123456789abcdef") == "" && e.Type().IsRegular() && slices.Contains(files, name) {
				err = errors.Join(err, os.Remove(filepath.Join(m.at(dir), e.Name())))
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
