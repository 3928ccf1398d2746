//go:build e2e

package wiring

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/internal/agent"
	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/root"
	"sallyport/internal/agent/sandbox"
	"sallyport/internal/machine/protocol"
)

const (
	tenant    = "0aaaaaaa-0000-4000-8000-000000000001"
	machineID = "0aaaaaaa-0000-4000-8000-000000000002"
	aliceID   = "0aaaaaaa-0000-4000-8000-00000000000a"
	alice     = "alice@corp.example"
	aliceUID  = 1879048200
	rigPath   = "/root/rig.json"
)

// rig is the server's side: its keys.
type rig struct {
	Manifest, UserCA, HostCA, Snapshot []byte // seeds
}

func newRig() rig {
	seed := func() []byte {
		b := make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(b) // never fails
		return b
	}
	return rig{seed(), seed(), seed(), seed()}
}

func key(seed []byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed) }

func listed(p protocol.Purpose, k crypto.Signer) (protocol.Key, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return protocol.Key{}, err
	}
	id, err := protocol.Thumbprint(k.Public())
	return protocol.Key{Purpose: p, ID: id, Public: der}, err
}

// join lays down what joining would.
func (r rig) join() error {
	if pin.Joined("/") {
		return nil
	}
	m := protocol.Manifest{Tenant: tenant, Domains: []string{"corp.example"}, URL: "https://server.example", Epoch: 1, Version: 1, IssuedAt: time.Now()}
	for p, seed := range map[protocol.Purpose][]byte{protocol.UserCA: r.UserCA, protocol.HostCA: r.HostCA, protocol.Snapshot: r.Snapshot} {
		k, err := listed(p, key(seed))
		if err != nil {
			return err
		}
		m.Keys = append(m.Keys, k)
	}
	payload, err := json.Marshal(m)
	if err != nil {
		return err
	}
	e, err := protocol.Sign(rand.Reader, key(r.Manifest), protocol.TypeManifest, payload)
	if err != nil {
		return err
	}
	own, err := listed("", key(r.Manifest))
	if err != nil {
		return err
	}
	if err := pin.SaveManifest("/", protocol.SignedManifest{ManifestKey: own.Public, Envelope: e}); err != nil {
		return err
	}
	return pin.Machine{URL: m.URL, ManifestPin: own.ID, Tenant: tenant, MachineID: machineID, ResourceID: "/machine", KeyThumbprint: "machine-key"}.Save("/")
}

// deliver gives the root part a snapshot: the extension on or off.
func (r rig) deliver(s *root.Service, on bool) error {
	now := time.Now()
	doc := protocol.SnapshotDocument{Tenant: tenant, MachineID: machineID, KeyThumbprint: "machine-key", Epoch: 1, Version: now.UnixMicro(), IssuedAt: now, GoodUntil: now.Add(24 * time.Hour),
		ResourceID: "/machine", Domains: []string{"corp.example"}, Identity: true, LoginEnabled: on, Revision: now.UnixMicro(), UserStale: 86400, AdminStale: 3600,
		Principals: []protocol.Principal{{ObjectID: aliceID, LoginName: alice, Access: protocol.Login, UID: aliceUID, Name: "Alice"}}}
	payload, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	e, err := protocol.Sign(rand.Reader, key(r.Snapshot), protocol.TypeSnapshot, payload)
	if err != nil {
		return err
	}
	return s.Snapshot(e)
}

// agentMain is the root part of a machine as `sally agent root` composes it, with
// a death, or a full disk, at a step. It prints its status when it has reached what
// it wants, and after each word on its input: on, off, recover, status.
func agentMain() error {
	b, err := os.ReadFile(rigPath)
	if err != nil {
		return err
	}
	var r rig
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	if err := r.join(); err != nil {
		return err
	}
	pins, err := pin.Load("/", 0)
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile("/run/agent.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	cfg := agent.RootConfig(pins, log.New(logFile, "", log.LstdFlags).Printf, steps(logFile))
	if len(os.Args) > 2 && os.Args[2] == "recover" {
		if err := cfg.Wiring.Recover(context.Background()); err != nil {
			return err
		}
		fmt.Println("recovered", cfg.Wiring.Wired())
		os.Exit(0)
	}
	if err := sandbox.Root(); err != nil {
		return err
	}
	s, err := root.New(cfg)
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprintln(logFile, s.Run(context.Background(), root.Peers{Network: uid("sallyport-agent"), Helper: uid("sallyport-ssh")}))
	}()
	in := bufio.NewScanner(os.Stdin)
	for {
		if err := report(out, s); err != nil {
			return err
		}
		if !in.Scan() {
			os.Exit(0)
		}
		switch word := in.Text(); word {
		case "on", "off":
			if err := r.deliver(s, word == "on"); err != nil {
				return err
			}
		}
	}
}

// report prints the status as soon as what was delivered last has been dealt with.
func report(out *bufio.Writer, s *root.Service) error {
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		st := s.Status()
		if st.Version == 0 || st.Revision == st.Version || time.Since(start) > 50*time.Second {
			st.Manifest = nil
			b, err := json.Marshal(st)
			if err != nil {
				return err
			}
			_, _ = out.Write(append(b, '\n'))
			return out.Flush()
		}
	}
}

// steps dies at step KILL_AT, or fills the disk at step FULL_AT.
func steps(log io.Writer) func(string) error {
	kill, _ := strconv.Atoi(os.Getenv("KILL_AT"))
	full, _ := strconv.Atoi(os.Getenv("FULL_AT"))
	n := 0
	return func(name string) error {
		n++
		fmt.Fprintf(log, "step %d: %s\n", n, name)
		switch n {
		case kill:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case full:
			return fill()
		}
		return nil
	}
}

func fill() error {
	f, err := os.OpenFile("/var/filler", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for at, size := int64(0), int64(1<<20); size > 0; {
		if err := unix.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
			if size < 4096 {
				return nil
			}
			continue
		}
		at += size
	}
	return nil
}

func uid(name string) uint32 {
	b, _ := os.ReadFile("/etc/passwd")
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); f[0] == name {
			n, _ := strconv.ParseUint(f[2], 10, 32)
			return uint32(n)
		}
	}
	return 1<<32 - 1
}

// running is an agent in a machine.
type running struct {
	b    *box
	in   io.WriteCloser
	out  *bufio.Reader
	kill func()
}

// agent starts the agent; environment is KILL_AT=n or FULL_AT=n.
func (b *box) agent(environment ...string) *running {
	b.t.Helper()
	cmd := b.command(context.Background(), "/usr/bin/tester", "agent")
	cmd.Env = append(cmd.Env, environment...)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	r := &running{b: b, in: in, out: bufio.NewReader(out)}
	ended := false
	r.kill = func() {
		if !ended {
			ended = true
			_ = in.Close() // the agent ends with its input
			_ = cmd.Wait()
		}
	}
	b.t.Cleanup(r.kill)
	return r
}

// state reads what the agent reached; false when it died instead.
func (r *running) state() (control.Status, bool) {
	r.b.t.Helper()
	line, err := r.out.ReadBytes('\n')
	var st control.Status
	if errors.Is(err, io.EOF) {
		r.kill()
		return st, false
	}
	if err == nil {
		err = json.Unmarshal(line, &st)
	}
	if err != nil {
		r.b.t.Fatalf("agent: %v: %s", err, line)
	}
	return st, true
}

// say gives the agent a word and returns what it reached.
func (r *running) say(word string) control.Status {
	r.b.t.Helper()
	if _, err := fmt.Fprintln(r.in, word); err != nil {
		r.b.t.Fatal(err)
	}
	st, ok := r.state()
	if !ok {
		r.b.t.Fatalf("the agent died: %s", r.b.must("tail -30 /run/agent.log"))
	}
	return st
}

// join gives a machine its keys, and alice hers.
func (b *box) join() rig {
	b.t.Helper()
	r := newRig()
	text, err := json.Marshal(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(rigPath, text)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("/root/alice", pemText(block.Type, block.Bytes))
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	now := time.Now()
	c := &ssh.Certificate{Key: public, CertType: ssh.UserCert, Serial: 7, KeyId: "key-id", ValidPrincipals: []string{alice, aliceID},
		ValidAfter: uint64(now.Add(-protocol.Backdate).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "object-id@sallyport": aliceID, "tenant@sallyport": tenant, "factors@sallyport": fmt.Sprintf("pwd:%d", now.Unix())}}}
	ca, err := ssh.NewSignerFromSigner(key(r.UserCA))
	if err == nil {
		err = c.SignCert(rand.Reader, ca)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("/root/alice-cert.pub", ssh.MarshalAuthorizedKey(c))
	return r
}

// write makes a file of root's in the machine.
func (b *box) write(path string, content []byte) {
	b.t.Helper()
	cmd := b.command(context.Background(), "sh", "-c", "umask 077; cat > "+path)
	cmd.Stdin = strings.NewReader(string(content))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v %s", path, err, out)
	}
}

// alice logs in with her certificate.
func (b *box) alice() (string, error) {
	return b.sh("ssh " + sshOptions + " -i /root/alice -o CertificateFile=/root/alice-cert.pub " + alice + "@127.0.0.1 whoami")
}

func (b *box) aliceComesIn(when string) {
	b.t.Helper()
	if out, err := b.alice(); err != nil || !strings.HasSuffix(out, alice) {
		b.t.Fatalf("%s: alice does not get in: %v\n%s\n%s\n%s", when, err, out, b.must("tail -20 /var/log/sshd.log"), b.must("tail -20 /run/agent.log"))
	}
}
