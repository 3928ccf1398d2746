package root

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/machine/protocol"
)

const wishID = "0aaaaaaa-0000-4000-8000-0000000000aa"

// upgradeRig is a machine whose manifest lists a key for packages.
type upgradeRig struct {
	*rig
	packages ed25519.PrivateKey
	machine  *upgrade.Machine
	started  int
}

func newUpgradeRig(t *testing.T) *upgradeRig {
	t.Helper()
	u := &upgradeRig{rig: newRig(t), packages: newKey(t)}
	for _, dir := range []string{"/run/systemd/system", "/usr", "/etc/systemd/system", upgrade.Folder} {
		if err := os.MkdirAll(u.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(u.root+"/sally", []byte("program"), 0o700), os.Symlink(u.root+"/sally", u.root+"/program")); err != nil {
		t.Fatal(err)
	}
	u.machine = upgrade.New(upgrade.Config{Root: u.root, Owner: uint32(os.Geteuid()), Build: "1.0", Program: u.root + "/program", Log: t.Logf, Run: func(_ context.Context, argv ...string) ([]byte, error) {
		switch strings.Join(argv[:2], " ") {
		case "rpm -qf":
			return nil, errors.New("exit status 1")
		case "dpkg-query -S":
			return []byte("sallyport: " + argv[2] + "\n"), nil
		case "dpkg-query -W":
			if strings.Contains(argv[3], "Architecture") {
				return []byte("= amd64\n"), nil
			}
			return []byte("= ii 1.0-1\n= ii 1.0-1\n"), nil
		case "systemctl start":
			u.started++
		}
		return nil, nil
	}})
	u.manifest.Keys = append(u.manifest.Keys, listed(t, protocol.Repository, u.packages))
	u.manifest.Version++
	if err := u.Manifest(u.signManifest(u.manifest)); err != nil {
		t.Fatal(err)
	}
	u.again()
	return u
}

// again is the agent started anew.
func (u *upgradeRig) again() {
	u.restart()
	u.cfg.Upgrades = u.machine
	u.openUpgrade()
	go func(s *Service) {
		for {
			select {
			case answer := <-s.tests:
				answer <- nil
			case <-u.t.Context().Done():
				return
			}
		}
	}(u.Service)
}

func content(name, version string) []byte { return []byte(strings.Repeat(name+" "+version+" ", 10)) }

// release is the document of a version, signed with a key.
func (u *upgradeRig) release(key ed25519.PrivateKey, version string) *protocol.Envelope {
	d := protocol.ReleaseDocument{Version: version}
	for _, name := range []string{"sallyport", "sallyport-agent"} {
		sum := sha256.Sum256(content(name, version))
		d.Packages = append(d.Packages, protocol.ReleasePackage{Format: "deb", Name: name, Architecture: "amd64", File: name + "_" + version + ".deb", Size: int64(len(content(name, version))), SHA256: hex.EncodeToString(sum[:])})
	}
	payload, err := json.Marshal(d)
	if err != nil {
		u.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, key, protocol.TypeRelease, payload)
	if err != nil {
		u.t.Fatal(err)
	}
	return &e
}

func (u *upgradeRig) wish(version string) {
	u.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Upgrade = &protocol.UpgradeWish{ID: wishID, Version: version, WaitSeconds: 60}
	})
	u.lookUpgrade(context.Background())
}

// wanted is what is being asked for; "" for nothing.
func (u *upgradeRig) wanted() string {
	if u.upgrade.fetch == nil {
		return ""
	}
	return u.upgrade.fetch.Path
}

func (u *upgradeRig) ask(r control.Request) error {
	_, err := u.answer(context.Background(), r)
	u.lookUpgrade(context.Background())
	return err
}

func (u *upgradeRig) part(name, version string, data []byte) error {
	return u.ask(control.Request{Op: control.OpPart, Name: "deb/pool/" + name + "_" + version + ".deb", Data: data})
}

// TestUpgrade_BelievesNobodyWhoCarries: a release of another key, another version or
// another purpose is refused, and so are bytes that it does not name. Only when
// everything is here and right does the supervisor begin.
func TestUpgrade_BelievesNobodyWhoCarries(t *testing.T) {
	u := newUpgradeRig(t)
	if _, err := u.answer(context.Background(), control.Request{Op: control.OpRelease, Name: "releases/2.0.json", Release: u.release(u.packages, "2.0")}); err == nil {
		t.Error("a release that nobody asked for was taken")
	}
	u.wish("2.0")
	for _, version := range []string{"2.0", "1.0"} {
		path := protocol.ReleasePath(version)
		if u.wanted() != path {
			t.Fatalf("asked for %q, not %s; %+v", u.wanted(), path, u.upgrade.state)
		}
		for name, e := range map[string]*protocol.Envelope{"the snapshot's key": u.release(u.snapshotKey, version), "an unknown key": u.release(newKey(t), version), "another version": u.release(u.packages, "3.0")} {
			if err := u.ask(control.Request{Op: control.OpRelease, Name: path, Release: e}); err == nil || u.wanted() != path {
				t.Errorf("%s: taken", name)
			}
		}
		if err := u.ask(control.Request{Op: control.OpRelease, Name: path, Release: u.release(u.packages, version)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"2.0", "1.0"} {
		for _, name := range []string{"sallyport", "sallyport-agent"} {
			right := content(name, version)
			for what, data := range map[string][]byte{"too much": append(bytes.Clone(right), 'x'), "other bytes": bytes.Repeat([]byte("x"), len(right))} {
				if err := u.part(name, version, data); err == nil {
					t.Errorf("%s of %s %s: taken", what, name, version)
				}
			}
			if _, found, _ := u.machine.Journal(); found || u.started > 0 {
				t.Fatal("begun before everything was here")
			}
			if err := u.part(name, version, right); err != nil {
				t.Fatal(err)
			}
		}
	}
	j, found, err := u.machine.Journal()
	if err != nil || !found || j.From != "1.0" || j.To != "2.0" || j.Step != upgrade.Install || !j.Wired || u.started == 0 || u.Status().Upgrade.State != protocol.UpgradeTrying {
		t.Fatalf("%+v %v %v", j, found, err)
	}
	u.again()
	if st := u.Status(); st.Speak != protocol.Capability {
		t.Errorf("a build that is tried may speak %d", st.Speak)
	}
	if u.lookUpgrade(context.Background()); u.started != 2 {
		t.Error("an agent that starts during an upgrade does not see to the supervisor")
	}
}

// TestUpgrade_NotWithoutAKeyForPackages: a manifest without one, or one that calls
// it compromised, is the end of it.
func TestUpgrade_NotWithoutAKeyForPackages(t *testing.T) {
	u := newUpgradeRig(t)
	u.wish("2.0")
	u.manifest.Keys = append(u.manifest.Keys, listed(t, protocol.Compromised, u.packages))
	u.manifest.Version++
	if err := u.Manifest(u.signManifest(u.manifest)); err != nil {
		t.Fatal(err)
	}
	if err := u.ask(control.Request{Op: control.OpRelease, Name: "releases/2.0.json", Release: u.release(u.packages, "2.0")}); err == nil {
		t.Error("a withdrawn key vouches for packages")
	}
}

// TestUpgrade_NeverDown: nobody makes a machine older from afar; a wish that came to
// its end is not begun again, and the same version is nothing to do.
func TestUpgrade_NeverDown(t *testing.T) {
	u := newUpgradeRig(t)
	for _, version := range []string{"0.9", "1.0~rc1"} {
		u.wish(version)
		if st := u.Status().Upgrade; u.wanted() != "" || st == nil || st.State != protocol.UpgradeRefused || !strings.Contains(st.Reason, "do not go down") {
			t.Errorf("%s: %q %+v", version, u.wanted(), st)
		}
	}
	u.mustDeliver(func(d *protocol.SnapshotDocument) { d.Upgrade = nil })
	if u.lookUpgrade(context.Background()); u.Status().Upgrade != nil {
		t.Error("there is no wish any more")
	}
	u.wish("1.0")
	if st := u.Status().Upgrade; u.wanted() != "" || st == nil || st.State != protocol.UpgradeDone {
		t.Errorf("%+v", st)
	}
	u.mustDeliver(func(d *protocol.SnapshotDocument) { d.Upgrade = nil })
	if u.lookUpgrade(context.Background()); u.Status().Upgrade == nil || u.Status().Upgrade.State != protocol.UpgradeDone {
		t.Error("what became of the last wish is forgotten")
	}
	if _, err := u.machine.Conclude(upgrade.Journal{ID: wishID, From: "1.0", To: "2.0", Step: upgrade.Returned, Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	u.wish("2.0")
	if st := u.Status().Upgrade; u.wanted() != "" || st == nil || st.State != protocol.UpgradeReturned || st.Reason != "why" {
		t.Errorf("begun again: %q %+v", u.wanted(), st)
	}
}

// TestUpgrade_ProvesItself: a build that is tried is proven by its own event's
// arrival at the server and by no other's.
func TestUpgrade_ProvesItself(t *testing.T) {
	u := newUpgradeRig(t)
	if err := u.machine.Begin(context.Background(), upgrade.Journal{ID: wishID, From: "1.0", To: "2.0", Wait: 60, Capability: 5}); err != nil {
		t.Fatal(err)
	}
	u.machine = upgrade.New(upgrade.Config{Root: u.root, Owner: uint32(os.Geteuid()), Build: "2.0", Log: t.Logf, Run: func(context.Context, ...string) ([]byte, error) { return nil, nil }})
	u.again()
	u.lookUpgrade(context.Background())
	events, _ := u.events.Take(nil, 0)
	last := events[len(events)-1]
	if last.Type != "upgrade.try" || u.trial().Version != "2.0" {
		t.Fatalf("%+v %+v", last, u.trial())
	}
	u.upgradeHeard([]string{wishID})
	if u.trial().Reported {
		t.Error("another event's arrival counts")
	}
	u.upgradeHeard([]string{last.ID})
	if !u.trial().Reported {
		t.Error("the server has heard it")
	}
}

// TestUpgrade_NobodySeesItThrough: what systemd cannot start has changed nothing, and
// is over; one that has begun is left to its supervisor.
func TestUpgrade_NobodySeesItThrough(t *testing.T) {
	for _, begun := range []bool{false, true} {
		u := newUpgradeRig(t)
		j := upgrade.Journal{ID: wishID, From: "1.0", To: "2.0", Wait: 60, Capability: 5}
		if err := u.machine.Begin(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if begun {
			j.Step, j.Starts = upgrade.Install, 1
			text, err := json.Marshal(j)
			if err == nil {
				err = os.WriteFile(u.root+upgrade.Folder+"/journal.json", text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for range upgradeLooks + 2 {
			u.lookUpgrade(t.Context())
		}
		_, under, err := u.machine.Journal()
		if err != nil || under != begun {
			t.Fatalf("begun %v: under way %v %v", begun, under, err)
		}
		st := u.Status().Upgrade
		if !begun && (st.State != protocol.UpgradeReturned || !strings.Contains(st.Reason, "nothing was changed: systemd does not get "+upgrade.Unit+" to run")) || begun && st.State != protocol.UpgradeTrying {
			t.Errorf("%+v", st)
		}
		if begun && u.started != 2 { // by Begin, and by the first look
			t.Errorf("a supervisor that is at work was started %d times", u.started)
		}
		if !begun && upgrade.Armed(u.root) {
			t.Error("the unit is left")
		}
	}
}
