package types

import (
	"context"
	"encoding/json"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

type titled struct {
	DisplayName string `json:"displayName"`
}

func subscriptionType() resource.Type {
	return resource.Type{Name: resource.TypeSubscription, Title: "subscription", ReadOnly: true}
}

func managementGroupType() resource.Type {
	return resource.Type{Name: resource.TypeManagementGroup, Title: "management group", ReadOnly: true}
}

// Accounts answers for what lies above resource groups: tenants, subscriptions
// and management groups, in shapes of their own.
type Accounts struct {
	Engine *resource.Engine
	Write  func(context.Context, func(AccountsTx) error) error
	Read   func(context.Context, func(AccountsTx) error) error
	Tenant func() directory.Tenant
}

// Tenants lists the one tenant. Whoever is signed in belongs to it.
func (a Accounts) Tenants() []map[string]any {
	t := a.Tenant()
	domain := ""
	if len(t.Domains) > 0 {
		domain = t.Domains[0]
	}
	return []map[string]any{{"id": "/tenants/" + t.ID, "tenantId": t.ID, "displayName": t.DisplayName, "countryCode": "", "domains": t.Domains, "defaultDomain": domain, "tenantCategory": "Home"}}
}

// Subscriptions lists those where the caller holds any role.
func (a Accounts) Subscriptions(ctx context.Context, by audit.By) ([]map[string]any, error) {
	list, err := a.Engine.Each(ctx, by, resource.Query{Type: resource.TypeSubscription})
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, r := range list {
		out = append(out, a.showSubscription(r))
	}
	return out, nil
}

// Subscription returns one.
func (a Accounts) Subscription(ctx context.Context, by audit.By, id scope.ID) (map[string]any, error) {
	r, err := a.Engine.Find(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return a.showSubscription(r), nil
}

func (a Accounts) showSubscription(r resource.Resource) map[string]any {
	var p titled
	_ = r.ReadProperties(&p) // a name is all it holds
	out := map[string]any{"id": r.ID.String(), "subscriptionId": r.ID.Name(), "tenantId": a.Tenant().ID, "displayName": p.DisplayName, "state": "Enabled",
		"managedByTenants": []any{}, "authorizationSource": "RoleBased",
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"}}
	if len(r.Tags) > 0 {
		out["tags"] = r.Tags
	}
	return out
}

// Locations lists the locations that a resource can be made in.
func (a Accounts) Locations(ctx context.Context, by audit.By, subscription scope.ID) ([]map[string]any, error) {
	if _, err := a.Engine.Find(ctx, by, subscription); err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, l := range resource.Locations() {
		out = append(out, map[string]any{"id": subscription.String() + "/locations/" + l.Name, "name": l.Name, "displayName": l.DisplayName, "regionalDisplayName": l.DisplayName, "type": "Region",
			"metadata": map[string]any{"regionType": "Physical", "regionCategory": "Recommended"}})
	}
	return out, nil
}

// ManagementGroups lists those where the caller holds any role.
func (a Accounts) ManagementGroups(ctx context.Context, by audit.By) ([]map[string]any, error) {
	list, err := a.Engine.Each(ctx, by, resource.Query{Type: resource.TypeManagementGroup})
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, r := range list {
		out = append(out, a.showManagementGroup(r))
	}
	return out, nil
}

// ManagementGroup returns one.
func (a Accounts) ManagementGroup(ctx context.Context, by audit.By, id scope.ID) (map[string]any, error) {
	r, err := a.Engine.Find(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return a.showManagementGroup(r), nil
}

func (a Accounts) showManagementGroup(r resource.Resource) map[string]any {
	var p titled
	_ = r.ReadProperties(&p) // a name is all it holds
	details := map[string]any{"version": r.Writes(), "updatedTime": r.ChangedAt.UTC()}
	if up, err := scope.Parse(r.Above); err == nil && up != scope.Root() {
		details["parent"] = map[string]any{"id": up.String(), "name": up.Name()}
	}
	return map[string]any{"id": r.ID.String(), "name": r.ID.Name(), "type": resource.TypeManagementGroup,
		"properties": map[string]any{"tenantId": a.Tenant().ID, "displayName": p.DisplayName, "details": details}}
}

// BootstrapTx is what Bootstrap writes with.
type BootstrapTx interface {
	resource.Events
	ResourceByID(key string) (resource.Resource, bool, error)
	PutResource(resource.Resource) error
	PutRoleAssignment(rbac.Assignment) error
}

// Setup is a new deployment's top: the root management group bears the tenant's
// id, as Azure's does.
type Setup struct {
	TenantID         string
	AdministratorID  string // object id of the first administrator, a user
	SubscriptionID   string // GUID
	SubscriptionName string
	Assignments      [2]string // GUIDs for the two role assignments
}

// Bootstrap makes the root management group, the first subscription in it, and
// the first administrator's roles: Owner of that group, and Global Administrator
// in the directory. It refuses a store that has them.
func Bootstrap(tx BootstrapTx, by audit.By, s Setup) error {
	root, sub := scope.ManagementGroup(s.TenantID), scope.Subscription(s.SubscriptionID)
	if _, ok, err := tx.ResourceByID(root.Key()); err != nil {
		return err
	} else if ok {
		return fault.New(fault.Conflict, "DeploymentExists", "this store has a root management group already")
	}
	for _, r := range []struct {
		id, above scope.ID
		name      string
	}{{root, scope.Root(), "Tenant Root Group"}, {sub, root, s.SubscriptionName}} {
		p, err := json.Marshal(titled{r.name})
		if err != nil {
			return err
		}
		if err := tx.PutResource(resource.Resource{ID: r.id, Properties: p, Above: r.above.String(), ETag: `W/"0-1"`, Revision: 1, Observed: 1, State: resource.Succeeded, CreatedAt: tx.Now(), ChangedAt: tx.Now(), WantedAt: tx.Now()}); err != nil {
			return err
		}
	}
	for i, a := range []rbac.Assignment{{Scope: root, RoleID: rbac.Owner}, {Scope: scope.Directory(), RoleID: rbac.GlobalAdministrator}} {
		a.ID, a.PrincipalID, a.PrincipalType = s.Assignments[i], s.AdministratorID, "User"
		a.CreatedAt, a.UpdatedAt = tx.Now(), tx.Now()
		if err := tx.PutRoleAssignment(a); err != nil {
			return err
		}
		if err := tx.Audit(by, audit.Event{Type: "roleAssignment.write", Outcome: audit.Success, Target: a.Scope.String(), Detail: map[string]string{"role": a.RoleID, "principal": a.PrincipalID}}); err != nil {
			return err
		}
	}
	return nil
}
