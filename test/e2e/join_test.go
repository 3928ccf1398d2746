//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/guid"
	"sallyport/internal/handbooktest"
	"sallyport/internal/labwire"
)

// hostOn is a computer that nobody made as a machine: a lab machine without a
// token, which no resource knows.
func hostOn(t *testing.T, name string, on platform) *box {
	t.Helper()
	id, err := guid.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lab := labwire.New(labwire.Config{Socket: theWorld.path("lab.sock")})
	ctx, cancel := context.WithTimeout(t.Context(), crowded(time.Minute))
	defer cancel()
	if _, err := lab.Create(ctx, labwire.CreateRequest{MachineID: id, Name: name, Backend: labwire.Backend(on.backend), System: labwire.System(on.system)}); err != nil {
		t.Fatal(err)
	}
	m, err := lab.Start(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Delete(context.Background(), id) })
	b := &box{vm: &vm{name: name, machineID: id, host: m.Loopback, port: strconv.Itoa(m.SSHPort), admin: admin(t)}}
	if err := until(20*time.Second, func() error {
		for _, pid := range processes() {
			if innerPID(pid) != 1 {
				continue
			}
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			if on.backend == nspawn && strings.TrimSpace(string(comm)) != "systemd" {
				continue // what the lab starts systemd with has a namespace of its own
			}
			if mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)); err == nil && strings.Contains(string(mounts), id) {
				b.pid, b.ns = pid, namespace(pid, "pid")
				return nil
			}
		}
		return fmt.Errorf("the first process of %s is not found", name)
	}); err != nil {
		t.Fatal(err)
	}
	if namespace(b.pid, "user") != namespace(os.Getpid(), "user") {
		b.user = []string{"-U"}
	}
	if err := until(20*time.Second, func() error {
		if r := b.try("test -s /etc/ssh/ssh_host_ed25519_key && { [ ! -d /run/systemd/system ] || systemctl is-system-running --quiet || systemctl is-active --quiet ssh; }"); r.code != 0 {
			return fmt.Errorf("the host has not started: %s", b.try("ls -l /etc/ssh; cat /proc/1/comm; systemctl is-system-running || true; systemctl status ssh || true"))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// join runs `sally machine join` on the host with a token on standard input.
func (b *box) join(token string, words ...string) result {
	argv := b.argv(append([]string{"/usr/bin/sally", "machine", "join", "-g", group, "--address", "10.77.0.1:443"}, words...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(token + "\n")
	return captureFor(cmd, crowded(2*time.Minute))
}

// etc is /etc to the byte, without what systemd and sshd make at a first start.
func (b *box) etc(t *testing.T) string {
	t.Helper()
	return b.sh(t, `cd /etc && find . -type f ! -name machine-id ! -name .updated ! -name 'ssh_host_*' ! -name '*-' | LC_ALL=C sort >/run/files && xargs -d '\n' stat -c '%n %a %U %G %s' </run/files && xargs -d '\n' sha256sum </run/files; find . -type l -printf '%p %l\n' | LC_ALL=C sort`)
}

func joinToken(t *testing.T, words ...string) string {
	t.Helper()
	return admin(t).must(t, append([]string{"machine", "token", "create", "-g", group, "--query", "joinToken", "-o", "tsv"}, words...)...)
}

func (b *box) property(t *testing.T, query string) string {
	t.Helper()
	return admin(t).must(t, "machine", "show", "-g", group, "-n", b.name, "--query", query, "-o", "tsv")
}

// TestJoin_AnyHost: a host that nobody made joins, lets people in by its own data
// actions, joins again, leaves without a trace in /etc, and comes back with the
// same people; the three systems side by side.
func TestJoin_AnyHost(t *testing.T) {
	p := newUser(t, "joiner")
	var mu sync.Mutex
	uids := map[string]string{}
	eachSystem(t, func(t *testing.T, system string) {
		b := hostOn(t, "host-"+system, platform{system, nspawn})
		before := b.etc(t)
		refusesToJoin(t, b, before)
		if r := b.join(joinToken(t), "--enable-ssh-login", "--tags", "team=blue"); r.code != 0 || !strings.Contains(r.out, "Sign-in with directory accounts is on") {
			t.Fatalf("join: %s\n%s", r, b.try("journalctl -n 40 --no-pager -u sallyport-agent-root -u sallyport-agent; sally agent status").out)
		}
		b.id = b.property(t, "properties.resourceId")
		if !strings.HasSuffix(b.id, "/providers/Microsoft.HybridCompute/machines/"+b.name) || b.property(t, "properties.state") != "connected" {
			t.Fatalf("%s is %s", b.id, b.property(t, "properties.state"))
		}
		if got := admin(t).must(t, "machine", "extension", "list", "-g", group, "--machine-name", b.name, "--query", "[].provisioningState", "-o", "tsv"); got != "Succeeded" {
			if err := until(limitGrant, func() error {
				return wants(admin(t).run("machine", "extension", "list", "-g", group, "--machine-name", b.name, "--query", "[].provisioningState", "-o", "tsv"), "Succeeded")
			}); err != nil {
				t.Fatal(err)
			}
		}
		refusedSoon(t, func() result { return p.sshIP(b.vm, "true") }, "Azure role not assigned")
		grant(t, roleUser, p.name, b.id)
		allowedSoon(t, p, b.vm)
		uid := strings.TrimSpace(p.sshIP(b.vm, "id -u; echo kept >~/kept").out)
		mu.Lock()
		uids[system] = uid
		mu.Unlock()
		byName(t, p, b)
		tellsOfItself(t, p, b)
		rejoins(t, p, b, uid)
		leaves(t, p, b, before)
		comesBack(t, p, b, uid, before)
	})
	if uids[debian11] == "" || uids[debian11] != uids[debian12] || uids[debian12] != uids[debian13] {
		t.Errorf("one person has several uids: %v", uids)
	}
}

// refusesToJoin: what would hurt, with a sentence and nothing changed.
func refusesToJoin(t *testing.T, b *box, before string) {
	t.Helper()
	token := joinToken(t)
	b.sh(t, "cp -a /etc/passwd /etc/group /run/; echo 'old:x:1879050000:100::/:/bin/sh' >>/etc/passwd; echo 'sallyport-admins:x:901:' >>/etc/group")
	r := b.join(token)
	refused(t, r, "1879050000", "sallyport-admins", "nothing was changed")
	b.sh(t, "cp -a /run/passwd /run/group /etc/")
	if after := b.etc(t); after != before {
		t.Fatalf("a refused join changed something: %s", difference(before, after))
	}
	if r := b.try("test ! -e /var/lib/sallyport/agent"); r.code != 0 {
		t.Error("a refused join left a key")
	}
	refused(t, b.join(token, "-g", "elsewhere"), "for the resource group")
}

// byName: the machine is found by its name, without saying what kind it is, and
// as az's arc; the address is the one that it reports.
func byName(t *testing.T, p *person, b *box) {
	t.Helper()
	folder := filepath.Join(p.config, "stub-"+b.name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "ssh"), []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	address := strings.Fields(b.sh(t, "hostname -I 2>/dev/null || ip -4 -o address show scope global | sed 's/.* inet \\([0-9.]*\\).*/\\1/'"))[0]
	for _, kind := range []string{"vm", "arc"} {
		r := p.run("ssh", kind, "-n", b.name, "-g", group, "--ssh-client-folder", folder)
		if r.code != 0 || !strings.Contains(r.out, "HostKeyAlias="+b.property(t, "properties.hostPrincipal")) || !strings.HasSuffix(strings.TrimSpace(r.out), address) {
			t.Errorf("ssh %s: %s", kind, r)
		}
	}
}

// tellsOfItself: accounts, sudoers, sshd and its sockets, by their parts.
func tellsOfItself(t *testing.T, p *person, b *box) {
	t.Helper()
	if err := until(30*time.Second, func() error {
		r := admin(t).run("machine", "show", "-g", group, "-n", b.name, "--expand", "inventory", "--query",
			"properties.inventory.[system.value.distribution, accounts.value.list[0].name, sudoers.value.lines[0].file, listeners.value.addresses[0], logins.value.source, sshd.value.settings[0]]", "-o", "tsv")
		for _, word := range []string{"Debian", "root", "/etc/sudoers", ":22"} {
			if r.code != 0 || !strings.Contains(r.out, word) {
				return fmt.Errorf("no %s: %s", word, r)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// By its name alone, as virtual machines are.
	who := admin(t).must(t, "access", "who", "--machine", b.name, "-g", group, "--query", "[].principal.name", "-o", "tsv")
	verdict := p.run("access", "explain", "--machine", b.name, "-g", group, "--query", "verdict.reason", "-o", "tsv")
	if !strings.Contains(who, p.name) || strings.TrimSpace(verdict.out) != "granted" {
		t.Errorf("who: %s, explain: %s", who, verdict)
	}
	p.must(t, "session", "list", "-n", b.name, "-g", group)
	p.fails(t, []string{"Sallyport.Access/inventory/read"}, "machine", "show", "--ids", b.id, "--expand", "inventory")
}

// rejoins: the old key is dead and that is told; the person is the same.
func rejoins(t *testing.T, p *person, b *box, uid string) {
	t.Helper()
	refused(t, b.join(joinToken(t)), "is a machine already", b.id)
	old := b.sh(t, `sed -n 's/.*"keyThumbprint": "\(.*\)".*/\1/p' /etc/sallyport/machine.json`)
	if r := b.join(joinToken(t, "-n", b.name), "--rejoin"); r.code != 0 {
		t.Fatalf("join again: %s", r)
	}
	if note := b.property(t, "properties.note"); !strings.Contains(note, old) || !strings.Contains(note, "dead") {
		t.Errorf("the note does not name the old key %s: %q", old, note)
	}
	if n := admin(t).must(t, "audit", "list", "--type", "machine.rejoin", "--query", "length([?target=='"+b.id+"'])", "-o", "tsv"); n != "1" {
		t.Errorf("%s records of joining again", n)
	}
	allowedSoon(t, p, b.vm)
	if r := p.sshIP(b.vm, "id -u; cat ~/kept"); r.code != 0 || strings.Join(strings.Fields(r.out), " ") != uid+" kept" {
		t.Errorf("after joining again: %s", r)
	}
}

// leaves: killed half-way and finished by the next try; every file as it was, the
// person's session ended, the server told.
func leaves(t *testing.T, p *person, b *box, before string) {
	t.Helper()
	inside := b.client(t, kindPTY, p.name, append(certificate(t, p).options(), "-tt"), "echo began; exec sleep 100")
	if err := until(limitGrant, func() error {
		if text := inside.text(); !strings.Contains(text, "began") {
			return fmt.Errorf("the session has not begun: %s", text)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// The signal comes when the mark is there: the server has been told.
	b.try(`sally machine disconnect --yes & pid=$!; i=0; while [ ! -e /var/lib/sallyport/leaving.json ] && [ $i -lt 500 ]; do i=$((i+1)); sleep 0.01; done; kill -9 $pid; wait $pid`)
	r := b.try("sally machine disconnect --yes")
	if r.code != 0 && !strings.Contains(r.err, "has not joined") { // it may have been too quick for the signal
		t.Fatalf("disconnect: %s", r)
	}
	if after := b.etc(t); after != before {
		t.Errorf("something is left or lost: %s", difference(before, after))
	}
	select {
	case <-inside.gone:
		handbooktest.Said(t, inside.text(), "session-disconnected")
	case <-time.After(crowded(20 * time.Second)):
		t.Error("the person's session goes on")
	}
	if state := b.property(t, "properties.state"); state != "expired" {
		t.Errorf("the server was not told: %s", state)
	}
	if r := p.sshIP(b.vm, "true"); r.code == 0 {
		t.Error("a host that left lets people in")
	}
	p.fails(t, []string{"has to join again", "machine token create"}, "ssh", "arc", "-n", b.name, "-g", group)
}

// comesBack: with a token for its name, to the same uid and home; deleted at the
// server while it is connected, it puts its configuration back by itself.
func comesBack(t *testing.T, p *person, b *box, uid, before string) {
	t.Helper()
	if r := b.join(joinToken(t, "-n", b.name)); r.code != 0 {
		t.Fatalf("join after leaving: %s", r)
	}
	allowedSoon(t, p, b.vm)
	if r := p.sshIP(b.vm, "id -u; cat ~/kept"); r.code != 0 || strings.Join(strings.Fields(r.out), " ") != uid+" kept" {
		t.Errorf("after coming back: %s", r)
	}
	admin(t).must(t, "machine", "delete", "-g", group, "-n", b.name, "--yes")
	admin(t).fails(t, []string{"was not found"}, "machine", "show", "-g", group, "-n", b.name)
	if r := b.try("grep -rl sallyport /etc/pam.d /etc/nsswitch.conf /etc/ssh/sshd_config /etc/ssh/sshd_config.d"); r.out != "" {
		t.Errorf("a machine that was deleted is still wired: %s", r)
	}
	b.sh(t, "sally machine disconnect --yes")
	if after := b.etc(t); after != before {
		t.Errorf("something is left or lost: %s", difference(before, after))
	}
}

// TestJoin_ServicePrincipalAndQuarantine, without systemd: a service principal
// makes its own token, by its secret and by a certificate; a stolen key is worth nothing after a quarantine; the uid of
// somebody who is gone is nobody's again.
func TestJoin_ServicePrincipalAndQuarantine(t *testing.T) {
	b := hostOn(t, "sp-host", platform{debian12, netns})
	a := admin(t)
	groupID := a.must(t, "group", "show", "-n", group, "--query", "id", "-o", "tsv")
	secret := a.must(t, "ad", "sp", "create-for-rbac", "--name", "onboarding", "--role", "Contributor", "--scopes", groupID, "--query", "[appId,password]", "-o", "tsv")
	f := strings.Fields(secret)
	b.put(t, "/run/secret", f[1], 0o600)
	b.reach(t, theWorld.port)
	r := b.try("cd /run && sally machine join -g " + group + " -n sp-host --service-principal -u " + f[0] + " -p @/run/secret --server '" + theWorld.address + "' --enable-ssh-login")
	if r.code != 0 || !strings.Contains(r.out, "sally agent root") {
		t.Fatalf("join: %s", r)
	}
	if left := b.sh(t, "ls -a /tmp /root | grep -i sally || true"); left != "" {
		t.Errorf("the sign-in left %s", left)
	}
	b.id = b.property(t, "properties.resourceId")
	p := newUser(t, "quarantined")
	grant(t, roleUser, p.name, b.id)
	allowedSoon(t, p, b.vm)
	uid := strings.TrimSpace(p.sshIP(b.vm, "id -u").out)

	// Somebody has the machine's key.
	old := b.property(t, "properties.machineId")
	a.must(t, "machine", "quarantine", "-g", group, "-n", b.name, "--yes")
	if b.property(t, "properties.state") != "expired" || b.property(t, "properties.machineId") == old {
		t.Errorf("not in quarantine: %s", b.property(t, "properties"))
	}
	if r := b.try("sally machine disconnect --yes"); r.code != 0 {
		t.Fatalf("disconnect of a machine that the server knows no more: %s", r)
	}
	// The service principal has it join again, with a certificate.
	b.put(t, "/run/sp.pem", principalFile(t, f[0]), 0o600)
	again := func(file string) result {
		return b.try("cd /run && sally machine join -g " + group + " -n sp-host --service-principal -u " + f[0] + " -p " + file + " --rejoin --server '" + theWorld.address + "'")
	}
	if r := again("/run/nothing.pem"); r.code == 0 {
		t.Errorf("joined with no file: %s", r)
	}
	if r := again("/run/sp.pem"); r.code != 0 {
		t.Fatalf("join after quarantine: %s", r)
	}
	if left := b.sh(t, "ls -a /tmp /root | grep -i sally || true"); left != "" {
		t.Errorf("the sign-in left %s", left)
	}
	allowedSoon(t, p, b.vm)
	if now := strings.TrimSpace(p.sshIP(b.vm, "id -u").out); now != uid {
		t.Errorf("uid %s became %s", uid, now)
	}

	// The uid of somebody who is gone is nobody's again, whatever the name.
	a.must(t, "ad", "user", "delete", "--id", p.name)
	newcomer := a.must(t, "ad", "user", "create", "--display-name", "quarantined", "--user-principal-name", p.name, "--password", p.password, "--query", "id", "-o", "tsv")
	a.must(t, "role", "assignment", "create", "--role", roleUser, "--assignee", newcomer, "--scope", b.id)
	if err := until(limitGrant, func() error {
		r := b.try("getent passwd " + p.name)
		if f := strings.Split(r.out, ":"); len(f) < 4 || f[2] == uid || f[2] <= uid {
			return fmt.Errorf("the uid was %s: %s", uid, r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// reach lets the host reach this computer's server at the address that people use.
func (b *box) reach(t *testing.T, port int) {
	t.Helper()
	l, err := listenInside(b.pid, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near); _ = far.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
}
