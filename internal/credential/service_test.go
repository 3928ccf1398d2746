package credential_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// world is a tenant on a real store.
type world struct {
	t     *testing.T
	store *storetest.Store
	now   time.Time
	dir   *directory.Index
	rbac  *rbac.Index
	svc   *directory.Service
	cred  *credential.Service
	admin directory.User
	first credential.OneTime
	roles int

	patience atomic.Int64 // of who last asked for a slot
}

// noted keeps how long somebody would have waited, and lets him wait longer: the
// computer may have much to do.
type noted struct {
	credential.Slots
	patience *atomic.Int64
}

func (n noted) Acquire(ctx context.Context, source string, patience time.Duration) (func(), error) {
	n.patience.Store(int64(patience))
	return n.Slots.Acquire(ctx, source, time.Minute)
}

const secret = "four unrelated words"

func newWorld(t *testing.T) *world { return newWorldWith(t, nil) }

func newWorldWith(t *testing.T, repeats credential.Repeats) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0).UTC(), dir: directory.NewIndex(), rbac: rbac.NewIndex(nil)}
	w.store = storetest.New(t, func() time.Time { return w.now }, storetest.Index(w.dir.Refresh), storetest.Index(w.rbac.Refresh))
	w.svc = directory.NewService(directory.Config{
		Write: storetest.Write[directory.Tx](w.store),
		Index: w.dir, Authority: rbac.NewDirectoryAuthority(w.rbac, w.dir), Rand: rand.Reader,
	})
	var err error
	w.cred, err = credential.NewService(credential.Config{
		Write:     storetest.Write[credential.Tx](w.store),
		Read:      storetest.Read[credential.Tx](w.store),
		Directory: w.svc, Slots: noted{credential.NewFairSlots(4), &w.patience}, Rand: rand.Reader, Key: make([]byte, 32), Cost: credential.Cost{MemoryKiB: 8, Passes: 1, Lanes: 1},
		Repeats: repeats,
	})
	w.must(err)
	w.first, err = w.cred.NewOneTime()
	w.must(err)
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, u, err := w.svc.Bootstrap(tx, audit.By{Type: audit.Task}, directory.Bootstrap{DisplayName: "Corp", Domain: "corp.example", AdminUPN: "root@corp.example", AdminName: "Root"})
		if err != nil {
			return err
		}
		w.admin = u
		return w.cred.GiveOneTime(tx, audit.By{Type: audit.Task}, u.ID, w.first)
	}))
	w.role(rbac.GlobalAdministrator, w.admin.ID)
	return w
}

// A script that makes many users at once is not turned away as those are who
// guess passwords.
func TestService_WhoSetsAPasswordWaits(t *testing.T) {
	w := newWorld(t)
	w.user("alice", false)
	setting := time.Duration(w.patience.Load())
	w.check("alice@corp.example", secret)
	if signing := time.Duration(w.patience.Load()); setting < 10*signing || signing > time.Second {
		t.Errorf("to set a password one waits %s, to sign in %s", setting, signing)
	}
}

func (w *world) role(role, principal string) {
	w.t.Helper()
	w.roles++
	w.must(w.store.Write(w.t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", w.roles), Scope: scope.Directory(), RoleID: role, PrincipalID: principal})
	}))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) by(id string) audit.By {
	return audit.By{Principal: id, Type: audit.User, Groups: w.dir.GroupsOf(id), Address: "192.0.2.1", At: w.now, Permissions: []string{directory.AccessAsUser}}
}

func (w *world) user(name string, must bool) directory.User {
	w.t.Helper()
	u, err := w.cred.CreateUser(w.t.Context(), w.by(w.admin.ID), directory.NewUser{UPN: name + "@corp.example", DisplayName: name, Enabled: true}, secret, must)
	w.must(err)
	return u
}

func (w *world) check(upn, password string) credential.Status {
	w.t.Helper()
	r, err := w.cred.VerifyUPN(w.t.Context(), audit.By{Address: "192.0.2.1"}, upn, password, "")
	w.must(err)
	return r.Status
}

func (w *world) want(what string, got, want credential.Status) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: status %d, want %d", what, got, want)
	}
}

func TestVerify_Statuses(t *testing.T) {
	w := newWorld(t)
	u, temporary := w.user("alice", false), w.user("bob", true)
	w.want("right", w.check("ALICE@corp.example", secret), credential.OK)
	w.want("wrong", w.check("alice@corp.example", secret+"x"), credential.Wrong)
	w.want("empty", w.check("alice@corp.example", ""), credential.Wrong)
	w.want("huge", w.check("alice@corp.example", strings.Repeat("x", 1<<20)), credential.Wrong)
	w.want("unknown", w.check("nobody@corp.example", secret), credential.Wrong)
	w.want("to change", w.check("bob@corp.example", secret), credential.MustChange)
	w.now = w.now.Add(credential.TemporaryLife)
	w.want("too late", w.check("bob@corp.example", secret), credential.Expired)
	off := false
	w.must(w.svc.UpdateUser(t.Context(), w.by(w.admin.ID), u.ID, directory.UserChange{Enabled: &off}))
	w.want("disabled", w.check("alice@corp.example", secret), credential.Disabled)
	handbooktest.Said(t, fault.As(w.cred.ChangePassword(t.Context(), audit.By{}, "alice@corp.example", secret, "another long secret")).Public(), "AccountDisabled")
	w.want("disabled, wrong", w.check("alice@corp.example", "x"), credential.Wrong)
	if r, err := w.cred.Verify(t.Context(), audit.By{}, temporary.ID, "x"); err != nil || r != (credential.Result{}) {
		t.Error(r, err)
	}
	if r, err := w.cred.Verify(t.Context(), audit.By{}, "", secret); err != nil || r != (credential.Result{}) {
		t.Error(r, err)
	}
	w.must(w.svc.DeleteUser(t.Context(), w.by(w.admin.ID), u.ID))
	w.want("deleted", w.check("alice@corp.example", secret), credential.Wrong)
	w.user("alice", false)
	w.want("made again", w.check("alice@corp.example", secret), credential.OK)
}

// CVE-2025-6004 and its kin: lock-out is per canonical name, is not passed by
// parallel tries, holds against the right password, and unknown names lock the
// same way.
func TestLockout_CVE_2025_6004(t *testing.T) {
	w := newWorld(t)
	w.user("alice", false)
	for _, name := range []string{"alice", "nobody"} {
		for i := range 10 {
			upn := name + "@corp.example"
			if i%2 == 0 {
				upn = strings.ToUpper(upn)
			}
			w.want(fmt.Sprint(name, " ", i), w.check(upn, "wrong"), credential.Wrong)
		}
		w.want(name+" locked", w.check(name+"@corp.example", secret), credential.Locked)
	}
	w.now = w.now.Add(59 * time.Second)
	w.want("still locked", w.check("alice@corp.example", secret), credential.Locked)
	w.now = w.now.Add(time.Second)
	w.want("one more wrong", w.check("alice@corp.example", "wrong"), credential.Wrong)
	w.now = w.now.Add(119 * time.Second)
	w.want("locked twice as long", w.check("alice@corp.example", secret), credential.Locked)
	w.now = w.now.Add(time.Second)
	w.want("open again", w.check("alice@corp.example", secret), credential.OK)
	for range 9 {
		w.want("failures were forgotten", w.check("alice@corp.example", "wrong"), credential.Wrong)
	}
	w.want("nine do not lock", w.check("alice@corp.example", secret), credential.OK)
}

// One customer has a whole /64: its addresses are one place.
func TestLockout_ParallelGuesses(t *testing.T) {
	w := newWorld(t)
	w.user("alice", false)
	var mu sync.Mutex
	count := map[credential.Status]int{}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			r, err := w.cred.VerifyUPN(context.Background(), audit.By{Address: fmt.Sprintf("2001:db8::%d", i)}, "alice@corp.example", "wrong", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			count[r.Status]++
		})
	}
	wg.Wait()
	if count[credential.Wrong] != 10 || count[credential.Locked] != 20 {
		t.Fatalf("%v: more than ten guesses were made", count)
	}
}

func TestOneTime_ADayAndOnce(t *testing.T) {
	w := newWorld(t)
	w.want("one-time", w.check("root@corp.example", w.first.Text), credential.MustChange)
	change := func(old, replacement string) error {
		return w.cred.ChangePassword(t.Context(), audit.By{Address: "192.0.2.1"}, "root@corp.example", old, replacement)
	}
	if err := change(w.first.Text, w.first.Text); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if err := change(w.first.Text, "too short"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	handbooktest.Said(t, fault.As(change("wrong", secret)).Public(), "InvalidCredentials")
	w.now = w.now.Add(credential.OneTimeLife - time.Microsecond)
	before := w.now
	w.must(change(w.first.Text, secret))
	if u, _ := w.dir.User(w.admin.ID); !u.NotBefore.Equal(before) {
		t.Errorf("not before %v", u.NotBefore)
	}
	w.want("the old one", w.check("root@corp.example", w.first.Text), credential.Wrong)
	w.want("the new one", w.check("root@corp.example", secret), credential.OK)

	late := newWorld(t)
	late.now = late.now.Add(credential.OneTimeLife)
	late.want("after a day", late.check("root@corp.example", late.first.Text), credential.Expired)
	if err := late.cred.ChangePassword(t.Context(), audit.By{}, "root@corp.example", late.first.Text, secret); !fault.Is(err, fault.Unauthenticated) {
		t.Error(err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "PasswordExpired")
	}
}

// twice lets somebody else in before the second time that a hash is made.
type twice struct {
	credential.Slots
	times *int
	do    func()
}

func (s twice) Acquire(ctx context.Context, source string, patience time.Duration) (func(), error) {
	if *s.times++; *s.times == 2 {
		s.do()
	}
	return s.Slots.Acquire(ctx, source, patience)
}

// Of two who change one password at the same time with the old one, one has.
func TestChangePassword_TwoAtOnce(t *testing.T) {
	w := newWorld(t)
	w.must(w.cred.ChangePassword(t.Context(), audit.By{}, "root@corp.example", w.first.Text, secret))
	w.now = w.now.Add(time.Second)
	cfg := credential.Config{Write: storetest.Write[credential.Tx](w.store), Read: storetest.Read[credential.Tx](w.store), Directory: w.svc, Rand: rand.Reader, Key: make([]byte, 32),
		Slots: twice{credential.NewFairSlots(1), new(int), func() {
			w.must(w.cred.ChangePassword(t.Context(), audit.By{}, "root@corp.example", secret, "what the first one chose"))
		}}}
	if _, err := credential.NewService(cfg); fault.As(err).Code != "CredentialConfig" {
		t.Errorf("without a cost: %v", err)
	}
	cfg.Cost = credential.Cost{MemoryKiB: 8, Passes: 1, Lanes: 1}
	slow, err := credential.NewService(cfg)
	w.must(err)
	if err := slow.ChangePassword(t.Context(), audit.By{}, "root@corp.example", secret, "what the second one chose"); fault.As(err).Code != "PasswordChanged" {
		t.Error(err)
	}
	w.want("the first one's", w.check("root@corp.example", "what the first one chose"), credential.OK)
}

func TestResetPassword_EndsSessionsAndLiftsTheLock(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice", false)
	for range 10 {
		w.check(u.UPN, "wrong")
	}
	w.now = w.now.Add(time.Second)
	w.must(w.cred.ResetPassword(t.Context(), w.by(w.admin.ID), u.ID, "other long phrase", true))
	w.want("lock lifted", w.check(u.UPN, "other long phrase"), credential.MustChange)
	if got, _ := w.dir.User(u.ID); !got.NotBefore.Equal(w.now) {
		t.Error(got.NotBefore)
	}
	mallory := w.user("mallory", false)
	for what, err := range map[string]error{
		"no role":   w.cred.ResetPassword(t.Context(), w.by(mallory.ID), u.ID, "other long phrase", false),
		"one's own": w.cred.ResetPassword(t.Context(), w.by(w.admin.ID), w.admin.ID, "other long phrase", false),
		"create user": func() error {
			_, err := w.cred.CreateUser(t.Context(), w.by(mallory.ID), directory.NewUser{UPN: "x@corp.example", DisplayName: "x"}, secret, false)
			return err
		}(),
	} {
		if !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	helpdesk := w.user("helpdesk", false)
	w.role(rbac.UserAdministrator, helpdesk.ID)
	if err := w.cred.ResetPassword(t.Context(), w.by(helpdesk.ID), w.admin.ID, "other long phrase", false); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a stronger account: %v", err)
	}
}

func (w *world) application() directory.Application {
	w.t.Helper()
	a, err := w.svc.CreateApplication(w.t.Context(), w.by(w.admin.ID), directory.NewApplication{DisplayName: "ci"})
	w.must(err)
	_, err = w.svc.CreateServicePrincipal(w.t.Context(), w.by(w.admin.ID), a.AppID)
	w.must(err)
	return a
}

func TestSecret_LifeAndRemoval(t *testing.T) {
	w := newWorld(t)
	a, other := w.application(), w.application()
	sp, _ := w.dir.ServicePrincipalByAppID(a.AppID)
	check := func(appID, text string, want credential.ClientStatus) {
		t.Helper()
		if got, err := w.cred.VerifySecret(t.Context(), appID, text); err != nil || got != want {
			t.Errorf("got %d %v want %d", got, err, want)
		}
	}
	s, text, err := w.cred.AddSecret(t.Context(), w.by(w.admin.ID), a.ID, "ci", credential.Life{End: w.now.Add(time.Hour)})
	w.must(err)
	_, onSP, err := w.cred.AddSecret(t.Context(), w.by(w.admin.ID), sp.ID, "", credential.Life{})
	w.must(err)
	if !strings.HasPrefix(text, s.Hint) || len(text) < 43 || strings.Contains(s.Keyed, text) {
		t.Errorf("%+v", s)
	}
	check(a.AppID, text, credential.ClientOK)
	check(a.AppID, onSP, credential.ClientOK)
	check(other.AppID, text, credential.ClientWrong)
	check("no such application", text, credential.ClientWrong)
	check(a.AppID, "", credential.ClientWrong)
	check(a.AppID, text+"x", credential.ClientWrong)
	w.now = w.now.Add(time.Hour)
	check(a.AppID, text, credential.ClientExpired)
	check(a.AppID, onSP, credential.ClientOK)
	if err := w.cred.RemoveCredential(t.Context(), w.by(w.admin.ID), other.ID, s.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another owner's secret: %v", err)
	}
	w.must(w.cred.RemoveCredential(t.Context(), w.by(w.admin.ID), a.ID, s.ID))
	check(a.AppID, text, credential.ClientWrong)
	if _, _, err := w.cred.AddSecret(t.Context(), w.by(w.admin.ID), a.ID, "", credential.Life{End: w.now}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an end in the past: %v", err)
	}
	for {
		if _, _, err = w.cred.AddSecret(t.Context(), w.by(w.admin.ID), a.ID, "", credential.Life{}); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("too many: %v", err)
	}
	mallory := w.user("mallory", false)
	if _, _, err := w.cred.AddSecret(t.Context(), w.by(mallory.ID), other.ID, "", credential.Life{}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("no right: %v", err)
	}
	w.must(w.svc.DeleteServicePrincipal(t.Context(), w.by(w.admin.ID), sp.ID))
	check(a.AppID, onSP, credential.ClientWrong)
}

func selfSigned(t *testing.T, bits int, from time.Time) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ci"}, NotBefore: from, NotAfter: from.Add(time.Hour)},
		&x509.Certificate{Subject: pkix.Name{CommonName: "ci"}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificate_AddListExpire(t *testing.T) {
	w := newWorld(t)
	a := w.application()
	der := selfSigned(t, 2048, w.now)
	c, err := w.cred.AddCertificate(t.Context(), w.by(w.admin.ID), a.ID, "ci", der, credential.Life{})
	w.must(err)
	if len(c.SHA1) != 40 || len(c.SHA256) != 64 {
		t.Errorf("%+v", c)
	}
	if _, err := w.cred.AddCertificate(t.Context(), w.by(w.admin.ID), a.ID, "ci", der, credential.Life{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("twice: %v", err)
	}
	for what, bad := range map[string][]byte{"garbage": []byte("x"), "nothing": nil, "trailing": append(append([]byte{}, der...), 0), "huge": make([]byte, 1<<20)} {
		if _, err := w.cred.AddCertificate(t.Context(), w.by(w.admin.ID), a.ID, "", bad, credential.Life{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	list, err := w.cred.ClientCertificates(t.Context(), a.AppID)
	if err != nil || len(list) != 1 || list[0].SHA256 != c.SHA256 || string(list[0].DER) != string(der) {
		t.Error(list, err)
	}
	w.now = w.now.Add(time.Hour)
	if list, err := w.cred.ClientCertificates(t.Context(), a.AppID); err != nil || len(list) != 1 || w.now.Before(list[0].End) {
		t.Errorf("expired, and known as such: %v %v", list, err)
	}
}
