package resource

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// AssignIdentity is the right that it takes to assign a user-assigned identity to
// something, at the identity. It is not enough: whoever assigns one to a machine may
// become it, so he must hold all that it holds.
const AssignIdentity = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"

// maxAssigned is how many identities may be assigned to one resource. maxOfGroup is how
// many there may be in one resource group, as in Azure: each is an account that every
// machine holds, and takes nothing more to make.
const (
	maxAssigned = 20
	maxOfGroup  = 800
)

// Shown is the identity on the wire
// (https://learn.microsoft.com/azure/templates/microsoft.compute/virtualmachines#virtualmachineidentity).
func (i Identity) Shown() map[string]any {
	out := map[string]any{"type": i.Type}
	if i.PrincipalID != "" {
		out["principalId"], out["tenantId"] = i.PrincipalID, i.TenantID
	}
	if len(i.Assigned) > 0 {
		list := map[string]any{}
		for _, a := range i.Assigned {
			list[a.ID] = map[string]any{"principalId": a.PrincipalID, "clientId": a.ClientID}
		}
		out["userAssignedIdentities"] = list
	}
	return out
}

// wanted is the identity that a body asks for.
type wanted struct {
	own, user bool
	assigned  map[string]bool // by id: true for one that is to be there, false for one to take away
}

func (b *body) readIdentity(t *Type, value json.RawMessage) error {
	if !t.Identity {
		return fault.New(fault.Invalid, invalidContent, "a %s has no identity", t.Title).WithTarget("identity")
	}
	var in struct {
		Type        string                     `json:"type"`
		PrincipalID string                     `json:"principalId"` // read-only echoes
		TenantID    string                     `json:"tenantId"`
		Assigned    map[string]json.RawMessage `json:"userAssignedIdentities"`
	}
	if err := Strict(value, &in, "identity"); err != nil {
		return err
	}
	w := wanted{assigned: map[string]bool{}}
	switch kind := strings.ToLower(strings.ReplaceAll(in.Type, " ", "")); kind {
	case "systemassigned":
		w.own = true
	case "userassigned":
		w.user = true
	case "systemassigned,userassigned":
		w.own, w.user = true, true
	case "none":
	default:
		return fault.New(fault.Invalid, "InvalidIdentityType", "identity type %q does not exist", clip(in.Type)).WithRemedy("It is SystemAssigned, UserAssigned, both with a comma between them, or None.").WithTarget("identity.type")
	}
	for id, more := range in.Assigned {
		var echo struct {
			PrincipalID string `json:"principalId"`
			ClientID    string `json:"clientId"`
		}
		there := !bytes.Equal(more, []byte("null"))
		if err := Strict(more, &echo, "userAssignedIdentities"); err != nil {
			return err
		}
		w.assigned[id] = there
		if there && !w.user {
			return fault.New(fault.Invalid, "InvalidParameter", "identities are given in userAssignedIdentities, and the type is %q", clip(in.Type)).WithRemedy("Make it UserAssigned, or both with a comma between them.").WithTarget("identity.type")
		}
	}
	if w.user && !t.Assignable {
		return fault.New(fault.Invalid, "InvalidIdentityType", "a %s has the one identity of its own; user-assigned identities are for virtual machines here", t.Title).
			WithRemedy(`Ask for {"type":"SystemAssigned"}.`).WithTarget("identity")
	}
	b.identity = &w
	return nil
}

// identity gives and takes identities. A new one of its own is a new principal:
// grants of the one before do not come back.
func (w *writing) identity(now time.Time) error {
	want := w.in.identity
	if w.t.Principal && w.next.Identity == nil {
		want = &wanted{own: true} // it is nothing else
		if err := w.oneMore(); err != nil {
			return err
		}
	}
	if want == nil {
		return nil
	}
	next := Identity{TenantID: w.e.cfg.Tenant().ID}
	if have := w.next.Identity; have != nil {
		next = *have
	}
	var err error
	switch {
	case want.own && next.PrincipalID == "":
		err = w.newPrincipal(&next, now)
	case !want.own && next.PrincipalID != "":
		err = dropPrincipal(w.tx, next.PrincipalID)
		next.PrincipalID = ""
	}
	if err != nil {
		return err
	}
	if next.Assigned, err = w.assign(*want, next.Assigned); err != nil {
		return err
	}
	w.next.Identity = nil
	switch own, user := next.PrincipalID != "", len(next.Assigned) > 0; {
	case own && user:
		next.Type = bothAssigned
	case own:
		next.Type = SystemAssigned
	case user:
		next.Type = UserAssigned
	default:
		return nil
	}
	w.next.Identity = &next
	return nil
}

// oneMore refuses an identity that its resource group has no room for.
func (w *writing) oneMore() error {
	up, _ := w.next.ID.Parent()
	list, err := w.tx.ListResources(Range{Under: up, Type: w.t.Name, Limit: maxOfGroup})
	if err != nil || len(list) < maxOfGroup {
		return err
	}
	return fault.New(fault.Conflict, "ResourceQuotaExceeded", "Creating the resource of type '%s' would exceed the quota of %d resources of that type per resource group.", w.t.Name, maxOfGroup).
		WithRemedy("Delete some that nobody uses, or use another resource group.")
}

// newPrincipal makes the principal that a resource is.
func (w *writing) newPrincipal(i *Identity, now time.Time) error {
	id, err := w.e.guid()
	if err != nil {
		return err
	}
	app, err := w.e.guid()
	if err != nil {
		return err
	}
	uid, err := w.tx.NextPOSIXID()
	if err != nil {
		return err
	}
	if err := directory.CheckMachinePOSIXID(uid); err != nil {
		return err
	}
	i.PrincipalID = id
	if w.t.Principal {
		i.ClientID = app
	}
	return w.tx.PutServicePrincipal(directory.ServicePrincipal{ID: id, AppID: app, DisplayName: w.next.ID.Name(), Type: directory.TypeManagedIdentity,
		Names: []string{app, w.next.ID.String()}, ResourceID: w.next.ID.String(), Enabled: true, UID: uid, CreatedAt: now})
}

// assign makes the list of user-assigned identities. A PATCH changes those that it
// names; a PUT names all of them, or says nothing about which.
func (w *writing) assign(want wanted, have []Assigned) ([]Assigned, error) {
	if !want.user {
		return nil, nil
	}
	next := []Assigned{}
	if w.patch || len(want.assigned) == 0 {
		next = slices.Clone(have)
	}
	for text, there := range want.assigned {
		id, err := scope.Parse(text)
		if err != nil {
			return nil, err
		}
		if t, err := w.e.Type(id.Type()); err != nil || !t.Principal {
			return nil, fault.New(fault.Invalid, "InvalidParameter", "%q is no user-assigned identity", clip(text)).WithTarget("identity.userAssignedIdentities")
		}
		is := func(a Assigned) bool { return strings.EqualFold(a.ID, id.String()) }
		next = slices.DeleteFunc(next, is)
		if !there {
			continue
		}
		if at := slices.IndexFunc(have, is); at >= 0 {
			next = append(next, have[at])
			continue
		}
		a, err := w.assignNew(id)
		if err != nil {
			return nil, err
		}
		next = append(next, a)
	}
	switch {
	case len(next) == 0 && len(want.assigned) == 0:
		return nil, fault.New(fault.Invalid, "InvalidParameter", "the identity type UserAssigned needs identities in userAssignedIdentities").WithTarget("identity.userAssignedIdentities")
	case len(next) > maxAssigned:
		return nil, fault.New(fault.Invalid, "InvalidParameter", "at most %d identities can be assigned to one resource", maxAssigned).WithTarget("identity.userAssignedIdentities")
	}
	slices.SortFunc(next, func(a, b Assigned) int { return strings.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID)) })
	return next, nil
}

// assignNew asks whether the caller may assign an identity, and may be it.
func (w *writing) assignNew(id scope.ID) (Assigned, error) {
	link := Link{ID: id, Action: AssignIdentity}
	if !w.e.Allowed(w.by, link.Action, id) {
		return Assigned{}, &linkDenied{link: link}
	}
	if err := w.e.Standing(w.tx, w.by, link.Action, id); err != nil {
		return Assigned{}, err
	}
	r, ok, err := w.tx.ResourceByID(id.Key())
	if err != nil {
		return Assigned{}, err
	}
	if !ok || r.Identity == nil || r.State == Deleting {
		return Assigned{}, fault.New(fault.Invalid, "InvalidResourceReference", "Resource %s referenced by resource %s was not found.", id, w.req.ID).WithRemedy("Create it first.")
	}
	if w.e.cfg.Covers == nil || w.e.cfg.Covers(w.by, r.Identity.PrincipalID) != nil {
		return Assigned{}, &linkDenied{link: link, why: fault.New(fault.Forbidden, "AuthorizationFailed",
			"the identity '%s' holds roles that you do not hold, and whoever is root on a machine that it is assigned to may act as it", id.Name()).
			WithRemedy("Have somebody assign it who may assign roles at the scopes where it has them, or take those roles away first.")}
	}
	return Assigned{ID: r.ID.String(), PrincipalID: r.Identity.PrincipalID, ClientID: r.Identity.ClientID}, nil
}

// gone are the principals of identities that go, which others may have assigned.
type gone []string

// dropIdentities takes all identities from a resource that goes. What it is itself
// is noted, and taken from others by unassign when all that goes is known: each time
// looks at every machine, and nobody else writes meanwhile.
func (e *Engine) dropIdentities(tx Tx, r *Resource, out *gone) error {
	i := r.Identity
	if i == nil {
		return nil
	}
	r.Identity = nil
	if i.PrincipalID == "" {
		return nil
	}
	if t, err := e.Type(r.ID.Type()); err == nil && t.Principal {
		*out = append(*out, i.PrincipalID)
	}
	return dropPrincipal(tx, i.PrincipalID)
}

func dropPrincipal(tx Tx, id string) error {
	if err := tx.DeleteRoleAssignmentsOf(id); err != nil {
		return err
	}
	return tx.DeleteServicePrincipal(id)
}

// unassign takes identities that go from everything that they are assigned to. The
// machines learn of it as of any other change.
func (e *Engine) unassign(tx Tx, out gone) error {
	if len(out) == 0 {
		return nil
	}
	goes := func(a Assigned) bool { return slices.Contains(out, a.PrincipalID) }
	for _, t := range e.types {
		if !t.Assignable {
			continue
		}
		list, err := tx.ListResources(Range{Type: t.Name})
		if err != nil {
			return err
		}
		for i := range list {
			r := &list[i]
			if r.Identity == nil || !slices.ContainsFunc(r.Identity.Assigned, goes) {
				continue
			}
			next := *r.Identity
			next.Assigned = slices.DeleteFunc(slices.Clone(next.Assigned), goes)
			switch {
			case len(next.Assigned) > 0:
				r.Identity = &next
			case next.PrincipalID != "":
				next.Type, r.Identity = SystemAssigned, &next
			default:
				r.Identity = nil
			}
			r.Want(tx.Now())
			if err := tx.PutResource(*r); err != nil {
				return err
			}
		}
	}
	return nil
}
