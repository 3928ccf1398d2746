//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
	"sallyport/internal/handbooktest"
)

const (
	serverUID = 7702
	domain    = "corp.example"
	adminUPN  = "admin@" + domain
	group     = "AzureADLinuxVM"
)

// world is one server and one lab with their machines, shared by all tests.
type world struct {
	dir     string // everything lives here
	sally   string // the program under test
	address string // what people copy: URL#thumbprint
	port    int
	server  *exec.Cmd
	lab     *exec.Cmd

	// front is the port that machines reach instead of the server's; 0: the server's.
	front int

	// initExtra and runExtra are more words for server init and server run.
	initExtra, runExtra []string
	// rootfs makes what the lab's machines stand on; nil is rootFilesystems.
	rootfs func(cache string) ([]string, error)

	mu    sync.Mutex
	users map[string]*person
}

// person is somebody with a CLI configuration of their own.
type person struct {
	w        *world
	name     string // UPN or application id
	password string
	config   string
}

// result of a command.
type result struct {
	out, err string
	code     int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.out, r.err)
}

// TestMain builds the world once and takes it down whatever happens.
func TestMain(m *testing.M) {
	if os.Getenv(browserMode) != "" {
		os.Exit(asBrowser())
	}
	if os.Getenv(clockMode) != "" {
		os.Exit(asAgent())
	}
	os.Exit(run(m))
}

var theWorld *world // set once, before any test

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "end-to-end tests need root: machines are made of namespaces and mounts")
		return 1
	}
	w, err := newWorld()
	if w != nil {
		defer w.close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make the world:", err)
		return 1
	}
	theWorld = w
	return m.Run()
}

func newWorld() (*world, error) { return newWorldWith(nil) }

// newWorldWith makes a world whose server is made and run with more words, which
// prepare sets when the world has its folder.
func newWorldWith(prepare func(*world) error) (*world, error) {
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-test-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, users: map[string]*person{}}
	if err := os.Chmod(dir, 0o711); err != nil {
		return w, err
	}
	built, err := filepath.Abs("../../out/sally")
	if err != nil {
		return w, err
	}
	w.sally = filepath.Join(dir, "sally")
	if out, err := exec.Command("install", "-m", "0755", built, w.sally).CombinedOutput(); err != nil {
		return w, fmt.Errorf("out/sally is missing (make build): %s", out)
	}
	if w.port, err = freePort(); err != nil {
		return w, err
	}
	if prepare != nil {
		if err := prepare(w); err != nil {
			return w, err
		}
	}
	if err := w.startServer(); err != nil {
		return w, err
	}
	if err := w.startLab(); err != nil {
		return w, err
	}
	return w, w.firstAdministrator()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// asServer makes a command run under the server's bare uid.
func (w *world) asServer(args ...string) *exec.Cmd {
	cmd := exec.Command(w.sally, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serverUID, Gid: serverUID}, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	return cmd
}

func (w *world) startServer() error {
	state := w.path("server")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	if err := os.Chown(state, serverUID, serverUID); err != nil {
		return err
	}
	url := fmt.Sprintf("https://localhost:%d", w.port)
	init := w.asServer(append([]string{"server", "init", "--state", state, "--domain", domain, "--url", url, "--password-file", state + "/first-password", "--address-file", state + "/address"}, w.initExtra...)...)
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("server init: %w: %s", err, out)
	}
	address, err := os.ReadFile(state + "/address")
	if err != nil {
		return err
	}
	w.address = strings.TrimSpace(string(address))
	return w.runServer()
}

func (w *world) runServer() error { return w.runServerWithin(crowded(20 * time.Second)) }

func (w *world) runServerWithin(limit time.Duration) error {
	w.server = w.asServer(append([]string{"server", "run", "--state", w.path("server"), "--listen", fmt.Sprintf("127.0.0.1:%d", w.port), "--lab-socket", w.path("lab.sock")}, w.runExtra...)...)
	if err := logTo(w.server, w.path("server.log")); err != nil {
		return err
	}
	if err := w.server.Start(); err != nil {
		return err
	}
	if out, err := exec.Command(w.sally, "server", "status", "--server", w.address, "--wait", limit.String()).CombinedOutput(); err != nil {
		return fmt.Errorf("server status: %w: %s", err, out)
	}
	return nil
}

func logTo(cmd *exec.Cmd, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = f, f
	return nil
}

func (w *world) startLab() error {
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	args := []string{"lab", "serve", "--socket", w.path("lab.sock"), "--owner", strconv.Itoa(serverUID), "--state", w.path("lab"), "--server-addr", fmt.Sprintf("127.0.0.1:%d", cmp.Or(w.front, w.port))}
	prepare := rootFilesystems
	if w.rootfs != nil {
		prepare = w.rootfs
	}
	rootfs, err := prepare(cache)
	if err != nil {
		return err
	}
	w.lab = exec.Command(w.sally, append(args, rootfs...)...)
	w.lab.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := logTo(w.lab, w.path("lab.log")); err != nil {
		return err
	}
	if err := w.lab.Start(); err != nil {
		return err
	}
	return until(20*time.Second, func() error { return answers(w.path("lab.sock")) })
}

// answers says whether somebody listens on a socket. That its file is there is
// not enough: it is made some steps earlier.
func answers(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// until polls for a condition of the outside world, within the limit of a computer
// with nothing else to do.
func until(limit time.Duration, try func() error) error { return crowdtest.Until(limit, try) }

func (w *world) close() {
	for _, cmd := range []*exec.Cmd{w.lab, w.server} {
		if cmd == nil || cmd.Process == nil {
			continue
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
	if os.Getenv("SALLY_E2E_KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept", w.dir)
		return
	}
	_ = os.RemoveAll(w.dir)
}

// firstAdministrator changes the one-time password and signs in.
func (w *world) firstAdministrator() error {
	first, err := os.ReadFile(w.path("server/first-password"))
	if err != nil {
		return err
	}
	p := w.person(adminUPN, "Quartz-Lantern-83-Meadow")
	r := p.run("account", "password", "change", "--server", w.address, "--username", adminUPN, "--password", strings.TrimSpace(string(first)), "--new-password", p.password)
	if r.code != 0 {
		return errors.New("change the first password: " + r.String())
	}
	if r = p.login(); r.code != 0 {
		return errors.New("first login: " + r.String())
	}
	if r = p.run("group", "create", "--name", group, "--location", "southcentralus"); r.code != 0 {
		return errors.New("group create: " + r.String())
	}
	return nil
}

func (w *world) person(name, password string) *person {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.users[name]; p != nil {
		return p
	}
	p := &person{w: w, name: name, password: password, config: w.path("cli-" + strings.NewReplacer("@", "_", "/", "_").Replace(name))}
	w.users[name] = p
	return p
}

func admin(t *testing.T) *person {
	t.Helper()
	return theWorld.person(adminUPN, "")
}

// newUser makes a user of the directory and signs them in with the CLI.
func newUser(t *testing.T, alias string) *person {
	t.Helper()
	p := theWorld.person(alias+"@"+domain, "Copper-Harbor-41-Willow")
	admin(t).must(t, "ad", "user", "create", "--display-name", alias, "--user-principal-name", p.name, "--password", p.password)
	if r := p.login(); r.code != 0 {
		t.Fatalf("login of %s: %s", p.name, r)
	}
	return p
}

// login signs in. On a crowded computer a password waits for its turn in vain;
// the server says so, and to try again, which is done for a minute.
func (p *person) login() result {
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Second) {
		r := p.run("login", "--server", p.w.address, "-u", p.name, "-p", p.password, "--allow-no-subscriptions")
		if r.code == 0 || !strings.Contains(r.err, "too many sign-ins") || time.Now().After(end) {
			return r
		}
	}
}

func (p *person) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.w.sally, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.config, "SALLY_CONFIG_DIR=" + p.config + "/.sallyport", "LANG=C.UTF-8", "SALLY_SERVER=" + p.w.address}
	cmd.Dir = p.w.dir
	return cmd
}

// run runs sally as this person, without a terminal, for at most two minutes of a
// computer with nothing else to do.
func (p *person) run(args ...string) result {
	_ = os.MkdirAll(p.config, 0o700)
	return capture(p.command(args...))
}

func capture(cmd *exec.Cmd) result { return captureFor(cmd, crowded(2*time.Minute)) }

func captureFor(cmd *exec.Cmd, limit time.Duration) result {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return result{err: err.Error(), code: 127}
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		code = 126
	}
	return result{out: out.String(), err: errs.String(), code: code}
}

// must runs sally and returns its trimmed output; a failure ends the test.
func (p *person) must(t *testing.T, args ...string) string {
	t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		t.Fatalf("sally %s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.out)
}

// fails runs sally, which must fail and say all of the given words on stderr.
func (p *person) fails(t *testing.T, words []string, args ...string) result {
	t.Helper()
	r := p.run(args...)
	if r.code == 0 {
		t.Fatalf("sally %s succeeded: %s", strings.Join(args, " "), r)
	}
	says(t, r.err, words...)
	return r
}

// says fails the test unless the text holds these words; "page:ID" is a sentence of
// docs/troubleshooting.md.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if id, ok := strings.CutPrefix(word, "page:"); ok {
			handbooktest.Said(t, text, id)
		} else if !strings.Contains(text, word) {
			t.Errorf("the text does not say %q:\n%s", word, text)
		}
	}
}

// grant gives a role at a scope.
func grant(t *testing.T, role, upn, scope string) string {
	t.Helper()
	return admin(t).must(t, "role", "assignment", "create", "--role", role, "--assignee", upn, "--scope", scope, "--query", "id", "-o", "tsv")
}

// login is `sally ssh vm` by name.
func (p *person) ssh(m *vm, command ...string) result {
	return p.run(append([]string{"ssh", "vm", "-n", m.name, "-g", group, "--"}, command...)...)
}

// sshIP is `sally ssh vm --ip`, for a person who may not read the machine.
func (p *person) sshIP(m *vm, command ...string) result {
	return p.run(append([]string{"ssh", "vm", "--ip", m.host, "--port", m.port, "--"}, command...)...)
}

// refused asserts that a login fails with a sentence.
func refused(t *testing.T, r result, words ...string) {
	t.Helper()
	if r.code == 0 {
		t.Fatalf("the login succeeded: %s", r)
	}
	says(t, r.out+r.err, words...)
}

// signer reads one of the server's private keys: the tests forge with it what
// the server would never issue.
func signer(t *testing.T, purpose string) crypto.Signer {
	t.Helper()
	data, err := os.ReadFile(theWorld.path("server/keys/" + purpose + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}
