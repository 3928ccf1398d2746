package directory_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

// world is a tenant on a real store with both indexes kept up to date.
type world struct {
	t     *testing.T
	store *storetest.Store
	now   time.Time
	dir   *directory.Index
	rbac  *rbac.Index
	svc   *directory.Service
	roles *rbac.DirectoryRoles
	admin directory.User
	users int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0).UTC(), dir: directory.NewIndex(), rbac: rbac.NewIndex(nil)}
	w.store = storetest.New(t, func() time.Time { return w.now }, storetest.Index(w.dir.Refresh), storetest.Index(w.rbac.Refresh))
	w.svc = directory.NewService(directory.Config{
		Write: storetest.Write[directory.Tx](w.store),
		Index: w.dir, Authority: rbac.NewDirectoryAuthority(w.rbac, w.dir), Rand: rand.Reader,
	})
	w.roles = rbac.NewDirectoryRoles(rbac.DirectoryRolesConfig{
		Write: storetest.Write[rbac.DirectoryTx](w.store),
		Index: w.rbac, Directory: w.dir, Rand: rand.Reader,
	})
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		_, u, err := w.svc.Bootstrap(tx, audit.By{Type: audit.Task}, directory.Bootstrap{DisplayName: "Corp", Domain: "corp.example", AdminUPN: "root@corp.example", AdminName: "Root"})
		w.admin = u
		return err
	}))
	w.assign("/microsoft.directory", rbac.GlobalAdministrator, w.admin.ID)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) assign(at, role, principal string) {
	w.t.Helper()
	id, err := scope.Parse(at)
	w.must(err)
	w.users++
	w.must(w.store.Write(w.t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: "00000000-0000-4000-8000-" + pad(w.users), Scope: id, RoleID: role, PrincipalID: principal})
	}))
}

func pad(n int) string {
	const digits = "000000000000"
	s := ""
	for ; n > 0; n /= 10 {
		s = string(rune('0'+n%10)) + s
	}
	return digits[len(s):] + s
}

// by is a caller as httpd makes it.
func (w *world) by(id string) audit.By {
	kind := audit.User
	if _, ok := w.dir.ServicePrincipal(id); ok {
		kind = audit.ServicePrincipal
	}
	by := audit.By{Principal: id, Type: kind, Groups: w.dir.GroupsOf(id), At: w.now, Permissions: []string{directory.AccessAsUser}}
	if kind == audit.ServicePrincipal {
		by.Permissions = w.dir.ApplicationPermissions(id)
	}
	return by
}

func (w *world) user(name string, roles ...string) directory.User {
	w.t.Helper()
	var u directory.User
	w.must(w.store.Write(w.t.Context(), func(tx *store.Tx) error {
		var err error
		u, err = w.svc.CreateUserIn(tx, w.by(w.admin.ID), directory.NewUser{UPN: name + "@corp.example", DisplayName: name, Enabled: true})
		return err
	}))
	for _, r := range roles {
		w.assign("/microsoft.directory", r, u.ID)
	}
	return u
}

func (w *world) group(name string, members ...string) directory.Group {
	w.t.Helper()
	g, err := w.svc.CreateGroup(w.t.Context(), w.by(w.admin.ID), directory.NewGroup{DisplayName: name})
	w.must(err)
	for _, m := range members {
		w.must(w.svc.AddGroupMember(w.t.Context(), w.by(w.admin.ID), g.ID, m))
	}
	return g
}

func (w *world) application(name string) (directory.Application, directory.ServicePrincipal) {
	w.t.Helper()
	a, err := w.svc.CreateApplication(w.t.Context(), w.by(w.admin.ID), directory.NewApplication{DisplayName: name})
	w.must(err)
	p, err := w.svc.CreateServicePrincipal(w.t.Context(), w.by(w.admin.ID), a.AppID)
	w.must(err)
	return a, p
}

func (w *world) refused(what string, err error) {
	w.t.Helper()
	if !fault.Is(err, fault.Forbidden) {
		w.t.Errorf("%s: got %v, want a refusal", what, err)
	} else if fault.As(err).Remedy == "" {
		w.t.Errorf("%s: the refusal does not say what to do: %v", what, err)
	}
}

func (w *world) allowed(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

func TestBootstrap_MakesTenantClientsAndAdministrator(t *testing.T) {
	w := newWorld(t)
	for _, app := range []string{directory.AzureCLI, directory.SallyCLI, directory.LinuxSignIn} {
		a, ok := w.dir.Application(app)
		p, ok2 := w.dir.ServicePrincipalByAppID(app)
		if !ok || !ok2 || !a.BuiltIn || !p.Enabled || a.Public != (app != directory.LinuxSignIn) {
			t.Errorf("%s: %+v %+v", app, a, p)
		}
	}
	if u, ok := w.dir.UserByUPN("ROOT@corp.example"); !ok || u.ID != w.admin.ID || u.UID < directory.FirstPOSIXID {
		t.Errorf("administrator: %+v", u)
	}
	err := w.store.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, _, err := w.svc.Bootstrap(tx, audit.By{}, directory.Bootstrap{DisplayName: "X", Domain: "x.example", AdminUPN: "a@x.example", AdminName: "A"})
		return err
	})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("a second tenant: %v", err)
	}
}

// CVE-2024-9312: ids come from a counter and are never given twice.
func TestPOSIXID_CVE_2024_9312_NeverReused(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	w.must(w.svc.DeleteUser(t.Context(), w.by(w.admin.ID), alice.ID))
	again := w.user("alice")
	if again.ID == alice.ID || again.UID <= alice.UID {
		t.Fatalf("object id %s uid %d after %s %d", again.ID, again.UID, alice.ID, alice.UID)
	}
	_, p := w.application("app")
	w.must(w.svc.DeleteServicePrincipal(t.Context(), w.by(w.admin.ID), p.ID))
	if next := w.user("bob"); next.UID <= p.UID {
		t.Fatalf("uid %d after %d", next.UID, p.UID)
	}
}

func TestUser_DuplicateUPNIsRefused(t *testing.T) {
	w := newWorld(t)
	w.user("alice")
	err := w.store.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := w.svc.CreateUserIn(tx, audit.By{}, directory.NewUser{UPN: "ALICE@corp.example", DisplayName: "x"})
		return err
	})
	if !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	name := "alice@corp.example"
	if err := w.svc.UpdateUser(t.Context(), w.by(w.admin.ID), w.user("bob").ID, directory.UserChange{UPN: &name}); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
}

func TestUser_NotBeforeIsRaised(t *testing.T) {
	w := newWorld(t)
	off, on := false, true
	u := w.user("alice")
	for _, tc := range []struct {
		name   string
		act    func() error
		raised bool
	}{
		{"rename", func() error {
			n := "Alice"
			return w.svc.UpdateUser(t.Context(), w.by(w.admin.ID), u.ID, directory.UserChange{DisplayName: &n})
		}, false},
		{"disable", func() error {
			return w.svc.UpdateUser(t.Context(), w.by(w.admin.ID), u.ID, directory.UserChange{Enabled: &off})
		}, true},
		{"enable", func() error {
			return w.svc.UpdateUser(t.Context(), w.by(w.admin.ID), u.ID, directory.UserChange{Enabled: &on})
		}, false},
		{"revoke", func() error { return w.svc.RevokeSessions(t.Context(), w.by(w.admin.ID), u.ID) }, true},
		{"revoke own", func() error { return w.svc.RevokeSessions(t.Context(), w.by(u.ID), u.ID) }, true},
	} {
		w.now = w.now.Add(time.Minute)
		w.must(tc.act())
		got, _ := w.dir.User(u.ID)
		if got.NotBefore.Equal(w.now) != tc.raised {
			t.Errorf("%s: not before %v at %v", tc.name, got.NotBefore, w.now)
		}
	}
}

func TestGroups_TransitiveWithCirclesAndDeletion(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	a, b, c := w.group("a", alice.ID), w.group("b"), w.group("c")
	by := w.by(w.admin.ID)
	w.must(w.svc.AddGroupMember(t.Context(), by, b.ID, a.ID))
	w.must(w.svc.AddGroupMember(t.Context(), by, c.ID, b.ID))
	w.must(w.svc.AddGroupMember(t.Context(), by, a.ID, c.ID)) // a circle
	want := []string{a.ID, b.ID, c.ID}
	slices.Sort(want)
	if got := w.dir.GroupsOf(alice.ID); !slices.Equal(got, want) {
		t.Fatalf("got %v want %v", got, want)
	}
	if got := w.dir.MembersOf(c.ID, true); len(got) != 3 {
		t.Fatalf("members of c: %v", got)
	}
	if err := w.svc.AddGroupMember(t.Context(), by, a.ID, a.ID); !fault.Is(err, fault.Invalid) {
		t.Fatalf("a group in itself: %v", err)
	}
	if err := w.svc.AddGroupMember(t.Context(), by, a.ID, alice.ID); !fault.Is(err, fault.Invalid) {
		t.Fatalf("twice: %v", err)
	}
	w.must(w.svc.DeleteGroup(t.Context(), by, b.ID))
	if got := w.dir.GroupsOf(alice.ID); !slices.Equal(got, []string{a.ID}) {
		t.Fatalf("after b is gone: %v", got)
	}
	w.must(w.svc.RemoveGroupMember(t.Context(), by, a.ID, alice.ID))
	if got := w.dir.GroupsOf(alice.ID); len(got) != 0 {
		t.Fatalf("after the removal: %v", got)
	}
	w.must(w.svc.AddGroupMember(t.Context(), by, a.ID, alice.ID))
	w.must(w.svc.DeleteUser(t.Context(), by, alice.ID))
	if got := w.dir.MembersOf(a.ID, false); slices.ContainsFunc(got, func(m directory.Member) bool { return m.ID == alice.ID }) {
		t.Fatalf("a deleted user is still a member: %v", got)
	}
	fresh := directory.NewIndex()
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error { return fresh.Load(tx) }))
	if got, want := fresh.MembersOf(a.ID, true), w.dir.MembersOf(a.ID, true); !slices.Equal(got, want) {
		t.Fatalf("a fresh load differs: %v and %v", got, want)
	}
}

func TestIndex_OrderAndPaging(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"a", "b", "c", "d"} {
		w.user(n)
	}
	var ids []string
	w.dir.Users(func(u directory.User) bool { ids = append(ids, u.ID); return true })
	if !slices.IsSorted(ids) || len(ids) != 5 {
		t.Fatal(ids)
	}
	var rest []string
	w.dir.UsersAfter(ids[2], func(u directory.User) bool { rest = append(rest, u.ID); return true })
	if !slices.Equal(rest, ids[3:]) {
		t.Fatal(rest)
	}
}

// What was issued to a principal of any kind counts no more, at the time of the
// change; nobody else's goes with it.
func TestRevokeIssued_EveryKindOfPrincipal(t *testing.T) {
	w := newWorld(t)
	admin, alice, bob := w.admin, w.user("alice"), w.user("bob")
	_, robot := w.application("robot")
	_, other := w.application("other")
	for _, id := range []string{alice.ID, strings.ToUpper(robot.ID)} {
		if err := w.svc.RevokeIssued(t.Context(), w.by(admin.ID), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.svc.RevokeIssued(t.Context(), w.by(admin.ID), "00000000-0000-4000-8000-00000000dead"); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	user := func(id string) bool { u, _ := w.dir.User(id); return !u.NotBefore.IsZero() }
	principal := func(id string) bool { p, _ := w.dir.ServicePrincipal(id); return !p.NotBefore.IsZero() }
	if !user(alice.ID) || !principal(robot.ID) || user(bob.ID) || principal(other.ID) {
		t.Errorf("alice %v, robot %v, bob %v, other %v", user(alice.ID), principal(robot.ID), user(bob.ID), principal(other.ID))
	}
}
