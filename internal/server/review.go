package server

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/rbac"
	"sallyport/internal/store"
)

// actionConfirm is the right to open the gate.
const actionConfirm = "Sallyport.Access/restores/confirm/action"

// maxReviewed bounds the entries of one review.
const maxReviewed = 20_000

func errNotRestored() error {
	return fault.New(fault.NotFound, "NotRestored", "This deployment was not restored from a backup: there is nothing to review.")
}

// RestoreReview says what the restored backup gives to whom: every role
// assignment, the members of groups that hold one, and every enabled account;
// and which Conditional Access policies it has: one that was written or changed
// after the backup is not in force any more.
func (d *deployment) RestoreReview() (arm.RestoreReview, error) {
	r, ok := d.gate.restore()
	if !ok {
		return arm.RestoreReview{}, errNotRestored()
	}
	out := arm.RestoreReview{RestoreID: r.ID, RestoredAt: r.At, BackupTaken: r.BackupAt, BackupAge: r.At.Sub(r.BackupAt).Round(time.Second).String(), Build: r.Build,
		Epoch: r.Epoch, EpochSigned: r.Request == nil, Confirmed: r.Confirmed, ConfirmedBy: r.ConfirmedBy, Counts: map[string]int{}, Entries: []arm.ReviewedAccess{}}
	if r.Confirmed {
		out.ConfirmedAt = &r.ConfirmedAt
	}
	w := reviewer{d: d, out: &out}
	for _, a := range d.roles.Assignments(rbac.Filter{}) {
		w.assignment(a)
	}
	for _, p := range d.policies.Policies() {
		w.policy(p)
	}
	d.directory.Users(func(u directory.User) bool {
		if !u.Enabled {
			out.Counts["disabledUsers"]++
			return true
		}
		out.Counts["enabledUsers"]++
		w.add(arm.ReviewedAccess{What: "user", Principal: u.UPN, PrincipalID: u.ID, Type: "User", Since: &u.CreatedAt})
		return true
	})
	return out, nil
}

// reviewer collects entries.
type reviewer struct {
	d   *deployment
	out *arm.RestoreReview
}

func (w reviewer) add(e arm.ReviewedAccess) {
	if len(w.out.Entries) < maxReviewed {
		w.out.Entries = append(w.out.Entries, e)
		return
	}
	w.out.Omitted++
}

func (w reviewer) assignment(a rbac.Assignment) {
	w.out.Counts["roleAssignments"]++
	role := a.RoleID
	if def, ok := w.d.roles.Definition(a.RoleID); ok {
		role = def.Name
	}
	e := arm.ReviewedAccess{What: "roleAssignment", PrincipalID: a.PrincipalID, Role: role, Scope: a.Scope.String(), Since: &a.CreatedAt}
	group, isGroup := w.d.directory.Group(a.PrincipalID)
	if !isGroup {
		e.Principal, e.Type = w.named(a.PrincipalID)
		w.add(e)
		return
	}
	e.Principal, e.Type = group.DisplayName, "Group"
	w.add(e)
	for _, m := range w.d.directory.MembersOf(group.ID, true) {
		if m.Type == directory.MemberGroup {
			continue
		}
		w.out.Counts["groupMembers"]++
		member := arm.ReviewedAccess{What: "member", PrincipalID: m.ID, Role: role, Scope: a.Scope.String(), Through: group.DisplayName}
		member.Principal, member.Type = w.named(m.ID)
		w.add(member)
	}
}

func (w reviewer) policy(p conditional.Policy) {
	w.out.Counts["conditionalAccessPolicies"]++
	since := p.ModifiedAt
	if since.IsZero() {
		since = p.CreatedAt
	}
	w.add(arm.ReviewedAccess{What: "policy", Principal: p.DisplayName + " (" + string(p.State) + ")", PrincipalID: p.ID, Type: "ConditionalAccessPolicy", Since: &since})
}

func (w reviewer) named(id string) (name, kind string) {
	if u, ok := w.d.directory.User(id); ok {
		if !u.Enabled {
			return u.UPN + " (disabled)", "User"
		}
		return u.UPN, "User"
	}
	if p, ok := w.d.directory.ServicePrincipal(id); ok {
		return p.DisplayName, "ServicePrincipal"
	}
	return "(nobody)", "Unknown"
}

// ConfirmRestore opens the gate. Who calls has the right; he names the restore,
// so that nobody confirms another than he has looked through.
func (d *deployment) ConfirmRestore(ctx context.Context, by audit.By, restoreID string) error {
	return d.follow.Write(ctx, func(t *store.Tx) error {
		var r restored
		found, err := t.RestoreFact(&r)
		switch {
		case err != nil:
			return err
		case !found:
			return errNotRestored()
		case restoreID != r.ID:
			return fault.New(fault.Conflict, "RestoreChanged", "'%s' is not the id of the restore that waits.", restoreID).WithTarget("restoreId").WithRemedy("Look through it again: sally access review")
		case r.Confirmed:
			return nil
		}
		_, m, err := storedManifest(t)
		if err != nil {
			return err
		}
		if m.Epoch < r.Epoch {
			return fault.New(fault.Conflict, "EpochNotSigned", "The manifest of epoch %d is not signed yet: machines would refuse this server.", r.Epoch).
				WithRemedy("Sign the restore's request where the manifest key is, and give it to: sally server restore-epoch")
		}
		r.Confirmed, r.ConfirmedBy, r.ConfirmedAt = true, by.Principal, t.Now()
		if err := t.PutRestoreFact(r); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "restore.confirm", Outcome: audit.Success, Target: m.Tenant, Detail: map[string]string{"restore": r.ID, "backupTime": r.BackupAt.Format(time.RFC3339)}})
	})
}
