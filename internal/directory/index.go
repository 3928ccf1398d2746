package directory

import (
	"slices"
	"strings"
	"sync"
)

// Reader is what the index needs of a read transaction.
type Reader interface {
	ObjectReader
	EachObject
	ConsentReader
	OwnerReader
	// MembersOfGroup lists the direct members of a group.
	MembersOfGroup(groupID string) ([]Member, error)
	// EachMember calls f for every membership.
	EachMember(f func(Member) error) error
}

// ObjectReader reads one object by its object id.
type ObjectReader interface {
	TenantRecord() (Tenant, bool, error)
	UserByID(id string) (User, bool, error)
	GroupByID(id string) (Group, bool, error)
	ApplicationByID(id string) (Application, bool, error)
	ServicePrincipalByID(id string) (ServicePrincipal, bool, error)
}

// EachObject walks over all objects of a kind, in no particular order.
type EachObject interface {
	EachUser(f func(User) error) error
	EachGroup(f func(Group) error) error
	EachApplication(f func(Application) error) error
	EachServicePrincipal(f func(ServicePrincipal) error) error
}

// Index holds the whole directory in memory and answers reads and the question
// "which groups is this in, through other groups too". It is safe for
// concurrent use. Values that it returns are copies whose slices must not be
// written to. It lags the store by what Refresh has not been told yet.
type Index struct {
	mu     sync.RWMutex
	tenant Tenant
	users  table[User]
	upns   map[string]string // UPN -> object id
	groups table[Group]
	apps   table[Application]
	appIDs map[string]string // application id -> object id of the application
	sps    table[ServicePrincipal]
	spApps map[string]string // application id -> object id of the service principal

	consents consents
	owners   owners

	members map[string][]Member        // group -> direct members
	parents map[string]map[string]bool // member -> groups that hold it directly
	closure sync.Map                   // principal -> []string, dropped whole on a change of groups
}

// NewIndex returns an empty index; Load fills it.
func NewIndex() *Index {
	x := &Index{}
	x.reset()
	return x
}

func (x *Index) reset() {
	x.tenant = Tenant{}
	x.users, x.groups, x.apps, x.sps = newTable[User](), newTable[Group](), newTable[Application](), newTable[ServicePrincipal]()
	x.upns, x.appIDs, x.spApps = map[string]string{}, map[string]string{}, map[string]string{}
	x.members, x.parents = map[string][]Member{}, map[string]map[string]bool{}
	x.consents, x.owners = newConsents(), newOwners()
}

// Load replaces the whole content by what r holds. On an error the old content
// stays.
func (x *Index) Load(r Reader) error {
	fresh := NewIndex()
	t, _, err := r.TenantRecord()
	if err != nil {
		return err
	}
	fresh.tenant = t
	steps := []func() error{
		func() error { return r.EachUser(func(u User) error { fresh.putUser(u.ID, u, true); return nil }) },
		func() error { return r.EachGroup(func(g Group) error { fresh.putGroup(g.ID, g, true); return nil }) },
		func() error {
			return r.EachApplication(func(a Application) error { fresh.putApplication(a.ID, a, true); return nil })
		},
		func() error {
			return r.EachServicePrincipal(func(p ServicePrincipal) error { fresh.putServicePrincipal(p.ID, p, true); return nil })
		},
		func() error {
			byGroup := map[string][]Member{}
			err := r.EachMember(func(m Member) error { byGroup[m.GroupID] = append(byGroup[m.GroupID], m); return nil })
			for id, list := range byGroup {
				fresh.putMembers(id, list)
			}
			return err
		},
		func() error { return fresh.consents.load(r) },
		func() error { return fresh.owners.load(r) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tenant, x.users, x.upns, x.groups, x.members, x.parents = fresh.tenant, fresh.users, fresh.upns, fresh.groups, fresh.members, fresh.parents
	x.apps, x.appIDs, x.sps, x.spApps = fresh.apps, fresh.appIDs, fresh.sps, fresh.spApps
	x.consents, x.owners = fresh.consents, fresh.owners
	x.closure.Clear()
	return nil
}

// Refresh brings one changed object up to date. Kinds and keys are the change
// feed's; kinds that are not the directory's are ignored.
func (x *Index) Refresh(r Reader, kind, key string) error {
	switch kind {
	case "tenant":
		t, _, err := r.TenantRecord()
		return x.apply(err, func() { x.tenant = t })
	case "user":
		u, ok, err := r.UserByID(key)
		return x.apply(err, func() { x.putUser(key, u, ok) })
	case "group":
		g, ok, err := r.GroupByID(key)
		return x.apply(err, func() { x.putGroup(key, g, ok) })
	case "member":
		list, err := r.MembersOfGroup(key)
		return x.apply(err, func() { x.putMembers(key, list) })
	case "groupOwner":
		list, err := r.OwnersOfGroup(key)
		return x.apply(err, func() { x.owners.put(key, list) })
	case "application":
		a, ok, err := r.ApplicationByID(key)
		return x.apply(err, func() { x.putApplication(key, a, ok) })
	case "servicePrincipal":
		p, ok, err := r.ServicePrincipalByID(key)
		return x.apply(err, func() { x.putServicePrincipal(key, p, ok) })
	}
	change, err := x.consents.refresh(r, kind, key)
	if change == nil {
		return err
	}
	return x.apply(err, change)
}

func (x *Index) apply(err error, change func()) error {
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	change()
	return nil
}

func (x *Index) putUser(id string, u User, present bool) {
	if old, ok := x.users.get(id); ok && x.upns[old.UPN] == id {
		delete(x.upns, old.UPN)
	}
	x.users.put(id, u, present)
	if present {
		x.upns[u.UPN] = id
	}
}

func (x *Index) putGroup(id string, g Group, present bool) {
	x.groups.put(id, g, present)
	x.closure.Clear()
}

func (x *Index) putApplication(id string, a Application, present bool) {
	if old, ok := x.apps.get(id); ok && x.appIDs[old.AppID] == id {
		delete(x.appIDs, old.AppID)
	}
	x.apps.put(id, a, present)
	if present {
		x.appIDs[a.AppID] = id
	}
}

func (x *Index) putServicePrincipal(id string, p ServicePrincipal, present bool) {
	if old, ok := x.sps.get(id); ok && x.spApps[old.AppID] == id {
		delete(x.spApps, old.AppID)
	}
	x.sps.put(id, p, present)
	if present {
		x.spApps[p.AppID] = id
	}
}

func (x *Index) putMembers(groupID string, list []Member) {
	for _, m := range x.members[groupID] {
		delete(x.parents[m.ID], groupID)
		if len(x.parents[m.ID]) == 0 {
			delete(x.parents, m.ID)
		}
	}
	delete(x.members, groupID)
	if len(list) > 0 {
		x.members[groupID] = list
	}
	for _, m := range list {
		if x.parents[m.ID] == nil {
			x.parents[m.ID] = map[string]bool{}
		}
		x.parents[m.ID][groupID] = true
	}
	x.closure.Clear()
}

// Tenant returns the tenant; the zero value before the first Load.
func (x *Index) Tenant() Tenant {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.tenant
}

// User returns a user by object id.
func (x *Index) User(id string) (User, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.users.get(asciiLower(id))
}

// UserByUPN returns a user by UPN in any case.
func (x *Index) UserByUPN(upn string) (User, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.users.get(x.upns[asciiLower(upn)])
}

// Users calls f for every user in the order of object ids until f returns false.
func (x *Index) Users(f func(User) bool) { x.UsersAfter("", f) }

// UsersAfter is Users that starts behind the given object id.
func (x *Index) UsersAfter(id string, f func(User) bool) { walk(x, &x.users, id, f) }

// Group returns a group by object id.
func (x *Index) Group(id string) (Group, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.groups.get(asciiLower(id))
}

// GroupsAfter calls f for the groups behind the given object id, in the order
// of object ids, until f returns false.
func (x *Index) GroupsAfter(id string, f func(Group) bool) { walk(x, &x.groups, id, f) }

// ApplicationByID returns an application by object id.
func (x *Index) ApplicationByID(id string) (Application, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.apps.get(asciiLower(id))
}

// Application returns an application by application (client) id.
func (x *Index) Application(appID string) (Application, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.apps.get(x.appIDs[asciiLower(appID)])
}

// ApplicationsAfter calls f for the applications behind the given object id, in
// the order of object ids, until f returns false.
func (x *Index) ApplicationsAfter(id string, f func(Application) bool) { walk(x, &x.apps, id, f) }

// ServicePrincipal returns a service principal by object id.
func (x *Index) ServicePrincipal(id string) (ServicePrincipal, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.sps.get(asciiLower(id))
}

// ServicePrincipalByAppID returns the service principal of an application.
func (x *Index) ServicePrincipalByAppID(appID string) (ServicePrincipal, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.sps.get(x.spApps[asciiLower(appID)])
}

// ServicePrincipals calls f for every service principal in the order of object
// ids until f returns false.
func (x *Index) ServicePrincipals(f func(ServicePrincipal) bool) { x.ServicePrincipalsAfter("", f) }

// ServicePrincipalsAfter is ServicePrincipals that starts behind the given
// object id.
func (x *Index) ServicePrincipalsAfter(id string, f func(ServicePrincipal) bool) {
	walk(x, &x.sps, id, f)
}

// table holds the objects of one kind and, made when asked for, their order.
type table[T any] struct {
	rows  map[string]T
	order []string // sorted object ids; nil after a change of the set
}

func newTable[T any]() table[T] { return table[T]{rows: map[string]T{}} }

func (t *table[T]) get(id string) (T, bool) {
	v, ok := t.rows[id]
	return v, ok
}

func (t *table[T]) put(id string, v T, present bool) {
	if _, had := t.rows[id]; had != present {
		t.order = nil
	}
	if present {
		t.rows[id] = v
	} else {
		delete(t.rows, id)
	}
}

// walk calls f without holding the lock, so that f may use the index.
func walk[T any](x *Index, t *table[T], after string, f func(T) bool) {
	x.mu.Lock()
	if t.order == nil {
		t.order = make([]string, 0, len(t.rows))
		for id := range t.rows {
			t.order = append(t.order, id)
		}
		slices.Sort(t.order)
	}
	order := t.order // never written again: a change drops it
	x.mu.Unlock()
	start, found := slices.BinarySearchFunc(order, asciiLower(after), strings.Compare)
	if found {
		start++
	}
	for _, id := range order[start:] {
		x.mu.RLock()
		v, ok := t.get(id)
		x.mu.RUnlock()
		if ok && !f(v) {
			return
		}
	}
}
