//go:build e2e

package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/internal/crowdtest"
	"sallyport/internal/labwire"
)

// TestMain lets the test program stand in for sally: the lab starts its own
// program again in a machine, and the tests start it as the lab.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "lab":
			root := Command()
			root.SetArgs(os.Args[2:])
			if err := root.ExecuteContext(context.Background()); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case "probe-handle":
			os.Exit(probeHandle())
		case "probe-raw":
			os.Exit(probeRaw())
		case "probe-socket":
			os.Exit(probeSocket(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

const (
	testOwner = 7701
	machineA  = "11111111-2222-4333-8444-555555555555"
	machineB  = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
)

// needRoot fails without root: a machine cannot be had otherwise. Only whoever
// says so gets a skip.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SALLY_TEST_NO_ROOT") != "" {
		t.Skip("SALLY_TEST_NO_ROOT is set")
	}
	t.Fatal("these tests make namespaces and need root; SALLY_TEST_NO_ROOT=1 leaves them out")
}

// bench is one lab process under test.
type bench struct {
	t      *testing.T
	dir    string
	state  string
	socket string
	signer ssh.Signer
	args   []string
	// backend runs the machines; netns where a test does not say otherwise.
	backend labwire.Backend
	cmd     *exec.Cmd
	client  *labwire.Client
}

// newBench starts a lab whose machines run sshd with a key of the test for
// root, and a unit that always fails.
func newBench(t *testing.T, args ...string) *bench {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // another uid must reach the socket
			t.Fatal(err)
		}
	}
	b := &bench{t: t, backend: labwire.BackendNetns, dir: dir, state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "lab.sock")}
	b.client = labwire.New(labwire.Config{Socket: b.socket})
	b.args = append([]string{"lab", "serve", "--socket", b.socket, "--owner", fmt.Sprint(testOwner), "--state", b.state, "--rootfs", b.layer() + ":" + rootFS(t)}, args...)
	b.start()
	t.Cleanup(b.stop)
	return b
}

func rootFS(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	out, err := exec.Command("../../packaging/rootfs/prepare.sh", cache).Output()
	if err != nil {
		t.Fatalf("prepare.sh: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) layer() string {
	b.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.signer, err = ssh.NewSignerFromKey(private); err != nil {
		b.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		b.t.Fatal(err)
	}
	layer := filepath.Join(b.dir, "layer")
	for path, content := range map[string]string{
		"etc/sallyport-init.conf":   "service sshd root - /usr/sbin/sshd -D -E /var/log/sshd.log\noneshot join root /var/lib/sallyport/join-token /bin/cp /var/lib/sallyport/join-token /root/joined\nservice broken sallyport-agent - /bin/false\n",
		"root/.ssh/authorized_keys": string(ssh.MarshalAuthorizedKey(key)),
	} {
		path = filepath.Join(layer, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	// What systemd starts instead: sshd with host keys of its own.
	const unit = "sallyport-lab-hostkeys.service"
	wants := filepath.Join(layer, "etc/systemd/system/multi-user.target.wants")
	if out, err := exec.Command("install", "-D", "-m", "0644", "../../packaging/rootfs/"+unit, filepath.Join(layer, "usr/lib/systemd/system", unit)).CombinedOutput(); err != nil {
		b.t.Fatalf("%v %s", err, out)
	}
	if err := errors.Join(os.MkdirAll(wants, 0o755), os.Symlink("/usr/lib/systemd/system/"+unit, filepath.Join(wants, unit))); err != nil {
		b.t.Fatal(err)
	}
	return layer
}

// start starts the lab and returns when it says that it is ready.
func (b *bench) start() {
	b.t.Helper()
	b.cmd = exec.Command("/proc/self/exe", b.args...)
	leak, err := os.Open("/root") // a careless caller's descriptor: no machine may see it
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = leak.Close() }()
	b.cmd.ExtraFiles = []*os.File{nil, nil, nil, nil, leak}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	var seen bytes.Buffer
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "the lab is ready") {
			go func() { // the lab's own words belong to the test's
				for lines.Scan() {
					fmt.Fprintln(b.t.Output(), lines.Text())
				}
			}()
			return
		}
	}
	b.t.Fatalf("the lab did not start:\n%s", seen.String())
}

func (b *bench) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(unix.SIGTERM)
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

func (b *bench) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
	b.cmd = nil
}

// machine makes and starts a machine.
func (b *bench) machine(id, name string) labwire.Machine {
	b.t.Helper()
	if _, err := b.client.Create(b.t.Context(), labwire.CreateRequest{MachineID: id, Name: name, JoinToken: "token-of-" + name, Backend: b.backend, System: labwire.SystemDebian12}); err != nil {
		b.t.Fatal(err)
	}
	m, err := b.client.Start(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// login connects to the machine's loopback address as its root.
func (b *bench) login(m labwire.Machine) *ssh.Client {
	b.t.Helper()
	conn, err := net.Dial("tcp", sshAddress(m))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.handshake(conn)
}

func (b *bench) handshake(conn net.Conn) *ssh.Client {
	b.t.Helper()
	c, channels, requests, err := ssh.NewClientConn(conn, "machine", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(b.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	client := ssh.NewClient(c, channels, requests)
	b.t.Cleanup(func() { _ = client.Close() })
	return client
}

func sshAddress(m labwire.Machine) string { return fmt.Sprintf("%s:%d", m.Loopback, m.SSHPort) }

// run runs a shell command and returns its output and exit status.
func (b *bench) run(client *ssh.Client, command string) (string, int) {
	b.t.Helper()
	session, err := client.NewSession()
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	out, err := session.CombinedOutput(command)
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return string(out), 0
	case errors.As(err, &exit):
		return string(out), exit.ExitStatus()
	}
	b.t.Fatalf("%s: %v", command, err)
	return "", 0
}

// pidNamespaces returns the pid namespaces of the lab's direct children.
func (b *bench) pidNamespaces() map[string]bool {
	b.t.Helper()
	found := map[string]bool{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		after := string(raw[bytes.LastIndexByte(raw, ')')+1:])
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == fmt.Sprint(b.cmd.Process.Pid) {
			ns, err := os.Readlink(filepath.Join(filepath.Dir(path), "ns/pid"))
			if err == nil {
				found[ns] = true
			}
		}
	}
	return found
}

// inNamespaces counts the processes that live in the given pid namespaces.
func inNamespaces(t *testing.T, namespaces map[string]bool) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && namespaces[ns] {
			count++
		}
	}
	return count
}

// eventually asks until ok, for at most five seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(crowdtest.Limit(5 * time.Second))
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within five seconds: " + what)
		}
	}
}
