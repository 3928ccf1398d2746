package root

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/shim"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

func TestLogin_AllowedAndWrittenDown(t *testing.T) {
	r := newRig(t)
	if a := r.login(alice, aliceID); a.Allow {
		t.Fatal("allowed before the first snapshot")
	}
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	if got := r.reasons(); !slices.Contains(got, "login.allow granted") {
		t.Fatalf("%v", got)
	}
	if e, ok := r.names.Owner(alice); !ok || e.ObjectID != aliceID {
		t.Fatalf("the name was not kept: %+v", e)
	}
}

func TestPAM_RulesOfTheConnectionRecord(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	monitor, helper := r.connect(100)
	request := func() shim.PrincipalsRequest { return r.certificate(alice, aliceID, nil) }
	ask := func() bool { _, ok := r.Principals(context.Background(), helper, request()); return ok }

	if r.account("sshd", alice, monitor).Allow {
		t.Error("allowed without a record")
	}
	if !ask() || !r.account("sshd", alice, monitor).Allow {
		t.Error("refused with a record")
	}
	if r.account("sshd", alice, monitor).Allow {
		t.Error("a record was used twice")
	}
	ask()
	r.elapsed += 31 * time.Second
	if r.account("sshd", alice, monitor).Allow {
		t.Error("an old record was used")
	}
	ask()
	p := r.processes[100]
	p.Start++
	r.processes[100] = p
	if r.account("sshd", alice, monitor).Allow {
		t.Error("another process with the same id used the record")
	}
	ask()
	if r.account("sshd", bob, monitor).Allow {
		t.Error("a record of alice opened bob's account (CVE-2024-9313)")
	}
	ask()
	p.UIDs = [4]uint32{1000, 1000, 1000, 1000}
	r.processes[100] = p
	if r.account("sshd", alice, monitor).Allow {
		t.Error("a process that is not root's used the record")
	}
	if ask() {
		t.Error("a helper whose parent is not root's sshd was answered")
	}
}

// TestPAM_CVE_2024_45337_LastCertificateCounts: a stronger certificate is offered first, a
// weaker one signs; the weaker one decides.
func TestPAM_CVE_2024_45337_LastCertificateCounts(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].Factors = []string{"otp"} })
	monitor, helper := r.connect(100)
	strong := r.certificate(alice, aliceID, func(c *ssh.Certificate) { c.Extensions[extFactors] = "otp:1,pwd:1" })
	weak := r.certificate(alice, aliceID, nil)
	for _, c := range []shim.PrincipalsRequest{strong, weak} {
		if _, ok := r.Principals(context.Background(), helper, c); !ok {
			t.Fatal("no principal")
		}
	}
	if a := r.account("sshd", alice, monitor); a.Allow || !strings.Contains(a.Text, "otp") {
		t.Fatalf("%+v", a)
	}
	_, _ = r.Principals(context.Background(), helper, strong)
	if a := r.account("sshd", alice, monitor); !a.Allow {
		t.Fatal(a.Text)
	}
}

func TestPrincipals_RefusesForgeries(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	_, helper := r.connect(100)
	for name, change := range map[string]func(*ssh.Certificate){
		"host CA":              func(c *ssh.Certificate) { c.SignatureKey = c.Key },
		"host certificate":     func(c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"expired":              func(c *ssh.Certificate) { c.ValidBefore = uint64(r.now.Add(-time.Second).Unix()) },
		"not yet valid":        func(c *ssh.Certificate) { c.ValidAfter = uint64(r.now.Add(time.Minute).Unix()) },
		"other object":         func(c *ssh.Certificate) { c.ValidPrincipals = []string{alice, bobID} },
		"no principals":        func(c *ssh.Certificate) { c.ValidPrincipals = nil }, // CVE-2024-7594
		"star":                 func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*"} },
		"comma list":           func(c *ssh.Certificate) { c.ValidPrincipals = []string{alice + "," + aliceID} },
		"other tenant":         func(c *ssh.Certificate) { c.Extensions[extTenant] = bobID }, // CVE-2026-31957
		"no tenant":            func(c *ssh.Certificate) { delete(c.Extensions, extTenant) },
		"option of the future": func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"only-on-mondays@sallyport": ""} },
	} {
		if id, ok := r.Principals(context.Background(), helper, r.certificate(alice, aliceID, change)); ok {
			t.Errorf("%s: answered %s", name, id)
		}
	}
	q := r.certificate(alice, aliceID, nil)
	for name, change := range map[string]func(*shim.PrincipalsRequest){
		"other serial": func(q *shim.PrincipalsRequest) { q.Serial = "99" },
		"other key id": func(q *shim.PrincipalsRequest) { q.KeyID = "x" },
		"no base64":    func(q *shim.PrincipalsRequest) { q.Certificate = "!" },
		"plain key": func(q *shim.PrincipalsRequest) {
			q.Certificate = "AAAAC3NzaC1lZDI1NTE5AAAAIGPk3kTtPqXMDzrhFl/dXSwPFTnCDFzSqE2hA9OVVZNS"
		},
		"unknown user": func(q *shim.PrincipalsRequest) { q.User = "root" },
	} {
		bad := q
		change(&bad)
		if id, ok := r.Principals(context.Background(), helper, bad); ok {
			t.Errorf("%s: answered %s", name, id)
		}
	}
}

func TestPAM_ServicesAndWhatTheyNeed(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	for _, c := range []struct {
		service, login string
		allow          bool
	}{
		{"sudo", alice, false}, {"sudo-i", alice, false}, {"sudo", bob, true}, {"sudo-i", bob, true}, {"su", alice, true}, {"cron", alice, true}, {"atd", alice, true}, {"systemd-user", alice, true}, {"atd", "nobody@corp.example", false}, {"login", bob, true},
		{"polkit-1", bob, false}, {"sshd-other", bob, false}, {"sshd", bob, false}, {"su", "nobody@corp.example", false},
	} {
		if a := r.account(c.service, c.login, shim.Peer{PID: 1}); a.Allow != c.allow {
			t.Errorf("%s as %s: %+v", c.service, c.login, a)
		}
	}
}

func TestPAM_EndOfSessionIsNeverStopped(t *testing.T) {
	r := newRig(t)
	for _, service := range []string{"sshd", "login"} {
		if a := r.PAM(context.Background(), shim.Peer{}, shim.PAMRequest{Phase: shim.PhaseClose, Service: service, User: alice, RHost: "10.0.0.1"}); !a.Allow {
			t.Error(service)
		}
	}
}

func (r *rig) openSession(pid int, login string) shim.PAMAnswer {
	return r.PAM(context.Background(), shim.Peer{PID: pid}, shim.PAMRequest{Phase: shim.PhaseOpen, Service: "sshd", User: login})
}

// A snapshot that arrives between the account phase and the session ends the
// login: the worker cannot see its process yet, so the session must not open.
func TestPAM_RevokedWhileLoggingIn(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(*protocol.SnapshotDocument)
	}{
		"nothing changed":  {"", nil},
		"role removed":     {"no-role", func(d *protocol.SnapshotDocument) { d.Principals[0].Access = protocol.None }},
		"sessions revoked": {"not-before", func(d *protocol.SnapshotDocument) { d.Principals[0].NotBefore = d.IssuedAt.Add(time.Hour) }},
		"serial revoked":   {"revoked", func(d *protocol.SnapshotDocument) { d.Revoked = []string{"1"} }},
		"deleted":          {"unknown", func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] }},
		"identity removed": {"identity-removed", func(d *protocol.SnapshotDocument) { d.Identity = false }},
	} {
		r := newRig(t)
		r.mustDeliver(nil)
		if a := r.login(alice, aliceID); !a.Allow {
			t.Fatalf("%s: %+v", name, a)
		}
		r.elapsed += 20 * time.Second // slow session modules do not matter
		r.now = r.now.Add(20 * time.Second)
		r.mustDeliver(c.change)
		a := r.openSession(100, alice)
		if a.Allow != (c.reason == "") || a.Allow != (a.Text == "") {
			t.Errorf("%s: %+v", name, a)
		}
		if got := r.reasons(); c.reason != "" && got[len(got)-1] != "login.deny "+c.reason {
			t.Errorf("%s: %v", name, got)
		}
		if again := r.openSession(100, alice); again.Allow {
			t.Errorf("%s: one login opened two sessions", name)
		}
	}
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatalf("%+v", a)
	}
	for _, c := range []struct {
		pid   int
		login string
	}{{101, alice}, {100, bob}, {7777, alice}} {
		if a := r.openSession(c.pid, c.login); a.Allow {
			t.Errorf("process %d opened a session of %s", c.pid, c.login)
		}
	}
}

// TestPAM_EndedInTheSameSecond: the seconds of ValidAfter cannot say whether a
// certificate was made before or after sessions ended; its own time of issue can.
func TestPAM_EndedInTheSameSecond(t *testing.T) {
	for name, c := range map[string]struct {
		issued time.Duration // after the second began; negative: the certificate does not say
		reason string
	}{
		"made after":            {600 * time.Millisecond, ""},
		"made at that time":     {400 * time.Millisecond, ""},
		"made before":           {399 * time.Millisecond, "not-before"},
		"an older server's":     {-1, "not-before"},
		"not within its second": {time.Second, "no-certificate"},
	} {
		r := newRig(t)
		second := r.now.Truncate(time.Second)
		r.now = second.Add(900 * time.Millisecond)
		r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].NotBefore = second.Add(400 * time.Millisecond) })
		monitor, helper := r.connect(100)
		request := r.certificate(alice, aliceID, func(cert *ssh.Certificate) {
			if c.issued >= 0 {
				cert.Extensions[extIssued] = strconv.FormatInt(second.Add(c.issued).UnixMicro(), 10)
			}
		})
		_, _ = r.Principals(context.Background(), helper, request) // a refusal shows in the account phase
		a := r.PAM(context.Background(), monitor, shim.PAMRequest{Phase: shim.PhaseAccount, Service: "sshd", User: alice, RHost: "10.0.0.1"})
		if a.Allow != (c.reason == "") {
			t.Errorf("%s: %+v", name, a)
		}
		if got := r.reasons(); c.reason != "" && got[len(got)-1] != "login.deny "+c.reason {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestPAM_DeletedAndMadeAgain: the new object has the name and a good
// certificate, and gets neither the old home nor a login until root decides.
func TestPAM_DeletedAndMadeAgain(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if a := r.login(alice, aliceID); !a.Allow {
		t.Fatal(a.Text)
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Principals[0].ObjectID, d.Principals[0].UID = alice2ID, aliceUID+50
	})
	monitor, helper := r.connect(100)
	if _, ok := r.Principals(context.Background(), helper, r.certificate(alice, aliceID, nil)); ok {
		t.Fatal("the old certificate names the account")
	}
	_ = monitor
	a := r.login(alice, alice2ID)
	if a.Allow || !strings.Contains(a.Text, "sally agent home archive "+alice) {
		t.Fatalf("%+v", a)
	}
	if homes := r.homes(); len(homes) != 1 || homes[0].ObjectID != aliceID || homes[0].Claimant != alice2ID {
		t.Fatalf("%+v", homes)
	}
	if err := os.Mkdir(r.root+"/home/"+alice, 0o700); err != nil {
		t.Fatal(err)
	}
	to, err := r.archive(alice)
	if err != nil || !strings.HasPrefix(to, "/home/"+alice+".archived-") {
		t.Fatal(to, err)
	}
	if a := r.login(alice, alice2ID); !a.Allow {
		t.Fatal(a.Text)
	}
	if _, err := r.archive(alice); err == nil {
		t.Fatal("archived the home of its owner")
	}
	if _, err := r.archive("nobody@corp.example"); err == nil {
		t.Fatal("archived for nobody")
	}
}

func TestPAM_HomeOfAnother(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	if err := os.Mkdir(r.root+"/home/"+alice, 0o755); err != nil { // belongs to who runs the test
		t.Fatal(err)
	}
	if a := r.login(alice, aliceID); a.Allow || !strings.Contains(a.Text, "home folder") {
		t.Fatalf("%+v", a)
	}
	_ = os.Remove(r.root + "/home/" + alice)
	if err := os.Symlink("/etc", r.root+"/home/"+alice); err != nil {
		t.Fatal(err)
	}
	if a := r.login(alice, aliceID); a.Allow {
		t.Fatal("a link passed for a home")
	}
}

// TestPAM_CVE_2025_49012_LocalNameIsRefused: a directory user named like a local one.
func TestPAM_CVE_2025_49012_LocalNameIsRefused(t *testing.T) {
	r := newRig(t)
	const name = "local@corp.example"
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals[0].LoginName = name })
	if a := r.login(name, aliceID); a.Allow || !strings.Contains(a.Text, "local user") {
		t.Fatalf("%+v", a)
	}
	db, err := shim.ReadNSS(r.root + nssPath)
	if err != nil || slices.ContainsFunc(db.Users, func(u shim.User) bool { return u.Name == name }) {
		t.Fatalf("%v %+v", err, db.Users)
	}
}

func TestPAM_NoRandomnessNoLogin(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	r.cfg.Rand = strings.NewReader("")
	a := r.account("su", alice, shim.Peer{})
	if a.Allow {
		t.Fatalf("%+v", a)
	}
	handbooktest.Said(t, a.Text, "pam-undecided")
}
