//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// plink is PuTTY's client at a machine of the preview: without a terminal it
// prints what it is asked and reads its input.
func (m *vm) plink(t *testing.T, login string, command ...string) *knock {
	t.Helper()
	dir, err := os.MkdirTemp(theWorld.dir, "plink-")
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := strings.Fields(m.mustRoot(t, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"))[1]
	k := &knock{dir: dir, done: make(chan struct{})}
	k.cmd = exec.Command("plink", append([]string{"-ssh", "-P", m.port, "-l", login, "-hostkey", fingerprint, m.host}, command...)...)
	k.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8"}
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := os.Create(filepath.Join(dir, "prompt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = said.Close() })
	in, err := k.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.cmd.Stdout, k.cmd.Stderr, k.cmd.WaitDelay = io.MultiWriter(&k.out, said), io.MultiWriter(&k.err, said), time.Second
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.press = func() error { _, err := io.WriteString(in, "\n"); return err }
	k.ended(t)
	return k
}

// previewUnderSystemd: the preview on a machine with systemd, with OpenSSH and
// with PuTTY.
func previewUnderSystemd(t *testing.T, system string) {
	m := bareMachineOn(t, "presd-"+system, platform{system, nspawn})
	if err := until(4*limitGrant, func() error { return wants(m.root(t, "echo up"), "up") }); err != nil {
		t.Fatal(err)
	}
	m.forgiving(t)
	m.admin.must(t, m.extension("set", previewPublisher, previewExtension)...)
	p, q := newUser(t, "presd-"+system), newUser(t, "presdno-"+system)
	grant(t, roleUser, p.name, m.id)
	if err := until(limitGrant, func() error { return wants(p.in(t, m, "whoami"), p.name) }); err != nil {
		t.Fatal(err)
	}
	previewByPutty(t, m, p, q)
	previewKeepsOthersOut(t, m, p)
	if system == debian12 {
		previewAway(t, m, p)
	}
	previewSudoAndEnd(t, "sd-"+system, m)
	if err := until(2*limitGrant, func() error {
		if r := m.admin.run(m.extension("delete", "", previewExtension)...); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := m.knock(t, p.name, "true").end(t); r.code == 0 || !strings.Contains(r.err, "Permission denied") {
		t.Errorf("keyboard-interactive after the removal: %s", r)
	}
	m.mustRoot(t, "true")
}

// previewByPutty: approved, denied, and without a role.
func previewByPutty(t *testing.T, m *vm, p, q *person) {
	t.Helper()
	k := m.plink(t, p.name, "id -un")
	code, text := k.prompt(t)
	says(t, text, m.name, p.name, "/device", "Press Enter")
	p.answer(t, code, "approve")
	if r := k.enter(t).end(t); r.code != 0 || strings.TrimSpace(r.out) != p.name {
		t.Errorf("plink, approved: %s", r)
	}
	k = m.plink(t, p.name, "true")
	code, _ = k.prompt(t)
	p.answer(t, code, "deny")
	refused(t, k.enter(t).end(t), "the login was declined on the web page", "correlation id")
	k = m.plink(t, q.name, "true")
	code, _ = k.prompt(t)
	q.answer(t, code, "approve")
	refused(t, k.enter(t).end(t), "Azure role not assigned", q.name)
}
