package root

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/shim"
	"sallyport/internal/crowdtest"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// network is a network part that somebody has taken over: it speaks on the real
// control socket what it likes.
type network struct {
	*rig
	client control.Client
}

// Control lets the socket outlive a restart of the root part.
func (n *network) Control(ctx context.Context, root bool, r control.Request) (control.Answer, error) {
	return n.Service.Control(ctx, root, r)
}

func takenOver(t *testing.T) *network {
	t.Helper()
	n := &network{rig: newRig(t)}
	n.client = control.Client{Path: filepath.Join(n.root, "control.sock"), Owner: uint32(os.Geteuid())}
	l, err := shim.Listen(n.client.Path, 0o600, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- control.Serve(ctx, l, control.ServerConfig{Network: uint32(os.Geteuid()), Handler: n})
	}()
	t.Cleanup(func() { stop(); <-done })
	return n
}

func (n *network) say(r control.Request) error {
	_, err := n.client.Ask(n.t.Context(), r)
	n.act()
	return err
}

func (n *network) carry(e protocol.Envelope) error {
	return n.say(control.Request{Op: control.OpSnapshot, Snapshot: &e})
}

// refusals lists what the root part told about documents.
func (n *network) told() (list []string) {
	answer, err := n.client.Ask(n.t.Context(), control.Request{Op: control.OpEvents, Generation: -1})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range answer.Events {
		if e.Type == "document.deny" {
			list = append(list, e.Detail["document"]+": "+e.Detail["reason"])
		}
	}
	return list
}

// altered changes one byte of what was signed.
func altered(e protocol.Envelope) protocol.Envelope {
	e.Payload = slices.Clone(e.Payload)
	e.Payload[len(e.Payload)/2] ^= 1
	return e
}

// TestNetworkPart_OldForgedAndForeignDocuments: each is refused and told, and
// changes nothing, also after a restart, and after the loss of /run.
func TestNetworkPart_OldForgedAndForeignDocuments(t *testing.T) {
	n := takenOver(t)
	sign := func(change func(*protocol.SnapshotDocument)) protocol.Envelope {
		kept := n.doc
		change(&n.doc)
		defer func() { n.doc = kept }()
		return n.snapshot()
	}
	n.mustDeliver(nil)
	before := n.snapshot() // alice may log in
	n.now, n.elapsed = n.now.Add(time.Minute), n.elapsed+time.Minute
	n.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] })
	other := newRig(t)
	other.doc = n.doc
	for name, e := range map[string]protocol.Envelope{
		"rolled back":          before,
		"rolled back, renamed": sign(func(d *protocol.SnapshotDocument) { d.Version-- }),
		"signed before":        sign(func(d *protocol.SnapshotDocument) { d.Version++; d.IssuedAt = d.IssuedAt.Add(-time.Second) }),
		"forged":               other.snapshot(),
		"altered":              altered(n.snapshot()),
		"of another machine":   sign(func(d *protocol.SnapshotDocument) { d.Version++; d.MachineID = aliceID }),
		"of another tenant":    sign(func(d *protocol.SnapshotDocument) { d.Version++; d.Tenant = aliceID }),
		"for another key":      sign(func(d *protocol.SnapshotDocument) { d.Version++; d.KeyThumbprint = "a clone's" }),
		"of a lower epoch":     sign(func(d *protocol.SnapshotDocument) { d.Version++; d.Epoch = 0 }),
		"of an unknown epoch":  sign(func(d *protocol.SnapshotDocument) { d.Version++; d.Epoch = 2 }),
		"another kind":         n.table(nil),
	} {
		for _, after := range []string{"", "a restart", "the loss of /run"} {
			switch after {
			case "a restart":
				n.restart()
			case "the loss of /run":
				if err := os.RemoveAll(n.root + "/run"); err != nil {
					t.Fatal(err)
				}
				n.restart()
			}
			n.elapsed += 2 * refusalPause // so that each is told
			n.now = n.now.Add(2 * refusalPause)
			was := len(n.told())
			if err := n.carry(e); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s after %q: %v", name, after, err)
			}
			if got := n.told(); len(got) != was+1 || !strings.HasPrefix(got[len(got)-1], "snapshot: ") {
				t.Errorf("%s after %q: told %v", name, after, got)
			}
			if n.login(alice, aliceID).Allow {
				t.Fatalf("%s after %q: alice is in", name, after)
			}
		}
	}
	if a := n.login(bob, bobID); !a.Allow {
		t.Errorf("what was refused took bob's grant away: %s", a.Text)
	}
	// Replayed: the same again is taken, and makes nothing fresher.
	if err := n.carry(n.snapshot()); err != nil {
		t.Error(err)
	}
	age := n.Status().AgeSeconds
	if age < int64(time.Hour/time.Second) {
		t.Errorf("%d seconds old", age)
	}
}

// TestNetworkPart_Withholds: a frozen machine goes on for as long as the role's
// rule says, by the boot clock also when the wall clock is set back, and after a
// restart; the status says until when, and then the sentence why not.
func TestNetworkPart_Withholds(t *testing.T) {
	n := takenOver(t)
	n.mustDeliver(nil)
	sudo := func() bool { return n.account("sudo", bob, shim.Peer{PID: 1}).Allow }
	st := n.Status()
	if !st.UserUntil.Equal(n.now.Add(24*time.Hour)) || !st.AdminUntil.Equal(n.now.Add(time.Hour)) || st.UserStale != 86400 || st.AdminStale != 3600 {
		t.Fatalf("%+v", st)
	}
	pass := func(d time.Duration) { n.now, n.elapsed = n.now.Add(d), n.elapsed+d }
	pass(time.Hour)
	if !sudo() || !n.login(bob, bobID).Allow {
		t.Fatal("refused within the hour")
	}
	pass(time.Second)
	if a := n.account("sudo", bob, shim.Peer{PID: 1}); a.Allow || !strings.Contains(a.Text, "has not heard from the server for 1h0m1s; grants hold for 1h0m0s without it") {
		t.Fatalf("%+v", a)
	}
	if !n.login(bob, bobID).Allow || !n.Status().AdminUntil.IsZero() || n.Status().UserUntil.IsZero() {
		t.Fatalf("%+v", n.Status())
	}
	n.restart()
	pass(23*time.Hour - 2*time.Second)
	if !n.login(bob, bobID).Allow {
		t.Fatal("refused within the day")
	}
	pass(2 * time.Second)
	a := n.login(bob, bobID)
	if a.Allow || !strings.Contains(a.Text, "grants hold for 24h0m0s without it") || !strings.Contains(a.Text, "sally agent status") || !n.Status().UserUntil.IsZero() {
		t.Fatalf("%+v", a)
	}
	n.now = n.now.Add(-20 * time.Hour) // a wall clock that is set back helps nobody
	if n.login(bob, bobID).Allow {
		t.Fatal("the wall clock was set back and bob is in")
	}
	n.bootID, n.elapsed = "boot2", 0
	n.restart()
	n.now = n.now.Add(20 * time.Hour)
	if n.login(bob, bobID).Allow {
		t.Fatal("booted anew, and bob is in")
	}
	n.mustDeliver(func(d *protocol.SnapshotDocument) { d.GoodUntil = n.now.Add(24 * time.Hour) })
	if a := n.login(bob, bobID); !a.Allow || !sudo() {
		t.Fatalf("heard again, and %s", a.Text)
	}
}

// TestStateRestored_FromAnOlderBackup says what happens and not what one would
// wish: whoever is root and puts an older state folder back, puts back what the
// machine knew then. It stays as old as it is, so that nothing holds longer, and
// the server's next word ends it.
func TestStateRestored_FromAnOlderBackup(t *testing.T) {
	n := takenOver(t)
	n.mustDeliver(nil)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(n.root+stateFolder)); err != nil {
		t.Fatal(err)
	}
	newest := n.snapshot()
	n.now, n.elapsed = n.now.Add(30*time.Minute), n.elapsed+30*time.Minute
	n.mustDeliver(func(d *protocol.SnapshotDocument) { d.Principals = d.Principals[1:] })
	fresh := n.snapshot()
	if err := errors.Join(os.RemoveAll(n.root+stateFolder), os.CopyFS(n.root+stateFolder, os.DirFS(backup)), ownAll(n.root+stateFolder)); err != nil {
		t.Fatal(err)
	}
	n.restart()
	if a := n.login(alice, aliceID); !a.Allow {
		t.Fatalf("the older state is not used: %s", a.Text)
	}
	if st := n.Status(); st.AgeSeconds != 1800 || !st.AdminUntil.Equal(n.now.Add(30*time.Minute)) {
		t.Fatalf("what was restored counts as fresh: %+v", st)
	}
	if err := n.carry(newest); err != nil || n.Status().AgeSeconds != 1800 {
		t.Fatalf("%v: replayed, and fresher", err)
	}
	if err := n.carry(fresh); err != nil || n.login(alice, aliceID).Allow {
		t.Fatalf("%v: alice is in after the server's word", err)
	}
}

func ownAll(dir string) error {
	return filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
}

// word is one document of a history, with what it says.
type word struct {
	accounts bool
	version  int64
	needs    int64 // accounts that a snapshot demands
	envelope protocol.Envelope
	alice    bool // may log in by it: a grant, or an enabled account
}

// history signs what a server says over time, in order.
func (n *network) history(random *rand.Rand, length int) (words []word) {
	accounts := int64(0)
	for version := int64(20); version < int64(20+length); version++ {
		on := random.IntN(2) == 0
		if accounts == 0 || random.IntN(2) == 0 {
			accounts = version
			e := n.table(func(d *protocol.AccountsDocument) { d.Version, d.Changed[0].Disabled = version, !on })
			words = append(words, word{accounts: true, version: version, envelope: e, alice: on})
			continue
		}
		n.doc.Version, n.doc.IssuedAt, n.doc.Accounts = version, n.now.Add(time.Duration(version)*time.Millisecond), accounts
		n.doc.Principals, n.doc.Grants = nil, []protocol.Grant{{ObjectID: bobID, Access: protocol.Admin}}
		if on {
			n.doc.Grants = append(n.doc.Grants, protocol.Grant{ObjectID: aliceID, Access: protocol.Login})
		}
		words = append(words, word{version: version, needs: accounts, envelope: n.snapshot(), alice: on})
	}
	return words
}

// TestNetworkPart_SaysWhatItLikes: thousands of random words in random order, true
// and false ones, with restarts and lost time between. A model that knows nothing
// but "never older, never without its accounts" says who may log in, and it is
// always right: the network part can deny and never grant.
func TestNetworkPart_SaysWhatItLikes(t *testing.T) {
	for seed := range uint64(2) {
		random := rand.New(rand.NewPCG(seed, 7))
		n, stranger := takenOver(t), newRig(t)
		words := n.history(random, 60)
		var snapshot, accounts word
		taken, refused := 0, 0
		for step := range 300 {
			w := words[min(len(words)-1, random.IntN(step/6+2))]
			request := control.Request{Op: control.OpSnapshot, Snapshot: &w.envelope}
			legal := w.version >= snapshot.version && accounts.version >= w.needs
			if w.accounts {
				request = control.Request{Op: control.OpAccounts, Accounts: &w.envelope}
				legal = w.version >= accounts.version
			}
			switch random.IntN(8) {
			case 0: // a lie
				lie := altered(w.envelope)
				if random.IntN(2) == 0 {
					stranger.doc = n.doc
					lie = stranger.snapshot()
				}
				request, legal = control.Request{Op: control.OpSnapshot, Snapshot: &lie}, false
			case 1: // the right word as another
				if w.accounts {
					request = control.Request{Op: control.OpSnapshot, Snapshot: &w.envelope}
				} else {
					request = control.Request{Op: control.OpAccounts, Accounts: &w.envelope}
				}
				legal = false
			case 2: // nonsense
				request, legal = control.Request{Op: control.Op([]string{"status", "grant", "adopt-home", "deliver-host-certificate", ""}[random.IntN(5)]), Name: alice, Certificate: "x"}, false
			case 3:
				n.restart()
			case 4: // it takes events and throws them away
				_, _ = n.client.Ask(t.Context(), control.Request{Op: control.OpEvents, Acknowledge: []string{"x", aliceID}, Generation: -1})
			}
			err := n.say(request)
			if (err == nil) != legal {
				t.Fatalf("seed %d, step %d: version %d after snapshot %d and accounts %d: %v", seed, step, w.version, snapshot.version, accounts.version, err)
			}
			switch {
			case err != nil:
				refused++
			case w.accounts:
				accounts = w
				taken++
			default:
				snapshot = w
				taken++
			}
			want := snapshot.alice && accounts.alice
			if got := n.login(alice, aliceID); got.Allow != want {
				t.Fatalf("seed %d, step %d: alice %v, want %v: %s", seed, step, got.Allow, want, got.Text)
			}
		}
		if taken < 20 || refused < 80 {
			t.Errorf("seed %d: %d were taken and %d refused: that tries too little", seed, taken, refused)
		}
	}
}

const floodMode = "SALLY_FLOOD"

// TestNetworkPart_Floods: a network part of its own uid opens everything that it
// can, sends garbage, promises of 4 GiB, whole large requests and single bytes,
// and never stops. PAM is answered in time meanwhile, and so is root.
func TestNetworkPart_Floods(t *testing.T) {
	if path := os.Getenv(floodMode); path != "" {
		flood(path)
		return
	}
	const uid = 7793
	if os.Geteuid() != 0 {
		t.Fatal("a network part of another uid needs root")
	}
	r := newRig(t)
	for d := r.root; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // the computer's folder stays as it is
		_ = os.Chmod(d, 0o711)
	}
	r.mustDeliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, Peers{Network: uid, Helper: uid}) }()
	t.Cleanup(func() { stop(); <-done })
	ask := func(service, user string) (byte, error) { return askPAM(r.root+pamSocket, service, user) }
	for { // until it listens
		if answer, err := ask("sudo", bob); err == nil && answer == 2 {
			break
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "sallyport-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "flood")
	if out, err := exec.Command("install", "-m", "0755", os.Args[0], program).CombinedOutput(); err != nil || os.Chmod(dir, 0o755) != nil {
		t.Fatalf("%v %s", err, out)
	}
	cmd := exec.Command(program, "-test.run=^TestNetworkPart_Floods$")
	cmd.Env = []string{floodMode + "=" + r.root + control.SocketPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for begin, n := time.Now(), 0; time.Since(begin) < 1500*time.Millisecond || n < 50; n++ {
		asked := time.Now()
		answer, err := ask("sudo", bob)
		if err != nil || answer != 2 {
			t.Fatalf("answer %d, %v", answer, err)
		}
		slowest = max(slowest, time.Since(asked))
		if answer, err := ask("sudo", alice); err != nil || answer != 3 {
			t.Fatalf("alice is no administrator: answer %d, %v", answer, err)
		}
		if n%10 == 0 {
			if _, err := (control.Client{Path: r.root + control.SocketPath}).Ask(t.Context(), control.Request{Op: control.OpStatus}); err != nil {
				t.Fatalf("root's own question: %v", err)
			}
		}
	}
	if slowest > crowdtest.Limit(3*time.Second) { // the PAM module's own limit
		t.Errorf("PAM waited %s", slowest)
	}
	t.Logf("the slowest answer took %s", slowest)
}

// askPAM is the PAM module's exchange; it returns the type of the answer's frame.
func askPAM(path, service, user string) (byte, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	fields := []string{"account", service, user, "", "", ""}
	frame := append([]byte("SP01"), 1, byte(len(fields)), 0, 0)
	for _, f := range fields {
		frame = append(binary.BigEndian.AppendUint16(frame, uint16(len(f))), f...)
	}
	binary.BigEndian.PutUint16(frame[6:], uint16(len(frame)))
	if _, err := c.Write(frame); err != nil {
		return 0, err
	}
	var header [8]byte
	_, err = io.ReadFull(c, header[:])
	return header[4], err
}

// flood is the network part's side: it ends when its parent kills it.
func flood(path string) {
	framed := func(v any) []byte {
		b, _ := json.Marshal(v)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	large := append(binary.BigEndian.AppendUint32(nil, 8<<20), make([]byte, 8<<20)...)
	garbage := control.Request{Op: control.OpSnapshot, Snapshot: &protocol.Envelope{PayloadType: protocol.TypeSnapshot, Payload: make([]byte, 300<<10), KeyID: "x"}}
	words := [][]byte{
		{0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 2, '{'}, {0}, large, framed(garbage), []byte("GET / HTTP/1.1\r\n\r\n"),
		framed(control.Request{Op: control.OpStatus}), framed(control.Request{Op: control.OpEvents, Generation: -1, Acknowledge: []string{"a"}}),
		framed(control.Request{Op: control.OpEvents, Generation: 1 << 40, WaitMillis: 60_000}), framed(control.Request{Op: control.OpAdopt, Name: alice}),
	}
	for i := range 24 {
		go func() {
			for k := i; ; k++ {
				c, err := net.Dial("unix", path)
				if err != nil {
					continue
				}
				_, _ = c.Write(words[k%len(words)])
				if k%3 == 0 { // and stays
					_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				} else {
					_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				}
				_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
				_ = c.Close()
			}
		}()
	}
	fmt.Print("x")
	select {}
}
