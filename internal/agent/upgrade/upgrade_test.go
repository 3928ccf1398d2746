package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

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
		"not whole":         {func(r *rig) { r.half[to] = true }, Returned, from, "says that all is well"},
	} {
		bothManagers(t, name, func(t *testing.T, r *rig) {
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

// TestRun_ProgramsThatAreOnlyRead: nothing is installed, so nothing is taken back:
// that would fail for as long as the machine lives, with the manager at work all the time.
func TestRun_ProgramsThatAreOnlyRead(t *testing.T) {
	for _, by := range []string{byDpkg, byRPM, byHand} {
		r, dir := newRigBy(t, by), "/usr/bin"
		if by == byHand {
			r, dir = newHand(t), "/usr/lib64/security"
		}
		r.begin()
		r.fixed, r.refuse[from], r.refuse[to] = dir, true, true
		if _, err := r.supervise(0); err != nil {
			t.Fatalf("%s: %v; %v", by, err, r.log)
		}
		if j := r.end(); j.Step != Returned || r.installed != from || !strings.Contains(j.Reason, "nothing was changed: "+dir+" cannot be written: read-only file system") {
			t.Errorf("%s: %s %q, %s runs", by, j.Step, j.Reason, r.installed)
		}
	}
	r := newRig(t) // what has become so in the middle may be half installed
	r.begin()
	if _, err := r.supervise(2); err == nil {
		t.Fatal("it was not killed")
	}
	r.fixed, r.refuse[to] = "/usr/bin", true
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	if j := r.end(); j.Step != Returned || !strings.Contains(j.Reason, "dependency problems") {
		t.Errorf("%s %q", j.Step, j.Reason)
	}
}

// bothManagers runs a test with each of them.
func bothManagers(t *testing.T, name string, test func(t *testing.T, r *rig)) {
	t.Helper()
	for _, by := range managers() {
		t.Run(name+" by "+by.name, func(t *testing.T) { test(t, newRigBy(t, by.name)) })
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
	t.Parallel()
	for _, by := range managers() {
		for _, bad := range []bool{false, true} {
			for kill := 1; killedAt(t, by.name, bad, kill); kill++ {
				continue
			}
		}
	}
}

// killedAt reports whether the supervisor came to that step. What a killed manager
// leaves is there when it goes on.
func killedAt(t *testing.T, by string, bad bool, kill int) bool {
	t.Helper()
	r := newRigBy(t, by)
	r.shut[to] = bad
	r.begin()
	steps, err := r.supervise(kill)
	if steps < kill {
		return false
	}
	if err == nil {
		t.Fatalf("killed at %d, and it says that all is well", kill)
	}
	left, others := filepath.Join(r.root, "/usr/bin/sally;6b045280"), []string{"sally;other", "sally", "other;6b045280"}
	for _, name := range append(others, filepath.Base(left)) {
		if err := os.WriteFile(filepath.Join(r.root, "/usr/bin", name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	want, runs := Done, to
	if bad {
		want, runs = Returned, from
	}
	j := r.end()
	if j.Step != want || r.installed != runs {
		t.Errorf("bad %v, killed at %d: %s %q, %q runs", bad, kill, j.Step, j.Reason, r.installed)
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(r.root, "/usr/bin", name)); err != nil {
			t.Errorf("a file that is nobody's rest is gone: %v", err)
		}
	}
	return true
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
	for name, text := range map[string]string{"cut off": `{"id":"0aaaaaaa`, "empty": ``, "a step that is none": `{"step":"x"}`, "a manager that is none": `{"step":"install","manager":"x"}`} {
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
		"no systemd":              func(r *rig) { _ = os.RemoveAll(filepath.Join(r.root, "/run/systemd")) },
		"neither by dpkg nor by":  func(r *rig) { r.by, r.pid = "", "1" },
		"both dpkg and rpm":       func(r *rig) { r.other = map[string]string{byDpkg: byRPM, byRPM: byDpkg}[r.by] },
		"the agent whole, and of": func(r *rig) { r.installed = "" },
		"the package":             func(r *rig) { r.installed = "1.1" },
	} {
		bothManagers(t, want, func(t *testing.T, r *rig) {
			change(r)
			if by, err := r.machine().Able(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %v", by, err)
			}
		})
	}
	bothManagers(t, "able", func(t *testing.T, r *rig) {
		if by, err := r.machine().Able(t.Context()); err != nil || by != r.by {
			t.Errorf("%q %v", by, err)
		}
	})
}

func TestPackages_AreThoseOfThisMachine(t *testing.T) {
	bothManagers(t, "packages", func(t *testing.T, r *rig) {
		d := protocol.ReleaseDocument{Version: to}
		for _, p := range r.packages(to) {
			arch, format := p, p
			arch.Architecture, format.Format = "riscv64", map[string]string{"deb": "rpm", "rpm": "deb"}[p.Format]
			d.Packages = append(d.Packages, arch, format, p)
		}
		list, err := r.machine().Packages(t.Context(), r.by, d)
		if err != nil || !slices.Equal(list, r.packages(to)) {
			t.Fatalf("%v %v", list, err)
		}
		d.Packages = d.Packages[:2]
		if _, err := r.machine().Packages(t.Context(), r.by, d); err == nil {
			t.Error("another architecture's or manager's were taken")
		}
	})
}
