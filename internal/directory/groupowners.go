package directory

import (
	"context"
	"slices"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// OwnerReader reads who owns groups. Owners of applications are a part of those.
type OwnerReader interface {
	// OwnersOfGroup lists the object ids of a group's owners.
	OwnersOfGroup(groupID string) ([]string, error)
	// EachGroupOwner calls f for every ownership.
	EachGroupOwner(f func(groupID, ownerID string) error) error
}

// OwnerWriter writes who owns groups.
type OwnerWriter interface {
	// AddGroupOwner reports false when the ownership exists already.
	AddGroupOwner(groupID, ownerID string) (bool, error)
	// RemoveGroupOwner reports false when there is no such ownership.
	RemoveGroupOwner(groupID, ownerID string) (bool, error)
}

// mayNameOwners is what it takes to say whom a group belongs to.
func (s *Service) mayNameOwners(by audit.By, groupID string) error {
	return s.mayChangeGroup(by, "microsoft.directory/groups/owners/update", groupID)
}

// AddGroupOwner makes a person or a service principal an owner of a group. That
// is told and shown, and gives no right: who may change a group is said by
// directory roles alone, so that no owner decides who gets what the group gives.
// Whoever names owners needs what changing the members needs.
func (s *Service) AddGroupOwner(ctx context.Context, by audit.By, groupID, ownerID string) error {
	groupID, ownerID = asciiLower(groupID), asciiLower(ownerID)
	event := success("group.addOwner", groupID, map[string]string{"owner": ownerID})
	return s.change(ctx, by, event, s.mayNameOwners(by, groupID), func(tx Tx) error {
		if _, ok, err := tx.GroupByID(groupID); err != nil || !ok {
			return orNotFound(err, groupID)
		}
		there, err := tx.OwnersOfGroup(groupID)
		if err != nil {
			return err
		}
		if err := mayOwn(tx, there, ownerID); err != nil {
			return err
		}
		if _, err := tx.AddGroupOwner(groupID, ownerID); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// RemoveGroupOwner ends an ownership. The last person among the owners stays, as
// in Entra ("Remove group owner" of the Graph reference); who is deleted is none.
func (s *Service) RemoveGroupOwner(ctx context.Context, by audit.By, groupID, ownerID string) error {
	groupID, ownerID = asciiLower(groupID), asciiLower(ownerID)
	event := success("group.removeOwner", groupID, map[string]string{"owner": ownerID})
	return s.change(ctx, by, event, s.mayNameOwners(by, groupID), func(tx Tx) error {
		there, err := tx.OwnersOfGroup(groupID)
		if err != nil || !slices.Contains(there, ownerID) {
			return orNotFound(err, ownerID)
		}
		if err := personStays(tx, there, ownerID); err != nil {
			return err
		}
		if _, err := tx.RemoveGroupOwner(groupID, ownerID); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// personStays refuses to let the only person among the owners go.
func personStays(tx Tx, owners []string, leaving string) error {
	if _, person, err := tx.UserByID(leaving); err != nil || !person {
		return err
	}
	for _, o := range owners {
		if o == leaving {
			continue
		}
		if _, person, err := tx.UserByID(o); err != nil || person {
			return err
		}
	}
	return fault.New(fault.Invalid, "Request_BadRequest", "the group must have at least one owner, hence this owner cannot be removed.").WithRemedy("Add another person as an owner first.")
}

// owners is the index of who owns groups, both ways.
type owners struct {
	of map[string][]string // group -> owners
	by map[string][]string // owner -> groups
}

func newOwners() owners { return owners{map[string][]string{}, map[string][]string{}} }

func (o *owners) load(r OwnerReader) error {
	return r.EachGroupOwner(func(group, owner string) error {
		o.of[group] = append(o.of[group], owner)
		o.by[owner] = append(o.by[owner], group)
		return nil
	})
}

func (o *owners) put(group string, list []string) {
	for _, owner := range o.of[group] {
		forget(o.by, owner, group)
	}
	delete(o.of, group)
	if len(list) > 0 {
		o.of[group] = list
	}
	for _, owner := range list {
		o.by[owner] = append(o.by[owner], group)
	}
}

// OwnersOf returns the object ids of a group's owners, sorted. The caller owns
// the result.
func (x *Index) OwnersOf(groupID string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	list := slices.Clone(x.owners.of[asciiLower(groupID)])
	slices.Sort(list)
	return list
}

// OwnedBy returns the object ids of what a principal owns, sorted: groups,
// applications, and the service principals of those.
func (x *Index) OwnedBy(id string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	id = asciiLower(id)
	list := slices.Clone(x.owners.by[id])
	for appID, a := range x.apps.rows {
		if !slices.Contains(a.Owners, id) {
			continue
		}
		list = append(list, appID)
		if sp, ok := x.spApps[a.AppID]; ok {
			list = append(list, sp)
		}
	}
	slices.Sort(list)
	return list
}
