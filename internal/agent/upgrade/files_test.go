package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

// handFiles are what the packages hold, by package; %s is the version.
func handFiles(name string) map[string]string {
	if name == basePackage {
		return map[string]string{"usr/bin/sally": "%s", "usr/share/doc/sallyport/copyright": "%s"}
	}
	return map[string]string{"lib/x86_64-linux-gnu/libnss_sallyport.so.2": "nss %s", "lib/x86_64-linux-gnu/security/pam_sallyport.so": "pam", "usr/libexec/sallyport-principals": "principals %s", "usr/lib/sallyport/unwire": "unwire %s",
		"usr/lib/systemd/system/sallyport-agent-root.service": "root %s", "usr/lib/systemd/system/sallyport-agent.service": "network %s", "usr/lib/sysusers.d/sallyport-agent.conf": "users"}
}

func ofVersion(text, version string) string { return strings.ReplaceAll(text, "%s", version) }

// debOf is a package of paper.
func debOf(t *testing.T, name, version string) []byte {
	t.Helper()
	var data, out bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	for _, path := range slices.Sorted(maps.Keys(handFiles(name))) {
		text := ofVersion(handFiles(name)[path], version)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: "./" + filepath.Dir(path) + "/", Typeflag: tar.TypeDir, Mode: 0o755}), w.WriteHeader(&tar.Header{Name: "./" + path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))})); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	out.WriteString("!<arch>\n")
	for _, member := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", []byte("odd")}, {"data.tar.gz", data.Bytes()}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, 0, 0, 0, "100644", len(member.body))
		out.Write(member.body)
		if len(member.body)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// lay writes a file of the machine; lies reads one.
func (r *rig) lay(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) lies(path string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.root, path))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// handPlaces are where the files lie on the machine of the tests: on a system that
// has its libraries in another folder than Debian, and a unit of its own.
func handPlaces() map[string]string {
	return map[string]string{"usr/bin/sally": "/usr/bin/sally", "lib/x86_64-linux-gnu/libnss_sallyport.so.2": "/usr/lib64/libnss_sallyport.so.2", "lib/x86_64-linux-gnu/security/pam_sallyport.so": "/usr/lib64/security/pam_sallyport.so",
		"usr/libexec/sallyport-principals": "/usr/libexec/sallyport-principals", "usr/lib/systemd/system/sallyport-agent-root.service": "/etc/systemd/system/sallyport-agent-root.service"}
}

const ownUnit = "/usr/lib/systemd/system/sallyport-agent.service"

func newHand(t *testing.T) *rig {
	t.Helper()
	r := newRigBy(t, byHand)
	for _, name := range []string{basePackage, agentPackage} {
		for member, text := range handFiles(name) {
			if path := handPlaces()[member]; path != "" {
				r.lay(path, ofVersion(text, from))
			}
		}
	}
	r.lay(ownUnit, "the owner's own")
	if err := os.Symlink("usr/lib64", filepath.Join(r.root, "lib64")); err != nil {
		t.Fatal(err)
	}
	return r
}

// whole holds every file to a version, and finds nothing that was left.
func (r *rig) whole(version string) {
	r.t.Helper()
	for _, name := range []string{basePackage, agentPackage} {
		for member, text := range handFiles(name) {
			path := handPlaces()[member]
			if path == "" {
				if _, err := os.Lstat(filepath.Join(r.root, member)); err == nil && "/"+member != ownUnit {
					r.t.Errorf("%s was not there, and is", member)
				}
				continue
			}
			if got := r.lies(path); got != ofVersion(text, version) {
				r.t.Errorf("%s is %q, not of %s", path, got, version)
			}
			if info, err := os.Lstat(filepath.Join(r.root, path)); err != nil || info.Mode().Perm() != 0o755 {
				r.t.Errorf("%s: %v %v", path, info.Mode(), err)
			}
			if _, err := os.Lstat(filepath.Join(r.root, beside(path))); err == nil {
				r.t.Errorf("something is left beside %s", path)
			}
		}
	}
	if got := r.lies(ownUnit); got != "the owner's own" {
		r.t.Errorf("somebody's own unit is %q", got)
	}
}

// TestHand_GoesThereOrBack: files that no package manager knows, with the same ends
// as packages have.
func TestHand_GoesThereOrBack(t *testing.T) {
	for name, c := range map[string]struct {
		wrong  func(*rig)
		step   Step
		runs   string
		reason string
	}{
		"good":              {func(*rig) {}, Done, to, ""},
		"does not run":      {func(r *rig) { r.silent[to] = true }, Returned, from, "does not answer"},
		"nobody gets in":    {func(r *rig) { r.shut[to] = true }, Returned, from, "nobody gets in"},
		"altered meanwhile": {func(r *rig) { r.alter(to) }, Returned, from, "not the file"},
		"a file cannot be written": {func(r *rig) {
			r.blocked = filepath.Join(r.root, beside("/usr/libexec/sallyport-principals"))
			_ = os.MkdirAll(filepath.Join(r.blocked, "x"), 0o755)
		}, Returned, from, "could not be installed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newHand(t)
			r.begin()
			c.wrong(r)
			if _, err := r.supervise(0); err != nil {
				t.Fatal(err)
			}
			if j := r.end(); j.Step != c.step || r.installed != c.runs || !strings.Contains(j.Reason, c.reason) {
				t.Fatalf("%s %q, %s runs; %v", j.Step, j.Reason, r.installed, r.log)
			}
			r.whole(c.runs)
		})
	}
}

// TestHand_LeavesRoom: on a disk that the files have filled the journal can be written.
func TestHand_LeavesRoom(t *testing.T) {
	r, heard := newHand(t), false
	r.begin()
	r.blocked = filepath.Join(r.root, beside("/usr/libexec/sallyport-principals"))
	r.step = func(name string) {
		switch name {
		case "hand " + basePackage + "_" + to + ".deb": // there is none of it when the supervisor begins
			if err := os.MkdirAll(filepath.Join(r.blocked, "x"), 0o755); err != nil {
				t.Fatal(err)
			}
		case "journal return":
			heard = true
			if _, err := os.Lstat(filepath.Join(r.root, beside("/usr/bin/sally"))); err == nil {
				t.Error("the program waits beside the one that runs, and nobody will want it")
			}
		}
	}
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	if j := r.end(); !heard || j.Step != Returned {
		t.Errorf("%v %s %q", heard, j.Step, j.Reason)
	}
	r.whole(from)
}

// TestHand_NobodyElseWrites: a link's mode says nothing about the file that comes in
// its place.
func TestHand_NobodyElseWrites(t *testing.T) {
	r := newHand(t)
	r.begin()
	path := filepath.Join(r.root, "/usr/libexec/sallyport-principals")
	if err := errors.Join(os.Rename(path, path+".mine"), os.Symlink(path+".mine", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	if j := r.end(); j.Step != Done {
		t.Errorf("%s %q", j.Step, j.Reason)
	}
	r.whole(to)
}

// TestHand_ThirdVersion: what somebody lays down meanwhile stays.
func TestHand_ThirdVersion(t *testing.T) {
	r := newHand(t)
	r.begin()
	r.third = "3.0"
	if _, err := r.supervise(0); err != nil {
		t.Fatal(err)
	}
	if j := r.end(); j.Step != Abandoned || r.lies("/usr/bin/sally") != "3.0" {
		t.Fatalf("%s %q, %s", j.Step, j.Reason, r.lies("/usr/bin/sally"))
	}
}

// TestHand_KilledAnywhere: between any two files too, and while they are written.
func TestHand_KilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, bad := range []bool{false, true} {
		for kill := 1; ; kill++ {
			r := newHand(t)
			r.shut[to] = bad
			r.begin()
			steps, err := r.supervise(kill)
			if steps < kill {
				if kill < 9 {
					t.Fatalf("%d steps: the files are not among them", kill)
				}
				break
			}
			if err == nil {
				t.Fatalf("killed at %d, and it says that all is well", kill)
			}
			if step := r.end().Step; step == Install || step == Return {
				r.lay(beside("/usr/libexec/sallyport-principals"), "half of it")
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
			r.whole(runs)
		}
	}
}

// TestHand_Refuses: nothing begins where files would be replaced that are not ours,
// or could not be brought back.
func TestHand_Refuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*rig){
		"pacman says":              func(r *rig) { r.foreign = "pacman" },
		"is not what sallyport":    func(r *rig) { r.pid = "1" },
		"run from /usr/bin/sally":  func(r *rig) { r.stopped = true },
		"sally is not the file of": func(r *rig) { r.lay("/usr/bin/sally", "mine") },
		"2 is not the file of":     func(r *rig) { r.lay("/lib/libnss_sallyport.so.2", "another") },
		"in none of the folders":   func(r *rig) { _ = os.RemoveAll(filepath.Join(r.root, "usr/lib64/security")) },
		"is a link": func(r *rig) {
			path := filepath.Join(r.root, "/usr/libexec/sallyport-principals")
			_ = errors.Join(os.Rename(path, path+"x"), os.Symlink(path+"x", path))
		},
	} {
		r := newHand(t)
		change(r)
		m := r.machine()
		by, err := m.Able(t.Context())
		if err == nil {
			_, err = m.Prepared(Journal{Manager: by, From: from, To: to, New: r.packages(to), Old: r.packages(from)})
		}
		if err == nil || fault.As(err).Code != "UpgradeNotHere" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	r := newHand(t)
	if by, err := r.machine().Able(t.Context()); err != nil || by != byHand {
		t.Errorf("%q %v", by, err)
	}
	_, err := r.machine().Prepared(Journal{Manager: byHand, From: from, To: to, New: r.packages(to)[1:], Old: r.packages(from)})
	if err == nil || !strings.Contains(err.Error(), "version 2.0 has no usr/bin/sally") {
		t.Errorf("a version that has less: %v", err)
	}
	two := map[string]string{"lib/a-linux-gnu/libnss_sallyport.so.2": "1", "lib/b-linux-gnu/libnss_sallyport.so.2": "2"}
	if _, _, err := only(two, "lib/*-linux-gnu/libnss_sallyport.so.2", from); err == nil || !strings.Contains(err.Error(), "has both") {
		t.Errorf("a version that has more: %v", err)
	}
}
