package machine_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

func report() protocol.Report {
	return protocol.Report{Capability: 1, Agent: "sally 1", Revision: 3, Provisioned: "Succeeded", Addresses: []string{"10.77.0.2"},
		Events: []protocol.MachineEvent{{ID: eventID, Type: "login.deny", CorrelationID: tenantID, ObjectID: otherID, LoginName: "alice@corp.example", Detail: map[string]string{"reason": "no-role"}}}}
}

func session(id string) protocol.Session {
	return protocol.Session{ID: id, ObjectID: otherID, LoginName: "alice@corp.example", Since: time.Unix(1_800_000_000, 0), Kind: protocol.SessionPTY, CorrelationID: tenantID}
}

func TestReport_StoredAndEventsAuditedOnce(t *testing.T) {
	r := newRig(t)
	r.joined()
	for range 3 {
		if err := r.Report(t.Context(), r.by(machineID), report()); err != nil {
			t.Fatal(err)
		}
	}
	st, _ := r.State(machineID)
	if st.Report.Revision != 3 || st.Report.Provisioned != "Succeeded" || !slices.Equal(st.Report.Addresses, []string{"10.77.0.2"}) {
		t.Fatalf("%+v", st.Report)
	}
	list := r.audited()
	if len(list) != 3 || list[0].Type != "machine.login.deny" || list[0].Outcome != audit.Denied || list[0].CorrelationID != tenantID || list[0].Principal != machineID || list[0].Detail["reason"] != "no-role" {
		t.Fatalf("%v", r.types())
	}
}

// A machine says A, then B to another server, then A again to this one, which has
// not heard of B: the last is what is stored.
func TestReport_AnotherServerStoredAnother(t *testing.T) {
	r := newRig(t)
	r.joined()
	p := report()
	p.Events = nil
	if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
		t.Fatal(err)
	}
	stored := func() (m machine.Machine) {
		t.Helper()
		if err := r.store.Read(t.Context(), func(tx *store.Tx) (err error) { m, _, err = tx.MachineByID(machineID); return err }); err != nil {
			t.Fatal(err)
		}
		return m
	}
	other := stored()
	other.Report.Revision = 2
	if err := r.store.Write(t.Context(), func(tx *store.Tx) error { return tx.PutMachine(other) }); err != nil {
		t.Fatal(err)
	}
	if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
		t.Fatal(err)
	}
	if m := stored(); m.Report.Revision != 3 {
		t.Fatalf("%+v", m.Report)
	}
}

// An event of a newer agent is recorded with what it says, and not under a name
// or with facts that the reference does not have.
func TestReport_UnknownEventIsKeptWhole(t *testing.T) {
	r := newRig(t)
	r.joined()
	for i, e := range []protocol.MachineEvent{
		{Type: "disk.fail", Detail: map[string]string{"disk": "sda"}}, {Type: "login.allow", Detail: map[string]string{"mood": "good"}},
		{Type: "other", Detail: map[string]string{"event": "forged"}}, {Type: "joinToken"},
	} {
		p := report()
		e.ID, e.CorrelationID = strings.Repeat(string(rune('a'+i)), 8)+eventID[8:], tenantID
		p.Events = []protocol.MachineEvent{e}
		if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
			t.Fatal(err)
		}
		got := r.audited()[0]
		facts, _ := json.Marshal(e.Detail)
		if got.Type != "machine.other" || got.Detail["event"] != e.Type || got.Detail["facts"] != string(facts) || i == 0 && got.Outcome != audit.Failure {
			t.Errorf("%+v", got)
		}
	}
}

func TestReport_Refusals(t *testing.T) {
	r := newRig(t)
	r.joined()
	for name, change := range map[string]func(*protocol.Report){
		"capability": func(p *protocol.Report) { p.Capability = 9 }, "provisioned": func(p *protocol.Report) { p.Provisioned = "Great" }, "escape": func(p *protocol.Report) { p.Message = "\x1b[2J" },
		"address": func(p *protocol.Report) { p.Addresses = []string{"-oProxyCommand=x"} }, "host key": func(p *protocol.Report) { p.HostKeys = []string{"x"} },
		"event id": func(p *protocol.Report) { p.Events[0].ID = "1" }, "event type": func(p *protocol.Report) { p.Events[0].Type = "a b" }, "correlation": func(p *protocol.Report) { p.Events[0].CorrelationID = "x" },
		"detail": func(p *protocol.Report) { p.Events[0].Detail = map[string]string{"a": strings.Repeat("x", 2000)} }, "revision": func(p *protocol.Report) { p.Revision = -1 },
		"events":                          func(p *protocol.Report) { p.Events = make([]protocol.MachineEvent, 300) },
		"a session before its capability": func(p *protocol.Report) { p.Capability, p.Sessions = 2, []protocol.Session{session(eventID)} },
		"a session twice": func(p *protocol.Report) {
			p.Capability, p.Sessions = 3, []protocol.Session{session(eventID), session(eventID)}
		},
		"a session without a kind": func(p *protocol.Report) {
			p.Capability, p.Sessions = 3, []protocol.Session{{ID: eventID, ObjectID: otherID}}
		},
		"more sessions": func(p *protocol.Report) {
			p.Capability, p.Sessions = 3, make([]protocol.Session, protocol.MaxSessions+1)
		},
		"a session before the first year": func(p *protocol.Report) {
			p.Capability, p.Sessions = 3, []protocol.Session{session(eventID)}
			p.Sessions[0].Since = time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 23*3600))
		},
		"a session after the last year": func(p *protocol.Report) {
			p.Capability, p.Sessions = 3, []protocol.Session{session(eventID)}
			p.Sessions[0].Since = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -23*3600))
		},
		"fewer than none": func(p *protocol.Report) { p.Capability, p.MoreSessions = 3, -1 },
	} {
		p := report()
		change(&p)
		if err := r.Report(t.Context(), r.by(machineID), p); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Report(t.Context(), r.by(otherID), report()); !fault.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
}

func TestHostCertificate_ProofIsVerified(t *testing.T) {
	r := newRig(t)
	r.joined()
	_, host, _ := ed25519.GenerateKey(rand.Reader)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	line := func(k ed25519.PrivateKey) string {
		p, _ := ssh.NewPublicKey(k.Public())
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p)))
	}
	good := protocol.HostKeyProof{MachineID: machineID, Tenant: tenantID, HostKey: line(host), At: r.now}
	ask := func(p protocol.HostKeyProof, key ed25519.PrivateKey, kind string) error {
		payload, _ := json.Marshal(p)
		e, err := protocol.Sign(rand.Reader, key, kind, payload)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.HostCertificate(t.Context(), r.by(machineID), protocol.HostCertificateRequest{Proof: e})
		return err
	}
	if err := ask(good, host, protocol.TypeHostKey); err != nil {
		t.Fatal(err)
	}
	if q := r.issued[0]; q.Principal != machineID+".machine.corp.example" || q.PublicKey != line(host) || q.KeyID != otherID {
		t.Fatalf("%+v", q)
	}
	if got := r.types(); got[len(got)-1] != "hostCertificate.issue success" {
		t.Fatalf("%v", got)
	}
	for name, c := range map[string]struct {
		change func(*protocol.HostKeyProof)
		key    ed25519.PrivateKey
		kind   string
	}{
		"another's key": {func(*protocol.HostKeyProof) {}, other, protocol.TypeHostKey}, "another document": {func(*protocol.HostKeyProof) {}, host, protocol.TypeSnapshot},
		"another machine": {func(p *protocol.HostKeyProof) { p.MachineID = otherID }, host, protocol.TypeHostKey}, "another tenant": {func(p *protocol.HostKeyProof) { p.Tenant = otherID }, host, protocol.TypeHostKey},
		"old": {func(p *protocol.HostKeyProof) { p.At = r.now.Add(-6 * time.Minute) }, host, protocol.TypeHostKey}, "ahead": {func(p *protocol.HostKeyProof) { p.At = r.now.Add(6 * time.Minute) }, host, protocol.TypeHostKey},
		"option": {func(p *protocol.HostKeyProof) { p.HostKey = "cert-authority " + p.HostKey }, host, protocol.TypeHostKey}, "no key": {func(p *protocol.HostKeyProof) { p.HostKey = "" }, host, protocol.TypeHostKey},
		"two lines": {func(p *protocol.HostKeyProof) { p.HostKey += "\n" + line(other) }, host, protocol.TypeHostKey},
	} {
		p := good
		c.change(&p)
		if err := ask(p, c.key, c.kind); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(r.issued) != 1 {
		t.Fatalf("%d certificates", len(r.issued))
	}
}

// TestCVE_2025_49825_ACertificateIsNoHostKey: the proof names a certificate in
// the place of a key.
func TestCVE_2025_49825_ACertificateIsNoHostKey(t *testing.T) {
	r := newRig(t)
	r.joined()
	_, host, _ := ed25519.GenerateKey(rand.Reader)
	pub, _ := ssh.NewPublicKey(host.Public())
	signer, _ := ssh.NewSignerFromKey(host)
	cert := &ssh.Certificate{Key: pub, CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(protocol.HostKeyProof{MachineID: machineID, Tenant: tenantID, HostKey: string(ssh.MarshalAuthorizedKey(cert)), At: r.now})
	e, _ := protocol.Sign(rand.Reader, host, protocol.TypeHostKey, payload)
	if _, err := r.HostCertificate(t.Context(), r.by(machineID), protocol.HostCertificateRequest{Proof: e}); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
}

func TestIndex_FollowsTheFeed(t *testing.T) {
	r := newRig(t)
	r.joined()
	_, host, _ := ed25519.GenerateKey(rand.Reader)
	pub, _ := ssh.NewPublicKey(host.Public())
	p := report()
	p.HostKeys = []string{string(ssh.MarshalAuthorizedKey(pub))}
	if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
		t.Fatal(err)
	}
	// A machine that only says so locks nobody out.
	if r.index.IsHostKey(ssh.FingerprintSHA256(pub)) {
		t.Fatal("a key counts as a host key because a machine says so")
	}
	payload, _ := json.Marshal(protocol.HostKeyProof{MachineID: machineID, Tenant: tenantID, HostKey: string(ssh.MarshalAuthorizedKey(pub)), At: r.now})
	e, _ := protocol.Sign(rand.Reader, host, protocol.TypeHostKey, payload)
	if _, err := r.HostCertificate(t.Context(), r.by(machineID), protocol.HostCertificateRequest{Proof: e}); err != nil {
		t.Fatal(err)
	}
	p.Message = "later" // a report does not take the proof away
	if err := r.Report(t.Context(), r.by(machineID), p); err != nil {
		t.Fatal(err)
	}
	x := machine.NewIndex()
	err := r.store.Read(t.Context(), func(tx *store.Tx) error {
		if err := x.Refresh(tx, "user", machineID); err != nil {
			return err
		}
		return x.Refresh(tx, "machine", machineID)
	})
	if err != nil || !x.IsHostKey(ssh.FingerprintSHA256(pub)) || x.IsHostKey("SHA256:x") || len(x.All()) != 1 {
		t.Fatal(err)
	}
	if err := r.store.Read(t.Context(), func(tx *store.Tx) error { return x.Refresh(tx, "machine", machineID) }); err != nil || !x.IsHostKey(ssh.FingerprintSHA256(pub)) {
		t.Fatal("twice the same", err)
	}
	if _, ok := x.ByKey(""); ok {
		t.Fatal("no key is somebody's key")
	}
}
