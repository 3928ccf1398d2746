package root

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// told requires what a person reads.
func told(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || !fault.Is(err, kind) || !strings.Contains(fault.As(err).Public(), words) {
		t.Errorf("got %v (%v), want %v: %s", err, fault.KindOf(err), kind, words)
	}
}

// TestAdministrator_WhatTheMachineRefuses: each program that fails is named with
// what it said, and the account counts as made when all is done.
func TestAdministrator_WhatTheMachineRefuses(t *testing.T) {
	for words, c := range map[string]struct {
		program string
		err     error
	}{
		"useradd could not make the account azureuser: no room":                 {"useradd", errors.New("exit status 12")},
		"useradd made no account azureuser":                                     {"useradd", nil},
		"visudo refuses the administrator's line: no room":                      {"visudo", errors.New("exit status 1")},
		"the administrator's keys could not be written: no room":                {"/bin/sh", errors.New("exit status 1")},
		"chpasswd could not set the password of the account azureuser: no room": {"chpasswd", errors.New("exit status 1")},
	} {
		r := newRig(t)
		r.leavePassword(wordHash+"\n", 0o600)
		run := r.cfg.Run
		r.cfg.Run = func(ctx context.Context, command Command) ([]byte, error) {
			if command.Argv[0] == c.program {
				return []byte("no room\n"), c.err
			}
			return run(ctx, command)
		}
		pub, err := ssh.NewPublicKey(r.userCA.Public())
		if err != nil {
			t.Fatal(err)
		}
		want := &protocol.LocalAdministrator{Name: "azureuser", Keys: []string{string(ssh.MarshalAuthorizedKey(pub))}}
		told(t, r.administrator(t.Context(), want), fault.Unavailable, words)
		if have, err := r.Service.account(); err != nil || have.Made {
			t.Errorf("%s: kept as %+v %v", words, have, err)
		}
	}
	r := newRig(t)
	if err := appendFile(r.root+"/etc/passwd", "deploy:x:1002:1002::/home/deploy:/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	told(t, r.administrator(t.Context(), &protocol.LocalAdministrator{Name: "deploy"}), fault.Conflict, "that Sallyport did not make. Choose another administrator name.")
	if len(r.commands) > 0 {
		t.Errorf("another's account was touched: %v", r.commands)
	}
}

// TestControl_WhatIsNotThere: requests for what the machine does not have.
func TestControl_WhatIsNotThere(t *testing.T) {
	r := newRig(t)
	ask := func(q control.Request) error {
		_, err := r.Control(t.Context(), true, q)
		return err
	}
	told(t, ask(control.Request{Op: "nonsense"}), fault.Invalid, "the request does not exist")
	_, err := r.Receive(sshd.Visitor{Login: visitorName})
	told(t, err, fault.Unavailable, "nothing has come from the server yet")
	key := r.root + "/etc/ssh/ssh_host_ed25519_key"
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, ask(control.Request{Op: control.OpHostProof}), fault.Unavailable, "the host key cannot be read")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	told(t, ask(control.Request{Op: control.OpHostProof}), fault.NotFound, "this machine has no host key. Run: ssh-keygen -A")
	told(t, r.deliver(func(d *protocol.SnapshotDocument) { d.Upgrade = &protocol.UpgradeWish{ID: "x", Version: "-"} }), fault.Forbidden, "the snapshot wishes for a build that is none")
}

func TestIdentity_MembersHaveAnEnd(t *testing.T) {
	r := newRig(t)
	r.etc("robot:x:1002:1002::/:/bin/sh\n", "")
	r.mustDeliver(nil)
	var list []string
	for i := range maxMembers {
		list = append(list, fmt.Sprintf("a%03d", i))
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Write(r.root+membersPath, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.Control(t.Context(), true, control.Request{Op: control.OpAllow, Name: "robot"})
	told(t, err, fault.Invalid, "256 users may use the identity already")
}

// TestHomes_WhatCannotBeDecided: nothing changes hands by halves.
func TestHomes_WhatCannotBeDecided(t *testing.T) {
	disputed := func() (*rig, string) {
		r := newRig(t)
		r.mustDeliver(nil)
		r.login(alice, aliceID)
		r.mustDeliver(func(d *protocol.SnapshotDocument) {
			d.Principals[0].ObjectID, d.Principals[0].UID = alice2ID, aliceUID+50
		})
		return r, r.root + "/home/" + alice
	}
	ask := func(r *rig, op control.Op) error {
		_, err := r.Control(t.Context(), true, control.Request{Op: op, Name: alice})
		if homes := r.homes(); len(homes) != 1 || homes[0].ObjectID != aliceID {
			t.Errorf("the name has changed hands: %+v", homes)
		}
		return err
	}
	r, home := disputed()
	in := home + ".archived-" + r.now.UTC().Format("20060102T150405Z")
	if err := errors.Join(os.Mkdir(home, 0o700), os.MkdirAll(in+"/full", 0o700)); err != nil {
		t.Fatal(err)
	}
	told(t, ask(r, control.OpArchive), fault.Unavailable, "could not be moved")
	r, home = disputed()
	if err := os.WriteFile(home, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, ask(r, control.OpAdopt), fault.Unavailable, "could not be opened")
	r, home = disputed()
	deep := home
	for range maxDepth + 2 {
		deep += "/d"
	}
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	told(t, ask(r, control.OpAdopt), fault.Unavailable, "could not be handed over completely. Correct the cause and run the command again.")
}

// TestSelfTest_HasAnEnd: where the worker is busy, and where the login takes too long.
func TestSelfTest_HasAnEnd(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	told(t, r.SelfTest(ctx), fault.Unavailable, "the root part is busy")
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-r.tests; cancel() }()
	told(t, r.SelfTest(ctx), fault.Unavailable, "the self-test takes too long")
}

// TestUpgrade_NotWhereALoginFails: nothing is begun on a machine that nobody can
// log in to, nor from a manifest that has changed since the packages came.
func TestUpgrade_NotWhereALoginFails(t *testing.T) {
	u := newUpgradeRig(t)
	told(t, u.beginUpgrade(t.Context(), u.held(), protocol.UpgradeWish{ID: wishID, Version: "2.0"}), fault.Unavailable, "the manifest has changed meanwhile")
	u.restart()
	u.cfg.Upgrades = u.machine
	u.openUpgrade()
	u.reached.wired = true
	go func(s *Service) {
		(<-s.tests) <- fault.New(fault.Precondition, "Refused", "sshd refuses the certificate")
	}(u.Service)
	told(t, u.beginUpgrade(t.Context(), u.held(), protocol.UpgradeWish{ID: wishID, Version: "2.0"}), fault.Precondition, "a login fails here already: sshd refuses the certificate")
	if u.started > 0 {
		t.Error("the supervisor was started")
	}
}
