package server

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// An administrator is there again whatever was done to the account, with a
// password of one use; whatever the account had before is dead; the record says
// which uid did it.
func TestRecover_MakesAnAdministrator(t *testing.T) {
	l := live(t, time.Now)
	if err := l.follow.Write(t.Context(), func(tx *store.Tx) error {
		u := l.admin
		u.Enabled = false
		if err := tx.PutUser(u); err != nil {
			return err
		}
		return tx.DeleteRoleAssignmentsOf(l.admin.ID)
	}); err != nil {
		t.Fatal(err)
	}
	cfg := RecoverConfig{State: l.cfg.State, Now: time.Now, Rand: rand.Reader}
	if _, err := recoverAdministrator(t.Context(), cfg); fault.As(err).Code != "StoreInUse" {
		t.Fatalf("while a server serves it: %v", err)
	}
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, c := range []struct {
		upn     string
		created bool
	}{{"", false}, {"Admin@corp.example", false}, {"new@corp.example", true}, {"alice@corp.example", false}} {
		cfg.UPN = c.upn
		r, err := recoverAdministrator(t.Context(), cfg)
		if err != nil || r.Created != c.created || r.Password == "" {
			t.Fatalf("%s: %+v %v", c.upn, r, err)
		}
		d := reopen(t, l.cfg.State, time.Now)
		u, ok := d.directory.UserByUPN(r.UPN)
		if !ok || !u.Enabled || u.NotBefore.Before(began.Truncate(time.Microsecond)) || u.UID == 0 {
			t.Errorf("%+v", u)
		}
		for at, role := range map[scope.ID]string{scope.ManagementGroup(d.manifest.Tenant): rbac.Owner, scope.Directory(): rbac.GlobalAdministrator} {
			if n := len(d.roles.Assignments(rbac.Filter{Principals: []string{u.ID}, Scope: at, RoleID: role})); n != 1 {
				t.Errorf("%s: %d assignments at %s", r.UPN, n, at)
			}
		}
		by := audit.By{Address: "192.0.2.1", At: time.Now()}
		if got, err := d.credentials.VerifyUPN(t.Context(), by, r.UPN, r.Password, ""); err != nil || got.Status != credential.MustChange {
			t.Errorf("%s: %+v %v", r.UPN, got, err)
		}
		if err := d.store.Read(t.Context(), func(tx *store.Tx) error {
			list, err := tx.AuditRecords(store.AuditFilter{Type: "administrator.recover", Limit: 1})
			if len(list) != 1 || list[0].Target != u.ID || list[0].Detail["localUid"] == "" {
				t.Errorf("%+v", list)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, upn := range []string{"x@other.example", "no name"} {
		cfg.UPN = upn
		if _, err := recoverAdministrator(t.Context(), cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", upn, err)
		}
	}
	cfg.State, cfg.UPN = t.TempDir(), ""
	if _, err := recoverAdministrator(t.Context(), cfg); fault.As(err).Code != "StoreNotFound" {
		t.Error(err)
	}
}

// The way out of a restore that nobody can confirm.
func TestRecover_LeadsThroughTheGate(t *testing.T) {
	l := live(t, time.Now)
	b := backUpOf(t, l.deployment, t.TempDir())
	state := emptyState(t)
	if _, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now)); err != nil {
		t.Fatal(err)
	}
	if _, err := recoverAdministrator(t.Context(), RecoverConfig{State: state, UPN: "alice@corp.example", Now: time.Now, Rand: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, state, time.Now)
	if err := d.principalGate(l.alice.ID, false); err != nil {
		t.Error(err)
	}
	if err := d.principalGate(l.alice.ID, true); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}
