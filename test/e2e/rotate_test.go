//go:build e2e

package e2e

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/tls"

	"golang.org/x/crypto/ssh"
)

// keyState is one row of sally ca show.
type keyState struct {
	Purpose, ID, State string
	Held               bool
}

func keys(t *testing.T, purpose string) (byState map[string][]keyState) {
	t.Helper()
	var list struct{ Value []keyState }
	if err := json.Unmarshal([]byte(admin(t).must(t, "ca", "show")), &list); err != nil {
		t.Fatal(err)
	}
	byState = map[string][]keyState{}
	for _, k := range list.Value {
		if k.Purpose == purpose {
			byState[k.State] = append(byState[k.State], k)
		}
	}
	return byState
}

// load repeats something until it is stopped, a few times a second, and notes what
// failed.
type load struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	n      int
	failed []string
}

func keepDoing(t *testing.T, what ...func() error) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for _, do := range what {
		l.done.Go(func() {
			for rest := time.NewTicker(250 * time.Millisecond); ctx.Err() == nil; <-rest.C {
				err := do()
				l.mu.Lock()
				l.n++
				if err != nil {
					l.failed = append(l.failed, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), err))
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// end stops it; nothing may have failed.
func (l *load) end(t *testing.T, name string) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("%s: %d times", name, l.n)
	if len(l.failed) > 0 {
		t.Errorf("%s: %d of %d failed: %s", name, len(l.failed), l.n, strings.Join(l.failed[:min(5, len(l.failed))], "\n"))
	}
}

// rotating is a world of its own, in which certificates live for a minute, with
// one machine and somebody who may log in to it.
func rotating(t *testing.T) (*vm, *person) {
	t.Helper()
	w, err := newWorldWith(func(w *world) error { w.runExtra = []string{"--longest-certificate", "1m"}; return nil })
	before, machines := theWorld, vms
	t.Cleanup(func() {
		theWorld, vms = before, machines
		if w != nil {
			if t.Failed() {
				if text, err := os.ReadFile(w.path("server.log")); err == nil {
					t.Logf("server: %s", text[max(0, len(text)-6000):])
				}
			}
			w.close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	theWorld, vms = w, map[string]*sharedVM{}
	m := machine(t, "rotated")
	p := newUser(t, "rita")
	grant(t, roleAdmin, p.name, m.id)
	allowedSoon(t, p, m)
	return m, p
}

// stolen is a certificate that a thief of the key would make: good in all but
// its authority.
func stolen(t *testing.T, p *person, ca crypto.Signer) identity {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(ca)
	if err != nil {
		t.Fatal(err)
	}
	id := admin(t).must(t, "ad", "user", "show", "--id", p.name, "--query", "id", "-o", "tsv")
	tenant := admin(t).must(t, "account", "show", "--query", "tenantId", "-o", "tsv")
	return forge(t, s, func(c *ssh.Certificate) {
		c.ValidPrincipals = []string{p.name, id}
		c.Extensions["object-id@sallyport"], c.Extensions["tenant@sallyport"] = id, tenant
		c.ValidAfter = uint64(time.Now().Add(-5 * time.Minute).Unix())
	})
}

func login(p *person, m *vm) func() error {
	return func() error { return wants(p.ssh(m, "whoami"), p.name) }
}

// TestRotate_EveryPurposeUnderLoad: while people log in and use the API, each key
// is replaced; nothing fails, what the old CA has signed is accepted until it
// has retired and not afterwards, and nobody signs in again.
func TestRotate_EveryPurposeUnderLoad(t *testing.T) {
	t.Parallel() // the others of these use worlds of their own, and theWorld is this one's
	m, p := rotating(t)
	a := admin(t)
	oldCA := signer(t, "user-ca")
	forged := stolen(t, p, oldCA)
	if r := m.ssh(p.name, forged.options(), "whoami"); r.code != 0 {
		t.Fatalf("the thief's certificate is not good to begin with, so it would prove nothing: %s", r)
	}
	logins := keepDoing(t, login(p, m), login(p, m))
	calls := keepDoing(t, func() error { return succeeded(a.run("group", "list")) })

	a.must(t, "ca", "rotate", "--purpose", "user-ca")
	if now := keys(t, "user-ca"); len(now["active"]) != 1 || len(now["retiring"]) != 1 {
		t.Fatalf("%+v", now)
	}
	if r := m.ssh(p.name, forged.options(), "whoami"); r.code != 0 {
		t.Errorf("a certificate of the old key is refused while it may live: %s", r)
	}
	for _, purpose := range []string{"snapshot", "audit", "host-ca"} {
		a.must(t, "ca", "rotate", "--purpose", purpose)
		if now := keys(t, purpose); len(now["active"]) != 1 || len(now["retiring"]) != 1 {
			t.Errorf("%s: %+v", purpose, now)
		}
	}
	a.must(t, "ca", "rotate", "--purpose", "token", "--no-wait")
	if n := len(jwks(t)); n != 2 {
		t.Errorf("the key set shows %d keys before the new one signs", n)
	}
	if err := until(2*time.Minute, func() error {
		if now := keys(t, "token"); len(now["next"]) != 0 || len(now["retiring"]) != 1 {
			return fmt.Errorf("%+v", now)
		}
		if now := keys(t, "user-ca"); len(now["retired"]) != 1 {
			return fmt.Errorf("%+v", now)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if n := len(jwks(t)); n != 2 {
		t.Errorf("the key set shows %d keys while tokens of the old one live", n)
	}
	// Retired: the machine is told within a second, and no certificate of the old
	// key opens anything, whatever it says.
	if err := until(5*time.Second, func() error {
		if r := m.ssh(p.name, forged.options(), "whoami"); r.code == 0 {
			return fmt.Errorf("accepted after the retirement: %s", r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(theWorld.path("server/keys/user-ca.pem")); !os.IsNotExist(err) {
		t.Errorf("the retired private key is still there: %v", err)
	}
	calls.end(t, "calls")
	logins.end(t, "logins")
	if lines := strings.Split(m.mustRoot(t, "cat /etc/ssh/sallyport_user_ca.pub"), "\n"); len(lines) != 1 {
		t.Errorf("sshd trusts %q", lines)
	}
	if out := a.must(t, "audit", "verify", "--query", "ok"); out != "true" {
		t.Errorf("audit verify: %s", out)
	}
}

func succeeded(r result) error {
	if r.code != 0 {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// jwks reads the token keys that the discovery document points to.
func jwks(t *testing.T) []any {
	t.Helper()
	url, _, _ := strings.Cut(theWorld.address, "#")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // public keys of a server of this test
	res, err := client.Get(url + "/organizations/discovery/v2.0/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []any }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

// TestRotate_Compromised: the thief's session ends, his certificate opens nothing
// any more, and people go on at once with what they have signed in with.
func TestRotate_Compromised(t *testing.T) {
	m, p := rotating(t)
	a := admin(t)
	forged := stolen(t, p, signer(t, "user-ca"))
	args := append([]string{"-F", "none", "-p", m.port, "-l", p.name, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"}, forged.options()...)
	session := exec.Command("ssh", append(args, m.host, "echo in; exec sleep 600")...)
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	var in [3]byte
	if _, err := out.Read(in[:]); err != nil {
		t.Fatalf("the thief does not get in: %v", err)
	}
	ended := make(chan time.Time, 1)
	go func() { _ = session.Wait(); ended <- time.Now() }()

	begun := time.Now()
	a.must(t, "ca", "rotate", "--purpose", "user-ca", "--compromised", "--yes")
	select {
	case at := <-ended:
		t.Logf("the session ended %s after the command began", at.Sub(begun).Round(time.Millisecond))
	case <-time.After(crowded(10 * time.Second)):
		_ = session.Process.Kill()
		t.Error("the session goes on")
	}
	if r := m.ssh(p.name, forged.options(), "whoami"); r.code == 0 {
		t.Errorf("the thief's certificate still opens the machine: %s", r)
	}
	if err := login(p, m)(); err != nil {
		t.Errorf("a fresh certificate: %v", err)
	}
	// The same for hosts: clients hold the old list and follow without a question.
	a.must(t, "ca", "rotate", "--purpose", "host-ca", "--compromised", "--yes")
	if err := until(10*time.Second, login(p, m)); err != nil {
		t.Errorf("after the host CA: %v", err)
	}
	if err := wants(p.sshIP(m, "whoami"), p.name); err != nil {
		t.Errorf("by address, after the host CA: %v", err)
	}
	for _, purpose := range []string{"token", "snapshot", "audit"} {
		a.must(t, "ca", "rotate", "--purpose", purpose, "--compromised", "--yes")
		if err := until(5*time.Second, login(p, m)); err != nil {
			t.Errorf("after %s: %v", purpose, err)
		}
	}
	if now := keys(t, "user-ca"); len(now["compromised"]) != 1 || now["compromised"][0].Held {
		t.Errorf("%+v", now)
	}
	// A restart of the machine's agent does not bring it back.
	theWorld.restart(t)
	if r := m.ssh(p.name, forged.options(), "whoami"); r.code == 0 {
		t.Errorf("a start of the server brought the thief back: %s", r)
	}
	if err := login(p, m)(); err != nil {
		t.Error(err)
	}
}

// restart stops the server with kill -9 and starts it again.
func (w *world) restart(t *testing.T) {
	t.Helper()
	if err := w.server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.server.Wait()
	if err := w.runServer(); err != nil {
		t.Fatal(err)
	}
}

// TestRotate_ManifestKeyElsewhere: the manifest key is on another computer (a
// folder here); the server asks, a person signs what is shown, the server takes
// it. Machines and people follow.
func TestRotate_ManifestKeyElsewhere(t *testing.T) {
	m, p := rotating(t)
	a := admin(t)
	elsewhere := t.TempDir()
	data, err := os.ReadFile(theWorld.path("server/keys/manifest.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(elsewhere, "manifest.pem")
	if err := os.WriteFile(key, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(theWorld.path("server/keys/manifest.pem")); err != nil {
		t.Fatal(err)
	}
	theWorld.restart(t)
	if err := login(p, m)(); err != nil {
		t.Fatalf("without the manifest key: %v", err)
	}
	request, signed := filepath.Join(elsewhere, "request.json"), filepath.Join(elsewhere, "signed.json")
	a.must(t, "ca", "rotate", "--purpose", "user-ca", "--offline", request)
	if err := login(p, m)(); err != nil {
		t.Errorf("while the list waits for its signature: %v", err)
	}
	sign := capture(a.command("ca", "sign-manifest", "--request", request, "--key", key, "--file", signed, "--yes"))
	if sign.code != 0 || !strings.Contains(sign.err, "+ user-ca key ") || strings.Contains(sign.err, "- user-ca key ") || !strings.Contains(sign.err, "version: 1 -> 2") {
		t.Fatalf("sign: %s", sign)
	}
	logins := keepDoing(t, login(p, m))
	a.must(t, "ca", "apply-manifest", "--file", signed)
	if err := until(70*time.Second, func() error {
		if now := keys(t, "user-ca"); len(now["active"]) != 1 || len(now["retiring"]) != 1 {
			return fmt.Errorf("%+v", now)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	logins.end(t, "logins")
	// Only a person with the right may do any of it.
	p.fails(t, []string{"AuthorizationFailed"}, "ca", "rotate", "--purpose", "token")
	p.fails(t, []string{"AuthorizationFailed"}, "ca", "apply-manifest", "--file", signed)
	p.fails(t, []string{"AuthorizationFailed"}, "ca", "show")
}
