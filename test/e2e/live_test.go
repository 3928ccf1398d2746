//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
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
	args := append([]string{"-F", "none", "-p", m.port, "-l", login, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
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

// everyKind opens a session of each kind with one certificate and returns when
// the machine has told the server of all of them, and of those that were there.
func everyKind(t *testing.T, m *vm, p *person, key identity, elevated bool, there ...string) []*running {
	t.Helper()
	dir := filepath.Dir(key.key)
	with := func(more ...string) []string { return append(key.options(), more...) }
	list := []*running{
		m.client(t, "pty", p.name, with("-tt"), "echo began; exec sleep 300"),
		m.client(t, "exec", p.name, with(), "echo began; sleep 301"),
		m.client(t, "sftp", p.name, with("-s"), "sftp"),
		m.client(t, "forward", p.name, with("-N", "-L", dir+"/fwd:127.0.0.1:22")),
		m.client(t, "master", p.name, with("-M", "-N", "-S", dir+"/mux")),
	}
	// Three ways to leave the session: a new process group, a double fork, nohup.
	left := m.ssh(p.name, key.options(), `setsid sleep 302 >/dev/null 2>&1 & (setsid sh -c "sleep 303 & exit" >/dev/null 2>&1 &) ; nohup sleep 304 >/dev/null 2>&1 & echo left`)
	if left.code != 0 || !strings.Contains(left.out, "left") {
		t.Fatalf("detached children: %s", left)
	}
	if elevated {
		list = append(list, m.client(t, "elevated", p.name, with("-tt"), `echo began; sudo su - -c "sleep 305"; sleep 306`))
	}
	if err := until(limitEnd, func() error { return m.ssh(p.name, with("-S", dir+"/mux", "-O", "check")).failure() }); err != nil {
		t.Fatalf("the multiplexed connection: %v", err)
	}
	list = append(list, m.client(t, "channel", p.name, with("-S", dir+"/mux"), "echo began; sleep 307"), m.client(t, "channel", p.name, with("-S", dir+"/mux", "-tt"), "echo began; sleep 308"))
	if err := until(limitEnd, func() error { return banner(dir + "/fwd") }); err != nil {
		t.Fatalf("the forwarded port: %v", err)
	}
	want := map[string]int{"pty": 2, "exec": 1, "sftp": 1, "forward": 1, "background": 1}
	if elevated {
		want["pty"]++
	}
	for _, kind := range there {
		want[kind]++
	}
	if err := until(limitEnd, func() error { return lists(t, m, p, want, elevated) }); err != nil {
		t.Fatal(err)
	}
	return list
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
		case <-time.After(limitEnd):
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

// cause is one way to lose the right to be on a machine.
type cause struct {
	name    string
	happens func(t *testing.T, m *vm, p *person, c *circumstances)
	session string   // what the sessions read
	next    []string // what the next login reads
}

// circumstances are what a cause takes away.
type circumstances struct{ assignment, group, objectID string }

func causes() []cause {
	remove := func(t *testing.T, _ *vm, _ *person, c *circumstances) {
		admin(t).must(t, "role", "assignment", "delete", "--ids", c.assignment)
	}
	return []cause{
		{"role", remove, "Azure role not assigned", []string{"Azure role not assigned", "orrelation id"}},
		{"group", func(t *testing.T, _ *vm, _ *person, c *circumstances) {
			admin(t).must(t, "ad", "group", "member", "remove", "--group", c.group, "--member-id", c.objectID)
		}, "Azure role not assigned", []string{"Azure role not assigned"}},
		{"disabled", func(t *testing.T, _ *vm, p *person, _ *circumstances) {
			admin(t).must(t, "ad", "user", "update", "--id", p.name, "--account-enabled", "false")
		}, "is disabled", []string{"is disabled"}},
		{"deleted", func(t *testing.T, _ *vm, p *person, _ *circumstances) {
			admin(t).must(t, "ad", "user", "delete", "--id", p.name)
		}, "not an account", []string{"Permission denied"}},
		{"signedout", func(t *testing.T, _ *vm, p *person, _ *circumstances) {
			p.must(t, "account", "session", "revoke", "--all", "--yes")
		}, "your sessions were ended by the directory", []string{"sessions of", "were ended"}},
	}
}

// TestLive_EveryCauseEndsEveryKind: what a person has running on a machine ends,
// with words, whatever took the right away, on every system.
func TestLive_EveryCauseEndsEveryKind(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		for i, c := range causes() {
			if system != debian12 && i > 0 {
				continue // what ends is the same; how, differs by system
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				live(t, m, c, "live-"+c.name+"-"+system)
			})
		}
	})
}

func live(t *testing.T, m *vm, c cause, alias string) {
	a := admin(t)
	p := newUser(t, alias)
	with := circumstances{objectID: a.must(t, "ad", "user", "show", "--id", p.name, "--query", "id", "-o", "tsv")}
	if c.name == "group" {
		with.group = a.must(t, "ad", "group", "create", "--display-name", alias, "--mail-nickname", alias, "--query", "id", "-o", "tsv")
		a.must(t, "ad", "group", "member", "add", "--group", with.group, "--member-id", with.objectID)
		a.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee-object-id", with.group, "--assignee-principal-type", "Group", "--scope", m.id)
	} else {
		with.assignment = grant(t, roleAdmin, p.name, m.id)
	}
	allowedSoon(t, p, m)
	key := certificate(t, p)
	uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
	list := everyKind(t, m, p, key, true)
	c.happens(t, m, p, &with)
	ended(t, m, list, uid)
	for _, r := range list {
		if r.kind != "forward" && r.kind != "master" && r.kind != "sftp" { // sshd has no place for words there
			says(t, r.text(), c.session)
		}
	}
	refused(t, m.ssh(p.name, key.options(), "true"), c.next...)
	if err := until(limitGrant, func() error { return lists(t, m, p, map[string]int{}, false) }); err != nil {
		t.Error(err)
	}
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
		case <-time.After(limitEnd):
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

// TestLive_RevokedCertificateEndsItsSessions: those that it opened, with what they
// left behind, and not those of another certificate of the same person.
func TestLive_RevokedCertificateEndsItsSessions(t *testing.T) {
	m := machine(t, "net-"+debian12)
	p := newUser(t, "live-cert")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	thief, own := certificate(t, p), certificate(t, p)
	stays := m.client(t, "exec", p.name, own.options(), "echo began; sleep 341")
	uid := strings.TrimSpace(m.ssh(p.name, own.options(), "id -u").out)
	list := everyKind(t, m, p, thief, false, "exec")
	serial := ""
	if err := until(limitEnd, func() error {
		all, err := sessionsOf(t, m, p)
		for _, l := range all {
			if l.Properties.Kind == "sftp" {
				serial = l.Properties.Certificate.Serial
			}
		}
		if err == nil && serial == "" {
			err = fmt.Errorf("listed are %+v", all)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p.must(t, "cert", "revoke", "--serial", serial, "--yes")
	for _, r := range list {
		select {
		case <-r.gone:
		case <-time.After(limitEnd):
			t.Fatalf("the %s session goes on: %s", r.kind, r.text())
		}
		if r.kind != "forward" && r.kind != "master" && r.kind != "sftp" {
			says(t, r.text(), "the certificate that opened this session was revoked")
		}
	}
	if err := until(limitEnd, func() error {
		if left := m.remains(t, uid); strings.Count(left, "sleep") != strings.Count(left, "sleep 341") || stays.over() {
			return fmt.Errorf("what runs: %s\n%s", left, stays.text())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	refused(t, m.ssh(p.name, thief.options(), "true"), "the certificate with serial "+serial+" was revoked")
	if r := m.ssh(p.name, own.options(), "true"); r.code != 0 {
		t.Errorf("the other certificate: %s", r)
	}
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
			if says(t, r.text(), "your administrator role on this machine was removed"); r.over() {
				t.Errorf("the plain %s session ended", r.kind)
			}
		}
		refused(t, m.ssh(p.name, key.options(), "sudo", "-n", "true"), roleAdmin)
	})
}

// TestLive_IdentityRemoved ends everybody's sessions on the machine, and nobody
// of the machine's own.
func TestLive_IdentityRemoved(t *testing.T) {
	m := machine(t, "identityVM")
	p := newUser(t, "live-identity")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	local := m.client(t, "local", "azureuser", []string{"-i", m.key}, "echo began; sleep 331")
	theirs := m.client(t, "exec", p.name, key.options(), "echo began; sleep 332")
	if err := until(limitEnd, func() error {
		if !strings.Contains(local.text(), "began") || !strings.Contains(theirs.text(), "began") {
			return fmt.Errorf("%s %s", local.text(), theirs.text())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
	admin(t).must(t, "vm", "identity", "remove", "-g", group, "-n", m.name)
	ended(t, m, []*running{theirs}, uid)
	says(t, theirs.text(), "managed identity is removed")
	refused(t, m.ssh(p.name, key.options(), "true"), "managed identity is removed")
	if local.over() {
		t.Error("a local person's session ended")
	}
	admin(t).must(t, "vm", "identity", "assign", "-g", group, "-n", m.name)
	allowedSoon(t, p, m)
}
