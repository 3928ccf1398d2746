package types

import (
	"encoding/json"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// ActionRejoin is the right to let somebody become a machine that exists: more
// than to write it, because its identity goes with it.
const ActionRejoin = HybridMachine + "/rejoin/action"

// Enrolment is a join: of a machine that exists, or of a new one in a group. by is
// whoever made the token, whose rights are asked for again.
type Enrolment struct {
	At          scope.ID // the machine, or the resource group of a new one
	Name        string   // of a new one
	Tags        map[string]string
	EnableLogin bool // set the login extension too
}

// MayMint says whether somebody may make a token: at a group who may write
// machines there, at a machine who may let another host become it. It returns
// the machine's id, "" for a group.
func MayMint(e *resource.Engine, tx resource.Tx, by audit.By, at scope.ID) (machineID string, err error) {
	r, ok, err := tx.ResourceByID(at.Key())
	if err != nil {
		return "", err
	}
	action := HybridMachine + "/write"
	if isHybrid(at) {
		action = ActionRejoin
	}
	if !e.Allowed(by, action, at) {
		return "", resource.Denied(by, action, at)
	}
	if err := e.Standing(tx, by, action, at); err != nil {
		return "", err
	}
	switch {
	case !ok || r.State == resource.Deleting:
		return "", fault.New(fault.NotFound, "ResourceNotFound", "The Resource '%s' was not found.", at)
	case isHybrid(at):
		var p hybridPrivate
		err := r.ReadPrivate(&p)
		return p.MachineID, err
	case at.Type() == resource.TypeGroup:
		return "", nil
	}
	return "", fault.New(fault.Invalid, "InvalidScope", "a join token is for a resource group, or for a machine of type %s", HybridMachine)
}

// Enroll says which machine a host becomes, and makes its resource where it is
// new. It runs inside the transaction that uses the token up.
func Enroll(e *resource.Engine, tx resource.Tx, by audit.By, r Enrolment) (machineID string, at scope.ID, err error) {
	if _, err := MayMint(e, tx, by, r.At); err != nil {
		return "", at, err
	}
	at = r.At
	if !isHybrid(at) {
		if at, err = enrollNew(e, tx, by, r); err != nil {
			return "", at, err
		}
	}
	machine, ok, err := tx.ResourceByID(at.Key())
	if err != nil || !ok {
		return "", at, err
	}
	var p hybridPrivate
	if err := machine.ReadPrivate(&p); err != nil {
		return "", at, err
	}
	if p.Expired != nil {
		if err := resource.Modify(tx, at, func(r *resource.Resource) error {
			return editHybrid(r, func(p *hybridPrivate) { p.Expired = nil })
		}); err != nil {
			return "", at, err
		}
	}
	if r.EnableLogin {
		err = enableLogin(e, tx, by, machine)
	}
	return p.MachineID, at, err
}

func enrollNew(e *resource.Engine, tx resource.Tx, by audit.By, r Enrolment) (scope.ID, error) {
	at, err := scope.Parse(r.At.String() + "/providers/" + HybridMachine + "/" + r.Name)
	if err != nil {
		return at, err
	}
	if !isHybrid(at) || at.Name() != r.Name {
		// A name with slashes in it would lead to something inside a machine, or of
		// another type, with the rights of whoever made the token.
		return at, badMachineName(r.Name)
	}
	group, _, err := tx.ResourceByID(r.At.Key())
	if err != nil {
		return at, err
	}
	_, exists, err := tx.ResourceByID(at.Key())
	if err != nil {
		return at, err
	}
	if exists {
		return at, fault.New(fault.Conflict, "MachineExists", "'%s' exists in '%s' already, and the token is for new machines alone", r.Name, r.At.Name()).
			WithRemedy("Give another --name. To join again as that machine, which ends the key that it has: sally machine token create --resource-group %s --name %s", r.At.Name(), r.Name)
	}
	body, err := json.Marshal(map[string]any{"location": group.Location, "tags": r.Tags, "identity": map[string]any{"type": resource.SystemAssigned}, "properties": map[string]any{}})
	if err != nil {
		return at, err
	}
	made, err := e.PutIn(tx, by, resource.Request{ID: at, Body: body, IfNoneMatch: "*"})
	return made.ID, err
}

// enableLogin sets the extension, unless it is there.
func enableLogin(e *resource.Engine, tx resource.Tx, by audit.By, machine resource.Resource) error {
	inside, err := tx.ListResources(resource.Range{Under: machine.ID, Type: HybridExtension})
	if err != nil || len(inside) > 0 {
		return err
	}
	at, err := scope.Parse(machine.ID.String() + "/extensions/" + LoginExtension)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"location": machine.Location, "properties": map[string]any{"publisher": LoginPublisher, "type": LoginExtension}})
	if err != nil {
		return err
	}
	_, err = e.PutIn(tx, by, resource.Request{ID: at, Body: body})
	return err
}

// Left notes that a machine gave up its own key.
func Left(tx resource.Tx, at scope.ID, now time.Time) error {
	return resource.Modify(tx, at, func(r *resource.Resource) error {
		if !isHybrid(r.ID) {
			return nil
		}
		return editHybrid(r, func(p *hybridPrivate) { p.Expired = &expired{At: now, Why: WhyLeft} })
	})
}
