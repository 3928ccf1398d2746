//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// knock is a plain ssh that waits for its person: keyboard-interactive alone, no
// certificate. Its askpass keeps the prompt and waits until it may press Enter.
type knock struct {
	dir      string
	out, err bytes.Buffer
	done     chan struct{}
	code     int
	cmd      *exec.Cmd
	press    func() error // Enter
}

const askpass = "#!/bin/sh\nprintf '%s' \"$1\" >\"$KNOCK/prompt.new\" && mv \"$KNOCK/prompt.new\" \"$KNOCK/prompt\"\nwhile [ ! -e \"$KNOCK/enter\" ]; do sleep 0.05; done\necho a-password-out-of-habit\n"

func (m *vm) knock(t *testing.T, login string, command ...string) *knock {
	t.Helper()
	dir, err := os.MkdirTemp(theWorld.dir, "knock-")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "askpass"), []byte(askpass), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &knock{dir: dir, done: make(chan struct{})}
	args := append([]string{"-F", "none", "-p", m.port, "-l", login, "-o", "PreferredAuthentications=keyboard-interactive", "-o", quickKex, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", m.host}, command...)
	k.cmd = exec.Command("ssh", args...)
	k.cmd.Env = append(os.Environ(), "SSH_ASKPASS="+dir+"/askpass", "SSH_ASKPASS_REQUIRE=force", "KNOCK="+dir, "DISPLAY=none")
	k.cmd.Stdout, k.cmd.Stderr, k.cmd.WaitDelay = &k.out, &k.err, time.Second
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.press = func() error { return os.WriteFile(filepath.Join(k.dir, "enter"), nil, 0o600) }
	k.ended(t)
	return k
}

// ended waits for the client beside the test, and ends it with the test.
func (k *knock) ended(t *testing.T) {
	go func() { _ = k.cmd.Wait(); k.code = k.cmd.ProcessState.ExitCode(); close(k.done) }()
	t.Cleanup(func() { _ = k.cmd.Process.Kill(); <-k.done })
}

var codeRE = regexp.MustCompile(`\b([B-Z2-9]{4})-([B-Z2-9]{4})\b`)

// prompt waits for what the person reads, and returns the code in it.
func (k *knock) prompt(t *testing.T) (code, text string) {
	t.Helper()
	if err := until(30*time.Second, func() error {
		select {
		case <-k.done:
			return fmt.Errorf("ssh has ended: %s%s", k.out.String(), k.err.String())
		default:
		}
		b, err := os.ReadFile(filepath.Join(k.dir, "prompt"))
		if text = string(b); err == nil && !strings.Contains(text, "Press Enter") {
			err = fmt.Errorf("it says %q", text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	found := codeRE.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no code in %q", text)
	}
	return found[1] + found[2], text
}

// enter presses Enter.
func (k *knock) enter(t *testing.T) *knock {
	t.Helper()
	if err := k.press(); err != nil {
		t.Fatal(err)
	}
	return k
}

// end waits for the end of the connection.
func (k *knock) end(t *testing.T) result {
	t.Helper()
	select {
	case <-k.done:
	case <-time.After(crowded(2 * time.Minute)):
		t.Fatalf("ssh goes on: %s%s", k.out.String(), k.err.String())
	}
	return result{out: k.out.String(), err: k.err.String(), code: k.code}
}

// answer types the code into a browser as a person, and presses a button there.
// It returns what the page said before and behind that.
func (p *person) answer(t *testing.T, code, decision string) (asked, said string) {
	t.Helper()
	b := newBrowser()
	base, _, _ := strings.Cut(theWorld.address, "#")
	for i, step := range []func() error{
		func() error { return b.open(base + "/device") },
		func() error { return b.submit(map[string]string{"code": code}) },
		func() error { return b.signIn(p) },
		func() error { asked = b.page; return b.submit(map[string]string{"decision": decision}) },
	} {
		if err := step(); err != nil {
			t.Fatalf("browser, step %d: %v", i, err)
		}
	}
	return asked, b.page
}

// in logs in by the web page.
func (p *person) in(t *testing.T, m *vm, command ...string) result {
	t.Helper()
	k := m.knock(t, p.name, command...)
	code, _ := k.prompt(t)
	p.answer(t, code, "approve")
	return k.enter(t).end(t)
}

func (m *vm) extension(verb, publisher, name string) []string {
	words := []string{"vm", "extension", verb, "--name", name, "--resource-group", group, "--vm-name", m.name}
	if publisher != "" {
		words = append(words, "--publisher", publisher)
	}
	return words
}

const (
	previewPublisher = "Microsoft.Azure.ActiveDirectory.LinuxSSH"
	previewExtension = "AADLoginForLinux"
	loginPublisher   = "Microsoft.Azure.ActiveDirectory"
	loginExtension   = "AADSSHLoginForLinux"
)

// TestPreview_LoginByWebPage: the preview version of the extension on the three
// systems, for clients without certificates.
func TestPreview_LoginByWebPage(t *testing.T) {
	first := bareMachineOn(t, "pre-"+debian12, platform{debian12, netns})
	if r := admin(t).run("tenant", "show", "--query", "properties.allowPreviewLogin", "-o", "tsv"); strings.TrimSpace(r.out) != "false" {
		t.Fatalf("the preview is not off: %s", r)
	}
	admin(t).fails(t, []string{previewExtension, "switched off", "sally tenant update --allow-preview-login true"}, first.extension("set", previewPublisher, previewExtension)...)
	admin(t).must(t, "tenant", "update", "--allow-preview-login", "true")
	eachPlatform(t, func(t *testing.T, on platform) {
		if on.backend == nspawn {
			previewUnderSystemd(t, on.system)
			return
		}
		m, system := first, on.system
		if system != debian12 {
			m = bareMachineOn(t, "pre-"+system, platform{system, netns})
		}
		// From 9.8 on sshd closes its door to an address that failed often.
		m.mustRoot(t, `/usr/sbin/sshd -T 2>/dev/null | grep -q ^persourcepenalties || exit 0; sed -i "1i PerSourcePenalties no" /etc/ssh/sshd_config && kill -HUP $(cat /run/sshd.pid)`)
		if err := until(limitGrant, func() error { return wants(m.root(t, "echo back"), "back") }); err != nil {
			t.Fatal(err)
		}
		m.admin.must(t, m.extension("set", previewPublisher, previewExtension)...)
		p, q := newUser(t, "pre-"+system), newUser(t, "preno-"+system)
		grant(t, roleUser, p.name, m.id)
		if err := until(limitGrant, func() error { return wants(p.in(t, m, "whoami"), p.name) }); err != nil {
			t.Fatal(err)
		}
		previewRefusals(t, m, p, q)
		previewKeepsOthersOut(t, m, p)
		previewAway(t, m, p)
		previewSudoAndEnd(t, system, m)
		if system == debian12 {
			previewExpires(t, m, p)
		}
		previewMigrates(t, m, p)
	})
	admin(t).must(t, "tenant", "update", "--allow-preview-login", "false")
}

// previewRefusals: who may not come in reads why.
func previewRefusals(t *testing.T, m *vm, p, q *person) {
	var all sync.WaitGroup
	defer all.Wait()
	one := func(f func()) { all.Go(f) }
	// Two logins at once have codes of their own, and each opens its own.
	a, b := m.knock(t, p.name, "echo", "first"), m.knock(t, p.name, "echo", "second")
	codeA, text := a.prompt(t)
	codeB, _ := b.prompt(t)
	says(t, text, m.name, p.name, "/device", "Press Enter")
	if codeA == codeB {
		t.Error("two logins have one code")
	}
	asked, _ := p.answer(t, codeB, "approve")
	says(t, asked, m.name, p.name, "Yes, let me in")
	if r := b.enter(t).end(t); r.code != 0 || strings.TrimSpace(r.out) != "second" {
		t.Errorf("the approved one: %s", r)
	}
	// CVE-2026-45108: somebody of the same directory is not the person.
	one(func() {
		a.enter(t)
		asked, said := q.answer(t, codeA, "approve")
		says(t, asked, "This is not your login")
		if strings.Contains(asked, "Yes, let me in") {
			t.Error("the page offers somebody else's login")
		}
		says(t, said, p.name, q.name, "Nothing was opened")
		refused(t, a.end(t), "somebody else than "+p.name)
	})
	// CVE-2026-33757: nothing is opened without a yes.
	one(func() {
		k := m.knock(t, p.name, "true")
		code, _ := k.prompt(t)
		p.answer(t, code, "deny")
		refused(t, k.enter(t).end(t), "the login was declined on the web page", "correlation id")
	})
	one(func() { refused(t, q.in(t, m, "true"), "Azure role not assigned", q.name) })
}

// previewKeepsOthersOut: no certificate opens anything here, and local people are
// asked as before.
func previewKeepsOthersOut(t *testing.T, m *vm, p *person) {
	refused(t, m.ssh(p.name, certificate(t, p).options(), "true"), "Permission denied")
	r := capture(exec.Command("ssh", "-v", "-F", "none", "-p", m.port, "-l", "azureuser", "-o", "PreferredAuthentications=none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", m.host, "true"))
	if !strings.Contains(r.err, "Authentications that can continue") || strings.Contains(r.err, "keyboard-interactive") {
		t.Errorf("keyboard-interactive is offered to a local account: %s", r)
	}
	m.mustRoot(t, "true")
}

// previewAway: with the network part, or all of the agent, hung, people read a
// sentence in time and local ones notice nothing.
func previewAway(t *testing.T, m *vm, p *person) {
	m.mustRoot(t, "pkill -STOP -f '[s]ally agent run'")
	refused(t, m.knock(t, p.name, "true").end(t), "the server does not answer", "sally agent status")
	m.mustRoot(t, "pkill -CONT -f '[s]ally agent run'")
	m.mustRoot(t, "pkill -STOP -f '[s]ally agent root'")
	refused(t, m.knock(t, p.name, "true").end(t), "the login service on this machine is not available")
	m.mustRoot(t, "pkill -CONT -f '[s]ally agent root'")
}

// previewSudoAndEnd: an administrator has sudo, and what was approved ends with the
// role, as with a certificate.
func previewSudoAndEnd(t *testing.T, system string, m *vm) {
	p := newUser(t, "preadm-"+system)
	id := grant(t, roleAdmin, p.name, m.id)
	if err := until(limitGrant, func() error { return wants(p.in(t, m, "sudo", "-n", "whoami"), "root") }); err != nil {
		t.Fatal(err)
	}
	k := m.knock(t, p.name, "echo in; exec sleep 300")
	code, _ := k.prompt(t)
	p.answer(t, code, "approve")
	k.enter(t)
	if err := until(limitGrant, func() error {
		if !strings.Contains(m.root(t, "ps -eo args").out, "sleep 300") {
			return errors.New("the session has not begun")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	admin(t).must(t, "role", "assignment", "delete", "--ids", id)
	refused(t, k.end(t), "your sessions on this machine are ended")
	refused(t, p.in(t, m, "true"), "Azure role not assigned")
}

// previewExpires: sshd's patience is the end, and the person reads that before.
func previewExpires(t *testing.T, m *vm, p *person) {
	reread := func(script string) {
		m.mustRoot(t, script+" && kill -HUP $(cat /run/sshd.pid)")
		if err := until(limitGrant, func() error { return wants(m.root(t, "echo back"), "back") }); err != nil {
			t.Fatal(err)
		}
	}
	grace := int(min(crowded(28*time.Second), 90*time.Second).Seconds())
	reread(fmt.Sprintf("echo LoginGraceTime %d >/etc/ssh/sshd_config.d/zz-grace.conf", grace))
	k := m.knock(t, p.name, "true")
	_, text := k.prompt(t)
	left := 0
	if m := regexp.MustCompile(`You have ([0-9]+) seconds`).FindStringSubmatch(text); m != nil {
		left, _ = strconv.Atoi(m[1])
	}
	if left < 10 || left > grace-4 {
		t.Errorf("the time that is left: %q", text)
	}
	refused(t, k.enter(t).end(t), "nobody approved this login in time")
	reread("rm /etc/ssh/sshd_config.d/zz-grace.conf")
}

// previewMigrates: the article's three steps, with its refusals on the way.
func previewMigrates(t *testing.T, m *vm, p *person) {
	k := m.knock(t, p.name, "sleep 301")
	code, _ := k.prompt(t)
	p.answer(t, code, "approve")
	k.enter(t)
	if err := until(limitGrant, func() error {
		if out := m.admin.must(t, "session", "list", "-g", group, "-n", m.name, "-o", "json"); !strings.Contains(out, p.name) {
			return errors.New("the session is not told of")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	m.admin.fails(t, []string{"people are logged in", p.name, "who -u"}, m.extension("delete", "", previewExtension)...)
	m.admin.fails(t, []string{"exit code 23", previewExtension, "sally vm extension delete"}, m.extension("set", loginPublisher, loginExtension)...)
	if got := m.admin.must(t, append(m.extension("show", "", loginExtension), "--query", "provisioningState", "-o", "tsv")...); got != "Transitioning" {
		t.Errorf("state %q", got)
	}
	_ = k.cmd.Process.Kill()
	m.mustRoot(t, "pkill -f '[s]leep 301' || :")
	if err := until(2*limitGrant, func() error {
		if r := m.admin.run(m.extension("delete", "", previewExtension)...); r.code != 0 {
			return errors.New(r.String())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := until(limitGrant, func() error {
		if got := m.admin.must(t, append(m.extension("show", "", loginExtension), "--query", "provisioningState", "-o", "tsv")...); got != "Succeeded" {
			return errors.New(got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	allowedSoon(t, p, m)
	if r := m.knock(t, p.name, "true").end(t); r.code == 0 || !strings.Contains(r.err, "Permission denied") {
		t.Errorf("keyboard-interactive after the migration: %s", r)
	}
}
