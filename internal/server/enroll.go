package server

import (
	"context"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// enroller is the resource model as joining needs it, in the transaction that
// joining has: the store's satisfies both domains.
type enroller struct{ *deployment }

// MayMint refuses who may not make a join token.
func (d enroller) MayMint(t machine.Tx, by audit.By, at scope.ID) (string, error) {
	return types.MayMint(d.engine, any(t).(resource.Tx), by, at)
}

// Enroll says which machine a host becomes.
func (d enroller) Enroll(t machine.Tx, r machine.Enrolment) (string, scope.ID, error) {
	id, at, err := types.Enroll(d.engine, any(t).(resource.Tx), r.By, types.Enrolment{At: r.At, Name: r.Name, Tags: r.Tags, EnableLogin: r.EnableLogin})
	d.engine.Wake() // should the transaction fail, a worker looks in vain
	return id, at, err
}

// Left notes that a machine gave up its key.
func (d enroller) Left(t machine.Tx, at scope.ID) error {
	return types.Left(any(t).(resource.Tx), at, t.Now())
}

// Minter is who made a token, with the groups of now.
func (d enroller) Minter(id string, at time.Time, by audit.By) (audit.By, error) {
	gone := fault.New(fault.Unauthenticated, "JoinTokenRefused", "whoever made the join token may not act any more: the account is disabled or gone, or its sessions were revoked since").
		WithRemedy("Ask whoever manages the machine for a new token.")
	out := audit.By{Principal: id, Groups: d.directory.GroupsOf(id), Address: by.Address, CorrelationID: by.CorrelationID, At: by.At}
	if u, ok := d.directory.User(id); ok && u.Enabled && !at.Before(u.NotBefore) {
		out.Type, out.Name = audit.User, u.UPN
		return out, d.principalGate(id, false)
	}
	if p, ok := d.directory.ServicePrincipal(id); ok && p.Enabled && !at.Before(p.NotBefore) {
		out.Type, out.Name = audit.ServicePrincipal, p.AppID
		return out, d.principalGate(id, false)
	}
	return out, gone
}

// retire makes the keys of a machine worth nothing.
//
// Without who asks for it, it is the worker's: that of a deleted machine.
func (d *deployment) retire(t resource.Tx, by audit.By, machineID string) error {
	if by.Type == "" {
		by = audit.By{Type: audit.Task, Name: "resource worker", CorrelationID: zeroID, At: t.Now()}
	}
	return machine.Drop(any(t).(machine.Tx), by, machineID)
}

// stored reads a resource as it is stored.
func (d *deployment) stored(ctx context.Context, id scope.ID) (r resource.Resource, ok bool, err error) {
	err = d.store.Read(ctx, func(t *store.Tx) error {
		r, ok, err = t.ResourceByID(id.Key())
		return err
	})
	return r, ok, err
}
