package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/proc"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// door is an sshd that speaks the protocol and reads the configuration that it is
// given, with the desk that it asks. What it leaves out is what each test is about.
type door struct {
	host                                  ssh.Signer
	asksPrincipals, asksPAM, takesTheName bool
	pamRefuses, preview                   bool
	refusing                              string // a line of the configuration with which it lets nobody in

	mu      sync.Mutex
	visitor Visitor
	asked   Asked
	left    int
	logins  map[string]bool
}

func (d *door) Receive(v Visitor) (leave func() Asked, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.visitor, d.asked = v, Asked{}
	if d.logins == nil {
		d.logins = map[string]bool{}
	}
	d.logins[v.Login] = true
	return func() Asked {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.left++
		return d.asked
	}, nil
}

// admit is what sshd does with a certificate.
func (d *door) admit(c ssh.ConnMetadata, key ssh.PublicKey, folder string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	cert, ok := key.(*ssh.Certificate)
	trusted, err := os.ReadFile(folder + "/ca.pub")
	if err != nil || !ok {
		return errors.Join(err, errors.New("no certificate"))
	}
	ca, _, _, _, err := ssh.ParseAuthorizedKey(trusted)
	if err != nil || !bytes.Equal(ca.Marshal(), cert.SignatureKey.Marshal()) {
		return errors.Join(err, errors.New("another authority"))
	}
	configuration, _ := filepath.Glob(folder + "/sshd_config.d/*")
	for _, path := range append(configuration, folder+"/sshd_config") {
		text, err := os.ReadFile(path)
		if err != nil || d.refusing != "" && strings.Contains(string(text), d.refusing) {
			return errors.Join(err, errors.New("refused by the configuration"))
		}
		if strings.Contains(string(text), userCAPath) {
			return errors.New("the machine's own authority is trusted here")
		}
	}
	named := false
	if d.asksPrincipals {
		d.asked.Principals = bytes.Equal(cert.Marshal(), d.visitor.Certificate)
		named = d.asked.Principals && slices.Contains(cert.ValidPrincipals, d.visitor.ObjectID)
	}
	if !named && !(d.takesTheName && slices.Contains(cert.ValidPrincipals, c.User())) {
		return errors.New("no principal")
	}
	d.asked.Account, d.asked.Session = d.asksPAM, d.asksPAM && !d.pamRefuses
	if d.pamRefuses {
		return errors.New("Access denied by PAM account configuration")
	}
	return nil
}

// converse is what sshd does with somebody who types, where it lets in whomever.
func (d *door) converse(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = Asked{Principals: d.asksPrincipals, Account: d.asksPAM, Session: d.asksPAM}
	return nil, nil
}

func (d *door) start(_ context.Context, conn *os.File, argv ...string) (Started, error) {
	folder := filepath.Dir(argv[len(argv)-1])
	c, err := net.FileConn(conn)
	if err != nil {
		return Started{}, err
	}
	done := make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(done)
		defer c.Close()
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			err := d.admit(m, key, folder)
			if err != nil {
				log.WriteString(err.Error() + "\n")
			}
			return nil, err
		}}
		if d.preview {
			cfg.KeyboardInteractiveCallback = d.converse
		}
		cfg.AddHostKey(d.host)
		s, channels, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		defer s.Close()
		go ssh.DiscardRequests(requests)
		for n := range channels {
			ch, in, err := n.Accept()
			if err != nil {
				return
			}
			for r := range in {
				_ = r.Reply(true, nil)
				if r.Type == "exec" {
					_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
					_ = ch.Close()
				}
			}
		}
	}()
	return Started{Process: proc.Process{PID: 7, Start: 7}, Wait: func() []byte { _ = c.Close(); <-done; return log.Bytes() }}, nil
}

// selfTested wires a machine with a door and runs the self-test.
func selfTested(t *testing.T, d *door, change func(root string)) error {
	t.Helper()
	root, f, w := machineRoot(t)
	want := wanted()
	want.Preview, f.manner.preview = d.preview, d.preview
	if err := w.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(root)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	d.host, w.cfg.Start, w.cfg.Rand = host, d.start, rand.Reader
	w.Seat(d)
	err = w.SelfTest(t.Context(), want)
	if _, gone := os.Stat(root + probeFolder); !errors.Is(gone, os.ErrNotExist) {
		t.Error("the configuration of the self-test is left")
	}
	if d.left != len(d.logins) || d.left == 0 {
		t.Errorf("%d visitors came, and %d left", len(d.logins), d.left)
	}
	return err
}

func TestSelfTest_OnlyWhatAsksUsPasses(t *testing.T) {
	if err := selfTested(t, &door{asksPrincipals: true, asksPAM: true}, nil); err != nil {
		t.Errorf("an honest sshd: %v", err)
	}
	for name, c := range map[string]struct {
		door *door
		id   string // on the page
	}{
		"principals from the certificate alone": {&door{asksPAM: true, takesTheName: true}, "ExtensionSelfTestFailed.principals"},
		"principals from elsewhere, too":        {&door{asksPrincipals: true, asksPAM: true, takesTheName: true}, "ExtensionSelfTestFailed.objectid"},
		"PAM is not asked":                      {&door{asksPrincipals: true}, "ExtensionSelfTestFailed.account"},
		"nobody gets in":                        {&door{}, "ExtensionSelfTestFailed.sshd"},
		"PAM lets nobody in":                    {&door{asksPrincipals: true, asksPAM: true, pamRefuses: true}, "ExtensionSelfTestFailed.pam"},
		"the preview lets in whomever":          {&door{preview: true, asksPrincipals: true, asksPAM: true}, "ExtensionSelfTestFailed.preview"},
		"the preview does not ask":              {&door{preview: true, asksPAM: true}, "ExtensionSelfTestFailed.auth"},
	} {
		err := selfTested(t, c.door, nil)
		if err == nil {
			t.Errorf("%s: the self-test passes", name)
			continue
		}
		handbooktest.Said(t, fault.As(err).Public(), c.id)
	}
}

// The line of the configuration that keeps people out is named with its place,
// and only it.
func TestSelfTest_NamesTheLineThatRefuses(t *testing.T) {
	d := &door{asksPrincipals: true, asksPAM: true, refusing: "DenyGroups sallyport-users"}
	err := selfTested(t, d, func(root string) {
		put(t, root, dropInFolder+"/50-corp.conf", "X11Forwarding no\nDenyGroups sallyport-users\n")
	})
	if err == nil || !strings.Contains(err.Error(), "50-corp.conf:2") || !strings.Contains(err.Error(), "DenyGroups sallyport-users") {
		t.Errorf("%v", err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "ExtensionSelfTestFailed.line")
	}
}
