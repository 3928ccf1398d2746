package directory_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// world is a tenant on a real store with both indexes kept up to date.
type world struct {
	t     *testing.T
	store *store.Store
	now   time.Time
	at    int64
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
	s, err := store.Create(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "s.db"), Now: func() time.Time { return w.now }, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w.store = s
	w.svc = directory.NewService(directory.Config{
		Write: func(ctx context.Context, f func(directory.Tx) error) error {
			return w.write(ctx, func(tx *store.Tx) error { return f(tx) })
		},
		Index: w.dir, Authority: rbac.DirectoryAuthority{Index: w.rbac}, Rand: rand.Reader,
	})
	w.roles = rbac.NewDirectoryRoles(rbac.DirectoryRolesConfig{
		Write: func(ctx context.Context, f func(rbac.DirectoryTx) error) error {
			return w.write(ctx, func(tx *store.Tx) error { return f(tx) })
		},
		Index: w.rbac, Directory: w.dir, Rand: rand.Reader,
	})
	w.must(w.write(t.Context(), func(tx *store.Tx) error {
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

// write does what the server does: after the commit, the indexes follow.
func (w *world) write(ctx context.Context, f func(*store.Tx) error) error {
	if err := w.store.Write(ctx, f); err != nil {
		return err
	}
	changes, err := w.store.Changes(ctx, w.at, 10_000)
	if err != nil {
		return err
	}
	return w.store.Read(ctx, func(tx *store.Tx) error {
		for _, c := range changes {
			w.at = c.Position
			if err := w.dir.Refresh(tx, c.Kind, c.Key); err != nil {
				return err
			}
			if err := w.rbac.Refresh(tx, c.Kind, c.Key); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) assign(at, role, principal string) {
	w.t.Helper()
	id, err := scope.Parse(at)
	w.must(err)
	w.users++
	w.must(w.write(w.t.Context(), func(tx *store.Tx) error {
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
	return audit.By{Principal: id, Type: kind, Groups: w.dir.GroupsOf(id), At: w.now}
}

func (w *world) user(name string, roles ...string) directory.User {
	w.t.Helper()
	var u directory.User
	w.must(w.write(w.t.Context(), func(tx *store.Tx) error {
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
	err := w.store.Write(t.Context(), func(tx *store.Tx) error {
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
	err := w.store.Write(t.Context(), func(tx *store.Tx) error {
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

func TestRights_WithoutRoleNothingChanges(t *testing.T) {
	w := newWorld(t)
	mallory, alice := w.user("mallory"), w.user("alice")
	g := w.group("g")
	app, sp := w.application("app")
	by, off, s := w.by(mallory.ID), false, "x"
	ctx := t.Context()
	w.refused("create user", w.svc.MayCreateUser(by))
	w.refused("update user", w.svc.UpdateUser(ctx, by, alice.ID, directory.UserChange{DisplayName: &s}))
	w.refused("disable user", w.svc.UpdateUser(ctx, by, alice.ID, directory.UserChange{Enabled: &off}))
	w.refused("own display name", w.svc.UpdateUser(ctx, by, mallory.ID, directory.UserChange{DisplayName: &s}))
	w.refused("delete user", w.svc.DeleteUser(ctx, by, alice.ID))
	w.refused("revoke", w.svc.RevokeSessions(ctx, by, alice.ID))
	_, err := w.svc.CreateGroup(ctx, by, directory.NewGroup{DisplayName: "x"})
	w.refused("create group", err)
	w.refused("add member", w.svc.AddGroupMember(ctx, by, g.ID, mallory.ID))
	w.refused("delete group", w.svc.DeleteGroup(ctx, by, g.ID))
	_, err = w.svc.CreateApplication(ctx, by, directory.NewApplication{DisplayName: "x"})
	w.refused("create application", err)
	w.refused("update application", w.svc.UpdateApplication(ctx, by, app.ID, directory.ApplicationChange{DisplayName: &s}))
	w.refused("delete principal", w.svc.DeleteServicePrincipal(ctx, by, sp.ID))
	w.refused("credential", w.svc.MayManageCredentials(by, app.ID))
	w.refused("password", w.svc.MayResetPassword(by, alice.ID))
	w.refused("anonymous", w.svc.MayCreateUser(audit.By{}))
	w.refused("principal reads", w.svc.MayRead(w.by(sp.ID), alice.ID))
	w.allowed("person reads", w.svc.MayRead(by, alice.ID))
	w.allowed("principal reads itself", w.svc.MayRead(w.by(sp.ID), sp.ID))
	phone := "+49 1"
	w.allowed("own telephone", w.svc.UpdateUser(ctx, by, mallory.ID, directory.UserChange{MobilePhone: &phone}))
	denied := 0
	w.must(w.store.Read(ctx, func(tx *store.Tx) error {
		list, err := tx.AuditRecords(store.AuditFilter{Principal: mallory.ID, Limit: 100})
		for _, r := range list {
			if r.Outcome == audit.Denied {
				denied++
			}
		}
		return err
	}))
	if denied < 9 {
		t.Errorf("%d refusals in the audit log", denied)
	}
}

// Nobody adds a credential to, resets the password of, disables, renames,
// deletes or signs out a principal with more rights than his own.
func TestRights_NobodyTakesOverTheStronger(t *testing.T) {
	w := newWorld(t)
	helpdesk := w.user("helpdesk", rbac.UserAdministrator)
	appadmin := w.user("appadmin", rbac.ApplicationAdministrator)
	plain, peer := w.user("plain"), w.user("peer", rbac.UserAdministrator)
	owner := w.user("owner")
	w.assign("/subscriptions/s1", rbac.Owner, owner.ID)
	viaGroup := w.user("viagroup")
	inner := w.group("inner", viaGroup.ID)
	outer := w.group("outer", inner.ID)
	w.assign("/subscriptions/s1/resourceGroups/rg", rbac.VMAdministratorLogin, outer.ID)
	strong, strongSP := w.application("strong")
	w.assign("/microsoft.directory", rbac.GlobalAdministrator, strongSP.ID)
	weak, weakSP := w.application("weak")
	ctx, off := t.Context(), false
	over := func(by audit.By, u directory.User) map[string]error {
		upn := "taken" + u.UPN
		return map[string]error{
			"password": w.svc.MayResetPassword(by, u.ID),
			"upn":      w.svc.UpdateUser(ctx, by, u.ID, directory.UserChange{UPN: &upn}),
			"revoke":   w.svc.RevokeSessions(ctx, by, u.ID),
			"disable":  w.svc.UpdateUser(ctx, by, u.ID, directory.UserChange{Enabled: &off}),
			"delete":   w.svc.DeleteUser(ctx, by, u.ID),
		}
	}
	for _, target := range []directory.User{w.admin, owner, viaGroup, appadmin} {
		for what, err := range over(w.by(helpdesk.ID), target) {
			w.refused(what+" "+target.UPN, err)
		}
	}
	for what, err := range over(w.by(appadmin.ID), plain) {
		w.refused("application administrator: "+what, err)
	}
	w.allowed("reset a peer", w.svc.MayResetPassword(w.by(helpdesk.ID), peer.ID))
	w.allowed("reset a plain user", w.svc.MayResetPassword(w.by(helpdesk.ID), plain.ID))
	w.allowed("disable a plain user", w.svc.UpdateUser(ctx, w.by(helpdesk.ID), plain.ID, directory.UserChange{Enabled: &off}))
	w.allowed("the administrator may", w.svc.MayResetPassword(w.by(w.admin.ID), owner.ID))

	w.allowed("credential on a weak application", w.svc.MayManageCredentials(w.by(appadmin.ID), weak.ID))
	w.allowed("credential on a weak principal", w.svc.MayManageCredentials(w.by(appadmin.ID), weakSP.ID))
	name := "n"
	for what, err := range map[string]error{
		"application credential": w.svc.MayManageCredentials(w.by(appadmin.ID), strong.ID),
		"principal credential":   w.svc.MayManageCredentials(w.by(appadmin.ID), strongSP.ID),
		"update":                 w.svc.UpdateApplication(ctx, w.by(appadmin.ID), strong.ID, directory.ApplicationChange{DisplayName: &name}),
		"disable":                w.svc.EnableServicePrincipal(ctx, w.by(appadmin.ID), strongSP.ID, false),
		"delete principal":       w.svc.DeleteServicePrincipal(ctx, w.by(appadmin.ID), strongSP.ID),
		"delete application":     w.svc.DeleteApplication(ctx, w.by(appadmin.ID), strong.ID),
	} {
		w.refused("strong "+what, err)
	}
	w.refused("own account", w.svc.DeleteUser(ctx, w.by(w.admin.ID), w.admin.ID))
	w.refused("own account", w.svc.UpdateUser(ctx, w.by(w.admin.ID), w.admin.ID, directory.UserChange{Enabled: &off}))
}

func TestRights_AssignersOfTheScopeCoverIt(t *testing.T) {
	w := newWorld(t)
	helpdesk := w.user("helpdesk", rbac.UserAdministrator)
	target := w.user("target")
	w.assign("/subscriptions/s1/resourceGroups/rg", rbac.VMUserLogin, target.ID)
	w.refused("no right at the scope", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
	w.assign("/subscriptions/s2", rbac.Owner, helpdesk.ID)
	w.refused("owner elsewhere", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
	w.assign("/subscriptions/s1", rbac.VMUserLogin, helpdesk.ID)
	w.allowed("the same role above", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
	w.assign("/subscriptions/s1/resourceGroups/rg", rbac.VMAdministratorLogin, target.ID)
	w.refused("administrator beats user", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
	w.assign("/subscriptions/s1", rbac.UserAccessAdministrator, helpdesk.ID)
	w.allowed("may assign there", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
	w.assign("/microsoft.directory", rbac.GlobalReader, target.ID)
	w.refused("a directory role is not covered by an ARM role", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
}

// A group that gives a role is changed only by who may assign that role.
func TestRights_GroupsThatGiveRoles(t *testing.T) {
	w := newWorld(t)
	helpdesk := w.user("helpdesk", rbac.UserAdministrator)
	inner := w.group("inner")
	outer := w.group("outer", inner.ID)
	plain := w.group("plain")
	w.assign("/subscriptions/s1", rbac.VMAdministratorLogin, outer.ID)
	ctx, name := t.Context(), "n"
	tries := func(by audit.By, g string) map[string]error {
		return map[string]error{
			"add":    w.svc.AddGroupMember(ctx, by, g, helpdesk.ID),
			"remove": w.svc.RemoveGroupMember(ctx, by, g, helpdesk.ID),
			"update": w.svc.UpdateGroup(ctx, by, g, directory.GroupChange{DisplayName: &name}),
			"delete": w.svc.DeleteGroup(ctx, by, g),
		}
	}
	for _, g := range []string{inner.ID, outer.ID} {
		for what, err := range tries(w.by(helpdesk.ID), g) {
			w.refused(what, err)
		}
	}
	w.allowed("a group without roles", w.svc.AddGroupMember(ctx, w.by(helpdesk.ID), plain.ID, helpdesk.ID))
	w.refused("nesting into it", w.svc.AddGroupMember(ctx, w.by(helpdesk.ID), outer.ID, plain.ID))
	w.assign("/subscriptions/s2", rbac.Owner, helpdesk.ID)
	w.refused("owner elsewhere", w.svc.AddGroupMember(ctx, w.by(helpdesk.ID), outer.ID, helpdesk.ID))
	w.assign("/", rbac.UserAccessAdministrator, helpdesk.ID)
	w.refused("the scope tree is unknown here, so the root does not enclose it", w.svc.AddGroupMember(ctx, w.by(helpdesk.ID), outer.ID, helpdesk.ID))
	w.assign("/subscriptions/s1", rbac.UserAccessAdministrator, helpdesk.ID)
	w.allowed("may assign there", w.svc.AddGroupMember(ctx, w.by(helpdesk.ID), inner.ID, helpdesk.ID))
	w.assign("/microsoft.directory", rbac.UserAdministrator, plain.ID)
	w.refused("a directory role needs the Global Administrator", w.svc.RemoveGroupMember(ctx, w.by(helpdesk.ID), plain.ID, helpdesk.ID))
	w.allowed("who may", w.svc.RemoveGroupMember(ctx, w.by(w.admin.ID), plain.ID, helpdesk.ID))
}

func TestRights_OwnerOfAnApplication(t *testing.T) {
	w := newWorld(t)
	maker := w.user("maker", rbac.ApplicationAdministrator)
	a, err := w.svc.CreateApplication(t.Context(), w.by(maker.ID), directory.NewApplication{DisplayName: "mine"})
	w.must(err)
	p, err := w.svc.CreateServicePrincipal(t.Context(), w.by(maker.ID), a.AppID)
	w.must(err)
	for _, r := range w.roles.Assignments(maker.ID) {
		w.must(w.roles.Remove(t.Context(), w.by(w.admin.ID), r.ID))
	}
	w.allowed("owner without a role", w.svc.MayManageCredentials(w.by(maker.ID), a.ID))
	uris := []string{"https://evil.example/"}
	w.refused("owner sends tokens elsewhere", w.svc.UpdateApplication(t.Context(), w.by(maker.ID), a.ID, directory.ApplicationChange{RedirectURIs: &uris}))
	w.assign("/subscriptions/s1", rbac.Contributor, p.ID)
	w.refused("owner of a stronger application", w.svc.MayManageCredentials(w.by(maker.ID), a.ID))
}

func TestRights_BuiltInAndManagedIdentities(t *testing.T) {
	w := newWorld(t)
	by, name := w.by(w.admin.ID), "x"
	cli, _ := w.dir.Application(directory.SallyCLI)
	cliSP, _ := w.dir.ServicePrincipalByAppID(directory.SallyCLI)
	w.refused("update", w.svc.UpdateApplication(t.Context(), by, cli.ID, directory.ApplicationChange{DisplayName: &name}))
	w.refused("delete", w.svc.DeleteApplication(t.Context(), by, cli.ID))
	w.refused("credential", w.svc.MayManageCredentials(by, cli.ID))
	w.refused("delete principal", w.svc.DeleteServicePrincipal(t.Context(), by, cliSP.ID))
	linux, _ := w.dir.ServicePrincipalByAppID(directory.LinuxSignIn)
	w.allowed("delete the sign-in application's principal", w.svc.DeleteServicePrincipal(t.Context(), by, linux.ID))
	_, err := w.svc.CreateServicePrincipal(t.Context(), by, directory.LinuxSignIn)
	w.allowed("and make it anew", err)
	if _, err := w.svc.CreateServicePrincipal(t.Context(), by, directory.LinuxSignIn); !fault.Is(err, fault.Conflict) {
		t.Errorf("twice: %v", err)
	}
	w.must(w.write(t.Context(), func(tx *store.Tx) error {
		uid, err := tx.NextPOSIXID()
		if err != nil {
			return err
		}
		return tx.PutServicePrincipal(directory.ServicePrincipal{ID: "99999999-0000-4000-8000-000000000001", AppID: "99999999-0000-4000-8000-000000000002", DisplayName: "vm", Type: directory.TypeManagedIdentity, UID: uid, Enabled: true})
	}))
	w.refused("credential on a managed identity", w.svc.MayManageCredentials(by, "99999999-0000-4000-8000-000000000001"))
	w.refused("delete a managed identity", w.svc.DeleteServicePrincipal(t.Context(), by, "99999999-0000-4000-8000-000000000001"))
}

func TestDirectoryRoles_OnlyGlobalAdministratorsAssign(t *testing.T) {
	w := newWorld(t)
	helpdesk := w.user("helpdesk", rbac.UserAdministrator)
	reader := w.user("reader", rbac.GlobalReader)
	for _, u := range []directory.User{helpdesk, reader} {
		_, err := w.roles.Assign(t.Context(), w.by(u.ID), rbac.GlobalAdministrator, u.ID)
		w.refused("assign", err)
		for _, a := range w.roles.Assignments(w.admin.ID) {
			w.refused("remove", w.roles.Remove(t.Context(), w.by(u.ID), a.ID))
		}
	}
	first := w.roles.Assignments(w.admin.ID)[0]
	if err := w.roles.Remove(t.Context(), w.by(w.admin.ID), first.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("the last administrator: %v", err)
	}
	if _, err := w.roles.Assign(t.Context(), w.by(w.admin.ID), rbac.Owner, helpdesk.ID); !fault.Is(err, fault.Invalid) {
		t.Errorf("a resource role in the directory: %v", err)
	}
	_, err := w.roles.Assign(t.Context(), w.by(w.admin.ID), rbac.GlobalAdministrator, helpdesk.ID)
	w.allowed("assign", err)
	w.allowed("remove with another beside", w.roles.Remove(t.Context(), w.by(w.admin.ID), first.ID))
	if n := len(w.roles.Definitions()); n != 4 {
		t.Errorf("%d directory roles", n)
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
