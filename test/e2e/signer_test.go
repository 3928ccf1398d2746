//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// anotherWorld is a server with a lab and one machine of its own, on which its
// administrator may log in.
func anotherWorld(t *testing.T, prepare func(*world) error) (*person, *vm) {
	t.Helper()
	w, err := newWorldWith(prepare)
	if w != nil {
		t.Cleanup(w.close)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := w.person(adminUPN, "")
	m := a.bareMachine(t, "vm")
	a.must(t, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", m.name)
	a.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee", adminUPN, "--scope", m.id)
	if err := until(limitGrant, func() error { return wants(a.ssh(m, "sudo", "-n", "whoami"), "root") }); err != nil {
		t.Fatal(err)
	}
	return a, m
}

// signature returns the algorithm by which a certificate in a file is signed, as
// ssh-keygen says it.
func signature(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("ssh-keygen", "-L", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "Signing CA:") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no signing CA: %s", out)
	return ""
}

// TestAuthorities_EveryAlgorithm: a real sshd accepts user certificates, and a
// real ssh host certificates, of each algorithm that an authority can have.
func TestAuthorities_EveryAlgorithm(t *testing.T) {
	t.Parallel() // a world of its own
	for _, c := range []struct{ user, host, says string }{
		{"ecdsa-p256", "rsa-4096", "(using ecdsa-sha2-nistp256)"}, {"ecdsa-p384", "ecdsa-p256", "(using ecdsa-sha2-nistp384)"},
		{"rsa-3072", "ecdsa-p384", "(using rsa-sha2-512)"}, {"rsa-4096", "rsa-3072", "(using rsa-sha2-512)"},
	} {
		t.Run(c.user+"_"+c.host, func(t *testing.T) {
			a, m := anotherWorld(t, func(w *world) error {
				w.initExtra = []string{"--user-ca-algorithm", c.user, "--host-ca-algorithm", c.host}
				return nil
			})
			file := filepath.Join(t.TempDir(), "cert")
			key := newKey(t, t.TempDir())
			a.must(t, "ssh", "cert", "--file", file, "--public-key-file", key+".pub")
			if ca := signature(t, file); !strings.Contains(ca, c.says) {
				t.Errorf("signed by %s", ca)
			}
			if r := a.ssh(m, "whoami"); strings.TrimSpace(r.out) != adminUPN {
				t.Errorf("login: %s", r)
			}
		})
	}
}

// asUID makes a command run under the server's uid.
func asUID(uid uint32, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	return cmd
}

// sshAgent is a real ssh-agent of the server's uid with one key.
type sshAgent struct {
	socket, key string
	process     *exec.Cmd
}

func (g *sshAgent) start() error {
	_ = os.Remove(g.socket)
	g.process = asUID(serverUID, "ssh-agent", "-D", "-a", g.socket)
	if err := g.process.Start(); err != nil {
		return err
	}
	if err := until(10*time.Second, func() error { return answers(g.socket) }); err != nil {
		return err
	}
	add := exec.Command("ssh-add", "-q", g.key) // root, whom an agent lets in: the uid has no name
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+g.socket)
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-add: %w: %s", err, out)
	}
	return nil
}

func (g *sshAgent) stop() {
	if g.process != nil && g.process.Process != nil {
		_ = g.process.Process.Kill()
		_ = g.process.Wait()
	}
}

// newSSHAgent makes a key and an agent that holds it, in a folder of the
// server's uid.
func newSSHAgent(w *world, name string) (*sshAgent, string, error) {
	dir := w.path("agent-" + name)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, serverUID, serverUID)); err != nil {
		return nil, "", err
	}
	g := &sshAgent{socket: dir + "/agent.sock", key: dir + "/key"}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", g.key).CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	out, err := exec.Command("ssh-keygen", "-l", "-f", g.key+".pub").Output()
	if err != nil || len(strings.Fields(string(out))) < 2 {
		return nil, "", fmt.Errorf("ssh-keygen -l: %w: %s", err, out)
	}
	return g, "ssh-agent:" + g.socket + "#" + strings.Fields(string(out))[1], g.start()
}

// TestSigner_SSHAgent: both authorities' keys live in ssh-agents. Logins work;
// without the user CA's agent there is no certificate and a sentence says why,
// the server is not ready and says so, and the next start serves nevertheless;
// when the agent is back, logins work again.
func TestSigner_SSHAgent(t *testing.T) {
	t.Parallel() // a world of its own
	var user, host *sshAgent
	t.Cleanup(func() {
		for _, g := range []*sshAgent{user, host} {
			if g != nil {
				g.stop()
			}
		}
	})
	a, m := anotherWorld(t, func(w *world) (err error) {
		var userAt, hostAt string
		if user, userAt, err = newSSHAgent(w, "user"); err != nil {
			return err
		}
		host, hostAt, err = newSSHAgent(w, "host")
		w.initExtra = []string{"--user-ca-signer", userAt, "--host-ca-signer", hostAt}
		w.runExtra = w.initExtra
		return err
	})
	w := a.w
	for _, name := range []string{"user-ca.pem", "host-ca.pem"} {
		if _, err := os.Lstat(w.path("server/keys/" + name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a private file %s", name)
		}
	}
	signerAway(t, a, m, user.stop, user.start)
}

// signerAway takes the user CA's signer away and brings it back.
func signerAway(t *testing.T, a *person, m *vm, stop func(), start func() error) {
	t.Helper()
	w := a.w
	stop()
	file := filepath.Join(t.TempDir(), "cert")
	key := newKey(t, t.TempDir())
	ask := []string{"ssh", "cert", "--file", file, "--public-key-file", key + ".pub"}
	a.fails(t, []string{"the process that holds the server's signing key does not answer"}, ask...)
	unready := func() error {
		r := capture(exec.Command(w.sally, "server", "status", "--server", w.address))
		if r.code == 0 || !strings.Contains(r.err, "the process that holds the") {
			return errors.New("status: " + r.String())
		}
		return nil
	}
	if err := until(10*time.Second, unready); err != nil {
		t.Error(err)
	}
	_ = w.server.Process.Signal(syscall.SIGTERM)
	_ = w.server.Wait()
	if err := w.runServerWithin(20 * time.Second); err == nil {
		t.Error("the server is ready without its signer")
	}
	if err := until(10*time.Second, unready); err != nil { // it serves nevertheless
		t.Error(err)
	}
	a.must(t, "account", "show")
	a.must(t, "vm", "list", "-g", group)
	if err := start(); err != nil {
		t.Fatal(err)
	}
	a.must(t, ask...)
	if r := capture(exec.Command(w.sally, "server", "status", "--server", w.address, "--wait", "10s")); r.code != 0 {
		t.Errorf("status: %s", r)
	}
	if r := a.ssh(m, "sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" {
		t.Errorf("login: %s", r)
	}
}

// TestSigner_RotateTo: a deployment whose user CA is a file turns to a key in an
// ssh-agent, while it serves, and back is not possible by accident.
func TestSigner_RotateTo(t *testing.T) {
	var agent *sshAgent
	var at string
	t.Cleanup(func() {
		if agent != nil {
			agent.stop()
		}
	})
	a, m := anotherWorld(t, func(w *world) (err error) {
		agent, at, err = newSSHAgent(w, "user")
		w.runExtra = []string{"--user-ca-signer", at}
		return err
	})
	rotate := []string{"rest", "--method", "post", "--url", a.w.url() + "/providers/Sallyport.Access/rotateKey?api-version=2026-11-01", "--body", `{"purpose":"user-ca"}`}
	a.must(t, rotate...)
	_, fingerprint, _ := strings.Cut(at, "#")
	file := filepath.Join(t.TempDir(), "cert")
	key := newKey(t, t.TempDir())
	if err := until(60*time.Second, func() error {
		a.must(t, "ssh", "cert", "--file", file, "--public-key-file", key+".pub")
		if ca := signature(t, file); !strings.Contains(ca, fingerprint) {
			return errors.New(ca)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := a.ssh(m, "sudo", "-n", "whoami"); strings.TrimSpace(r.out) != "root" {
		t.Errorf("login with the agent's certificate: %s", r)
	}
	a.fails(t, []string{"no signer of its successor is configured"}, rotate...)
}

// url is the server's, without the thumbprint.
func (w *world) url() string {
	url, _, _ := strings.Cut(w.address, "#")
	return url
}
