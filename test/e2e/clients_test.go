//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clients is one person with the programs that people use: configurations as
// docs/how-to/clients.md has them written, and a running agent.
type clients struct {
	*person
	dir      string
	hosts    map[string]*host // by system
	cfg      string           // keys and certificates in files
	agentCfg string           // through the agent
	socket   string
	agent    *running
}

// TestClients logs in with every client that people use, as docs/how-to/clients.md
// says, from an empty home folder and without a question.
func TestClients(t *testing.T) {
	c := &clients{person: newUser(t, "clients"), dir: t.TempDir(), hosts: map[string]*host{}}
	var mu sync.Mutex
	eachSystem(t, func(t *testing.T, system string) {
		h := hostOf(t, system)
		h.openDoors(t) // what is refused here shall not keep the others out
		grant(t, roleUser, c.name, h.id)
		mu.Lock()
		defer mu.Unlock()
		c.hosts[system] = h
	})
	if t.Failed() {
		return
	}
	c.configure(t)
	var editors []*editing
	for _, h := range c.hosts {
		editors = append(editors, c.editorBegins(t, h))
	}
	t.Run("all", func(t *testing.T) {
		c.cell(t, "ansible", c.ansible) // the longest begins first
		for system, h := range c.hosts {
			c.cell(t, system+"/ssh", func(t *testing.T) { c.openSSH(t, h) })
			c.cell(t, system+"/agent", func(t *testing.T) { c.forwarded(t, h) })
			c.cell(t, system+"/multiplexed", func(t *testing.T) { multiplexed(t, h) })
			c.cell(t, system+"/security-key", func(t *testing.T) { c.securityKey(t, h) })
			c.cell(t, system+"/putty", func(t *testing.T) { c.putty(t, h) })
		}
		c.cell(t, "jump", c.jump)
		c.cell(t, "git", c.git)
		c.cell(t, "python", c.python)
		c.cell(t, "command", c.agentCommand)
		c.cell(t, "impostor", c.impostor)
	})
	t.Run("later", func(t *testing.T) {
		for _, e := range editors {
			c.cell(t, systemOf(e.host)+"/editor", e.goesOn)
		}
	})
	c.agentEnds(t)
}

func (c *clients) cell(t *testing.T, name string, run func(*testing.T)) {
	t.Run(name, func(t *testing.T) { t.Parallel(); run(t) })
}

// configure writes both configurations and starts the agent.
func (c *clients) configure(t *testing.T) {
	t.Helper()
	a := admin(t)
	sub := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	grant(t, "Reader", c.name, "/subscriptions/"+sub+"/resourceGroups/"+group)
	if r := c.login(); r.code != 0 { // it has a subscription now
		t.Fatal(r)
	}
	c.cfg, c.agentCfg, c.socket = filepath.Join(c.dir, "cfg"), filepath.Join(c.dir, "agent", "cfg"), filepath.Join(c.dir, "agent.sock")
	if err := os.Mkdir(filepath.Dir(c.agentCfg), 0o700); err != nil {
		t.Fatal(err)
	}
	c.agent = &running{kind: "agent", cmd: c.command("ssh", "agent", "--socket", c.socket), gone: make(chan struct{})}
	c.agent.cmd.Stdout, c.agent.cmd.Stderr = c.agent, c.agent
	if err := c.agent.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.agent.cmd.Wait(); close(c.agent.gone) }()
	t.Cleanup(func() { _ = c.agent.cmd.Process.Kill(); <-c.agent.gone })
	for _, h := range c.hosts {
		c.must(t, "ssh", "config", "--file", c.cfg, "-n", h.vm.name, "-g", group)
		c.must(t, "ssh", "config", "--file", c.agentCfg, "-n", h.vm.name, "-g", group, "--identity-agent", c.socket)
		if err := until(limitGrant, func() error { return wants(c.ssh2(c.agentCfg, h, "id -un"), c.name) }); err != nil {
			t.Fatalf("%v\nthe agent: %s", err, c.agent.text())
		}
	}
}

// alias is the name of a machine in a configuration.
func (h *host) alias() string { return group + "-" + h.vm.name }

// tool is a program of the person's: home folder and configuration are his.
func (c *clients) tool(name string, args ...string) *exec.Cmd {
	cmd := c.command()
	path, err := exec.LookPath(name)
	if err != nil {
		path = name
	}
	tool := exec.Command(path, args...)
	tool.Env, tool.Dir = cmd.Env, c.dir
	return tool
}

// ssh2 is plain ssh with one of the configurations.
func (c *clients) ssh2(cfg string, h *host, args ...string) result {
	return capture(c.tool("ssh", append([]string{"-F", cfg, "-o", "BatchMode=yes", h.alias()}, args...)...))
}

func (c *clients) works(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	r := capture(cmd)
	if r.code != 0 {
		t.Fatalf("%s: %s\nthe agent: %s", strings.Join(cmd.Args, " "), r, c.agent.text())
	}
	return strings.TrimSpace(r.out)
}

// openSSH: ssh, scp by both of its protocols, sftp and rsync, with keys in files
// and with the agent.
func (c *clients) openSSH(t *testing.T, h *host) {
	for _, cfg := range []string{c.cfg, c.agentCfg} {
		if r := c.ssh2(cfg, h, "id -un"); r.code != 0 || strings.TrimSpace(r.out) != c.name || strings.Contains(r.err, "authenticity") || strings.Contains(r.err, "Warning") {
			t.Errorf("ssh: %s", r)
		}
	}
	dir := t.TempDir()
	file, back := filepath.Join(dir, "file"), filepath.Join(dir, "back")
	want := bytes.Repeat([]byte("sallyport\n"), 5000)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	there := h.alias() + ":"
	for name, ways := range map[string][][]string{
		"scp":    {{"scp", "-F", c.cfg, "-B", file, there + "scp"}, {"scp", "-F", c.agentCfg, "-B", there + "scp", back}},
		"scp -O": {{"scp", "-O", "-F", c.agentCfg, "-B", file, there + "scp-o"}, {"scp", "-O", "-F", c.cfg, "-B", there + "scp-o", back}},
		"rsync":  {{"rsync", "-e", "ssh -F " + c.agentCfg, file, there + "rsync"}, {"rsync", "-e", "ssh -F " + c.cfg, there + "rsync", back}},
		"sftp":   {{"sftp", "-F", c.agentCfg, "-b", c.script(t, "put "+file+" sftp\nget sftp "+back+"\n"), h.alias()}},
	} {
		_ = os.Remove(back)
		for _, argv := range ways {
			c.works(t, c.tool(argv[0], argv[1:]...))
		}
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func (c *clients) script(t *testing.T, text string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "script")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	return f.Name()
}

// forwarded: on the machine, the forwarded agent offers nothing and opens nothing.
func (c *clients) forwarded(t *testing.T, h *host) {
	r := c.ssh2(c.agentCfg, h, "-A", `test -S "$SSH_AUTH_SOCK" && echo forwarded; ssh-add -L; ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null 127.0.0.1 id -un; exit 0`)
	if r.code != 0 || !strings.Contains(r.out, "forwarded") || strings.Contains(r.out, "cert-v01") || strings.Contains(r.out, c.name) || !strings.Contains(r.err, "Permission denied") {
		t.Errorf("a forwarded agent: %s", r)
	}
	if err := until(limitGrant, func() error {
		if text := c.agent.text(); !strings.Contains(text, "A forwarded connection was refused") || !strings.Contains(text, "ssh -J") {
			return fmt.Errorf("the agent says: %s", text)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// agentCommand: the agent for one command, whose exit code it passes on; and what
// it says of a program that does not say for which session it asks.
func (c *clients) agentCommand(t *testing.T) {
	h := c.hosts[debian12]
	r := capture(c.command("ssh", "agent", "--", "ssh", "-F", c.agentCfg, "-o", "IdentityAgent=SSH_AUTH_SOCK", "-o", "BatchMode=yes", h.alias(), "id -un; exit 9"))
	if r.code != 9 || strings.TrimSpace(r.out) != c.name {
		t.Errorf("%s", r)
	}
	ssh := "ssh -F " + c.agentCfg + " -o IdentityAgent=SSH_AUTH_SOCK -o BatchMode=yes " + h.alias()
	r = capture(c.command("ssh", "agent", "--", "sh", "-c", `printf 'pw\npw\n' | ssh-add -x; `+ssh+` true; echo "locked $?"; printf 'other\n' | ssh-add -X; printf 'pw\n' | ssh-add -X; `+ssh+` id -un; ssh-add -D && ssh-add `+h.vm.key))
	if r.code == 0 || strings.Join(strings.Fields(r.out), " ") != "locked 255 "+c.name || strings.Count(r.err, "refused operation") != 2 {
		t.Errorf("locked and opened: %s", r)
	}
	r = capture(c.command("ssh", "agent", "--", "ssh-add", "-l"))
	if r.code != 1 || !strings.Contains(r.out, "no identities") || !strings.Contains(r.err, "session-bind@openssh.com") {
		t.Errorf("%s", r)
	}
}

// agentEnds: it takes its socket with it, and a sign-out ends what it offers.
func (c *clients) agentEnds(t *testing.T) {
	h := c.hosts[debian12]
	c.must(t, "logout")
	r := c.ssh2(c.agentCfg, h, "true")
	if r.code == 0 || !strings.Contains(c.agent.text(), c.name+" is not signed in any more") {
		t.Errorf("signed out: %s\nthe agent: %s", r, c.agent.text())
	}
	_ = c.agent.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.agent.gone:
	case <-time.After(crowded(limitEnd)):
		t.Fatal("the agent does not end")
	}
	if _, err := os.Stat(c.socket); !errors.Is(err, os.ErrNotExist) || c.agent.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the socket: %v; exit %v", err, c.agent.cmd.ProcessState)
	}
}

// multiplexed: a session over a master connection ends with the role, and the
// next one is refused with the reason.
func multiplexed(t *testing.T, h *host) {
	q := newUser(t, "mux-"+systemOf(h))
	role := grant(t, roleUser, q.name, h.id)
	allowedSoon(t, q, h.vm)
	c := &clients{person: q, dir: t.TempDir(), agent: &running{}}
	c.cfg = filepath.Join(c.dir, "cfg")
	c.must(t, "ssh", "config", "--file", c.cfg, "--ip", h.vm.host, "--port", h.vm.port)
	over := []string{"-F", c.cfg, "-o", "BatchMode=yes", "-S", filepath.Join(c.dir, "mux")}
	start := func(args ...string) *running {
		r := &running{cmd: c.tool("ssh", append(append([]string{}, over...), args...)...), gone: make(chan struct{})}
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
	master := start("-M", "-N", h.vm.host)
	again := func() result {
		return capture(c.tool("ssh", append(append([]string{}, over...), h.vm.host, "id -un")...))
	}
	if err := until(limitEnd, func() error {
		return capture(c.tool("ssh", append(append([]string{}, over...), "-O", "check", h.vm.host)...)).failure()
	}); err != nil {
		t.Fatalf("%v %s", err, master.text())
	}
	session := start(h.vm.host, "echo began; sleep 300")
	if err := until(limitEnd, func() error {
		if !strings.Contains(session.text(), "began") {
			return errors.New(session.text())
		}
		return wants(again(), q.name)
	}); err != nil {
		t.Fatal(err)
	}
	admin(t).must(t, "role", "assignment", "delete", "--ids", role)
	for _, r := range []*running{session, master} {
		if err := until(limitEnd, func() error {
			if !r.over() {
				return errors.New("it goes on")
			}
			return nil
		}); err != nil {
			t.Fatalf("%v: %s", r.cmd.Args, err)
		}
	}
	refused(t, again(), "Azure role not assigned")
}

func systemOf(h *host) string { return strings.TrimPrefix(h.vm.name, "host-") }

// jump: through one machine to another, with files and with the agent; the second
// proves itself by its own host certificate.
func (c *clients) jump(t *testing.T) {
	first, second := c.hosts[debian12], c.hosts[debian13]
	private := admin(t).must(t, "vm", "show", "-d", "-g", group, "-n", second.vm.name, "--query", "privateIps", "-o", "tsv")
	for _, cfg := range []string{c.cfg, c.agentCfg} {
		out := c.works(t, c.tool("ssh", "-F", cfg, "-o", "BatchMode=yes", "-J", first.alias(), private, `. /etc/os-release; echo "$(id -un) debian$VERSION_ID ${SSH_CONNECTION%% *}"`))
		if words := strings.Fields(out); len(words) != 3 || words[0] != c.name || words[1] != debian13 || !strings.HasPrefix(words[2], "10.77.") {
			t.Errorf("through %s to %s: %s", first.vm.name, private, out)
		}
	}
}

// carry copies programs of this computer, which is the same Debian, to a machine.
func carry(t *testing.T, h *host, paths ...string) {
	t.Helper()
	tar := exec.Command("tar", append([]string{"-C", "/", "--exclude=__pycache__", "--exclude=dist-packages", "--exclude=test", "-c"}, paths...)...)
	into := exec.Command("ssh", "-F", "none", "-p", h.vm.port, "-l", "azureuser", "-i", h.vm.key, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
		h.vm.host, "sudo tar -C / -x")
	var err error
	if into.Stdin, err = tar.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := tar.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := into.CombinedOutput()
	if e := tar.Wait(); err != nil || e != nil {
		t.Fatalf("carry %v: %v %v %s", paths, err, e, out)
	}
}

// git clones from a machine and pushes to it.
func (c *clients) git(t *testing.T) {
	h := c.hosts[debian12]
	carry(t, h, "usr/bin/git", "usr/bin/git-receive-pack", "usr/bin/git-upload-pack", "usr/bin/git-upload-archive", "usr/lib/git-core/git")
	if r := c.ssh2(c.cfg, h, "git init -q --bare work.git"); r.code != 0 {
		t.Fatal(r)
	}
	dir := t.TempDir()
	git := func(cfg string, args ...string) string {
		cmd := c.tool("git", args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes -F "+cfg, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		return c.works(t, cmd)
	}
	git(c.cfg, "clone", "-q", h.alias()+":work.git", "one")
	git(c.cfg, "-C", "one", "commit", "-q", "--allow-empty", "-m", "first")
	git(c.agentCfg, "-C", "one", "push", "-q", "origin", "HEAD:main")
	git(c.agentCfg, "clone", "-q", "-b", "main", h.alias()+":work.git", "two")
	if got := git(c.cfg, "-C", "two", "log", "--format=%s"); got != "first" {
		t.Errorf("cloned: %q", got)
	}
}
