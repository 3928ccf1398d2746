package types

import (
	"fmt"
	"slices"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// storeInstance counts an instance out of its set when it is deleted by itself.
func (m machines) storeInstance(tx resource.Tx, by audit.By, c *resource.Change) error {
	if c.New != nil {
		return madeBySet()
	}
	if err := anonymous(c.Old); err != nil {
		return err
	}
	up, _ := c.Old.ID.Parent()
	row, ok, err := tx.ResourceByID(up.Key())
	if err != nil || !ok {
		return err
	}
	s, err := m.openSet(tx, by, &row, nil)
	if err != nil {
		return err
	}
	if err := s.fewer(1); err != nil {
		return err
	}
	row.Touch(tx.Now())
	return tx.PutResource(row)
}

func (s *set) fewer(n int) error {
	left := max(0, *s.sku.Capacity-n)
	s.sku.Capacity = &left
	return s.close()
}

// selected are the instances that a body names; all of them for "*", and for a
// body without any where that is allowed.
func (s *set) selected(body []byte, all bool) (list []*resource.Resource, named bool, err error) {
	var in struct {
		IDs []string `json:"instanceIds"`
	}
	if len(body) > 0 {
		if err := resource.Strict(body, &in, "request for instances"); err != nil {
			return nil, false, err
		}
	}
	switch {
	case len(in.IDs) == 0 && !all:
		return nil, false, fault.New(fault.Invalid, "InvalidParameter", "the request names no instances").WithRemedy(`Name them in instanceIds, or "*" for all.`).WithTarget("instanceIds")
	case len(in.IDs) > MaxCapacity:
		return nil, false, fault.New(fault.Invalid, "InvalidParameter", "more than %d instances are named", MaxCapacity).WithTarget("instanceIds")
	case len(in.IDs) == 0 || slices.Contains(in.IDs, "*"):
		for i := range s.instances {
			list = append(list, &s.instances[i])
		}
		return list, false, nil
	}
	slices.Sort(in.IDs)
	for _, id := range slices.Compact(in.IDs) {
		i := slices.IndexFunc(s.instances, func(r resource.Resource) bool { return r.ID.Name() == id })
		if i < 0 {
			return nil, false, fault.New(fault.Invalid, "InvalidParameter", "The provided instanceId %s is not an active Virtual Machine Scale Set VM instanceId.", clip(id)).
				WithRemedy("See: sally vmss list-instances --resource-group %s --name %s", s.row.ID.ResourceGroupName(), s.row.ID.Name()).WithTarget("instanceIds")
		}
		list = append(list, &s.instances[i])
	}
	return list, true, nil
}

// upgradeInstances gives the set's model to instances. One that is switched off
// could not show that it took it: named, it is refused; with all, it is left.
func (m machines) upgradeInstances(tx resource.Tx, by audit.By, row *resource.Resource, body []byte) error {
	s, err := m.openSet(tx, by, row, nil)
	if err != nil {
		return err
	}
	if err := s.allowed(); err != nil {
		return err
	}
	list, named, err := s.selected(body, false)
	if err != nil {
		return err
	}
	for _, r := range list {
		var p vmPrivate
		if err := r.ReadPrivate(&p); err != nil {
			return err
		}
		switch {
		case p.Power == Running:
			if err := s.apply(r, false); err != nil {
				return err
			}
		case named:
			return fault.New(fault.Conflict, "OperationNotAllowed", "'%s' is not running, so it cannot take the model.", calledInstance(r.ID)).WithRemedy("Start it: sally vmss start %s", arguments(r.ID))
		}
	}
	return s.close()
}

// arguments are the words of sally that name an instance.
func arguments(id scope.ID) string {
	up, _ := id.Parent()
	return fmt.Sprintf("--resource-group %s --name %s --instance-ids %s", up.ResourceGroupName(), up.Name(), id.Name())
}

// deleteInstances removes instances for good: the set has fewer then.
func (m machines) deleteInstances(tx resource.Tx, by audit.By, row *resource.Resource, body []byte) error {
	s, err := m.openSet(tx, by, row, nil)
	if err != nil {
		return err
	}
	list, _, err := s.selected(body, false)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := removeInstance(tx, by, r); err != nil {
			return err
		}
	}
	return s.fewer(len(list))
}

// powerInstances does a power operation to instances, to all where none is named.
func (m machines) powerInstances(verb string) resource.Action {
	return func(tx resource.Tx, by audit.By, row *resource.Resource, body []byte) error {
		s, err := m.openSet(tx, by, row, nil)
		if err != nil {
			return err
		}
		list, named, err := s.selected(body, true)
		if err != nil {
			return err
		}
		for _, r := range list {
			var p vmPrivate
			if err := r.ReadPrivate(&p); err != nil {
				return err
			}
			if verb == "restart" && p.Power != Running && !named {
				continue
			}
			r.Want(tx.Now())
			if err := s.power(r, verb); err != nil {
				return err
			}
			if err := tx.PutResource(*r); err != nil {
				return err
			}
		}
		return s.close()
	}
}

// powerInstance does it to one, at its own address.
func (m machines) powerInstance(verb string) resource.Action {
	return func(tx resource.Tx, by audit.By, r *resource.Resource, _ []byte) error {
		up, _ := r.ID.Parent()
		row, ok, err := tx.ResourceByID(up.Key())
		if err != nil || !ok {
			return err
		}
		s, err := m.openSet(tx, by, &row, nil)
		if err != nil {
			return err
		}
		return s.power(r, verb)
	}
}

// power changes what an instance is wanted to be. With the policy Automatic one
// that starts takes the model that it has missed.
func (s *set) power(r *resource.Resource, verb string) error {
	if err := s.m.virtualMachine().Actions[verb](s.tx, s.by, r, nil); err != nil {
		return err
	}
	if verb == "start" && s.shape.UpgradePolicy.Mode == automaticUpgrade {
		return s.automatic(r)
	}
	return nil
}
