package root

import (
	"context"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/shim"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// ended has somebody knock, and the login end as the network part says; it returns
// what the person reads.
func (r *rig) ended(pid int, state, certificate string) string {
	r.t.Helper()
	asking, _ := r.talk(pid)
	_, d := r.begin(asking, alice)
	if certificate == "" {
		r.must(control.Request{Op: control.OpDeviceState, Name: d.ID, State: state})
	} else if _, err := r.Control(context.Background(), false, control.Request{Op: control.OpDeviceState, Name: d.ID, State: state, Certificate: r.approval(d, aliceID, func(c *ssh.Certificate) { c.KeyId = bobID })}); err == nil {
		r.t.Error("a certificate of another login was taken")
	}
	a := r.ask(shim.PhaseCheck, asking, alice)
	if a.Allow {
		r.t.Errorf("%s opened the login", state)
	}
	return a.Text
}

// TestApproval_SaysWhatThePageExplains: PAM's whole conversation, ended in each way.
func TestApproval_SaysWhatThePageExplains(t *testing.T) {
	r := newRig(t)
	asking, _ := r.talk(200)
	r.mustDeliver(nil) // the other extension
	handbooktest.Said(t, r.ask(shim.PhaseBegin, asking, alice).Text, "device-not-allowed")
	r.preview()
	pid := 300
	for id, state := range map[string]string{"device-declined": protocol.DeviceDeclined, "device-other": protocol.DeviceOther, "device-policy": protocol.DevicePolicy, "device-account": protocol.DeviceAccount, "device-too-many": protocol.DeviceTooMany} {
		pid += 2
		handbooktest.Said(t, r.ended(pid, state, ""), id, "NAME", alice)
	}
	handbooktest.Said(t, r.ended(400, protocol.DeviceApproved, "of another login"), "device-refused")

	// The server brings no code: whoever waits for PAM gives up.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	asking, _ = r.talk(410)
	handbooktest.Said(t, r.PAM(gone, asking, shim.PAMRequest{Phase: shim.PhaseBegin, Service: "sshd", User: alice, RHost: "192.0.2.7"}).Text, "device-away")

	// Nobody answers on the web page until sshd waits no longer.
	asking, _ = r.talk(420)
	r.begin(asking, alice)
	r.elapsed += 2 * time.Minute
	handbooktest.Said(t, r.PAM(gone, asking, shim.PAMRequest{Phase: shim.PhaseCheck, Service: "sshd", User: alice, RHost: "192.0.2.7"}).Text, "device-expired")

	// sshd's LoginGraceTime is almost over when PAM is asked.
	asking, monitor := r.talk(430)
	p := r.processes[monitor.PID]
	p.Start = uint64((r.elapsed - 110*time.Second) / clockTick)
	r.processes[monitor.PID] = p
	handbooktest.Said(t, r.ask(shim.PhaseBegin, asking, alice).Text, "device-no-time")
}
