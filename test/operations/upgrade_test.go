//go:build e2e

package operations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestUpgrade_FromTheReleasedVersion puts this build in the place of the
// released server. Its state is opened, its machines (agents of the released
// version) and its people's program go on; whoever holds a certificate logs in
// at every moment of it.
func TestUpgrade_FromTheReleasedVersion(t *testing.T) {
	old := previousBuild(t)
	p := newProcess(t, old.sally, "")
	p.arguments = []string{"--lab-socket", labSocket(p)}
	p.start(t)
	l := newLab(t, p, old)
	l.settle(t, "old")
	if out, errs, err := l.ssh("old", "sudo", "whoami"); err != nil || out != "root" {
		t.Fatalf("before the upgrade: %s %s %v", out, errs, err)
	}
	logins := l.keepLoggingIn(t, "old")

	p.stop(t)
	logins.more(t, 5) // there is no server at all
	p.install(t, thisBuild().sally)
	p.start(t)

	for name, sally := range map[string]string{"the released program": old.sally, "this program": p.sally} {
		l.cli = sally
		if out, errs, err := l.ssh("old", "sudo", "whoami"); err != nil || out != "root" {
			t.Errorf("%s, machine of the released version: %s %s %v", name, out, errs, err)
		}
	}
	logins.more(t, 5)
	logins.end(t)
	// A machine that joins after the upgrade, still with the released agent.
	l.machine(t, "late")
	if out, errs, err := l.ssh("late", "whoami"); err != nil || out != adminUPN {
		t.Errorf("a released agent that joins this server: %s %s %v", out, errs, err)
	}
	// What is taken away reaches the released agent.
	for _, id := range strings.Fields(l.must(t, "role", "assignment", "list", "--all", "--query", "[?roleDefinitionName=='Virtual Machine Administrator Login'].id", "-o", "tsv")) {
		l.must(t, "role", "assignment", "delete", "--ids", id)
	}
	if err := until(5*time.Second, func() error {
		if out, errs, err := l.ssh("old", "whoami"); err == nil {
			return fmt.Errorf("still logged in: %s %s", out, errs)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestUpgrade_HeldCertificateOpensNewMachines: a certificate that the released
// server issued does not bear what this build's do, and opens a machine of this
// build as long as it is valid.
func TestUpgrade_HeldCertificateOpensNewMachines(t *testing.T) {
	old := previousBuild(t)
	p := newProcess(t, old.sally, "")
	p.arguments = []string{"--lab-socket", labSocket(p)}
	p.start(t)
	before := newLab(t, p, old)
	before.settle(t, "old")
	key := before.hold(t)
	before.close()
	if err := os.RemoveAll(filepath.Join(p.dir, "lab")); err != nil {
		t.Fatal(err)
	}
	p.stop(t)
	p.install(t, thisBuild().sally)
	p.start(t)
	l := newLab(t, p, thisBuild())
	l.machine(t, "new")
	if out, errs, err := l.ssh("new", "sudo", "whoami"); err != nil || out != "root" {
		t.Errorf("a new certificate: %s %s %v", out, errs, err)
	}
	if out, err := l.open(t, "new", key)(); err != nil {
		t.Errorf("the held certificate: %v %s", err, out)
	}
	if text := output(t, "ssh-keygen", "-L", "-f", key+"-cert.pub"); strings.Contains(text, "issued@sallyport") {
		t.Errorf("the released server's certificate bears what it should be without:\n%s", text)
	}
}

// logins are logins with one certificate and plain ssh, again and again.
type logins struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	n      int
	failed []string
}

// hold gets a certificate for a new key and returns the key's file.
func (l *lab) hold(t *testing.T) string {
	t.Helper()
	key := filepath.Join(l.p.dir, "held")
	output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	// A certificate of the released server tells the second of its issue alone,
	// and one of the second in which the password was changed is refused.
	if err := until(5*time.Second, func() error {
		if time.Now().Unix() <= l.began.Unix() {
			return errors.New("the second is not over")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l.must(t, "ssh", "cert", "--file", key+"-cert.pub", "--public-key-file", key+".pub")
	return key
}

// open is a login with a held certificate and plain ssh, to be tried whenever
// it is called.
func (l *lab) open(t *testing.T, name, key string) func() (output []byte, err error) {
	t.Helper()
	host := l.must(t, "vm", "show", "-d", "-g", group, "-n", name, "--query", "publicIps", "-o", "tsv")
	port := l.must(t, "machine", "show", "-g", group, "-n", name, "--query", "properties.sshPort", "-o", "tsv")
	return func() ([]byte, error) {
		return exec.Command("ssh", "-F", "none", "-p", port, "-l", adminUPN, "-i", key, "-o", "CertificateFile="+key+"-cert.pub", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=INFO", host, "true").CombinedOutput()
	}
}

func (l *lab) keepLoggingIn(t *testing.T, name string) *logins {
	t.Helper()
	login := l.open(t, name, l.hold(t))
	ctx, cancel := context.WithCancel(t.Context())
	x := &logins{cancel: cancel}
	x.done.Go(func() {
		for ctx.Err() == nil {
			out, err := login()
			x.mu.Lock()
			x.n++
			if err != nil {
				x.failed = append(x.failed, fmt.Sprintf("%v %s", err, out))
			}
			x.mu.Unlock()
		}
	})
	return x
}

// more waits for some more logins.
func (x *logins) more(t *testing.T, n int) {
	t.Helper()
	count := func() int { x.mu.Lock(); defer x.mu.Unlock(); return x.n }
	from := count()
	if err := until(30*time.Second, func() error {
		if have := count() - from; have < n {
			return fmt.Errorf("%d of %d logins", have, n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// end stops them; none may have failed.
func (x *logins) end(t *testing.T) {
	t.Helper()
	x.cancel()
	x.done.Wait()
	t.Logf("%d logins with a held certificate", x.n)
	if len(x.failed) > 0 {
		t.Errorf("%d failed: %s", len(x.failed), strings.Join(x.failed, "\n"))
	}
}
