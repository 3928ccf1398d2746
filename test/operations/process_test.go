//go:build e2e

package operations

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

const serverUID = 7702

// process is a server as a process of its own, under a bare uid, with a folder
// of its own.
type process struct {
	dir, sally, address, url string
	port                     int
	arguments                []string
	socket                   *os.File // handed over where there is one
	cmd                      *exec.Cmd
}

// newProcess makes a deployment with a build; url "" is https://localhost and a
// free port.
func newProcess(t *testing.T, sally, url string, more ...string) *process {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root: the server runs under a uid of its own")
	}
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-operations-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &process{dir: dir, sally: filepath.Join(dir, "sally"), url: url, arguments: more, port: freePort(t)}
	if p.url == "" {
		p.url = fmt.Sprintf("https://localhost:%d", p.port)
	}
	p.install(t, sally)
	for _, args := range [][]string{{"chmod", "0711", dir}, {"install", "-d", "-m", "0700", "-o", fmt.Sprint(serverUID), "-g", fmt.Sprint(serverUID), dir + "/state"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	p.must(t, "server", "init", "--state", dir+"/state", "--domain", "corp.example", "--url", p.url, "--password-file", dir+"/state/first-password", "--address-file", dir+"/state/address")
	address, err := os.ReadFile(dir + "/state/address")
	if err != nil {
		t.Fatal(err)
	}
	p.address = strings.TrimSpace(string(address))
	return p
}

// install puts a build in place, as an upgrade does.
func (p *process) install(t *testing.T, sally string) {
	t.Helper()
	if out, err := exec.Command("install", "-m", "0755", sally, p.sally).CombinedOutput(); err != nil {
		t.Fatalf("%v %s (is out/sally there? run: make build)", err, out)
	}
}

func (p *process) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serverUID, Gid: serverUID}, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "HOME="+p.dir+"/state")
	return cmd
}

// must runs sally under the server's uid; it has to succeed.
func (p *process) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.command(p.sally, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sally %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start starts the server and waits until it is ready. With a socket it is
// handed over as systemd does it.
func (p *process) start(t *testing.T) {
	t.Helper()
	args := append([]string{"server", "run", "--state", p.dir + "/state", "--listen", fmt.Sprintf("127.0.0.1:%d", p.port)}, p.arguments...)
	p.cmd = p.command(p.sally, args...)
	if p.socket != nil {
		p.cmd = p.command("/bin/sh", append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, p.sally}, args...)...)
		p.cmd.ExtraFiles = []*os.File{p.socket}
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if p.url != fmt.Sprintf("https://localhost:%d", p.port) {
		return // the caller knows how to reach it
	}
	if out, err := exec.Command(p.sally, "server", "status", "--server", p.address, "--wait", crowdtest.Limit(20*time.Second).String()).CombinedOutput(); err != nil {
		text, _ := os.ReadFile(p.log())
		t.Fatalf("server status: %v %s\n%s", err, out, text)
	}
}

func (p *process) log() string { return filepath.Join(p.dir, "server.log") }

// stop ends the server as a service manager does, and expects an orderly end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		text, _ := os.ReadFile(p.log())
		t.Fatalf("the server ended with %v\n%s", err, text)
	}
}

// client speaks to the process without checking its certificate, as one of
// HTTP's versions.
func client(version int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetHTTP2(version == 2)
	return &http.Client{Timeout: crowdtest.Limit(30 * time.Second), Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols, MaxIdleConnsPerHost: 64}}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
