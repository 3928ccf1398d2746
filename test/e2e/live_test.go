//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// limitEnd bounds how long ending may take on a computer that does everything at
// once; make bench measures it.
const limitEnd = 20 * time.Second

// running is one ssh client with a session on a machine.
type running struct {
	kind string
	cmd  *exec.Cmd
	gone chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(b)
}

func (r *running) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// reads waits until a client that goes on shows the words: what it is told goes
// its own way, and may come after what it tells of.
func (r *running) reads(t *testing.T, words string) {
	t.Helper()
	_ = until(limitEnd, func() error {
		if !strings.Contains(r.text(), words) && !r.over() {
			return errors.New("not yet")
		}
		return nil
	})
	says(t, r.text(), words)
}

func (r *running) over() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

// client starts ssh and leaves it running; its standard input stays open.
func (m *vm) client(t *testing.T, kind, login string, options []string, command ...string) *running {
	t.Helper()
	args := append([]string{"-F", "none", "-p", m.port, "-l", login, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o", "ExitOnForwardFailure=yes"}, options...)
	r := &running{kind: kind, cmd: exec.Command("ssh", append(append(args, m.host), command...)...), gone: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if _, err := r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.gone) }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.gone })
	return r
}

// The kinds of sessions, with what a person may have running by them.
const (
	kindPTY        = "pty"
	kindExec       = "exec"
	kindSFTP       = "sftp"
	kindForward    = "forward"    // a forwarded port and nothing else
	kindChannels   = "channels"   // two more on one connection
	kindBackground = "background" // children that left their session in three ways
	kindElevated   = "elevated"   // sudo su -
)

func allKinds() []string {
	return []string{kindPTY, kindExec, kindSFTP, kindForward, kindChannels, kindBackground, kindElevated}
}

// opened are the clients of sessions, and what a machine tells of them.
type opened struct {
	clients []*running
	listed  map[string]int
}

// open opens sessions of some kinds with one certificate and returns when the
// machine has told the server of all of them, and of those that were there.
func open(t *testing.T, m *vm, p *person, key identity, kinds []string, there ...string) opened {
	t.Helper()
	dir := filepath.Dir(key.key)
	with := func(more ...string) []string { return append(key.options(), more...) }
	o := opened{listed: map[string]int{}}
	add := func(listed, kind string, options []string, command ...string) {
		o.clients = append(o.clients, m.client(t, kind, p.name, options, command...))
		if listed != "" {
			o.listed[listed]++
		}
	}
	for _, kind := range kinds {
		switch kind {
		case kindPTY:
			add("pty", kind, with("-tt"), "echo began; exec sleep 300")
		case kindExec:
			add("exec", kind, with(), "echo began; sleep 301")
		case kindSFTP:
			add("sftp", kind, with("-s"), "sftp")
		case kindForward:
			add("forward", kind, with("-N", "-L", dir+"/fwd:127.0.0.1:22"))
			if err := until(limitEnd, func() error { return banner(dir + "/fwd") }); err != nil {
				t.Fatalf("the forwarded port: %v", err)
			}
		case kindChannels:
			add("pty", "master", with("-M", "-N", "-S", dir+"/mux"))
			if err := until(limitEnd, func() error { return m.ssh(p.name, with("-S", dir+"/mux", "-O", "check")).failure() }); err != nil {
				t.Fatalf("the multiplexed connection: %v", err)
			}
			add("", kind, with("-S", dir+"/mux"), "echo began; sleep 307")
			add("", kind, with("-S", dir+"/mux", "-tt"), "echo began; sleep 308")
		case kindBackground:
			left := m.ssh(p.name, key.options(), `setsid sleep 302 >/dev/null 2>&1 & (setsid sh -c "sleep 303 & exit" >/dev/null 2>&1 &) ; nohup sleep 304 >/dev/null 2>&1 & echo left`)
			if o.listed["background"]++; left.code != 0 || !strings.Contains(left.out, "left") {
				t.Fatalf("detached children: %s", left)
			}
		case kindElevated:
			add("pty", kind, with("-tt"), `echo began; sudo su - -c "sleep 305"; sleep 306`)
		}
	}
	for _, kind := range there {
		o.listed[kind]++
	}
	if err := until(limitEnd, func() error { return lists(t, m, p, o.listed, slices.Contains(kinds, kindElevated)) }); err != nil {
		for _, r := range o.clients {
			t.Logf("%s (ended: %v) has said: %s", r.kind, r.over(), r.text())
		}
		t.Fatalf("%v; on the machine:\n%s", err, m.remains(t, strings.TrimSpace(m.mustRoot(t, "id -u "+p.name))))
	}
	return o
}

// wordless are the kinds in which sshd has no place for words.
func (r *running) wordless() bool {
	return r.kind == kindForward || r.kind == "master" || r.kind == kindSFTP
}

func (r result) failure() error {
	if r.code != 0 {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// banner reads sshd's first line through a forwarded port.
func banner(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "SSH-2.0") {
		err = fmt.Errorf("%q", line)
	}
	return err
}

// listed is a session as sally session list shows it.
type listed struct {
	Name       string
	Properties struct {
		PrincipalName     string
		Kind              string
		TTY               string
		State             string
		ElevatedProcesses int
		Certificate       struct{ Serial, KeyID string }
	}
}

func sessionsOf(t *testing.T, m *vm, p *person) ([]listed, error) {
	t.Helper()
	r := admin(t).run("session", "list", "--machine", m.machineID, "-o", "json")
	var all []listed
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		return nil, fmt.Errorf("%w: %s", err, r)
	}
	return slices.DeleteFunc(all, func(l listed) bool { return l.Properties.PrincipalName != p.name }), nil
}

func lists(t *testing.T, m *vm, p *person, want map[string]int, elevated bool) error {
	t.Helper()
	all, err := sessionsOf(t, m, p)
	if err != nil {
		return err
	}
	got, raised := map[string]int{}, 0
	for _, l := range all {
		got[l.Properties.Kind]++
		raised += l.Properties.ElevatedProcesses
		if l.Properties.Kind != "local" && l.Properties.Certificate.Serial == "" {
			return fmt.Errorf("the certificate of %+v is not known", l)
		}
	}
	delete(got, "local") // systemd's manager of the person
	if fmt.Sprint(got) != fmt.Sprint(want) || elevated != (raised > 0) {
		return fmt.Errorf("listed are %v with %d elevated processes, want %v", got, raised, want)
	}
	return nil
}

// remains are processes of a person, by uid and by login uid, with what they are.
func (m *vm) remains(t *testing.T, uid string) string {
	t.Helper()
	return m.mustRoot(t, `for p in /proc/[0-9]*; do l=$(cat $p/loginuid 2>/dev/null); u=$(awk '/^Uid:/{print $2}' $p/status 2>/dev/null); s=$(awk '/^State:/{print $2}' $p/status 2>/dev/null);
		if [ "$s" != Z ] && { [ "$l" = `+uid+` ] || [ "$u" = `+uid+` ]; }; then echo "${p#/proc/} $(tr '\0' ' ' <$p/cmdline 2>/dev/null)"; fi; done`)
}

// ended waits until every client has ended and nothing of the person runs.
func ended(t *testing.T, m *vm, list []*running, uid string) {
	t.Helper()
	began := time.Now()
	for _, r := range list {
		select {
		case <-r.gone:
		case <-time.After(crowded(limitEnd)):
			t.Fatalf("the %s session goes on: %s", r.kind, r.text())
		}
	}
	took := time.Since(began)
	if err := until(limitEnd, func() error {
		if left := m.remains(t, uid); left != "" {
			return fmt.Errorf("these go on: %s", left)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("every client had ended %s after the command's answer", took.Round(time.Millisecond))
}

// TestLive_OneSessionEndsAlone: ending a session by its id ends that one, with
// what it left behind, and the person's others stay.
func TestLive_OneSessionEndsAlone(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		p := newUser(t, "live-one-"+system)
		grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		key := certificate(t, p)
		stays := m.client(t, "exec", p.name, key.options(), "echo began; sleep 311")
		ends := m.client(t, "pty", p.name, append(key.options(), "-tt"), "setsid sleep 312 >/dev/null 2>&1 & echo began; sleep 313")
		var id string
		if err := until(limitEnd, func() error {
			all, err := sessionsOf(t, m, p)
			for _, l := range all {
				if l.Properties.Kind == "pty" {
					id = l.Name
				}
			}
			if err == nil && (id == "" || len(all) < 2) {
				err = fmt.Errorf("listed are %+v", all)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		p.must(t, "session", "end", id)
		select {
		case <-ends.gone:
		case <-time.After(crowded(limitEnd)):
			t.Fatalf("the session goes on: %s", ends.text())
		}
		says(t, ends.text(), "this session was ended by an administrator", "correlation id")
		uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
		if left := m.remains(t, uid); strings.Contains(left, "sleep 312") || strings.Contains(left, "sleep 313") || !strings.Contains(left, "sleep 311") {
			t.Errorf("what runs: %s", left)
		}
		if stays.over() {
			t.Errorf("the other session ended, too: %s", stays.text())
		}
	})
}

// TestLive_AdministratorBecomesUser: what runs as root ends, what a background
// shell left as root too, and the plain session lives on and reads why.
func TestLive_AdministratorBecomesUser(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		p := newUser(t, "live-admin-"+system)
		id := grant(t, roleAdmin, p.name, m.id)
		grant(t, roleUser, p.name, m.id)
		allowedSoon(t, p, m)
		key := certificate(t, p)
		pty := m.client(t, "pty", p.name, append(key.options(), "-tt"), `sudo setsid sh -c "sleep 321 & sleep 322" >/dev/null 2>&1 & sudo su - -c "sleep 323"; echo lost; sleep 324`)
		plain := m.client(t, "exec", p.name, key.options(), "echo began; sleep 325")
		if err := until(limitEnd, func() error { return lists(t, m, p, map[string]int{"pty": 1, "exec": 1}, true) }); err != nil {
			t.Fatal(err)
		}
		admin(t).must(t, "role", "assignment", "delete", "--ids", id)
		uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
		if err := until(limitEnd, func() error {
			left := m.remains(t, uid)
			for _, gone := range []string{"sleep 321", "sleep 322", "sleep 323", "sudo"} {
				if strings.Contains(left, gone) {
					return fmt.Errorf("it goes on: %s", left)
				}
			}
			if !strings.Contains(pty.text(), "lost") || !strings.Contains(left, "sleep 324") || !strings.Contains(left, "sleep 325") {
				return fmt.Errorf("the plain sessions: %s\n%s", left, pty.text())
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*running{pty, plain} {
			if r.reads(t, "your administrator role on this machine was removed"); r.over() {
				t.Errorf("the plain %s session ended", r.kind)
			}
		}
		refused(t, m.ssh(p.name, key.options(), "sudo", "-n", "true"), roleAdmin)
	})
}
