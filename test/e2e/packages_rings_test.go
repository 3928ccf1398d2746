//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The builds that the server of this test hands out. The first is what `make build`
// made; the third one's logins fail, and the fourth one does not start.
const (
	ringsOld    = "0.1.0"
	ringsGood   = "0.2.0"
	ringsShut   = "0.3.0"
	ringsLame   = "0.4.0"
	ringsPause  = 4 * time.Minute // for a fleet to come to an end
	ringsFolder = "/var/lib/sallyport/upgrade"
)

// ringsWorld is a server that hands out four builds.
func ringsWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorldWith(func(w *world) error {
		folder := w.path("packages")
		if err := ringPackages(w, folder); err != nil {
			return err
		}
		w.runExtra = []string{"--packages", folder}
		w.rootfs = w.bareFilesystems
		return nil
	})
	if w != nil {
		t.Cleanup(w.close)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ringPackages(w *world, folder string) error {
	build := w.path("build")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if _, err := output("../../packaging/packages.sh", "stage", build); err != nil {
		return fmt.Errorf("stage packages: %w", err)
	}
	for _, version := range []string{ringsOld, ringsGood, ringsShut, ringsLame} {
		if version == ringsGood || version == ringsShut {
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", filepath.Join(build, "amd64/sally"), "../../cmd/sally")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build %s: %w: %s", version, err, out)
			}
		}
		broken := map[string]string{ringsShut: "sallyport-principals", ringsLame: "sally"}[version]
		if broken != "" {
			if err := os.WriteFile(filepath.Join(build, "amd64", broken), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
				return err
			}
		}
		if err := ringPack(build, folder, version); err != nil {
			return err
		}
	}
	return nil
}

// ringPack makes the packages of one version that machines take: four of eight.
func ringPack(build, folder, version string) error {
	errs := make(chan error, 2)
	for _, format := range []string{"deb", "rpm"} {
		go func() {
			_, err := output("env", "NAMES=sallyport sallyport-agent", "FORMATS="+format, "RPM_LEVEL=1", "../../packaging/packages.sh", "pack", build, folder, version, "amd64")
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		return fmt.Errorf("make packages: %w", err)
	}
	return nil
}

// ringed is a machine of a ring, somebody who may log in there, and what prints its
// packages, and fails where they are not whole.
type ringed struct {
	m     *vm
	p     *person
	whole string
}

const wholeDebs = "dpkg-query -W -f '${Package} ${Version} ${Status}\n' sallyport sallyport-agent; test -z \"$(dpkg --audit)\""

// ringMachine is a machine with the old build, on which somebody may log in.
func ringMachine(t *testing.T, w *world, system, ring, script string) ringed {
	t.Helper()
	m := w.barely(t, "rings-"+system, system, "--tags", "ring="+ring)
	m.give(t, "/root/repository.sh", strings.NewReader(script))
	m.mustSuper(t, "sh /root/repository.sh")
	m.apt(t, "update")
	m.apt(t, "install sallyport="+ringsOld+"-1 sallyport-agent="+ringsOld+"-1")
	m.joinByHand(t)
	m.extend(t)
	return ringed{m, packageUser(t, w, m, "rings-"+system), wholeDebs}
}

// upgradeShown is what `sally machine upgrade show` says.
type upgradeShown struct {
	Properties struct {
		State, Reason, Ring string
		Machines            []struct{ ResourceID, Standing, State, From, Version, Reason string }
	}
}

func (s upgradeShown) of(m *vm) string {
	for _, one := range s.Properties.Machines {
		if strings.EqualFold(one.ResourceID, m.id) {
			return strings.Join(strings.Fields(one.Standing+" "+one.State+" "+one.Version+" "+one.Reason), " ")
		}
	}
	return "nothing"
}

func upgradeState(t *testing.T, a *person, name, want string) (shown upgradeShown) {
	t.Helper()
	if err := until(ringsPause, func() error {
		shown = upgradeShown{}
		if err := json.Unmarshal([]byte(a.must(t, "machine", "upgrade", "show", "--name", name)), &shown); err != nil {
			return err
		}
		if shown.Properties.State != want {
			return fmt.Errorf("%s is %+v", name, shown.Properties)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return shown
}

// TestPackages_Rings: agents are upgraded from the server ring by ring, sessions
// stay, a killed supervisor goes on, and builds that do not prove themselves are
// taken back by the machine, whether logins fail with them or they do not run. The
// first ring has a machine of dpkg, one of rpm and one of nobody's.
func TestPackages_Rings(t *testing.T) {
	w := ringsWorld(t)
	a := w.person(adminUPN, "")
	script := a.must(t, "repository", "script", "--type", "apt")
	var mu sync.Mutex
	all := map[string]ringed{}
	t.Run("machines", func(t *testing.T) {
		for name, made := range map[string]func(t *testing.T) ringed{
			debian11: func(t *testing.T) ringed { return ringMachine(t, w, debian11, "2", script) },
			debian12: func(t *testing.T) ringed { return ringMachine(t, w, debian12, "1", script) },
			debian13: func(t *testing.T) ringed { return ringMachine(t, w, debian13, "2", script) },
			"rpm":    func(t *testing.T) ringed { return rpmMachine(t, w, "1") },
			"hand":   func(t *testing.T) ringed { return handMachine(t, w, "1") },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				one := made(t)
				mu.Lock()
				defer mu.Unlock()
				all[name] = one
			})
		}
	})
	if t.Failed() {
		return
	}
	first := map[string]ringed{"dpkg": all[debian12], "rpm": all["rpm"], "hand": all["hand"]}
	t.Run("rings", func(t *testing.T) { ringsGoodBuild(t, a, all, first) })
	t.Run("a login fails with it", func(t *testing.T) {
		a.must(t, "machine", "upgrade", "create", "--name", "shut", "--version", ringsShut, "--ring", "ring=1", "all", "--soak", "1s", "--max-failures", "2")
		each(t, first, func(t *testing.T, one ringed) { one.m.killSupervisor(t, `"step":"try"`) })
		shown := upgradeState(t, a, "shut", "Stopped")
		says(t, shown.Properties.Reason, "3 machines have failed", "/rings-", "a login fails with the new agent")
		for _, one := range []ringed{all[debian11], all[debian13]} {
			says(t, shown.of(one.m), "later "+ringsGood) // nobody asked it
		}
		each(t, first, func(t *testing.T, one ringed) {
			says(t, shown.of(one.m), "failed returned "+ringsGood, "a login fails with the new agent")
			one.backAt(t, ringsGood)
		})
		a.must(t, "machine", "upgrade", "cancel", "--name", "shut")
	})
	t.Run("it does not run", func(t *testing.T) { ringsLameBuild(t, a, first) })
	t.Run("the machine leaves in the middle", func(t *testing.T) { ringsLeave(t, a, first) })
}

// each does the same to each machine of the first ring, side by side, however few
// tests may run at once: who comes later finds the upgrade over.
func each(t *testing.T, first map[string]ringed, f func(t *testing.T, one ringed)) {
	t.Helper()
	var all sync.WaitGroup
	for name, one := range first {
		all.Go(func() { t.Run(name, func(t *testing.T) { f(t, one) }) })
	}
	if all.Wait(); t.Failed() {
		t.FailNow()
	}
}

// ringsGoodBuild: everybody gets through, with sessions open and the supervisors of
// the first ring killed.
func ringsGoodBuild(t *testing.T, a *person, all, first map[string]ringed) {
	t.Helper()
	type talk struct {
		say  io.Writer
		hear func() string
	}
	var talks []talk
	for _, one := range first {
		say, hear := certificate(t, one.p).open(t, one.m, one.p.name)
		talks = append(talks, talk{say, hear})
	}
	if r := a.run("machine", "upgrade", "create", "--name", "x", "--version", "9.9", "--ring", "all"); r.code == 0 || !strings.Contains(r.err, "hands out no packages of version 9.9; it has 0.1.0, 0.2.0, 0.3.0, 0.4.0") {
		t.Errorf("%s", r)
	}
	if r := first["rpm"].p.run("machine", "upgrade", "create", "--name", "x", "--version", ringsGood, "--ring", "all"); r.code == 0 || !strings.Contains(r.err, "AuthorizationFailed") {
		t.Errorf("somebody without the right upgrades machines: %s", r)
	}
	a.must(t, "machine", "upgrade", "create", "--name", "good", "--version", ringsGood, "--ring", "ring=1", "all", "--soak", "1s", "--wait", "4m")
	each(t, first, func(t *testing.T, one ringed) { one.m.killSupervisor(t, "") })
	upgradeState(t, a, "good", "Succeeded")
	for _, one := range all {
		says(t, one.m.mustSuper(t, one.whole+"; sally agent status; ls -A "+ringsFolder),
			"sallyport "+ringsGood+"-1 install ok", "sallyport-agent "+ringsGood+"-1 install ok", "to "+ringsGood+": done", "last.json")
		allowedSoon(t, one.p, one.m)
	}
	for _, one := range talks {
		if _, err := io.WriteString(one.say, "sudo -n whoami\n"); err != nil {
			t.Fatal(err)
		}
		if got := one.hear(); got != "root" {
			t.Errorf("the session that was open says %q", got)
		}
	}
	for _, one := range first {
		says(t, a.must(t, "machine", "list", "--query", "[?properties.resourceId=='"+one.m.id+"'].[properties.agent.version, properties.agent.upgrade.state]", "-o", "tsv"), ringsGood, "done")
	}
	ringsInOrder(t, a, first)
}

// ringsLeave: an upgrade that is under way ends with the machine; no supervisor is
// left that would start the agent again, and the packages are whole.
func ringsLeave(t *testing.T, a *person, first map[string]ringed) {
	t.Helper()
	a.must(t, "machine", "upgrade", "cancel", "--name", "down")
	a.must(t, "machine", "upgrade", "create", "--name", "leave", "--version", ringsShut, "--ring", "ring=1", "--max-failures", "2")
	each(t, first, leavesInTheMiddle)
}

func leavesInTheMiddle(t *testing.T, one ringed) {
	t.Helper()
	m := one.m
	if err := until(ringsPause, func() error {
		if r := m.super("test -e " + ringsFolder + "/journal.json && test -e /etc/systemd/system/sallyport-agent-upgrade.service"); r.code != 0 {
			return fmt.Errorf("the upgrade has not begun: %s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	m.mustSuper(t, "sally machine disconnect --yes --force")
	m.mustSuper(t, `sleep 7 # longer than a supervisor waits before it starts an agent that is silent
for unit in sallyport-agent-upgrade sallyport-agent-root sallyport-agent; do
	! systemctl is-active --quiet $unit || { echo "$unit runs"; exit 1; }
done
! ls -d `+ringsFolder+` /etc/systemd/system/sallyport-agent-upgrade.service /etc/systemd/system/multi-user.target.wants/sallyport-agent-upgrade.service 2>/dev/null
`+one.whole)
}

// ringsLameBuild: a build that does not run is taken back, and versions never go down.
func ringsLameBuild(t *testing.T, a *person, first map[string]ringed) {
	t.Helper()
	a.must(t, "machine", "upgrade", "create", "--name", "lame", "--version", ringsLame, "--ring", "ring=1", "--soak", "1s", "--wait", "30s", "--max-failures", "2")
	each(t, first, func(t *testing.T, one ringed) { one.m.killSupervisor(t, `"step":"return"`) })
	shown := upgradeState(t, a, "lame", "Stopped")
	each(t, first, func(t *testing.T, one ringed) {
		says(t, shown.of(one.m), "failed returned "+ringsGood, "the new agent does not answer")
		one.backAt(t, ringsGood)
	})
	if r := a.run("machine", "upgrade", "create", "--name", "down", "--version", ringsOld, "--ring", "all"); r.code == 0 || !strings.Contains(r.err, "UpgradeUnderWay") {
		t.Errorf("two at a time: %s", r)
	}
	a.must(t, "machine", "upgrade", "cancel", "--name", "lame")
	a.must(t, "machine", "upgrade", "create", "--name", "down", "--version", ringsOld, "--ring", "ring=1")
	each(t, first, func(t *testing.T, one ringed) {
		if err := until(2*limitGrant, func() error {
			if r := one.m.super("sally agent status"); !strings.Contains(r.out, "versions do not go down from afar") {
				return fmt.Errorf("%s", r)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// killSupervisor kills it with all that it has started, once the journal says what
// is given: systemd brings it back, and it goes on. The machine looks itself: what it
// looks for may be there for a second.
func (m *vm) killSupervisor(t *testing.T, journal string) {
	t.Helper()
	m.mustSuper(t, `n=0
until grep -qs '`+journal+`' `+ringsFolder+`/journal.json && systemctl kill -s KILL sallyport-agent-upgrade; do
	n=$((n + 1))
	[ $n -lt 4000 ] || { echo "no supervisor to kill"; cat `+ringsFolder+`/*.json; exit 1; }
	sleep 0.05
done`)
}

// backAt: the machine runs a build again, whole, and nothing of the upgrade is left.
func (one ringed) backAt(t *testing.T, version string) {
	t.Helper()
	m := one.m
	says(t, m.mustSuper(t, one.whole+"; sally agent status"),
		"sallyport "+version+"-1 install ok", "sallyport-agent "+version+"-1 install ok", ": returned ")
	m.mustSuper(t, "! ls /etc/systemd/system/sallyport-agent-upgrade.service /etc/systemd/system/multi-user.target.wants/sallyport-agent-upgrade.service "+ringsFolder+"/journal.json 2>/dev/null")
	allowedSoon(t, one.p, m)
}

// ringsInOrder: the second ring began after the first one's turn was over, and
// each step is in the audit log.
func ringsInOrder(t *testing.T, a *person, first map[string]ringed) {
	t.Helper()
	at := func(kind, target string) []string {
		return strings.Fields(a.must(t, "audit", "list", "--type", kind, "--query", "[?contains(target, '"+target+"')].time", "-o", "tsv"))
	}
	next := at("agentUpgrade.ring", "good")
	if len(next) != 1 {
		t.Fatalf("the next ring's turn came %d times", len(next))
	}
	for _, kind := range []string{"machine.upgrade.begin", "machine.upgrade.try", "machine.upgrade.done"} {
		var own []string
		for name, one := range first {
			times := at(kind, one.m.id)
			if len(times) != 1 {
				t.Errorf("%s of the first ring's machine of %s is there %d times", kind, name, len(times))
			}
			own = append(own, times...)
		}
		for _, other := range at(kind, "rings-") {
			if !slices.Contains(own, other) && other < next[0] {
				t.Errorf("%s at %s, before the ring's turn at %s", kind, other, next[0])
			}
		}
	}
}
