package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// rig is a machine whose package manager and agent are of paper.
type rig struct {
	t         *testing.T
	root      string
	installed string // version of both packages; "" while dpkg was interrupted
	silent    map[string]bool
	shut      map[string]bool
	unheard   map[string]bool
	refuse    map[string]bool // versions that dpkg does not install
	now       time.Duration
	log       []string
	third     string // somebody else installs this at the first trial
	deaf      bool   // systemd starts nothing
	cut       bool   // dpkg was run with an end to it
}

const (
	from = "1.0"
	to   = "2.0"
)

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, root: t.TempDir(), installed: from, silent: map[string]bool{}, shut: map[string]bool{}, unheard: map[string]bool{}, refuse: map[string]bool{}}
	for _, dir := range []string{"/run/systemd/system", "/var/lib/dpkg", "/usr", Folder, unitFolder} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) machine() *Machine {
	program := filepath.Join(r.root, "program")
	if err := os.WriteFile(program, []byte("the program that runs"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	return New(Config{Root: r.root, Owner: uint32(os.Geteuid()), Build: from, Program: program, Run: r.run, Log: func(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }})
}

func (r *rig) run(ctx context.Context, argv ...string) ([]byte, error) {
	line := strings.Join(argv, " ")
	switch {
	case argv[0] == "dpkg-query":
		status := "ii  " + r.installed + "-1\n"
		if r.installed == "" {
			status = "iU  2.0-1\n"
		}
		return []byte(strings.ReplaceAll(status, "ii  ", "ii ") + strings.ReplaceAll(status, "ii  ", "ii ")), nil
	case line == "dpkg --print-architecture":
		return []byte("amd64\n"), nil
	case r.deaf && strings.HasPrefix(line, "systemctl start "):
		return []byte("no"), errors.New("exit status 1")
	case strings.Contains(line, " dpkg "):
		r.cut = r.cut || ctx.Err() != nil
		content, err := os.ReadFile(argv[len(argv)-1])
		if err != nil {
			return nil, err
		}
		version := strings.Fields(string(content))[1]
		r.installed = ""
		if r.refuse[version] {
			return []byte("dependency problems"), errors.New("exit status 1")
		}
		r.installed = version
	}
	return nil, nil
}

// Ask is the agent that is installed.
func (r *rig) Ask(_ context.Context, q control.Request) (control.Answer, error) {
	if r.third != "" {
		r.installed, r.third = r.third, ""
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
		sum := sha256.Sum256(content)
		p := protocol.ReleasePackage{Format: "deb", Name: name, Architecture: "amd64", File: name + "_" + version + ".deb", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
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
	j := Journal{ID: "0aaaaaaa-0000-4000-8000-000000000001", From: from, To: to, Wait: 60, Wired: true, Capability: 5, New: r.packages(to), Old: r.packages(from)}
	if err := r.machine().Begin(context.Background(), j); err != nil {
		r.t.Fatal(err)
	}
}

// supervise runs the supervisor; kill, where not 0, ends it at that step.
func (r *rig) supervise(kill int) (steps int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := Supervisor{Machine: r.machine(), Agent: r, Elapsed: func() time.Duration { return r.now }, Wait: func(_ context.Context, d time.Duration) { r.now += d }}
	s.Step = func(string) error {
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

// TestRun_GoesThereOrBack: whatever is wrong with the new build, the machine runs
// one of the two, whole, and the journal says why.
func TestRun_GoesThereOrBack(t *testing.T) {
	for name, c := range map[string]struct {
		wrong  func(*rig)
		step   Step
		runs   string
		reason string
	}{
		"good":              {func(*rig) {}, Done, to, ""},
		"does not run":      {func(r *rig) { r.silent[to] = true }, Returned, from, "does not answer"},
		"nobody gets in":    {func(r *rig) { r.shut[to] = true }, Returned, from, "a login fails with the new agent: nobody gets in"},
		"not heard":         {func(r *rig) { r.unheard[to] = true }, Returned, from, "the server has not heard"},
		"not installable":   {func(r *rig) { r.refuse[to] = true }, Returned, from, "dependency problems"},
		"a third version":   {func(r *rig) { r.third = "3.0" }, Abandoned, "3.0", "another version"},
		"altered meanwhile": {func(r *rig) { r.alter(to) }, Returned, from, "not the file"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.begin()
			c.wrong(r)
			if _, err := r.supervise(0); err != nil {
				t.Fatal(err)
			}
			if j := r.end(); j.Step != c.step || r.installed != c.runs || !strings.Contains(j.Reason, c.reason) {
				t.Fatalf("%s %q, %s runs; %v", j.Step, j.Reason, r.installed, r.log)
			}
			if _, err := os.Lstat(filepath.Join(r.root, unitPath)); err == nil {
				t.Error("the unit is left")
			}
			state, err := r.machine().Conclude(r.end())
			if err != nil {
				t.Fatal(err)
			}
			if last, found, err := r.machine().Last(); err != nil || !found || last != state || state.Check() != nil {
				t.Errorf("%+v %v", last, err)
			}
			if left, _ := os.ReadDir(filepath.Join(r.root, Folder, "packages")); len(left) != 0 {
				t.Errorf("packages are left: %v", left)
			}
		})
	}
}

// alter changes a staged file of a version, keeping its size.
func (r *rig) alter(version string) {
	p := r.packages(version)[1]
	path := filepath.Join(r.root, stageFolder, staged(p))
	content, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	content[0] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// TestRun_KilledAnywhere: the supervisor is killed at every step and started again,
// with a good build and with a bad one; the machine always ends whole.
func TestRun_KilledAnywhere(t *testing.T) {
	for _, bad := range []bool{false, true} {
		for kill := 1; ; kill++ {
			r := newRig(t)
			r.shut[to] = bad
			r.begin()
			steps, err := r.supervise(kill)
			if steps < kill {
				break
			}
			if err == nil {
				t.Fatalf("killed at %d, and it says that all is well", kill)
			}
			if _, err := r.supervise(0); err != nil {
				t.Fatal(err)
			}
			want, runs := Done, to
			if bad {
				want, runs = Returned, from
			}
			if j := r.end(); j.Step != want || r.installed != runs {
				t.Errorf("bad %v, killed at %d: %s %q, %q runs", bad, kill, j.Step, j.Reason, r.installed)
			}
		}
	}
}

// TestRun_GoesBackWhenItNeverGetsThrough: a machine that dies of the new build each
// time, the supervisor with it, goes back.
func TestRun_GoesBackWhenItNeverGetsThrough(t *testing.T) {
	r := newRig(t)
	r.begin()
	for range mostStarts {
		if _, err := r.supervise(3); err == nil {
			t.Fatal("not killed")
		}
	}
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	if j := r.end(); j.Step != Returned || r.installed != from || !strings.Contains(j.Reason, "interrupted") {
		t.Fatalf("%+v, %s runs", j, r.installed)
	}
}

// TestRun_ThirdVersionWhileItWaits: what somebody installs while the supervisor waits
// for the package manager stays, in either direction.
func TestRun_ThirdVersionWhileItWaits(t *testing.T) {
	for _, at := range []string{to, from} {
		r := newRig(t)
		r.shut[to] = true
		r.begin()
		s := Supervisor{Machine: r.machine(), Agent: r, Elapsed: func() time.Duration { return r.now }, Wait: func(_ context.Context, d time.Duration) { r.now += d }}
		s.Step = func(name string) error {
			if name == "dpkg "+basePackage+"_"+at+".deb" {
				r.installed = "3.0"
			}
			return nil
		}
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if j := r.end(); j.Step != Abandoned || r.installed != "3.0" {
			t.Errorf("before %s: %s, %s runs", at, j.Step, r.installed)
		}
	}
}

// TestRun_StoppedLetsDpkgEnd: a supervisor that is told to end, by a shutdown or a
// disconnect, does not take dpkg along.
func TestRun_StoppedLetsDpkgEnd(t *testing.T) {
	r := newRig(t)
	r.begin()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := Supervisor{Machine: r.machine(), Agent: r, Elapsed: func() time.Duration { return r.now }, Wait: func(_ context.Context, d time.Duration) { r.now += d }}
	s.Step = func(name string) error {
		if strings.HasPrefix(name, "dpkg ") {
			cancel()
		}
		return nil
	}
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) || r.cut || r.installed != to {
		t.Fatalf("%v, cut %v, %q installed", err, r.cut, r.installed)
	}
	if _, err := r.supervise(0); err != nil || r.end().Step != Done {
		t.Fatalf("%v %+v", err, r.end())
	}
}

// TestRun_DamagedJournal: nobody knows how far it came, so that it ends where it is:
// what systemd would start again and again is gone, and the next one can begin.
func TestRun_DamagedJournal(t *testing.T) {
	for name, text := range map[string]string{"cut off": `{"id":"0aaaaaaa`, "empty": ``, "a step that is none": `{"step":"x"}`} {
		r := newRig(t)
		r.begin()
		if err := os.WriteFile(filepath.Join(r.root, journalPath), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.supervise(0); err != nil {
			t.Errorf("%s: it would be started again: %v", name, err)
		}
		if _, found, err := r.machine().Journal(); found || err != nil || Armed(r.root) {
			t.Errorf("%s: journal %v %v, armed %v", name, found, err, Armed(r.root))
		}
		if kept, err := os.ReadFile(filepath.Join(r.root, journalPath+".damaged")); err != nil || string(kept) != text || r.installed != from {
			t.Errorf("%s: %q %v, %s is installed", name, kept, err, r.installed)
		}
		r.begin()
		if _, err := r.supervise(0); err != nil || r.end().Step != Done || r.installed != to {
			t.Errorf("%s: the next upgrade: %v", name, err)
		}
	}
}

// TestConclude_AfterAKill: whatever a kill left is removed the next time.
func TestConclude_AfterAKill(t *testing.T) {
	r := newRig(t)
	r.begin()
	j := r.end()
	j.Step = Done
	stuck := filepath.Join(r.root, unitPath)
	if err := errors.Join(os.Remove(stuck), os.MkdirAll(filepath.Join(stuck, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.machine().Conclude(j); err == nil {
		t.Fatal("the unit could not be removed, and nobody says so")
	}
	r.end() // the journal is there: it is done again
	if err := os.RemoveAll(stuck); err != nil {
		t.Fatal(err)
	}
	if _, err := r.machine().Conclude(j); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{journalPath, programPath, linkPath, unitPath} {
		if _, err := os.Lstat(filepath.Join(r.root, path)); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

// TestBegin_NeverDown: what is not newer is not begun, whoever asks.
func TestBegin_NeverDown(t *testing.T) {
	r := newRig(t)
	for _, version := range []string{from, "0.9", "1.0~rc1"} {
		if err := r.machine().Begin(context.Background(), Journal{From: from, To: version}); fault.As(err).Code != "UpgradeNotHere" {
			t.Errorf("%s: %v", version, err)
		}
	}
	if _, found, _ := r.machine().Journal(); found {
		t.Error("there is a journal")
	}
}

// TestBegin_AllOrNothing: where no supervisor can be started nothing has begun.
func TestBegin_AllOrNothing(t *testing.T) {
	r := newRig(t)
	r.deaf = true
	if err := r.machine().Begin(t.Context(), Journal{From: from, To: to}); err == nil {
		t.Fatal("nobody supervises it, and nobody says so")
	}
	if _, found, err := r.machine().Journal(); found || err != nil || Armed(r.root) {
		t.Errorf("something is left: journal %v %v, unit %v", found, err, Armed(r.root))
	}
}

// TestAppend_TakesNoMoreThanWasSigned: parts out of place, more bytes than the
// release says, and a file with another hash leave nothing.
func TestAppend_TakesNoMoreThanWasSigned(t *testing.T) {
	r := newRig(t)
	m := r.machine()
	sum := sha256.Sum256([]byte("right"))
	p := protocol.ReleasePackage{Format: "deb", Name: "x", File: "x.deb", Size: 5, SHA256: hex.EncodeToString(sum[:])}
	for _, c := range []struct {
		offset int64
		data   string
	}{{1, "ight"}, {0, "right and more"}, {0, ""}, {0, "wrong"}} {
		if err := m.Append(p, c.offset, []byte(c.data)); err == nil {
			t.Errorf("%d %q: taken", c.offset, c.data)
		}
		if size, whole := m.Have(p); size != 0 || whole {
			t.Errorf("%d %q: something is left", c.offset, c.data)
		}
	}
	if err := m.Append(p, 0, []byte("right")); err != nil {
		t.Fatal(err)
	}
	if _, whole := m.Have(p); !whole {
		t.Error("the right file is not there")
	}
}

// TestAble_RefusesWhatCannotGoBack names why.
func TestAble_RefusesWhatCannotGoBack(t *testing.T) {
	for want, change := range map[string]func(*rig){
		"no systemd":    func(r *rig) { _ = os.RemoveAll(filepath.Join(r.root, "/run/systemd")) },
		"not installed": func(r *rig) { r.installed = "" },
		"the package":   func(r *rig) { r.installed = "1.1" },
	} {
		r := newRig(t)
		change(r)
		if err := r.machine().Able(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := newRig(t).machine().Able(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestPackages_AreThoseOfThisMachine(t *testing.T) {
	r := newRig(t)
	d := protocol.ReleaseDocument{Version: to}
	for _, p := range r.packages(to) {
		other := p
		other.Architecture = "arm64"
		d.Packages = append(d.Packages, other, p)
	}
	list, err := r.machine().Packages(context.Background(), d)
	if err != nil || !slices.Equal(list, r.packages(to)) {
		t.Fatalf("%v %v", list, err)
	}
	d.Packages = d.Packages[:1]
	if _, err := r.machine().Packages(context.Background(), d); err == nil {
		t.Error("another architecture's were taken")
	}
}
