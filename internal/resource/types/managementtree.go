package types

import (
	"context"
	"encoding/json"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

const subscriptionInGroup = resource.TypeManagementGroup + "/subscriptions"

// PatchManagementGroup renames or moves one that exists, with what a PATCH names:
// displayName and parentGroupId at the top level of its body.
func (a Accounts) PatchManagementGroup(ctx context.Context, by audit.By, id scope.ID, body []byte) (map[string]any, error) {
	var in struct {
		DisplayName   string `json:"displayName"`
		ParentGroupID string `json:"parentGroupId"`
	}
	if err := a.Engine.Authorize(ctx, by, resource.TypeManagementGroup+"/write", id); err != nil {
		return nil, err
	}
	if err := resource.Strict(body, &in, "change of a management group"); err != nil {
		return nil, err
	}
	if _, err := a.Engine.Find(ctx, by, id); err != nil {
		return nil, err
	}
	details := map[string]any{}
	if in.ParentGroupID != "" {
		details["parent"] = reference{in.ParentGroupID}
	}
	whole, err := json.Marshal(map[string]any{"properties": map[string]any{"displayName": in.DisplayName, "details": details}})
	if err != nil {
		return nil, err
	}
	return a.PutManagementGroup(ctx, by, id, whole)
}

// member is one management group or subscription in the tree, as it is stored.
type member struct {
	resource.Resource
	title string
	up    string // key of what it stands in; each is compared with each
}

// tree lists what the caller may see of the management groups and subscriptions.
func (a Accounts) tree(ctx context.Context, by audit.By) ([]member, error) {
	var out []member
	for _, kind := range []string{resource.TypeManagementGroup, resource.TypeSubscription} {
		list, err := a.Engine.Each(ctx, by, resource.Query{Type: kind})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			var p titled
			_ = r.ReadProperties(&p) // a name is all it holds
			out = append(out, member{r, p.DisplayName, keyed(r.Above).Key()})
		}
	}
	return out, nil
}

func (m member) subscription() bool { return strings.EqualFold(m.ID.Type(), resource.TypeSubscription) }

// kind is how Azure spells the type of a child.
func (m member) kind() string {
	if m.subscription() {
		return "/subscriptions"
	}
	return resource.TypeManagementGroup
}

// ManagementGroupWithChildren returns one with its children, and when recurse is
// set with theirs: those that the caller may see.
func (a Accounts) ManagementGroupWithChildren(ctx context.Context, by audit.By, id scope.ID, recurse bool) (map[string]any, error) {
	out, err := a.ManagementGroup(ctx, by, id)
	if err != nil {
		return nil, err
	}
	all, err := a.tree(ctx, by)
	if err != nil {
		return nil, err
	}
	p, _ := out["properties"].(map[string]any)
	p["children"] = children(all, id, recurse, 0)
	return out, nil
}

// children is bounded by the depth that the tree has.
func children(all []member, up scope.ID, recurse bool, level int) []map[string]any {
	out := []map[string]any{}
	for _, m := range all {
		if m.up != up.Key() {
			continue
		}
		x := map[string]any{"id": m.ID.String(), "type": m.kind(), "name": m.ID.Name(), "displayName": m.title}
		if recurse && !m.subscription() && level <= maxLevels {
			x["children"] = children(all, m.ID, true, level+1)
		}
		out = append(out, x)
	}
	return out
}

// Entities lists all management groups and subscriptions that the caller may see,
// each with what leads to it.
func (a Accounts) Entities(ctx context.Context, by audit.By) ([]map[string]any, error) {
	all, err := a.tree(ctx, by)
	if err != nil {
		return nil, err
	}
	byKey := map[string]member{}
	for _, m := range all {
		byKey[m.ID.Key()] = m
	}
	out := []map[string]any{}
	for _, m := range all {
		kind := "Microsoft.Management/managementGroups"
		if m.subscription() {
			kind = "/subscriptions"
		}
		names, titles := []string{}, []string{}
		parent := keyed(m.Above)
		for at, ok := byKey[parent.Key()]; ok && len(names) <= maxLevels; at, ok = byKey[at.up] {
			names, titles = append([]string{at.ID.Name()}, names...), append([]string{at.title}, titles...)
		}
		groups, direct := 0, 0
		for _, x := range all {
			if x.up == m.ID.Key() {
				direct++
				if !x.subscription() {
					groups++
				}
			}
		}
		p := map[string]any{"tenantId": a.Tenant().ID, "displayName": m.title, "permissions": "view", "inheritedPermissions": "view",
			"numberOfChildren": direct, "numberOfChildGroups": groups, "numberOfDescendants": descendants(all, m.ID, 0), "parentNameChain": names, "parentDisplayNameChain": titles}
		if !parent.IsZero() && parent != scope.Root() {
			p["parent"] = map[string]any{"id": parent.String()}
		}
		if a.Engine.Allowed(by, m.ID.Type()+"/write", m.ID) {
			p["permissions"], p["inheritedPermissions"] = "edit", "edit"
		}
		out = append(out, map[string]any{"id": m.ID.String(), "type": kind, "name": m.ID.Name(), "properties": p})
	}
	return out, nil
}

func descendants(all []member, up scope.ID, level int) int {
	n := 0
	for _, m := range all {
		if m.up != up.Key() {
			continue
		}
		if n++; level <= maxLevels {
			n += descendants(all, m.ID, level+1)
		}
	}
	return n
}

// NameAvailable says whether a management group of a name could be made.
func (a Accounts) NameAvailable(ctx context.Context, body []byte) (map[string]any, error) {
	var in struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := resource.Strict(body, &in, "question for a name"); err != nil {
		return nil, err
	}
	if in.Type != "" && !strings.EqualFold(in.Type, resource.TypeManagementGroup) {
		return nil, fault.New(fault.Invalid, "InvalidParameter", "names of the type '%s' are not asked for here", clip(in.Type)).WithRemedy("It is %s.", resource.TypeManagementGroup).WithTarget("type")
	}
	id, err := scope.Parse(scope.ManagementGroup(in.Name).String())
	if err != nil || in.Name == "" || len(in.Name) > 90 {
		return map[string]any{"nameAvailable": false, "reason": "Invalid", "message": "A name has 1 to 90 letters, digits and - _ . ( )."}, nil
	}
	old, err := a.stored(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case old != nil:
		return map[string]any{"nameAvailable": false, "reason": "AlreadyExists", "message": "The group with the specified name already exists"}, nil
	}
	return map[string]any{"nameAvailable": true}, nil
}

// SubscriptionsUnder lists the subscriptions that stand in a management group,
// as its members.
func (a Accounts) SubscriptionsUnder(ctx context.Context, by audit.By, group scope.ID) ([]map[string]any, error) {
	if _, err := a.Engine.Find(ctx, by, group); err != nil {
		return nil, err
	}
	all, err := a.tree(ctx, by)
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, m := range all {
		if m.subscription() && m.up == group.Key() {
			out = append(out, a.showMember(m, group))
		}
	}
	return out, nil
}

// SubscriptionUnder returns one of them.
func (a Accounts) SubscriptionUnder(ctx context.Context, by audit.By, group, subscription scope.ID) (map[string]any, error) {
	list, err := a.SubscriptionsUnder(ctx, by, group)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if name, _ := x["name"].(string); strings.EqualFold(name, subscription.Name()) {
			return x, nil
		}
	}
	return nil, notMember(group, subscription)
}

func notMember(group, subscription scope.ID) error {
	return fault.New(fault.NotFound, "NotFound", "subscription '%s' is not in management group '%s'", subscription.Name(), group.Name()).
		WithRemedy("See where it is: sally account management-group show --name %s --expand", group.Name())
}

func (a Accounts) showMember(m member, group scope.ID) map[string]any {
	return map[string]any{"id": group.String() + "/subscriptions/" + m.ID.Name(), "name": m.ID.Name(), "type": subscriptionInGroup,
		"properties": map[string]any{"tenant": a.Tenant().ID, "displayName": m.title, "state": "Active", "parent": map[string]any{"id": group.String()}}}
}

// RemoveSubscription takes a subscription out of a management group; it stands in
// the root management group then. It asks what a move asks, at the group that it
// leaves and at the subscription.
func (a Accounts) RemoveSubscription(ctx context.Context, by audit.By, group, subscription scope.ID) error {
	root := scope.ManagementGroup(a.Tenant().ID)
	if group.Key() == root.Key() {
		return fault.New(fault.Invalid, "InvalidParameter", "the root management group is where a subscription goes that is taken out of another one").WithRemedy("Move it: sally account management-group subscription add")
	}
	for _, s := range []struct {
		action string
		at     scope.ID
	}{{subscriptionInGroup + "/delete", group}, {subscriptionInGroup + "/write", subscription}, {assignmentWrite, subscription}} {
		if err := a.Engine.Authorize(ctx, by, s.action, s.at); err != nil {
			return err
		}
	}
	return a.Write(ctx, func(tx AccountsTx) error {
		r, ok, err := tx.ResourceByID(subscription.Key())
		if err != nil {
			return err
		}
		if !ok || keyed(r.Above).Key() != group.Key() {
			return notMember(group, subscription)
		}
		return a.placeSubscription(tx, by, r, root)
	})
}

// placeSubscription stores a subscription under another management group, which gives
// rights in it: the right to do that must still be there.
func (a Accounts) placeSubscription(tx AccountsTx, by audit.By, r resource.Resource, group scope.ID) error {
	if err := a.Engine.Standing(tx, by, assignmentWrite, r.ID); err != nil {
		return err
	}
	if err := keepsRoles(tx, r.ID, group); err != nil {
		return err
	}
	r.Above = group.String()
	r.Touch(tx.Now())
	if err := tx.PutResource(r); err != nil {
		return err
	}
	return tx.Audit(by, audit.Event{Type: "subscription.move", Outcome: audit.Success, Target: r.ID.String(), Detail: map[string]string{"parent": group.String()}})
}
