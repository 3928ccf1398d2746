package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// rig is a machine whose package manager and agent are of paper.
type rig struct {
	t         *testing.T
	root      string
	by        string // the package manager
	other     string // another one that claims the program
	installed string // version of both packages; "" while the manager was interrupted
	silent    map[string]bool
	shut      map[string]bool
	unheard   map[string]bool
	refuse    map[string]bool // versions that are not installed
	now       time.Duration
	log       []string
	third     string          // somebody else installs this at the first trial
	half      map[string]bool // versions that are said to be installed, and are not whole
	deaf      bool            // systemd starts nothing
	cut       bool            // the manager was run with an end to it
	pid       string          // of what systemd runs as the root part
	stopped   bool            // the network part is
	blocked   string          // goes while the supervisor waits to try again
	foreign   string          // a manager that we do not know owns the program
	fixed     string          // a folder that is only read
	step      func(string)    // hears of the supervisor's steps
}

const (
	from = "1.0"
	to   = "2.0"
)

func newRig(t *testing.T) *rig { return newRigBy(t, byDpkg) }

func newRigBy(t *testing.T, by string) *rig {
	t.Helper()
	r := &rig{t: t, by: by, root: t.TempDir(), installed: from, silent: map[string]bool{}, shut: map[string]bool{}, unheard: map[string]bool{}, refuse: map[string]bool{}, half: map[string]bool{}, pid: fmt.Sprint(os.Getpid())}
	for _, dir := range []string{"/run/systemd/system", "/var/lib/dpkg", "/usr/bin", Folder, unitFolder} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) machine() *Machine {
	program := filepath.Join(r.root, "program")
	runs := filepath.Join(r.root, "/usr/bin/sally")
	if _, err := os.Lstat(runs); err != nil {
		r.lay("/usr/bin/sally", from)
	}
	if err := ignore(os.Symlink(runs, program), fs.ErrExist); err != nil {
		r.t.Fatal(err)
	}
	return New(Config{Root: r.root, Owner: uint32(os.Geteuid()), Build: from, Program: program, Run: r.run, Writable: r.writable, Log: func(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }})
}

func (r *rig) writable(dir string) error {
	if r.fixed != "" && dir == filepath.Join(r.root, r.fixed) {
		return unix.EROFS
	}
	return nil
}

func ignore(err, one error) error {
	if errors.Is(err, one) {
		return nil
	}
	return err
}

// run is dpkg, rpm and systemctl.
func (r *rig) run(ctx context.Context, argv ...string) ([]byte, error) {
	line := strings.Join(argv, " ")
	asked := byDpkg
	if argv[0] == "rpm" {
		asked = byRPM
	}
	no := errors.New("exit status 1")
	switch {
	case argv[0] == "systemctl":
		if r.deaf && argv[1] == "start" || r.stopped && argv[1] == "is-active" {
			return []byte("no"), no
		}
		if argv[1] == "restart" && r.by == byHand {
			r.installed = r.lies("/usr/bin/sally")
		}
		return []byte(r.pid + "\n"), nil
	case argv[0] == r.foreign:
		return []byte("sally-git\n"), nil
	case argv[0] == "systemd-sysusers":
		return nil, nil
	case asked != r.by && asked != r.other:
		return []byte("no path found"), no
	case strings.HasPrefix(line, "dpkg-query -S "):
		return []byte("a warning\nsallyport: " + argv[2] + "\n"), nil
	case strings.HasPrefix(line, "rpm -qf "):
		return []byte("warning: x\n= sallyport\n"), nil
	case strings.Contains(line, "${Architecture}"), strings.Contains(line, "%{ARCH}"):
		return []byte("warning: x\n= " + runtime.GOARCH + "\n"), nil
	case strings.HasPrefix(line, "dpkg-query -W "), strings.HasPrefix(line, "rpm -q "):
		return []byte("warning: x\n" + r.versions()), nil
	case strings.HasPrefix(line, "rpm --eval "):
		return []byte("= /var/lib/rpm/.rpm.lock\n"), nil
	case strings.HasPrefix(line, "rpm -qpl "):
		return []byte("warning: x\n/usr/bin/sally\n"), nil
	case strings.Contains(line, " dpkg "), strings.HasPrefix(line, "rpm -U "):
		return r.install(ctx, argv)
	}
	return nil, fmt.Errorf("nobody knows %q", line)
}

// versions is what the manager has.
func (r *rig) versions() string {
	if r.by == byDpkg {
		if r.installed == "" {
			return "= iU 2.0-1\n= ii 1.0-1\n"
		}
		return strings.Repeat("= ii "+r.installed+"-1\n", 2)
	}
	if r.installed == "" {
		return "= 1.0-1\n= 2.0-1\n= 1.0-1\n"
	}
	return strings.Repeat("= "+r.installed+"-1\n", 2)
}

func (r *rig) install(ctx context.Context, argv []string) ([]byte, error) {
	r.cut = r.cut || ctx.Err() != nil
	content, err := os.ReadFile(argv[len(argv)-1])
	if err != nil {
		return nil, err
	}
	version := strings.Fields(string(content))[1]
	if r.by == byRPM && version == from && !slices.Contains(argv, "--oldpackage") {
		return []byte("which is newer is already installed"), errors.New("exit status 2")
	}
	if left, _ := filepath.Glob(filepath.Join(r.root, "/usr/bin/sally;????????")); r.by == byRPM && len(left) > 0 {
		return []byte("open failed"), errors.New("exit status 2")
	}
	r.installed = ""
	if r.refuse[version] {
		return []byte("dependency problems"), errors.New("exit status 1")
	}
	if r.installed = version; r.half[version] {
		r.installed = ""
	}
	return nil, nil
}

// Ask is the agent that is installed.
func (r *rig) Ask(_ context.Context, q control.Request) (control.Answer, error) {
	if r.third != "" {
		r.installed, r.third = r.third, ""
		if r.by == byHand {
			r.lay("/usr/bin/sally", r.installed)
		}
	}
	switch {
	case r.installed == "" || r.silent[r.installed]:
		return control.Answer{}, errors.New("nobody listens")
	case q.Op == control.OpTrial:
		return control.Answer{Trial: &control.Trial{Version: r.installed, Reported: !r.unheard[r.installed]}}, nil
	case q.Op == control.OpSelfTest && r.shut[r.installed]:
		return control.Answer{}, fault.New(fault.Conflict, "SelfTest", "nobody gets in")
	}
	return control.Answer{}, nil
}

// packages are the two of a version, staged.
func (r *rig) packages(version string) (list []protocol.ReleasePackage) {
	m := r.machine()
	for _, name := range []string{basePackage, agentPackage} {
		content := []byte(name + " " + version)
		if r.by == byHand {
			content = debOf(r.t, name, version)
		}
		sum := sha256.Sum256(content)
		p := protocol.ReleasePackage{Format: map[string]string{byDpkg: "deb", byRPM: "rpm", byHand: "deb"}[r.by], Name: name, Architecture: runtime.GOARCH, File: name + "_" + version + ".deb", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
		if _, whole := m.Have(p); !whole {
			if err := m.Append(p, 0, content[:5]); err != nil {
				r.t.Fatal(err)
			}
			if err := m.Append(p, 5, content[5:]); err != nil {
				r.t.Fatal(err)
			}
		}
		list = append(list, p)
	}
	return list
}

func (r *rig) begin() {
	j := Journal{ID: "0aaaaaaa-0000-4000-8000-000000000001", From: from, To: to, Wait: 60, Wired: true, Capability: 5, Manager: r.by, New: r.packages(to), Old: r.packages(from)}
	j, err := r.machine().Prepared(j)
	if err == nil {
		err = r.machine().Begin(context.Background(), j)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// supervise runs the supervisor; kill, where not 0, ends it at that step.
func (r *rig) supervise(kill int) (steps int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := Supervisor{Machine: r.machine(), Agent: r, Elapsed: func() time.Duration { return r.now }, Wait: func(_ context.Context, d time.Duration) {
		if r.blocked != "" {
			_ = os.RemoveAll(r.blocked)
		}
		if r.now += d; r.now > 2*lockWait { // a way back that is none is tried for ever
			cancel()
		}
	}}
	s.Step = func(name string) error {
		if r.step != nil {
			r.step(name)
		}
		if steps++; steps == kill {
			cancel()
			return errors.New("killed")
		}
		return nil
	}
	err = s.Run(ctx)
	return steps, err
}

func (r *rig) end() Journal {
	r.t.Helper()
	j, found, err := r.machine().Journal()
	if err != nil || !found {
		r.t.Fatalf("no journal: %v", err)
	}
	return j
}
