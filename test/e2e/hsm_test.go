//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	signerUID  = 7703
	hsmLibrary = "/usr/lib/softhsm/libsofthsm2.so"
)

// hsmSigner is a sally-signer under a uid of its own, whose keys are in SoftHSM.
type hsmSigner struct {
	program, dir string
	process      *exec.Cmd
}

func newHSMSigner(w *world) (*hsmSigner, error) {
	g := &hsmSigner{program: w.path("sally-signer"), dir: w.path("signer")}
	built, err := filepath.Abs("../../out/sally-signer")
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("install", "-m", "0755", built, g.program).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("out/sally-signer is missing (make build): %s", out)
	}
	conf := fmt.Sprintf("directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", g.dir)
	for _, err := range []error{
		os.Mkdir(g.dir, 0o755), os.Mkdir(g.dir+"/tokens", 0o700), os.WriteFile(g.dir+"/softhsm2.conf", []byte(conf), 0o644), os.WriteFile(g.dir+"/pin", []byte("123456\n"), 0o600),
	} {
		if err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprint(signerUID), g.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("chown: %s", out)
	}
	if out, err := g.as(signerUID, "softhsm2-util", "--init-token", "--free", "--label", "ca", "--pin", "123456", "--so-pin", "654321").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("softhsm2-util: %w: %s", err, out)
	}
	return g, nil
}

func (g *hsmSigner) as(uid uint32, name string, args ...string) *exec.Cmd {
	cmd := asUID(uid, name, args...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+g.dir+"/softhsm2.conf", "SSH_AUTH_SOCK="+g.socket(), "HOME=/nonexistent")
	return cmd
}

func (g *hsmSigner) socket() string { return g.dir + "/ca.sock" }

func (g *hsmSigner) token(command string, more ...string) *exec.Cmd {
	return g.as(signerUID, g.program, append([]string{command, "--module", hsmLibrary, "--token-label", "ca", "--pin-file", g.dir + "/pin"}, more...)...)
}

// keygen makes a key and returns the server's word for it.
func (g *hsmSigner) keygen(label, algorithm string) (string, error) {
	r := capture(g.token("keygen", "--key-label", label, "--algorithm", algorithm))
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 0 || len(lines) != 2 {
		return "", errors.New("keygen: " + r.String())
	}
	return fmt.Sprintf("ssh-agent:%s?owner=%d#%s", g.socket(), signerUID, lines[1]), nil
}

func (g *hsmSigner) serve() *exec.Cmd {
	return g.token("serve", "--socket", g.socket(), "--allow-uid", fmt.Sprint(serverUID), "--user-ca-key-label", "user-ca", "--host-ca-key-label", "host-ca")
}

func (g *hsmSigner) start() error {
	g.process = g.serve()
	g.process.SysProcAttr.Credential.Gid = serverUID // the group that may reach the socket
	if err := logTo(g.process, g.dir+"/log"); err != nil {
		return err
	}
	if err := g.process.Start(); err != nil {
		return err
	}
	// root may connect and is refused: the signer listens.
	return until(10*time.Second, func() error {
		log, err := os.ReadFile(g.dir + "/log")
		if err != nil {
			return err
		}
		if probe := exec.Command("ssh-add", "-l"); probe != nil {
			probe.Env = append(os.Environ(), "SSH_AUTH_SOCK="+g.socket())
			_ = probe.Run()
		}
		after, err := os.ReadFile(g.dir + "/log")
		if err == nil && len(after) == len(log) {
			err = fmt.Errorf("nobody listens: %s", after)
		}
		return err
	})
}

func (g *hsmSigner) stop() {
	if g.process != nil && g.process.Process != nil {
		_ = g.process.Process.Kill()
		_ = g.process.Wait()
	}
}

// TestSigner_HSM: both authorities' keys are in SoftHSM, of either kind. A real
// sshd accepts the certificates; a taken-out token, a killed signer and a wrong
// PIN end in sentences, and the signer signs nothing but certificates.
func TestSigner_HSM(t *testing.T) {
	t.Parallel() // a world of its own
	for _, algorithm := range []string{"ed25519", "ecdsa-p256"} {
		t.Run(algorithm, func(t *testing.T) {
			var g *hsmSigner
			t.Cleanup(func() {
				if g != nil {
					g.stop()
				}
			})
			a, m := anotherWorld(t, func(w *world) (err error) {
				if g, err = newHSMSigner(w); err != nil {
					return err
				}
				user, err := g.keygen("user-ca", algorithm)
				if err != nil {
					return err
				}
				host, err := g.keygen("host-ca", algorithm)
				w.initExtra = []string{"--user-ca-signer", user, "--host-ca-signer", host}
				w.runExtra = w.initExtra
				return errors.Join(err, g.start())
			})
			t.Run("Audit", func(t *testing.T) { hsmAudit(t, g) })
			t.Run("Stolen", func(t *testing.T) { hsmStolen(t, g) })
			t.Run("TokenAway", func(t *testing.T) { hsmTokenAway(t, a, g) })
			t.Run("KilledUnderLoad", func(t *testing.T) { hsmKilled(t, a, g) })
			t.Run("WrongPIN", func(t *testing.T) { hsmWrongPIN(t, g) })
			if algorithm == "ed25519" {
				t.Run("Away", func(t *testing.T) { signerAway(t, a, m, g.stop, g.start) })
			}
		})
	}
}

// hsmAudit: each certificate has its line at the signer too.
func hsmAudit(t *testing.T, g *hsmSigner) {
	log, err := os.ReadFile(g.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"msg":"signing"`, `"type":"user"`, `"type":"host"`, `"principals":["` + adminUPN + `"`, `"uid":` + fmt.Sprint(serverUID)} {
		if !strings.Contains(string(log), word) {
			t.Errorf("the signer's log lacks %s:\n%s", word, log)
		}
	}
}

// hsmStolen: other uids than the server's get nothing, root too. That the server's
// own gets nothing but certificates is TestServer_RefusesTheRestOfTheProtocol.
func hsmStolen(t *testing.T, g *hsmSigner) {
	list := capture(g.as(serverUID, "ssh-add", "-L"))
	if list.code != 0 || strings.Count(list.out, "\n") != 2 {
		t.Fatalf("the keys are not listed: %s", list)
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/ca.pub", []byte(strings.Split(list.out, "\n")[0]+"\n"), 0o644), os.WriteFile(dir+"/file", []byte("text"), 0o644)); err != nil {
		t.Fatal(err)
	}
	sign := exec.Command("ssh-keygen", "-Y", "sign", "-n", "file", "-f", dir+"/ca.pub", dir+"/file")
	sign.Env = append(os.Environ(), "SSH_AUTH_SOCK="+g.socket())
	if r := capture(sign); r.code == 0 {
		t.Errorf("root signed a file: %s", r)
	}
	for _, uid := range []uint32{signerUID, 65534} {
		if r := capture(g.as(uid, "ssh-add", "-L")); r.code == 0 {
			t.Errorf("uid %d lists keys: %s", uid, r)
		}
	}
}

func askFor(a *person, dir, key string) result {
	return a.run("ssh", "cert", "--file", filepath.Join(dir, "cert"), "--public-key-file", key+".pub")
}

// hsmTokenAway takes the token out from under the signer and puts it back.
func hsmTokenAway(t *testing.T, a *person, g *hsmSigner) {
	dir := t.TempDir()
	key := newKey(t, t.TempDir())
	if err := errors.Join(os.Rename(g.dir+"/tokens", g.dir+"/drawer"), os.Mkdir(g.dir+"/tokens", 0o700), os.Chown(g.dir+"/tokens", signerUID, signerUID)); err != nil {
		t.Fatal(err)
	}
	if r := askFor(a, dir, key); r.code == 0 || !strings.Contains(r.err, "the process that holds the server's signing key does not answer") {
		t.Errorf("without a token: %s", r)
	}
	if err := until(10*time.Second, func() error {
		if r := capture(exec.Command(a.w.sally, "server", "status", "--server", a.w.address)); r.code == 0 {
			return errors.New("the server is ready without a token")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(g.dir+"/tokens"), os.Rename(g.dir+"/drawer", g.dir+"/tokens")); err != nil {
		t.Fatal(err)
	}
	if err := until(10*time.Second, func() error {
		if r := askFor(a, dir, key); r.code != 0 {
			return errors.New(r.String())
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// hsmKilled kills the signer while certificates are asked for: each request gets
// a certificate or the sentence, and after the restart all get certificates.
func hsmKilled(t *testing.T, a *person, g *hsmSigner) {
	key := newKey(t, t.TempDir())
	load := func(meanwhile func()) (good int, bad []result) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 4 {
			dir := t.TempDir()
			all.Go(func() {
				for range 6 {
					r := askFor(a, dir, key)
					mu.Lock()
					if r.code == 0 {
						good++
					} else {
						bad = append(bad, r)
					}
					mu.Unlock()
				}
			})
		}
		meanwhile()
		all.Wait()
		return good, bad
	}
	good, bad := load(func() {
		_ = g.process.Process.Signal(syscall.SIGKILL)
		_ = g.process.Wait()
		if err := g.start(); err != nil {
			t.Error(err)
		}
	})
	for _, r := range bad {
		if !strings.Contains(r.err, "the process that holds the server's signing key") {
			t.Errorf("while the signer restarts: %s", r)
		}
	}
	t.Logf("%d certificates, %d refusals while the signer was killed and started", good, len(bad))
	if good, bad = load(func() {}); len(bad) != 0 || good != 24 {
		t.Errorf("after the restart: %d certificates, %v", good, bad)
	}
}

// hsmWrongPIN: a signer with a wrong PIN does not start, and says why.
func hsmWrongPIN(t *testing.T, g *hsmSigner) {
	if err := os.WriteFile(g.dir+"/pin", []byte("000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := captureFor(g.serve(), crowded(10*time.Second))
	if r.code != 1 || !strings.Contains(r.err, "refuses the PIN") || strings.Contains(r.err, "000000") {
		t.Errorf("a wrong PIN: %s", r)
	}
	if err := errors.Join(os.WriteFile(g.dir+"/pin", []byte("123456\n"), 0o600), os.Chmod(g.dir+"/pin", 0o644)); err != nil {
		t.Fatal(err)
	}
	if r := captureFor(g.serve(), crowded(10*time.Second)); r.code != 1 || !strings.Contains(r.err, "can be read or changed by others") {
		t.Errorf("a PIN that others read: %s", r)
	}
	if err := os.Chmod(g.dir+"/pin", 0o600); err != nil {
		t.Fatal(err)
	}
}
