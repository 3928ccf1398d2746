//go:build e2e

package az

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

const (
	serverUID = 7705
	domain    = "corp.example"
	host      = "login." + domain
	adminUPN  = "admin@" + domain
	adminPass = "Quartz-Lantern-83-Meadow"
	userPass  = "Copper-Harbor-41-Willow"
	group     = "AzureADLinuxVM"
	place     = "southcentralus"

	netBindService = 10 // CAP_NET_BIND_SERVICE, linux/capability.h
)

// world is one server at port 443 of a loopback address of its own (MSAL drops the
// port of an authority when it asks for the kind of a domain), a lab, and az. What
// must know the server's name runs with a hosts file of its own.
type world struct {
	dir, sally, url, address string
	ip                       string // where it listens
	hosts                    string // a hosts file that says so
	venv                     string // of azure-cli 2.91.0
	server, lab              *exec.Cmd
	tenant                   string
	cloud                    string        // of Azure's, which the server presents itself as; empty for the global one
	from                     int           // which of the addresses it looks for a free one
	turns                    chan struct{} // an az each
}

// result of a command.
type result struct {
	out, err string
	code     int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.out, r.err)
}

var theWorld *world // set once, before any test

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: machines are made of namespaces and mounts")
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-az-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &world{dir: dir, turns: make(chan struct{}, 2)}
	defer w.close()
	if err := w.start(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot make the world:", err)
		return 1
	}
	theWorld = w
	return m.Run()
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) start() error {
	built, err := filepath.Abs("../../out/sally")
	if err != nil {
		return err
	}
	w.sally = w.path("sally")
	if err := errors.Join(os.Chmod(w.dir, 0o711), shell("install -m 0755 "+built+" "+w.sally), shell("install -d -m 0700 -o "+strconv.Itoa(serverUID)+" "+w.path("server"))); err != nil {
		return fmt.Errorf("out/sally is missing (make build): %w", err)
	}
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	if w.venv, err = output("./venv.sh", cache); err != nil {
		return fmt.Errorf("install azure-cli (python3-venv is there? run: make deps-tests): %w", err)
	}
	rootfs, err := output("../../packaging/rootfs/prepare.sh", cache, "bookworm")
	if err != nil {
		return err
	}
	layer, err := output("../../packaging/rootfs/layer.sh", rootfs, "../../shim/out", cache)
	if err != nil {
		return err
	}
	if w.ip, err = freeAddress(w.from); err != nil {
		return err
	}
	w.url, w.hosts = "https://"+host, w.path("hosts")
	if err := os.WriteFile(w.hosts, []byte("127.0.0.1 localhost\n"+w.ip+" "+host+"\n"), 0o644); err != nil { //nolint:gosec // as /etc/hosts
		return err
	}
	if err := w.serve(layer + ":" + rootfs); err != nil {
		return err
	}
	return w.administrator()
}

// named makes a command find the server by its name.
func (w *world) named(words ...string) []string {
	return append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, w.hosts}, words...)
}

// sallys runs our own client, for what is no test of az.
func (w *world) sallys(words ...string) (string, error) {
	all := w.named(append([]string{w.sally}, words...)...)
	return output(all[0], all[1:]...)
}

// freeAddress is a loopback address whose port 443 nobody has. Worlds that are made
// side by side look from different numbers on.
func freeAddress(from int) (string, error) {
	for i := range 80 {
		host := fmt.Sprintf("127.0.%d.%d", 100+os.Getpid()%100, 1+from+i)
		if l, err := net.Listen("tcp", host+":443"); err == nil {
			return host, l.Close()
		}
	}
	return "", errors.New("no loopback address with a free port 443")
}

func (w *world) asServer(args ...string) *exec.Cmd {
	cmd := exec.Command(w.sally, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serverUID, Gid: serverUID}, AmbientCaps: []uintptr{netBindService}, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	return cmd
}

func (w *world) serve(rootfs string) error {
	state := w.path("server")
	words := []string{"server", "init", "--state", state, "--domain", domain, "--url", w.url, "--password-file", state + "/first-password", "--address-file", state + "/address"}
	if w.cloud != "" {
		words = append(words, "--cloud", w.cloud)
	}
	if out, err := w.asServer(words...).CombinedOutput(); err != nil {
		return fmt.Errorf("server init: %w: %s", err, out)
	}
	address, err := os.ReadFile(state + "/address")
	if err != nil {
		return err
	}
	w.address = strings.TrimSpace(string(address))
	w.server = w.asServer("server", "run", "--state", state, "--listen", w.ip+":443", "--lab-socket", w.path("lab.sock"))
	w.lab = exec.Command(w.sally, "lab", "serve", "--socket", w.path("lab.sock"), "--owner", strconv.Itoa(serverUID), "--state", w.path("lab"), "--server-addr", w.ip+":443", "--rootfs", "debian12="+rootfs)
	w.lab.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	for name, cmd := range map[string]*exec.Cmd{"server.log": w.server, "lab.log": w.lab} {
		log, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	_, err = w.sallys("server", "status", "--server", w.address, "--wait", crowdtest.Limit(30*time.Second).String())
	return err
}

func (w *world) close() {
	for _, cmd := range []*exec.Cmd{w.lab, w.server} {
		if cmd == nil || cmd.Process == nil {
			continue
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	}
	if os.Getenv("SALLY_E2E_KEEP") == "" {
		_ = os.RemoveAll(w.dir)
	}
}

// administrator changes the one-time password; our own client does only that.
func (w *world) administrator() error {
	first, err := os.ReadFile(w.path("server/first-password"))
	if err != nil {
		return err
	}
	if _, err := w.sallys("account", "password", "change", "--server", w.address, "--username", adminUPN, "--password", strings.TrimSpace(string(first)), "--new-password", adminPass); err != nil {
		return err
	}
	a := w.somebody("admin", adminUPN, adminPass)
	if err := a.setUp(); err != nil {
		return err
	}
	if r := a.az("login", "-u", adminUPN, "-p", adminPass); r.code != 0 {
		return errors.New("az login: " + r.String())
	}
	if r := a.az("group", "create", "--name", group, "--location", place); r.code != 0 {
		return errors.New("az group create: " + r.String())
	}
	r := a.az("account", "show", "--query", "tenantId", "-o", "tsv")
	w.tenant = strings.TrimSpace(r.out)
	return nil
}

// somebody is a configuration of az, and who uses it.
type somebody struct {
	w              *world
	name, password string
	config         string
	env            []string
	prefix         []string // a program that runs az, with its arguments
	one            *session // an az that stays, see inOne
}

func (w *world) somebody(folder, name, password string) *somebody {
	config := w.path("az-" + folder)
	return &somebody{w: w, name: name, password: password, config: config, env: []string{
		"PATH=" + w.venv + "/bin:" + filepath.Dir(w.sally) + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + config, "AZURE_CONFIG_DIR=" + config, "LANG=C.UTF-8",
		"AZURE_CORE_COLLECT_TELEMETRY=no", "AZURE_CORE_SURVEY_MESSAGE=no", "AZURE_CORE_NO_COLOR=yes", "AZURE_CORE_ERROR_RECOMMENDATION=off", "AZURE_CORE_LOGIN_EXPERIENCE_V2=off",
		"REQUESTS_CA_BUNDLE=" + config + "/sallyport-ca.pem", "SALLY_CONFIG_DIR=" + config + "/.sallyport",
	}}
}

// setUp runs the script that sally cloud print-az-setup prints.
func (s *somebody) setUp(more ...string) error {
	if err := os.MkdirAll(s.config, 0o700); err != nil {
		return err
	}
	script := s.run(append([]string{s.w.sally, "cloud", "print-az-setup", "--server", s.w.address}, more...)...)
	if script.code != 0 {
		return fmt.Errorf("print-az-setup: %s", script)
	}
	if r := s.run("sh", "-euc", script.out); r.code != 0 {
		return fmt.Errorf("the script of print-az-setup: %s", r)
	}
	return nil
}

// setUp is somebody whose az is pointed at the server and not signed in.
func setUp(t *testing.T, folder, name, password string) *somebody {
	t.Helper()
	s := theWorld.somebody(folder, name, password)
	if err := s.setUp(); err != nil {
		t.Fatal(err)
	}
	return s
}

func admin() *somebody { return theWorld.somebody("admin", adminUPN, adminPass) }

// user is a person of the directory, made and signed in by az.
func user(t *testing.T, alias string) *somebody {
	t.Helper()
	s := setUp(t, alias, alias+"@"+domain, userPass)
	admin().must(t, "ad", "user", "create", "--display-name", alias, "--user-principal-name", s.name, "--password", s.password)
	s.must(t, "login", "-u", s.name, "-p", s.password, "--allow-no-subscriptions")
	return s
}

func (s *somebody) command(words ...string) *exec.Cmd {
	all := append(append([]string{}, s.prefix...), s.w.named(append([]string{"env"}, words...)...)...) // env looks in s.env's PATH
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env, cmd.Dir = s.env, s.config
	return cmd
}

// run waits for its turn: a start of az takes a second of a processor.
func (s *somebody) run(words ...string) result {
	return patiently(words, func() result { return s.w.capture(s.command(words...)) })
}

// patiently runs what may sign somebody in. On a crowded computer a password waits
// for its turn in vain; the server says so, and to try again, which is done for a
// minute.
func patiently(words []string, run func() result) result {
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Second) {
		r := run()
		if r.code == 0 || !slices.Contains(words, "login") || !strings.Contains(r.err, "too many sign-ins") || time.Now().After(end) {
			return r
		}
	}
}

func (w *world) capture(cmd *exec.Cmd) result {
	w.turns <- struct{}{}
	defer func() { <-w.turns }()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	if err := cmd.Start(); err != nil {
		return result{err: err.Error(), code: 127}
	}
	timer := time.AfterFunc(crowdtest.Limit(3*time.Minute), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	code := 0
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		code = 126
	}
	return result{out: out.String(), err: errs.String(), code: code}
}

func (s *somebody) az(words ...string) result {
	if s.one != nil {
		return patiently(words, func() result { return s.one.run(s.w, words) })
	}
	return s.run(append([]string{"az"}, words...)...)
}

// must runs az and returns its trimmed output; a failure ends the test.
func (s *somebody) must(t *testing.T, words ...string) string {
	t.Helper()
	r := s.az(words...)
	if r.code != 0 {
		t.Fatalf("az %s: %s", strings.Join(words, " "), r)
	}
	return strings.TrimSpace(r.out)
}

// answer is must, decoded.
func (s *somebody) answer(t *testing.T, words ...string) any {
	t.Helper()
	var v any
	text := s.must(t, words...)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("az %s: %v: %s", strings.Join(words, " "), err, text)
	}
	return v
}

// fails runs az, which must end with this exit code and say all of the words.
func (s *somebody) fails(t *testing.T, code int, says []string, words ...string) {
	t.Helper()
	r := s.az(words...)
	if r.code != code {
		t.Errorf("az %s: exit %d wanted: %s", strings.Join(words, " "), code, r)
	}
	for _, word := range says {
		if !strings.Contains(r.err, word) {
			t.Errorf("az %s does not say %q: %s", strings.Join(words, " "), word, r)
		}
	}
}

// at reads a value out of an answer, by keys and numbers.
func at(v any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			l, _ := v.([]any)
			if s >= len(l) {
				return nil
			}
			v = l[s]
		}
	}
	return v
}

func text(v any, path ...any) string {
	s, _ := at(v, path...).(string)
	return s
}

func output(name string, args ...string) (string, error) {
	var errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	return strings.TrimSpace(string(out)), err
}

func shell(script string) error {
	_, err := output("sh", "-euc", script)
	return err
}

// side runs functions side by side and waits for all: a test's own goroutine says
// what failed.
func side(t *testing.T, all map[string]func(t *testing.T)) {
	t.Helper()
	var group sync.WaitGroup
	defer group.Wait()
	for name, f := range all {
		group.Go(func() { t.Run(name, f) })
	}
}
