package sshagent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

func TestAgent_SignsForTheBoundSession(t *testing.T) {
	d, a := newDirectory(t)
	c, cert, hostKey := bound(t, d, a, machineA)
	plain := goodRequest(session, cert, nil)
	plain.method = methodPublicKey
	byID := goodRequest(session, cert, hostKey)
	byID.user = "id"
	for _, r := range []request{goodRequest(session, cert, hostKey), plain, byID} {
		answer := c.answer(t.Context(), signMessage(cert, r.bytes()))
		var m struct {
			Blob []byte `sshtype:"14"`
		}
		var sig ssh.Signature
		if err := errors.Join(ssh.Unmarshal(answer, &m), ssh.Unmarshal(m.Blob, &sig)); err != nil {
			t.Fatalf("%v: %s", err, d.sentences())
		}
		key, err := ssh.ParsePublicKey(cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := key.Verify(r.bytes(), &sig); err != nil {
			t.Error(err)
		}
	}
	if d.sentences() != "" {
		t.Error(d.sentences())
	}
}

func TestAgent_SignsNothingElse(t *testing.T) {
	d, a := newDirectory(t)
	c, cert, hostKey := bound(t, d, a, machineA)
	_, other, otherHost := bound(t, d, a, machineB)
	for name, change := range map[string]func(*request){
		"another session":         func(r *request) { r.session = []byte("another") },
		"no session":              func(r *request) { r.session = nil },
		"another host key":        func(r *request) { r.hostKey = otherHost },
		"empty host key":          func(r *request) { r.hostKey = []byte{} },
		"no host key":             func(r *request) { r.hostKey = nil },
		"root":                    func(r *request) { r.user = "root" },
		"another's name":          func(r *request) { r.user = "bob@contoso.test" },
		"upper case":              func(r *request) { r.user = strings.ToUpper(alice) },
		"no name":                 func(r *request) { r.user = "" },
		"another message":         func(r *request) { r.kind = 51 },
		"another service":         func(r *request) { r.service = "ssh-userauth" },
		"a query":                 func(r *request) { r.signed = false },
		"another method":          func(r *request) { r.method = "hostbased" },
		"the plain key's":         func(r *request) { r.algorithm = ssh.KeyAlgoED25519 },
		"another key in it":       func(r *request) { r.key = other },
		"host key on publickey":   func(r *request) { r.method = methodPublicKey },
		"something after the end": func(r *request) { r.more = []byte{0} },
	} {
		r := goodRequest(session, cert, hostKey)
		change(&r)
		if got := c.answer(t.Context(), signMessage(cert, r.bytes())); got[0] != msgFailure {
			t.Errorf("%s was signed", name)
		}
	}
	good := goodRequest(session, cert, hostKey).bytes()
	for name, m := range map[string][]byte{
		"another machine's key": signMessage(other, goodRequest(session, other, hostKey).bytes()), "the key alone": signMessage(nil, good), "a sshsig": signMessage(cert, append([]byte("SSHSIG"), good...)),
		"cut short": signMessage(cert, good)[:40], "nothing": {msgSign},
	} {
		if got := c.answer(t.Context(), m); got[0] != msgFailure {
			t.Errorf("%s was signed", name)
		}
	}
	d.set(func() { d.now = d.now.Add(61 * time.Minute) })
	if got := c.answer(t.Context(), signMessage(cert, good)); got[0] != msgFailure {
		t.Error("signed with a certificate that has ended")
	}
	handbooktest.Said(t, d.sentences(), "agent-signature")
}

func TestAgent_Binding(t *testing.T) {
	d, a := newDirectory(t)
	d.outside = []string{"none of ours"}
	ours, blob := d.host(t, machineA)
	stranger := newSigner(t)
	point, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaHost, err := ssh.NewSignerFromSigner(point)
	if err != nil {
		t.Fatal(err)
	}
	d.hosts[string(ecdsaHost.PublicKey().Marshal())] = machineB
	good := bindMessage(t, ours, blob, session, false)
	tampered := append([]byte{}, good...)
	tampered[len(tampered)-1-64-30] ^= 1 // in the signature's middle, or before it: wrong either way
	for name, tc := range map[string]struct {
		message []byte
		ok      bool
		says    string
	}{
		"ours":                {good, true, ""},
		"a plain key we know": {bindMessage(t, ecdsaHost, ecdsaHost.PublicKey().Marshal(), session, false), true, ""},
		"forwarded":           {bindMessage(t, ours, blob, session, true), false, "ssh -J"},
		"signed by another":   {bindMessage(t, stranger, blob, session, false), false, "did not sign"},
		"tampered":            {tampered, false, ""},
		"none of ours":        {bindMessage(t, stranger, stranger.PublicKey().Marshal(), session, false), false, "none of ours"},
		"no session":          {bindMessage(t, ours, blob, nil, false), false, "0 bytes"},
		"a long session":      {bindMessage(t, ours, blob, make([]byte, 4096), false), false, "4096 bytes"},
		"more after the end":  {append(append([]byte{}, good...), 0), false, "session-bind"},
		"cut short":           {good[:len(good)-3], false, "session-bind"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &connection{agent: a}
			got := c.answer(t.Context(), tc.message)
			if (got[0] == msgSuccess) != tc.ok || !strings.Contains(d.sentences(), tc.says) {
				t.Errorf("%v %s", got, d.sentences())
			}
			if tc.ok {
				return
			}
			if id := map[string]string{"forwarded": "agent-forwarded", "signed by another": "agent-bind"}[name]; id != "" {
				handbooktest.Said(t, d.sentences(), id)
			}
			// What was refused stays refused, whatever is said afterwards.
			if got := c.answer(t.Context(), good); got[0] == msgSuccess {
				t.Error("bound at the second try")
			}
			if listed(t, c.answer(t.Context(), []byte{msgList})) != nil {
				t.Error("something is offered")
			}
		})
	}
}

// A connection that was bound cannot be bound to another session: a forwarder
// would otherwise present its own session as one of this computer.
func TestAgent_SecondBindingEndsTheConnection(t *testing.T) {
	d, a := newDirectory(t)
	c, cert, hostKey := bound(t, d, a, machineA)
	s, blob := d.host(t, machineB)
	if got := c.answer(t.Context(), bindMessage(t, s, blob, session, true)); got[0] == msgSuccess {
		t.Error("bound twice")
	}
	if got := c.answer(t.Context(), signMessage(cert, goodRequest(session, cert, hostKey).bytes())); got[0] != msgFailure {
		t.Error("signed after the second binding")
	}
	handbooktest.Said(t, d.sentences(), "agent-twice")
}

func TestAgent_WithoutBinding(t *testing.T) {
	d, a := newDirectory(t)
	_, cert, hostKey := bound(t, d, a, machineA)
	c := &connection{agent: a}
	if listed(t, c.answer(t.Context(), []byte{msgList})) != nil {
		t.Error("something is offered")
	}
	if got := c.answer(t.Context(), signMessage(cert, goodRequest(session, cert, hostKey).bytes())); got[0] != msgFailure {
		t.Error("signed on a connection of its own")
	}
	handbooktest.Said(t, d.sentences(), "agent-unbound")
	for name, m := range map[string][]byte{"another extension": extensionMessage("query"), "add": {17, 0}, "add with limits": {25, 0}, "smartcard": {20, 0}, "old list": {1}, "unknown": {200}} {
		if got := c.answer(t.Context(), m); len(got) != 1 || got[0] != msgFailure {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAgent_WrongCertificates(t *testing.T) {
	other := newSigner(t)
	for name, change := range map[string]func(*ssh.Certificate){
		"of another machine": func(c *ssh.Certificate) {
			c.Extensions[machineExtension] = machineB
		},
		"of every machine":   func(c *ssh.Certificate) { delete(c.Extensions, machineExtension) },
		"of two machines":    func(c *ssh.Certificate) { c.Extensions[machineExtension] = machineA + "," + machineB },
		"of another key":     func(c *ssh.Certificate) { c.Key = other.PublicKey() },
		"a host's":           func(c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"one without an end": func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity },
	} {
		d, a := newDirectory(t)
		d.change = change
		s, blob := d.host(t, machineA)
		c := &connection{agent: a}
		c.answer(t.Context(), bindMessage(t, s, blob, session, false))
		if listed(t, c.answer(t.Context(), []byte{msgList})) != nil || !strings.Contains(d.sentences(), "not used") {
			t.Errorf("%s is offered: %s", name, d.sentences())
		}
		handbooktest.Said(t, d.sentences(), "BadCertificate.agent")
	}
}

func TestAgent_SignedOut(t *testing.T) {
	d, a := newDirectory(t)
	d.outside = []string{"alice is not signed in any more."}
	c, cert, hostKey := bound(t, d, a, machineA)
	d.set(func() { d.out = fault.New(fault.Unauthenticated, "SignedOut", "alice is not signed in any more.") })
	if got := c.answer(t.Context(), signMessage(cert, goodRequest(session, cert, hostKey).bytes())); got[0] != msgFailure {
		t.Error("signed for somebody who is not signed in")
	}
	if listed(t, c.answer(t.Context(), []byte{msgList})) != nil || !strings.Contains(d.sentences(), "not signed in any more") {
		t.Error(d.sentences())
	}
	d.set(func() { d.out = nil })
	if again := listed(t, c.answer(t.Context(), []byte{msgList})); again == nil || string(again) == string(cert) {
		t.Error("the old certificate came back with the next sign-in")
	}
}

// TestAgent_RemoveAllBeforeTheLast: a connection that was offered a certificate
// which another one has followed since signs with it no more than with the last.
func TestAgent_RemoveAllBeforeTheLast(t *testing.T) {
	d, a := newDirectory(t)
	early, cert, hostKey := bound(t, d, a, machineA)
	signs := func() bool {
		return early.answer(t.Context(), signMessage(cert, goodRequest(session, cert, hostKey).bytes()))[0] == msgSignAnswer
	}
	d.set(func() { d.now = d.now.Add(56 * time.Minute) })
	later, next, _ := bound(t, d, a, machineA)
	if string(next) == string(cert) || !signs() {
		t.Fatal("the certificate was not followed by another, or ended at once")
	}
	if later.answer(t.Context(), []byte{msgRemoveAll})[0] != msgSuccess || signs() {
		t.Error("all keys were removed, and the one before the last signs")
	}
}

func TestAgent_RenewsAndServerAway(t *testing.T) {
	d, a := newDirectory(t)
	d.outside = []string{"AADSTS53003: blocked."}
	c, cert, _ := bound(t, d, a, machineA)
	list := func() []byte { return listed(t, c.answer(t.Context(), []byte{msgList})) }
	if string(list()) != string(cert) || d.minted.Load() != 1 {
		t.Error("a good certificate was renewed")
	}
	d.set(func() {
		d.now = d.now.Add(56 * time.Minute)
		d.refuse = fault.New(fault.Unavailable, "Unreachable", "the server is away.")
	})
	if string(list()) != string(cert) || !strings.Contains(d.sentences(), "the server is away. ") {
		t.Errorf("the certificate that is held: %s", d.sentences())
	}
	handbooktest.Said(t, d.sentences(), "agent-held")
	d.set(func() { d.refuse = fault.New(fault.Unauthenticated, "Blocked", "AADSTS53003: blocked.") })
	if list() != nil || !strings.Contains(d.sentences(), "AADSTS53003") {
		t.Errorf("offered after a refusal: %s", d.sentences())
	}
	d.set(func() { d.refuse = nil })
	if again := list(); again == nil || string(again) == string(cert) {
		t.Error("not renewed")
	}
}

func TestAgent_MintTakesTooLong(t *testing.T) {
	d, a := newDirectory(t)
	a.keys.cfg.MintTime = time.Millisecond
	d.wait = make(chan struct{})
	s, blob := d.host(t, machineA)
	c := &connection{agent: a}
	c.bound, c.machine = &binding{hostKey: blob, key: s.PublicKey(), session: session}, machineA
	if listed(t, c.answer(t.Context(), []byte{msgList})) != nil || !strings.Contains(d.sentences(), "within 1ms") {
		t.Error(d.sentences())
	}
	handbooktest.Said(t, d.sentences(), "NoAnswer")
}

func TestAgent_LockAndRemove(t *testing.T) {
	d, a := newDirectory(t)
	c, cert, hostKey := bound(t, d, a, machineA)
	say := func(kind byte, text string) byte {
		return c.answer(t.Context(), append([]byte{kind}, ssh.Marshal(struct{ T string }{text})...))[0]
	}
	sign := func() byte {
		return c.answer(t.Context(), signMessage(cert, goodRequest(session, cert, hostKey).bytes()))[0]
	}
	if say(msgUnlock, "x") != msgFailure || say(msgLock, "") != msgFailure || say(msgLock, "secret") != msgSuccess {
		t.Fatal("lock")
	}
	if sign() != msgFailure || listed(t, c.answer(t.Context(), []byte{msgList})) != nil || say(msgLock, "other") != msgFailure || say(msgUnlock, "wrong") != msgFailure || c.answer(t.Context(), []byte{msgRemoveAll})[0] != msgFailure {
		t.Error("a locked agent does something")
	}
	if say(msgUnlock, "secret") != msgSuccess {
		t.Fatal("unlock")
	}
	fresh := listed(t, c.answer(t.Context(), []byte{msgList}))
	if fresh == nil || string(fresh) == string(cert) {
		t.Error("a locked agent kept its keys")
	}
	if say(msgRemove, string(cert)) != msgFailure || say(msgRemove, string(fresh)) != msgSuccess {
		t.Error("remove one")
	}
	// What a connection was offered before is worth nothing on it afterwards.
	for _, remove := range [][]byte{{msgRemoveAll}, nil} {
		offered := listed(t, c.answer(t.Context(), []byte{msgList}))
		signs := func() byte {
			return c.answer(t.Context(), signMessage(offered, goodRequest(session, offered, hostKey).bytes()))[0]
		}
		if signs() != msgSignAnswer {
			t.Fatal("it does not sign")
		}
		if remove == nil {
			remove = append([]byte{msgRemove}, ssh.Marshal(struct{ T []byte }{offered})...)
		}
		if c.answer(t.Context(), remove)[0] != msgSuccess || signs() != msgFailure {
			t.Error("a removed key signs on a connection that was offered it")
		}
	}
	if c.answer(t.Context(), []byte{msgRemoveAll})[0] != msgSuccess || c.answer(t.Context(), []byte{msgRemoveAllV1})[0] != msgSuccess {
		t.Error("remove all")
	}
}

// Twenty connections at the same time to two machines: one certificate each.
func TestAgent_OneMintForManyConnections(t *testing.T) {
	d, a := newDirectory(t)
	d.wait = make(chan struct{})
	type door struct {
		signer ssh.Signer
		blob   []byte
	}
	var doors []door
	for _, m := range []string{machineA, machineB} {
		s, blob := d.host(t, m)
		doors = append(doors, door{s, blob})
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	var all, bound sync.WaitGroup
	got := make([]string, 20)
	for i := range got {
		bound.Add(1)
		all.Go(func() {
			at := doors[i%2]
			c, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			say := func(m []byte) []byte {
				if err := writeMessage(c, m); err != nil {
					t.Error(err)
				}
				answer, err := readMessage(c)
				if err != nil {
					t.Error(err)
					return []byte{msgFailure}
				}
				return answer
			}
			mine := []byte(fmt.Sprintf("session %d", i))
			if b := say(bindMessage(t, at.signer, at.blob, mine, false)); b[0] != msgSuccess {
				t.Errorf("bind: %v", b)
			}
			bound.Done()
			cert := listed(t, say([]byte{msgList}))
			got[i] = string(cert)
			if b := say(signMessage(cert, goodRequest(mine, cert, at.blob).bytes())); b[0] != msgSignAnswer {
				t.Errorf("sign: %v %s", b, d.sentences())
			}
		})
	}
	bound.Wait()
	close(d.wait)
	all.Wait()
	for i := range got {
		if got[i] == "" || got[i] != got[i%2] {
			t.Errorf("connection %d has another certificate", i)
		}
	}
	if n := d.minted.Load(); n != 2 {
		t.Errorf("%d certificates for two machines", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestSay_NotOverAndOver(t *testing.T) {
	d, a := newDirectory(t)
	d.outside = []string{"the same"}
	for range 3 {
		a.say("the same")
	}
	for i := range 2 * mostSentences {
		d.outside = append(d.outside, fmt.Sprint("another ", i))
		a.say(d.outside[i+1])
	}
	d.set(func() { d.now = d.now.Add(quiet) })
	a.say("the same")
	if n := strings.Count(d.sentences(), "the same"); n != 2 {
		t.Errorf("said %d times", n)
	}
}

func TestReadMessage_Bounds(t *testing.T) {
	for _, head := range []string{"\x00\x00\x00\x00", "\x00\x04\x00\x01", "\xff\xff\xff\xff", "\x00\x00\x00\x02a", ""} {
		if m, err := readMessage(strings.NewReader(head)); err == nil {
			t.Errorf("%q: %q", head, m)
		}
	}
}

// FuzzBinding: nothing but a signature by the host key itself is a binding.
func FuzzBinding(f *testing.F) {
	d, _ := newDirectory(f)
	s, blob := d.host(f, machineA)
	prefix := len(extensionMessage(extensionBind))
	f.Add(bindMessage(f, s, blob, session, false)[prefix:])
	f.Add(bindMessage(f, s, s.PublicKey().Marshal(), session, true)[prefix:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBinding(data)
		if err != nil {
			return
		}
		if len(b.session) == 0 || len(b.session) > longestSession || b.key == nil || string(b.key.Marshal()) != string(b.hostKey) && len(b.hostKey) == 0 {
			t.Errorf("%+v", b)
		}
	})
}

// FuzzLogin: what is read as a login is one, to the last byte.
func FuzzLogin(f *testing.F) {
	f.Add(goodRequest(session, []byte("key"), []byte("host")).bytes())
	plain := goodRequest(session, []byte("key"), nil)
	plain.method = methodPublicKey
	f.Add(plain.bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLogin(data)
		if err != nil {
			return
		}
		r := request{session: l.session, kind: msgUserAuthRequest, user: l.user, service: serviceConnection, method: methodPublicKey, signed: true, algorithm: ssh.CertAlgoED25519v01, key: l.key}
		if l.bound {
			r.method, r.hostKey = methodHostBound, append([]byte{}, l.hostKey...)
		}
		again := r.bytes()
		if len(again) != len(data) {
			t.Errorf("%q is read as %q", data, again)
		}
	})
}

// FuzzConversation: whatever is said, an unbound connection gets nothing.
func FuzzConversation(f *testing.F) {
	d, a := newDirectory(f)
	_, cert, hostKey := bound(f, d, a, machineA)
	f.Add([]byte{msgList})
	f.Add(signMessage(cert, goodRequest(session, cert, hostKey).bytes()))
	f.Add(extensionMessage("query"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		c := &connection{agent: a}
		for range 2 {
			if got := c.answer(t.Context(), data); got[0] == msgSignAnswer || got[0] == msgListAnswer && listed(t, got) != nil {
				t.Errorf("%q gets %q", data, got)
			}
		}
	})
}
