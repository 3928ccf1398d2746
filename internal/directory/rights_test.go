package directory_test

import (
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/store"
)

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
	w.assign("/subscriptions/s2", rbac.VMUserLogin, helpdesk.ID)
	w.assign("/subscriptions/s1/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm", rbac.VMUserLogin, helpdesk.ID)
	w.refused("the same role elsewhere and below", w.svc.MayResetPassword(w.by(helpdesk.ID), target.ID))
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
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
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
