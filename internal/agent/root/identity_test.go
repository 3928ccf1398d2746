package root

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/agent/control"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

func (r *rig) etc(passwd, group string) {
	r.t.Helper()
	if err := errors.Join(appendFile(r.root+"/etc/passwd", passwd), appendFile(r.root+"/etc/group", group)); err != nil {
		r.t.Fatal(err)
	}
}

// Root, members of the local group and those whom root allowed; nobody else, and
// nobody of the directory without access to this machine.
func TestIdentity_WhoMay(t *testing.T) {
	r := newRig(t)
	r.etc("robot:x:1002:1002::/:/bin/sh\nweb:x:1003:1900::/:/bin/sh\nstranger:x:1004:1004::/:/bin/sh\nrobot2:x:1005:1005::/:/bin/sh\ntwin:x:1006:1006::/:/bin/sh\nalso-twin:x:1006:1006::/:/bin/sh\n",
		"sallyport-identity:x:1900:robot,also-twin,"+bob+"\nsallyport-identity2:x:1901:stranger\n")
	r.mustDeliver(func(d *protocol.SnapshotDocument) {
		d.Principals = append(d.Principals, protocol.Principal{ObjectID: alice2ID, LoginName: "carol@corp.example", Access: protocol.None, UID: bobUID + 1})
	})
	for _, name := range []string{"robot2", "carol@corp.example"} {
		if _, err := r.Control(t.Context(), true, control.Request{Op: control.OpAllow, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uint32]bool{0: true, 1002: true, 1003: true, 1004: false, 1005: true, 1006: true, bobUID: true, aliceUID: false, bobUID + 1: false, 4242: false} {
		v, err := r.verdict(r.held(), uid)
		if err != nil || v.Allowed != want || v.UID != uid || v.Revision != 3 || v.CorrelationID == "" {
			t.Errorf("uid %d: %+v %v", uid, v, err)
		}
		if !want && (v.Code != caller.CodeNotMember || !strings.Contains(v.Text, "sally agent identity allow "+v.Name) || !strings.Contains(v.Text, v.CorrelationID)) {
			t.Errorf("uid %d: %+v", uid, v)
		}
		if !want {
			handbooktest.Said(t, v.Text, "identity-not-member", "NAME", v.Name)
		}
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Identity = false })
	if v, err := r.verdict(r.held(), 0); err != nil || v.Allowed || v.Code != caller.CodeNoIdentity {
		t.Errorf("without an identity: %+v %v", v, err)
	}
	if err := os.Remove(r.root + "/etc/group"); err != nil {
		t.Fatal(err)
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Identity = true })
	if v, err := r.verdict(r.held(), 1002); err == nil {
		t.Errorf("without the list of groups: %+v", v)
	}
}

// held is the view; rig hides its method with the time.
func (r *rig) held() view { return r.Service.now() }

// Before a snapshot nobody is answered.
func TestIdentity_NothingBeforeASnapshot(t *testing.T) {
	r := newRig(t)
	if v, err := r.verdict(r.held(), 0); err != nil || v.Allowed {
		t.Fatalf("%+v %v", v, err)
	}
}

func TestIdentity_Members(t *testing.T) {
	r := newRig(t)
	r.etc("robot:x:1002:1002::/:/bin/sh\n", "")
	r.mustDeliver(nil)
	ask := func(op control.Op, name string) ([]string, error) {
		a, err := r.Control(t.Context(), true, control.Request{Op: op, Name: name})
		return a.Names, err
	}
	for _, bad := range []string{"nobody-here", "robot\nroot", "*"} {
		if _, err := ask(control.OpAllow, bad); fault.As(err).Code != "UserUnknown" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for range 2 {
		if _, err := ask(control.OpAllow, "robot"); err != nil {
			t.Fatal(err)
		}
	}
	r.restart()
	if list, err := ask(control.OpMembers, ""); err != nil || len(list) != 1 || list[0] != "robot" {
		t.Fatalf("%v %v", list, err)
	}
	if _, err := ask(control.OpDeny, "robot"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(control.OpDeny, "robot"); fault.As(err).Code != "NotAMember" {
		t.Fatal(err)
	}
	if v, _ := r.verdict(r.held(), 1002); v.Allowed {
		t.Fatal("still")
	}
	if got := strings.Join(r.reasons(), ","); got != "identity.member ,identity.member " {
		t.Fatalf("%q", got)
	}
}

// A flood of refusals is one event, another user's another.
func TestIdentity_RefusalsAreReported(t *testing.T) {
	r := newRig(t)
	r.mustDeliver(nil)
	for range 5 {
		r.denyIdentity(caller.Verdict{UID: 1004, Name: "stranger", Code: caller.CodeNotMember, CorrelationID: aliceID})
	}
	r.denyIdentity(caller.Verdict{UID: aliceUID, Name: alice, Code: caller.CodeNotMember, CorrelationID: bobID})
	if got := strings.Join(r.reasons(), ","); got != "identity.deny not-member,identity.deny not-member" {
		t.Fatal(got)
	}
	r.now = r.now.Add(denialEvery)
	r.denyIdentity(caller.Verdict{UID: 1004, Name: "stranger", Code: caller.CodeNotMember, CorrelationID: aliceID})
	if got := len(r.reasons()); got != 3 {
		t.Fatal(got)
	}
}

// place is an Endpoint on loopback, and knows one owner.
type place struct {
	mu     sync.Mutex
	l      *net.TCPListener
	err    error
	closed int
	uid    uint32
	known  error
}

func (p *place) Open(context.Context) (*net.TCPListener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	p.l = l
	return l, err
}

func (p *place) Close(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
	return nil
}

func (p *place) Owner(netip.AddrPort, netip.AddrPort) (uint32, error) { return p.uid, p.known }

func (p *place) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l == nil {
		return ""
	}
	return p.l.Addr().String()
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what)
		}
	}
}

// The address is there exactly while the identity is, and who cannot be known is
// told nothing.
func TestIdentity_ServedWhileTheMachineHasOne(t *testing.T) {
	r := newRig(t)
	p := &place{err: fault.New(fault.Conflict, "MetadataAddressTaken", "a cloud has it"), known: caller.ErrNobody}
	r.cfg.Identity, r.cfg.Callers = p, p
	r.mustDeliver(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.serveIdentity(ctx) }()
	defer func() { cancel(); <-ended }()
	eventually(t, "no reason", func() bool { return r.Status().Endpoint == "off: a cloud has it" })
	p.mu.Lock()
	p.err = nil
	p.mu.Unlock()
	r.ident.poke()
	eventually(t, "not open", func() bool { return p.address() != "" })
	conn, err := net.Dial("tcp4", p.address())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); len(b) != 0 {
		t.Fatalf("somebody unknown was answered: %q %v", b, err)
	}
	r.mustDeliver(func(d *protocol.SnapshotDocument) { d.Identity = false })
	eventually(t, "still open", func() bool { _, err := net.Dial("tcp4", p.address()); return err != nil })
	eventually(t, "the address was kept", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.closed > 0 })
	if got := r.Status().Endpoint; got != "off: the machine has no managed identity" {
		t.Fatal(got)
	}
}
