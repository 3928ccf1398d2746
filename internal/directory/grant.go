package directory

import (
	"slices"
	"time"
)

// PermissionGrant says that a client may use delegated permissions at a
// resource: for everybody, or for one person. It is Graph's
// oauth2PermissionGrant.
type PermissionGrant struct {
	ID          string // GUID; Graph's are opaque texts
	ClientID    string // object id of the client's service principal
	PrincipalID string // the person; "" for everybody
	ResourceID  string // object id of the resource's service principal
	Scopes      []string
	CreatedAt   time.Time
}

// AppRoleAssignment gives an application a permission of its own.
type AppRoleAssignment struct {
	ID          string // GUID
	PrincipalID string // object id of the application's service principal
	ResourceID  string // object id of the resource's service principal
	RoleID      string // the permission's ApplicationID
	CreatedAt   time.Time
}

// ConsentPolicy is the tenant's switch for consent. The zero value is the
// default: people consent to nothing but the basic profile for built-in clients.
type ConsentPolicy struct {
	// Users says that people may consent, for themselves, to permissions that do
	// not need an administrator.
	Users bool `json:"users"`
}

// ConsentReader reads what applications were given.
type ConsentReader interface {
	PermissionGrantByID(id string) (PermissionGrant, bool, error)
	EachPermissionGrant(f func(PermissionGrant) error) error
	AppRoleAssignmentByID(id string) (AppRoleAssignment, bool, error)
	EachAppRoleAssignment(f func(AppRoleAssignment) error) error
	ConsentPolicy() (ConsentPolicy, error)
}

// ConsentFinder reads it by what it is about.
type ConsentFinder interface {
	// PermissionGrantOf reads the grant of a client at a resource for a person,
	// "" for everybody.
	PermissionGrantOf(client, resource, person string) (PermissionGrant, bool, error)
	AppRoleAssignmentsOf(principalID string) ([]AppRoleAssignment, error)
}

// ConsentWriter writes it. Deleting a service principal or a person deletes what
// refers to it too.
type ConsentWriter interface {
	ConsentFinder
	PutPermissionGrant(g PermissionGrant) error
	DeletePermissionGrant(id string) (existed bool, err error)
	PutAppRoleAssignment(a AppRoleAssignment) error
	DeleteAppRoleAssignment(id string) (existed bool, err error)
	PutConsentPolicy(p ConsentPolicy) error
}

// consents is the index's part for them.
type consents struct {
	grants   table[PermissionGrant]
	appRoles table[AppRoleAssignment]
	byClient map[string][]string // service principal -> ids of its grants
	byHolder map[string][]string // service principal -> ids of its app role assignments
	policy   ConsentPolicy
}

func newConsents() consents {
	return consents{newTable[PermissionGrant](), newTable[AppRoleAssignment](), map[string][]string{}, map[string][]string{}, ConsentPolicy{}}
}

func (c *consents) load(r ConsentReader) error {
	var err error
	if c.policy, err = r.ConsentPolicy(); err != nil {
		return err
	}
	if err := r.EachPermissionGrant(func(g PermissionGrant) error { c.putGrant(g.ID, g, true); return nil }); err != nil {
		return err
	}
	return r.EachAppRoleAssignment(func(a AppRoleAssignment) error { c.putAppRole(a.ID, a, true); return nil })
}

// refresh reads one changed thing and returns how to apply it; nil for kinds
// that are not consent's.
func (c *consents) refresh(r ConsentReader, kind, key string) (func(), error) {
	switch kind {
	case "permissionGrant":
		g, ok, err := r.PermissionGrantByID(key)
		return func() { c.putGrant(key, g, ok) }, err
	case "appRoleAssignment":
		a, ok, err := r.AppRoleAssignmentByID(key)
		return func() { c.putAppRole(key, a, ok) }, err
	case "consentPolicy":
		p, err := r.ConsentPolicy()
		return func() { c.policy = p }, err
	}
	return nil, nil
}

func (c *consents) putGrant(id string, g PermissionGrant, present bool) {
	if old, ok := c.grants.get(id); ok {
		forget(c.byClient, old.ClientID, id)
	}
	c.grants.put(id, g, present)
	if present {
		c.byClient[g.ClientID] = append(c.byClient[g.ClientID], id)
	}
}

func (c *consents) putAppRole(id string, a AppRoleAssignment, present bool) {
	if old, ok := c.appRoles.get(id); ok {
		forget(c.byHolder, old.PrincipalID, id)
	}
	c.appRoles.put(id, a, present)
	if present {
		c.byHolder[a.PrincipalID] = append(c.byHolder[a.PrincipalID], id)
	}
}

func forget(m map[string][]string, key, id string) {
	if m[key] = slices.DeleteFunc(m[key], func(s string) bool { return s == id }); len(m[key]) == 0 {
		delete(m, key)
	}
}

// Consented lists the delegated permissions that a client has at a resource when
// it acts for a person: those that need no consent, those granted for everybody
// and those granted by or for this person. Sorted, without repetition.
func (x *Index) Consented(appID, userID, resourceAppID string) []string {
	list := slices.Clone(PreAuthorized(asciiLower(appID), resourceAppID))
	x.mu.RLock()
	defer x.mu.RUnlock()
	client, ok := x.sps.get(x.spApps[asciiLower(appID)])
	resource, known := x.sps.get(x.spApps[resourceAppID])
	if ok && known {
		for _, id := range x.consents.byClient[client.ID] {
			g, _ := x.consents.grants.get(id)
			if g.ResourceID == resource.ID && (g.PrincipalID == "" || g.PrincipalID == asciiLower(userID)) {
				list = append(list, g.Scopes...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ApplicationPermissions lists the values of the application permissions at
// Microsoft Graph that a service principal has. Sorted.
func (x *Index) ApplicationPermissions(principalID string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	held := x.consents.byHolder[asciiLower(principalID)]
	if len(held) == 0 {
		return nil
	}
	graph := x.spApps[GraphAppID]
	var list []string
	for _, id := range held {
		a, _ := x.consents.appRoles.get(id)
		if a.ResourceID != graph {
			continue
		}
		for _, p := range Permissions(GraphAppID) {
			if p.ApplicationID != "" && p.ApplicationID == a.RoleID {
				list = append(list, p.Value)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ConsentPolicy returns the tenant's switch for consent.
func (x *Index) ConsentPolicy() ConsentPolicy {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.consents.policy
}

// PermissionGrant returns a grant by its id.
func (x *Index) PermissionGrant(id string) (PermissionGrant, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.consents.grants.get(asciiLower(id))
}

// PermissionGrantsAfter calls f for the grants behind the given id, in the order
// of ids, until f returns false.
func (x *Index) PermissionGrantsAfter(id string, f func(PermissionGrant) bool) {
	walk(x, &x.consents.grants, id, f)
}

// AppRoleAssignment returns an application permission by its assignment's id.
func (x *Index) AppRoleAssignment(id string) (AppRoleAssignment, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.consents.appRoles.get(asciiLower(id))
}

// AppRoleAssignmentsAfter calls f for the assignments behind the given id, in
// the order of ids, until f returns false.
func (x *Index) AppRoleAssignmentsAfter(id string, f func(AppRoleAssignment) bool) {
	walk(x, &x.consents.appRoles, id, f)
}
