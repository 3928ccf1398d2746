package directory

import (
	"context"
	"slices"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// maxOwners bounds the owners of one application or group, as Entra does.
const maxOwners = 100

// mayOwn returns nil when somebody can become one more owner of something.
func mayOwn(tx Tx, owners []string, ownerID string) error {
	kind, err := kindOf(tx, ownerID)
	switch {
	case err != nil:
		return err
	case kind == MemberGroup:
		return fault.New(fault.Invalid, "Request_BadRequest", "a group cannot be an owner.").WithRemedy("Name a user or a service principal.")
	case slices.Contains(owners, ownerID):
		return fault.New(fault.Invalid, "Request_BadRequest", "one or more added object references already exist for the following modified properties: 'owners'.").WithRemedy("Nothing needs to be done: the object is an owner already.")
	case len(owners) >= maxOwners:
		return fault.New(fault.Invalid, "Request_BadRequest", "there are at most %d owners.", maxOwners).WithRemedy("Remove one first.")
	}
	return nil
}

// mayChangeOwners is what it takes to say who may add credentials: the action,
// no matter whether by is an owner himself, and every right that the application
// holds. An owner's right to add a credential is judged anew each time, so that
// owning an application never brings more than one holds.
func (s *Service) mayChangeOwners(by audit.By, appID string) error {
	return s.mayChangeApplication(by, "microsoft.directory/applications/owners/update", appID)
}

// AddOwner makes a person or a service principal an owner of an application.
func (s *Service) AddOwner(ctx context.Context, by audit.By, appID, ownerID string) error {
	appID, ownerID = asciiLower(appID), asciiLower(ownerID)
	event := success("application.addOwner", appID, map[string]string{"owner": ownerID})
	return s.change(ctx, by, event, s.mayChangeOwners(by, appID), func(tx Tx) error {
		a, ok, err := tx.ApplicationByID(appID)
		if err != nil || !ok {
			return orNotFound(err, appID)
		}
		if err := mayOwn(tx, a.Owners, ownerID); err != nil {
			return err
		}
		a.Owners = append(slices.Clone(a.Owners), ownerID)
		if err := tx.PutApplication(a); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// RemoveOwner ends an ownership. The last owner can go: administrators remain.
func (s *Service) RemoveOwner(ctx context.Context, by audit.By, appID, ownerID string) error {
	appID, ownerID = asciiLower(appID), asciiLower(ownerID)
	event := success("application.removeOwner", appID, map[string]string{"owner": ownerID})
	return s.change(ctx, by, event, s.mayChangeOwners(by, appID), func(tx Tx) error {
		a, ok, err := tx.ApplicationByID(appID)
		if err != nil || !ok {
			return orNotFound(err, appID)
		}
		if !slices.Contains(a.Owners, ownerID) {
			return NotFound(ownerID)
		}
		a.Owners = slices.DeleteFunc(slices.Clone(a.Owners), func(o string) bool { return o == ownerID })
		if err := tx.PutApplication(a); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}
