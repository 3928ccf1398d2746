package root

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/machine/protocol"
)

const (
	tenant    = "0aaaaaaa-0000-4000-8000-000000000001"
	machineID = "0aaaaaaa-0000-4000-8000-000000000002"
	aliceID   = "0aaaaaaa-0000-4000-8000-00000000000a"
	alice2ID  = "0aaaaaaa-0000-4000-8000-00000000000b"
	bobID     = "0aaaaaaa-0000-4000-8000-00000000000c"
	alice     = "alice@corp.example"
	bob       = "bob@corp.example"
	vm        = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
	aliceUID  = 1879048200
	bobUID    = 1879048201
)

// rig is a root part in a folder of its own, with everything around it faked.
type rig struct {
	dismissed []uint32 // uids, in order
	t         *testing.T
	root      string
	*Service

	manifestKey, userCA, hostCA, snapshotKey, host ed25519.PrivateKey
	manifest                                       protocol.Manifest
	doc                                            protocol.SnapshotDocument
	now                                            time.Time
	bootID                                         string
	elapsed                                        time.Duration
	processes                                      map[int]proc.Process
	present                                        []uint32
	ends, messages, warnings, left                 []string
	targets                                        []session.Target
	asked                                          []session.Who
	endFails                                       error
	stays                                          map[uint32]bool // of whom no signal ends something
	during                                         func()          // done once, while something is ended
	meanwhile                                      func()          // done once, while the process table is read
	wiring                                         fakeWiring
	commands                                       [][]string
	as                                             []*Credential
	stdin                                          []string
	serial                                         uint64
}

type fakeWiring struct {
	wired bool
	asks  error
	check error
	apply error
	mark  string
	want  []sshd.Wanted
	saw   []sshd.Wanted // what Check was asked for
	// Apply changes files.
	changes bool
}

func (f *fakeWiring) Recover(context.Context) error { return nil }
func (f *fakeWiring) Apply(_ context.Context, w sshd.Wanted) error {
	f.want = append(f.want, w)
	f.wired = f.wired || f.apply == nil
	if f.changes && f.apply == nil {
		f.mark += "+"
	}
	return f.apply
}
func (f *fakeWiring) Remove(context.Context) error { f.wired = false; return nil }
func (f *fakeWiring) Wired() bool                  { return f.wired }
func (f *fakeWiring) Check(_ context.Context, w sshd.Wanted) error {
	f.saw = append(f.saw, w)
	return f.check
}
func (f *fakeWiring) Mark() string                        { return f.mark }
func (f *fakeWiring) Asks() error                         { return f.asks }
func (f *fakeWiring) Seat(sshd.Desk)                      {}
func (f *fakeWiring) Grace(context.Context) time.Duration { return 2 * time.Minute }
func (f *fakeWiring) SelfTest(context.Context, sshd.Wanted) error {
	return nil
}
func (f *fakeWiring) Changes(context.Context) <-chan struct{} { return nil }
func (r *rig) Read(pid int) (proc.Process, error) {
	p, ok := r.processes[pid]
	if !ok {
		return p, os.ErrNotExist
	}
	return p, nil
}

// All is every process, with one for each uid that is present.
func (r *rig) All() ([]proc.Process, error) {
	list := slices.Collect(maps.Values(r.processes))
	for _, uid := range r.present {
		list = append(list, proc.Process{PID: int(uid), PPID: 1, Start: 1, State: 'S', UIDs: [4]uint32{uid, uid, uid, uid}, LoginUID: proc.NoLogin, Exe: "/bin/x"})
	}
	if f := r.meanwhile; f != nil {
		r.meanwhile = nil
		f()
	}
	return list, nil
}

// PIDs is of session.Processes; looking needs none.
func (r *rig) PIDs() ([]int, error) { return nil, nil }

func (r *rig) Look() (session.Scene, error) { return session.New(session.Config{Processes: r}).Look() }

func (r *rig) End(_ context.Context, targets []session.Target) ([]session.Outcome, error) {
	out := make([]session.Outcome, len(targets))
	err := r.endFails
	if f := r.during; f != nil {
		r.during = nil
		f()
	}
	for i, t := range targets {
		out[i] = session.Outcome{Met: 1, Left: r.endFails != nil || r.stays[t.UID], Swept: t.Whole()}
		if out[i].Left && err == nil {
			err = errors.New("processes are left")
		}
		what := "all"
		switch {
		case t.Elevated:
			what = "elevated"
		case t.Origins != nil:
			what = fmt.Sprintf("%d logins of", len(t.Origins))
		case t.Spare != nil:
			what = fmt.Sprintf("all but %d logins of", len(t.Spare))
		}
		r.ends = append(r.ends, fmt.Sprintf("%s %d", what, t.UID))
		r.messages = append(r.messages, t.Message)
		r.targets = append(r.targets, t)
	}
	return out, err
}

func (r *rig) Warn(targets []session.Target) error {
	for _, t := range targets {
		r.warnings = append(r.warnings, t.Message)
	}
	return nil
}

func (r *rig) Dismiss(_ context.Context, uid uint32) error {
	if r.visitor.Load() == nil {
		r.t.Error("what the visitor left behind is ended when its account has gone")
	}
	r.dismissed = append(r.dismissed, uid)
	return nil
}

func (r *rig) Left(w session.Who) []string {
	r.asked = append(r.asked, w)
	return r.left
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func listed(t *testing.T, p protocol.Purpose, k crypto.Signer) protocol.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, err := protocol.Thumbprint(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Key{Purpose: p, ID: id, Public: der}
}

func (r *rig) signManifest(m protocol.Manifest) protocol.SignedManifest {
	r.t.Helper()
	payload, err := json.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, r.manifestKey, protocol.TypeManifest, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return protocol.SignedManifest{ManifestKey: listed(r.t, "", r.manifestKey).Public, Envelope: e}
}

// snapshot signs the document as it is now.
func (r *rig) snapshot() protocol.Envelope {
	r.t.Helper()
	payload, err := json.Marshal(r.doc)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, r.snapshotKey, protocol.TypeSnapshot, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// deliver changes the document, gives it the next version and delivers it.
func (r *rig) deliver(change func(*protocol.SnapshotDocument)) error {
	r.t.Helper()
	if change != nil {
		change(&r.doc)
	}
	r.doc.Version++
	r.doc.IssuedAt = r.now
	return r.Snapshot(r.snapshot())
}

// mustDeliver delivers and lets guard and worker work.
func (r *rig) mustDeliver(change func(*protocol.SnapshotDocument)) {
	r.t.Helper()
	if err := r.deliver(change); err != nil {
		r.t.Fatal(err)
	}
	r.act()
}

// act lets guard and worker look once.
func (r *rig) act() {
	r.look(context.Background())
	r.apply(context.Background(), attempt{})
}

func (r *rig) restart() {
	r.t.Helper()
	var err error
	if r.Service, err = r.open(); err != nil {
		r.t.Fatal(err)
	}
	r.reached.checked = true // the worker does not run in most tests
}

func (r *rig) open() (*Service, error) {
	pins, err := pin.Load(r.root, uint32(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	return New(Config{Root: r.root, Owner: uint32(os.Geteuid()), Pins: pins, Now: func() time.Time { return r.now }, Boot: func() (string, time.Duration) { return r.bootID, r.elapsed },
		Rand: rand.Reader, Processes: r, Ender: r, Wiring: &r.wiring, Reload: func(context.Context) error { return nil }, Log: r.t.Logf,
		Run: func(_ context.Context, c Command) ([]byte, error) {
			r.commands, r.as, r.stdin = append(r.commands, c.Argv), append(r.as, c.As), append(r.stdin, c.Stdin)
			if c.Argv[0] == "useradd" {
				return nil, appendFile(r.root+"/etc/passwd", c.Argv[len(c.Argv)-1]+":x:1000:1000::/home/x:/bin/sh\n")
			}
			return nil, nil
		}})
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, root: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), bootID: "boot1", elapsed: time.Hour, processes: map[int]proc.Process{}}
	r.manifestKey, r.userCA, r.hostCA, r.snapshotKey, r.host = newKey(t), newKey(t), newKey(t), newKey(t), newKey(t)
	r.manifest = protocol.Manifest{Tenant: tenant, Domains: []string{"corp.example"}, URL: "https://server.example", Epoch: 1, Version: 1, IssuedAt: r.now,
		Keys: []protocol.Key{listed(t, protocol.UserCA, r.userCA), listed(t, protocol.HostCA, r.hostCA), listed(t, protocol.Snapshot, r.snapshotKey)}}
	for _, dir := range []string{"/etc/ssh", "/etc/sudoers.d", "/home", "/run", "/var/lib/sallyport"} {
		if err := os.MkdirAll(r.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	block, err := ssh.MarshalPrivateKey(r.host, "")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/sh\nlocal@corp.example:x:1001:1001::/:/bin/sh\n", "/etc/group": "root:x:0:\n",
		"/etc/ssh/ssh_host_ed25519_key": string(pemText(block.Type, block.Bytes))} {
		if err := durable.Write(r.root+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	thumb, _ := protocol.Thumbprint(r.manifestKey.Public())
	m := pin.Machine{URL: "https://server.example", ManifestPin: thumb, Tenant: tenant, MachineID: machineID, ResourceID: vm, KeyThumbprint: "machine-key"}
	if err := m.Save(r.root); err != nil {
		t.Fatal(err)
	}
	if err := pin.SaveManifest(r.root, r.signManifest(r.manifest)); err != nil {
		t.Fatal(err)
	}
	r.doc = protocol.SnapshotDocument{Tenant: tenant, MachineID: machineID, KeyThumbprint: "machine-key", Epoch: 1, Version: 10, IssuedAt: r.now, GoodUntil: r.now.Add(24 * time.Hour),
		ResourceID: vm, Domains: []string{"corp.example"}, Identity: true, LoginEnabled: true, Revision: 3, UserStale: 86400, AdminStale: 3600,
		Principals: []protocol.Principal{
			{ObjectID: aliceID, LoginName: alice, Access: protocol.Login, UID: aliceUID, Name: "Alice"},
			{ObjectID: bobID, LoginName: bob, Access: protocol.Admin, UID: bobUID, Name: "Bob"}}}
	r.restart()
	return r
}

func pemText(kind string, der []byte) []byte {
	return []byte("-----BEGIN " + kind + "-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END " + kind + "-----\n")
}

// certificate signs a user certificate and returns it as sshd hands it over.
func (r *rig) certificate(login, objectID string, change func(*ssh.Certificate)) shim.PrincipalsRequest {
	r.t.Helper()
	pub, err := ssh.NewPublicKey(newKey(r.t).Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.serial++
	c := &ssh.Certificate{Key: pub, CertType: ssh.UserCert, Serial: r.serial, KeyId: "key-id", ValidPrincipals: []string{login, objectID},
		ValidAfter: uint64(r.now.Add(-protocol.Backdate).Unix()), ValidBefore: uint64(r.now.Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", extObjectID: objectID, extTenant: tenant, extFactors: "pwd:" + strconv.FormatInt(r.now.Unix(), 10)}}}
	ca := crypto.Signer(r.userCA)
	if change != nil {
		change(c)
	}
	if c.SignatureKey != nil { // a test chose another authority
		ca = r.hostCA
	}
	signer, err := ssh.NewSignerFromSigner(ca)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.SignCert(rand.Reader, signer); err != nil {
		r.t.Fatal(err)
	}
	return shim.PrincipalsRequest{User: login, KeyID: c.KeyId, Serial: strconv.FormatUint(c.Serial, 10), Certificate: base64.StdEncoding.EncodeToString(c.Marshal())}
}

// connect makes an sshd process pid with its principals helper pid+1.
func (r *rig) connect(pid int) (monitor, helper shim.Peer) {
	r.processes[pid] = proc.Process{PID: pid, PPID: 5, Start: uint64(pid), UIDs: [4]uint32{0, 998, 0, 998}, Comm: "sshd", Exe: "/usr/sbin/sshd", Title: "sshd: x [priv]"}
	r.processes[pid+1] = proc.Process{PID: pid + 1, PPID: pid, Start: uint64(pid + 1), UIDs: [4]uint32{998, 998, 998, 998}, Comm: "sallyport-princ"}
	return shim.Peer{PID: pid}, shim.Peer{PID: pid + 1, UID: 998}
}

func (r *rig) account(service, login string, peer shim.Peer) shim.PAMAnswer {
	return r.PAM(context.Background(), peer, shim.PAMRequest{Phase: shim.PhaseAccount, Service: service, User: login})
}

// login walks a whole login: principals, then PAM.
func (r *rig) login(login, objectID string) shim.PAMAnswer {
	r.t.Helper()
	monitor, helper := r.connect(100)
	if got, ok := r.Principals(context.Background(), helper, r.certificate(login, objectID, nil)); !ok || got != objectID {
		return shim.PAMAnswer{Text: "no principal"}
	}
	return r.PAM(context.Background(), monitor, shim.PAMRequest{Phase: shim.PhaseAccount, Service: "sshd", User: login})
}

func (r *rig) reasons() []string {
	var list []string
	events, _ := r.events.Take(nil, 0)
	for _, e := range events {
		list = append(list, e.Type+" "+e.Detail["reason"])
	}
	return list
}

func (r *rig) file(path string) string {
	b, _ := os.ReadFile(filepath.Join(r.root, path))
	return string(b)
}
