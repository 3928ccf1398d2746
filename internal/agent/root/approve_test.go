package root

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
	"sallyport/internal/crowdtest"
	"sallyport/internal/machine/protocol"
)

const flow = "0aaaaaaa-0000-4000-8000-0000000000ff"

// preview delivers the snapshot of a machine that has the preview extension.
func (r *rig) preview() {
	r.t.Helper()
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Preview, d.Identity = true, false })
}

// talk makes an sshd with the process in which it lets PAM talk.
func (r *rig) talk(pid int) (asking, monitor shim.Peer) {
	start := uint64((r.elapsed - time.Second) / clockTick)
	r.processes[pid] = proc.Process{PID: pid, PPID: 5, Start: start, Exe: "/usr/sbin/sshd", Title: "sshd: x [priv]"}
	r.processes[pid+1] = proc.Process{PID: pid + 1, PPID: pid, Start: start + 1, Exe: "/usr/sbin/sshd", Title: "sshd: x [pam]"}
	return shim.Peer{PID: pid + 1}, shim.Peer{PID: pid}
}

func (r *rig) ask(phase shim.Phase, peer shim.Peer, login string) shim.PAMAnswer {
	return r.PAM(context.Background(), peer, shim.PAMRequest{Phase: phase, Service: "sshd", User: login, RHost: "192.0.2.7"})
}

// code signs what the server says a person types.
func (r *rig) code(d control.Device, key ed25519.PrivateKey, change func(*protocol.DeviceCode)) *protocol.Envelope {
	r.t.Helper()
	c := protocol.DeviceCode{MachineID: machineID, Tenant: tenant, LoginName: d.Login, ObjectID: d.ObjectID, Confirmation: d.Confirmation, UserCode: "BCDFGHJK", CorrelationID: flow, ExpiresAt: r.now.Add(time.Minute)}
	if change != nil {
		change(&c)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, key, protocol.TypeDeviceCode, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return &e
}

func (r *rig) must(request control.Request) control.Answer {
	r.t.Helper()
	a, err := r.Control(context.Background(), false, request)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// begin has somebody knock, and the network part bring a code. It returns what PAM
// was told, and the login as the network part sees it.
func (r *rig) begin(peer shim.Peer, login string) (shim.PAMAnswer, control.Device) {
	r.t.Helper()
	said := make(chan shim.PAMAnswer, 1)
	go func() { said <- r.ask(shim.PhaseBegin, peer, login) }()
	d := r.must(control.Request{Op: control.OpDevices, WaitMillis: 5000}).Devices
	if len(d) != 1 {
		r.t.Fatalf("%d logins: %+v", len(d), <-said)
	}
	r.must(control.Request{Op: control.OpDeviceCode, Name: d[0].ID, Code: r.code(d[0], r.snapshotKey, nil)})
	return <-said, d[0]
}

// approval is the certificate that the server issues for a login.
func (r *rig) approval(d control.Device, objectID string, change func(*ssh.Certificate)) string {
	r.t.Helper()
	var jwk struct {
		X string `json:"x"`
	}
	if err := json.Unmarshal([]byte(d.Confirmation), &jwk); err != nil {
		r.t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(jwk.X)
	if err != nil {
		r.t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(ed25519.PublicKey(raw))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.certificate(d.Login, objectID, func(c *ssh.Certificate) {
		c.Key, c.KeyId = pub, flow
		c.Extensions[extMachine] = machineID
		if change != nil {
			change(c)
		}
	}).Certificate
}

func TestApproval_OpensOneSessionOfOneConnection(t *testing.T) {
	r := newRig(t)
	r.preview()
	asking, monitor := r.talk(300)
	prompt, d := r.begin(asking, alice)
	for _, word := range []string{"vm1", alice, "https://server.example/device", "BCDF-GHJK", "Press Enter"} {
		if !strings.Contains(prompt.Prompt, word) {
			t.Errorf("the prompt does not say %q: %+v", word, prompt)
		}
	}
	if d.From != "192.0.2.7" || d.LifeSeconds < 100 || d.LifeSeconds > 120 {
		t.Errorf("%+v", d)
	}
	r.must(control.Request{Op: control.OpDeviceState, Name: d.ID, State: protocol.DeviceApproved, Certificate: r.approval(d, aliceID, nil)})
	other, _ := r.talk(400)
	if a := r.ask(shim.PhaseCheck, other, alice); a.Allow {
		t.Error("another connection used the approval")
	}
	if a := r.ask(shim.PhaseCheck, asking, bob); a.Allow {
		t.Error("an approval of alice opened bob's account (CVE-2024-9313)")
	}
	if a := r.ask(shim.PhaseCheck, asking, alice); !a.Allow {
		t.Fatalf("%+v", a)
	}
	if a := r.ask(shim.PhaseCheck, asking, alice); a.Allow {
		t.Error("an approval was used twice")
	}
	if a := r.ask(shim.PhaseAccount, asking, alice); !a.Allow {
		t.Fatalf("account: %+v", a)
	}
	if a := r.ask(shim.PhaseOpen, monitor, alice); !a.Allow {
		t.Fatalf("session: %+v", a)
	}
	if a := r.ask(shim.PhaseOpen, monitor, alice); a.Allow {
		t.Error("a second session of the same approval")
	}
}

// TestApproval_NetworkPartCanDenyAndNotGrant: whatever the part that talks to the
// network brings, only what the server signed for this login lets in.
func TestApproval_NetworkPartCanDenyAndNotGrant(t *testing.T) {
	r := newRig(t)
	r.preview()
	pid := 300
	for name, change := range map[string]func(*ssh.Certificate){
		"host CA":           func(c *ssh.Certificate) { c.SignatureKey = c.Key },
		"another key":       func(c *ssh.Certificate) { c.Key, _ = ssh.NewPublicKey(newKey(t).Public()) },
		"another flow":      func(c *ssh.Certificate) { c.KeyId = bobID },
		"another machine":   func(c *ssh.Certificate) { c.Extensions[extMachine] = bobID },
		"any machine":       func(c *ssh.Certificate) { delete(c.Extensions, extMachine) },
		"CVE-2026-45108":    func(c *ssh.Certificate) { c.ValidPrincipals, c.Extensions[extObjectID] = []string{bob, bobID}, bobID },
		"both people":       func(c *ssh.Certificate) { c.ValidPrincipals = []string{alice, aliceID, bobID} },
		"object of another": func(c *ssh.Certificate) { c.Extensions[extObjectID] = bobID },
		"expired":           func(c *ssh.Certificate) { c.ValidBefore = uint64(r.now.Add(-time.Second).Unix()) },
		"forced command":    func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "id"} },
		"another tenant":    func(c *ssh.Certificate) { c.Extensions[extTenant] = bobID },
	} {
		asking, _ := r.talk(pid)
		pid += 2
		_, d := r.begin(asking, alice)
		if _, err := r.Control(context.Background(), false, control.Request{Op: control.OpDeviceState, Name: d.ID, State: protocol.DeviceApproved, Certificate: r.approval(d, aliceID, change)}); err == nil {
			t.Errorf("%s: taken", name)
		}
		if a := r.ask(shim.PhaseCheck, asking, alice); a.Allow || !strings.Contains(a.Text, "does not accept the approval") {
			t.Errorf("%s: %+v", name, a)
		}
		if a := r.ask(shim.PhaseAccount, asking, alice); a.Allow {
			t.Errorf("%s: account phase allowed", name)
		}
	}
	if got := r.reasons(); !slices.Contains(got, "document.deny the approval is refused: it is no certificate for this login") && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "document.deny") }) {
		t.Errorf("the server is not told: %v", got)
	}
	for name, c := range map[string]struct {
		key    ed25519.PrivateKey
		change func(*protocol.DeviceCode)
	}{
		"signed by another":   {r.hostCA, nil},
		"of another machine":  {r.snapshotKey, func(c *protocol.DeviceCode) { c.MachineID = bobID }},
		"for another login":   {r.snapshotKey, func(c *protocol.DeviceCode) { c.LoginName, c.ObjectID = bob, bobID }},
		"for another key":     {r.snapshotKey, func(c *protocol.DeviceCode) { c.Confirmation = "{}" }},
		"a text, not a code":  {r.snapshotKey, func(c *protocol.DeviceCode) { c.UserCode = "visit me" }},
		"over":                {r.snapshotKey, func(c *protocol.DeviceCode) { c.ExpiresAt = r.now }},
		"without correlation": {r.snapshotKey, func(c *protocol.DeviceCode) { c.CorrelationID = "" }},
	} {
		asking, _ := r.talk(pid)
		pid += 2
		said := make(chan shim.PAMAnswer, 1)
		go func() { said <- r.ask(shim.PhaseBegin, asking, alice) }()
		d := r.must(control.Request{Op: control.OpDevices, WaitMillis: 5000}).Devices[0]
		if _, err := r.Control(context.Background(), false, control.Request{Op: control.OpDeviceCode, Name: d.ID, Code: r.code(d, c.key, c.change)}); err == nil {
			t.Errorf("%s: taken", name)
		}
		r.must(control.Request{Op: control.OpDeviceState, Name: d.ID, State: protocol.DeviceTooMany})
		if a := <-said; a.Prompt != "" || a.Text == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// TestApproval_WhoFillsTheRoomEmptiesHisOwn: somebody who knocks again and again
// from one address keeps nobody out who comes from another.
func TestApproval_WhoFillsTheRoomEmptiesHisOwn(t *testing.T) {
	r := newRig(t)
	r.preview()
	pid := 400
	knock := func(from string) (shim.Peer, shim.PAMAnswer) {
		asking, _ := r.talk(pid)
		pid += 2
		said := make(chan shim.PAMAnswer, 1)
		go func() {
			said <- r.PAM(context.Background(), asking, shim.PAMRequest{Phase: shim.PhaseBegin, Service: "sshd", User: alice, RHost: from})
		}()
		for {
			select {
			case a := <-said:
				return asking, a
			default:
			}
			for _, d := range r.must(control.Request{Op: control.OpDevices, WaitMillis: 20}).Devices {
				r.must(control.Request{Op: control.OpDeviceCode, Name: d.ID, Code: r.code(d, r.snapshotKey, nil)})
			}
		}
	}
	first := map[int]shim.Peer{}
	for range mostApprovals {
		asking, a := knock("192.0.2.7")
		if a.Prompt == "" {
			t.Fatalf("%+v", a)
		}
		first[asking.PID] = asking
	}
	if _, a := knock("192.0.2.7"); a.Prompt != "" || !strings.Contains(a.Text, "too many logins") {
		t.Errorf("one more from there: %+v", a)
	}
	if _, a := knock("198.51.100.9"); a.Prompt == "" {
		t.Fatalf("from elsewhere: %+v", a)
	}
	gone := 0
	for _, x := range r.approvals.all {
		if x.state == "" {
			continue
		}
		gone++
		if _, err := r.Control(context.Background(), false, control.Request{Op: control.OpDeviceState, Name: x.ID, State: protocol.DevicePending}); err == nil {
			t.Error("the network part goes on asking for it")
		}
		if a := r.ask(shim.PhaseCheck, first[x.asking.PID], alice); a.Allow || !strings.Contains(a.Text, "too many logins") {
			t.Errorf("%+v", a)
		}
	}
	if gone != 1 {
		t.Errorf("%d logins gave way", gone)
	}
}

// TestApproval_WhoIsNotAsked: no code is made where it could open nothing.
func TestApproval_WhoIsNotAsked(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	asking, _ := r.talk(300)
	if a := r.ask(shim.PhaseBegin, asking, alice); a.Prompt != "" || !strings.Contains(a.Text, "switched off") {
		t.Errorf("a machine with the other extension: %+v", a)
	}
	r.preview()
	for name, a := range map[string]shim.PAMAnswer{
		"su":        r.PAM(context.Background(), asking, shim.PAMRequest{Phase: shim.PhaseBegin, Service: "su", User: alice}),
		"sudo":      r.PAM(context.Background(), asking, shim.PAMRequest{Phase: shim.PhaseBegin, Service: "sudo", User: alice}),
		"robot":     r.ask(shim.PhaseBegin, asking, aliceID),
		"stranger":  r.ask(shim.PhaseBegin, asking, "nobody@corp.example"),
		"no sshd":   r.ask(shim.PhaseBegin, shim.Peer{PID: 5}, alice),
		"no prompt": r.ask(shim.PhaseCheck, asking, alice),
	} {
		if a.Allow || a.Wait || a.Prompt != "" || a.Text == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// Without the agent's network part nobody waits for long.
	begun := time.Now()
	if a := r.ask(shim.PhaseBegin, asking, alice); a.Prompt != "" || !strings.Contains(a.Text, "the server does not answer") || time.Since(begun) > 2*time.Second+crowdtest.Limit(900*time.Millisecond) {
		t.Errorf("after %s: %+v", time.Since(begun), a)
	}
	// The role is decided as for a certificate, before anybody is let in.
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Principals[0].Access, d.Principals[0].Reason = protocol.None, protocol.ReasonNoRole
	})
	asking, _ = r.talk(310)
	_, d := r.begin(asking, alice)
	r.must(control.Request{Op: control.OpDeviceState, Name: d.ID, State: protocol.DeviceApproved, Certificate: r.approval(d, aliceID, nil)})
	if a := r.ask(shim.PhaseCheck, asking, alice); a.Allow || !strings.Contains(a.Text, "Azure role not assigned") {
		t.Errorf("%+v", a)
	}
	// Many waiting logins are as many as a machine has room for.
	var many []shim.Peer
	for pid := 400; pid < 440; pid += 2 {
		p, _ := r.talk(pid)
		many = append(many, p)
	}
	for _, p := range many {
		go r.ask(shim.PhaseBegin, p, alice)
	}
	n := 0
	for n < mostApprovals {
		n += len(r.must(control.Request{Op: control.OpDevices, WaitMillis: 5000}).Devices)
	}
	if more := len(r.must(control.Request{Op: control.OpDevices, WaitMillis: 300}).Devices); n > mostApprovals || more > 0 {
		t.Errorf("%d and %d logins wait", n, more)
	}
}

// A login that asks for approval waits for the network part that runs, and is not
// handed to a connection of the one before it.
func TestApproval_NotForAConnectionThatHasEnded(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Preview = true })
	gone, end := context.WithCancel(context.Background())
	end()
	asking, _ := r.talk(300)
	said := make(chan shim.PAMAnswer, 1)
	r.approvals.mu.Lock()
	news := r.approvals.news
	r.approvals.mu.Unlock()
	go func() { said <- r.ask(shim.PhaseBegin, asking, alice) }()
	<-news
	if a, err := r.Control(gone, false, control.Request{Op: control.OpDevices, WaitMillis: 5000}); err != nil || len(a.Devices) != 0 {
		t.Errorf("%+v %v", a, err)
	}
	d := r.must(control.Request{Op: control.OpDevices, WaitMillis: 5000}).Devices
	if len(d) != 1 {
		t.Fatalf("%d logins", len(d))
	}
	r.must(control.Request{Op: control.OpDeviceCode, Name: d[0].ID, Code: r.code(d[0], r.snapshotKey, nil)})
	if a := <-said; a.Prompt == "" {
		t.Errorf("%+v", a)
	}
}
