package root

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// When the key of the held snapshot is withdrawn, nothing is held any more; the
// next one is not made for a machine that says less all the same.
func TestSnapshot_NoDowngradeBehindAWithdrawnKey(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Capability = 3 })
	gone := r.snapshotKey
	r.snapshotKey = newKey(t)
	keys := []protocol.Key{listed(t, protocol.UserCA, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey), listed(t, protocol.Compromised, gone)}
	if err := r.Manifest(r.renewed(keys...)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r.Service.now().doc != nil {
			t.Fatal("the snapshot of the withdrawn key is held")
		}
		if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Capability = 0 }); !fault.Is(err, fault.Forbidden) {
			t.Fatalf("a snapshot that lacks what was ended: %v", err)
		}
		r.restart()
	}
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Capability = 3 }); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshot_CountersNeverGoBack(t *testing.T) {
	r := newRig(t)
	old := r.snapshot()
	if err := r.Snapshot(old); err != nil {
		t.Fatal(err)
	}
	if err := r.Snapshot(old); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	r.now = r.now.Add(time.Minute)
	if err := r.deliver(nil); err != nil {
		t.Fatal(err)
	}
	r.doc.Capability, r.doc.IssuedAt = 3, r.doc.IssuedAt.Add(time.Second)
	if err := r.Snapshot(r.snapshot()); err != nil {
		t.Fatal(err)
	}
	held := r.doc
	refuse := func(name string, change func(*protocol.SnapshotDocument)) {
		t.Helper()
		r.doc = held
		r.doc.IssuedAt = held.IssuedAt.Add(time.Second)
		change(&r.doc)
		if err := r.Snapshot(r.snapshot()); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check := func() {
		t.Helper()
		if err := r.Snapshot(old); !fault.Is(err, fault.Forbidden) {
			t.Errorf("an older one: %v", err)
		}
		refuse("lower version", func(d *protocol.SnapshotDocument) { d.Version-- })
		refuse("lower capability, which lacks what was ended", func(d *protocol.SnapshotDocument) { d.Version++; d.Capability = 0 })
		refuse("lower epoch", func(d *protocol.SnapshotDocument) { d.Epoch, d.Version = 0, 99 })
		refuse("signed earlier", func(d *protocol.SnapshotDocument) { d.Version++; d.IssuedAt = held.IssuedAt.Add(-time.Nanosecond) })
	}
	check()
	r.restart()
	check()
	r.doc = held
	r.doc.Epoch, r.doc.Version, r.doc.IssuedAt = 2, 1, held.IssuedAt.Add(time.Second)
	next := r.doc
	if err := r.Snapshot(r.snapshot()); !fault.Is(err, fault.Forbidden) {
		t.Fatalf("an epoch that the manifest key did not begin: %v", err)
	}
	r.manifest.Epoch = 2
	if err := r.Manifest(r.signManifest(r.manifest)); err != nil {
		t.Fatal(err)
	}
	refuse("the epoch that has ended", func(d *protocol.SnapshotDocument) { d.Version++ })
	r.doc = next
	if err := r.Snapshot(r.snapshot()); err != nil {
		t.Fatalf("a higher epoch: %v", err)
	}
}

func TestSnapshot_BoundToThisMachine(t *testing.T) {
	r := newRig(t)
	good := r.doc
	for name, change := range map[string]func(*protocol.SnapshotDocument){
		"tenant":    func(d *protocol.SnapshotDocument) { d.Tenant = bobID },
		"machine":   func(d *protocol.SnapshotDocument) { d.MachineID = bobID },
		"key":       func(d *protocol.SnapshotDocument) { d.KeyThumbprint = "old-key" },
		"domains":   func(d *protocol.SnapshotDocument) { d.Domains = nil },
		"staleness": func(d *protocol.SnapshotDocument) { d.UserStale = 0 },
		"no time":   func(d *protocol.SnapshotDocument) { d.IssuedAt = time.Time{} },
	} {
		r.doc = good
		change(&r.doc)
		if err := r.Snapshot(r.snapshot()); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.doc = good
	e := r.snapshot()
	e.Payload[10] ^= 1
	if err := r.Snapshot(e); err == nil {
		t.Error("an altered one was taken")
	}
	payload, _ := json.Marshal(r.doc)
	foreign, _ := protocol.Sign(rand.Reader, r.userCA, protocol.TypeSnapshot, payload)
	if err := r.Snapshot(foreign); err == nil {
		t.Error("one signed by a key of another purpose was taken")
	}
	other, _ := protocol.Sign(rand.Reader, r.snapshotKey, protocol.TypeAudit, payload)
	if err := r.Snapshot(other); err == nil {
		t.Error("another document passed for a snapshot")
	}
}

// TestSnapshot_CVE_2025_5689_RecordsThatCouldBeAnythingElse (CVE-2025-5689, CVE-2024-9312): a
// record outside our range or alphabet is nobody, whoever signed it.
func TestSnapshot_CVE_2025_5689_RecordsThatCouldBeAnythingElse(t *testing.T) {
	for name, change := range map[string]func(*protocol.Principal){
		"uid 0": func(p *protocol.Principal) { p.UID = 0 }, "role group": func(p *protocol.Principal) { p.UID = shim.GIDAdmins }, "uid below": func(p *protocol.Principal) { p.UID = shim.IDMin - 1 },
		"root": func(p *protocol.Principal) { p.LoginName = "root" }, "other domain": func(p *protocol.Principal) { p.LoginName = "a@evil.example" },
		"path": func(p *protocol.Principal) { p.LoginName = "../x@corp.example" }, "upper case": func(p *protocol.Principal) { p.LoginName = "Alice@corp.example" },
		"no id": func(p *protocol.Principal) { p.ObjectID = "" },
	} {
		r := newRig(t)
		r.mustDeliver(func(d *protocol.SnapshotDocument) { change(&d.Principals[0]) })
		db, err := shim.ReadNSS(r.root + nssPath)
		if err != nil || len(db.Users) != 1 || db.Users[0].Name != bob {
			t.Errorf("%s: %v %+v", name, err, db.Users)
		}
	}
}

func TestManifest_OnlyFromThePinnedKeyAndNeverOlder(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	m := r.manifest
	m.Version = 2
	m.Keys = []protocol.Key{m.Keys[0], m.Keys[1], listed(t, protocol.Snapshot, r.hostCA)}
	if err := r.Manifest(r.signManifest(m)); err != nil {
		t.Fatal(err)
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Error("a snapshot of a removed key still opens the machine")
	}
	if err := r.Manifest(r.signManifest(r.manifest)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("an older manifest: %v", err)
	}
	m.Version, m.Tenant = 3, bobID
	if err := r.Manifest(r.signManifest(m)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("another tenant's: %v", err)
	}
	m.Tenant = tenant
	r.manifestKey = r.userCA
	if err := r.Manifest(r.signManifest(m)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("another key's: %v", err)
	}
	if err := pin.SaveManifest(r.root, protocol.SignedManifest{}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if m := r.Service.now().manifest; m.Version != 0 || r.Status().Damage == nil {
		t.Error("a manifest that the pin does not verify is used")
	}
}

func TestManifest_RolledBackFileIsRefused(t *testing.T) {
	r := newRig(t)
	old := r.file(pin.ManifestPath)
	m := r.manifest
	m.Version = 2
	if err := r.Manifest(r.signManifest(m)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.root+pin.ManifestPath, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if d := r.Status().Damage; len(d) != 1 || !strings.Contains(d[0], "older") || len(r.Service.now().userCAs) > 0 {
		t.Fatalf("%q", d)
	}
}

func TestClock_BootClockAndSignedTime(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		login  bool
		sudo   bool
		word   string
	}{
		"fresh":                        {func(*rig) {}, true, true, ""},
		"two hours on":                 {func(r *rig) { r.now = r.now.Add(2 * time.Hour); r.elapsed += 2 * time.Hour }, true, false, "has not heard"},
		"a day on":                     {func(r *rig) { r.now = r.now.Add(25 * time.Hour); r.elapsed += 25 * time.Hour }, false, false, "has not heard"},
		"wall clock stopped":           {func(r *rig) { r.elapsed += 25 * time.Hour }, false, false, "behind the server"},
		"wall clock turned back a bit": {func(r *rig) { r.now = r.now.Add(-4 * time.Minute) }, true, true, ""},
		"wall clock turned back":       {func(r *rig) { r.now = r.now.Add(-6 * time.Minute) }, false, false, "behind the server"},
		"wall clock turned forward":    {func(r *rig) { r.now = r.now.Add(11 * time.Minute) }, false, false, "ahead of the server"},
		"turned back after a boot":     {func(r *rig) { r.bootID, r.elapsed, r.now = "boot2", time.Minute, r.now.Add(-time.Hour) }, false, false, "behind the server"},
		"cut off, booted, two hours":   {func(r *rig) { r.bootID, r.elapsed, r.now = "boot2", time.Minute, r.now.Add(2*time.Hour) }, true, false, "has not heard"},
		"cut off, booted, 25 hours":    {func(r *rig) { r.bootID, r.elapsed, r.now = "boot2", time.Minute, r.now.Add(25*time.Hour) }, false, false, "has not heard"},
	} {
		r := newRig(t)
		r.mustDeliver(nil)
		c.change(r)
		r.restart()
		login := r.account("su", bob, shim.Peer{})
		sudo := r.account("sudo", bob, shim.Peer{})
		if login.Allow != c.login || sudo.Allow != c.sudo || !strings.Contains(login.Text+sudo.Text, c.word) {
			t.Errorf("%s: login %+v, sudo %+v", name, login, sudo)
		}
	}
}

// TestClock_SameSnapshotAgainIsNotFresher: a network part that repeats what it
// has cannot make an old grant young.
func TestClock_SameSnapshotAgainIsNotFresher(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	e := r.snapshot()
	r.now, r.elapsed = r.now.Add(2*time.Hour), r.elapsed+2*time.Hour
	if err := r.Snapshot(e); err != nil {
		t.Fatal(err)
	}
	if a := r.account("sudo", bob, shim.Peer{}); a.Allow {
		t.Fatal("sudo with a grant that is two hours old")
	}
}

func TestWorker_CVE_2020_8903_CVE_2020_8907_CVE_2020_8933_UserRoleBringsOneGroup(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Principals = append(d.Principals, protocol.Principal{ObjectID: alice2ID, LoginName: "none@corp.example", Access: protocol.None, UID: aliceUID + 9, Name: "a:b\nc"})
	})
	db, err := shim.ReadNSS(r.root + nssPath)
	if err != nil {
		t.Fatal(err)
	}
	groups := map[string][]uint32{}
	for _, u := range db.Users {
		groups[u.Name] = u.Groups
	}
	for name, want := range map[string][]uint32{alice: {shim.GIDUsers}, bob: {shim.GIDUsers, shim.GIDAdmins}, "none@corp.example": {shim.GIDUsers}} {
		if !slices.Equal(groups[name], want) {
			t.Errorf("%s is in %v", name, groups[name])
		}
	}
}

func TestWorker_EndsWhatLostItsRight(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{aliceUID, bobUID}
	expect := func(name string, want []string, change func(*protocol.SnapshotDocument)) {
		t.Helper()
		r.ends = nil
		r.now = r.now.Add(time.Second)
		r.mustDeliver(change)
		if !slices.Equal(r.ends, want) {
			t.Errorf("%s: ended %v, want %v", name, r.ends, want)
		}
	}
	expect("nothing changed", nil, nil)
	expect("administrator becomes user", []string{"elevated 1879048201"}, func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login })
	handbooktest.Said(t, strings.Join(r.messages, "\n"), "session-demoted")
	expect("nothing more", nil, nil)
	expect("sessions revoked", []string{"all 1879048200"}, func(d *protocol.SnapshotDocument) { d.Principals[0].NotBefore = r.now })
	expect("role removed", []string{"all 1879048200"}, func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None })
	expect("deleted", []string{"all 1879048200"}, func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] })
	expect("identity removed", []string{"all 1879048200", "all 1879048201"}, func(d *protocol.SnapshotDocument) { d.Identity = false })
}

// TestWorker_EndingsSurviveAKill: the snapshot that ended something is kept
// with what is still to be ended.
func TestWorker_EndingsSurviveAKill(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.present = []uint32{bobUID}
	r.now = r.now.Add(time.Second)
	if err := r.deliver(func(d *protocol.SnapshotDocument) { d.Principals[1].Access = protocol.Login }); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.act()
	if !slices.Equal(r.ends, []string{"elevated 1879048201"}) {
		t.Fatalf("%v", r.ends)
	}
	r.restart()
	r.ends = nil
	r.act()
	if r.ends != nil {
		t.Fatalf("ended again: %v", r.ends)
	}
}

func TestWorker_ReachesTheRevision(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if st := r.Status(); st.Revision != 3 || st.Provisioned != "Succeeded" || !st.Extension || st.Drift != "" || st.Allowed != 2 {
		t.Fatalf("%+v", st)
	}
	if want := r.wiring.want[0]; !slices.Equal(want.Domains, []string{"corp.example"}) || len(want.UserCAs) != 1 || want.HostCertificate {
		t.Fatalf("%+v", want)
	}
	r.wiring.check, r.wiring.mark = fault.New(fault.Conflict, "ExtensionDrift", "sshd has UsePAM no."), "changed"
	r.watch(context.Background(), attempt{})
	if a := r.login(alice, aliceID); a.Allow || !strings.Contains(a.Text, "UsePAM no") {
		t.Fatalf("%+v", a)
	}
	r.wiring.check = nil
	r.watch(context.Background(), attempt{})
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.LoginEnabled = false })
	if r.wiring.wired || r.Status().Provisioned != "Succeeded" {
		t.Fatal("not taken out")
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.LoginEnabled, d.Identity = true, false })
	if st := r.Status(); st.Provisioned != "Failed" || st.ExitCode != sshd.ExitNoIdentity || r.wiring.wired {
		t.Fatalf("%+v", st)
	}
	r.wiring.apply = errors.New("no")
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Identity = true })
	if st := r.Status(); st.Provisioned != "Failed" || st.ExitCode != 1 || strings.Contains(st.Message, "no\n") {
		t.Fatalf("%+v", st)
	}
}

func TestAdministrator_MadeOnceAndOnlyOurs(t *testing.T) {
	r := newRig(t)
	pub, _ := ssh.NewPublicKey(r.userCA.Public())
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	want := func(name string, keys ...string) func(*protocol.SnapshotDocument) {
		return func(d *protocol.SnapshotDocument) {
			d.Administrator = &protocol.LocalAdministrator{Name: name, Keys: keys}
		}
	}
	r.mustDeliver(want("azureuser", key+" me@laptop"))
	if !strings.Contains(r.file(administratorSudo), "azureuser ALL=(ALL:ALL) NOPASSWD: ALL\n") || len(r.commands) != 3 || r.commands[0][0] != "useradd" {
		t.Fatalf("%v", r.commands)
	}
	r.mustDeliver(nil)
	if len(r.commands) != 3 {
		t.Fatalf("made again: %v", r.commands)
	}
	for _, name := range []string{"root", "x y", "-r", "a\nb", "", "Upper", "daemon:0"} {
		r.mustDeliver(want(name, key))
		if st := r.Status(); st.Provisioned != "Failed" {
			t.Errorf("%q: %+v", name, st)
		}
	}
	for _, bad := range []string{"", "ssh-ed25519 AAAA", `command="x" ` + key, key + "\n" + key} {
		r.mustDeliver(want("azureuser", bad))
		if st := r.Status(); st.Provisioned != "Failed" {
			t.Errorf("key %q: %+v", bad, st)
		}
	}
	if len(r.commands) != 3 {
		t.Fatalf("%v", r.commands)
	}
}

func TestHostCertificate_OnlyForThisMachine(t *testing.T) {
	r := newRig(t)
	pub, _ := ssh.NewPublicKey(r.host.Public())
	make := func(change func(*ssh.Certificate), ca any) string {
		c := &ssh.Certificate{Key: pub, CertType: ssh.HostCert, Serial: 1, ValidPrincipals: []string{machineID + ".machine.corp.example"},
			ValidAfter: uint64(r.now.Add(-time.Minute).Unix()), ValidBefore: uint64(r.now.Add(time.Hour).Unix())}
		if change != nil {
			change(c)
		}
		signer, err := ssh.NewSignerFromKey(ca)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SignCert(rand.Reader, signer); err != nil {
			t.Fatal(err)
		}
		return string(ssh.MarshalAuthorizedKey(c))
	}
	other, _ := ssh.NewPublicKey(r.userCA.Public())
	for name, line := range map[string]string{
		"user CA": make(nil, r.userCA), "other key": make(func(c *ssh.Certificate) { c.Key = other }, r.hostCA), "user certificate": make(func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, r.hostCA),
		"other name": make(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x"} }, r.hostCA), "two names": make(func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "*") }, r.hostCA),
		"no names": make(func(c *ssh.Certificate) { c.ValidPrincipals = nil }, r.hostCA), "expired": make(func(c *ssh.Certificate) { c.ValidBefore = 2 }, r.hostCA),
		"for ever": make(func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, r.hostCA), "a key": string(ssh.MarshalAuthorizedKey(pub)), "garbage": "x",
	} {
		if err := r.HostCertificate(line); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := r.HostCertificate(make(nil, r.hostCA)); err != nil {
		t.Fatal(err)
	}
	if st := r.Status(); st.HostUntil.IsZero() || !st.HostRenew.Before(st.HostUntil) {
		t.Fatalf("%+v", st)
	}
	r.restart()
	if r.host == nil || r.Status().HostUntil.IsZero() {
		t.Fatal("forgotten")
	}
	proof, err := r.proof()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Open(r.host.Public(), protocol.TypeHostKey); err != nil {
		t.Fatal(err)
	}
}

func TestEvents_UntilTheServerHasThem(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.login(alice, aliceID)
	a, err := r.Control(context.Background(), false, control.Request{Op: control.OpEvents, Generation: -1})
	if err != nil || len(a.Events) == 0 {
		t.Fatal(a, err)
	}
	r.restart()
	again, err := r.Control(context.Background(), false, control.Request{Op: control.OpEvents, Generation: -1})
	if err != nil || len(again.Events) != len(a.Events) {
		t.Fatalf("%d events after a restart, %d before: %v", len(again.Events), len(a.Events), err)
	}
	var ids []string
	for _, e := range a.Events {
		ids = append(ids, e.ID)
	}
	a, err = r.Control(context.Background(), false, control.Request{Op: control.OpEvents, Acknowledge: ids, Generation: r.events.News()})
	if err := r.events.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(a.Events) != 0 || strings.Contains(r.file(eventsPath), "login.allow") {
		t.Fatalf("%+v %v %q", a, err, r.file(eventsPath))
	}
}

func TestChownTree_RefusesRootAndFollowsNothing(t *testing.T) {
	if err := chownTree(0, 0, 5, 0); err == nil {
		t.Fatal("files of root would be handed over")
	}
}
