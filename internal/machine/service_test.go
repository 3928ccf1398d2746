package machine_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

const (
	tenantID  = "0aaaaaaa-0000-4000-8000-000000000001"
	machineID = "0aaaaaaa-0000-4000-8000-000000000002"
	otherID   = "0aaaaaaa-0000-4000-8000-000000000003"
	eventID   = "0aaaaaaa-0000-4000-8000-000000000004"
)

var resource = scope.ResourceGroup("0aaaaaaa-0000-4000-8000-000000000009", "rg")

// rig is a Service on a real store, with the rest of the server in its hands.
type rig struct {
	wish      *protocol.UpgradeWish
	afterRead func() // done once, between a read and what follows on it
	t         *testing.T
	*machine.Service
	store *store.Store
	index *machine.Index

	mu       sync.Mutex
	now      time.Time
	position int64
	moved    chan struct{}
	users    []directory.User
	holders  map[string][]rbac.Holder // by action
	groups   map[string][]directory.Member
	desired  machine.Desired
	gone     bool
	heldBack error
	heldOnce bool             // heldBack is lifted by the first question
	offline  [2]time.Duration // users, administrators; zero for the usual ones

	manifestKey, snapshotKey ed25519.PrivateKey
	manifest                 protocol.Manifest
	issued                   []machine.HostRequest
}

func (r *rig) staleness() (user, administrator time.Duration) {
	if r.offline[0] == 0 {
		return 24 * time.Hour, time.Hour
	}
	return r.offline[0], r.offline[1]
}

func (r *rig) Tenant() directory.Tenant {
	return directory.Tenant{ID: tenantID, Domains: []string{"corp.example"}}
}
func (r *rig) Users(f func(directory.User) bool) {
	for _, u := range r.users {
		if !f(u) {
			return
		}
	}
}
func (r *rig) ServicePrincipals(func(directory.ServicePrincipal) bool) {}
func (r *rig) User(id string) (directory.User, bool) {
	for _, u := range r.users {
		if u.ID == id {
			return u, true
		}
	}
	return directory.User{}, false
}
func (r *rig) ServicePrincipal(string) (directory.ServicePrincipal, bool) {
	return directory.ServicePrincipal{}, false
}
func (r *rig) Group(id string) (directory.Group, bool) {
	_, ok := r.groups[id]
	return directory.Group{ID: id}, ok
}
func (r *rig) MembersOf(id string, _ bool) []directory.Member { return r.groups[id] }
func (r *rig) WhoCan(_ scope.ID, action string, _ bool) []rbac.Holder {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holders[action]
}
func (r *rig) Governing(s scope.ID) scope.ID { return s }
func (r *rig) Encloses(top, s scope.ID) bool {
	return top == s || strings.HasPrefix(s.Key(), top.Key()+"/")
}
func (r *rig) HeldBy(_ scope.ID, principals []string) bool {
	return slices.ContainsFunc(principals, func(id string) bool {
		return slices.ContainsFunc(r.WhoCan(scope.ID{}, rbac.ActionLogin, true), func(h rbac.Holder) bool { return h.PrincipalID == id })
	})
}
func (r *rig) Desired(string) (machine.Desired, bool) { return r.desired, !r.gone }
func (r *rig) Position() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position
}
func (r *rig) Moved() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moved
}
func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) Manifest() (protocol.SignedManifest, protocol.Manifest) {
	payload, _ := json.Marshal(r.manifest)
	e, err := protocol.Sign(rand.Reader, r.manifestKey, protocol.TypeManifest, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(r.manifestKey.Public())
	return protocol.SignedManifest{ManifestKey: der, Envelope: e}, r.manifest
}

func (r *rig) Sign(payloadType string, payload []byte) (protocol.Envelope, error) {
	return protocol.Sign(rand.Reader, r.snapshotKey, payloadType, payload)
}

func (r *rig) AuditHead() (protocol.SignedHead, bool) {
	return protocol.SignedHead{Head: audit.Head{Writer: "w", Sequence: 5}, KeyID: "k", Signature: []byte("s")}, true
}

func (r *rig) IssueHost(q machine.HostRequest) (machine.HostCertificate, error) {
	r.issued = append(r.issued, q)
	return machine.HostCertificate{Line: "cert", Serial: 77, ValidBefore: q.At.Add(time.Hour)}, nil
}

// change moves the feed as a committed write would.
func (r *rig) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f != nil {
		f()
	}
	r.position++
	close(r.moved)
	r.moved = make(chan struct{})
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), position: 5, moved: make(chan struct{}), index: machine.NewIndex(), holders: map[string][]rbac.Holder{}, groups: map[string][]directory.Member{},
		desired: machine.Desired{ResourceID: resource, Identity: true, LoginEnabled: true, Revision: 1},
		users:   []directory.User{{ID: "alice", UPN: "alice@corp.example", Enabled: true, UID: 1879048200}}}
	_, r.manifestKey, _ = ed25519.GenerateKey(rand.Reader)
	_, r.snapshotKey, _ = ed25519.GenerateKey(rand.Reader)
	r.manifest = protocol.Manifest{Tenant: tenantID, Domains: []string{"corp.example"}, URL: "https://server.example:8443", Epoch: 1, Version: 1}
	var err error
	if r.store, err = store.Open(t.Context(), storePlace(t, r.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	r.Service = machine.New(machine.Config{Machines: r.index, Feed: r, Directory: r, Roles: r, Resources: r, Keys: r, Issuer: r, Held: r.holds, Offline: r.staleness, Upgrade: func(string) *protocol.UpgradeWish { return r.wish }, HashKey: []byte("key"), Rand: rand.Reader, Now: r.clock,
		Read: func(ctx context.Context, f func(machine.Tx) error) error {
			err := r.store.Read(ctx, func(tx *store.Tx) error { return f(tx) })
			if then := r.afterRead; then != nil {
				r.afterRead = nil
				then()
			}
			return err
		},
		Write: func(ctx context.Context, f func(machine.Tx) error) error {
			if err := r.store.Write(ctx, func(tx *store.Tx) error { return f(tx) }); err != nil {
				return err
			}
			return r.store.Read(ctx, func(tx *store.Tx) error { return r.index.Load(tx) })
		}})
	return r
}

func (r *rig) by(principal string) audit.By {
	return audit.By{Principal: principal, Type: audit.Machine, CorrelationID: otherID, At: r.clock()}
}

func (r *rig) mint(id string) string {
	r.t.Helper()
	text, err := r.MintJoinToken(r.t.Context(), r.by("task"), id, resource)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

func join(token string) protocol.JoinRequest {
	return protocol.JoinRequest{Capability: protocol.Capability, Token: token, Hostname: "vm1", OS: "Debian", OpenSSH: "OpenSSH_9.2p1", Agent: "sally 1"}
}

// joined makes a machine that has joined with the key "key".
func (r *rig) joined() {
	r.t.Helper()
	if _, err := r.Join(r.t.Context(), audit.By{}, join(r.mint(machineID)), "key"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) audited() []audit.Record {
	r.t.Helper()
	var list []audit.Record
	err := r.store.Read(r.t.Context(), func(tx *store.Tx) error {
		var err error
		list, err = tx.AuditRecords(store.AuditFilter{Limit: 100})
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) types() []string {
	var list []string
	for _, e := range r.audited() {
		list = append(list, e.Type+" "+string(e.Outcome))
	}
	slices.Reverse(list)
	return list
}

func TestJoin_TokenOnceByOneKeyForOneHour(t *testing.T) {
	r := newRig(t)
	text := r.mint(machineID)
	token, err := protocol.ParseJoinToken(text)
	if err != nil || token.URL != "https://server.example:8443" {
		t.Fatal(token, err)
	}
	signed, _ := r.Manifest()
	if _, err := signed.Open(token.Pin); err != nil {
		t.Fatal(err)
	}
	a, err := r.Join(t.Context(), audit.By{}, join(text), "key")
	if err != nil || a.MachineID != machineID || a.ResourceID != resource.String() {
		t.Fatal(a, err)
	}
	if again, err := r.Join(t.Context(), audit.By{}, join(text), "key"); err != nil || again.MachineID != machineID {
		t.Fatalf("the same key may repeat: %v", err)
	}
	if _, err := r.Join(t.Context(), audit.By{}, join(text), "thief"); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("used by a second key: %v", err)
	}
	r.now = r.now.Add(time.Hour + time.Second)
	if _, err := r.Join(t.Context(), audit.By{}, join(text), "key"); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("used after an hour: %v", err)
	}
	late := r.mint(otherID)
	r.now = r.now.Add(time.Hour + time.Second)
	if _, err := r.Join(t.Context(), audit.By{}, join(late), "key2"); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("joined with an expired token: %v", err)
	}
	if m, ok := r.index.ByKey("key"); !ok || m.ID != machineID {
		t.Fatal("the first key does not work")
	}
	want := []string{"machine.joinToken success", "machine.join success", "machine.join denied", "machine.join denied", "machine.joinToken success", "machine.join denied"}
	if got := r.types(); !slices.Equal(got, want) {
		t.Fatalf("audited %v", got)
	}
	for _, rec := range r.audited() {
		b, _ := json.Marshal(rec)
		if strings.Contains(string(b), token.Secret) {
			t.Fatal("the secret is in the audit")
		}
	}
}

func TestJoin_Refusals(t *testing.T) {
	r := newRig(t)
	good := r.mint(machineID)
	guess := protocol.JoinToken{URL: "https://x.example", Pin: strings.Repeat("a", 43), Secret: strings.Repeat("b", 43)}.String()
	for name, c := range map[string]struct {
		change func(*protocol.JoinRequest)
		key    string
		kind   fault.Kind
	}{
		"no key": {func(*protocol.JoinRequest) {}, "", fault.Unauthenticated}, "capability": {func(q *protocol.JoinRequest) { q.Capability = 99 }, "k", fault.Invalid},
		"no capability": {func(q *protocol.JoinRequest) { q.Capability = 0 }, "k", fault.Invalid}, "a guess": {func(q *protocol.JoinRequest) { q.Token = guess }, "k", fault.Unauthenticated},
		"no token": {func(q *protocol.JoinRequest) { q.Token = "" }, "k", fault.Unauthenticated}, "escape in a name": {func(q *protocol.JoinRequest) { q.Hostname = "a\x1b[2J" }, "k", fault.Invalid},
		"long": {func(q *protocol.JoinRequest) { q.OS = strings.Repeat("x", 257) }, "k", fault.Invalid},
	} {
		q := join(good)
		c.change(&q)
		if _, err := r.Join(t.Context(), audit.By{}, q, c.key); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		} else if name == "a guess" {
			handbooktest.Said(t, fault.As(err).Public(), "JoinTokenRefused")
		}
	}
	if _, err := r.MintJoinToken(t.Context(), r.by("x"), "../..", resource); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestJoin_AgainKillsTheOldKeyAndCopiesAreRefused(t *testing.T) {
	r := newRig(t)
	r.joined()
	_, err := r.Join(t.Context(), audit.By{}, join(r.mint(otherID)), "key")
	handbooktest.Said(t, fault.As(err).Public(), "MachineKeyInUse")
	if _, err := r.Join(t.Context(), audit.By{}, join(r.mint(machineID)), "new key"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.index.ByKey("key"); ok {
		t.Error("the old key still works")
	}
	if got := r.types(); !slices.Contains(got, "machine.rejoin success") {
		t.Errorf("%v", got)
	}
	if err := r.Remove(t.Context(), r.by("task"), machineID); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.index.ByKey("new key"); ok {
		t.Error("a removed machine's key still works")
	}
	_, err = r.Poll(t.Context(), r.by(machineID), protocol.PollRequest{Capability: 1, Manifest: 1, Epoch: 1})
	handbooktest.Said(t, fault.As(err).Public(), "MachineUnknown")
	if err := r.Remove(t.Context(), r.by("task"), machineID); err != nil {
		t.Error("not idempotent")
	}
}

// poll polls and opens the snapshot, if there is one.
func (r *rig) poll(q protocol.PollRequest) (*protocol.SnapshotDocument, protocol.PollAnswer) {
	r.t.Helper()
	q.Capability = 1
	if q.Manifest == 0 {
		q.Manifest = 1
	}
	a, err := r.Poll(r.t.Context(), r.by(machineID), q)
	if err != nil {
		r.t.Fatal(err)
	}
	if a.Snapshot == nil {
		return nil, a
	}
	payload, err := a.Snapshot.Open(r.snapshotKey.Public(), protocol.TypeSnapshot)
	if err != nil {
		r.t.Fatal(err)
	}
	var d protocol.SnapshotDocument
	if err := protocol.Decode(payload, &d); err != nil {
		r.t.Fatal(err)
	}
	return &d, a
}

func held(d *protocol.SnapshotDocument) protocol.PollRequest {
	return protocol.PollRequest{Epoch: d.Epoch, Version: d.Version, IssuedAt: d.IssuedAt}
}

func TestPoll_VersionsFollowTheFeed(t *testing.T) {
	r := newRig(t)
	r.joined()
	first, a := r.poll(protocol.PollRequest{})
	if first == nil || a.Manifest == nil || first.Version != 5 || first.Epoch != 1 || first.AuditHead.Sequence != 5 || !first.GoodUntil.Equal(first.IssuedAt.Add(24*time.Hour)) {
		t.Fatalf("%+v", first)
	}
	if d, a := r.poll(held(first)); d != nil || a.Manifest != nil {
		t.Fatal("told again what it holds")
	}
	if st, ok := r.State(machineID); !ok || st.Acknowledged != 5 || st.Version != 5 || st.LastSeen.IsZero() {
		t.Fatalf("%+v", st)
	}
	r.change(nil) // something that does not concern this machine
	if d, _ := r.poll(held(first)); d != nil {
		t.Fatal("told although nothing of it changed")
	}
	r.change(func() { r.holders[rbac.ActionLogin] = []rbac.Holder{{PrincipalID: "alice"}} })
	second, _ := r.poll(held(first))
	if second == nil || second.Version != 7 || second.Principals[0].Access != protocol.Login || !second.IssuedAt.After(first.IssuedAt) {
		t.Fatalf("%+v", second)
	}
	r.now = r.now.Add(6 * time.Minute)
	aged, _ := r.poll(held(second))
	if aged == nil || aged.Version != 7 || !aged.IssuedAt.Equal(r.now) {
		t.Fatalf("not signed anew: %+v", aged)
	}
	lost, _ := r.poll(held(second))
	if lost == nil || !lost.IssuedAt.After(aged.IssuedAt) {
		t.Fatal("a lost answer is not repeated")
	}
	r.manifest.Version = 2
	if _, a := r.poll(held(lost)); a.Manifest == nil {
		t.Fatal("not told of the new manifest")
	}
}

func TestPoll_WakesOnAChange(t *testing.T) {
	r := newRig(t)
	r.joined()
	first, _ := r.poll(protocol.PollRequest{})
	q := held(first)
	q.WaitMillis = 60_000
	answers := make(chan *protocol.SnapshotDocument)
	go func() {
		d, _ := r.poll(q)
		answers <- d
	}()
	r.change(func() {
		r.groups["g"] = []directory.Member{{ID: "alice", Type: directory.MemberUser}, {ID: "h", Type: directory.MemberGroup}}
		r.holders[rbac.ActionLoginAsAdmin] = []rbac.Holder{{PrincipalID: "g"}}
	})
	if d := <-answers; d == nil || d.Principals[0].Access != protocol.Admin {
		t.Fatalf("%+v", d)
	}
}

func TestPoll_DeletedResourceOpensNothing(t *testing.T) {
	r := newRig(t)
	r.joined()
	r.holders[rbac.ActionLogin] = []rbac.Holder{{PrincipalID: "alice"}}
	r.gone = true
	if d, _ := r.poll(protocol.PollRequest{}); d == nil || d.LoginEnabled || d.Identity {
		t.Fatalf("%+v", d)
	}
}

func TestPoll_Refusals(t *testing.T) {
	r := newRig(t)
	r.joined()
	for name, c := range map[string]struct {
		q    protocol.PollRequest
		kind fault.Kind
	}{
		"capability": {protocol.PollRequest{Capability: protocol.Capability + 1}, fault.Invalid}, "negative": {protocol.PollRequest{Capability: 1, Version: -1}, fault.Invalid},
		"wait":            {protocol.PollRequest{Capability: 1, WaitMillis: -1}, fault.Invalid},
		"from the future": {protocol.PollRequest{Capability: 1, Epoch: 1, Version: 99, Manifest: 1}, fault.Conflict},
	} {
		if _, err := r.Poll(t.Context(), r.by(machineID), c.q); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A restored server with a raised epoch is followed.
	r.manifest.Epoch = 2
	if d, _ := r.poll(protocol.PollRequest{Epoch: 1, Version: 99}); d == nil || d.Epoch != 2 {
		t.Fatalf("%+v", d)
	}
}

// While the deployment holds machines back they are told the manifest, once, and
// nothing else: no snapshot, no join, no token, no host certificate. The change
// that lifts it wakes the poll.
func TestHeld_NothingNewForMachines(t *testing.T) {
	r := newRig(t)
	r.joined()
	first, _ := r.poll(protocol.PollRequest{})
	r.manifest.Epoch, r.manifest.Version = 2, 9
	r.heldBack = fault.New(fault.Unavailable, "Held", "not now")
	if d, a := r.poll(held(first)); d != nil || a.Manifest == nil {
		t.Fatalf("%v %v", d, a.Manifest)
	}
	q := held(first)
	q.Manifest = 9
	if d, a := r.poll(q); d != nil || a.Manifest != nil {
		t.Fatal("asked again and again for the manifest that it holds")
	}
	if st, _ := r.State(machineID); st.Acknowledged != 0 {
		t.Error("a version of the epoch before counts as an acknowledgement")
	}
	if _, err := r.MintJoinToken(t.Context(), r.by("task"), otherID, resource); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if _, err := r.Join(t.Context(), audit.By{}, join("x"), "other key"); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if _, err := r.HostCertificate(t.Context(), r.by(machineID), protocol.HostCertificateRequest{}); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	r.heldBack = nil
	if d, _ := r.poll(q); d == nil || d.Epoch != 2 {
		t.Fatal(d)
	}
}

// storePlace is where this test's store goes.
func storePlace(t testing.TB, now func() time.Time) store.Config {
	cfg := storetest.Place(t)
	cfg.Now, cfg.Writer, cfg.Declared = now, "w", audit.Declared
	return cfg
}
