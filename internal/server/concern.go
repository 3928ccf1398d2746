package server

import (
	"slices"

	"sallyport/internal/conditional"
	"sallyport/internal/machine"
	"sallyport/internal/rbac"
	"sallyport/internal/rollout"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// concern collects whom a change may concern: what it was, and what it is now.
// A kind that is not named here concerns every machine.
func (d *deployment) concern(c store.Change, t *machine.Touch) {
	switch c.Kind {
	case "application", "groupOwner", conditional.Change, rollout.ChangeKind: // owners open no login; refresh sees what machines are told of an upgrade
	case "user", "servicePrincipal":
		t.Account = true
	case "group", "member":
		t.Groups = append(append(t.Groups, c.Key), d.directory.GroupsOf(c.Key)...)
	case "roleAssignment":
		if a, ok := d.roles.Assignment(c.Key); ok && a.Scope != scope.Directory() {
			t.Scopes = append(t.Scopes, a.Scope)
		}
	case "machine", "machineSession":
		t.Machines = append(t.Machines, c.Key)
	case "resource":
		if id, ok := d.wanted.Machine(c.Key); ok {
			t.Machines = append(t.Machines, id)
		}
	default:
		t.All = true
	}
	slices.Sort(t.Groups)
	t.Groups = slices.Compact(t.Groups)
}

var _ machine.Roles = (*rbac.Index)(nil)
