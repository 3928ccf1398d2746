package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/handbooktest"
)

// asks is a client of the agent's, as ssh is one: it binds and lists.
func asks(t *testing.T, socket string, host ssh.Signer, blob []byte) (listed []byte) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say := func(message []byte) []byte {
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(message)))
		if _, err := c.Write(append(head[:], message...)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	session := []byte("session")
	signature, err := host.Sign(rand.Reader, session)
	if err != nil {
		t.Fatal(err)
	}
	say(ssh.Marshal(struct {
		Name                     string `sshtype:"27"`
		Key, Session, Signature_ []byte
		Forwarded                bool
	}{"session-bind@openssh.com", blob, session, ssh.Marshal(signature), false}))
	answer := say([]byte{11})
	var m struct {
		Count uint32 `sshtype:"12"`
		Rest  []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(answer, &m); err != nil {
		t.Fatal(err)
	}
	if m.Count == 0 {
		return nil
	}
	var k struct {
		Blob    []byte
		Comment string
	}
	if err := ssh.Unmarshal(m.Rest, &k); err != nil {
		t.Fatal(err)
	}
	return k.Blob
}

// explained: the page has every sentence of ours that begins with "sally:", other
// than those of the server, and says these.
func explained(t *testing.T, said string, ids ...string) {
	t.Helper()
	for line := range strings.Lines(said) {
		text, ours := strings.CutPrefix(strings.TrimSpace(line), "sally: ")
		if ours && !strings.HasPrefix(text, "AADSTS") {
			handbooktest.Known(t, text)
		}
	}
	for _, id := range ids {
		handbooktest.Said(t, said, id)
	}
}

// hostCertificate makes a host key with a certificate by a CA.
func hostCertificate(t *testing.T, ca ed25519.PrivateKey, name string, until time.Time) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ssh.NewSignerFromSigner(ca)
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{name}, ValidAfter: uint64(until.Add(-time.Hour).Unix()), ValidBefore: uint64(until.Unix())}
	if err := c.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return host, c.Marshal()
}

func forMachine(c *ssh.Certificate) {
	c.Extensions = map[string]string{"machine@sallyport": machineID}
}

func (p *person) agentSocket() string {
	p.t.Helper()
	for _, v := range p.more {
		if path, ok := strings.CutPrefix(v, "SSH_AUTH_SOCK="); ok {
			return path
		}
	}
	p.t.Fatalf("no SSH_AUTH_SOCK in %q", p.more)
	return ""
}

func TestSSHAgent_ForItsCommand(t *testing.T) {
	f, p := signedIn(t)
	f.changeCA = forMachine
	later := clock().Add(time.Hour)
	host, cert := hostCertificate(t, f.hostCA, principal, later)
	var socket string
	p.during = func([]string) {
		socket = p.agentSocket()
		for path, mode := range map[string]fs.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v %v", path, info, err)
			}
		}
		if asks(t, socket, host, host.PublicKey().Marshal()) != nil {
			t.Error("a plain key that nobody has vouched for")
		}
		blob := asks(t, socket, host, cert)
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := key.(*ssh.Certificate); !ok || c.ValidPrincipals[0] != alice {
			t.Errorf("offered: %v", key)
		}
		if !bytes.Equal(asks(t, socket, host, host.PublicKey().Marshal()), blob) {
			t.Error("the plain key of a machine that has shown its certificate")
		}
		if form := f.forms[len(f.forms)-1]; form.Get("machine") != machineID {
			t.Errorf("form %v", form)
		}
	}
	p.exit = 7
	r := p.fails(7, []string{"and no certificate of this directory", "sally ssh config --identity-agent"}, "ssh", "agent", "--", "true", "-x", "--", "y")
	explained(t, r.err, "HostKey")
	if got := strings.Join(p.runs[0], " "); got != "true -x -- y" {
		t.Errorf("ran %q", got)
	}
	if _, err := os.Stat(filepath.Dir(socket)); err == nil || r.out != "" {
		t.Errorf("the socket is left: %v %q", err, r.out)
	}
}

// TestSSHAgent_Strangers: what is not a machine of ours gets nothing, and the
// person reads what it was.
func TestSSHAgent_Strangers(t *testing.T) {
	f, p := signedIn(t)
	f.changeCA = forMachine
	_, evil, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ca    ed25519.PrivateKey
		named string
		until time.Time
		says  string
	}{
		"a stolen name":                 {evil, principal, clock().Add(time.Hour), "no authority of this directory has signed"},
		"another directory's machine":   {evil, machineID + ".machine.evil.test", clock().Add(time.Hour), "a machine of another directory"},
		"an old certificate":            {f.hostCA, principal, clock().Add(-time.Minute), "has ended on"},
		"our authority, another domain": {f.hostCA, machineID + ".machine.evil.test", clock().Add(time.Hour), "which is no machine of this directory"},
		"our authority, any name":       {f.hostCA, "*", clock().Add(time.Hour), "which is no machine of this directory"},
	} {
		host, cert := hostCertificate(t, tc.ca, tc.named, tc.until)
		n := f.issued
		p.during = func([]string) {
			if asks(t, p.agentSocket(), host, cert) != nil {
				t.Errorf("%s is offered something", name)
			}
		}
		if r := p.run("ssh", "agent", "--", "true"); r.code != 0 || !strings.Contains(r.err, tc.says) || f.issued != n {
			t.Errorf("%s: %+v, %d certificates", name, r, f.issued-n)
		} else {
			explained(t, r.err)
		}
	}
}

// TestSSHAgent_PolicyAndSignedOut: the sentences of the server and of the
// profile reach the person.
func TestSSHAgent_PolicyAndSignedOut(t *testing.T) {
	f, p := signedIn(t)
	f.changeCA = forMachine
	host, cert := hostCertificate(t, f.hostCA, principal, clock().Add(time.Hour))
	p.during = func([]string) {
		socket := p.agentSocket()
		f.mu.Lock()
		f.certErr = `{"error":"interaction_required","error_description":"AADSTS50076: multifactor is needed.","error_codes":[50076],"claims":"{}"}`
		f.mu.Unlock()
		if asks(t, socket, host, cert) != nil {
			t.Error("offered against the policy")
		}
		f.mu.Lock()
		f.certErr = ""
		f.mu.Unlock()
		if asks(t, socket, host, cert) == nil {
			t.Error("nothing is offered")
		}
		p.during = nil
		p.must("logout")
		if asks(t, socket, host, cert) != nil {
			t.Error("offered for somebody who has signed out")
		}
	}
	r := p.run("ssh", "agent", "--", "true")
	explained(t, r.err, "SignedOut")
	for _, w := range []string{"AADSTS50076", "sally login --scope", alice + " is not signed in any more", "Please run: sally login"} {
		if !strings.Contains(r.err, w) {
			t.Errorf("it does not say %q: %s", w, r.err)
		}
	}
	p.fails(1, []string{"nobody is signed in"}, "ssh", "agent", "--", "true")
}

func TestSSHAgent_Socket(t *testing.T) {
	_, p := signedIn(t)
	path := filepath.Join(p.dir, "agent.sock")
	p.during = func([]string) {
		p.fails(1, []string{"page:Socket.taken"}, "ssh", "agent", "--socket", path, "--", "true")
	}
	p.must("ssh", "agent", "--socket", path, "--", "true")
	p.during = nil
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close() // an agent that was killed leaves its socket
	p.must("ssh", "agent", "-a", path, "--", "true")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{"page:Socket"}, "ssh", "agent", "-a", path, "--", "true")
	if data, _ := os.ReadFile(path); string(data) != "precious" {
		t.Error("a file was replaced")
	}
	p.fails(1, []string{"cannot make the socket"}, "ssh", "agent", "-a", filepath.Join(p.dir, "no", "such"), "--", "true")
	p.fails(1, []string{"holds a quote"}, "ssh", "agent", "-a", filepath.Join(p.dir, "a'b"), "--", "true")
	p.fails(1, []string{"was not found"}, "ssh", "agent", "--", "no-such-program-anywhere")
	p.fails(2, []string{"go", "after --"}, "ssh", "agent", "true")
	p.fails(2, []string{"-s or -c"}, "ssh", "agent", "-s", "-c")
}

func TestShellLine(t *testing.T) {
	if got := shellLine("/run/a b", false); got != "SSH_AUTH_SOCK='/run/a b'; export SSH_AUTH_SOCK;" {
		t.Error(got)
	}
	if got := shellLine("/run/a", true); got != "setenv SSH_AUTH_SOCK '/run/a';" {
		t.Error(got)
	}
}

func TestSSHConfig_IdentityAgent(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	cfg, socket := filepath.Join(p.dir, "cfg"), filepath.Join(p.dir, "agent.sock")
	p.must("ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG", "--identity-agent", socket)
	keys := filepath.Join(p.dir, keysFolder, "RG-myVM")
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(p.dir, "plain")
	if err := os.WriteFile(plain, []byte(strings.ReplaceAll(string(text), "'/usr/bin/sally'", "/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-F", plain, "-G", "RG-myVM").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{"user " + alice, "identityagent " + socket, "identityfile none", "identitiesonly no", "hostkeyalias " + principal, "stricthostkeychecking true", "passwordauthentication no"} {
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("ssh does not read %q:\n%s", line, out)
		}
	}
	for _, name := range []string{"id_ed25519", "ssh-cert.pub"} {
		if _, err := os.Stat(filepath.Join(keys, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	hosts := filepath.Join(keys, "known_hosts")
	want, err := os.ReadFile(hosts)
	if err != nil || !strings.HasPrefix(string(want), "@cert-authority "+principal) {
		t.Fatalf("%s %v", want, err)
	}
	if err := os.WriteFile(hosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := f.issued
	p.must("ssh", "renew", "--folder", keys)
	if got, _ := os.ReadFile(hosts); !bytes.Equal(got, want) || f.issued != n {
		t.Errorf("known hosts %q, %d certificates", got, f.issued-n)
	}
	p.fails(2, []string{"--identity-agent"}, "ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG", "--identity-agent", socket, "--local-user", "azureuser")
	p.fails(2, []string{"--identity-agent"}, "ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG", "--identity-agent", socket, "--private-key-file", hosts)
	f.facts(`"`+principal+`"`, `""`)
	if r := p.run("ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG", "--identity-agent", socket); r.code == 0 {
		t.Error("written for a machine without a host certificate")
	}
}

// TestExplain_Impostor: at the machine's address answers somebody else; nothing is
// sent there, and the person reads who it is.
func TestExplain_Impostor(t *testing.T) {
	f, p := signedIn(t)
	_, evil, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.exit = 255
	good := f.hostCA
	for name, tc := range map[string]struct {
		ca    ed25519.PrivateKey
		named string
		says  string
	}{
		"a stolen name":   {evil, principal, "that no authority of this directory has signed"},
		"another machine": {good, strings.Replace(principal, "3333", "9999", 1), "which is another machine"},
		"another domain":  {good, machineID + ".machine.evil.test", "which is no machine of this directory"},
		"the machine":     {good, principal, "ssh could not log in to myVM"},
	} {
		f.hostCA = tc.ca
		port := f.sshd(t, tc.named)
		f.hostCA = good
		f.facts(`"loopbackAddress":"127.77.0.2","sshPort":22`, `"loopbackAddress":"127.0.0.1","sshPort":`+port)
		if r := p.run("ssh", "vm", "-n", "myVM", "-g", "RG"); r.code != 255 || !strings.Contains(r.err, tc.says) {
			t.Errorf("%s: %+v", name, r)
		} else if name != "the machine" {
			first, _, _ := strings.Cut(r.err, "\n")
			explained(t, first, "impostor")
		}
	}
}

// TestSSHAgent_LockedCache: another command that holds the token cache for too
// long is named.
func TestSSHAgent_LockedCache(t *testing.T) {
	f, p := signedIn(t)
	f.changeCA = forMachine
	host, cert := hostCertificate(t, f.hostCA, principal, clock().Add(time.Hour))
	p.during = func([]string) {
		lock, err := os.OpenFile(filepath.Join(p.dir, "config", "tokens.lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if asks(t, p.agentSocket(), host, cert) != nil {
			t.Error("offered without the cache")
		}
	}
	p.wait = func(context.Context, time.Duration) error { return context.DeadlineExceeded }
	if r := p.run("ssh", "agent", "--", "true"); !strings.Contains(r.err, "another sally command holds") || !strings.Contains(r.err, "Wait for it to end") {
		t.Errorf("%+v", r)
	} else {
		explained(t, r.err, "ConfigLocked")
	}
}
