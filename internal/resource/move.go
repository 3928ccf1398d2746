package resource

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// The actions that a move needs on its group. Source: Azure's "Move resources to
// a new resource group or subscription".
const (
	actionMove         = "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action"
	actionValidateMove = "Microsoft.Resources/subscriptions/resourceGroups/validateMoveResources/action"
	actionAssign       = "Microsoft.Authorization/roleAssignments/write"
)

// maxMoved is how many resources one request moves, as in Azure.
const maxMoved = 800

// errDry ends a validation: what it did is rolled back.
var errDry = errors.New("the move is possible")

// MoveRequest is a body of moveResources.
type MoveRequest struct {
	Group    scope.ID // that the resources are in
	Body     []byte
	Validate bool // only say whether it is possible
}

// moving is a move: what goes from where to where.
type moving struct {
	e        *Engine
	by       audit.By
	from, to scope.ID
	ids      []scope.ID
	renamed  renames
}

// Move moves resources with what is inside them to another resource group. It is
// over when it returns. Their identities, machines and addresses stay; role
// assignments made at them do not go along, as in Azure, and are deleted.
//
// It needs the move on the group, the write on what moves at both ends, and the
// write on the target group. Where it would let people log in, or give out that
// right, who may not now, it is an assignment of roles and needs that right.
func (e *Engine) Move(ctx context.Context, by audit.By, req MoveRequest) error {
	m := &moving{e: e, by: by, from: req.Group}
	action := actionMove
	if req.Validate {
		action = actionValidateMove
	}
	if err := e.Authorize(ctx, by, action, m.from); err != nil {
		return err
	}
	if err := m.read(req.Body); err != nil {
		return err
	}
	needs, err := m.needs(action)
	if err != nil {
		return err
	}
	for _, n := range needs[1:] {
		if err := e.Authorize(ctx, by, n.Action, n.ID); err != nil {
			return err
		}
	}
	for _, id := range m.ids {
		if err := m.mayLetIn(ctx, id); err != nil {
			return err
		}
	}
	err = e.cfg.Write(ctx, func(tx Tx) error {
		if err := m.standing(tx, needs); err != nil {
			return err
		}
		if err := m.run(tx); err != nil {
			return err
		}
		if req.Validate {
			return errDry
		}
		return nil
	})
	if req.Validate && errors.Is(err, errDry) {
		return nil
	}
	return e.deniedInside(ctx, by, err)
}

// read takes a body apart: distinct resources of the group, and another group.
func (m *moving) read(raw []byte) error {
	var in struct {
		Resources []string `json:"resources"`
		Target    string   `json:"targetResourceGroup"`
	}
	if err := Strict(raw, &in, "move request"); err != nil {
		return err
	}
	to, err := scope.Parse(in.Target)
	if err != nil || !strings.EqualFold(to.Type(), TypeGroup) {
		return fault.New(fault.Invalid, "InvalidRequestContent", "targetResourceGroup must be the id of a resource group").
			WithRemedy("Its form is /subscriptions/{subscription}/resourceGroups/{name}.").WithTarget("targetResourceGroup")
	}
	if to.Key() == m.from.Key() {
		return fault.New(fault.Invalid, "InvalidRequestContent", "the resources are in '%s' already", to.Name()).WithRemedy("Name another resource group.").WithTarget("targetResourceGroup")
	}
	if n := len(in.Resources); n < 1 || n > maxMoved {
		return fault.New(fault.Invalid, "InvalidRequestContent", "a move takes 1 to %d resources, and these are %d", maxMoved, n).WithTarget("resources")
	}
	m.to, m.renamed = to, renames{}
	for _, text := range in.Resources {
		id, err := scope.Parse(text)
		if err != nil {
			return err
		}
		up, _ := id.Parent()
		if up.Key() != m.from.Key() {
			return fault.New(fault.Invalid, "ResourceNotTopLevel", "'%s' is no resource directly in resource group '%s'.", id, m.from.Name()).
				WithRemedy("Name resources of that one group; what is inside them goes along.").WithTarget("resources")
		}
		if !slices.ContainsFunc(m.ids, func(x scope.ID) bool { return x.Key() == id.Key() }) {
			m.ids = append(m.ids, id)
		}
	}
	return nil
}

// after is the id that a resource of the old group has in the new one.
func (m *moving) after(id scope.ID) (scope.ID, error) {
	return scope.Parse(m.to.String() + id.String()[len(m.from.String()):])
}

// needs lists the rights: first those on the two groups.
func (m *moving) needs(action string) ([]Link, error) {
	list := []Link{{m.from, action}, {m.to, TypeGroup + "/write"}}
	for _, id := range m.ids {
		t, err := m.e.Type(id.Type())
		if err != nil {
			return nil, err
		}
		if t.ReadOnly {
			return nil, fault.New(fault.Invalid, "ResourceMoveNotSupported", "a %s does not move", t.Title)
		}
		to, err := m.after(id)
		if err != nil {
			return nil, err
		}
		list = append(list, Link{id, t.Name + "/write"}, Link{to, t.Name + "/write"})
	}
	return list, nil
}

// standing confirms inside the write every right that the move was allowed by,
// that to let people in among them.
func (m *moving) standing(tx Tx, needs []Link) error {
	for _, id := range m.ids {
		t, err := m.e.Type(id.Type())
		if err != nil {
			return err
		}
		if t.Entered && m.gains(id) {
			needs = append(needs[:len(needs):len(needs)], Link{id, actionAssign})
		}
	}
	for _, n := range needs {
		if err := m.e.Standing(tx, m.by, n.Action, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// lettingIn are the rights that nobody may gain by somebody else's move: they are
// more than the right to write a resource.
func lettingIn() []rbac.Query {
	return []rbac.Query{{Action: rbac.ActionLogin, Data: true}, {Action: rbac.ActionLoginAsAdmin, Data: true},
		{Action: rbac.ActionHybridLogin, Data: true}, {Action: rbac.ActionHybridLoginAsAdmin, Data: true}, {Action: actionAssign}}
}

// mayLetIn asks for the right to assign roles on a resource that people log in
// on, when a principal would get in, or decide who does, that does not now.
func (m *moving) mayLetIn(ctx context.Context, id scope.ID) error {
	t, err := m.e.Type(id.Type())
	if err != nil || !t.Entered || !m.gains(id) {
		return err
	}
	err = m.e.Authorize(ctx, m.by, actionAssign, id)
	if fault.Is(err, fault.Forbidden) {
		refusal := fault.As(err)
		return fault.Wrap(err, fault.Forbidden, refusal.Code, "%s It is asked for because people would get in, or decide who does, in '%s' who may not do that on '%s' now.", refusal.Text, m.to.Name(), id.Name()).
			WithRemedy("%s", refusal.Remedy)
	}
	return err
}

func (m *moving) gains(id scope.ID) bool {
	for _, q := range lettingIn() {
		before := map[string]bool{}
		for _, h := range m.e.cfg.Rights.WhoCan(id, q.Action, q.Data) {
			before[strings.ToLower(h.PrincipalID)] = true
		}
		for _, h := range m.e.cfg.Rights.WhoCan(m.to, q.Action, q.Data) {
			if !before[strings.ToLower(h.PrincipalID)] {
				return true
			}
		}
	}
	return false
}

// run moves everything inside a transaction: first it says what goes where, then
// it moves that, then it mends what refers to it.
func (m *moving) run(tx Tx) error {
	clear(m.renamed) // a transaction may run twice
	to, err := m.groups(tx)
	if err != nil {
		return err
	}
	m.to = to
	var list []Resource
	for _, id := range m.ids {
		r, ok, err := tx.ResourceByID(id.Key())
		if err != nil || !ok {
			return absent(err, id)
		}
		inside, err := tx.ListResources(Range{Under: r.ID})
		if err != nil {
			return err
		}
		for _, x := range append([]Resource{r}, inside...) {
			if err := m.plan(tx, x); err != nil {
				return err
			}
			list = append(list, x)
		}
	}
	for i := range list {
		if err := m.one(tx, &list[i]); err != nil {
			return err
		}
	}
	return m.mend(tx)
}

// groups finds both, and refuses one that is going away.
func (m *moving) groups(tx Tx) (to scope.ID, err error) {
	for _, id := range []scope.ID{m.from, m.to} {
		g, ok, err := tx.ResourceByID(id.Key())
		if err != nil || !ok {
			return to, absent(err, id)
		}
		if g.State == Deleting {
			return to, fault.New(fault.Conflict, "ResourceGroupBeingDeleted", "'%s' is being deleted; nothing moves out of it or into it.", id.Name())
		}
		to = g.ID
	}
	return to, nil
}

// plan checks one resource that is to move, and gives it its id.
func (m *moving) plan(tx Tx, r Resource) error {
	t, err := m.e.Type(r.ID.Type())
	if err != nil {
		return err
	}
	if err := idle(r); err != nil {
		return err
	}
	to, err := m.after(r.ID)
	if err != nil {
		return err
	}
	if need := (Link{to, t.Name + "/write"}); !m.e.Allowed(m.by, need.Action, need.ID) {
		return &linkDenied{link: need}
	}
	if _, taken, err := tx.ResourceByID(to.Key()); err != nil {
		return err
	} else if taken {
		return fault.New(fault.Conflict, "ResourceAlreadyExists", "resource group '%s' has a %s '%s' already; nothing was moved.", m.to.Name(), t.Title, to.Name()).WithRemedy("Delete one of the two, or choose another group.")
	}
	m.renamed[r.ID.Key()] = to
	return nil
}

// idle refuses what has an operation under way: its worker knows the old id.
func idle(r Resource) error {
	if !r.Behind() && r.State == Succeeded {
		return nil
	}
	return fault.New(fault.Conflict, "MoveCannotProceedWithResourcesNotInSucceededState", "'%s' is in provisioning state '%s', and a move needs it, and what uses it, in state 'Succeeded'; nothing was moved.", r.ID, r.State).
		WithRemedy("Wait until its operation is over, or repeat the one that failed, and try again.")
}

// one moves a resource with its identity. Who holds a role at it holds it no more.
func (m *moving) one(tx Tx, r *Resource) error {
	from := r.ID
	if _, err := m.renamed.resource(r); err != nil {
		return err
	}
	r.ID = m.renamed[from.Key()]
	r.Touch(tx.Now())
	if err := tx.DeleteRoleAssignmentsUnder(from); err != nil {
		return err
	}
	if err := tx.MoveResource(from, *r); err != nil {
		return err
	}
	if r.Identity != nil && r.Identity.PrincipalID != "" {
		p, ok, err := tx.ServicePrincipalByID(r.Identity.PrincipalID)
		if err != nil {
			return err
		}
		if ok {
			p.ResourceID, p.Names = r.ID.String(), []string{p.AppID, r.ID.String()}
			if err := tx.PutServicePrincipal(p); err != nil {
				return err
			}
		}
	}
	return tx.Audit(m.by, audit.Event{Type: "resource.move", Outcome: audit.Success, Target: r.ID.String(), Detail: map[string]string{"type": r.ID.Type(), "from": from.String()}})
}

// mend changes the ids in everything else that refers to what moved.
func (m *moving) mend(tx Tx) error {
	all, err := tx.ListResources(Range{})
	if err != nil {
		return err
	}
	for i := range all {
		r := &all[i]
		changed, err := m.renamed.resource(r)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := idle(*r); err != nil {
			return err
		}
		r.Touch(tx.Now())
		if err := tx.PutResource(*r); err != nil {
			return err
		}
	}
	return nil
}
