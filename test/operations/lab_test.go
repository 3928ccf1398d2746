//go:build e2e

package operations

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

const (
	adminUPN      = "admin@corp.example"
	adminPassword = "Quartz-Lantern-83-Meadow"
	group         = "operations"
)

// build is one build of Sallyport: the program, the C libraries, and the script
// that lays down what its machines run.
type build struct{ sally, shim, layer string }

// thisBuild is what `make build` made of this checkout.
func thisBuild() build {
	return build{sally: "../../out/sally", shim: "../../shim/out", layer: "../../packaging/rootfs/layer.sh"}
}

// released is the commit of version 0.1.0.
const released = "8248e80"

// previousBuild builds the released version from this repository's history,
// once for each cache.
func previousBuild(t *testing.T) build {
	t.Helper()
	folder := filepath.Join(cache(), "build-"+released)
	b := build{sally: folder + "/out/sally", shim: folder + "/shim/out", layer: folder + "/packaging/rootfs/layer.sh"}
	if _, err := os.Stat(folder + "/.whole"); err == nil {
		return b
	}
	script := `set -euo pipefail
git -c safe.directory='*' cat-file -e "$1^{commit}" 2>/dev/null || { echo "the history of this checkout does not reach commit $1 (version 0.1.0); run: git fetch --unshallow" >&2; exit 1; }
rm -rf "$2"; mkdir -p "$2"
git -c safe.directory='*' archive "$1" | tar -x -C "$2"
make -s -C "$2" build
touch "$2/.whole"`
	cmd := exec.Command("bash", "-c", script, "-", released, folder)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build version 0.1.0: %v\n%s", err, out)
	}
	return b
}

// lab is machines on this computer for one server process.
type lab struct {
	p      *process
	build  build // of the lab and so of its machines' agents
	cli    string
	config string
	cmd    *exec.Cmd
	began  time.Time // when the administrator's password was changed
}

// newLab serves machines of a build. The server process must have been made
// with --lab-socket labSocket(p).
func newLab(t *testing.T, p *process, b build) *lab {
	t.Helper()
	sally, err := filepath.Abs(b.sally)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{p: p, build: b, cli: sally, config: filepath.Join(p.dir, "admin")}
	rootfs := output(t, "../../packaging/rootfs/prepare.sh", cache())
	layer := output(t, b.layer, rootfs, b.shim, cache())
	l.cmd = exec.Command(sally, "lab", "serve", "--socket", labSocket(p), "--owner", fmt.Sprint(serverUID), "--state", filepath.Join(p.dir, "lab"),
		"--rootfs", layer+":"+rootfs, "--server-addr", fmt.Sprintf("127.0.0.1:%d", p.port))
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	log, err := os.OpenFile(filepath.Join(p.dir, "lab.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.cmd.Stdout, l.cmd.Stderr = log, log
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	if err := until(20*time.Second, func() error { _, err := os.Stat(labSocket(p)); return err }); err != nil {
		t.Fatal(err)
	}
	return l
}

func labSocket(p *process) string { return filepath.Join(p.dir, "lab.sock") }

func (l *lab) close() {
	if l.cmd.ProcessState != nil {
		return
	}
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(10*time.Second, func() { _ = l.cmd.Process.Kill() })
	_ = l.cmd.Wait()
	late.Stop()
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// as is a command of the administrator with a build's sally.
func (l *lab) as(sally string, args ...string) *exec.Cmd {
	cmd := exec.Command(sally, args...)
	cmd.Dir = l.p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.config, "SALLY_CONFIG_DIR=" + l.config + "/.sallyport", "LANG=C.UTF-8", "SALLY_SERVER=" + l.p.address}
	return cmd
}

// try runs sally as the administrator for at most a minute of a
// computer with nothing else to do.
func (l *lab) try(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := l.as(l.cli, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	late := time.AfterFunc(crowdtest.Limit(time.Minute), func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err = cmd.Wait()
	return strings.TrimSpace(out.String()), errs.String(), err
}

// must runs sally as the administrator; it has to succeed.
func (l *lab) must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := l.try(args...)
	if err != nil {
		t.Fatalf("sally %s: %v\n%s\n%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// settle changes the first password, signs in, makes a machine with the
// extension and gives the administrator the role to log in to it.
func (l *lab) settle(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(l.config, 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(l.p.dir + "/state/first-password")
	if err != nil {
		t.Fatal(err)
	}
	l.must(t, "account", "password", "change", "--server", l.p.address, "--username", adminUPN, "--password", strings.TrimSpace(string(first)), "--new-password", adminPassword)
	l.began = time.Now()
	// The released version compares a certificate with this change by whole seconds,
	// and takes one of the same second for an older one.
	if err := until(2*time.Second, func() error {
		if time.Now().Unix() == l.began.Unix() {
			return errors.New("the second of the change is not over")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l.must(t, "login", "--server", l.p.address, "-u", adminUPN, "-p", adminPassword)
	l.must(t, "group", "create", "--name", group, "--location", "southcentralus")
	l.machine(t, name)
	l.must(t, "role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", adminUPN, "--scope", l.must(t, "group", "show", "-g", group, "--query", "id", "-o", "tsv"))
}

// machine makes a machine with the extension.
func (l *lab) machine(t *testing.T, name string) {
	t.Helper()
	key := filepath.Join(l.p.dir, "azureuser")
	if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
		output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	l.must(t, "vm", "create", "--resource-group", group, "--name", name, "--image", "UbuntuLTS", "--assign-identity", "--admin-username", "azureuser", "--ssh-key-values", key+".pub")
	l.must(t, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", name)
}

// ssh logs in to a machine by name and runs a command there.
func (l *lab) ssh(name string, command ...string) (stdout, stderr string, err error) {
	return l.try(append([]string{"ssh", "vm", "-n", name, "-g", group, "--"}, command...)...)
}
