//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// files are what ssh config has written for a machine.
type files struct{ key, cert, hosts, principal, authority string }

func (c *clients) files(t *testing.T, h *host) files {
	t.Helper()
	folder := filepath.Join(filepath.Dir(c.cfg), "sally_ssh_config", h.alias())
	f := files{key: filepath.Join(folder, "id_ed25519"), cert: filepath.Join(folder, "ssh-cert.pub"), hosts: filepath.Join(folder, "known_hosts")}
	text, err := os.ReadFile(f.hosts)
	words := strings.Fields(string(text))
	if err != nil || len(words) < 4 || words[0] != "@cert-authority" {
		t.Fatalf("%s: %v %s", f.hosts, err, text)
	}
	f.principal, f.authority = words[1], words[3]
	return f
}

// putty: plink and psftp with the certificate, and the machine's own certificate
// by PuTTY's list of host authorities.
func (c *clients) putty(t *testing.T, h *host) {
	f := c.files(t, h)
	home := t.TempDir()
	ppk := filepath.Join(home, "key.ppk")
	c.works(t, c.tool("puttygen", f.key, "-O", "private", "-o", ppk, "--new-passphrase", "/dev/null"))
	authorities := filepath.Join(home, ".putty", "sshhostcas")
	if err := os.MkdirAll(authorities, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "PublicKey=" + f.authority + "\nValidity=*.machine." + domain + "\nPermitRSASHA1=0\nPermitRSASHA256=1\nPermitRSASHA512=1\n"
	if err := os.WriteFile(filepath.Join(authorities, "Sallyport"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(principal string) []string {
		return []string{"-batch", "-i", ppk, "-cert", f.cert, "-loghost", principal, "-P", h.vm.port, "-l", c.name}
	}
	with := func(name, principal string, args ...string) *exec.Cmd {
		cmd := c.tool(name, append(at(principal), args...)...)
		cmd.Env = append(cmd.Env, "HOME="+home)
		return cmd
	}
	if out := c.works(t, with("plink", f.principal, h.vm.host, "id -un")); out != c.name {
		t.Errorf("plink: %s", out)
	}
	file := c.script(t, "by psftp\n")
	c.works(t, with("psftp", f.principal, "-b", c.script(t, "put "+file+" psftp\nquit\n"), h.vm.host))
	if out := c.works(t, with("plink", f.principal, h.vm.host, "cat psftp")); out != "by psftp" {
		t.Errorf("psftp: %s", out)
	}
	other := "00000000-0000-4000-8000-000000000000.machine." + domain
	if r := capture(with("plink", other, h.vm.host, "true")); r.code == 0 {
		t.Errorf("plink takes the machine for another: %s", r)
	}
}

// pythonSSH logs in to each machine with AsyncSSH and with Paramiko. Its argument
// is a list of what the test knows of them.
const pythonSSH = `
import asyncio, base64, json, sys, asyncssh, paramiko
machines = json.loads(sys.argv[1])
def aio(m, alias):
    return asyncssh.connect(m['host'], port=int(m['port']), username=m['user'], client_keys=[(m['key'], m['cert'])],
                            known_hosts=m['hosts'], host_key_alias=alias, config=None, agent_path=None)
async def one(m):
    async with aio(m, m['principal']) as c:
        print('asyncssh', m['system'], (await c.run('id -un', check=True)).stdout.strip())
    try:
        async with aio(m, m['other']): print('asyncssh takes', m['system'], 'for another')
    except asyncssh.HostKeyNotVerifiable: pass
async def main(): await asyncio.gather(*map(one, machines))
asyncio.run(main())
for m in machines:
    key = paramiko.Ed25519Key.from_private_key_file(m['key'])
    key.load_certificate(m['cert'])
    c = paramiko.SSHClient()
    name = m['host'] if m['port'] == '22' else '[%s]:%s' % (m['host'], m['port'])
    c.get_host_keys().add(name, 'ssh-ed25519', paramiko.Ed25519Key(data=base64.b64decode(m['plain'])))
    c.set_missing_host_key_policy(paramiko.RejectPolicy())
    c.connect(m['host'], port=int(m['port']), username=m['user'], pkey=key, allow_agent=False, look_for_keys=False)
    with c.open_sftp() as s:
        with s.open('paramiko', 'w') as f: f.write('x')
    print('paramiko', m['system'], c.exec_command('id -un; rm paramiko')[1].read().decode().strip())
    c.close()
`

// python: AsyncSSH checks the machine's certificate; Paramiko knows none, so the
// plain host key is asked for over a connection that has checked it.
func (c *clients) python(t *testing.T) {
	var machines []map[string]string
	var want []string
	for system, h := range c.hosts {
		f := c.files(t, h)
		plain := strings.Fields(c.works(t, c.tool("ssh", "-F", c.cfg, "-o", "BatchMode=yes", h.alias(), "cat /etc/ssh/ssh_host_ed25519_key.pub")))
		machines = append(machines, map[string]string{"system": system, "host": h.vm.host, "port": h.vm.port, "user": c.name, "key": f.key, "cert": f.cert, "hosts": f.hosts, "principal": f.principal,
			"plain": plain[1], "other": "00000000-0000-4000-8000-000000000000.machine." + domain})
		want = append(want, "asyncssh "+system+" "+c.name, "paramiko "+system+" "+c.name)
	}
	text, err := json.Marshal(machines)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(c.works(t, c.tool("/usr/bin/python3", "-W", "ignore", c.script(t, pythonSSH), string(text))), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// ansible: twenty hosts at once, on the three machines, through the agent; and
// modules where there is Python.
func (c *clients) ansible(t *testing.T) {
	carry(t, c.hosts[debian12], "usr/bin/python3.11", "usr/bin/python3", "usr/lib/python3.11", "usr/lib/x86_64-linux-gnu/libexpat.so.1", "usr/lib/x86_64-linux-gnu/libexpat.so.1.8.10")
	dir := t.TempDir()
	var inventory strings.Builder
	systems := []string{debian11, debian12, debian13}
	inventory.WriteString("[all]\n")
	for i := range 20 {
		fmt.Fprintf(&inventory, "task%02d ansible_host=%s\n", i, c.hosts[systems[i%3]].alias())
	}
	fmt.Fprintf(&inventory, "[python]\npython ansible_host=%s ansible_python_interpreter=/usr/bin/python3\n", c.hosts[debian12].alias())
	playbook := `
- hosts: all:!python
  gather_facts: false
  tasks:
    - raw: 'id -un'
      register: who
      failed_when: who.stdout | trim != "` + c.name + `"
- hosts: python
  gather_facts: false
  tasks:
    - ping:
    - copy: {content: "by ansible", dest: "~/ansible"}
    - command: cat ansible
      register: text
      failed_when: text.stdout != "by ansible"
`
	for name, text := range map[string]string{"inventory": inventory.String(), "play.yml": playbook, "ansible.cfg": "[defaults]\nforks = 20\nhost_key_checking = true\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := c.tool("/usr/bin/ansible-playbook", "-i", "inventory", "--ssh-common-args", "-F "+c.agentCfg+" -o ControlMaster=no", "play.yml")
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "ANSIBLE_CONFIG="+filepath.Join(dir, "ansible.cfg"), "ANSIBLE_LOCAL_TEMP="+dir, "ANSIBLE_NOCOLOR=1")
	c.works(t, cmd)
}

// editing is what an editor does that works on another computer: a long channel
// without a terminal, and a dynamic forward.
type editing struct {
	*clients
	host    *host
	files   files
	channel *running
	in      io.Writer
	short   string    // the certificate with which it has begun
	ends    time.Time // when that has ended
	socks   string
}

// editorBegins connects with a certificate that ends soon.
func (c *clients) editorBegins(t *testing.T, h *host) *editing {
	t.Helper()
	dir := t.TempDir()
	e := &editing{clients: &clients{person: c.person, dir: dir, cfg: filepath.Join(dir, "cfg"), agent: c.agent}, host: h}
	c.must(t, "ssh", "config", "--file", e.cfg, "-n", h.vm.name, "-g", group)
	e.files = e.clients.files(t, h)
	life := crowded(8 * time.Second)
	e.short, e.ends = shortened(t, e.files, life), time.Now().Add(life)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.socks = l.Addr().String()
	_ = l.Close()
	// Not with the configuration, which has a certificate that goes on to be good.
	args := append([]string{"-F", "none", "-p", h.vm.port, "-l", e.name, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"}, e.only()...)
	args = append(args, "-o", "ExitOnForwardFailure=yes", "-T", "-D", e.socks, h.vm.host, "sh")
	r := &running{cmd: e.tool("ssh", args...), gone: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if e.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.gone) }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.gone })
	e.channel = r
	if err := e.answers("began"); err != nil {
		t.Fatal(err)
	}
	return e
}

// only are options for the certificate with which it has begun, and no other.
func (e *editing) only() []string {
	return []string{"-i", e.files.key, "-o", "CertificateFile=" + e.short}
}

func (e *editing) answers(word string) error {
	if _, err := io.WriteString(e.in, "echo "+word+"-$((6*7))\n"); err != nil {
		return err
	}
	return until(limitEnd, func() error {
		if !strings.Contains(e.channel.text(), word+"-42") {
			return errors.New(e.channel.text())
		}
		return nil
	})
}

// goesOn: channel and forward outlive the certificate; the next connection, with
// the same ended certificate in the configuration, gets a new one by itself.
func (e *editing) goesOn(t *testing.T) {
	if err := until(limitEnd+max(0, time.Until(e.ends)), func() error {
		if r := e.host.vm.ssh(e.name, e.only(), "true"); !strings.Contains(r.err, "Permission denied") {
			return fmt.Errorf("the certificate has not ended: %s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := e.answers("later"); err != nil {
		t.Error(err)
	}
	if banner, err := throughSOCKS(e.socks, 22); err != nil || !strings.HasPrefix(banner, "SSH-2.0-OpenSSH") {
		t.Errorf("the forward: %q %v", banner, err)
	}
	text, err := os.ReadFile(e.short)
	if err == nil {
		err = os.WriteFile(e.files.cert, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := e.ssh2(e.cfg, e.host, "id -un"); r.code != 0 || strings.TrimSpace(r.out) != e.name {
		t.Errorf("reconnect: %s", r)
	}
}

// shortened is the certificate of the files with a near end, signed as a thief of
// the authority would: the server issues none below a minute.
func shortened(t *testing.T, f files, life time.Duration) string {
	t.Helper()
	text, err := os.ReadFile(f.cert)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c := key.(*ssh.Certificate)
	c.ValidBefore = uint64(time.Now().Add(life).Unix())
	if err := c.SignCert(rand.Reader, userCA(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "short.pub")
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(c), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// throughSOCKS connects to a port of the machine itself and reads what is said
// first (SOCKS 5, RFC 1928).
func throughSOCKS(address string, port uint16) (string, error) {
	c, err := net.DialTimeout("tcp", address, limitEnd)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limitEnd))
	if _, err := c.Write([]byte{5, 1, 0}); err != nil {
		return "", err
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer[:2]); err != nil {
		return "", err
	}
	if _, err := c.Write(binary.BigEndian.AppendUint16([]byte{5, 1, 0, 1, 127, 0, 0, 1}, port)); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(c, answer[:10]); err != nil || answer[1] != 0 {
		return "", fmt.Errorf("refused (%d): %w", answer[1], err)
	}
	banner := make([]byte, 15)
	_, err = io.ReadFull(c, banner)
	return string(banner), err
}

// authenticator is a security key in software: what a FIDO key answers to ssh
// (OpenSSH's PROTOCOL.u2f), with somebody's finger always on it.
type authenticator struct {
	pub  ssh.PublicKey
	key  ed25519.PrivateKey
	flag byte
}

const application = "ssh:"

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	raw, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, raw, application}))
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{pub: pub, key: key, flag: 1}
}

func (a *authenticator) PublicKey() ssh.PublicKey { return a.pub }

func (a *authenticator) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	state := binary.BigEndian.AppendUint32([]byte{a.flag}, 7)
	signed := append(append(append([]byte{}, app[:]...), state...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(a.key, signed), Rest: state}, nil
}

// securityKey: a certificate for an sk-ssh-ed25519 key opens the machine, and not
// when nobody has touched the key.
func (c *clients) securityKey(t *testing.T, h *host) {
	a := newAuthenticator(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/sk.pub", ssh.MarshalAuthorizedKey(a.pub), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, "ssh", "cert", "--file", dir+"/cert.pub", "--public-key-file", dir+"/sk.pub")
	text, err := os.ReadFile(dir + "/cert.pub")
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(key.(*ssh.Certificate), a)
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (string, error) {
		client, err := ssh.Dial("tcp", net.JoinHostPort(h.vm.host, h.vm.port), &ssh.ClientConfig{User: c.name, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: limitEnd})
		if err != nil {
			return "", err
		}
		defer client.Close()
		s, err := client.NewSession()
		if err != nil {
			return "", err
		}
		out, err := s.Output("id -un")
		return strings.TrimSpace(string(out)), err
	}
	if who, err := dial(); err != nil || who != c.name {
		t.Errorf("a security key: %q %v", who, err)
	}
	a.flag = 0
	if _, err := dial(); err == nil {
		t.Error("a security key that nobody has touched opened the machine")
	}
}

// impostor: at a machine's address stands another: one with a stolen name, an old
// certificate, another directory's, or none. ssh refuses each by the
// configuration, without a question, and sally says what it was.
func (c *clients) impostor(t *testing.T) {
	h := c.hosts[debian12]
	f := c.files(t, h)
	host, err := ssh.NewSignerFromSigner(signer(t, "host-ca"))
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ssh.NewSignerFromSigner(raw)
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		ca    ssh.Signer
		named string
		until time.Time
		says  []string
	}{
		"a stolen name":               {foreign, f.principal, hour, []string{"Host key verification failed", "host key is known for"}},
		"another machine's":           {host, "00000000-0000-4000-8000-000000000000.machine." + domain, hour, []string{"Host key verification failed", "name is not a listed principal"}},
		"another directory's":         {foreign, f.principal[:36] + ".machine.other.example", hour, []string{"Host key verification failed", "host key is known for"}},
		"an old certificate":          {host, f.principal, time.Now().Add(-time.Minute), []string{"Host key verification failed", "Certificate invalid: expired"}},
		"a key without a certificate": {nil, "", hour, []string{"Host key verification failed", "host key is known for"}},
	} {
		address, port := standIn(t, tc.ca, tc.named, tc.until)
		r := capture(c.tool("ssh", "-F", c.cfg, "-o", "BatchMode=yes", "-o", "HostName="+address, "-p", port, h.alias(), "true"))
		if r.code != 255 {
			t.Errorf("%s: %s", name, r)
		}
		says(t, r.err, tc.says...)
	}
}

// standIn is an sshd with a host certificate by ca; without one when ca is nil.
func standIn(t *testing.T, ca ssh.Signer, name string, until time.Time) (address, port string) {
	t.Helper()
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromSigner(raw)
	if err != nil {
		t.Fatal(err)
	}
	if ca != nil {
		cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{name}, ValidAfter: uint64(until.Add(-24 * time.Hour).Unix()), ValidBefore: uint64(until.Unix())}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		if key, err = ssh.NewCertSigner(cert, key); err != nil {
			t.Fatal(err)
		}
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _, _, _ = ssh.NewServerConn(c, config); _ = c.Close() }()
		}
	}()
	address, port, _ = net.SplitHostPort(l.Addr().String())
	return address, port
}
