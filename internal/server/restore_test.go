package server

import (
	"context"
	"crypto/rand"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/scope"
	"sallyport/internal/signin"
	"sallyport/internal/store"
)

// reopen opens a deployment folder as a server would.
func reopen(t *testing.T, state string, now func() time.Time) *deployment {
	t.Helper()
	cfg := Config{State: state, Listen: "127.0.0.1:0", Now: now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	meter := newMeter()
	st, err := store.Open(t.Context(), cfg.storeConfig(meter))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	d := &deployment{cfg: cfg, store: st, meter: meter}
	if err := d.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	following, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = d.follow.run(following); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	return d
}

func restoreConfig(b backedUp, state string, now func() time.Time) RestoreConfig {
	return RestoreConfig{State: state, File: b.cfg.File, Open: b.openData, KeysFile: b.cfg.KeysFile, KeysOpen: b.openKs, Now: now, Rand: rand.Reader}
}

func emptyState(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state")
}

// lived is a deployment with somebody in it and everything that somebody can be
// given.
type lived struct {
	*deployment
	admin, alice directory.User
	robot        directory.ServicePrincipal
	at           time.Time
}

func live(t *testing.T, now func() time.Time) lived {
	t.Helper()
	d := rig(t, now)
	following, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = d.follow.run(following); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	l := lived{deployment: d, at: now()}
	l.admin, _ = d.directory.UserByUPN("admin@corp.example")
	by := audit.By{Principal: l.admin.ID, Type: audit.User, CorrelationID: zeroID, At: now()}
	var err error
	if l.alice, err = newPerson(d, t.Context(), by, directory.NewUser{UPN: "alice@corp.example", DisplayName: "Alice", Enabled: true}); err != nil {
		t.Fatal(err)
	}
	l.robot, _ = d.directory.ServicePrincipalByAppID(directory.LinuxSignIn)
	err = d.follow.Write(t.Context(), func(tx *store.Tx) error {
		for _, err := range []error{
			tx.PutSignInSession(signin.Session{ID: "s", KeyHash: []byte("k"), UserID: l.alice.ID, Ends: now().Add(time.Hour)}),
			tx.PutRefreshFamily(token.Family{ID: "f", Principal: l.alice.ID, Current: []byte("c")}),
			tx.PutRefreshFamily(token.Family{ID: "g", Principal: l.alice.ID, Current: []byte("d"), EndedFor: "signed out"}),
			tx.PutAuthorizationCode(oauth.Code{Hash: []byte("h"), UserID: l.alice.ID, Ends: now().Add(time.Hour)}),
		} {
			if err != nil {
				return err
			}
		}
		_, err := tx.PutDeviceRequest(oauth.Device{Hash: []byte("h"), UserCode: "U", Ends: now().Add(time.Hour)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	vm, err := scope.Parse("/subscriptions/" + l.alice.ID + "/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.machines.MintJoinToken(t.Context(), by, l.alice.ID, vm); err != nil {
		t.Fatal(err)
	}
	return l
}

// count counts the rows of a table.
func count(t *testing.T, d *deployment, table string) int64 {
	t.Helper()
	sums, err := d.store.Sums(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sums {
		if s.Table == table {
			return s.Rows
		}
	}
	t.Fatalf("no table %s", table)
	return 0
}

// After a restore everybody is there and nothing that was issued lives.
func TestRestore_EndsWhatWasIssued(t *testing.T) {
	clock := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	l := live(t, now)
	b := backUpOf(t, l.deployment, t.TempDir())
	clock = clock.Add(time.Hour)
	state := emptyState(t)
	out, err := restoreInto(t.Context(), restoreConfig(b, state, now))
	if err != nil || out.Rotated {
		t.Fatal(out, err)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v %v", entries, err)
	}
	d := reopen(t, state, now)
	for _, table := range []string{"signin_session", "oauth_code", "device_request", "join_tokens"} {
		if n := count(t, l.deployment, table); n == 0 {
			t.Fatalf("%s was empty before", table)
		}
		if n := count(t, d, table); n != 0 {
			t.Errorf("%s holds %d", table, n)
		}
	}
	for id, want := range map[string]string{"f": "the server was restored from a backup", "g": "signed out"} {
		if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
			f, _, err := tx.RefreshFamily(id)
			if f.EndedFor != want {
				t.Errorf("family %s: %q", id, f.EndedFor)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{l.admin.ID, l.alice.ID} {
		if u, ok := d.directory.User(id); !ok || !u.Enabled || !u.NotBefore.Equal(clock) {
			t.Errorf("%+v", u)
		}
	}
	d.directory.ServicePrincipals(func(p directory.ServicePrincipal) bool {
		if !p.NotBefore.Equal(clock) {
			t.Errorf("service principal %s: %s", p.DisplayName, p.NotBefore)
		}
		return true
	})
	if d.manifest.Epoch != out.Epoch || out.Epoch != clock.Unix() || !d.manifest.Newer(l.manifest) {
		t.Errorf("%+v", d.manifest)
	}
}

// Ids that were given after the backup are given to nobody else.
func TestRestore_POSIXIDsAreNotGivenTwice(t *testing.T) {
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	by := audit.By{Principal: l.admin.ID, Type: audit.User, CorrelationID: zeroID, At: time.Now()}
	after, err := newPerson(l.deployment, t.Context(), by, directory.NewUser{UPN: "after@corp.example", DisplayName: "After", Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	state := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, state, time.Now)
	next, err := newPerson(d, t.Context(), by, directory.NewUser{UPN: "next@corp.example", DisplayName: "Next", Enabled: true})
	if err != nil || next.UID < after.UID+posixStep/2 {
		t.Fatalf("%d after %d: %v", next.UID, after.UID, err)
	}
	// When too few are left, nothing is restored rather than an id given twice.
	if err := l.follow.Write(t.Context(), func(tx *store.Tx) error {
		return tx.SkipPOSIXIDs(directory.LastPOSIXID - directory.FirstPOSIXID - posixStep)
	}); err != nil {
		t.Fatal(err)
	}
	b = backUpOf(t, l.deployment, t.TempDir())
	state = emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); fault.As(err).Code != "PosixIdsExhausted" {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(state); len(entries) != 0 {
		t.Fatal(entries)
	}
}

// The chain goes on with a record that says where it was cut. Two restores of one
// backup give no number twice, and the lost records' numbers are never used.
func TestRestore_ChainGoesOn(t *testing.T) {
	clock := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	l := live(t, now)
	b := backUpOf(t, l.deployment, t.TempDir())
	var last audit.Head
	head := func(d *deployment) (h audit.Head) {
		if err := d.store.Read(t.Context(), func(tx *store.Tx) (err error) { h, err = tx.AuditHead(); return err }); err != nil {
			t.Fatal(err)
		}
		return h
	}
	cut := head(l.deployment)
	for range 2 {
		clock = clock.Add(time.Second)
		state := emptyState(t)
		if _, err := restoreInto(t.Context(), restoreConfig(b, state, now)); err != nil {
			t.Fatal(err)
		}
		d := reopen(t, state, now)
		first := head(d)
		if first.Sequence < cut.Sequence+sequenceStep || first.Sequence <= last.Sequence+sequencesPerEpoch/2 {
			t.Errorf("%d after %d and %d", first.Sequence, cut.Sequence, last.Sequence)
		}
		last = first
		by := audit.By{Principal: l.admin.ID, Type: audit.User, CorrelationID: zeroID, At: now()}
		if err := d.follow.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Audit(by, audit.Event{Type: "user.revokeSessions", Outcome: audit.Success, Target: l.alice.ID})
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
			_, heads, err := tx.VerifyAudit()
			if len(heads) != 1 || heads[0].Sequence != first.Sequence+1 {
				t.Errorf("%+v", heads)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that holds anything of a deployment is refused and keeps it; files
// that do not fit leave nothing.
func TestRestore_Refusals(t *testing.T) {
	l, other := live(t, time.Now), rig(t, time.Now)
	b, foreign := backUpOf(t, l.deployment, t.TempDir()), backUpOf(t, other, t.TempDir())
	good := restoreConfig(b, "", time.Now)
	for name, c := range map[string]struct {
		prepare func(state string)
		change  func(*RestoreConfig)
		code    string
		left    int
	}{
		"a deployment":              {func(s string) { _ = os.WriteFile(filepath.Join(s, storeFile), []byte("x"), 0o600) }, nil, "StoreExists", 1},
		"keys":                      {func(s string) { _ = os.Mkdir(filepath.Join(s, keysDir), 0o700) }, nil, "KeysExist", 1},
		"no keys":                   {nil, func(c *RestoreConfig) { c.KeysFile = "" }, "KeysMissing", 0},
		"data for keys":             {nil, func(c *RestoreConfig) { c.KeysFile, c.KeysOpen = b.cfg.File, b.openData }, "BackupKind", 0},
		"keys for data":             {nil, func(c *RestoreConfig) { c.File, c.Open = b.cfg.KeysFile, b.openKs }, "BackupKind", 0},
		"another deployment's keys": {nil, func(c *RestoreConfig) { c.KeysFile, c.KeysOpen = foreign.cfg.KeysFile, foreign.openKs }, "BackupNotOfOne", 0},
		"wrong identity":            {nil, func(c *RestoreConfig) { c.Open = foreign.openData }, "BackupIdentityWrong", 0},
		"clock":                     {nil, func(c *RestoreConfig) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } }, "ClockBehind", 0},
		"missing":                   {nil, func(c *RestoreConfig) { c.File = "/nonexistent" }, "BackupNotFound", 0},
		"open folder":               {func(s string) { _ = os.Chmod(s, 0o755) }, nil, "StateFolder", 0}, //nolint:gosec // it is what is refused
	} {
		cfg := good
		cfg.State = t.TempDir()
		if err := os.Chmod(cfg.State, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.prepare != nil {
			c.prepare(cfg.State)
		}
		if c.change != nil {
			c.change(&cfg)
		}
		_, err := restoreInto(t.Context(), cfg)
		if fault.As(err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if entries, _ := os.ReadDir(cfg.State); len(entries) != c.left {
			t.Errorf("%s: left %v", name, entries)
		}
	}
	cut := filepath.Join(t.TempDir(), "cut")
	whole, err := os.ReadFile(b.cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := good
		cfg.State, cfg.File = emptyState(t), cut
		if _, err := restoreInto(t.Context(), cfg); fault.As(err).Code != "BackupDamaged" {
			t.Errorf("cut at %d: %v", n, err)
		}
		if entries, _ := os.ReadDir(cfg.State); len(entries) != 0 {
			t.Errorf("cut at %d left %v", n, entries)
		}
	}
}

// Without the manifest key there is no new epoch, and nothing is restored.
func TestRestore_NeedsTheManifestKey(t *testing.T) {
	l := live(t, time.Now)
	if err := os.Remove(filepath.Join(l.cfg.State, keysDir, "manifest.pem")); err != nil {
		t.Fatal(err)
	}
	b := backUpOf(t, l.deployment, t.TempDir())
	state := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); fault.As(err).Code != "ManifestKeyOffline" {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(state); len(entries) != 0 {
		t.Fatal(entries)
	}
	cfg := restoreConfig(b, state, time.Now)
	cfg.Request = filepath.Join(t.TempDir(), "request")
	out, err := restoreInto(t.Context(), cfg)
	if err != nil || out.Request == nil {
		t.Fatal(err)
	}
	d := reopen(t, state, time.Now)
	by := audit.By{Principal: l.admin.ID, Type: audit.User, CorrelationID: zeroID, At: time.Now()}
	if d.manifest.Epoch != l.manifest.Epoch {
		t.Fatal("an epoch that nobody has signed is in force")
	}
	if err := d.ConfirmRestore(t.Context(), by, out.Restore); fault.As(err).Code != "EpochNotSigned" {
		t.Fatal(err)
	}
	if err := d.trust.Rotate(t.Context(), by, arm.Rotation{Purpose: "user-ca", Compromised: true}); fault.As(err).Code != "EpochNotSigned" {
		t.Fatal("a withdrawal that the signed epoch would undo: ", err)
	}
	if r, err := d.RestoreReview(); err != nil || r.EpochSigned {
		t.Fatalf("%+v %v", r, err)
	}
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	// On another computer: l still has the key in memory.
	var asked protocol.ManifestRequest
	text, err := os.ReadFile(cfg.Request)
	if err != nil || protocol.Decode(text, &asked) != nil {
		t.Fatal(err)
	}
	signed, err := l.keys.SignNext(asked)
	if err != nil {
		t.Fatal(err)
	}
	other := asked
	other.Next.Epoch++
	wrong, err := l.keys.SignNext(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := applyEpoch(t.Context(), d.cfg, wrong); fault.As(err).Code != "ManifestOutdated" {
		t.Fatal(err)
	}
	if err := applyEpoch(t.Context(), d.cfg, signed); err != nil {
		t.Fatal(err)
	}
	if err := applyEpoch(t.Context(), d.cfg, signed); fault.As(err).Code != "NothingToSign" {
		t.Fatal(err)
	}
	d = reopen(t, state, time.Now)
	if d.manifest.Epoch != out.Epoch {
		t.Fatal(d.manifest.Epoch)
	}
	if err := d.ConfirmRestore(t.Context(), by, out.Restore); err != nil {
		t.Fatal(err)
	}
}

// Keys that are in their place are used and stay.
func TestRestore_WithTheKeysThatAreThere(t *testing.T) {
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	state := t.TempDir()
	if err := os.CopyFS(filepath.Join(state, keysDir), os.DirFS(filepath.Join(l.cfg.State, keysDir))); err != nil {
		t.Fatal(err)
	}
	private(t, state)
	cfg := restoreConfig(b, state, time.Now)
	cfg.KeysFile = ""
	if _, err := restoreInto(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	reopen(t, state, time.Now)
}

// Whatever state a killed restore leaves, no server starts from it, and the next
// restore succeeds. The last step alone makes a deployment.
func TestRestore_KilledBetweenSteps(t *testing.T) {
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	whole := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, whole, time.Now)); err != nil {
		t.Fatal(err)
	}
	move := func(state string, names ...string) {
		for _, name := range names {
			from, to := filepath.Join(state, name), filepath.Join(state, partialDir, name)
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, back := range map[string][]string{"keys and store made": {keysDir, storeFile}, "keys moved": {storeFile}} {
		state := t.TempDir()
		if err := os.CopyFS(state, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		private(t, state)
		if err := os.Mkdir(filepath.Join(state, partialDir), 0o700); err != nil {
			t.Fatal(err)
		}
		move(state, back...)
		if name == "keys moved" {
			if err := os.WriteFile(filepath.Join(state, partialDir, ownKeys), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.Open(t.Context(), store.Config{Path: filepath.Join(state, storeFile), Now: time.Now, Writer: "w"}); fault.As(err).Code != "StoreNotFound" {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reopen(t, state, time.Now)
	}
}

// The server's manifest, as an agent sees it after the restore, is newer than
// what it held; the one in the backup is not.
func TestRestore_AgentsPreferTheNewEpoch(t *testing.T) {
	l := live(t, time.Now)
	held := l.manifest
	held.Version += 40 // the keys were rotated after the backup
	b := backUpOf(t, l.deployment, t.TempDir())
	state := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, state, time.Now)
	if l.manifest.Newer(held) || !d.manifest.Newer(held) || len(d.manifest.For(protocol.UserCA)) != 1 {
		t.Fatal(d.manifest.Epoch, d.manifest.Version)
	}
}

// private gives a copied folder the modes of the original.
func private(t *testing.T, dir string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Chmod(path, 0o700) //nolint:gosec // a folder
		}
		return os.Chmod(path, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
}

// newPerson makes a user in one write.
func newPerson(d *deployment, ctx context.Context, by audit.By, n directory.NewUser) (u directory.User, err error) {
	err = d.follow.Write(ctx, func(tx *store.Tx) error { u, err = d.people.CreateUserIn(tx, by, n); return err })
	return u, err
}
