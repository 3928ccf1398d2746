package resource

import (
	"context"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// Delete removes a resource and everything inside it, with the role assignments
// that were made there.
func (e *Engine) Delete(ctx context.Context, by audit.By, req Request) (Result, error) {
	t, err := e.Type(req.ID.Type())
	if err != nil {
		return Result{}, err
	}
	if err := e.Authorize(ctx, by, t.Name+"/delete", req.ID); err != nil {
		return Result{}, err
	}
	if t.ReadOnly {
		return Result{}, fault.New(fault.Invalid, "OperationNotAllowed", "a %s is not deleted this way", t.Title)
	}
	var out Result
	err = e.cfg.Write(ctx, func(tx Tx) error {
		out = Result{}
		r, ok, err := tx.ResourceByID(req.ID.Key())
		if err != nil {
			return err
		}
		if !ok {
			out.Gone = true
			if t.Name == TypeGroup {
				return missing(req.ID)
			}
			return nil
		}
		if err := conditions(req, &r); err != nil {
			return err
		}
		if r.State != Deleting {
			if err := e.remove(tx, by, t, &r); err != nil {
				return err
			}
			if err := tx.Audit(by, audit.Event{Type: "resource.delete", Outcome: audit.Success, Target: r.ID.String(), Detail: map[string]string{"type": t.Name}}); err != nil {
				return err
			}
		}
		if t.Reconcile == nil {
			return nil
		}
		out.Operation, err = e.operation(tx, by, "delete", r)
		return err
	})
	e.Wake()
	return out, err
}

// remove deletes at once what needs no reconciling, and marks the rest. The
// identity dies now: nobody acts as a machine that is on its way out.
func (e *Engine) remove(tx Tx, by audit.By, t *Type, r *Resource) error {
	var out gone
	if err := e.dropIdentities(tx, r, &out); err != nil {
		return err
	}
	if err := e.unassign(tx, out); err != nil {
		return err
	}
	if t.Store != nil {
		if err := t.Store(tx, by, &Change{Old: r, Now: tx.Now()}); err != nil {
			return err
		}
	}
	if t.Reconcile == nil {
		return e.erase(tx, r.ID)
	}
	r.want(Deleting, tx.Now())
	r.Touch(tx.Now())
	if err := tx.PutResource(*r); err != nil {
		return err
	}
	if t.Name != TypeGroup {
		return nil
	}
	return e.removeInside(tx, by, r.ID)
}

// removeInside begins the removal of everything in a group: first what needs
// reconciling, because other things refuse to go while it stands.
func (e *Engine) removeInside(tx Tx, by audit.By, group scope.ID) error {
	list, err := tx.ListResources(Range{Under: group})
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b Resource) int { return e.rank(a) - e.rank(b) })
	var out gone
	for i := range list {
		x := &list[i]
		t, err := e.Type(x.ID.Type())
		if err != nil {
			return err
		}
		if up, _ := x.ID.Parent(); up.Key() != group.Key() || x.State == Deleting {
			continue // goes with its parent, or is going
		}
		if t.Reconcile == nil {
			if err := e.dropIdentities(tx, x, &out); err != nil {
				return err
			}
			if err := e.erase(tx, x.ID); err != nil {
				return err
			}
			continue
		}
		if err := e.remove(tx, by, t, x); err != nil {
			return err
		}
	}
	return e.unassign(tx, out)
}

func (e *Engine) rank(r Resource) int {
	if t := e.types[strings.ToLower(r.ID.Type())]; t != nil && t.Reconcile != nil {
		return 0
	}
	return 1
}

// erase deletes a resource, what is inside it, their identities and the role
// assignments made at any of them.
func (e *Engine) erase(tx Tx, id scope.ID) error {
	inside, err := tx.ListResources(Range{Under: id})
	if err != nil {
		return err
	}
	var out gone
	for i := range inside {
		if err := e.dropIdentities(tx, &inside[i], &out); err != nil {
			return err
		}
		if err := tx.DeleteResource(inside[i].ID); err != nil {
			return err
		}
	}
	if err := tx.DeleteRoleAssignmentsUnder(id); err != nil {
		return err
	}
	if err := e.unassign(tx, out); err != nil {
		return err
	}
	return tx.DeleteResource(id)
}
