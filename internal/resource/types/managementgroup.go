package types

import (
	"context"
	"encoding/json"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// maxLevels is how deep management groups nest below the root one, as in Azure.
const maxLevels = 6

const assignmentWrite = RoleAssignment + "/write"

// AccountsTx is what management groups are written with.
type AccountsTx interface {
	resource.Events
	resource.Resources
	rbac.StandingTx
	DeleteRoleAssignmentsUnder(s scope.ID) error
	EachRoleDefinition(f func(rbac.Definition) error) error
	RoleAssignmentsOfRole(role string) ([]rbac.Assignment, error)
}

// PutManagementGroup creates, renames or moves a management group. Moving brings
// the roles of the new parent to everything inside, so it needs the right to
// assign roles there as well.
func (a Accounts) PutManagementGroup(ctx context.Context, by audit.By, id scope.ID, body []byte) (map[string]any, error) {
	name, parent, err := a.readManagementGroup(id, body)
	if err != nil {
		return nil, err
	}
	old, err := a.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	if parent.IsZero() {
		parent = scope.ManagementGroup(a.Tenant().ID)
		if old != nil {
			parent = keyed(old.Above)
		}
	}
	if old == nil || parent.Key() != keyed(old.Above).Key() {
		if err := a.Engine.Authorize(ctx, by, resource.TypeManagementGroup+"/write", parent); err != nil {
			return nil, err
		}
	}
	moves := old != nil && parent.Key() != keyed(old.Above).Key()
	if old != nil {
		if err := a.authorizeMove(ctx, by, resource.TypeManagementGroup+"/write", id, moves); err != nil {
			return nil, err
		}
		if moves {
			if err := a.authorizeLeaving(ctx, by, resource.TypeManagementGroup+"/write", keyed(old.Above)); err != nil {
				return nil, err
			}
		}
	}
	var next resource.Resource
	err = a.Write(ctx, func(tx AccountsTx) error {
		if err := standsUnder(tx, id, parent); err != nil {
			return err
		}
		if old == nil || parent.Key() != keyed(old.Above).Key() {
			if err := fits(tx, id, parent); err != nil {
				return err
			}
		}
		was, ok, err := tx.ResourceByID(id.Key())
		if err != nil {
			return err
		}
		if ok != (old != nil) || (ok && was.ETag != old.ETag) {
			return changedMeanwhile(id)
		}
		if ok && moves {
			if err := a.Engine.Standing(tx, by, assignmentWrite, id); err != nil {
				return err
			}
			if err := keepsRoles(tx, id, parent); err != nil {
				return err
			}
		}
		if next = was; !ok {
			next = resource.Resource{ID: id, Revision: 1, Observed: 1, State: resource.Succeeded, CreatedAt: tx.Now(), WantedAt: tx.Now()}
		}
		if name != "" || !ok {
			if name == "" {
				name = id.Name()
			}
			if next.Properties, err = json.Marshal(titled{name}); err != nil {
				return err
			}
		}
		next.Above = parent.String()
		next.Touch(tx.Now())
		if err := tx.PutResource(next); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "managementGroup.write", Outcome: audit.Success, Target: id.String(), Detail: map[string]string{"parent": parent.String()}})
	})
	if err != nil {
		return nil, err
	}
	return a.showManagementGroup(next), nil
}

func (a Accounts) readManagementGroup(id scope.ID, body []byte) (name string, parent scope.ID, err error) {
	var in struct {
		ID         any    `json:"id"`
		Name       string `json:"name"`
		Type       any    `json:"type"`
		Properties struct {
			TenantID    any    `json:"tenantId"`
			DisplayName string `json:"displayName"`
			Details     struct {
				Parent *struct {
					reference
					Name        any `json:"name"` // echoes, as those below: what GET shows can be put back
					DisplayName any `json:"displayName"`
				} `json:"parent"`
				Version any `json:"version"`
				Updated any `json:"updatedTime"`
			} `json:"details"`
			Children any `json:"children"`
		} `json:"properties"`
	}
	if err := resource.Strict(body, &in, "management group"); err != nil {
		return "", parent, err
	}
	if len(id.Name()) > 90 || strings.EqualFold(id.Name(), a.Tenant().ID) && in.Properties.Details.Parent != nil && in.Properties.Details.Parent.ID != "" {
		return "", parent, fault.New(fault.Invalid, "InvalidManagementGroup", "the root management group does not move, and a name has at most 90 characters")
	}
	name = in.Properties.DisplayName
	if len(name) > 256 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", parent, fault.New(fault.Invalid, "InvalidManagementGroup", "a display name has at most 256 printable characters").WithTarget("displayName")
	}
	if p := in.Properties.Details.Parent; p != nil && p.ID != "" {
		parent, err = p.parse(resource.TypeManagementGroup, "details.parent.id")
	}
	return name, parent, err
}

// MoveSubscription puts a subscription into a management group.
func (a Accounts) MoveSubscription(ctx context.Context, by audit.By, group, subscription scope.ID) error {
	if err := a.Engine.Authorize(ctx, by, resource.TypeManagementGroup+"/subscriptions/write", group); err != nil {
		return err
	}
	if err := a.authorizeMove(ctx, by, resource.TypeManagementGroup+"/subscriptions/write", subscription, true); err != nil {
		return err
	}
	old, err := a.stored(ctx, subscription)
	if err != nil || old == nil {
		return absent(err, subscription)
	}
	if left := keyed(old.Above); left.Key() != group.Key() {
		if err := a.authorizeLeaving(ctx, by, subscriptionInGroup+"/delete", left); err != nil {
			return err
		}
	}
	return a.Write(ctx, func(tx AccountsTx) error {
		if _, ok, err := tx.ResourceByID(group.Key()); err != nil || !ok {
			return absent(err, group)
		}
		r, ok, err := tx.ResourceByID(subscription.Key())
		if err != nil || !ok {
			return absent(err, subscription)
		}
		if keyed(r.Above).Key() != keyed(old.Above).Key() {
			return changedMeanwhile(keyed(r.Above))
		}
		if err := standsUnder(tx, subscription, group); err != nil {
			return err
		}
		return a.placeSubscription(tx, by, r, group)
	})
}

// authorizeLeaving needs the action at the management group that something is taken
// out of: whoever holds a role there loses it inside. As in Azure ("Moving management
// groups and subscriptions"), the root management group is left without asking, or
// only who governs everything could put anything in its place.
func (a Accounts) authorizeLeaving(ctx context.Context, by audit.By, action string, from scope.ID) error {
	if from.IsZero() || from.Key() == scope.Root().Key() || from.Key() == scope.ManagementGroup(a.Tenant().ID).Key() {
		return nil
	}
	return a.Engine.Authorize(ctx, by, action, from)
}

// authorizeMove needs the write on what moves and, when it moves, the right to
// assign roles on it: its new parents' roles reach it as if assigned there.
func (a Accounts) authorizeMove(ctx context.Context, by audit.By, action string, id scope.ID, moves bool) error {
	if err := a.Engine.Authorize(ctx, by, action, id); err != nil || !moves {
		return err
	}
	return a.Engine.Authorize(ctx, by, assignmentWrite, id)
}

// DeleteManagementGroup removes an empty one with the roles assigned at it.
func (a Accounts) DeleteManagementGroup(ctx context.Context, by audit.By, id scope.ID) error {
	if err := a.Engine.Authorize(ctx, by, resource.TypeManagementGroup+"/delete", id); err != nil {
		return err
	}
	if strings.EqualFold(id.Name(), a.Tenant().ID) {
		return fault.New(fault.Invalid, "InvalidManagementGroup", "the root management group cannot be deleted")
	}
	return a.Write(ctx, func(tx AccountsTx) error {
		if _, ok, err := tx.ResourceByID(id.Key()); err != nil || !ok {
			return absent(err, id)
		}
		for _, kind := range []string{resource.TypeSubscription, resource.TypeManagementGroup} {
			list, err := tx.ListResources(resource.Range{Type: kind})
			if err != nil {
				return err
			}
			for _, x := range list {
				if keyed(x.Above).Key() == id.Key() {
					return fault.New(fault.Conflict, "ManagementGroupNotEmpty", "management group '%s' still holds '%s'", id.Name(), x.ID.Name()).WithRemedy("Move it out first.")
				}
			}
		}
		if err := tx.DeleteRoleAssignmentsUnder(id); err != nil {
			return err
		}
		if err := tx.DeleteResource(id); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "managementGroup.delete", Outcome: audit.Success, Target: id.String()})
	})
}

// standsUnder checks that parent exists, is no descendant of id, and is not too
// deep: a circle would let roles inherit from below.
func standsUnder(tx AccountsTx, id, parent scope.ID) error {
	at := parent
	for level := 0; at != scope.Root(); level++ {
		if at.Key() == id.Key() || level > maxLevels {
			return misplaced(id, parent)
		}
		r, ok, err := tx.ResourceByID(at.Key())
		if err != nil || !ok {
			return absent(err, at)
		}
		at = keyed(r.Above)
		if at.IsZero() {
			return nil
		}
	}
	return nil
}

func misplaced(id, parent scope.ID) error {
	return fault.New(fault.Invalid, "InvalidManagementGroup", "'%s' cannot stand under '%s': management groups form a tree of at most %d levels", id.Name(), parent.Name(), maxLevels)
}

// fits refuses to put a management group where it, or what stands under it, would be
// too deep: roles are inherited along a chain of bounded length, and whoever could
// make a longer one would be out of reach of the roles at its top.
func fits(tx AccountsTx, id, parent scope.ID) error {
	list, err := tx.ListResources(resource.Range{Type: resource.TypeManagementGroup})
	if err != nil {
		return err
	}
	above := map[string]string{}
	for _, g := range list {
		above[g.ID.Key()] = keyed(g.Above).Key()
	}
	// steps is how many groups lead from one up to another, or to the top one.
	steps := func(from, to string) (n int, found bool) {
		for at := from; n <= len(above); n++ {
			up, ok := above[at]
			if at == to || !ok {
				return n, at == to
			}
			at = up
		}
		return n, false
	}
	height := 0
	for key := range above {
		if n, found := steps(key, id.Key()); found {
			height = max(height, n)
		}
	}
	if depth, _ := steps(parent.Key(), ""); depth+height > maxLevels {
		return misplaced(id, parent)
	}
	return nil
}

// changedMeanwhile refuses a write whose rights were asked of what is no longer so.
func changedMeanwhile(group scope.ID) error {
	return fault.New(fault.Conflict, "Conflict", "management group '%s' changed meanwhile", group.Name()).WithRemedy("Repeat the request.")
}

func absent(err error, id scope.ID) error {
	if err != nil {
		return err
	}
	return fault.New(fault.NotFound, "NotFound", "'%s' does not exist", id)
}

// keyed reads an id that this package wrote; the zero ID for none.
func keyed(text string) scope.ID {
	if text == "" {
		return scope.ID{}
	}
	id, err := scope.Parse(text)
	if err != nil {
		return scope.ID{}
	}
	return id
}

func (a Accounts) stored(ctx context.Context, id scope.ID) (old *resource.Resource, err error) {
	err = a.Read(ctx, func(tx AccountsTx) error {
		r, ok, err := tx.ResourceByID(id.Key())
		if ok {
			old = &r
		}
		return err
	})
	return old, err
}
