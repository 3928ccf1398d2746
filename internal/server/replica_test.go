package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/crowdtest"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/resource/types"
	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
)

// moved is a deployment whose data was moved into a database.
func moved(t *testing.T, server *postgrestest.Server) Config {
	t.Helper()
	d := rig(t, time.Now)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	to := Database{URL: server.Database(t)}
	m, err := moveData(t.Context(), MigrateConfig{State: d.cfg.State, To: to, Now: time.Now, Rand: rand.Reader})
	if err != nil || m.Rows == 0 || m.Records == 0 {
		t.Fatalf("%+v %v", m, err)
	}
	return d.cfg
}

// replicaOf opens one more server on a deployment, with its tasks.
func replicaOf(t *testing.T, cfg Config, name string) *deployment {
	t.Helper()
	cfg.Replica = name
	cfg, err := cfg.located()
	if err != nil {
		t.Fatal(err)
	}
	meter := newMeter()
	st, err := store.Open(t.Context(), cfg.storeConfig(meter))
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{cfg: cfg, store: st, meter: meter, started: time.Now()}
	if err := d.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	for _, task := range []func(context.Context) error{d.follow.run, d.confirm, d.exchange} {
		go func() { ended <- task(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		_ = st.Close()
	})
	return d
}

// until waits for what is there within a time on a computer with nothing else to do.
func until(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for begin := time.Now(); !f(); time.Sleep(time.Millisecond) {
		if waited := time.Since(begin); waited > crowdtest.Limit(within) {
			t.Fatalf("%s: not after %s", what, waited)
		}
	}
}

func TestReplicas(t *testing.T) {
	server := postgrestest.New(t)
	cfg := moved(t, server)
	a, b := replicaOf(t, cfg, "server-a"), replicaOf(t, cfg, "server-b")
	t.Run("a write is known to the other", func(t *testing.T) {
		for range 10 {
			if err := a.follow.Write(t.Context(), func(tx *store.Tx) error {
				g := directory.Group{ID: "0000000a-0000-4000-8000-000000000001", DisplayName: "g"}
				return tx.PutGroup(g)
			}); err != nil {
				t.Fatal(err)
			}
			at := a.follow.Position()
			within := crowdtest.Limit(200 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), within)
			if err := b.follow.wait(ctx, at); err != nil {
				t.Errorf("not within %s: %v", within, err)
			}
			cancel()
		}
	})
	t.Run("machines go from one to the other", func(t *testing.T) { hopping(t, a, b) })
	t.Run("the database goes away and comes back", func(t *testing.T) { away(t, server, a) })
}

// hopping: a machine polls either server. What it holds from one never looks old
// or unknown to the other, and a change on one reaches a poll that waits at the
// other.
func hopping(t *testing.T, a, b *deployment) {
	const id = "0000000b-0000-4000-8000-000000000001"
	if err := a.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.PutMachine(joined(t, id)) }); err != nil {
		t.Fatal(err)
	}
	by := audit.By{Principal: id, Type: audit.Machine, At: time.Now()}
	var held protocol.PollRequest
	poll := func(d *deployment, wait time.Duration) bool {
		t.Helper()
		held.Capability, held.WaitMillis = protocol.Capability, wait.Milliseconds()
		answer, err := d.machines.Poll(t.Context(), by, held)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Manifest != nil {
			_, m := d.trust.Manifest()
			held.Manifest, held.ManifestEpoch, held.AppliedManifest, held.AppliedEpoch = m.Version, m.Epoch, m.Version, m.Epoch
		}
		if answer.Accounts != nil {
			var doc protocol.AccountsDocument
			if err := json.Unmarshal(answer.Accounts.Payload, &doc); err != nil {
				t.Fatal(err)
			}
			if doc.From != 0 && doc.From != held.Accounts {
				t.Fatalf("accounts since %d for a machine that holds %d", doc.From, held.Accounts)
			}
			held.AccountsEpoch, held.Accounts = doc.Epoch, doc.Version
		}
		if answer.Snapshot == nil {
			return false
		}
		var doc protocol.SnapshotDocument
		if err := json.Unmarshal(answer.Snapshot.Payload, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Version < held.Version || !doc.IssuedAt.After(held.IssuedAt) {
			t.Fatalf("version %d of %s after %d of %s: a machine refuses that", doc.Version, doc.IssuedAt, held.Version, held.IssuedAt)
		}
		held.Epoch, held.Version, held.IssuedAt = doc.Epoch, doc.Version, doc.IssuedAt
		return true
	}
	until(t, time.Second, "the machine is known to the other", func() bool { _, ok := b.machineKeys.ByID(id); return ok })
	if !poll(a, 0) {
		t.Fatal("no snapshot")
	}
	for i := range 6 {
		poll([]*deployment{b, a}[i%2], 0)
	}
	answered := make(chan bool, 1)
	for poll(b, 0) { // until b has nothing new
	}
	go func() {
		first := poll(b, 30*time.Second) // accounts may come first
		answered <- first || poll(b, 30*time.Second)
	}()
	began := time.Now()
	if err := a.follow.Write(t.Context(), func(tx *store.Tx) error {
		m := joined(t, id)
		u := directory.User{ID: "0000000c-0000-4000-8000-000000000001", UPN: "p@corp.example", UID: 70001, Enabled: true}
		if err := tx.PutUser(u); err != nil {
			return err
		}
		return tx.PutRoleAssignment(rbac.Assignment{ID: "0000000d-0000-4000-8000-000000000001", Scope: m.ResourceID, RoleID: "fb879df8-f326-4884-b1cf-06f3ad86be52", PrincipalID: u.ID, PrincipalType: "User"})
	}); err != nil {
		t.Fatal(err)
	}
	if !<-answered || time.Since(began) > crowdtest.Limit(time.Second) {
		t.Errorf("a change on the other server reached the poll after %s", time.Since(began))
	}
	t.Logf("grant written on one server reached a poll at the other in %s", time.Since(began))
	poll(a, 0)
	caughtUp(t, id, a, b)
}

// caughtUp waits until another server knows of a machine what one knows.
func caughtUp(t *testing.T, id string, one, other *deployment) {
	t.Helper()
	s, _ := one.machines.State(id)
	defer func() {
		if o, _ := other.machines.State(id); t.Failed() {
			t.Logf("known to one is %d at %s, to the other %d at %s", s.Acknowledged, s.LastSeen, o.Acknowledged, o.LastSeen)
		}
	}()
	until(t, 5*time.Second, "the other server knows of it", func() bool {
		o, ok := other.machines.State(id)
		return ok && o.Acknowledged >= s.Acknowledged && !o.LastSeen.Before(s.LastSeen.Truncate(time.Microsecond))
	})
}

// away: without its database a server says so, gives nothing, and goes on by
// itself when it is back.
func away(t *testing.T, server *postgrestest.Server, d *deployment) {
	stale := d.replica.stale
	server.Stop(t)
	until(t, 4*time.Second, "the server is stale", func() bool { return d.replica.fresh() != nil })
	select {
	case <-stale:
	case <-time.After(crowdtest.Limit(2 * time.Second)):
		t.Error("long polls were not let go")
	}
	if w := get(t, d, "/healthz"); w.Code != 200 {
		t.Errorf("/healthz: %d", w.Code)
	}
	doors, err := d.doors()
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/organizations/oauth2/v2.0/token":      `"temporarily_unavailable"`,
		"/subscriptions?api-version=2022-12-01": `"ReplicaBehind"`,
		"/v1.0/users":                           "ReplicaBehind",
		"/machine/v1/poll":                      "ReplicaBehind",
	} {
		method := "GET"
		if strings.Contains(target, "token") || strings.Contains(target, "poll") {
			method = "POST"
		}
		w := httptest.NewRecorder()
		doors.ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code != 503 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
		if strings.HasPrefix(target, "/subscriptions") {
			handbooktest.Said(t, w.Body.String(), "trouble.Behind")
		}
	}
	server.Start(t)
	until(t, 10*time.Second, "the server is back", func() bool { return d.replica.fresh() == nil })
	if err := d.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.SetFact("back", 1) }); err != nil {
		t.Error(err)
	}
}

func TestMigrate_RefusesAndSwitches(t *testing.T) {
	server := postgrestest.New(t)
	d := rig(t, time.Now)
	to := Database{URL: server.Database(t)}
	move := func(to Database) error {
		_, err := moveData(t.Context(), MigrateConfig{State: d.cfg.State, To: to, Now: time.Now, Rand: rand.Reader})
		return err
	}
	if err := move(to); !fault.Is(err, fault.Conflict) {
		t.Errorf("a served deployment was moved: %v", err)
	}
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	full := Database{URL: server.Database(t)}
	server.SQL(t, full.URL, `CREATE TABLE mine (id int PRIMARY KEY)`)
	if err := move(full); fault.As(err).Code != "StoreExists" {
		t.Errorf("a database in use was taken: %v", err)
	}
	if err := move(Database{}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	for _, f := range []string{databaseFile, storeFile + ".migrated"} {
		if exists(filepath.Join(d.cfg.State, f)) {
			t.Errorf("a refused move left %s", f)
		}
	}
	if err := move(to); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(d.cfg.State, storeFile)) {
		t.Error("the old file still has its name")
	}
	info, err := os.Stat(filepath.Join(d.cfg.State, databaseFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	again := replicaOf(t, d.cfg, "")
	if !again.store.Shared() || again.directory.Tenant().ID == "" {
		t.Error("the folder does not lead to the database")
	}
	// A kill between the last two steps leaves the old file under its name.
	if err := os.Rename(filepath.Join(d.cfg.State, storeFile+".migrated"), filepath.Join(d.cfg.State, storeFile)); err != nil {
		t.Fatal(err)
	}
	if err := move(Database{URL: server.Database(t)}); err == nil || fault.As(err).Code != "AlreadyMigrated" {
		t.Errorf("the folder was pointed at what was before the move: %v", err)
	}
}

func TestDatabase_PasswordStaysOutOfArguments(t *testing.T) {
	for _, bad := range []string{"postgres://u:secret@h/d", "postgres://u@h/d?password=secret", "mysql://h/d"} {
		err := Database{URL: bad}.check()
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := (Database{PasswordFile: "f"}).check(); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	for _, bad := range []string{"", "Server", "a b", "é", strings.Repeat("a", 41)} {
		if checkReplica(bad) == nil {
			t.Errorf("%q is a name", bad)
		}
	}
}

// Stale by either clock, and when one was set back.
func TestReplica_Fresh(t *testing.T) {
	at := time.Now()
	now := at
	r := newReplica(true, func() time.Time { return now })
	for _, c := range []struct {
		now   time.Time
		fresh bool
	}{{at.Add(maxLag), true}, {at.Add(maxLag + 1), false}, {at.Round(0).Add(3 * time.Second), false}, {at.Round(0).Add(-3 * time.Second), false}, {at, true}} {
		now = c.now
		if got := r.fresh() == nil; got != c.fresh {
			t.Errorf("%s: %v", c.now.Sub(at), got)
		}
	}
	alone := newReplica(false, func() time.Time { return now })
	now = at.Add(time.Hour)
	if alone.fresh() != nil {
		t.Error("a server without others waits for nobody")
	}
}

// A server without a back end leaves machines to one that has it, as long as
// that one lives.
func TestReplica_LeavesMachinesToWhoMakesThem(t *testing.T) {
	now := time.Now()
	r := newReplica(true, func() time.Time { return now })
	b := otherBackend{others: r.othersMake, made: r.othersMade}
	kind := func() fault.Kind { _, err := b.Ensure(t.Context(), types.NewMachine{}); return fault.KindOf(err) }
	row := func(commits int64) []store.Replica {
		return []store.Replica{{Name: "me", Held: true}, {Name: "maker", Held: true, Ability: abilityMachines, Commits: commits}}
	}
	absent := func() bool { _, err := b.State(t.Context(), ""); return err == nil }
	if b.Remove(t.Context(), "") == nil || kind() != fault.Unavailable || absent() {
		t.Error("a machine is gone, or is refused for good, before it is known who makes them")
	}
	if r.note("me", nil); kind() != fault.Invalid || b.Remove(t.Context(), "") != nil || !absent() {
		t.Error("nobody makes machines, and it is left to somebody")
	}
	if r.note("me", row(1)); kind() != fault.Unavailable || b.Remove(t.Context(), "") == nil || absent() {
		t.Error("it is not left to the one that makes them")
	}
	now = now.Add(lifeSign)
	if r.note("me", row(1)); kind() != fault.Invalid {
		t.Error("it is left to one that is dead")
	}
	if b.Remove(t.Context(), "") == nil {
		t.Error("a machine that runs at one that restarts counts as gone")
	}
	if r.note("me", row(2)); kind() != fault.Unavailable {
		t.Error("it is not left to one that came back")
	}
}
