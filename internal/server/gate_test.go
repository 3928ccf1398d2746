package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// Whoever may not confirm gets nothing; who may gets tokens and no certificate;
// machines get no snapshot. The confirmation opens all of it, for the restore
// that was looked through and no other.
func TestGate_UntilConfirmed(t *testing.T) {
	l := live(t, time.Now)
	if err := l.follow.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutConditionalPolicy(conditional.Policy{ID: zeroID, DisplayName: "Fresh", State: conditional.ReportOnly})
	}); err != nil {
		t.Fatal(err)
	}
	b := backUpOf(t, l.deployment, t.TempDir())
	if l.principalGate(l.alice.ID, true) != nil || l.machineGate() != nil {
		t.Fatal("a deployment that was not restored has no gate")
	}
	if _, err := l.RestoreReview(); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	state := emptyState(t)
	out, err := restoreInto(t.Context(), restoreConfig(b, state, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	d := reopen(t, state, time.Now)
	for name, refused := range map[string]error{
		"alice": d.principalGate(l.alice.ID, false), "nobody": d.principalGate("", false), "a program": d.principalGate(l.robot.ID, false),
		"a certificate for the administrator": d.principalGate(l.admin.ID, true), "machines": d.machineGate(),
	} {
		f := fault.As(refused)
		if f.Code != codeRestored {
			t.Errorf("%s: %v", name, refused)
		}
		handbooktest.Said(t, f.Code+": "+f.Public(), "AADSTS90033")
	}
	if err := d.principalGate(l.admin.ID, false); err != nil {
		t.Errorf("the administrator: %v", err)
	}
	review, err := d.RestoreReview()
	if err != nil || review.RestoreID != out.Restore || review.Confirmed || !review.EpochSigned || review.Counts["enabledUsers"] != 2 || review.Counts["roleAssignments"] != 2 {
		t.Fatalf("%+v %v", review, err)
	}
	text, err := json.Marshal(review.Entries)
	if err != nil || !strings.Contains(string(text), "alice@corp.example") || !strings.Contains(string(text), `"role":"Owner"`) || !strings.Contains(string(text), `"Fresh (enabledForReportingButNotEnforced)"`) {
		t.Fatalf("%s", text)
	}
	by := audit.By{Principal: l.admin.ID, Type: audit.User, CorrelationID: zeroID, At: time.Now()}
	for _, wrong := range []string{"", l.alice.ID} {
		if err := d.ConfirmRestore(t.Context(), by, wrong); fault.As(err).Code != "RestoreChanged" {
			t.Error(err)
		}
	}
	if err := d.ConfirmRestore(t.Context(), by, out.Restore); err != nil {
		t.Fatal(err)
	}
	if d.principalGate(l.alice.ID, true) != nil || d.machineGate() != nil || d.principalGate(l.robot.ID, false) != nil {
		t.Fatal("still closed")
	}
	if r, err := d.RestoreReview(); err != nil || !r.Confirmed || r.ConfirmedBy != l.admin.ID {
		t.Fatalf("%+v %v", r, err)
	}
}

// An epoch that the manifest key has not signed is not confirmed.
func TestGate_EpochMustBeSigned(t *testing.T) {
	l := live(t, time.Now)
	err := l.follow.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutRestoreFact(restored{ID: "r", At: time.Now(), Epoch: l.manifest.Epoch + 1})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ConfirmRestore(t.Context(), audit.By{At: time.Now()}, "r"); fault.As(err).Code != "EpochNotSigned" {
		t.Fatal(err)
	}
	if _, closed := l.gate.closed(); !closed {
		t.Fatal("open")
	}
}

// Who may confirm: Owner of the root management group and who gives directory
// roles, through groups too; an Owner of less does not lead.
func TestGate_WhoLeads(t *testing.T) {
	l := live(t, time.Now)
	root := scope.ManagementGroup(l.manifest.Tenant)
	sub := scope.Subscription(l.alice.ID)
	for _, c := range []struct {
		at   scope.ID
		role string
		want bool
	}{{sub, rbac.Owner, false}, {root, rbac.Reader, false}, {scope.Directory(), rbac.GlobalReader, false}, {root, rbac.Owner, true}, {scope.Directory(), rbac.GlobalAdministrator, true}} {
		a := rbac.Assignment{ID: zeroID, Scope: c.at, RoleID: c.role, PrincipalID: l.alice.ID, PrincipalType: "User", CreatedAt: time.Now(), UpdatedAt: time.Now()}
		if err := l.follow.Write(t.Context(), func(tx *store.Tx) error { return tx.PutRoleAssignment(a) }); err != nil {
			t.Fatal(err)
		}
		if got := l.leads(l.alice.ID); got != c.want {
			t.Errorf("%s at %s: %v", c.role, c.at, got)
		}
		if err := l.follow.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.DeleteRoleAssignment(zeroID); return err }); err != nil {
			t.Fatal(err)
		}
	}
}
